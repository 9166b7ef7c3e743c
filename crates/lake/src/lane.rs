//! What a lane already holds, and what a crash left in it. Found once, when the lane is first written to
//! after a start or after a failed write, and kept in memory from there on.

use crate::{
    LakeError, LakeErrorKind, columns,
    layout::{Keys, Lane, PartName},
    manifest::{self, Manifest},
    part::Row,
    store::Store,
};
use bytes::Bytes;
use kilter_core::Offset;

pub(crate) struct Progress {
    /// Rows up to this offset have objects with manifests.
    pub archived_to: Option<Offset>,
    /// Objects behind it, without manifest.
    unfinished: Vec<(PartName, String)>,
}

impl Progress {
    pub fn recover(store: &Store, keys: &Keys, lane: &Lane) -> Result<Self, LakeError> {
        let mut archived_to = None;
        for (name, _) in parts(store, keys, lane, &keys.manifests(lane.dataset))? {
            archived_to = archived_to.max(Some(name.last));
        }
        let mut unfinished = parts(store, keys, lane, &keys.dataset(lane.dataset))?;
        unfinished.retain(|(name, _)| Some(name.first) > archived_to);
        Ok(Self { archived_to, unfinished })
    }

    /// Deletes an interrupted attempt at rows that are about to be written again. What else is there
    /// without a manifest stays: it is not this call's to judge.
    pub fn clear(&mut self, store: &Store, keys: &Keys, first: Offset, last: Offset) -> Result<(), LakeError> {
        for (_, key) in self.unfinished.extract_if(.., |(name, _)| name.overlaps(first, last)) {
            store.delete(&keys.bucket, &key)?;
        }
        Ok(())
    }
}

/// The lane's objects below a folder.
fn parts(store: &Store, keys: &Keys, lane: &Lane, folder: &str) -> Result<Vec<(PartName, String)>, LakeError> {
    let listed = store.list(&keys.bucket, &format!("{folder}/"))?.into_iter();
    let named = listed.filter_map(|object| Some((PartName::of_key(&object.key)?, object.key)));
    Ok(named.filter(|(name, _)| name.shard == lane.shard).collect())
}

/// Compares rows that come a second time (after a crash between manifest and checkpoint) with what is
/// archived. Other rows under the same offsets would vanish if they were skipped: that is refused.
pub(crate) fn check_archived<R: Row>(store: &Store, keys: &Keys, lane: &Lane, rows: &[R]) -> Result<(), LakeError> {
    let (Some(first), Some(last)) = (rows.first().map(R::offset), rows.last().map(R::offset)) else {
        return Ok(());
    };
    let mut overlapping = parts(store, keys, lane, &keys.manifests(lane.dataset))?;
    overlapping.retain(|(name, _)| name.overlaps(first, last));
    overlapping.sort();
    let mut archived = Vec::with_capacity(rows.len());
    for (_, key) in overlapping {
        let manifest = read_manifest(store, keys, &key)?;
        let object = read_object(store, keys, &manifest)?;
        archived.extend(columns::read_identities(lane.dataset, &manifest.object, object)?);
    }
    // Fewer rows than are archived may come: a scored row can expire before the second attempt.
    let mut archived = archived.into_iter();
    let same = rows
        .iter()
        .all(|row| archived.by_ref().any(|(offset, identity)| offset == row.offset() && identity == row.identity()));
    if same {
        return Ok(());
    }
    let message = format!(
        "offsets {} to {} of {lane} are archived already, with other rows: the stream was made anew while its lake \
         was kept. Nothing was written. Move the bucket {} aside, or offboard the tenant, so that the lake starts anew too",
        first.0, last.0, keys.bucket
    );
    Err(LakeError::new(LakeErrorKind::Conflict, "write", message))
}

pub(crate) fn read_manifest(store: &Store, keys: &Keys, key: &str) -> Result<Manifest, LakeError> {
    let json = store
        .get(&keys.bucket, key)?
        .ok_or_else(|| LakeError::new(LakeErrorKind::Damaged, "read", format!("{key} is gone")))?;
    Manifest::from_json(key, &json)
}

/// The object as its manifest describes it, or an error that says what is wrong with it.
pub(crate) fn read_object(store: &Store, keys: &Keys, manifest: &Manifest) -> Result<Bytes, LakeError> {
    let damaged = |message| LakeError::new(LakeErrorKind::Damaged, "read", message);
    let key = &manifest.object;
    let Some(object) = store.get(&keys.bucket, key)? else {
        return Err(damaged(format!("{key} is missing although it has a manifest; restore it from a backup")));
    };
    if object.len() as u64 != manifest.bytes || manifest::sha256(&object) != manifest.sha256 {
        return Err(damaged(format!("{key} is not what was written (its SHA-256 differs); restore it from a backup")));
    }
    Ok(object)
}
