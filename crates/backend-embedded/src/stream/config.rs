//! How large the log's pieces are and how long they are kept.

use std::time::Duration;

#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// A segment is sealed before it would grow beyond this many bytes. Retention deletes whole segments, and
    /// a start reads the last one of every shard.
    pub segment_bytes: u64,
    /// A sealed segment is deleted when its newest record arrived longer ago than this.
    pub retention_age: Duration,
    /// Per shard: the oldest sealed segments are deleted while all together are larger than this many bytes.
    pub retention_bytes: u64,
    /// Bytes that may wait for the disk, over all streams; beyond, `append` answers `Busy`. One append is
    /// always let in when nothing waits, however large.
    pub queue_bytes_max: u64,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            retention_age: Duration::from_secs(7 * 24 * 3600),
            retention_bytes: 10 << 30,
            // About a second of writing at the pace of an ordinary disk.
            queue_bytes_max: 64 << 20,
        }
    }
}
