//! The scorer: one plain thread that reads every tenant's stream from its checkpoint, scores, learns and commits.

use crate::{
    checkpoint::{Checkpoint, CheckpointError, Counts, Progress, Snapshot},
    live::Live,
    logs::FunctionLog,
    record::{Commit, OUTBOX, archive_key, archive_partition, json, row_key},
    thing::ThingState,
};
use kilter_core::{
    Offset, Record, RecordKind, ShardId, StreamName, TenantId, ThingName, Timestamp,
    ports::{
        clock::Clock,
        stream::{Bounds, ReadLimit, Stream, StreamErrorKind},
        table::{Table, Write},
    },
};
use kilter_detect::ScorerConfig;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Records of one shard in one commit: bounds the transaction's size and the latency of the others.
const BATCH: ReadLimit = ReadLimit { records: 2_000, bytes: 4 << 20 };
/// A commit costs two syncs of the disk; more than some twenty a second help nobody.
const COMMIT_INTERVAL: Duration = Duration::from_millis(40);
/// A thing's state is written after this many of its records: what a restart has to learn again, per thing.
const SNAPSHOT_RECORDS: u32 = 256;
/// States written in one commit. Together with [`SNAPSHOT_RECORDS`] it bounds how much the disk writes.
const SNAPSHOT_BYTES: usize = 4 << 20;
/// How often silent things are looked for, and the longest sleep.
const TICK: Duration = Duration::from_secs(1);

/// What an operator has configured for a thing.
pub type ConfigFor = dyn Fn(&TenantId, &ThingName) -> ScorerConfig + Send + Sync;

/// What the scorer works with.
pub struct ScorerPorts {
    pub stream: Arc<dyn Stream>,
    pub table: Arc<dyn Table>,
    pub clock: Arc<dyn Clock>,
    pub config_for: Arc<ConfigFor>,
    /// Whether the tenant has a results table; asked for every record, so it must be quick.
    pub keeps_rows: Arc<dyn Fn(&TenantId) -> bool + Send + Sync>,
    pub live: Live,
    /// Held for reading during a round, for writing while a tenant is removed.
    pub gate: Arc<RwLock<()>>,
    /// Woken when an alert waits in the outbox.
    pub alerts: Arc<tokio::sync::Notify>,
    pub health: Arc<Health>,
    pub log: FunctionLog,
}

/// What is wrong with the scorer, by shard; empty when all is well.
#[derive(Debug, Default)]
pub struct Health(Mutex<BTreeMap<String, String>>);

impl Health {
    pub fn problems(&self) -> Vec<String> {
        self.0.lock().expect("no holder of the health lock panics").values().cloned().collect()
    }
    /// Answers whether that is news: a problem that stays is logged once.
    pub fn set(&self, of: &str, problem: String) -> bool {
        let mut problems = self.0.lock().expect("no holder of the health lock panics");
        problems.insert(of.to_owned(), problem.clone()) != Some(problem)
    }
    pub fn clear(&self, of: &str) {
        self.0.lock().expect("no holder of the health lock panics").remove(of);
    }
}

pub struct Scorer {
    ports: ScorerPorts,
    outbox: Arc<str>,
    started: Timestamp,
    shards: BTreeMap<(StreamName, ShardId), Shard>,
}

struct Shard {
    tenant: TenantId,
    results: Arc<str>,
    scoring: Arc<str>,
    archive_pk: String,
    progress: Progress,
    next: Offset,
    /// Records before it have their results committed: they are only learned again.
    committed: Offset,
    things: HashMap<ThingName, Resident>,
    failed: bool,
}

struct Resident {
    state: ThingState,
    counts: Counts,
    counts_changed: bool,
    /// The stored snapshot has seen every record of the thing before it.
    as_of: Offset,
    /// First record that the stored snapshot has not seen.
    dirty_from: Option<Offset>,
    dirty_records: u32,
}

/// The tenant whose pipeline a stream feeds (contract §3).
pub fn tenant_of(stream: &StreamName) -> Option<TenantId> {
    stream.as_str().strip_prefix("anomaly-stream-").and_then(|name| TenantId::new(name).ok())
}

impl Scorer {
    pub fn new(ports: ScorerPorts) -> Self {
        let started = ports.clock.now();
        Self { ports, outbox: OUTBOX.into(), started, shards: BTreeMap::new() }
    }

    /// Scores until `stop`, then commits every state so that the next start has nothing to learn again.
    pub fn run(mut self, stop: &AtomicBool) {
        let mut seen = 0;
        let mut last_tick = Instant::now();
        while !stop.load(Ordering::Acquire) {
            let began = Instant::now();
            let records = self.round(false);
            if last_tick.elapsed() >= TICK {
                last_tick = Instant::now();
                self.look_for_silence();
                self.measure();
                self.ports.log.write(self.ports.clock.now());
            }
            if records == 0 {
                seen = self.ports.stream.wait(seen, TICK);
            } else if records < BATCH.records {
                std::thread::sleep(COMMIT_INTERVAL.saturating_sub(began.elapsed()));
            }
        }
        self.round(true);
        self.ports.log.write(self.ports.clock.now());
    }

    /// Reads, scores and commits one batch of every shard; answers how many records that were.
    fn round(&mut self, last: bool) -> usize {
        let gate = self.ports.gate.clone();
        let _round = gate.read().expect("no holder of the gate panics");
        self.find_shards();
        let watched = self.ports.live.watched();
        let mut commit = Commit::default();
        let mut records = 0;
        let mut newest = None;
        for ((stream, id), shard) in self.shards.iter_mut().filter(|(_, shard)| !shard.failed) {
            let began = Instant::now();
            match shard.round(stream, *id, &self.ports, &self.outbox, &mut commit, watched, last) {
                Ok((count, arrival)) => {
                    records += count;
                    self.ports.log.note(&shard.tenant, count as u64, began.elapsed());
                    newest = newest.max(arrival);
                }
                Err(error) => fail(&self.ports.health, shard, stream, *id, &error),
            }
        }
        if !commit.is_empty() {
            self.write(commit, newest);
        }
        records
    }

    /// An operator must act before scoring can go on: results that are not committed are scored again at the next start.
    fn write(&mut self, commit: Commit, newest: Option<Timestamp>) {
        match commit.write(&*self.ports.table) {
            Ok((events, alerts)) => {
                events.into_iter().for_each(|event| self.ports.live.send(event));
                if alerts {
                    self.ports.alerts.notify_one();
                }
                if let Some(arrival) = newest {
                    let delay = self.ports.clock.now().seconds_since(arrival).max(0.0);
                    metrics::histogram!("kilter_score_delay_seconds").record(delay);
                }
            }
            Err(error) => {
                tracing::error!(%error, "results could not be committed: scoring stops until the server is restarted");
                self.ports.health.set("scorer", format!("results could not be committed: {error}"));
                self.shards.values_mut().for_each(|shard| shard.failed = true);
            }
        }
    }

    fn find_shards(&mut self) {
        let streams = match self.ports.stream.list() {
            Ok(streams) => streams,
            Err(error) => {
                tracing::error!(%error, "streams could not be listed");
                return;
            }
        };
        let mut known: BTreeMap<(StreamName, ShardId), Shard> = BTreeMap::new();
        for (stream, shards) in streams {
            let Some(tenant) = tenant_of(&stream) else { continue };
            for id in (0..shards).map(ShardId) {
                let key = (stream.clone(), id);
                // A stream that ends before what was read of it, or begins after it, is another one of the same name.
                let within = |b: Bounds, shard: &Shard| (b.first..=b.next).contains(&shard.next);
                let same = |shard: &Shard| self.ports.stream.bounds(&stream, id).is_ok_and(|b| within(b, shard));
                let shard = match self.shards.remove(&key).filter(same) {
                    Some(shard) => Ok(shard),
                    None => Shard::open(&*self.ports.table, &*self.ports.stream, &tenant, &stream, id),
                };
                match shard {
                    Ok(shard) => drop(known.insert(key, shard)),
                    Err(error) => {
                        let problem = format!("{stream} cannot be scored: {error}");
                        if self.ports.health.set(&format!("{stream}/{}", id.0), problem) {
                            tracing::error!(%stream, shard = id.0, %error, "the scorer cannot open a shard");
                        }
                    }
                }
            }
        }
        self.shards = known;
    }

    fn look_for_silence(&mut self) {
        let gate = self.ports.gate.clone();
        let _round = gate.read().expect("no holder of the gate panics");
        let now = self.ports.clock.now();
        let mut commit = Commit::default();
        for ((stream, id), shard) in self.shards.iter_mut().filter(|(_, shard)| !shard.failed) {
            // Who still has records waiting is not silent.
            if !self.ports.stream.bounds(stream, *id).is_ok_and(|bounds| bounds.next == shard.next) {
                continue;
            }
            let (results, progress, next) = (&shard.results, &shard.progress, shard.next);
            for (thing, resident) in &mut shard.things {
                if let Some(change) = resident.state.check_silence(now, self.started) {
                    commit.change(results, &self.outbox, change, now);
                    // With the episode goes the state that has it open: after a crash it must not be forgotten.
                    resident.as_of = next;
                    commit.push(resident.snapshot(progress, thing));
                }
            }
        }
        if !commit.is_empty() {
            self.write(commit, None);
        }
    }

    fn measure(&self) {
        let residents = || self.shards.values().flat_map(|shard| shard.things.values());
        let sum = |size: fn(&ThingState) -> usize| residents().map(|r| size(&r.state)).sum::<usize>() as f64;
        metrics::gauge!("kilter_score_things").set(residents().count() as f64);
        metrics::gauge!("kilter_score_signals").set(sum(ThingState::signals));
        metrics::gauge!("kilter_score_state_bytes").set(sum(ThingState::memory_bytes));
        let waiting: u64 = self
            .shards
            .iter()
            .filter_map(|((stream, id), shard)| {
                let bounds = self.ports.stream.bounds(stream, *id).ok()?;
                Some(bounds.next.0.saturating_sub(shard.next.0))
            })
            .sum();
        metrics::gauge!("kilter_score_waiting_records").set(waiting as f64);
    }
}

fn fail(health: &Health, shard: &mut Shard, stream: &StreamName, id: ShardId, error: &CheckpointError) {
    shard.failed = true;
    tracing::error!(%stream, shard = id.0, %error, "scoring of the shard stops until the server is restarted");
    health.set(&format!("{stream}/{}", id.0), format!("{stream} is not scored any more: {error}"));
}

impl Resident {
    fn snapshot(&mut self, progress: &Progress, thing: &ThingName) -> Write {
        self.dirty_from = None;
        self.dirty_records = 0;
        progress.write_snapshot(thing, &Snapshot { as_of: self.as_of, state: self.state.snapshot() })
    }
}

impl Shard {
    fn open(
        table: &dyn Table,
        stream: &dyn Stream,
        tenant: &TenantId,
        name: &StreamName,
        id: ShardId,
    ) -> Result<Self, CheckpointError> {
        let progress = Progress::of(name, id);
        let Checkpoint { next, relearn_from } = progress.checkpoint(table)?;
        let first = stream.bounds(name, id)?.first;
        if next < first {
            tracing::error!(stream = %name, shard = id.0, from = next.0, to = first.0, "records were deleted before they were scored");
        }
        Ok(Self {
            tenant: tenant.clone(),
            results: tenant.table().into(),
            scoring: crate::checkpoint::table_of(name).into(),
            archive_pk: archive_partition(progress.partition()),
            progress,
            next: relearn_from.max(first),
            committed: next,
            things: HashMap::new(),
            failed: false,
        })
    }

    /// One batch; answers the number of records and the newest arrival among them.
    #[expect(clippy::too_many_arguments, reason = "the scorer's own parts, borrowed apart")]
    fn round(
        &mut self,
        stream: &StreamName,
        id: ShardId,
        ports: &ScorerPorts,
        outbox: &Arc<str>,
        commit: &mut Commit,
        watched: bool,
        last: bool,
    ) -> Result<(usize, Option<Timestamp>), CheckpointError> {
        let records = match ports.stream.read(stream, id, self.next, BATCH) {
            Ok(records) => records,
            // Deleted since the list was made: the next round does not see it.
            Err(error) if error.kind == StreamErrorKind::NotFound => return Ok((0, None)),
            Err(error) => return Err(error.into()),
        };
        if records.is_empty() && !last {
            return Ok((0, None));
        }
        let newest = records.last().map(|r| r.record.arrival);
        let count = records.len();
        for record in records {
            self.next = record.offset.next();
            let emit = record.offset >= self.committed;
            self.take(id, &record, ports, emit.then_some((&mut *commit, outbox)), watched)?;
        }
        if self.next >= self.committed {
            self.committed = self.next;
            self.checkpoint(commit, last);
        }
        metrics::counter!("kilter_score_records_total").increment(count as u64);
        Ok((count, newest))
    }

    fn take(
        &mut self,
        id: ShardId,
        record: &Record,
        ports: &ScorerPorts,
        emit: Option<(&mut Commit, &Arc<str>)>,
        watched: bool,
    ) -> Result<(), CheckpointError> {
        let thing = &record.record.thing;
        if !self.things.contains_key(thing) {
            let resident = self.load(thing, ports)?;
            self.things.insert(thing.clone(), resident);
        }
        let resident = self.things.get_mut(thing).expect("the thing was loaded just above");
        if record.offset < resident.as_of {
            return Ok(());
        }
        resident.as_of = record.offset.next();
        resident.dirty_from.get_or_insert(record.offset);
        resident.dirty_records += 1;
        if record.record.kind != RecordKind::Telemetry {
            if emit.is_some() {
                resident.count(record, thing, |counts| counts.rejected += 1);
            }
            return Ok(());
        }
        let done = resident.state.process(id, record);
        let Some((commit, outbox)) = emit else { return Ok(()) };
        resident.count(
            record,
            thing,
            |counts| if done.rows.is_empty() { counts.late += 1 } else { counts.scored += 1 },
        );
        metrics::counter!("kilter_score_readings_total").increment(done.rows.len() as u64);
        metrics::counter!("kilter_score_late_readings_total").increment(done.late_readings);
        metrics::counter!("kilter_score_unscored_signals_total").increment(done.unscored_signals);
        for change in done.changes {
            commit.change(&self.results, outbox, change, record.record.arrival);
        }
        let kept = (ports.keeps_rows)(&self.tenant);
        for (index, row) in done.rows.into_iter().enumerate() {
            // The lake takes a row from the table; where there is none, the row waits for the lake by itself.
            let waits = if kept { format!("{}\0{}", row.thing, row_key(&row)).into_bytes() } else { json(&row) };
            let key = archive_key(record.offset, index);
            commit.push(Write::put(&self.scoring, self.archive_pk.as_str(), key, waits));
            commit.row(&self.tenant, kept.then_some(&self.results), row, watched);
        }
        Ok(())
    }

    fn load(&self, thing: &ThingName, ports: &ScorerPorts) -> Result<Resident, CheckpointError> {
        let config = (ports.config_for)(&self.tenant, thing);
        let stored = self.progress.snapshot(&*ports.table, thing)?;
        let (state, as_of) = match stored {
            None => (ThingState::new(self.tenant.clone(), thing.clone(), config), Offset(0)),
            Some(Snapshot { as_of, state }) => {
                match ThingState::restore(self.tenant.clone(), thing.clone(), config.clone(), &state) {
                    Ok(state) => (state, as_of),
                    Err(error) => {
                        tracing::warn!(%thing, %error, "the thing's detectors start afresh");
                        (ThingState::new(self.tenant.clone(), thing.clone(), config), as_of)
                    }
                }
            }
        };
        let counts = self.progress.counts(&*ports.table, thing)?;
        Ok(Resident { state, counts, counts_changed: false, as_of, dirty_from: None, dirty_records: 0 })
    }

    /// The checkpoint, the counts that changed, and the states that are due.
    fn checkpoint(&mut self, commit: &mut Commit, all: bool) {
        for (thing, resident) in &mut self.things {
            if std::mem::take(&mut resident.counts_changed) {
                commit.push(self.progress.write_counts(thing, &resident.counts));
            }
        }
        let mut due: Vec<(Offset, ThingName)> = self
            .things
            .iter()
            .filter(|(_, r)| all || r.dirty_records >= SNAPSHOT_RECORDS)
            .filter_map(|(thing, r)| r.dirty_from.map(|from| (from, thing.clone())))
            .collect();
        due.sort();
        let mut bytes = 0;
        for (_, thing) in due {
            if bytes > SNAPSHOT_BYTES && !all {
                break;
            }
            if let Some(resident) = self.things.get_mut(&thing) {
                let write = resident.snapshot(&self.progress, &thing);
                bytes += write.value.as_ref().map_or(0, Vec::len);
                commit.push(write);
            }
        }
        let relearn_from = self.things.values().filter_map(|r| r.dirty_from).min().unwrap_or(self.next);
        commit.push(self.progress.write_checkpoint(&Checkpoint { next: self.next, relearn_from }));
    }
}

impl Resident {
    /// Counts a record, and checks that the thing's own number follows the last one.
    fn count(&mut self, record: &Record, thing: &ThingName, add: impl FnOnce(&mut Counts)) {
        let expected = self.counts.received + 1;
        if record.record.thing_sequence != expected {
            metrics::counter!("kilter_ledger_gaps_total").increment(1);
            tracing::error!(%thing, offset = record.offset.0, expected, found = record.record.thing_sequence, "the ledger has a gap");
        }
        self.counts.received = record.record.thing_sequence;
        add(&mut self.counts);
        self.counts_changed = true;
    }
}

#[cfg(test)]
mod tests;
