//! Splitting and merging shards: the children's files first, then the one line that makes them count.

use super::{Layout, OneStream, catalog, catalog::Meta, lock, shard::Shard};
use kilter_core::{
    Offset, Reshard, ShardId, Timestamp,
    ports::stream::{StreamError, StreamErrorKind},
};
use std::{path::Path, sync::Arc};

/// The caller keeps the committer from its work, so that all that is acknowledged is on the disk.
pub(crate) fn reshard(root: &Path, stream: &OneStream, steps: &[Reshard], now: Timestamp) -> Result<(), StreamError> {
    let layout = stream.layout();
    let mut meta = Meta::clone(&layout.meta);
    let first_new = layout.shards.len();
    // A shard that an earlier step has made is empty.
    let end = |id: ShardId| layout.shards.get(id.0 as usize).map_or(Offset(0), |shard| Offset(lock(&shard.view).next));
    for step in steps {
        let refused = |why: String| {
            StreamError::new(StreamErrorKind::Conflict, "reshard", format!("{why}; list the shards anew"))
        };
        meta.shards.step(*step, end, now).map_err(refused)?;
    }
    let views = layout.meta.shards.all().iter().zip(meta.shards.all());
    let closing = views.filter(|(before, after)| before.closed != after.closed);
    let closing: Vec<&Arc<Shard>> = closing.map(|(view, _)| &layout.shards[view.id.0 as usize]).collect();
    closing.iter().try_for_each(|shard| shard.seal())?;
    let mut shards = layout.shards.clone();
    for view in &meta.shards.all()[first_new..] {
        shards.push(Arc::new(catalog::add_shard(root, &stream.name, view)?));
    }
    if let Err(error) = catalog::write_meta(root, &stream.name, &meta) {
        // Nobody knows whether they are closed on the disk: nothing more is accepted there.
        closing.iter().for_each(|shard| shard.refuse(error.clone()));
        return Err(error);
    }
    stream.replace(Layout { meta, shards });
    Ok(())
}
