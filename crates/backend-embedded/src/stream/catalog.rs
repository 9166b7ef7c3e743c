//! Streams as directories: how they are named, made, found and removed.
//!
//! ```text
//! <dir>/<stream>/meta                                "kilter-stream 2", and a line of JSON: shards and retention
//! <dir>/<stream>/shard-0000/<20-digit offset>.log    segments
//! <dir>/<stream>/shard-0000/<20-digit offset>.idx    their indexes
//! <dir>/<stream>~making, <stream>~deleted…           unfinished: removed at the next start
//! ```
//!
//! Earlier versions wrote "kilter-stream 1" and "shards <n>", which is still read: as many equal shards.
//!
//! `~` cannot be in a stream's name. A name that begins with a dot gets a `~` in front: `..` is a valid name.

use super::{
    Layout, OneStream, faults, recover,
    shard::{Shard, create_shard},
};
use crate::directory::{create_directory, sync_directory};
use kilter_core::{Offset, ShardView, Shards, StreamName, Timestamp, ports::stream::StreamError};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::Duration,
};

/// What a stream is, beside its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub shards: Shards,
    /// `None`: as the installation is configured.
    pub retention: Option<Duration>,
}

const META: &str = "meta";
const META_MAKING: &str = "meta~making";
const META_HEAD: &str = "kilter-stream 2\n";
const MAKING: &str = "~making";
const DELETED: &str = "~deleted";

fn directory_name(stream: &StreamName) -> String {
    let name = stream.as_str();
    if name.starts_with('.') { format!("~{name}") } else { name.to_owned() }
}

fn stream_named(directory: &str) -> Option<StreamName> {
    let name = directory.strip_prefix("~.").map_or(directory, |_| &directory[1..]);
    StreamName::new(name).ok()
}

fn shard_directory(stream: &Path, number: u32) -> PathBuf {
    stream.join(format!("shard-{number:04}"))
}

/// Makes the stream aside and then gives it its name: after a crash it is there whole or not at all.
pub(crate) fn create(root: &Path, stream: &StreamName, meta: Meta) -> Result<OneStream, StreamError> {
    let name = directory_name(stream);
    let (making, directory) = (root.join(format!("{name}{MAKING}")), root.join(name));
    let made = make(&making, &meta).and_then(|()| fs::rename(&making, &directory)).and_then(|()| sync_directory(root));
    made.map_err(|error| faults::io("create", &directory, error))?;
    open_stream(&directory, stream.clone())
}

fn make(directory: &Path, meta: &Meta) -> io::Result<()> {
    remove_if_there(directory)?;
    fs::create_dir_all(directory)?;
    for shard in meta.shards.all() {
        create_shard(&shard_directory(directory, shard.id.0), shard.id.0, shard.start)?;
    }
    store_meta(directory, meta)
}

/// In one step: after a crash the old file is there or the new one.
fn store_meta(directory: &Path, meta: &Meta) -> io::Result<()> {
    let making = directory.join(META_MAKING);
    let mut file = File::create(&making)?;
    writeln!(file, "{META_HEAD}{}", serde_json::to_string(meta)?)?;
    file.sync_all()?;
    fs::rename(&making, directory.join(META))?;
    sync_directory(directory)
}

pub(crate) fn write_meta(root: &Path, stream: &StreamName, meta: &Meta) -> Result<(), StreamError> {
    let directory = root.join(directory_name(stream));
    store_meta(&directory, meta).map_err(|error| faults::io("change", &directory, error))
}

/// Makes the files of a shard that `meta` does not tell of yet.
pub(crate) fn add_shard(root: &Path, stream: &StreamName, shard: &ShardView) -> Result<Shard, StreamError> {
    let directory = shard_directory(&root.join(directory_name(stream)), shard.id.0);
    // What a crash has left.
    let made = remove_if_there(&directory).and_then(|()| create_shard(&directory, shard.id.0, shard.start));
    made.map_err(|error| faults::io("reshard", &directory, error))?;
    recover::open_shard(stream, shard.id.0, &directory)
}

/// Takes the stream's name away at once and its files after that.
pub(crate) fn remove(root: &Path, stream: &StreamName) -> Result<(), StreamError> {
    let name = directory_name(stream);
    let directory = root.join(&name);
    let deleted = root.join(format!("{name}{DELETED}"));
    let renamed =
        remove_if_there(&deleted).and_then(|()| fs::rename(&directory, &deleted)).and_then(|()| sync_directory(root));
    renamed.map_err(|error| faults::io("delete", &directory, error))?;
    if let Err(error) = fs::remove_dir_all(&deleted) {
        tracing::warn!(directory = %deleted.display(), %error, "could not remove a deleted stream's files; the next start tries again");
    }
    Ok(())
}

fn remove_if_there(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens every stream below `root`, which is made where it is missing.
pub(crate) fn open_all(root: &Path) -> Result<Vec<OneStream>, StreamError> {
    let failed = |error| faults::io("open", root, error);
    create_directory(root).map_err(failed)?;
    let mut streams = Vec::new();
    for entry in fs::read_dir(root).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| path.is_dir()) else { continue };
        if name.ends_with(MAKING) || name.ends_with(DELETED) {
            tracing::info!(directory = %path.display(), "removing a stream that was not made or not deleted to the end");
            fs::remove_dir_all(&path).map_err(failed)?;
        } else if let Some(stream) = stream_named(name) {
            streams.push(open_stream(&path, stream)?);
        } else {
            tracing::warn!(directory = %path.display(), "a directory that is no stream lies among the streams");
        }
    }
    Ok(streams)
}

fn open_stream(directory: &Path, name: StreamName) -> Result<OneStream, StreamError> {
    let meta = directory.join(META);
    let text = fs::read_to_string(&meta).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => faults::misplaced("open", &meta, "the file is missing"),
        _ => faults::io("open", &meta, error),
    })?;
    let meta = parse_meta(&text)
        .ok_or_else(|| faults::misplaced("open", &meta, "the file does not say which shards the stream has"))?;
    let shards = meta.shards.all().iter().map(|shard| open_shard(directory, &name, shard).map(Arc::new));
    let shards = shards.collect::<Result<Vec<_>, _>>()?;
    Ok(OneStream { name, layout: RwLock::new(Arc::new(Layout { meta, shards })) })
}

fn open_shard(stream: &Path, name: &StreamName, view: &ShardView) -> Result<Shard, StreamError> {
    let directory = shard_directory(stream, view.id.0);
    let shard = recover::open_shard(name, view.id.0, &directory)?;
    let next = super::lock(&shard.view).next;
    match view.closed {
        Some((end, _)) if end.0 != next => {
            let what = format!("the shard was closed at record {}, but its log ends at {next}", end.0);
            Err(faults::misplaced("open", &directory, &what))
        }
        _ => Ok(shard),
    }
}

fn parse_meta(text: &str) -> Option<Meta> {
    if let Some(rest) = text.strip_prefix("kilter-stream 1\nshards ") {
        let count = rest.strip_suffix('\n')?.parse().ok().filter(|count| (1..=Shards::COUNT_MAX).contains(count))?;
        return Some(Meta { shards: Shards::even(count, Offset(0), Timestamp::default()), retention: None });
    }
    let meta: Meta = serde_json::from_str(text.strip_prefix(META_HEAD)?).ok()?;
    fit_together(&meta.shards).then_some(meta)
}

/// Every shard has its place, and every hash key one owner.
fn fit_together(shards: &Shards) -> bool {
    let in_place = |(shard, number): (&ShardView, u32)| {
        shard.id.0 == number && shard.parents.iter().all(|parent| parent.0 < number)
    };
    let mut next = Some(0);
    let mut owned_once = |shard: &ShardView| {
        let (first, last) = shard.hash_keys;
        std::mem::replace(&mut next, last.checked_add(1)) == Some(first) && first <= last
    };
    // In this order: the open ones are found by their numbers.
    shards.all().iter().zip(0..).all(in_place) && shards.open().all(&mut owned_once) && next.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_core::{Reshard, ShardId};

    #[test]
    fn every_name_has_its_own_directory() {
        for name in ["a", "..", ".", ".hidden", "a.b", "-", "anomaly-stream-tenant001"] {
            let stream = StreamName::new(name).unwrap();
            let directory = directory_name(&stream);
            assert!(Path::new(&directory).components().all(|c| matches!(c, std::path::Component::Normal(_))));
            assert_eq!(stream_named(&directory), Some(stream));
        }
        assert_eq!(stream_named("a~making"), None);
    }

    #[test]
    fn a_meta_file_is_taken_literally() {
        let mut meta = Meta { shards: Shards::even(3, Offset(7), Timestamp::from_seconds(5)), retention: None };
        assert_eq!(parse_meta("kilter-stream 1\nshards 3\n").map(|meta| meta.shards.all().len()), Some(3));
        let split = Reshard::Split { shard: ShardId(1), at: u128::MAX / 2 };
        meta.shards.step(split, |_| Offset(9), Timestamp::from_seconds(6)).unwrap();
        let text = format!("{META_HEAD}{}\n", serde_json::to_string(&meta).unwrap());
        assert_eq!(parse_meta(&text), Some(meta));
        for bad in ["", "kilter-stream 1\nshards 0\n", "kilter-stream 1\nshards 3", "kilter-stream 3\nshards 3\n"] {
            assert_eq!(parse_meta(bad), None, "{bad:?}");
        }
        for (good, bad) in [("\"id\":4", "\"id\":5"), ("\"hash_keys\":[0,", "\"hash_keys\":[1,"), ("}", "")] {
            assert_eq!(parse_meta(&text.replacen(good, bad, 1)), None, "{good} as {bad}");
        }
    }
}
