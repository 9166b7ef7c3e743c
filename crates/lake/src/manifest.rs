//! Manifests: the small JSON file that makes an object count. It is written last, so an object without
//! one is what a crash left behind.

use crate::{Dataset, LakeError, LakeErrorKind};
use aws_lc_rs::digest;
use kilter_core::{Offset, ShardId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Of the manifest's own form. A reader refuses what it does not know.
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub version: u32,
    /// Key of the object in the same bucket.
    pub object: String,
    pub dataset: Dataset,
    pub shard: ShardId,
    pub rows: u64,
    /// Of the object.
    pub bytes: u64,
    /// The object holds every row of the dataset with an offset from `first_offset` to `last_offset`.
    pub first_offset: Offset,
    pub last_offset: Offset,
    pub arrival_min: Timestamp,
    pub arrival_max: Timestamp,
    /// Only where payloads were decoded: `scored`.
    pub event_time_min: Option<Timestamp>,
    pub event_time_max: Option<Timestamp>,
    /// Of the object, lower-case hexadecimal.
    pub sha256: String,
}

impl Manifest {
    pub const VERSION: u32 = VERSION;

    pub fn to_json(&self) -> Result<Vec<u8>, LakeError> {
        let invalid = |source| LakeError::new(LakeErrorKind::Invalid, "manifest", "not writable").with_source(source);
        serde_json::to_vec_pretty(self).map_err(invalid)
    }

    pub fn from_json(key: &str, json: &[u8]) -> Result<Self, LakeError> {
        let damaged = |message: String| LakeError::new(LakeErrorKind::Damaged, "manifest", message);
        let manifest: Self = serde_json::from_slice(json).map_err(|source| {
            damaged(format!("{key} is not a manifest; restore it from a backup")).with_source(source)
        })?;
        if manifest.version != VERSION {
            return Err(damaged(format!("{key} has version {}; this release reads {VERSION}", manifest.version)));
        }
        Ok(manifest)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_the_standards() {
        // FIPS 180-4, the one-block example.
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let manifest = Manifest {
            version: VERSION,
            object: "t/raw/date=1970-01-01/x.parquet".into(),
            dataset: Dataset::Raw,
            shard: ShardId(0),
            rows: 1,
            bytes: 2,
            first_offset: Offset(3),
            last_offset: Offset(3),
            arrival_min: Timestamp::from_nanos(1),
            arrival_max: Timestamp::from_nanos(2),
            event_time_min: None,
            event_time_max: None,
            sha256: sha256(b""),
        };
        let json = manifest.to_json().unwrap();
        assert_eq!(Manifest::from_json("k", &json).unwrap(), manifest);
        let newer = String::from_utf8(json).unwrap().replace("\"version\": 1", "\"version\": 2");
        assert_eq!(Manifest::from_json("k", newer.as_bytes()).unwrap_err().kind, LakeErrorKind::Damaged);
        assert_eq!(Manifest::from_json("k", b"{}").unwrap_err().kind, LakeErrorKind::Damaged);
    }
}
