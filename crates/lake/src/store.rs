//! The lake's part of the object storage: whole small objects in and out, durable.

use crate::{LakeError, LakeErrorKind};
use bytes::Bytes;
use kilter_core::{Timestamp, ports::objects::*};
use std::{
    io::{Read, Write},
    sync::Arc,
};

/// Written at once: others have the processor in between.
const PIECE_BYTES: usize = 64 << 10;
/// Objects of one page of a listing, and of one removal.
const PAGE: usize = 1_000;

pub(crate) struct Store {
    objects: Arc<dyn Objects>,
    region: String,
}

/// An object as listings show it.
pub(crate) struct Listed {
    pub key: String,
    pub bytes: u64,
    pub modified: Timestamp,
}

fn refused(operation: &'static str, what: &str, source: ObjectError) -> LakeError {
    let kind = match source.kind {
        ObjectErrorKind::NoBucket => LakeErrorKind::NoBucket,
        ObjectErrorKind::Damaged => LakeErrorKind::Damaged,
        _ => LakeErrorKind::Io,
    };
    LakeError::new(kind, operation, format!("the store refused {what}: {}", source.message)).with_source(source)
}

impl Store {
    pub fn new(objects: Arc<dyn Objects>, region: &str) -> Self {
        Self { objects, region: region.to_owned() }
    }

    /// Replaces what is there, atomically. Durable on return.
    pub fn put(&self, bucket: &str, key: &str, content_type: &str, bytes: &[u8]) -> Result<(), LakeError> {
        let failed = |source| refused("write", key, source);
        let found = self.objects.bucket(bucket).map_err(failed)?;
        let mut staging = self.objects.stage(found.is_some_and(|bucket| bucket.encrypted)).map_err(failed)?;
        // What S3's clients expect of an object that was put in one piece.
        let mut etag = md5::Context::new();
        for piece in bytes.chunks(PIECE_BYTES) {
            std::thread::yield_now();
            etag.consume(piece);
            staging.write_all(piece).map_err(|source| {
                let message = format!("{key} cannot be written: {source}; check free space, then try again");
                LakeError::new(LakeErrorKind::Io, "write", message).with_source(source)
            })?;
        }
        let content = staging.finish().map_err(failed)?;
        let meta = Meta {
            etag: format!("{:x}", etag.finalize()),
            headers: [("content-type".to_owned(), content_type.to_owned())].into(),
            ..Meta::default()
        };
        self.objects.publish(bucket, key, vec![content], meta, PutCondition::Always).map(drop).map_err(failed)
    }

    /// `None` where there is no such object.
    pub fn get(&self, bucket: &str, key: &str) -> Result<Option<Bytes>, LakeError> {
        let failed = |source| refused("read", key, source);
        let found = match self.objects.version(bucket, key, None) {
            Err(error) if error.kind == ObjectErrorKind::NoBucket => None,
            found => found.map_err(failed)?,
        };
        let Some(version) = found.filter(|version| !version.delete_marker) else { return Ok(None) };
        let mut reader = self.objects.read(&version.contents, 0, version.bytes()).map_err(failed)?;
        let mut bytes = Vec::with_capacity(usize::try_from(version.bytes()).unwrap_or_default());
        reader.read_to_end(&mut bytes).map_err(|source| {
            let kind = match source.kind() {
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => LakeErrorKind::Damaged,
                _ => LakeErrorKind::Io,
            };
            LakeError::new(kind, "read", format!("{key} cannot be read: {source}")).with_source(source)
        })?;
        Ok(Some(bytes.into()))
    }

    /// Objects whose keys begin with `prefix`, in order of their keys. None where there is no bucket.
    pub fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<Listed>, LakeError> {
        let mut listed = Vec::new();
        let mut listing = Listing { prefix: prefix.to_owned(), limit: PAGE, ..Listing::default() };
        loop {
            let page = match self.objects.list(bucket, &listing) {
                Err(error) if error.kind == ObjectErrorKind::NoBucket => return Ok(listed),
                page => page.map_err(|source| refused("list", prefix, source))?,
            };
            let full = page.len() == PAGE;
            listed.extend(page.into_iter().map(|version| Listed {
                bytes: version.bytes(),
                modified: version.modified,
                key: version.key,
            }));
            let Some(last) = listed.last().filter(|_| full) else { return Ok(listed) };
            listing.from = format!("{}\0", last.key);
        }
    }

    /// An object that is gone already is no error.
    pub fn delete(&self, bucket: &str, key: &str) -> Result<(), LakeError> {
        self.objects
            .remove(bucket, &[(key.to_owned(), None)])
            .map(drop)
            .map_err(|source| refused("delete", key, source))
    }

    pub fn has_bucket(&self, bucket: &str) -> Result<bool, LakeError> {
        self.objects.bucket(bucket).map(|found| found.is_some()).map_err(|source| refused("look at", bucket, source))
    }

    /// Whether it was made by this call. Durable on return.
    pub fn create_bucket(&self, bucket: &str) -> Result<bool, LakeError> {
        self.objects.create_bucket(bucket, &self.region).map_err(|source| refused("create bucket", bucket, source))
    }

    /// Removes a bucket and all that is in it, every version; says how many objects those were.
    pub fn drop_bucket(&self, bucket: &str) -> Result<u64, LakeError> {
        let failed = |source| refused("delete bucket", bucket, source);
        let mut objects = 0;
        if !self.has_bucket(bucket)? {
            return Ok(objects);
        }
        loop {
            let listing = Listing { limit: PAGE, versions: true, ..Listing::default() };
            let page = self.objects.list(bucket, &listing).map_err(failed)?;
            if page.is_empty() {
                break;
            }
            objects += page.iter().filter(|version| !version.delete_marker).count() as u64;
            let targets: Vec<_> = page.into_iter().map(|version| (version.key, Some(version.id))).collect();
            self.objects.remove(bucket, &targets).map_err(failed)?;
        }
        self.objects.delete_bucket(bucket).map(|()| objects).map_err(failed)
    }
}
