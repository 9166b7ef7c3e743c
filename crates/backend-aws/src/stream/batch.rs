//! What a record of Kinesis holds: a version byte, and in postcard the offset of the first record and the records.

use super::failure::error;
use aws_sdk_kinesis::primitives::Blob;
use kilter_core::{
    NewRecord, Offset,
    ports::stream::{StreamError, StreamErrorKind},
};
use serde::{Deserialize, Serialize};

/// Kinesis takes 1 MiB of data and partition key.
const KINESIS_BYTES_MAX: usize = 1 << 20;
/// Of the records of one batch; what is left is for the partition key, the version and the numbers.
pub const BATCH_BYTES_MAX: usize = KINESIS_BYTES_MAX - 1024;
/// Of a record's own data; what is left is for its topic, its keys and its reason.
pub const RECORD_BYTES_MAX: usize = BATCH_BYTES_MAX - 64 * 1024;
const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
pub struct Batch {
    pub first: Offset,
    pub records: Vec<NewRecord>,
}

impl Batch {
    pub fn write(&self) -> Result<Blob, StreamError> {
        let unwritable = |_| error(StreamErrorKind::Io, "append", "a batch of records cannot be encoded");
        postcard::to_extend(self, vec![VERSION]).map(Blob::new).map_err(unwritable)
    }

    /// `None` where it is not a batch of this backend.
    pub fn read(data: &[u8]) -> Option<Self> {
        postcard::from_bytes(data.strip_prefix(&[VERSION])?).ok()
    }
}

pub fn encoded_bytes(record: &NewRecord) -> Result<usize, StreamError> {
    let unwritable = |_| error(StreamErrorKind::Io, "append", "a record cannot be encoded");
    postcard::experimental::serialized_size(record).map_err(unwritable)
}
