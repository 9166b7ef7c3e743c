//! Deletes what is old or too much: whole sealed segments, the oldest first, never what is still needed.

use super::{
    config::StreamConfig,
    lock,
    shard::{Sealed, Shard},
};
use crate::directory::sync_directory;
use kilter_core::ports::clock::Clock;
use std::{fs, io};

/// Deletes as many of the shard's segments as the rules allow.
pub(crate) fn enforce(shard: &Shard, config: &StreamConfig, clock: &dyn Clock) {
    // One at a time; whoever comes second finds nothing left to do.
    let _alone = lock(&shard.retention);
    while let Some(oldest) = candidate(shard) {
        let Some(reason) = reason(shard, &oldest, config, clock) else { return };
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

fn reason(shard: &Shard, oldest: &Sealed, config: &StreamConfig, clock: &dyn Clock) -> Option<&'static str> {
    if lock(&shard.view).bytes() > config.retention_bytes {
        return Some("size");
    }
    match oldest.segment.newest(oldest.bytes, oldest.next) {
        Ok(newest) => {
            let age_seconds = clock.now().seconds_since(newest);
            (age_seconds > config.retention_age.as_secs_f64()).then_some("age")
        }
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
