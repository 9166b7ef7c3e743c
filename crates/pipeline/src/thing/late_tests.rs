//! Readings that come late within the horizon end in the answer of those that came in order.

use super::*;
use kilter_core::{AlertEvent, Episode, NewRecord, Offset, RecordKind};
use proptest::prelude::*;
use std::{cell::RefCell, collections::BTreeMap};

const T0: i64 = 1_700_000_000;

/// A thing's state with what is in the table of it, and what has been told by now.
struct Run {
    state: ThingState,
    marks: RefCell<BTreeMap<u64, Vec<u8>>>,
    horizon: Horizon,
    records: u64,
    rows: BTreeMap<(Timestamp, Box<str>), ScoredReading>,
    episodes: BTreeMap<Box<str>, Episode>,
    alerts: Vec<(AlertEvent, Episode)>,
    late: u64,
    rejudged: u64,
    written: usize,
}

fn names() -> (TenantId, ThingName) {
    (TenantId::new("t1").unwrap(), ThingName::new("pump1").unwrap())
}

impl Run {
    fn new(horizon: Horizon) -> Self {
        let (tenant, thing) = names();
        Self {
            state: ThingState::new(tenant, thing, ScorerConfig::default(), horizon),
            marks: RefCell::default(),
            horizon,
            records: 0,
            rows: BTreeMap::new(),
            episodes: BTreeMap::new(),
            alerts: Vec::new(),
            late: 0,
            rejudged: 0,
            written: 0,
        }
    }

    /// The next record of the thing.
    fn take(&mut self, payload: String) -> Processed {
        let offset = self.records;
        self.records += 1;
        let record = Record {
            offset: Offset(offset),
            record: NewRecord {
                kind: RecordKind::Telemetry,
                partition_key: "pump1".into(),
                hash_key: None,
                thing: names().1,
                thing_sequence: offset + 1,
                arrival: Timestamp::from_seconds(T0 + 10_000 + offset as i64),
                topic: "tenants/t1/devices/pump1/telemetry".into(),
                data: payload.into(),
            },
        };
        let read = |number: u64| Ok(self.marks.borrow().get(&number).cloned());
        let done = self.state.process(ShardId(0), &record, &read).unwrap();
        for row in done.rows.iter().chain(&done.corrected) {
            self.rows.insert((row.event_time, row.position.clone()), row.clone());
        }
        for change in &done.changes {
            self.episodes.insert(change.episode.id.clone(), change.episode.clone());
            self.alerts.extend(change.alert.map(|event| (event, change.episode.clone())));
        }
        self.late += done.late_readings;
        self.rejudged += done.rejudged;
        done
    }

    /// Writes the state, as a commit does.
    fn write(&mut self) -> Vec<u8> {
        let marks = self.state.take_marks();
        let bytes = self.state.snapshot();
        let kept = self.marks.get_mut();
        self.written += bytes.len() + marks.put.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        kept.extend(marks.put);
        marks.delete.iter().for_each(|number| drop(kept.remove(number).expect("only what was written is deleted")));
        bytes
    }

    /// Writes the state and goes on from what was written.
    fn restart(&mut self) {
        let bytes = self.write();
        let (tenant, thing) = names();
        self.state = ThingState::restore(tenant, thing, ScorerConfig::default(), self.horizon, &bytes).unwrap();
    }

    /// What was found, without where and when it became known.
    fn answer(&self) -> (Vec<ScoredReading>, Vec<Episode>) {
        let (position, arrival) = (Box::<str>::default(), Timestamp::default());
        let plain =
            |row: &ScoredReading| ScoredReading { position: position.clone(), arrival, corrected: None, ..row.clone() };
        let there = self.episodes.values().filter(|episode| episode.withdrawn.is_none());
        let named = |e: &Episode| Episode { id: position.clone(), known: arrival, corrected: None, ..e.clone() };
        let mut episodes: Vec<_> = there.map(named).collect();
        episodes.sort_by_key(|episode| episode.start);
        (self.rows.values().map(plain).collect(), episodes)
    }
}

fn values(second: i64) -> (f64, f64) {
    let wave = (second as f64 / 9.0).sin() + ((second * 7919) % 101) as f64 / 300.0;
    let fault = if (380..400).contains(&second) || (460..463).contains(&second) { 9.0 } else { 0.0 };
    (wave, 2.0 * wave + fault)
}

fn payload(second: i64) -> String {
    let (flow, power) = values(second);
    format!("{{\"ts\":{},\"flow\":{flow},\"power\":{power}}}", T0 + second)
}

const SECONDS: i64 = 600;

fn in_order(horizon: Horizon) -> Run {
    let mut run = Run::new(horizon);
    (0..SECONDS).for_each(|second| drop(run.take(payload(second))));
    run
}

#[test]
fn the_run_in_order_finds_the_faults_whether_or_not_there_is_a_horizon() {
    let (with, without) = (in_order(Horizon::default()), in_order(Horizon::NONE));
    assert_eq!(with.answer(), without.answer());
    assert!(!with.answer().1.is_empty());
    assert_eq!(with.rejudged, 0, "what comes in order costs nothing");
    assert_eq!(with.state.judge.to_bytes(), without.state.judge.to_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn any_order_within_the_horizon_gives_the_answer_of_the_right_one(
        delays in proptest::collection::vec(0i64..40, SECONDS as usize),
        batches in proptest::collection::vec(1usize..6, 1..40),
        restarts in proptest::collection::vec(0u64..SECONDS as u64, 0..6),
        seconds in prop_oneof![Just(45u32), Just(300)],
    ) {
        let horizon = Horizon { seconds, readings: 512 };
        let mut order: Vec<i64> = (0..SECONDS).collect();
        order.sort_by_key(|&second| second + delays[second as usize]);
        let mut run = Run::new(horizon);
        let mut sizes = batches.iter().cycle();
        let mut rest = &order[..];
        while !rest.is_empty() {
            let (batch, left) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            rest = left;
            let payloads: Vec<String> = batch.iter().map(|&second| payload(second)).collect();
            run.take(format!("[{}]", payloads.join(",")));
            if restarts.contains(&run.records) {
                run.restart();
            }
        }
        prop_assert_eq!(run.late, 0);
        let (found, expected) = (run.answer(), in_order(horizon).answer());
        for (found, expected) in found.0.iter().zip(&expected.0) {
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_late_reading_is_put_in_order_and_what_follows_says_so() {
    let mut run = Run::new(Horizon::default());
    (0..400).filter(|&second| second != 390).for_each(|second| drop(run.take(payload(second))));
    let before = run.rows.clone();
    let done = run.take(payload(390));
    assert_eq!((done.rows.len(), done.corrected.len(), done.late_readings), (1, 9, 0));
    assert_eq!(done.rows[0].event_time, Timestamp::from_seconds(T0 + 390));
    assert_eq!(done.rows[0].corrected, None);
    let known = Timestamp::from_seconds(T0 + 10_000 + 399);
    for row in &done.corrected {
        let corrected = row.corrected.unwrap();
        assert_eq!((corrected.revision, corrected.known, corrected.offset), (1, known, Offset(399)));
        let old = &before[&(row.event_time, row.position.clone())];
        assert_eq!((old.arrival, &old.values), (row.arrival, &row.values), "when it was first known is kept");
    }
    assert_eq!(run.take(payload(390)).late_readings, 1, "twice is late");
    let again = run.take(payload(391).replace("flow", "other").replace("power", "another"));
    assert_eq!(again.rows.len(), 1, "other signals of a known moment");
    let third = again.corrected.last().unwrap().corrected.unwrap();
    assert_eq!((third.revision, third.offset), (2, Offset(401)));
}

#[test]
fn beyond_the_horizon_is_late() {
    let mut run = Run::new(Horizon { seconds: 60, readings: 20 });
    (0..300).for_each(|second| drop(run.take(payload(second))));
    let half = |second: f64| format!("{{\"ts\":{},\"flow\":1,\"power\":2}}", T0 as f64 + second);
    assert_eq!(run.take(half(200.5)).late_readings, 1, "too long ago");
    assert_eq!(run.take(half(270.5)).late_readings, 1, "too many are newer");
    assert_eq!(run.take(half(290.5)).rows.len(), 1);
    let slow = run.take(format!("{{\"ts\":{},\"lab\":3}}", T0 + 5));
    assert_eq!(
        (slow.rows.len(), slow.corrected.len()),
        (1, 0),
        "the first value of its signal is scored where it came"
    );
    // It stays where it came when something else is put in order.
    assert_eq!(run.take(half(295.5)).corrected.len(), 5);
    assert_eq!(run.late, 2);
}

#[test]
fn an_alert_of_a_gap_that_was_none_is_withdrawn_and_told_once() {
    let mut run = Run::new(Horizon::default());
    let ordinary = |second: i64| format!("{{\"ts\":{},\"flow\":{}}}", T0 + second, (second % 7) as f64);
    (0..600).for_each(|second| drop(run.take(ordinary(second))));
    assert_eq!(run.alerts, []);
    // A minute is missing: it came another way, and slower.
    (660..690).for_each(|second| drop(run.take(ordinary(second))));
    let (event, told) = run.alerts[0].clone();
    assert_eq!((event, told.start), (AlertEvent::Opened, Timestamp::from_seconds(T0 + 660)));
    let batch: Vec<String> = (600..660).map(ordinary).collect();
    let done = run.take(format!("[{}]", batch.join(",")));
    assert_eq!((done.rows.len(), done.corrected.len()), (60, 30));
    let (event, episode) = run.alerts.last().unwrap();
    assert_eq!(episode.id, told.id);
    assert_eq!((*event, episode.withdrawn), (AlertEvent::Withdrawn, Some(Timestamp::from_seconds(T0 + 10_630))));
    let alert = crate::episodes::alert(done.changes.last().unwrap(), Timestamp::from_seconds(T0 + 10_630)).unwrap();
    assert!(alert.key.ends_with("/withdrawn-1"), "{}", alert.key);
    assert!(alert.summary.contains("withdrawn"), "{}", alert.summary);
    let told = run.alerts.len();
    (690..720).for_each(|second| drop(run.take(ordinary(second))));
    assert_eq!(run.alerts.len(), told, "told once");
    assert_eq!(run.answer().1, []);
}

#[test]
fn an_open_episode_is_amended_and_goes_on_under_its_name() {
    let mut run = Run::new(Horizon::default());
    let faulty =
        |second: i64| format!("{{\"ts\":{},\"flow\":{}}}", T0 + second, if second < 500 { second % 7 } else { 90 });
    (0..510).filter(|second| !(500..503).contains(second)).for_each(|second| drop(run.take(faulty(second))));
    let told = run.alerts.clone();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1.start, Timestamp::from_seconds(T0 + 503));
    let done = run.take(faulty(500));
    let change = done.changes.last().unwrap();
    assert_eq!((change.alert, change.moved_from), (Some(AlertEvent::Amended), Some(told[0].1.start)));
    assert_eq!((&change.episode.id, change.episode.start), (&told[0].1.id, Timestamp::from_seconds(T0 + 500)));
    assert_eq!(change.episode.known, told[0].1.known);
    // What comes in order goes on with it; a restart does not forget its name.
    run.restart();
    let goes_on = run.take(faulty(511));
    assert_eq!(goes_on.changes[0].episode.id, told[0].1.id);
    assert_eq!(goes_on.changes[0].episode.corrected.unwrap().revision, 1);
    // The end, and that it had not ended after all.
    (512..700).for_each(|second| drop(run.take(format!("{{\"ts\":{},\"flow\":{}}}", T0 + second, second % 7))));
    assert_eq!(run.alerts.last().unwrap().0, AlertEvent::Closed);
    assert_eq!(run.episodes.len(), 1);
}

#[test]
fn a_silence_stays_when_late_readings_come() {
    let mut run = Run::new(Horizon::default());
    (0..300).filter(|&second| second != 290).for_each(|second| drop(run.take(payload(second))));
    let now = Timestamp::from_seconds(T0 + 10_400);
    let silent = run.state.check_silence(now, Timestamp::from_seconds(T0)).unwrap();
    let done = run.take(payload(290));
    assert!(done.changes.iter().all(|change| change.episode.withdrawn.is_none()), "{:?}", done.changes);
    assert!(run.state.check_silence(now, Timestamp::from_seconds(T0)).is_none(), "told once");
    let ends: Vec<_> = (300..330).flat_map(|second| run.take(payload(second)).changes).collect();
    assert_eq!(
        ends.last().map(|change| (&change.episode.id, change.episode.end.is_some())),
        Some((&silent.episode.id, true))
    );
}

#[test]
fn what_is_kept_and_written_for_it_is_bounded() {
    let payload = |second: i64| {
        let signals: Vec<String> = (0..8).map(|n| format!("\"signal_{n}\":{}", (second * (n + 3)) % 97)).collect();
        format!("{{\"ts\":{},{}}}", T0 + second, signals.join(","))
    };
    let measure = |horizon: Horizon| {
        let mut run = Run::new(horizon);
        for second in 0..4_096 {
            run.take(payload(second));
            if second % 256 == 255 {
                run.write();
            }
        }
        (run.written / 4_096, run.state.memory_bytes(), run.marks.get_mut().len())
    };
    let (without, with) = (measure(Horizon::NONE), measure(Horizon::default()));
    let widest = measure(Horizon { seconds: Horizon::SECONDS_MAX, readings: Horizon::READINGS_MAX });
    println!("bytes written per reading, in memory, marks: {without:?} without, {with:?} with, {widest:?} widest");
    assert!(with.0 < 3 * without.0, "written");
    assert!(with.1 < without.1 + (200 << 10), "in memory");
    assert!(with.2 <= 5 && widest.2 <= 18, "marks");
}

#[test]
fn a_neighbour_of_the_last_late_reading_costs_little() {
    let mut run = Run::new(Horizon::default());
    let half = |second: i64| format!("{{\"ts\":{}.5,\"flow\":{},\"power\":1}}", T0 + second, second % 5);
    (0..500).for_each(|second| drop(run.take(payload(second))));
    run.take(half(400));
    let first = run.rejudged;
    for second in 401..420 {
        run.take(half(second));
    }
    // Behind each late reading there are at most a hundred others.
    assert!(run.rejudged - first <= 19 * 101, "{} and {}", first, run.rejudged - first);
    assert!(first <= 256 + 101);
}

#[test]
fn wide_readings_are_kept_within_bounds() {
    let mut run = Run::new(Horizon::default());
    for i in 0..600 {
        let fields: Vec<String> = (0..1_000).map(|field| format!("\"{i:04}x{field}\":1")).collect();
        run.take(format!("{{\"ts\":{},{}}}", T0 + i, fields.join(",")));
        if i % 100 == 99 {
            run.write();
        }
    }
    let (bytes, marks) = (run.state.memory_bytes(), run.marks.get_mut().len());
    assert!(bytes < 12 << 20, "{bytes}");
    assert!((1..=8).contains(&marks), "{marks}");
}
