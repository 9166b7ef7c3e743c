//! A durable, ordered log of records, cut into streams and shards.
//!
//! ```text
//!   first            durable end = next
//!     │                    │
//!     ▼                    ▼
//!  ┌──┬──┬──┬──┬──┬──┬──┬──┐ ─ ─ ─ ┐
//!  │ 3│ 4│ 5│ 6│ 7│ 8│ 9│10│  11 …   appended, not yet durable: invisible
//!  └──┴──┴──┴──┴──┴──┴──┴──┘ ─ ─ ─ ┘
//!   ▲ retention eats from here, never past `retain_from`
//! ```

use crate::{NewRecord, Offset, Record, Reshard, ShardId, Shards, StreamName};
use futures::future::BoxFuture;
use std::time::Duration;

/// Makes, changes, removes and lists streams. Blocking: never call it from an async thread.
pub trait StreamAdmin: Send + Sync {
    /// Durable on return. Making a stream that is there with as many open shards is not an error; with
    /// another number it is [`StreamErrorKind::Conflict`].
    fn create(&self, stream: &StreamName, shards: u32) -> Result<(), StreamError> {
        self.create_from(stream, shards, Offset(0))
    }
    /// The same, with the offset that the first record of each shard gets. A stream that takes the place of a deleted
    /// one goes on where that ended, so that no offset of the name is given out twice.
    fn create_from(&self, stream: &StreamName, shards: u32, first: Offset) -> Result<(), StreamError>;
    /// Removes the stream and its records, says how many records that were. Unknown: `NotFound`.
    fn delete(&self, stream: &StreamName) -> Result<u64, StreamError>;
    /// Every stream with its number of shards, closed ones counted, sorted by name.
    fn list(&self) -> Result<Vec<(StreamName, u32)>, StreamError>;
    fn describe(&self, stream: &StreamName) -> Result<StreamView, StreamError>;
    /// Takes the steps one after the other, all of them or none, durable on return. A step that cannot be taken:
    /// [`StreamErrorKind::Conflict`]. The parents keep what was appended before; what is appended afterwards is the
    /// children's, whose offsets begin where the parents' ended or later.
    fn reshard(&self, stream: &StreamName, steps: &[Reshard]) -> Result<(), StreamError>;
    /// How long the stream's records are kept from now on, durable on return. What is older goes at once, as far as
    /// retention may delete it.
    fn set_retention(&self, stream: &StreamName, age: Duration) -> Result<(), StreamError>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamView {
    pub shards: Shards,
    pub retention: Duration,
}

/// Appends and reads.
///
/// - **Durable**: when `append`'s future resolves to `Ok`, all its records survive a power cut. Never before.
/// - **Ordered**: records of one hash key keep the order of the `append` *calls* (not of the futures' completion)
///   within one shard, and those in a parent come before those in its children. Nothing else is promised across shards.
/// - **Atomic**: per record, not per batch: after a crash a prefix of an unacknowledged batch may be there.
/// - **Never assume** that an unacknowledged record is absent.
pub trait Stream: StreamAdmin {
    /// Queues the records at once, in this call; the future resolves once they are durable.
    /// The answer has one `(shard, offset)` per record, in their order.
    /// Dropping the future does not take the records back.
    fn append(&self, stream: &StreamName, records: Vec<NewRecord>) -> AppendFuture;

    /// Durable records from `from` on, in order, at most `limit`; empty at the end. Blocking.
    /// `from` before the first record kept: [`StreamErrorKind::Trimmed`].
    fn read(
        &self,
        stream: &StreamName,
        shard: ShardId,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<Vec<Record>, StreamError>;

    fn bounds(&self, stream: &StreamName, shard: ShardId) -> Result<Bounds, StreamError>;

    /// Blocks until a record has become durable, or a stream was made, resharded or deleted, since `seen` was
    /// returned, or until `timeout`; answers the number to pass next time. Start with 0.
    fn wait(&self, seen: u64, timeout: Duration) -> u64;

    /// Tells retention that records from `offset` on are still needed, whatever their age and size.
    /// Not durable: until it is called for a shard after a start, retention deletes nothing there.
    fn retain_from(&self, stream: &StreamName, shard: ShardId, offset: Offset) -> Result<(), StreamError>;
}

pub type AppendFuture = BoxFuture<'static, Result<Vec<(ShardId, Offset)>, StreamError>>;

#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    pub records: usize,
    /// Of record data; at least one record is returned, however large.
    pub bytes: usize,
}

/// `first..next`: the offsets that can be read. Empty when equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub first: Offset,
    pub next: Offset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamErrorKind {
    NotFound,
    Conflict,
    /// Asked for a record that retention has deleted.
    Trimmed,
    /// More is queued than the backend's named bound: try again shortly.
    Busy,
    /// A record larger than the backend's named bound.
    TooLarge,
    /// The disk refused or lost something. The shard refuses all appends until the server is restarted.
    Io,
    /// A checksum does not hold in the middle of the log.
    Damaged,
    /// The backend is shutting down.
    Closed,
}

/// `Display` says what happened and what to do, without the source.
#[derive(Debug, Clone, thiserror::Error)]
#[error("stream {operation} failed: {message}")]
pub struct StreamError {
    pub kind: StreamErrorKind,
    pub operation: &'static str,
    pub message: String,
    #[source]
    pub source: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
}

impl StreamError {
    pub fn new(kind: StreamErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self { kind, operation, message: message.into(), source: None }
    }
    pub fn retryable(&self) -> bool {
        self.kind == StreamErrorKind::Busy
    }
}
