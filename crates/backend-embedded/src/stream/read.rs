//! Reading: from an offset to the bytes, and back to records.

use super::{
    faults,
    format::decode_body,
    frames::{Fault, FrameReader},
    lock,
    segment::{OpenSegment, Segment},
    shard::{Sealed, Shard},
};
use kilter_core::{
    Offset, Record, ShardId,
    ports::stream::{ReadLimit, StreamError, StreamErrorKind},
};
use std::{collections::VecDeque, sync::Arc};

/// Readers of a shard whose places are remembered: the scorer, the archive, the console, and one to spare.
const CURSORS_MAX: usize = 4;

/// Who decodes many records lets others have the processor this often: devices wait for their answers.
const RECORDS_BETWEEN_YIELDS: usize = 128;

/// Where readers stopped: who goes on from there needs no search. The most recent is last.
#[derive(Debug, Default)]
pub(crate) struct Cursors(VecDeque<Cursor>);

#[derive(Debug)]
struct Cursor {
    next: u64,
    position: u64,
    segment: Arc<Segment>,
    opened: OpenSegment,
}

impl Cursors {
    fn take(&mut self, from: u64, segment: &Arc<Segment>) -> Option<Cursor> {
        let at = self.0.iter().position(|cursor| cursor.next == from && Arc::ptr_eq(&cursor.segment, segment))?;
        self.0.remove(at)
    }

    fn keep(&mut self, cursor: Cursor) {
        if self.0.len() == CURSORS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(cursor);
    }

    /// Lets go of deleted segments' files.
    pub fn forget_before(&mut self, base: u64) {
        self.0.retain(|cursor| cursor.segment.base >= base);
    }
}

impl Shard {
    pub fn read(&self, from: Offset, limit: ReadLimit) -> Result<Vec<Record>, StreamError> {
        let mut batch = Batch { records: Vec::new(), bytes: 0, limit };
        let mut from = from.0;
        loop {
            let held = {
                let view = lock(&self.view);
                if from < view.first() {
                    return match batch.records.is_empty() {
                        true => Err(faults::trimmed(&self.stream, ShardId(self.number), Offset(from), view.first())),
                        false => Ok(batch.records),
                    };
                }
                if from >= view.next || limit.records == 0 {
                    return Ok(batch.records);
                }
                view.holding(from)
            };
            match self.read_segment(&held, from, &mut batch) {
                Ok(true) => from = held.next,
                Ok(false) => return Ok(batch.records),
                // What is good is handed out; who comes back for the next record hears about the fault.
                Err(_) if !batch.records.is_empty() => return Ok(batch.records),
                Err(error) if error.kind == StreamErrorKind::Io && lock(&self.view).first() > held.segment.base => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads on from `from`. True: the segment's end was reached and there is room for more.
    fn read_segment(&self, held: &Sealed, from: u64, batch: &mut Batch) -> Result<bool, StreamError> {
        let segment = &held.segment;
        let kept = lock(&self.cursors).take(from, segment);
        let (opened, expected, position) = match kept {
            Some(cursor) => (cursor.opened, from, cursor.position),
            None => {
                let opened = segment.open("read")?;
                let (expected, position) = segment.locate(&opened, from, held.bytes, held.next)?;
                (opened, expected, position)
            }
        };
        let mut frames = FrameReader::new(&opened.file, opened.salt, position, held.bytes, expected);
        let full = loop {
            // Read before the frame is taken: a record that no longer fits is read again by the next call.
            let (place, next) = (frames.position(), frames.expected());
            if next == held.next {
                break None;
            }
            match frames.next().map_err(|fault| segment.fault("read", fault))? {
                Some(frame) if frame.header.offset < from => {}
                Some(frame) => {
                    if batch.records.len().is_multiple_of(RECORDS_BETWEEN_YIELDS) {
                        std::thread::yield_now();
                    }
                    let record = decode_body(frame.body).ok_or_else(|| {
                        let (position, what) = (frame.position, "the record's parts do not fit together");
                        segment.fault("read", Fault::Bad { position, what })
                    })?;
                    if !batch.take(Record { offset: Offset(frame.header.offset), record }) {
                        break Some((place, next));
                    }
                    if batch.full() {
                        break Some((frames.position(), frames.expected()));
                    }
                }
                None => {
                    let (position, what) = (frames.position(), "records are missing at its end");
                    return Err(segment.fault("read", Fault::Bad { position, what }));
                }
            }
        };
        let (position, next) = full.unwrap_or((frames.position(), frames.expected()));
        lock(&self.cursors).keep(Cursor { next, position, segment: segment.clone(), opened });
        Ok(full.is_none())
    }
}

/// The answer being put together.
struct Batch {
    records: Vec<Record>,
    bytes: usize,
    limit: ReadLimit,
}

impl Batch {
    /// False: it does not fit any more.
    fn take(&mut self, record: Record) -> bool {
        let bytes = self.bytes + record.record.data.len();
        if !self.records.is_empty() && bytes > self.limit.bytes {
            return false;
        }
        self.bytes = bytes;
        self.records.push(record);
        true
    }

    fn full(&self) -> bool {
        self.records.len() >= self.limit.records || self.bytes > self.limit.bytes
    }
}
