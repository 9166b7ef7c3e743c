//! One file of a shard's log: its name, its header, and the way to an offset in it.

use super::{
    faults,
    format::{SEGMENT_HEADER_BYTES, SegmentHeader, arrival},
    frames::{Fault, FrameReader},
    index::Index,
    lock,
};
use kilter_core::{Timestamp, ports::stream::StreamError};
use std::{
    fs::{File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
};

pub(crate) const LOG_EXTENSION: &str = "log";

#[derive(Debug)]
pub(crate) struct Segment {
    pub shard: u32,
    /// Offset of the first record.
    pub base: u64,
    pub path: PathBuf,
    known: Mutex<Known>,
}

/// What has been learnt about a segment since the start.
#[derive(Debug, Default)]
struct Known {
    /// Shared by everyone who has it open: the writer, and readers' cursors.
    file: Weak<File>,
    index: Option<Index>,
}

/// A segment opened for reading; its header is as it should be.
#[derive(Debug, Clone)]
pub(crate) struct OpenSegment {
    pub file: Arc<File>,
    pub salt: u64,
}

pub(crate) fn log_path(directory: &Path, base: u64) -> PathBuf {
    directory.join(format!("{base:020}.{LOG_EXTENSION}"))
}

/// Makes a segment file that holds only its header, durable but for the directory's entry.
pub(crate) fn create_file(directory: &Path, shard: u32, base: u64) -> io::Result<(File, u64)> {
    let path = log_path(directory, base);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    let salt = write_header(&file, shard, base)?;
    Ok((file, salt))
}

/// With a new salt. Synced before any record follows: so a bad header in front of records is damage.
pub(crate) fn write_header(file: &File, shard: u32, base: u64) -> io::Result<u64> {
    let salt = RandomState::new().hash_one(base);
    file.write_all_at(&SegmentHeader { shard, base, salt }.encode(), 0)?;
    file.sync_data()?;
    Ok(salt)
}

impl Segment {
    pub fn new(directory: &Path, shard: u32, base: u64) -> Self {
        Self { shard, base, path: log_path(directory, base), known: Mutex::default() }
    }

    pub fn index_path(&self) -> PathBuf {
        self.path.with_extension("idx")
    }

    /// Makes a file known that is open already, with the index so far.
    pub fn adopt(&self, file: &Arc<File>, index: Index) {
        *lock(&self.known) = Known { file: Arc::downgrade(file), index: Some(index) };
    }

    /// Notes a record of the segment being written.
    pub fn note(&self, offset: u64, position: u64, arrival: Timestamp) {
        if let Some(index) = &mut lock(&self.known).index {
            index.note(offset, position, arrival);
        }
    }

    pub fn open(&self, operation: &'static str) -> Result<OpenSegment, StreamError> {
        let mut known = lock(&self.known);
        let file = match known.file.upgrade() {
            Some(file) => file,
            None => {
                let file = Arc::new(File::open(&self.path).map_err(|error| faults::io(operation, &self.path, error))?);
                known.file = Arc::downgrade(&file);
                file
            }
        };
        drop(known);
        let salt = self.read_header(&file, operation)?.salt;
        Ok(OpenSegment { file, salt })
    }

    pub fn read_header(&self, file: &File, operation: &'static str) -> Result<SegmentHeader, StreamError> {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => faults::damaged(operation, &self.path, 0, "its header is missing"),
            _ => faults::io(operation, &self.path, error),
        })?;
        let header = SegmentHeader::decode(&bytes).map_err(|what| faults::damaged(operation, &self.path, 0, what))?;
        if (header.shard, header.base) != (self.shard, self.base) {
            return Err(faults::misplaced(
                operation,
                &self.path,
                &format!("its header says that it is {} of shard {}", header.base, header.shard),
            ));
        }
        Ok(header)
    }

    /// The closest known place at or before `offset`. `bytes` and `next` are where the segment's durable part
    /// ends; needed when the index has yet to be fetched.
    pub fn locate(&self, opened: &OpenSegment, offset: u64, bytes: u64, next: u64) -> Result<(u64, u64), StreamError> {
        self.with_index("read", opened, bytes, next, |index| index.locate(offset))
    }

    /// When the newest of a sealed segment's records arrived.
    pub fn newest(&self, bytes: u64, next: u64) -> Result<Timestamp, StreamError> {
        if let Some(index) = &lock(&self.known).index {
            return Ok(index.newest);
        }
        let opened = self.open("retention")?;
        self.with_index("retention", &opened, bytes, next, |index| index.newest)
    }

    fn with_index<T>(
        &self,
        operation: &'static str,
        opened: &OpenSegment,
        bytes: u64,
        next: u64,
        ask: impl FnOnce(&Index) -> T,
    ) -> Result<T, StreamError> {
        if let Some(index) = &lock(&self.known).index {
            return Ok(ask(index));
        }
        let index = match Index::load(&self.index_path(), opened.salt, bytes, next) {
            Some(index) => index,
            None => self.rebuild(operation, opened, bytes, next)?,
        };
        Ok(ask(lock(&self.known).index.insert(index)))
    }

    /// Reads the whole segment: slow, so it is said in the log.
    fn rebuild(
        &self,
        operation: &'static str,
        opened: &OpenSegment,
        bytes: u64,
        next: u64,
    ) -> Result<Index, StreamError> {
        tracing::info!(segment = %self.path.display(), bytes, "making the index of a segment anew");
        let mut index = Index::new(self.base, SEGMENT_HEADER_BYTES as u64);
        let mut frames = FrameReader::new(&opened.file, opened.salt, SEGMENT_HEADER_BYTES as u64, bytes, self.base);
        // Up to the first fault, which is reported to whoever reads that far.
        while let Ok(Some(frame)) = frames.next() {
            index.note(frame.header.offset, frame.position, arrival(frame.body));
        }
        if frames.expected() == next {
            self.store_index(&index, opened.salt, bytes, next);
        } else {
            tracing::error!(segment = %self.path.display(), operation, at = frames.position(), "the segment is damaged");
        }
        Ok(index)
    }

    /// Seals the segment: writes its index beside it and lets go of the file.
    pub fn seal(&self, salt: u64, bytes: u64, next: u64) {
        let index = lock(&self.known).index.clone();
        if let Some(index) = index {
            self.store_index(&index, salt, bytes, next);
        }
    }

    fn store_index(&self, index: &Index, salt: u64, bytes: u64, next: u64) {
        if let Err(error) = index.store(&self.index_path(), salt, bytes, next) {
            tracing::warn!(segment = %self.path.display(), %error, "could not write a segment's index; reading it will be slower after the next start");
        }
    }

    /// Turns what a reader of frames found into the stream's error.
    pub fn fault(&self, operation: &'static str, fault: Fault) -> StreamError {
        match fault {
            Fault::Bad { position, what } => faults::damaged(operation, &self.path, position, what),
            Fault::Io(error) => faults::io(operation, &self.path, error),
        }
    }
}
