//! What a stream holds, and what a telemetry payload says.

use crate::{ThingName, Timestamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Number of a shard within its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId(pub u32);

/// Position of a record within its shard: 0, 1, 2, … without holes. The sequence number of the Kinesis view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Offset(pub u64);

impl Offset {
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Whether a record can be scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordKind {
    Telemetry,
    /// Received and kept, but unusable; says why. Archived under `rejected/`, never scored.
    Rejected(Box<str>),
}

/// What the ingest hands to a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRecord {
    pub kind: RecordKind,
    /// Chooses the shard. Records of one key stay in order.
    pub partition_key: Box<str>,
    /// Chooses the shard in place of the partition key's own hash key. Not kept.
    #[serde(skip)]
    pub hash_key: Option<u128>,
    pub thing: ThingName,
    /// The thing's own count of received messages (1, 2, 3, …): the ledger is audited with it.
    pub thing_sequence: u64,
    pub arrival: Timestamp,
    pub topic: Box<str>,
    /// The payload, byte for byte as the device sent it.
    pub data: Bytes,
}

/// A record read back from a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    pub record: NewRecord,
}

/// One set of values measured at one moment, decoded from a payload.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The payload's own time, or the arrival time where it names none.
    pub event_time: Timestamp,
    /// Finite values, sorted by name, each name once.
    pub signals: Vec<(Box<str>, f64)>,
}
