//! A table's file, written in small portions: what is written is synced every few pages, not only at the end.
//!
//! A commit of the scorer changes thousands of pages. Handed to the disk at once, they stand before every sync of the
//! streams that comes after them, and devices wait for their acknowledgements (figures in `docs/guide/bench.md`).

use redb::{BackendError, StorageBackend, backends::FileBackend};
use std::{
    io,
    ops::Bound,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Written pages that the disk has not confirmed. Fewer of them cost throughput of commits, more of them delay whoever
/// syncs something else.
const UNSYNCED_WRITES_MAX: usize = 32;

#[derive(Debug)]
pub(crate) struct PacedFile {
    file: FileBackend,
    unsynced: AtomicUsize,
}

impl PacedFile {
    pub fn new(file: FileBackend) -> Self {
        Self { file, unsynced: AtomicUsize::new(0) }
    }
}

type Range = Bound<u64>;

impl StorageBackend for PacedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.unsynced.store(0, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        std::thread::yield_now();
        self.file.write(offset, data)?;
        match self.unsynced.fetch_add(1, Ordering::Relaxed) + 1 < UNSYNCED_WRITES_MAX {
            true => Ok(()),
            false => self.sync_data(),
        }
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
