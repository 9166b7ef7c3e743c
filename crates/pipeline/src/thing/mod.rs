//! One thing's part of the scoring: what is late, what is scored, what is learned. Pure: a record in, rows and
//! episodes out; the same records give the same answers and the same state, whatever happened in between.

mod clocks;
mod judge;
mod timeline;
mod told;
mod waveforms;

use crate::{
    decode::{self, Decoded},
    episodes::{Change, Silence},
};
use clocks::Arrivals;
use judge::{Judge, Judged, Origin, StoredJudge, Who};
use kilter_core::{Reading, Record, ScoredReading, ShardId, TenantId, ThingName, Timestamp, ports::table::TableError};
use kilter_detect::{ScorerConfig, StateError, ThingScorer, vibration::Vibration};
use serde::{Deserialize, Serialize};
use timeline::{Entry, Place, StoredTimeline, Timeline, What};
use told::{Amendments, Cause, Tellings};

pub use timeline::{Horizon, MarkWrites};

/// Version of [`Stored`]'s layout.
const STATE_VERSION: u8 = 2;
/// A thing is silent after this many of its usual intervals, but not sooner than the floor.
const SILENT_INTERVALS: f64 = 20.0;
const SILENT_SECONDS_MIN: f64 = 15.0;
/// Before this many messages nobody knows how often the thing usually speaks.
const SILENCE_MESSAGES_MIN: u64 = 30;

pub struct ThingState {
    who: Who,
    judge: Judge,
    arrivals: Arrivals,
    timeline: Timeline,
    told: Tellings,
    vibration: Vibration,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u8,
    judge: StoredJudge,
    arrivals: Arrivals,
    timeline: StoredTimeline,
    told: Tellings,
    vibration: Vibration,
}

/// What became of one record.
#[derive(Debug, Default)]
pub struct Processed {
    /// Of its own readings.
    pub rows: Vec<ScoredReading>,
    /// Of readings that were scored before, and differently.
    pub corrected: Vec<ScoredReading>,
    pub changes: Vec<Change>,
    pub late_readings: u64,
    /// Readings judged again, those that no row tells of included: what the record cost.
    pub rejudged: u64,
    pub unscored_signals: u64,
}

/// Answers a mark's bytes that are in the table.
pub type ReadMark<'a> = dyn Fn(u64) -> Result<Option<Vec<u8>>, TableError> + 'a;

impl ThingState {
    pub fn new(tenant: TenantId, thing: ThingName, config: ScorerConfig, horizon: Horizon) -> Self {
        let scorer = ThingScorer::new(config, seed(&thing));
        let who = Who { tenant, thing, budget: scorer.config().budget };
        let (timeline, told, vibration) = (Timeline::new(horizon), Tellings::default(), Vibration::default());
        Self { who, judge: Judge::new(scorer), arrivals: Arrivals::default(), timeline, told, vibration }
    }

    pub fn restore(
        tenant: TenantId,
        thing: ThingName,
        config: ScorerConfig,
        horizon: Horizon,
        bytes: &[u8],
    ) -> Result<Self, StateError> {
        match bytes.first() {
            Some(&STATE_VERSION) => {}
            found => return Err(StateError::Version { found: found.copied().unwrap_or(0), known: STATE_VERSION }),
        }
        let damaged = |what: &dyn std::fmt::Display| StateError::Damaged { what: format!("state of {thing}: {what}") };
        let stored: Stored = postcard::from_bytes(bytes).map_err(|e| damaged(&e))?;
        if !stored.vibration.is_sound() {
            return Err(damaged(&"what it knows of vibrations contradicts itself"));
        }
        let who = Who { tenant, thing, budget: config.budget };
        let judge = Judge::restore(config, stored.judge)?;
        let timeline = Timeline::restore(horizon, stored.timeline);
        let told = if timeline.is_off() { Tellings::default() } else { stored.told };
        Ok(Self { who, judge, arrivals: stored.arrivals, timeline, told, vibration: stored.vibration })
    }

    pub fn snapshot(&self) -> Vec<u8> {
        let stored = Stored {
            version: STATE_VERSION,
            judge: self.judge.store(),
            arrivals: self.arrivals.clone(),
            timeline: self.timeline.store(),
            told: self.told.clone(),
            vibration: self.vibration.clone(),
        };
        postcard::to_stdvec(&stored).expect("plain data with known lengths always serialises")
    }

    /// The marks to write and to delete in the commit that writes [`Self::snapshot`].
    pub fn take_marks(&mut self) -> MarkWrites {
        self.timeline.take_writes()
    }

    /// Marks that the snapshot relies on and does not hold.
    pub fn marks(&self) -> Vec<u64> {
        self.timeline.written().collect()
    }

    pub fn adopt_mark(&mut self, number: u64, bytes: Vec<u8>) {
        self.timeline.adopt(number, bytes);
    }

    pub fn memory_bytes(&self) -> usize {
        let judge = self.judge.scorer.memory_bytes() + self.judge.moments.memory_bytes();
        judge + self.timeline.memory_bytes() + self.vibration.memory_bytes()
    }

    pub fn scorer(&self) -> &ThingScorer {
        &self.judge.scorer
    }

    pub fn signals(&self) -> usize {
        self.judge.scorer.signals()
    }

    /// Scores a telemetry record, then learns it. Readings that come late are put in order, and what was said of those
    /// behind them is said anew, once for the record.
    ///
    /// # Errors
    /// Where a mark cannot be read; the state is of no use then.
    pub fn process(&mut self, shard: ShardId, record: &Record, read: &ReadMark<'_>) -> Result<Processed, TableError> {
        let mut done = Processed::default();
        let (arrival, offset) = (record.record.arrival, record.offset);
        self.arrivals.note(arrival, format!("{}:{}", shard.0, offset.0).into());
        // What the ingest let through decodes here too; a record from elsewhere that does not is late with all of it.
        let decoded = decode::decode(&record.record.data, arrival).unwrap_or_default();
        let mut readings: Vec<(usize, Decoded)> = decoded.into_iter().enumerate().collect();
        // Within a batch nothing is late.
        readings.sort_by_key(|(_, decoded)| decoded.reading.event_time);
        let cause = Cause { known: arrival, offset };
        let mut late = Vec::new();
        for (index, mut decoded) in readings {
            let reading = &mut decoded.reading;
            reading.event_time = self.judge.moments.moment(reading.event_time, arrival);
            let position = format!("{}:{}:{index}", shard.0, offset.0).into();
            if self.timeline.place(reading.event_time) == Place::Late {
                self.look(&decoded.waveforms, reading);
                match self.late(decoded.reading, arrival, position, &late) {
                    Some(entry) => late.push(entry),
                    None => done.late_readings += 1,
                }
            } else {
                self.judge_again(std::mem::take(&mut late), cause, read, &mut done)?;
                self.take_in(decoded, arrival, position, &mut done);
            }
        }
        self.judge_again(late, cause, read, &mut done)?;
        Ok(done)
    }

    /// Scores a reading at the end of all, then learns it; one that is behind is only counted.
    pub fn take_in(&mut self, decoded: Decoded, arrival: Timestamp, position: Box<str>, done: &mut Processed) {
        let Decoded { mut reading, waveforms } = decoded;
        let seen = self.look(&waveforms, &mut reading);
        let Some(reading) = self.judge.moments.fresh(reading) else {
            done.late_readings += 1;
            return;
        };
        if !self.timeline.is_off() {
            let place = self.timeline.newest().map_or(reading.event_time, |newest| newest.max(reading.event_time));
            let entry = self.timeline.entry(place, &reading, arrival, position.clone());
            self.push(entry);
        }
        let judged = self.judge.take(&self.who, reading, Origin { arrival, position, corrected: None });
        let Judged { row, changes, unscored_signals, learned } = judged;
        if learned {
            seen.iter().for_each(|(name, seen)| self.vibration.learn(name, seen));
        }
        done.rows.push(row);
        done.unscored_signals += u64::from(unscored_signals);
        for change in changes {
            self.note(&change);
            done.changes.push(change);
        }
    }

    fn push(&mut self, entry: Entry) {
        if self.timeline.newest().is_none() {
            self.told.carry(self.judge.episodes.open());
        }
        self.timeline.push(entry, &self.judge);
        self.told.forget(self.timeline.first());
    }

    fn note(&mut self, change: &Change) {
        if !self.timeline.is_off() {
            self.told.note(change, self.timeline.end());
        }
    }

    /// What of a late reading nobody has told yet; `None` where it is a duplicate.
    fn late(&self, mut reading: Reading, arrival: Timestamp, position: Box<str>, others: &[Entry]) -> Option<Entry> {
        let time = reading.event_time;
        let same = || others.iter().filter(|other| other.event_time == time);
        let known = |name: &str| self.timeline.knows(time, name) || same().any(|other| other.has(name));
        reading.signals.retain(|(name, _)| !known(name));
        (!reading.signals.is_empty()).then(|| self.timeline.entry(time, &reading, arrival, position))
    }

    /// Puts late readings where they belong and judges them and all that follow from a state before them.
    fn judge_again(
        &mut self,
        late: Vec<Entry>,
        cause: Cause,
        read: &ReadMark<'_>,
        done: &mut Processed,
    ) -> Result<(), TableError> {
        let Some(first) = late.first().map(|entry| self.timeline.before(entry.place)) else { return Ok(()) };
        let Some((mut judge, from)) = self.timeline.rewind(first, self.judge.scorer.config(), read)? else {
            let thing = &self.who.thing;
            tracing::error!(%thing, "the state to judge late readings from cannot be read: they are counted as late");
            done.late_readings += late.len() as u64;
            return Ok(());
        };
        let mut places = self.timeline.insert(late).into_iter().peekable();
        let mut now = Tellings::default();
        now.carry(judge.episodes.open());
        for at in from..self.timeline.end() {
            if at == first {
                self.timeline.keep_near(at, &judge);
            }
            self.timeline.mark_if_due(at, &judge);
            done.rejudged += 1;
            let entry = self.timeline.get_mut(at);
            let own = places.next_if_eq(&at).is_some();
            if at > first && !own && matches!(entry.what, What::Reading { .. }) {
                entry.corrected = Some(cause.correction(entry.corrected));
            }
            let (row, changes) = again(&mut judge, &self.who, entry);
            changes.iter().for_each(|change| now.note(change, at + 1));
            self.timeline.passed(at);
            if own {
                done.rows.extend(row);
            } else if at > first {
                done.corrected.extend(row);
            }
        }
        let Amendments { changes, open } = self.told.amend(now, from, self.timeline.end(), cause);
        if let Some((episode, alerted)) = open {
            judge.episodes.known_as(&episode, alerted);
        }
        done.changes.extend(changes);
        self.judge = judge;
        self.timeline.settle();
        self.told.forget(self.timeline.first());
        Ok(())
    }

    /// Opens an episode if nothing has come for too long. `since` is when listening began: what was missed before
    /// is not the thing's silence.
    pub fn check_silence(&mut self, now: Timestamp, since: Timestamp) -> Option<Change> {
        let (last_event, last_arrival) = (self.judge.moments.last_event?, self.arrivals.last?);
        let usual = self.arrivals.interval.max(self.judge.moments.event_interval);
        let limit_seconds = (usual * SILENT_INTERVALS).max(SILENT_SECONDS_MIN);
        if self.judge.scorer.rests(now)
            || self.arrivals.messages < SILENCE_MESSAGES_MIN
            || now.seconds_since(last_arrival.max(since)) <= limit_seconds
            || self.judge.episodes.open().is_some()
        {
            return None;
        }
        let mut entry = Entry {
            place: self.timeline.newest().unwrap_or(last_event),
            event_time: last_event,
            arrival: last_arrival,
            position: self.arrivals.last_position.clone(),
            corrected: None,
            what: What::Silence { now, limit_seconds },
        };
        if !self.timeline.is_off() {
            self.push(entry.clone());
        }
        let change = again(&mut self.judge, &self.who, &mut entry).1.pop();
        change.iter().for_each(|change| self.note(change));
        change
    }
}

/// Judges an entry of the timeline.
fn again(judge: &mut Judge, who: &Who, entry: &mut Entry) -> (Option<ScoredReading>, Vec<Change>) {
    if let What::Silence { now, limit_seconds } = entry.what {
        let silence = Silence {
            tenant: &who.tenant,
            thing: &who.thing,
            position: &entry.position,
            last_event: entry.event_time,
            last_arrival: entry.arrival,
            now,
            limit_seconds,
        };
        return (None, judge.episodes.silent(&silence, who.budget).into_iter().collect());
    }
    let Some(reading) = entry.reading() else { return (None, Vec::new()) };
    let (arrival, position, corrected) = (entry.arrival, entry.position.clone(), entry.corrected);
    let judged = judge.take(who, reading, Origin { arrival, position, corrected });
    (Some(judged.row), judged.changes)
}

/// The same for the same thing in every run and installation: FNV-1a.
fn seed(thing: &ThingName) -> u64 {
    thing
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod late_tests;
#[cfg(test)]
mod tests;
