//! The stream's errors, worded for the people who have to act on them.

use kilter_core::{
    Offset, ShardId, StreamName,
    ports::stream::{StreamError, StreamErrorKind},
};
use std::{io, path::Path, sync::Arc};

/// The disk refused something that leaves no doubt about what is stored.
pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> StreamError {
    let message = format!("{}: {source}; check the disk and the permissions, then try again", path.display());
    StreamError { kind: StreamErrorKind::Io, operation, message, source: Some(Arc::new(source)) }
}

/// The disk refused a write or a sync: what it holds now is unknown until the log is read anew. A sync is
/// never tried again, because the kernel may have dropped the very pages that it failed to write.
pub(crate) fn poisoned(path: &Path, source: io::Error) -> StreamError {
    let message = format!(
        "{}: {source}; nothing more is accepted here, because what reached the disk is unknown. \
         Fix the disk (is it full?), then restart kilter: nothing that was acknowledged is lost",
        path.display()
    );
    StreamError { kind: StreamErrorKind::Io, operation: "append", message, source: Some(Arc::new(source)) }
}

pub(crate) fn damaged(operation: &'static str, path: &Path, position: u64, what: &str) -> StreamError {
    let message = format!(
        "{} is damaged at byte {position}: {what}. Acknowledged records from there on cannot be read. Stop kilter \
         and restore this file from a backup; or give up every record from there on with `truncate -s {position}` \
         on this file, and remove the later segments of the same shard, where there are any",
        path.display()
    );
    StreamError::new(StreamErrorKind::Damaged, operation, message)
}

/// Damage that has no byte position: a file that is missing or does not belong where it is.
pub(crate) fn misplaced(operation: &'static str, path: &Path, what: &str) -> StreamError {
    let message = format!("{}: {what}. Stop kilter and restore this directory from a backup", path.display());
    StreamError::new(StreamErrorKind::Damaged, operation, message)
}

pub(crate) fn no_stream(operation: &'static str, stream: &StreamName) -> StreamError {
    StreamError::new(
        StreamErrorKind::NotFound,
        operation,
        format!("there is no stream {stream}; create it first, or look for its name in the list of streams"),
    )
}

pub(crate) fn no_shard(operation: &'static str, stream: &StreamName, shard: ShardId, shards: usize) -> StreamError {
    StreamError::new(
        StreamErrorKind::NotFound,
        operation,
        format!("stream {stream} has no shard {}; it has {shards}, numbered from 0", shard.0),
    )
}

pub(crate) fn trimmed(stream: &StreamName, shard: ShardId, from: Offset, first: u64) -> StreamError {
    StreamError::new(
        StreamErrorKind::Trimmed,
        "read",
        format!(
            "record {} of shard {} of stream {stream} has been deleted by retention; the oldest one kept is {first}",
            from.0, shard.0
        ),
    )
}

pub(crate) fn closed(operation: &'static str) -> StreamError {
    StreamError::new(StreamErrorKind::Closed, operation, "kilter is shutting down; try again once it runs")
}
