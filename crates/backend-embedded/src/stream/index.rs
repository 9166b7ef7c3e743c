//! The sparse index of a segment: where in the file some of its offsets lie. It can always be made anew from
//! the segment; the side file `<base>.idx` only saves the reading.
//!
//! ```text
//! index file: magic "KLTRIDX\0", then u64s: the segment's salt, its bytes, the offset after its last record,
//! the newest arrival (nanoseconds), the number of entries, per entry offset and position; a u32 CRC-32 of
//! all that. Little-endian.
//! ```

use super::format::{u32_at, u64_at};
use kilter_core::Timestamp;
use std::{fs, io, path::Path};

const MAGIC: [u8; 8] = *b"KLTRIDX\0";
const FIXED_BYTES: usize = 48;
const ENTRY_BYTES: usize = 16;
const CRC_BYTES: usize = 4;
/// Distance of entries in the file: to reach an offset at most so much is read in vain.
const STRIDE_BYTES: u64 = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    /// Offset and position, ascending. Never empty: the first is the segment's first record.
    entries: Vec<(u64, u64)>,
    /// Of the records noted.
    pub newest: Timestamp,
}

impl Index {
    /// Of a segment whose first record has offset `base` and lies at `position`.
    pub fn new(base: u64, position: u64) -> Self {
        Self { entries: vec![(base, position)], newest: Timestamp::MIN }
    }

    pub fn note(&mut self, offset: u64, position: u64, arrival: Timestamp) {
        self.newest = self.newest.max(arrival);
        if self.entries.last().is_none_or(|last| position >= last.1 + STRIDE_BYTES) {
            self.entries.push((offset, position));
        }
    }

    /// The closest entry at or before `offset`.
    pub fn locate(&self, offset: u64) -> (u64, u64) {
        let after = self.entries.partition_point(|entry| entry.0 <= offset);
        self.entries[after.saturating_sub(1)]
    }

    pub fn encode(&self, salt: u64, segment_bytes: u64, next: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + ENTRY_BYTES * self.entries.len() + CRC_BYTES);
        bytes.extend_from_slice(&MAGIC);
        for number in [salt, segment_bytes, next, self.newest.as_nanos() as u64, self.entries.len() as u64] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for (offset, position) in &self.entries {
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&position.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` when these bytes are not the index of exactly that segment.
    pub fn decode(bytes: &[u8], salt: u64, segment_bytes: u64, next: u64) -> Option<Self> {
        let content = bytes.len().checked_sub(CRC_BYTES).filter(|content| *content > FIXED_BYTES)?;
        let whole = bytes[..8] == MAGIC
            && crc32fast::hash(&bytes[..content]) == u32_at(bytes, content)
            && (u64_at(bytes, 8), u64_at(bytes, 16), u64_at(bytes, 24)) == (salt, segment_bytes, next)
            && u64_at(bytes, 40) == ((content - FIXED_BYTES) / ENTRY_BYTES) as u64;
        let entries = || bytes[FIXED_BYTES..content].chunks_exact(ENTRY_BYTES);
        whole.then(|| Self {
            entries: entries().map(|entry| (u64_at(entry, 0), u64_at(entry, 8))).collect(),
            newest: Timestamp::from_nanos(u64_at(bytes, 32) as i64),
        })
    }

    /// Not synced: should it be lost or torn, it is made anew.
    pub fn store(&self, path: &Path, salt: u64, segment_bytes: u64, next: u64) -> io::Result<()> {
        let unfinished = path.with_extension("idx~");
        fs::write(&unfinished, self.encode(salt, segment_bytes, next))?;
        fs::rename(&unfinished, path)
    }

    pub fn load(path: &Path, salt: u64, segment_bytes: u64, next: u64) -> Option<Self> {
        Self::decode(&fs::read(path).ok()?, salt, segment_bytes, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Index {
        let mut index = Index::new(100, 40);
        for i in 0..1000 {
            index.note(100 + i, 40 + i * 1000, Timestamp::from_seconds((i % 7) as i64));
        }
        index
    }

    #[test]
    fn finds_an_entry_close_before() {
        let index = example();
        for offset in [100, 101, 555, 1099, 5000] {
            let (at, position) = index.locate(offset);
            assert!(at <= offset && position == 40 + (at - 100) * 1000);
            assert!(offset > 1099 || (offset - at) * 1000 <= STRIDE_BYTES + 1000);
        }
        assert_eq!(index.newest, Timestamp::from_seconds(6));
    }

    #[test]
    fn comes_back_only_for_its_own_segment() {
        let index = example();
        let bytes = index.encode(1, 2, 3);
        assert_eq!(Index::decode(&bytes, 1, 2, 3), Some(index));
        for (salt, length, next) in [(9, 2, 3), (1, 9, 3), (1, 2, 9)] {
            assert_eq!(Index::decode(&bytes, salt, length, next), None);
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(Index::decode(&bad, 1, 2, 3), None, "byte {at}");
            assert_eq!(Index::decode(&bytes[..at], 1, 2, 3), None, "cut at {at}");
        }
    }
}
