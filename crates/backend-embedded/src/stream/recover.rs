//! Opens what an earlier run left: cuts zeros written ahead or a torn tail off the last segment, stops at damage.
//!
//! Only the last segment of a shard is read: the committer syncs a segment before it makes the next, so the
//! others are whole, and damage that befell them later is found by whoever reads them.

use super::{
    faults,
    format::{SEGMENT_HEADER_BYTES, arrival},
    frames::{Fault, FrameReader},
    index::Index,
    read::Cursors,
    segment::{LOG_EXTENSION, OpenSegment, Segment, log_path, write_header},
    shard::{Sealed, Shard, View, Writer},
};
use crate::directory::sync_directory;
use kilter_core::{StreamName, ports::stream::StreamError};
use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex},
};

const HEADER: u64 = SEGMENT_HEADER_BYTES as u64;

pub(crate) fn open_shard(stream: &StreamName, number: u32, directory: &Path) -> Result<Shard, StreamError> {
    let bases = segment_bases(directory).map_err(|error| faults::io("open", directory, error))?;
    let Some((last, sealed)) = bases.split_last() else {
        return Err(faults::misplaced("open", directory, "the shard has no segment left"));
    };
    let mut segments = VecDeque::with_capacity(sealed.len());
    for (base, next) in sealed.iter().zip(&bases[1..]) {
        let segment = Segment::new(directory, number, *base);
        let length = fs::metadata(&segment.path).map_err(|error| faults::io("open", &segment.path, error))?.len();
        segments.push_back(Sealed { segment: Arc::new(segment), bytes: length, next: *next });
    }
    let writer = open_last(directory, number, *last)?;
    let active = writer.segment.clone();
    let view = View { segments, active, end: writer.written, next: writer.next, retain_from: None, gone: false };
    Ok(Shard {
        stream: stream.clone(),
        number,
        directory: directory.to_path_buf(),
        view: Mutex::new(view),
        cursors: Mutex::new(Cursors::default()),
        writer: Mutex::new(writer),
        retention: Mutex::new(()),
    })
}

/// The first offsets of the directory's segments, ascending. Index files without a segment are removed.
fn segment_bases(directory: &Path) -> io::Result<Vec<u64>> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let base = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        match (base, path.extension().and_then(|extension| extension.to_str())) {
            (Some(base), Some(LOG_EXTENSION)) if log_path(directory, base) == path => bases.push(base),
            (Some(_), Some("idx")) if path.with_extension(LOG_EXTENSION).exists() => {}
            (Some(_), Some("idx" | "idx~")) => fs::remove_file(&path)?,
            _ => tracing::warn!(file = %path.display(), "a file that is not part of a stream lies in its directory"),
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

fn open_last(directory: &Path, number: u32, base: u64) -> Result<Writer, StreamError> {
    let segment = Segment::new(directory, number, base);
    let failed = |error| faults::io("open", &segment.path, error);
    let file = OpenOptions::new().read(true).write(true).open(&segment.path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let salt = match segment.read_header(&file, "open") {
        Ok(header) => header.salt,
        // The crash came while the file was being made: a header is synced before any record follows.
        Err(_) if length <= HEADER => {
            cut_off(&segment.path, 0, length);
            let salt = file.set_len(0).and_then(|()| write_header(&file, number, base)).map_err(failed)?;
            sync_directory(directory).map_err(failed)?;
            salt
        }
        Err(error) => return Err(error),
    };
    let file = Arc::new(file);
    let opened = OpenSegment { file: file.clone(), salt };
    let (index, written, next, marked) = scan(&segment, &opened, length.max(HEADER))?;
    segment.adopt(&file, index);
    Ok(Writer::new(Arc::new(segment), file, salt, written, next, marked))
}

/// Reads all frames; answers the index, where the good ones end, the next offset, and whether a mark is last.
fn scan(segment: &Segment, opened: &OpenSegment, length: u64) -> Result<(Index, u64, u64, bool), StreamError> {
    let mut index = Index::new(segment.base, HEADER);
    let mut frames = FrameReader::new(&opened.file, opened.salt, HEADER, length, segment.base);
    let fault = loop {
        match frames.next() {
            Ok(Some(frame)) => index.note(frame.header.offset, frame.position, arrival(frame.body)),
            Ok(None) => break None,
            Err(fault) => break Some(fault),
        }
    };
    let failed = |error| faults::io("open", &segment.path, error);
    match fault {
        None => {}
        Some(Fault::Io(error)) => return Err(failed(error)),
        Some(Fault::Bad { position, .. }) if only_zeros(&opened.file, position, length).map_err(failed)? => {
            cut(&opened.file, position).map_err(failed)?;
        }
        Some(Fault::Bad { position, what }) => {
            let witness = frames.find_witness().map_err(|fault| segment.fault("open", fault))?;
            if let Some(witness) = witness {
                let what = format!("{what}, although an intact record at byte {witness} was written after it");
                return Err(faults::damaged("open", &segment.path, position, &what));
            }
            cut_off(&segment.path, position, length - position);
            cut(&opened.file, position).map_err(failed)?;
        }
    }
    Ok((index, frames.position(), frames.expected(), frames.last_was_mark()))
}

fn cut(file: &File, position: u64) -> io::Result<()> {
    file.set_len(position)?;
    file.sync_all()
}

/// What the writer has put there for records to come.
fn only_zeros(file: &File, mut position: u64, end: u64) -> io::Result<bool> {
    let mut chunk = vec![0; 64 * 1024];
    while position < end {
        let length = chunk.len().min((end - position) as usize);
        file.read_exact_at(&mut chunk[..length], position)?;
        if chunk[..length].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        position += length as u64;
    }
    Ok(true)
}

fn cut_off(path: &Path, position: u64, torn: u64) {
    metrics::counter!("kilter_stream_torn_bytes_total").increment(torn);
    tracing::warn!(
        segment = %path.display(), position, torn_bytes = torn,
        "the log ends with a write that was cut short, as a crash or a power cut leaves it: its bytes are removed; \
         a write is acknowledged only after it is whole"
    );
}
