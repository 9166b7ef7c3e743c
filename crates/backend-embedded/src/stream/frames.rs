//! Reads frames one after the other out of a segment file, through a buffer, and trusts none of them.

use super::format::{FRAME_HEADER_BYTES, FrameHeader};
use std::{fs::File, io, os::unix::fs::FileExt};

/// A frame that was checked: its checksum holds and its offset is the expected one.
#[derive(Debug)]
pub(crate) struct Frame<'b> {
    pub header: FrameHeader,
    /// Where it starts in the file.
    pub position: u64,
    pub body: &'b [u8],
}

#[derive(Debug)]
pub(crate) enum Fault {
    /// At this byte something is not as it was written.
    Bad {
        position: u64,
        what: &'static str,
    },
    Io(io::Error),
}

/// Bytes read at once. Large enough to make system calls rare, small enough to be cheap to fill for a reader
/// that follows the end of the log.
const CHUNK_BYTES: u64 = 256 * 1024;

#[derive(Debug)]
pub(crate) struct FrameReader<'a> {
    file: &'a File,
    salt: u64,
    /// Where the next frame starts.
    position: u64,
    /// Frames lie before this byte.
    end: u64,
    /// The offset that the next record must have.
    expected: u64,
    last_was_mark: bool,
    buffer: Vec<u8>,
    /// Place of the buffer's first byte in the file.
    buffered_from: u64,
}

impl<'a> FrameReader<'a> {
    pub fn new(file: &'a File, salt: u64, position: u64, end: u64, expected: u64) -> Self {
        let (buffer, buffered_from) = (Vec::new(), position);
        Self { file, salt, position, end, expected, last_was_mark: false, buffer, buffered_from }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn expected(&self) -> u64 {
        self.expected
    }

    pub fn last_was_mark(&self) -> bool {
        self.last_was_mark
    }

    /// The next record's frame; marks are passed over. `None` at the end. After a fault the reader stays
    /// before the bad frame.
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, Fault> {
        loop {
            let position = self.position;
            if position == self.end {
                return Ok(None);
            }
            let header = self.checked_header(position)?;
            let length = header.frame_bytes();
            self.fill(position, length)?;
            let start = (position - self.buffered_from) as usize;
            let body = &self.buffer[start + FRAME_HEADER_BYTES..start + length];
            if !header.holds(body, self.salt) {
                return Err(Fault::Bad { position, what: "the checksum of the record does not hold" });
            }
            if header.offset != self.expected {
                return Err(Fault::Bad { position, what: "the record's number is not the one that follows" });
            }
            self.position += length as u64;
            self.last_was_mark = header.is_mark();
            if !header.is_mark() {
                self.expected += 1;
                let body = &self.buffer[start + FRAME_HEADER_BYTES..start + length];
                return Ok(Some(Frame { header, position, body }));
            }
        }
    }

    /// The header at `position`, provided that a frame of its length can lie there.
    fn checked_header(&mut self, position: u64) -> Result<FrameHeader, Fault> {
        self.fill(position, FRAME_HEADER_BYTES)?;
        let start = (position - self.buffered_from) as usize;
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes.copy_from_slice(&self.buffer[start..start + FRAME_HEADER_BYTES]);
        let header = FrameHeader::parse(&bytes);
        if !header.plausible() {
            return Err(Fault::Bad { position, what: "the length of the record is none that is ever written" });
        }
        Ok(header)
    }

    /// Searches every byte behind the current (bad) frame for one that is intact and says that the bad one
    /// had been durable when it was written. Answers where that witness lies.
    pub fn find_witness(&mut self) -> Result<Option<u64>, Fault> {
        let (bad_offset, mut at) = (self.expected, self.position + 1);
        // More records than bytes cannot have been lost.
        let highest = bad_offset.saturating_add(self.end - self.position);
        while at + FRAME_HEADER_BYTES as u64 <= self.end {
            self.fill(at, FRAME_HEADER_BYTES)?;
            let start = (at - self.buffered_from) as usize;
            let Some(skip) = self.buffer[start..]
                .windows(FRAME_HEADER_BYTES)
                .position(|window| is_candidate(window, bad_offset, highest))
            else {
                at = self.buffered_from + self.buffer.len() as u64 - FRAME_HEADER_BYTES as u64 + 1;
                continue;
            };
            at += skip as u64;
            let header = self.checked_header(at)?;
            let length = header.frame_bytes();
            if at + length as u64 > self.end {
                at += 1;
                continue;
            }
            self.fill(at, length)?;
            let start = (at - self.buffered_from) as usize;
            if !header.holds(&self.buffer[start + FRAME_HEADER_BYTES..start + length], self.salt) {
                at += 1;
                continue;
            }
            let durable_before = header.offset.saturating_sub(u64::from(header.back));
            // Of the same number and first of its write: what lies before it is a mark, and it is the mark
            // that is bad.
            if durable_before > bad_offset || (header.offset == bad_offset && header.back == 0) {
                return Ok(Some(at));
            }
            at += length as u64;
        }
        Ok(None)
    }

    /// Makes the buffer hold `length` bytes from `position` on.
    fn fill(&mut self, position: u64, length: usize) -> Result<(), Fault> {
        let available = self.buffered_from + self.buffer.len() as u64;
        if position >= self.buffered_from && position + length as u64 <= available {
            return Ok(());
        }
        if position + length as u64 > self.end {
            return Err(Fault::Bad { position, what: "the file ends within the record" });
        }
        let wanted = CHUNK_BYTES.max(length as u64).min(self.end - position) as usize;
        let kept = if (self.buffered_from..available).contains(&position) {
            self.buffer.drain(..(position - self.buffered_from) as usize);
            self.buffer.len()
        } else {
            self.buffer.clear();
            0
        };
        self.buffered_from = position;
        self.buffer.resize(wanted, 0);
        let read = self.file.read_exact_at(&mut self.buffer[kept..], position + kept as u64);
        read.map_err(|error| {
            self.buffer.clear();
            match error.kind() {
                io::ErrorKind::UnexpectedEof => Fault::Bad { position, what: "the file ends within the record" },
                _ => Fault::Io(error),
            }
        })
    }
}

/// Cheap enough to ask of every byte: could a frame of a record in `lowest..=highest` start here?
fn is_candidate(window: &[u8], lowest: u64, highest: u64) -> bool {
    let mut bytes = [0; FRAME_HEADER_BYTES];
    bytes.copy_from_slice(window);
    let header = FrameHeader::parse(&bytes);
    (lowest..=highest).contains(&header.offset) && header.plausible()
}
