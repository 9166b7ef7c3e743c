//! The port `Table` in one redb file: one B-tree with the key (table, pk, sk).
//!
//! Every commit is one durable redb transaction in two phases (so a torn commit slot is impossible) that saves
//! the allocator's state (redb's "quick repair": the start after a crash does not read the whole file).

use crate::{
    directory::{create_directory, sync_directory},
    paced::PacedFile,
};
use kilter_core::ports::table::{Condition, Item, SkRange, Table, TableError, TableErrorKind, Write};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, backends::FileBackend};
use std::{fs::OpenOptions, io, ops::Bound, path::Path, sync::Arc};

type Key = (&'static str, &'static str, &'static str);
const ITEMS: TableDefinition<Key, &[u8]> = TableDefinition::new("items");

/// Longest table name, pk or sk in bytes: DynamoDB's longest partition key, a binary one, in hexadecimal. Keys are copied
/// into every branch of the tree, so they must stay small.
pub const KEY_BYTES_MAX: usize = 4096;
/// Largest value in bytes. Detector states are the largest values; one may not make the file's growth jump.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// Memory for cached pages: an idle Kilter shall stay small, and the results read most are the newest.
const CACHE_BYTES: usize = 24 << 20;

/// A commit of thousands of writes lets others have the processor this often, and with every page that it hands to
/// the disk: a time slice is milliseconds, and who syncs a stream waits for a tenth of one.
const WRITES_BETWEEN_YIELDS: usize = 16;

pub struct EmbeddedTable {
    database: Database,
}

impl EmbeddedTable {
    /// Opens the file, or makes it, durably.
    ///
    /// # Errors
    /// `Damaged` where the file is not what was written, `Io` where the disk refuses or another process has it.
    pub fn open(file: &Path) -> Result<Self, TableError> {
        let failed = |error: redb::Error| fault("open", error);
        let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
        let io = |error: io::Error| failed(redb::Error::Io(error));
        if let Some(directory) = directory {
            create_directory(directory).map_err(io)?;
        }
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file).map_err(io)?;
        let paced = PacedFile::new(FileBackend::new(opened).map_err(|error| failed(error.into()))?);
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(paced);
        let table = Self { database: database.map_err(|error| failed(error.into()))? };
        // Made once, so that reading never meets a file without it.
        table.write("open", |_| Ok(()))?;
        sync_directory(directory.unwrap_or(Path::new("."))).map_err(io)?;
        Ok(table)
    }

    /// One durable transaction around `change`; nothing of it stays when it fails.
    fn write<T>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&mut redb::Table<'_, Key, &'static [u8]>) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        let failed = |error: redb::Error| fault(operation, error);
        let mut transaction = self.database.begin_write().map_err(|error| failed(error.into()))?;
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        let changed = {
            let mut items = transaction.open_table(ITEMS).map_err(|error| failed(error.into()))?;
            change(&mut items)
        };
        match changed {
            Ok(answer) => transaction.commit().map(|()| answer).map_err(|error| failed(error.into())),
            Err(error) => {
                transaction.abort().map_err(|error| failed(error.into()))?;
                Err(error)
            }
        }
    }

    fn read<T>(
        &self,
        operation: &'static str,
        look: impl FnOnce(&redb::ReadOnlyTable<Key, &'static [u8]>) -> Result<T, redb::StorageError>,
    ) -> Result<T, TableError> {
        let failed = |error: redb::Error| fault(operation, error);
        let transaction = self.database.begin_read().map_err(|error| failed(error.into()))?;
        let items = transaction.open_table(ITEMS).map_err(|error| failed(error.into()))?;
        look(&items).map_err(|error| failed(error.into()))
    }
}

impl Table for EmbeddedTable {
    fn get(&self, table: &str, pk: &str, sk: &str) -> Result<Option<Vec<u8>>, TableError> {
        self.read("get", |items| Ok(items.get((table, pk, sk))?.map(|value| value.value().to_vec())))
    }

    fn commit(&self, writes: Vec<Write>) -> Result<(), TableError> {
        writes.iter().try_for_each(check_size)?;
        if writes.is_empty() {
            return Ok(());
        }
        self.write("commit", |items| {
            let failed = |error: redb::StorageError| fault("commit", error.into());
            // All conditions come before the first write: they ask about the time before this commit.
            for write in writes.iter().filter(|write| write.condition != Condition::Always) {
                let present = items.get((&*write.table, &*write.pk, &*write.sk)).map_err(failed)?.is_some();
                if present != (write.condition == Condition::Present) {
                    return Err(condition_failed(write, present));
                }
            }
            for (index, write) in writes.into_iter().enumerate() {
                if index % WRITES_BETWEEN_YIELDS == 0 {
                    std::thread::yield_now();
                }
                let key = (&*write.table, &*write.pk, &*write.sk);
                match &write.value {
                    Some(value) => drop(items.insert(key, value.as_slice()).map_err(failed)?),
                    None => drop(items.remove(key).map_err(failed)?),
                }
            }
            Ok(())
        })
    }

    fn range(&self, table: &str, pk: &str, range: SkRange<'_>, limit: usize) -> Result<Vec<Item>, TableError> {
        // The smallest string after `pk`: its partition begins where this one ends.
        let next_pk = format!("{pk}\0");
        let from = (table, pk, range.from);
        let to = range.to.map_or((table, next_pk.as_str(), ""), |to| (table, pk, to));
        if from >= to {
            return Ok(Vec::new());
        }
        self.read("range", |items| {
            let found = items.range(from..to)?;
            if range.descending { collect(found.rev(), limit) } else { collect(found, limit) }
        })
    }

    fn scan(&self, table: &str, after: Option<(&str, &str)>, limit: usize) -> Result<Vec<Item>, TableError> {
        let next_table = format!("{table}\0");
        let from = match after {
            Some((pk, sk)) => Bound::Excluded((table, pk, sk)),
            None => Bound::Included((table, "", "")),
        };
        self.read("scan", |items| collect(items.range((from, Bound::Excluded((next_table.as_str(), "", ""))))?, limit))
    }

    fn drop_table(&self, table: &str) -> Result<u64, TableError> {
        let next_table = format!("{table}\0");
        self.write("drop", |items| {
            let mut dropped = 0;
            let range = (table, "", "")..(next_table.as_str(), "", "");
            let all = items.retain_in(range, |_, _| {
                dropped += 1;
                false
            });
            all.map(|()| dropped).map_err(|error| fault("drop", error.into()))
        })
    }
}

type Found<'a> = Result<(redb::AccessGuard<'a, Key>, redb::AccessGuard<'a, &'static [u8]>), redb::StorageError>;

fn collect<'a>(found: impl Iterator<Item = Found<'a>>, limit: usize) -> Result<Vec<Item>, redb::StorageError> {
    let item = |found: Found<'a>| {
        let (key, value) = found?;
        let (_, pk, sk) = key.value();
        Ok(Item { pk: pk.to_owned(), sk: sk.to_owned(), value: value.value().to_vec() })
    };
    found.take(limit).map(item).collect()
}

fn check_size(write: &Write) -> Result<(), TableError> {
    let key = [&*write.table, &*write.pk, &*write.sk].iter().map(|part| part.len()).max().unwrap_or(0);
    let value = write.value.as_ref().map_or(0, Vec::len);
    if key <= KEY_BYTES_MAX && value <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "an item of table {:.200} has a key part of {key} bytes and a value of {value}; allowed are {KEY_BYTES_MAX} and \
         {VALUE_BYTES_MAX}",
        write.table
    );
    Err(TableError::new(TableErrorKind::TooLarge, "commit", message))
}

fn condition_failed(write: &Write, present: bool) -> TableError {
    let found = if present { "is there already" } else { "is not there" };
    let message = format!("item {} / {} of table {} {found}; nothing was written", write.pk, write.sk, write.table);
    TableError::new(TableErrorKind::ConditionFailed, "commit", message)
}

fn fault(operation: &'static str, error: redb::Error) -> TableError {
    let (kind, message) = match &error {
        redb::Error::Corrupted(what) => (
            TableErrorKind::Damaged,
            format!("the table file is damaged: {what}. Stop kilter and restore it from a backup"),
        ),
        redb::Error::Io(io) if io.kind() == io::ErrorKind::InvalidData => (
            TableErrorKind::Damaged,
            format!("the table file is damaged: {io}. Stop kilter and restore it from a backup"),
        ),
        redb::Error::DatabaseAlreadyOpen => {
            (TableErrorKind::Io, "another process has the table file open; stop that one first".to_owned())
        }
        redb::Error::PreviousIo => {
            (TableErrorKind::Io, "the disk has failed before. Fix the disk, then restart kilter".to_owned())
        }
        other => (TableErrorKind::Io, format!("{other}. Check the disk (is it full?), then restart kilter")),
    };
    TableError { kind, operation, message, source: Some(Arc::new(error)) }
}
