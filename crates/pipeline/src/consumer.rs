//! The scorer: one plain thread that reads every tenant's stream from its checkpoint, scores, learns and commits.

mod shard;

use crate::{
    checkpoint::CheckpointError,
    live::Live,
    logs::FunctionLog,
    record::{Commit, OUTBOX},
    thing::{Horizon, ThingState},
};
use kilter_core::{
    ShardId, StreamName, TenantId, ThingName, Timestamp,
    ports::{
        clock::Clock,
        stream::{Bounds, ReadLimit, Stream, StreamView},
        table::Table,
    },
};
use kilter_detect::ScorerConfig;
use shard::Shard;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Records of one shard in one commit: bounds the transaction's size and the latency of the others.
const BATCH: ReadLimit = ReadLimit { records: 1_000, bytes: 4 << 20 };
/// A commit costs two syncs of the disk; more than some twenty a second help nobody.
const COMMIT_INTERVAL: Duration = Duration::from_millis(40);
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
    /// Within it, readings that come late are put in order.
    pub horizon: Horizon,
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
        let ready = self.ready();
        let ready = |key, shard: &Shard| !shard.failed && ready.contains(key);
        for (key, shard) in self.shards.iter_mut().filter(|(key, shard)| ready(key, shard)) {
            let (stream, id) = key;
            let began = Instant::now();
            // Handing over is work too, without a record.
            records += usize::from(shard.end == Some(shard.next) && !shard.drained);
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
        self.leave_ancestors();
        records
    }

    /// The shards whose parents have nothing left to do.
    fn ready(&self) -> BTreeSet<(StreamName, ShardId)> {
        let mut ready = BTreeSet::new();
        // A parent's number is smaller than its children's.
        for ((stream, id), shard) in &self.shards {
            let done = |parent: &ShardId| {
                let parent = (stream.clone(), *parent);
                ready.contains(&parent) && self.shards.get(&parent).is_some_and(|shard| shard.drained)
            };
            if shard.parents.iter().all(done) {
                ready.insert((stream.clone(), *id));
            }
        }
        ready
    }

    /// A thing is where its last record is: nobody else looks whether it is silent.
    fn leave_ancestors(&mut self) {
        let mut left = Vec::new();
        for ((stream, _), shard) in &mut self.shards {
            for thing in shard.arrived.drain(..) {
                left.extend(shard.ancestors.iter().map(|(id, _)| (stream.clone(), *id, thing.clone())));
            }
        }
        for (stream, id, thing) in left {
            if let Some(ancestor) = self.shards.get_mut(&(stream, id)) {
                ancestor.things.remove(&thing);
            }
        }
    }

    /// The shards where something waits, or in one that took over from them.
    fn behind(&self) -> BTreeSet<(StreamName, ShardId)> {
        let mut behind = BTreeSet::new();
        for (key, shard) in self.shards.iter().rev() {
            let (stream, id) = key;
            let all_read = self.ports.stream.bounds(stream, *id).is_ok_and(|bounds| bounds.next == shard.next);
            if !all_read || behind.contains(key) {
                behind.insert(key.clone());
                behind.extend(shard.parents.iter().map(|parent| (stream.clone(), *parent)));
            }
        }
        behind
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
        for (stream, _) in streams {
            let Some(tenant) = tenant_of(&stream) else { continue };
            // Deleted since the list was made: the next round does not see it.
            let Ok(StreamView { shards, .. }) = self.ports.stream.describe(&stream) else { continue };
            for view in shards.all() {
                let key = (stream.clone(), view.id);
                // A stream that ends before what was read of it, or begins after it, is another one of the same name.
                let within = |b: Bounds, shard: &Shard| (b.first..=b.next).contains(&shard.next);
                let same = |shard: &Shard| self.ports.stream.bounds(&stream, view.id).is_ok_and(|b| within(b, shard));
                let shard = match self.shards.remove(&key).filter(same) {
                    Some(mut shard) => {
                        shard.end = view.closed.map(|(end, _)| end);
                        Ok(shard)
                    }
                    None => Shard::open(&*self.ports.table, &*self.ports.stream, &tenant, &stream, &shards, view),
                };
                match shard {
                    Ok(shard) => drop(known.insert(key, shard)),
                    Err(error) => {
                        let (id, problem) = (view.id.0, format!("{stream} cannot be scored: {error}"));
                        if self.ports.health.set(&format!("{stream}/{id}"), problem) {
                            tracing::error!(%stream, shard = id, %error, "the scorer cannot open a shard");
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
        // Who still has records waiting is not silent.
        let behind = self.behind();
        for (_, shard) in self.shards.iter_mut().filter(|(key, shard)| !shard.failed && !behind.contains(key)) {
            let (results, progress, next) = (&shard.results, &shard.progress, shard.next);
            for (thing, resident) in &mut shard.things {
                if let Some(change) = resident.state.check_silence(now, self.started) {
                    commit.change(results, &self.outbox, &change, now);
                    // With the episode goes the state that has it open: after a crash it must not be forgotten.
                    resident.as_of = next;
                    resident.snapshot(progress, thing, now, &mut commit);
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

#[cfg(test)]
pub(crate) mod tests;
