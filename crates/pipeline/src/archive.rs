//! The way into the lake: an independent consumer that writes what the streams hold, and what the scorer has
//! committed, as Parquet. What it is about to write is noted first, so that a crash is answered by writing exactly
//! the same objects again.

use crate::{
    checkpoint::{CheckpointError, Progress, table_of},
    consumer::{Health, tenant_of},
    record::{ALERTS, EPISODES, archive_partition, is_row},
};
use kilter_core::{
    Offset, Record, ScoredReading, ShardId, StreamName, TenantId, Timestamp,
    ports::{
        clock::Clock,
        stream::{ReadLimit, Stream},
        table::{Item, SkRange, Table, Write},
    },
};
use kilter_lake::{Lake, LakeError};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Rows of one object: large enough to compress well, small enough to hold in memory.
const OBJECT_ROWS_MAX: usize = 20_000;
const OBJECT_BYTES_MAX: usize = 16 << 20;
/// Records read at once: between them, and between rows, whoever else wants the processor has it.
const READ_RECORDS_MAX: usize = 1_000;
const ROWS_BETWEEN_YIELDS: usize = 250;
/// Rows deleted in one commit: a part of it cannot be interrupted.
const DELETED_AT_ONCE: usize = 2_000;
const TICK: Duration = Duration::from_secs(1);
/// How often expired rows are looked for, how many are looked at together, and how often in a tick.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
const SWEEP_ITEMS: usize = 1_000;
const SWEEPS: usize = 5;

#[derive(Debug, Clone, Copy)]
pub struct ArchiveConfig {
    /// What has waited this long is written, however little it is.
    pub flush_age: Duration,
    /// Rows of the results table are deleted this long after their arrival.
    pub results_age: Duration,
}

pub struct Archive {
    pub stream: Arc<dyn Stream>,
    pub table: Arc<dyn Table>,
    pub lake: Arc<Lake>,
    pub clock: Arc<dyn Clock>,
    pub config: ArchiveConfig,
    /// Held for reading during a round, for writing while a tenant is removed.
    pub gate: Arc<RwLock<()>>,
    pub health: Arc<Health>,
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error("a row that waits for the lake cannot be read: {0}")]
    Row(String),
}

impl From<kilter_core::ports::table::TableError> for ArchiveError {
    fn from(error: kilter_core::ports::table::TableError) -> Self {
        Self::Checkpoint(error.into())
    }
}

impl From<kilter_core::ports::stream::StreamError> for ArchiveError {
    fn from(error: kilter_core::ports::stream::StreamError) -> Self {
        Self::Checkpoint(error.into())
    }
}

/// How far a shard's records are in the lake.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Archived {
    next: Offset,
    /// First and last offset of what is being written.
    intent: Option<(Offset, Offset)>,
}

/// Since when rows or records of a shard have been waiting, as this process saw it.
#[derive(Default)]
struct Waits {
    raw: Option<Instant>,
    scored: Option<Instant>,
}

struct Shard<'a> {
    tenant: &'a TenantId,
    stream: &'a StreamName,
    id: ShardId,
    table: Arc<str>,
    pk: String,
}

impl Archive {
    pub fn run(self, stop: &AtomicBool) {
        let mut waits: HashMap<(StreamName, ShardId), Waits> = HashMap::new();
        let mut sweep = Sweep::default();
        while !stop.load(Ordering::Acquire) {
            std::thread::sleep(TICK);
            self.round(&mut waits, false);
            (0..SWEEPS).for_each(|_| self.sweep(&mut sweep));
        }
        self.round(&mut waits, true);
    }

    fn round(&self, waits: &mut HashMap<(StreamName, ShardId), Waits>, flush: bool) {
        let _round = self.gate.read().expect("no holder of the gate panics");
        let streams = self.stream.list().unwrap_or_default();
        for (name, shards) in &streams {
            let Some(tenant) = tenant_of(name) else { continue };
            for id in (0..*shards).map(ShardId) {
                let waits = waits.entry((name.clone(), id)).or_default();
                let shard = Shard {
                    tenant: &tenant,
                    stream: name,
                    id,
                    table: table_of(name).into(),
                    pk: Progress::of(name, id).partition().to_owned(),
                };
                let of = format!("lake/{name}/{}", id.0);
                match self.shard(&shard, waits, flush) {
                    Ok(()) => self.health.clear(&of),
                    // Nothing is lost: the stream keeps what the lake does not have, and the next round tries again.
                    Err(error) => {
                        if self.health.set(&of, format!("the lake of {tenant} cannot be written: {error}")) {
                            let error = &error as &dyn std::error::Error;
                            tracing::error!(stream = %name, shard = id.0, error, "the lake cannot be written");
                        }
                    }
                }
            }
        }
    }

    fn shard(&self, shard: &Shard<'_>, waits: &mut Waits, flush: bool) -> Result<(), ArchiveError> {
        let raw_next = if self.lake.has_bucket(shard.tenant)? {
            let raw_next = self.raw(shard, waits, flush)?;
            self.scored(shard, waits, flush)?;
            raw_next
        } else {
            self.pass(shard)?
        };
        let needed = Progress::of(shard.stream, shard.id).checkpoint(&*self.table)?.relearn_from.min(raw_next);
        self.stream.retain_from(shard.stream, shard.id, needed)?;
        Ok(())
    }

    /// Whether what waits since `since` is due; starts the wait when there is something.
    fn due(&self, since: &mut Option<Instant>, waiting: bool, full: bool, flush: bool) -> bool {
        if !waiting {
            *since = None;
            return false;
        }
        let since = since.get_or_insert_with(Instant::now);
        full || flush || since.elapsed() >= self.config.flush_age
    }

    /// There is no bucket: what has come so far will not be archived, and is not held back from retention.
    fn pass(&self, shard: &Shard<'_>) -> Result<Offset, ArchiveError> {
        let next = self.stream.bounds(shard.stream, shard.id)?.next;
        let archived: Archived = self.load(shard, "raw")?;
        let partition = archive_partition(&shard.pk);
        let rows = self.table.range(&shard.table, &partition, SkRange::ALL, OBJECT_ROWS_MAX)?;
        let mut writes: Vec<Write> = rows.iter().map(|i| Write::delete(&shard.table, &i.pk, &i.sk)).collect();
        if archived.next < next || archived.intent.is_some() {
            writes.push(self.save(shard, "raw", &Archived { next, intent: None }));
        }
        let scored: Archived = self.load(shard, "scored")?;
        if scored.intent.is_some() {
            writes.push(self.save(shard, "scored", &Archived { next: scored.next, intent: None }));
        }
        if !writes.is_empty() {
            self.table.commit(writes)?;
        }
        Ok(next)
    }

    fn raw(&self, shard: &Shard<'_>, waits: &mut Waits, flush: bool) -> Result<Offset, ArchiveError> {
        let mut archived: Archived = self.load(shard, "raw")?;
        let bounds = self.stream.bounds(shard.stream, shard.id)?;
        archived.next = archived.next.max(bounds.first);
        loop {
            if let Some((first, last)) = archived.intent {
                let records = self.records(shard, first, last)?;
                self.lake.write_raw(shard.tenant, shard.id, &records)?;
                let_go(records);
                archived = Archived { next: last.next(), intent: None };
                self.table.commit(vec![self.save(shard, "raw", &archived)])?;
                waits.raw = None;
            }
            let count = bounds.next.0.saturating_sub(archived.next.0) as usize;
            if !self.due(&mut waits.raw, count > 0, count >= OBJECT_ROWS_MAX, flush) {
                return Ok(archived.next);
            }
            let Some(last) = self.last_of_object(shard, archived.next)? else { return Ok(archived.next) };
            archived.intent = Some((archived.next, last));
            self.table.commit(vec![self.save(shard, "raw", &archived)])?;
        }
    }

    /// The last record that goes into the object that begins at `first`.
    fn last_of_object(&self, shard: &Shard<'_>, first: Offset) -> Result<Option<Offset>, ArchiveError> {
        let (mut last, mut rows, mut bytes) = (None, 0, 0);
        while rows < OBJECT_ROWS_MAX && bytes < OBJECT_BYTES_MAX {
            std::thread::yield_now();
            let records = READ_RECORDS_MAX.min(OBJECT_ROWS_MAX - rows);
            let limit = ReadLimit { records, bytes: OBJECT_BYTES_MAX - bytes };
            let from = last.map_or(first, Offset::next);
            let part = self.stream.read(shard.stream, shard.id, from, limit)?;
            let Some(end) = part.last() else { break };
            last = Some(end.offset);
            rows += part.len();
            bytes += part.iter().map(|r| r.record.data.len()).sum::<usize>();
        }
        Ok(last)
    }

    fn records(&self, shard: &Shard<'_>, first: Offset, last: Offset) -> Result<Vec<Record>, ArchiveError> {
        let mut records: Vec<Record> = Vec::new();
        let mut next = first;
        while next <= last {
            std::thread::yield_now();
            let wanted = (last.0 - next.0 + 1) as usize;
            let limit = ReadLimit { records: wanted.min(READ_RECORDS_MAX), bytes: OBJECT_BYTES_MAX };
            let part = self.stream.read(shard.stream, shard.id, next, limit)?;
            let Some(end) = part.last() else { break };
            next = end.offset.next();
            records.extend(part);
        }
        Ok(records)
    }

    fn scored(&self, shard: &Shard<'_>, waits: &mut Waits, flush: bool) -> Result<(), ArchiveError> {
        let partition = archive_partition(&shard.pk);
        let mut archived: Archived = self.load(shard, "scored")?;
        loop {
            if archived.intent.is_none() {
                let records = self.records_spanned(shard, &partition)?;
                if !self.due(&mut waits.scored, records > 0, records >= OBJECT_ROWS_MAX as u64, flush) {
                    return Ok(());
                }
            }
            let to = archived.intent.map(|(_, last)| format!("{:020}", last.0 + 1));
            let range = SkRange { from: "", to: to.as_deref(), descending: false };
            let mut items = self.table.range(&shard.table, &partition, range, OBJECT_ROWS_MAX)?;
            let full = items.len() == OBJECT_ROWS_MAX;
            if archived.intent.is_none() {
                drop_partial_record(&mut items, full);
            }
            let (Some(first), Some(last)) = (items.first().and_then(offset_of), items.last().and_then(offset_of))
            else {
                // Nothing is left of what was intended: it was finished.
                archived.intent = None;
                return Ok(self.table.commit(vec![self.save(shard, "scored", &archived)])?);
            };
            if archived.intent.is_none() {
                archived.intent = Some((first, last));
                self.table.commit(vec![self.save(shard, "scored", &archived)])?;
            }
            let rows = self.rows(shard.tenant, &shard.table, &items)?;
            self.lake.write_scored(shard.tenant, shard.id, first, last, &rows)?;
            let_go(rows);
            // A crash leaves the rest of them and the intent: the lake knows them again, and they are deleted then.
            for items in items.chunks(DELETED_AT_ONCE) {
                self.table.commit(items.iter().map(|i| Write::delete(&shard.table, &i.pk, &i.sk)).collect())?;
            }
            let_go(items);
            archived = Archived { next: last.next(), intent: None };
            self.table.commit(vec![self.save(shard, "scored", &archived)])?;
            waits.scored = None;
            if !full {
                return Ok(());
            }
        }
    }

    /// How many records lie from the first row that waits to the last one. The rows themselves are many, and asked about
    /// every second.
    fn records_spanned(&self, shard: &Shard<'_>, partition: &str) -> Result<u64, ArchiveError> {
        let end = |descending| self.table.range(&shard.table, partition, SkRange { descending, ..SkRange::ALL }, 1);
        let (first, last) = (end(false)?, end(true)?);
        let ends = first.first().and_then(offset_of).zip(last.first().and_then(offset_of));
        Ok(ends.map_or(0, |(first, last)| last.0 - first.0 + 1))
    }

    fn rows(&self, tenant: &TenantId, scoring: &str, items: &[Item]) -> Result<Vec<ScoredReading>, ArchiveError> {
        let table = tenant.table();
        let mut rows = Vec::with_capacity(items.len());
        for item in items {
            std::thread::yield_now();
            if is_row(&item.value) {
                rows.push(row(&item.value, &item.sk)?);
                continue;
            }
            let reference = String::from_utf8_lossy(&item.value);
            let (thing, sk) = reference.split_once('\0').ok_or_else(|| ArchiveError::Row(item.sk.clone()))?;
            // A row whose time is over before it was archived has been deleted; the raw record is in the lake.
            let Some(bytes) = self.table.get(&table, thing, sk)? else { continue };
            let mut found = row(&bytes, sk)?;
            if found.corrected.is_some() {
                // Corrected since the list was made. The correction waits by itself, and left here what it replaced.
                let Some(first) = self.table.get(scoring, &item.pk, &item.sk)?.filter(|first| is_row(first)) else {
                    continue;
                };
                found = row(&first, &item.sk)?;
            }
            rows.push(found);
        }
        Ok(rows)
    }

    fn load(&self, shard: &Shard<'_>, what: &str) -> Result<Archived, ArchiveError> {
        let stored = self.table.get(&shard.table, &format!("{}/archived", shard.pk), what)?;
        match stored {
            None => Ok(Archived::default()),
            Some(bytes) => postcard::from_bytes(&bytes).map_err(|e| ArchiveError::Row(format!("{what} progress: {e}"))),
        }
    }

    fn save(&self, shard: &Shard<'_>, what: &str, archived: &Archived) -> Write {
        let value = postcard::to_stdvec(archived).expect("three numbers always serialise");
        Write::put(&shard.table, format!("{}/archived", shard.pk), what, value)
    }

    /// Deletes rows whose time is over, a page at a time.
    fn sweep(&self, sweep: &mut Sweep) {
        let _round = self.gate.read().expect("no holder of the gate panics");
        if sweep.tables.is_empty() {
            if sweep.finished.is_some_and(|at| at.elapsed() < SWEEP_INTERVAL) {
                return;
            }
            let streams = self.stream.list().unwrap_or_default();
            sweep.tables =
                streams.iter().filter_map(|(name, _)| tenant_of(name)).map(|tenant| tenant.table()).collect();
            sweep.finished = Some(Instant::now());
        }
        let Some(table) = sweep.tables.last().cloned() else { return };
        let oldest = self.clock.now().plus_seconds(-(self.config.results_age.as_secs() as i64));
        match self.sweep_page(&table, sweep.after.as_ref(), oldest) {
            Ok(Some(after)) => sweep.after = Some(after),
            Ok(None) => {
                sweep.after = None;
                sweep.tables.pop();
            }
            Err(error) => {
                tracing::warn!(%table, error = &error as &dyn std::error::Error, "expired rows could not be deleted");
                sweep.tables.clear();
            }
        }
    }

    fn sweep_page(
        &self,
        table: &str,
        after: Option<&(String, String)>,
        oldest: Timestamp,
    ) -> Result<Option<(String, String)>, ArchiveError> {
        #[derive(Deserialize)]
        struct Arrival {
            arrival: Timestamp,
        }
        let items = self.table.scan(table, after.map(|(pk, sk)| (pk.as_str(), sk.as_str())), SWEEP_ITEMS)?;
        let name: Arc<str> = table.into();
        let expired: Vec<Write> = items
            .iter()
            .filter(|item| item.pk != EPISODES && item.pk != ALERTS)
            .inspect(|_| std::thread::yield_now())
            .filter(|item| serde_json::from_slice::<Arrival>(&item.value).is_ok_and(|row| row.arrival < oldest))
            .map(|item| Write::delete(&name, &item.pk, &item.sk))
            .collect();
        if !expired.is_empty() {
            self.table.commit(expired)?;
        }
        Ok(items.last().filter(|_| items.len() == SWEEP_ITEMS).map(|last| (last.pk.clone(), last.sk.clone())))
    }
}

fn row(bytes: &[u8], sk: &str) -> Result<ScoredReading, ArchiveError> {
    serde_json::from_slice(bytes).map_err(|error| ArchiveError::Row(format!("{sk}: {error}")))
}

/// Where the search for expired rows stands.
#[derive(Default)]
struct Sweep {
    tables: Vec<String>,
    after: Option<(String, String)>,
    finished: Option<Instant>,
}

/// Frees an object's rows in portions: with all at once, others would wait tens of milliseconds for the processor.
fn let_go<T>(mut rows: Vec<T>) {
    while !rows.is_empty() {
        rows.truncate(rows.len().saturating_sub(ROWS_BETWEEN_YIELDS));
        std::thread::yield_now();
    }
}

fn offset_of(item: &Item) -> Option<Offset> {
    item.sk.split(':').next().and_then(|digits| digits.parse().ok()).map(Offset)
}

/// A page that is full may end within a record's readings: leave that record for the next object.
fn drop_partial_record(items: &mut Vec<Item>, full: bool) {
    let (first, last) = (items.first().and_then(offset_of), items.last().and_then(offset_of));
    if full && first != last {
        items.retain(|item| offset_of(item) != last);
    }
}

#[cfg(test)]
mod tests;
