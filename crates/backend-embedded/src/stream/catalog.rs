//! Streams as directories: how they are named, made, found and removed.
//!
//! ```text
//! <dir>/<stream>/meta                                two lines of text: "kilter-stream 1", "shards <n>"
//! <dir>/<stream>/shard-0000/<20-digit offset>.log    segments
//! <dir>/<stream>/shard-0000/<20-digit offset>.idx    their indexes
//! <dir>/<stream>~making, <stream>~deleted…           unfinished: removed at the next start
//! ```
//!
//! `~` cannot be in a stream's name. A name that begins with a dot gets a `~` in front: `..` is a valid name.

use super::{OneStream, faults, recover, shard::create_shard};
use crate::directory::{create_directory, sync_directory};
use kilter_core::{Offset, StreamName, ports::stream::StreamError};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// More would only cost: every shard has its own open file and its own sync.
pub(crate) const SHARDS_MAX: u32 = 4096;

const META: &str = "meta";
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
pub(crate) fn create(root: &Path, stream: &StreamName, shards: u32, first: Offset) -> Result<OneStream, StreamError> {
    let name = directory_name(stream);
    let (making, directory) = (root.join(format!("{name}{MAKING}")), root.join(name));
    let made =
        make(&making, shards, first).and_then(|()| fs::rename(&making, &directory)).and_then(|()| sync_directory(root));
    made.map_err(|error| faults::io("create", &directory, error))?;
    open_stream(&directory, stream.clone())
}

fn make(directory: &Path, shards: u32, first: Offset) -> io::Result<()> {
    remove_if_there(directory)?;
    fs::create_dir_all(directory)?;
    let mut meta = File::create_new(directory.join(META))?;
    write!(meta, "kilter-stream 1\nshards {shards}\n")?;
    meta.sync_all()?;
    for number in 0..shards {
        create_shard(&shard_directory(directory, number), number, first)?;
    }
    sync_directory(directory)
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
    let shards = parse_meta(&text)
        .ok_or_else(|| faults::misplaced("open", &meta, "the file does not say how many shards the stream has"))?;
    let shards: Result<Vec<_>, _> = (0..shards)
        .map(|number| recover::open_shard(&name, number, &shard_directory(directory, number)).map(Arc::new))
        .collect();
    Ok(OneStream { name, shards: shards? })
}

fn parse_meta(text: &str) -> Option<u32> {
    let shards = text.strip_prefix("kilter-stream 1\nshards ")?.strip_suffix('\n')?.parse().ok()?;
    (1..=SHARDS_MAX).contains(&shards).then_some(shards)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(parse_meta("kilter-stream 1\nshards 3\n"), Some(3));
        for bad in ["", "kilter-stream 2\nshards 3\n", "kilter-stream 1\nshards 0\n", "kilter-stream 1\nshards 3"] {
            assert_eq!(parse_meta(bad), None, "{bad:?}");
        }
    }
}
