//! One shard: the segments that readers see, and the writer that only the committer uses.

use super::{
    faults,
    format::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, arrival, mark, place_frame},
    index::Index,
    lock,
    read::Cursors,
    segment::{self, Segment},
};
use crate::directory::sync_directory;
use kilter_core::{Offset, StreamName, Timestamp, ports::stream::StreamError};
use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

/// A write buffer that a burst made larger than this is given back.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// Zeros written ahead of the records: a sync of bytes that are there already changes no size and allocates nothing, and
/// waits less for others' writes. At most as many as the file has records' bytes: many small streams must not fill the disk.
/// The next sync waits for them as well, so they are few.
const AHEAD_BYTES_MAX: u64 = 256 << 10;
static ZEROS: [u8; AHEAD_BYTES_MAX as usize] = [0; AHEAD_BYTES_MAX as usize];

#[derive(Debug)]
pub(crate) struct Shard {
    pub stream: StreamName,
    pub number: u32,
    pub directory: PathBuf,
    pub view: Mutex<View>,
    pub cursors: Mutex<Cursors>,
    /// Held by the committer while it touches this shard's files. `delete` takes it to keep the committer off.
    pub writer: Mutex<Writer>,
    /// Held by whoever deletes old segments.
    pub retention: Mutex<()>,
}

/// What is durable.
#[derive(Debug)]
pub(crate) struct View {
    /// Oldest first, never empty; the last is being written.
    pub segments: VecDeque<Sealed>,
    pub active: Arc<Segment>,
    /// Where the durable part of the active segment ends, in bytes.
    pub end: u64,
    /// The offset that the next durable record will have.
    pub next: u64,
    /// `None`: nobody has said yet what is still needed.
    pub retain_from: Option<u64>,
    /// The stream is deleted; the files under its name may be those of its successor.
    pub gone: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub segment: Arc<Segment>,
    pub bytes: u64,
    /// Offset after its last record.
    pub next: u64,
}

impl View {
    pub fn first(&self) -> u64 {
        self.segments.front().map_or(self.active.base, |oldest| oldest.segment.base)
    }

    pub fn bytes(&self) -> u64 {
        self.end + self.segments.iter().map(|sealed| sealed.bytes).sum::<u64>()
    }

    /// The segment that holds `offset`, with the end of its durable part. `offset` is within the bounds.
    pub fn holding(&self, offset: u64) -> Sealed {
        if offset >= self.active.base {
            return Sealed { segment: self.active.clone(), bytes: self.end, next: self.next };
        }
        let after = self.segments.partition_point(|sealed| sealed.segment.base <= offset);
        self.segments[after.saturating_sub(1)].clone()
    }
}

#[derive(Debug)]
pub(crate) struct Writer {
    pub segment: Arc<Segment>,
    pub file: Arc<File>,
    pub salt: u64,
    /// Bytes in the file, synced or not.
    pub written: u64,
    /// Where the zeros end that were written ahead of them.
    ahead: u64,
    /// What follows them.
    pub buffer: Vec<u8>,
    /// The offset of the next record.
    pub next: u64,
    /// All records before this one are synced.
    pub durable: u64,
    /// The file's last frame is a mark.
    pub marked: bool,
    /// Why nothing more is accepted.
    pub failed: Option<StreamError>,
    /// Place among the shards of the committer's current round.
    pub slot: Option<usize>,
}

impl Writer {
    /// Goes on writing a segment whose `written` bytes are all synced.
    pub fn new(segment: Arc<Segment>, file: Arc<File>, salt: u64, written: u64, next: u64, marked: bool) -> Self {
        let (buffer, failed, slot) = (Vec::new(), None, None);
        let ahead = written;
        Self { segment, file, salt, written, ahead, buffer, next, durable: next, marked, failed, slot }
    }

    fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Gives the frame its offset and puts it behind what waits to be written.
    fn stage(&mut self, frame: &[u8]) -> u64 {
        let (offset, position, start) = (self.next, self.position(), self.buffer.len());
        self.buffer.extend_from_slice(frame);
        // A round holds at most `queue_bytes_max` bytes, or one batch: far fewer records than 32 bits count.
        place_frame(&mut self.buffer[start..], offset, (offset - self.durable) as u32, self.salt);
        self.segment.note(offset, position, arrival(&frame[FRAME_HEADER_BYTES..]));
        self.next += 1;
        offset
    }

    /// Hands everything staged to the operating system in one call.
    pub fn write(&mut self) -> Result<(), StreamError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let written = self.file.write_all_at(&self.buffer, self.written);
        self.mind(written)?;
        self.written += self.buffer.len() as u64;
        self.marked &= self.buffer.is_empty();
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        if self.written > self.ahead {
            self.write_ahead();
        }
        Ok(())
    }

    fn write_ahead(&mut self) {
        let zeros = &ZEROS[..self.written.min(AHEAD_BYTES_MAX) as usize];
        // A disk that has no room for them may have room for records.
        self.ahead = match self.file.write_all_at(zeros, self.written) {
            Ok(()) => self.written + zeros.len() as u64,
            Err(_) => self.written,
        };
    }

    /// Lets the file end with its last frame, durably.
    fn trim(&mut self) -> Result<(), StreamError> {
        let trimmed = self.file.set_len(self.written).and_then(|()| self.file.sync_all());
        self.mind(trimmed)?;
        self.ahead = self.written;
        self.durable = self.next;
        Ok(())
    }

    /// Waits until everything written is on the disk.
    pub fn sync(&mut self) -> Result<(), StreamError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let started = std::time::Instant::now();
        let synced = self.file.sync_data();
        metrics::histogram!("kilter_stream_fsync_seconds").record(started.elapsed());
        self.mind(synced)?;
        self.durable = self.next;
        Ok(())
    }

    /// After a failure nobody knows what the disk holds: nothing more is accepted.
    fn mind(&mut self, result: io::Result<()>) -> Result<(), StreamError> {
        result.map_err(|source| {
            let error = faults::poisoned(&self.segment.path, source);
            tracing::error!(segment = %self.segment.path.display(), %error, "the stream cannot be written");
            self.failed = Some(error.clone());
            self.buffer = Vec::new();
            error
        })
    }
}

impl Shard {
    /// Stages one frame, in a new segment where the current one is full. The caller writes and syncs.
    pub fn stage(&self, writer: &mut Writer, frame: &[u8], segment_bytes: u64) -> Result<u64, StreamError> {
        if let Some(error) = &writer.failed {
            return Err(error.clone());
        }
        let empty = writer.position() == SEGMENT_HEADER_BYTES as u64;
        if !empty && writer.position() + frame.len() as u64 > segment_bytes {
            self.roll(writer)?;
        }
        Ok(writer.stage(frame))
    }

    /// Seals the current segment, which is durable from then on, and starts the next.
    fn roll(&self, writer: &mut Writer) -> Result<(), StreamError> {
        writer.write()?;
        writer.trim()?;
        let base = writer.next;
        let created = segment::create_file(&self.directory, self.number, base)
            .and_then(|made| sync_directory(&self.directory).map(|()| made));
        let (file, salt) = match created {
            Ok(made) => made,
            Err(error) => return writer.mind(Err(error)),
        };
        let file = Arc::new(file);
        let segment = Arc::new(Segment::new(&self.directory, self.number, base));
        segment.adopt(&file, Index::new(base, SEGMENT_HEADER_BYTES as u64));
        writer.segment.seal(writer.salt, writer.written, base);
        let fresh = Writer::new(segment.clone(), file, salt, SEGMENT_HEADER_BYTES as u64, base, false);
        let slot = writer.slot;
        let sealed = std::mem::replace(writer, fresh);
        writer.slot = slot;
        let mut view = lock(&self.view);
        view.segments.push_back(Sealed { segment: sealed.segment, bytes: sealed.written, next: base });
        (view.active, view.end, view.next) = (segment, SEGMENT_HEADER_BYTES as u64, base);
        Ok(())
    }

    /// Seals what was written last, so that retention can delete it. The committer must not be at work.
    pub fn seal(&self) -> Result<(), StreamError> {
        let mut writer = lock(&self.writer);
        match &writer.failed {
            Some(error) => Err(error.clone()),
            None if writer.next > writer.segment.base => self.roll(&mut writer),
            None => Ok(()),
        }
    }

    /// Accepts nothing more until the server is restarted.
    pub fn refuse(&self, error: StreamError) {
        lock(&self.writer).failed = Some(error);
    }

    /// Seals what was written last once all of it has expired and nobody needs it: a stream that rests is trimmed too.
    pub fn seal_expired(&self, expired: impl FnOnce(Timestamp) -> bool) {
        let mut writer = lock(&self.writer);
        let wanted = {
            let view = lock(&self.view);
            !view.gone && view.next > view.active.base && view.retain_from.is_some_and(|needed| view.next <= needed)
        };
        let rests = wanted && writer.failed.is_none() && writer.durable == writer.next;
        if rests && writer.segment.newest(writer.written, writer.next).is_ok_and(expired) {
            // What fails is remembered by the writer, and said in the log.
            let _ = self.roll(&mut writer);
        }
    }

    /// Shows readers what has been synced.
    pub fn publish(&self, writer: &Writer) {
        let mut view = lock(&self.view);
        (view.end, view.next) = (writer.written, writer.durable);
    }

    /// Ends the log with a mark, so that the next start can tell damage from a torn tail. Once is enough.
    pub fn finish(&self) {
        let mut writer = lock(&self.writer);
        if writer.marked || writer.failed.is_some() || writer.written == SEGMENT_HEADER_BYTES as u64 {
            return;
        }
        writer.buffer = mark(writer.next, writer.salt).to_vec();
        if writer.write().and_then(|()| writer.trim()).is_ok() {
            writer.marked = true;
        }
    }

    /// Lets neither the committer nor retention touch the files any more: they are about to go. Answers how
    /// many records they hold.
    pub fn abandon(&self, error: StreamError) -> u64 {
        self.refuse(error);
        let _alone = lock(&self.retention);
        let mut view = lock(&self.view);
        view.gone = true;
        view.next - view.first()
    }
}

/// Makes the directory of a new shard with its first, empty segment, all durable.
pub(crate) fn create_shard(directory: &Path, number: u32, first: Offset) -> io::Result<()> {
    std::fs::create_dir(directory)?;
    segment::create_file(directory, number, first.0)?;
    sync_directory(directory)
}
