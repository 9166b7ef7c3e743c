//! Names: which object holds which rows. A name follows from the rows' offsets and dates alone, so a
//! second attempt at the same rows finds the first one's leavings.
//!
//! ```text
//! iot-data-lake-<tenant>-<region>/                                    the bucket
//! └─ <tenant>/
//!    ├─ raw/date=2026-11-23/part-<shard>-<first>-<last>.parquet       offsets, 20 digits each
//!    ├─ scored/date=…/…
//!    ├─ rejected/date=…/…
//!    └─ _manifest/<raw|scored|rejected>/part-<shard>-<first>-<last>.json
//! ```

use kilter_core::{Offset, ShardId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dataset {
    /// Telemetry, byte for byte as it was sent.
    Raw,
    /// One row per scored reading.
    Scored,
    /// What could not be used, with the reason.
    Rejected,
}

impl Dataset {
    pub const ALL: [Self; 3] = [Self::Raw, Self::Scored, Self::Rejected];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Scored => "scored",
            Self::Rejected => "rejected",
        }
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One shard's part of one dataset: its objects hold ascending offsets and never overlap.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    pub tenant: TenantId,
    pub dataset: Dataset,
    pub shard: ShardId,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of shard {} of tenant {}", self.dataset, self.shard.0, self.tenant)
    }
}

/// `part-<shard>-<first>-<last>`: the rows of one dataset with offsets from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PartName {
    pub shard: ShardId,
    pub first: Offset,
    pub last: Offset,
}

impl PartName {
    /// `None` for a name that this crate did not make.
    pub fn parse(file_name: &str) -> Option<Self> {
        let (stem, extension) = file_name.split_once('.')?;
        if !matches!(extension, "parquet" | "json") {
            return None;
        }
        let mut fields = stem.strip_prefix("part-")?.split('-');
        let shard = ShardId(fields.next()?.parse().ok()?);
        let mut offset = || fields.next()?.parse().ok().map(Offset);
        let name = Self { shard, first: offset()?, last: offset()? };
        // Only the one canonical spelling: "+1", missing zeros or a fourth field are somebody else's.
        (name.to_string() == stem).then_some(name)
    }

    /// Of an object by its key.
    pub fn of_key(key: &str) -> Option<Self> {
        key.rsplit('/').next().and_then(Self::parse)
    }

    pub fn overlaps(&self, first: Offset, last: Offset) -> bool {
        self.first <= last && first <= self.last
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part-{}-{:020}-{:020}", self.shard.0, self.first.0, self.last.0)
    }
}

/// The UTC day of a moment, as Hive partitions spell it.
pub(crate) fn date(at: Timestamp) -> String {
    at.format("%Y-%m-%d")
}

/// Keys within one tenant's bucket.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub bucket: String,
    tenant: TenantId,
}

impl Keys {
    pub fn new(tenant: &TenantId, region: &str) -> Self {
        Self { bucket: tenant.bucket(region), tenant: tenant.clone() }
    }

    pub fn dataset(&self, dataset: Dataset) -> String {
        format!("{}/{dataset}", self.tenant)
    }

    pub fn object(&self, dataset: Dataset, date: &str, name: PartName) -> String {
        format!("{}/{dataset}/date={date}/{name}.parquet", self.tenant)
    }

    pub fn manifests(&self, dataset: Dataset) -> String {
        format!("{}/_manifest/{dataset}", self.tenant)
    }

    pub fn manifest(&self, dataset: Dataset, name: PartName) -> String {
        format!("{}/{name}.json", self.manifests(dataset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_offset_and_parse_back() {
        let name = |first, last| PartName { shard: ShardId(7), first: Offset(first), last: Offset(last) };
        for part in [name(0, 0), name(9, 10), name(u64::MAX, u64::MAX)] {
            assert_eq!(PartName::parse(&format!("{part}.parquet")), Some(part));
            assert_eq!(PartName::parse(&format!("{part}.json")), Some(part));
        }
        assert!(name(9, 9).to_string() < name(10, 10).to_string());
        for foreign in ["part-7-1-2.parquet", "part-7.json", "x.parquet", "part-7-+0000000000000000001-2.json", ""] {
            assert_eq!(PartName::parse(foreign), None, "{foreign}");
        }
        let staged = format!("{}.parquet#1", name(1, 2));
        assert_eq!(PartName::parse(&staged), None);
    }

    #[test]
    fn keys_are_the_contract() {
        let keys = Keys::new(&TenantId::new("tenant001").unwrap(), "us-east-1");
        let name = PartName { shard: ShardId(0), first: Offset(5), last: Offset(12) };
        let day = date(Timestamp::parse_rfc3339("2026-11-23T23:59:59.999999999Z").unwrap());
        let key = keys.object(Dataset::Rejected, &day, name);
        assert_eq!(key, "tenant001/rejected/date=2026-11-23/part-0-00000000000000000005-00000000000000000012.parquet");
        assert_eq!(PartName::of_key(&key), Some(name));
        assert_eq!(keys.bucket, "iot-data-lake-tenant001-us-east-1");
        assert_eq!(
            keys.manifest(Dataset::Raw, name),
            "tenant001/_manifest/raw/part-0-00000000000000000005-00000000000000000012.json"
        );
    }
}
