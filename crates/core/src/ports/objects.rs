//! Buckets of objects with versions (S3's shape). Four ports, one implementation: names and settings
//! ([`Buckets`]), bytes ([`Contents`]), objects made of them ([`Objects`]), and objects that come in parts ([`Uploads`]).
//!
//! All of them block: never call them from an async thread. What changes something is durable when it returns `Ok`,
//! atomic, and serial with every other change. Keys are any UTF-8 of 1 to [`KEY_BYTES_MAX`] bytes and are ordered
//! bytewise. After an `Err` of kind `Io` the change may or may not be there.

use crate::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::Arc,
};

/// S3's limit for a key.
pub const KEY_BYTES_MAX: usize = 1024;
/// The version id of what was put while the bucket kept no versions.
pub const NULL_VERSION: &str = "null";

pub trait Buckets: Send + Sync {
    /// `false`: it was there, and stays as it was.
    fn create_bucket(&self, bucket: &str, region: &str) -> Result<bool, ObjectError>;
    fn bucket(&self, bucket: &str) -> Result<Option<Bucket>, ObjectError>;
    /// All, sorted by name.
    fn buckets(&self) -> Result<Vec<Bucket>, ObjectError>;
    fn configure(&self, bucket: &str, change: BucketChange) -> Result<(), ObjectError>;
    /// Uploads in progress are aborted. [`ObjectErrorKind::NotEmpty`] while any version or delete marker is there.
    fn delete_bucket(&self, bucket: &str) -> Result<(), ObjectError>;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    pub name: String,
    pub region: String,
    pub created: Timestamp,
    pub versioning: Versioning,
    /// Whether new objects are encrypted at rest where nobody says so.
    pub encrypted: bool,
    /// What the storage only keeps (tags, lifecycle, …), by the name that its owner gave it.
    pub settings: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Versioning {
    /// Never switched on: a put replaces, a delete removes.
    #[default]
    Off,
    Enabled,
    /// Versions stay; a put replaces the version [`NULL_VERSION`].
    Suspended,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketChange {
    Versioning(Versioning),
    Encrypted(bool),
    /// `None` removes.
    Setting(String, Option<String>),
}

pub trait Contents: Send + Sync {
    /// Opens a place for bytes that nobody sees yet. What is never published is deleted after the next start.
    fn stage(&self, encrypted: bool) -> Result<Box<dyn Staging>, ObjectError>;
    /// Bytes `from..to` of these contents, one after the other. A reader that was opened reads on when the object is
    /// replaced or removed.
    fn read(&self, contents: &[Content], from: u64, to: u64) -> Result<Box<dyn Read + Send>, ObjectError>;
    /// Deletes what was staged and is part of nothing.
    fn discard(&self, content: Content);
}

pub trait Objects: Buckets + Contents {
    /// Makes one object out of staged contents, in their order: the key's newest version. They belong to the object
    /// from then on; on an error they are deleted.
    fn publish(
        &self,
        bucket: &str,
        key: &str,
        contents: Vec<Content>,
        meta: Meta,
        condition: PutCondition,
    ) -> Result<Version, ObjectError>;

    /// The named version, or the newest; a delete marker is an answer too.
    fn version(&self, bucket: &str, key: &str, id: Option<&str>) -> Result<Option<Version>, ObjectError>;

    /// Removes versions for good (`Some` id), or the newest as the bucket's versioning has it: for good, or by a
    /// delete marker. One answer per target; all or none. What is not there is no error.
    fn remove(&self, bucket: &str, targets: &[(String, Option<String>)]) -> Result<Vec<Removed>, ObjectError>;

    /// Changes an object's metadata in place. [`ObjectErrorKind::NoKey`] where the version is not an object.
    fn amend(&self, bucket: &str, key: &str, id: &str, change: Amend) -> Result<(), ObjectError>;

    /// At most `limit`, in order of keys, a key's versions newest first.
    fn list(&self, bucket: &str, listing: &Listing) -> Result<Vec<Version>, ObjectError>;
}

/// Content on its way to the disk; dropped without `finish`, it is deleted.
pub trait Staging: Write + Send {
    /// Durable on return.
    fn finish(self: Box<Self>) -> Result<Content, ObjectError>;
}

/// Bytes on the disk. Opaque but for their number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub id: u64,
    /// Where it is, relative to the storage's root.
    pub place: String,
    pub bytes: u64,
    /// The wrapped data key, in hexadecimal, where the bytes are encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What is known about an object beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Without quotes.
    pub etag: String,
    /// Lower-case names: `content-type`, `x-amz-meta-…`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub checksum: Option<Checksum>,
    #[serde(default)]
    pub tags: Vec<(String, String)>,
    /// How many bytes each part had, where it came in parts.
    #[serde(default)]
    pub parts: Vec<u64>,
    #[serde(default)]
    pub replication: Option<Replication>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1` or `SHA256`.
    pub algorithm: String,
    /// Base64; of a composite one with `-<parts>`.
    pub value: String,
    /// Of the parts' checksums, not of the object's bytes.
    pub composite: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Replication {
    Pending,
    Completed,
    Failed,
    /// This object is the copy.
    Replica,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutCondition {
    Always,
    /// Only while the key has no object.
    Absent,
    /// Only while the newest version is an object with this entity tag.
    Etag(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub key: String,
    pub id: String,
    /// Orders versions of a key: the newest is the largest.
    pub number: u64,
    #[serde(skip)]
    pub latest: bool,
    pub modified: Timestamp,
    /// Says that the key was deleted; has neither content nor meta.
    #[serde(default)]
    pub delete_marker: bool,
    #[serde(default)]
    pub contents: Vec<Content>,
    #[serde(default)]
    pub meta: Meta,
}

impl Version {
    pub fn bytes(&self) -> u64 {
        self.contents.iter().map(|content| content.bytes).sum()
    }
    pub fn encrypted(&self) -> bool {
        self.contents.iter().any(|content| content.key.is_some())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Amend {
    Tags(Vec<(String, String)>),
    Replication(Option<Replication>),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    /// The version that was removed, or the delete marker that was made.
    pub version: Option<String>,
    /// Whether that is a delete marker.
    pub delete_marker: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    pub prefix: String,
    /// The first key that may be listed.
    pub from: String,
    /// With `versions`: of the key `from`, only versions older than this one.
    pub from_version: Option<String>,
    pub limit: usize,
    /// Every version and delete marker instead of the objects that are there now.
    pub versions: bool,
}

/// The first string behind all that begin with `prefix`; `None` where there is none.
pub fn behind_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // The code points between are no characters.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

pub trait Uploads: Objects {
    /// `encrypted` is for the parts that will come.
    fn create_upload(&self, bucket: &str, key: &str, meta: Meta, encrypted: bool) -> Result<Upload, ObjectError>;
    fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Option<Upload>, ObjectError>;
    /// Replaces the part of this number.
    fn put_part(&self, bucket: &str, upload: &Upload, part: Part) -> Result<(), ObjectError>;
    /// In order of their numbers, those above `after`, at most `limit`.
    fn parts(&self, upload: &str, after: u32, limit: usize) -> Result<Vec<Part>, ObjectError>;
    /// `Some`: makes the object out of these parts. `None`: gives the upload up. Either way its other parts are
    /// deleted and it is gone.
    fn end_upload(
        &self,
        bucket: &str,
        upload: &Upload,
        object: Option<(Vec<Part>, Meta, PutCondition)>,
    ) -> Result<Option<Version>, ObjectError>;
    /// In order of key and id, strictly after the given ones, at most `limit`.
    fn uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: (&str, &str),
        limit: usize,
    ) -> Result<Vec<Upload>, ObjectError>;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    pub id: String,
    pub key: String,
    pub begun: Timestamp,
    pub encrypted: bool,
    pub meta: Meta,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub number: u32,
    pub etag: String,
    pub checksum: Option<Checksum>,
    pub modified: Timestamp,
    pub content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectErrorKind {
    NoBucket,
    NoKey,
    NoUpload,
    NotEmpty,
    /// A [`PutCondition`] did not hold; nothing was changed.
    ConditionFailed,
    /// A name or key that is not allowed.
    Invalid,
    Io,
    /// Bytes that are not what was once written, or whose key is gone.
    Damaged,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("objects {operation} failed: {message}")]
pub struct ObjectError {
    pub kind: ObjectErrorKind,
    pub operation: &'static str,
    pub message: String,
    #[source]
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl ObjectError {
    pub fn new(kind: ObjectErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self { kind, operation, message: message.into(), source: None }
    }
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
}
