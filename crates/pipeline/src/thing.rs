//! One thing's part of the scoring: what is late, what is scored, what is learned. Pure: a record in, rows and
//! episodes out; the same records give the same answers and the same state, whatever happened in between.

use crate::{
    decode::{self, Decoded},
    episodes::{Change, Episodes, Silence},
};
use kilter_core::{AlertBudget, Reading, Record, ScoredReading, ShardId, TenantId, ThingName, Timestamp, Verdict};
use kilter_detect::{
    Learn, Sample, ScorerConfig, StateError, ThingScorer,
    vibration::{Seen, Vibration, Waveform},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of [`Stored`]'s layout, with [`Vibration`] behind it.
const STATE_VERSION: u8 = 2;
/// The layout without what is known of vibrations; read all the same.
const STATE_VERSION_STILL: u8 = 1;
/// Signals whose last time is remembered; beyond that the longest unseen is forgotten, and with it only the
/// knowledge that an older reading of it would be late.
const LAST_TIMES_MAX: usize = 1_024;
/// Values shown in a row of the results table; the record itself is kept whole in the lake.
const ROW_VALUES_MAX: usize = 256;
/// A thing is silent after this many of its usual intervals, but not sooner than the floor.
const SILENT_INTERVALS: f64 = 20.0;
const SILENT_SECONDS_MIN: f64 = 15.0;
/// Before this many messages nobody knows how often the thing usually speaks.
const SILENCE_MESSAGES_MIN: u64 = 30;
/// Weight of the newest interval in the running mean.
const INTERVAL_WEIGHT: f64 = 0.05;

pub struct ThingState {
    tenant: TenantId,
    thing: ThingName,
    budget: AlertBudget,
    scorer: ThingScorer,
    clocks: Clocks,
    episodes: Episodes,
    vibration: Vibration,
}

/// What is remembered of time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Clocks {
    /// Last event time of each signal.
    last: BTreeMap<Box<str>, Timestamp>,
    last_event: Option<Timestamp>,
    last_arrival: Option<Timestamp>,
    messages: u64,
    /// Shard and offset of the last record.
    last_position: Box<str>,
    /// Running means, in seconds; 0 while unknown.
    event_interval: f64,
    arrival_interval: f64,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u8,
    scorer: Vec<u8>,
    clocks: Clocks,
    episodes: Episodes,
}

/// What became of one record.
#[derive(Debug, Default)]
pub struct Processed {
    pub rows: Vec<ScoredReading>,
    pub changes: Vec<Change>,
    pub late_readings: u64,
    pub unscored_signals: u64,
}

impl ThingState {
    pub fn new(tenant: TenantId, thing: ThingName, config: ScorerConfig) -> Self {
        let budget = config.budget;
        let scorer = ThingScorer::new(config, seed(&thing));
        let (clocks, episodes, vibration) = (Clocks::default(), Episodes::default(), Vibration::default());
        Self { tenant, thing, budget, scorer, clocks, episodes, vibration }
    }

    pub fn restore(tenant: TenantId, thing: ThingName, config: ScorerConfig, bytes: &[u8]) -> Result<Self, StateError> {
        let damaged = |what: &dyn std::fmt::Display| StateError::Damaged { what: format!("state of {thing}: {what}") };
        let (stored, rest) = postcard::take_from_bytes::<Stored>(bytes).map_err(|e| damaged(&e))?;
        let vibration = match stored.version {
            STATE_VERSION_STILL => Vibration::default(),
            STATE_VERSION => postcard::from_bytes(rest).map_err(|e| damaged(&e))?,
            found => return Err(StateError::Version { found, known: STATE_VERSION }),
        };
        if !vibration.is_sound() {
            return Err(damaged(&"what it knows of vibrations contradicts itself"));
        }
        let budget = config.budget;
        let scorer = ThingScorer::restore(config, &stored.scorer)?;
        let Stored { clocks, episodes, .. } = stored;
        Ok(Self { tenant, thing, budget, scorer, clocks, episodes, vibration })
    }

    pub fn snapshot(&self) -> Vec<u8> {
        let stored = Stored {
            version: STATE_VERSION,
            scorer: self.scorer.snapshot(),
            clocks: self.clocks.clone(),
            episodes: self.episodes.clone(),
        };
        postcard::to_stdvec(&(stored, &self.vibration)).expect("plain data with known lengths always serialises")
    }

    pub fn memory_bytes(&self) -> usize {
        self.scorer.memory_bytes() + self.clocks.last.len() * 64 + self.vibration.memory_bytes()
    }

    pub fn scorer(&self) -> &ThingScorer {
        &self.scorer
    }

    pub fn signals(&self) -> usize {
        self.scorer.signals()
    }

    /// Scores a telemetry record, then learns it.
    pub fn process(&mut self, shard: ShardId, record: &Record) -> Processed {
        let mut done = Processed::default();
        let arrival = record.record.arrival;
        self.clocks.arrived(arrival);
        self.clocks.last_position = format!("{}:{}", shard.0, record.offset.0).into();
        // What the ingest let through decodes here too; a record from elsewhere that does not is late with all of it.
        let readings = decode::decode(&record.record.data, arrival).unwrap_or_default();
        for (index, mut decoded) in readings.into_iter().enumerate() {
            decoded.reading.event_time = self.clocks.moment(decoded.reading.event_time, arrival);
            let position = format!("{}:{}:{index}", shard.0, record.offset.0);
            self.take_in(decoded, arrival, position.into(), &mut done);
        }
        done
    }

    /// Scores a reading, then learns it; one that is late is only counted.
    pub fn take_in(&mut self, decoded: Decoded, arrival: Timestamp, position: Box<str>, done: &mut Processed) {
        let Decoded { mut reading, waveforms } = decoded;
        let seen = self.look(&waveforms, &mut reading);
        match self.clocks.fresh(reading) {
            Some(reading) => self.score(reading, &seen, arrival, position, done),
            None => done.late_readings += 1,
        }
    }

    /// Adds what the waveforms show to the reading's signals. What the device says itself counts.
    fn look<'a>(&self, waveforms: &'a [(Box<str>, Waveform)], reading: &mut Reading) -> Vec<(&'a str, Seen)> {
        if waveforms.is_empty() {
            return Vec::new();
        }
        let bearings = &self.scorer.config().bearings;
        let sent = reading.signals.len();
        let seen: Vec<(&str, Seen)> = waveforms
            .iter()
            .map(|(name, waveform)| {
                let turning = bearings.get(name).and_then(|b| Vibration::turning(b, &reading.signals[..sent]));
                (&**name, self.vibration.look(name, waveform, turning))
            })
            .collect();
        for (name, seen) in &seen {
            reading.signals.extend(seen.features.iter().map(|(of, value)| (format!("{name}.{of}").into(), *value)));
        }
        // Stable, so that of equal names the one that was sent stands first and stays.
        reading.signals.sort_by(|a, b| a.0.cmp(&b.0));
        reading.signals.dedup_by(|later, kept| later.0 == kept.0);
        seen
    }

    fn score(
        &mut self,
        reading: Reading,
        seen: &[(&str, Seen)],
        arrival: Timestamp,
        position: Box<str>,
        done: &mut Processed,
    ) {
        let sample = Sample { event_time: reading.event_time, signals: &reading.signals };
        let outcome = self.scorer.score(&sample);
        let flagged = outcome.verdict == Verdict::Anomalous;
        let learn = if flagged && self.episodes.holds() { Learn::Hold } else { Learn::Full };
        self.scorer.learn(&sample, &outcome, learn);
        if learn == Learn::Full && outcome.verdict != Verdict::Paused {
            seen.iter().for_each(|(name, seen)| self.vibration.learn(name, seen));
        }
        done.unscored_signals += u64::from(outcome.unscored_signals);
        let row = ScoredReading {
            thing: self.thing.clone(),
            event_time: reading.event_time,
            arrival,
            position,
            verdict: outcome.verdict,
            score: outcome.score,
            threshold: outcome.threshold,
            values: reading.signals.into_iter().take(ROW_VALUES_MAX).collect(),
            causes: outcome.causes,
        };
        done.changes.extend(self.episodes.observe(&self.tenant, &row, self.clocks.event_interval, self.budget));
        done.rows.push(row);
    }

    /// Opens an episode if nothing has come for too long. `since` is when listening began: what was missed before
    /// is not the thing's silence.
    pub fn check_silence(&mut self, now: Timestamp, since: Timestamp) -> Option<Change> {
        let (last_event, last_arrival) = (self.clocks.last_event?, self.clocks.last_arrival?);
        let usual = self.clocks.arrival_interval.max(self.clocks.event_interval);
        let limit_seconds = (usual * SILENT_INTERVALS).max(SILENT_SECONDS_MIN);
        if self.scorer.rests(now)
            || self.clocks.messages < SILENCE_MESSAGES_MIN
            || now.seconds_since(last_arrival.max(since)) <= limit_seconds
        {
            return None;
        }
        let position = self.clocks.last_position.clone();
        let silence = Silence {
            tenant: &self.tenant,
            thing: &self.thing,
            position: &position,
            last_event,
            last_arrival,
            now,
            limit_seconds,
        };
        self.episodes.silent(&silence, self.budget)
    }
}

impl Clocks {
    fn arrived(&mut self, arrival: Timestamp) {
        self.messages += 1;
        if let Some(last) = self.last_arrival {
            mean(&mut self.arrival_interval, arrival.seconds_since(last));
        }
        self.last_arrival = Some(self.last_arrival.map_or(arrival, |last| last.max(arrival)));
    }

    /// When a reading happened. One without a time of its own has that of its arrival, in milliseconds where a rule's
    /// `timestamp()` gave it; several of one moment happened one after the other, as they came, and none is a duplicate.
    fn moment(&self, time: Timestamp, arrival: Timestamp) -> Timestamp {
        if time != arrival && time != decode::to_millis(arrival) {
            return time;
        }
        let last = self.last_event.map_or(i64::MIN, Timestamp::as_nanos);
        match last.saturating_sub(time.as_nanos()) {
            0..decode::MILLI_NANOS => Timestamp::from_nanos(last + 1),
            _ => time,
        }
    }

    /// Keeps the signals that are newer than what was last seen of them; `None` when none is.
    fn fresh(&mut self, mut reading: Reading) -> Option<Reading> {
        let time = reading.event_time;
        reading.signals.retain(|(name, _)| self.last.get(name).is_none_or(|last| *last < time));
        if reading.signals.is_empty() {
            return None;
        }
        for (name, _) in &reading.signals {
            if let Some(last) = self.last.get_mut(name) {
                *last = time;
            } else {
                self.make_room();
                self.last.insert(name.clone(), time);
            }
        }
        if let Some(last) = self.last_event.filter(|last| time > *last) {
            mean(&mut self.event_interval, time.seconds_since(last));
        }
        self.last_event = Some(self.last_event.map_or(time, |last| last.max(time)));
        Some(reading)
    }

    fn make_room(&mut self) {
        if self.last.len() >= LAST_TIMES_MAX {
            let oldest =
                self.last.iter().min_by_key(|(name, time)| (**time, (*name).clone())).map(|(name, _)| name.clone());
            if let Some(name) = oldest {
                self.last.remove(&name);
            }
        }
    }
}

fn mean(mean: &mut f64, value: f64) {
    let value = value.max(0.0);
    if *mean == 0.0 {
        *mean = value;
    } else {
        // One long pause must not make a silent thing look usual: it counts as at most ten intervals.
        *mean += INTERVAL_WEIGHT * (value.min(*mean * 10.0) - *mean);
    }
}

/// The same for the same thing in every run and installation: FNV-1a.
fn seed(thing: &ThingName) -> u64 {
    thing
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_core::{NewRecord, Offset, RecordKind};

    const T0: i64 = 1_700_000_000;

    fn state() -> ThingState {
        ThingState::new(TenantId::new("t1").unwrap(), ThingName::new("pump1").unwrap(), ScorerConfig::default())
    }

    fn record(offset: u64, payload: String) -> Record {
        Record {
            offset: Offset(offset),
            record: NewRecord {
                kind: RecordKind::Telemetry,
                partition_key: "pump1".into(),
                hash_key: None,
                thing: ThingName::new("pump1").unwrap(),
                thing_sequence: offset + 1,
                arrival: Timestamp::from_seconds(T0 + offset as i64),
                topic: "tenants/t1/devices/pump1/telemetry".into(),
                data: payload.into(),
            },
        }
    }

    fn process(state: &mut ThingState, offset: u64, payload: &str) -> (usize, u64) {
        let done = state.process(ShardId(0), &record(offset, payload.to_owned()));
        (done.rows.len(), done.late_readings)
    }

    #[test]
    fn late_and_double_readings_are_not_scored() {
        let mut state = state();
        assert_eq!(process(&mut state, 0, &format!("{{\"ts\":{T0},\"a\":1}}")), (1, 0));
        assert_eq!(process(&mut state, 1, &format!("{{\"ts\":{T0},\"a\":1}}")), (0, 1), "duplicate");
        assert_eq!(process(&mut state, 2, &format!("{{\"ts\":{},\"a\":1}}", T0 - 5)), (0, 1), "out of order");
        assert_eq!(
            process(&mut state, 3, &format!("{{\"ts\":{T0},\"b\":1}}")),
            (1, 0),
            "another signal of the same moment"
        );
        assert_eq!(process(&mut state, 4, &format!("{{\"ts\":{},\"a\":2}}", T0 + 1)), (1, 0));
        let batch = format!("[{{\"ts\":{},\"a\":3}},{{\"ts\":{},\"a\":3}}]", T0, T0 + 2);
        assert_eq!(process(&mut state, 5, &batch), (1, 1));
    }

    #[test]
    fn readings_without_a_time_of_their_own_are_all_scored_however_close_they_come() {
        let mut state = state();
        let arrival = |nanos: i64| Timestamp::from_nanos(T0 * 1_000_000_000 + nanos);
        let mut came = |offset: u64, nanos: i64, payload: &str| {
            let mut record = record(offset, payload.to_owned());
            record.record.arrival = arrival(nanos);
            let done = state.process(ShardId(0), &record);
            let times: Vec<i64> = done.rows.iter().map(|row| row.event_time.as_nanos() - T0 * 1_000_000_000).collect();
            (times, done.late_readings)
        };
        let by_rule = format!("{{\"ts\":{},\"a\":1}}", T0 * 1_000);
        assert_eq!(came(0, 300, &by_rule), (vec![0], 0), "the rule's milliseconds");
        assert_eq!(came(1, 301, &by_rule), (vec![1], 0), "the same millisecond");
        assert_eq!(came(2, 900_000, &by_rule), (vec![2], 0));
        assert_eq!(came(3, 900_001, "{\"a\":1}"), (vec![900_001], 0), "the arrival's nanoseconds");
        assert_eq!(came(4, 900_001, "[{\"a\":1},{\"a\":2},{\"a\":3}]"), (vec![900_002, 900_003, 900_004], 0));
        assert_eq!(came(5, 900_002, "{\"a\":1}"), (vec![900_005], 0), "behind the batch's last");
        // A clock that is set back is no such moment, and a time of its own is what it says.
        assert_eq!(came(6, -5_000_000, "{\"a\":1}"), (vec![], 1));
        assert_eq!(came(7, 2_000_000, &format!("{{\"ts\":{T0},\"a\":1}}")), (vec![], 1));
    }

    #[test]
    fn a_restored_state_goes_on_exactly_where_it_was() {
        let payload = |i: u64| format!("{{\"ts\":{},\"a\":{},\"b\":{}}}", T0 + i as i64, i % 7, (i * i) % 11);
        let mut whole = state();
        for i in 0..700 {
            whole.process(ShardId(0), &record(i, payload(i)));
        }
        let bytes = whole.snapshot();
        let config = ScorerConfig::default();
        let mut restored = ThingState::restore(whole.tenant.clone(), whole.thing.clone(), config, &bytes).unwrap();
        for i in 700..1_000 {
            let (a, b) = (
                whole.process(ShardId(0), &record(i, payload(i))),
                restored.process(ShardId(0), &record(i, payload(i))),
            );
            assert_eq!(a.rows, b.rows);
            assert_eq!(a.changes, b.changes);
        }
        assert_eq!(whole.snapshot(), restored.snapshot());
    }

    /// A waveform of `count` samples, as a payload.
    fn shaken(i: u64, count: u64) -> String {
        let sample = |k: u64| ((k * k + i * 31) % 17).to_string();
        let samples: Vec<String> = (0..count).map(sample).collect();
        format!("{{\"v\":{{\"rate_hz\":1000,\"rms\":5,\"samples\":[{}]}}}}", samples.join(","))
    }

    #[test]
    fn what_a_waveform_shows_is_signals_and_is_restored() {
        let mut whole = state();
        for i in 0..60 {
            whole.process(ShardId(0), &record(i, shaken(i, 128)));
        }
        let bytes = whole.snapshot();
        let (tenant, thing) = (whole.tenant.clone(), whole.thing.clone());
        let mut restored = ThingState::restore(tenant, thing, ScorerConfig::default(), &bytes).unwrap();
        let next = record(60, shaken(60, 128));
        let (a, b) = (whole.process(ShardId(0), &next), restored.process(ShardId(0), &next));
        assert_eq!(a.rows, b.rows);
        assert_eq!(whole.snapshot(), restored.snapshot());
        let value = |name: &str| a.rows[0].values.iter().find(|(n, _)| ***n == *name).map(|(_, value)| *value);
        assert_eq!(value("v.rms"), Some(5.0), "what the device says counts");
        assert!(value("v.kurtosis").is_some() && value("v.envelope_line_db").is_some(), "{:?}", a.rows[0].values);
        assert_eq!(value("v.rate_hz"), None);
    }

    #[test]
    fn states_without_vibrations_are_read_and_unknown_ones_refused() {
        let mut whole = state();
        for i in 0..300 {
            process(&mut whole, i, &format!("{{\"a\":{}}}", i % 5));
        }
        let restore = |bytes: &[u8]| {
            ThingState::restore(whole.tenant.clone(), whole.thing.clone(), ScorerConfig::default(), bytes)
        };
        let mut old = whole.snapshot();
        assert_eq!(old.pop(), Some(0), "no vibrations");
        old[0] = STATE_VERSION_STILL;
        assert_eq!(restore(&old).unwrap().snapshot(), whole.snapshot());
        old[0] = 9;
        assert_eq!(restore(&old).err(), Some(StateError::Version { found: 9, known: STATE_VERSION }));
    }

    #[test]
    fn a_device_that_names_a_new_field_every_time_stays_small() {
        let mut state = state();
        for i in 0..5_000u64 {
            state.process(ShardId(0), &record(i, format!("{{\"a\":{},\"f{i}\":1}}", i % 5)));
        }
        assert!(state.clocks.last.len() <= LAST_TIMES_MAX);
        assert!(state.signals() <= kilter_detect::SIGNALS_MAX);
        assert!(state.memory_bytes() < 4 << 20, "{}", state.memory_bytes());
    }

    #[test]
    fn silence_is_noticed_once_and_ends_with_the_next_readings() {
        let mut state = state();
        for i in 0..50 {
            process(&mut state, i, &format!("{{\"a\":{}}}", i % 5));
        }
        let at = |second: i64| Timestamp::from_seconds(T0 + second);
        assert!(state.check_silence(at(60), at(0)).is_none());
        assert!(state.check_silence(at(75), at(70)).is_none(), "we were not listening");
        let change = state.check_silence(at(80), at(0)).unwrap();
        assert_eq!(&*change.episode.causes[0].detector, "silence");
        assert!(state.check_silence(at(90), at(0)).is_none(), "told once");
        let done: Vec<Change> = (100..130)
            .flat_map(|i| state.process(ShardId(0), &record(i, format!("{{\"a\":{}}}", i % 5))).changes)
            .collect();
        assert!(done.last().unwrap().episode.end.is_some());
    }
}
