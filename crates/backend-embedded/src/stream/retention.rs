//! Deletes what is old or too much: whole sealed segments, the oldest first, never what is still needed.

use super::{
    lock,
    shard::{Sealed, Shard},
};
use crate::directory::sync_directory;
use kilter_core::{Timestamp, ports::clock::Clock};
use std::{fs, io, time::Duration};

/// Deletes as many of the shard's segments as the rules allow.
pub(crate) fn enforce(shard: &Shard, age: Duration, bytes_max: u64, clock: &dyn Clock) {
    // One at a time; whoever comes second finds nothing left to do.
    let _alone = lock(&shard.retention);
    shard.seal_expired(|newest| is_over(newest, age, clock));
    while let Some(oldest) = candidate(shard) {
        let Some(reason) = reason(shard, &oldest, age, bytes_max, clock) else { return };
        lock(&shard.view).segments.pop_front();
        lock(&shard.cursors).forget_before(oldest.next);
        tracing::info!(
            stream = %shard.stream, shard = shard.number, reason,
            first = oldest.segment.base, next = oldest.next, bytes = oldest.bytes,
            "retention deletes a segment"
        );
        if let Err(error) = remove(shard, &oldest) {
            tracing::warn!(
                segment = %oldest.segment.path.display(), %error,
                "could not delete an expired segment; it is tried again after the next start"
            );
            return;
        }
    }
}

/// The oldest sealed segment, provided that nobody needs it any more.
fn candidate(shard: &Shard) -> Option<Sealed> {
    let view = lock(&shard.view);
    let oldest = view.segments.front().filter(|_| !view.gone)?;
    view.retain_from.is_some_and(|needed| oldest.next <= needed).then(|| oldest.clone())
}

fn is_over(newest: Timestamp, age: Duration, clock: &dyn Clock) -> bool {
    clock.now().seconds_since(newest) > age.as_secs_f64()
}

fn reason(shard: &Shard, oldest: &Sealed, age: Duration, bytes_max: u64, clock: &dyn Clock) -> Option<&'static str> {
    if lock(&shard.view).bytes() > bytes_max {
        return Some("size");
    }
    match oldest.segment.newest(oldest.bytes, oldest.next) {
        Ok(newest) => is_over(newest, age, clock).then_some("age"),
        Err(error) => {
            tracing::warn!(segment = %oldest.segment.path.display(), %error, "cannot tell how old a segment is; it is kept");
            None
        }
    }
}

/// The directory is synced before the next segment goes, so that a power cut cannot leave a hole.
fn remove(shard: &Shard, sealed: &Sealed) -> io::Result<()> {
    fs::remove_file(&sealed.segment.path)?;
    match fs::remove_file(sealed.segment.index_path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    sync_directory(&shard.directory)
}
