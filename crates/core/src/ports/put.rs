//! Records that come without a device: through the Kinesis API.

use crate::{StreamName, ports::stream::AppendFuture};
use bytes::Bytes;

pub trait Put: Send + Sync {
    /// Queues the records in this call, in their order; the future resolves once they are durable, with a place for
    /// each. A record's thing is the one that its partition key names; letters that no thing's name may hold become
    /// `_`. In a tenant's stream a payload that cannot be used is kept as rejected.
    fn put(&self, stream: &StreamName, records: Vec<PutRecord>) -> AppendFuture;
}

#[derive(Debug, Clone)]
pub struct PutRecord {
    /// 1 to 256 characters.
    pub partition_key: Box<str>,
    /// Chooses the shard in place of the partition key's own hash key.
    pub hash_key: Option<u128>,
    pub data: Bytes,
}
