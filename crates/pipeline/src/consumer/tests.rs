//! A crash does not change the answer: whatever is scored in however many pieces, with however many restarts, ends in
//! the same rows, episodes, alerts, counts and states.

use super::*;
use crate::checkpoint::{Counts, Progress};
use kilter_core::{
    NewRecord, RecordKind, Reshard,
    ports::{
        clock::SystemClock,
        stream::StreamAdmin,
        table::{Item, SkRange, TableError, TableErrorKind, Write},
    },
};
use kilter_testkit::{FakeClock, MemoryStream, MemoryTable};
use proptest::prelude::*;
use std::sync::{
    LazyLock,
    atomic::{AtomicI64, AtomicU32},
};

const T0: i64 = 1_700_000_000;
const RECORDS: u64 = 1_500;

/// Loses power at one of its commits: before or after it has become durable.
pub(crate) struct Unlucky {
    pub table: Arc<MemoryTable>,
    pub commits_left: AtomicU32,
    pub durable: bool,
}

impl Table for Unlucky {
    fn get(&self, table: &str, pk: &str, sk: &str) -> Result<Option<Vec<u8>>, TableError> {
        self.table.get(table, pk, sk)
    }
    fn commit(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let spend = |left: u32| Some(left.saturating_sub(1));
        let left = self.commits_left.fetch_update(Ordering::AcqRel, Ordering::Acquire, spend);
        let left = left.expect("one is always taken where there is one");
        if left > 1 {
            return self.table.commit(writes);
        }
        if self.durable && left == 1 {
            self.table.commit(writes)?;
        }
        Err(TableError::new(TableErrorKind::Io, "commit", "the power is gone"))
    }
    fn range(&self, table: &str, pk: &str, range: SkRange<'_>, limit: usize) -> Result<Vec<Item>, TableError> {
        self.table.range(table, pk, range, limit)
    }
    fn scan(&self, table: &str, after: Option<(&str, &str)>, limit: usize) -> Result<Vec<Item>, TableError> {
        self.table.scan(table, after, limit)
    }
    fn drop_table(&self, table: &str) -> Result<u64, TableError> {
        self.table.drop_table(table)
    }
}

/// A second later every time that it is asked: states become due.
struct Hurried(AtomicI64);

impl Clock for Hurried {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.fetch_add(1, Ordering::AcqRel))
    }
}

fn scorer(stream: &Arc<MemoryStream>, table: Arc<dyn Table>) -> Scorer {
    let now = SystemClock.now().as_nanos() / kilter_core::NANOS_PER_SECOND;
    scorer_at(stream, table, Arc::new(Hurried(AtomicI64::new(now))))
}

fn scorer_at(stream: &Arc<MemoryStream>, table: Arc<dyn Table>, clock: Arc<dyn Clock>) -> Scorer {
    Scorer::new(ScorerPorts {
        stream: stream.clone(),
        table,
        clock,
        config_for: Arc::new(|_, _| ScorerConfig::default()),
        horizon: Horizon::default(),
        keeps_rows: Arc::new(|_| true),
        live: Live::default(),
        gate: Arc::default(),
        alerts: Arc::default(),
        health: Arc::default(),
        log: FunctionLog::default(),
    })
}

/// Three things with correlated signals, faults, rejected records, some that come too late, and many that come late
/// within the horizon: two of twenty change places, and in a stretch ten come backwards.
fn record(n: u64) -> NewRecord {
    let thing = ThingName::new(["pump1", "pump2", "pump3"][(n % 3) as usize]).unwrap();
    let came = n / 3;
    let i = match came % 20 {
        _ if (400..450).contains(&came) => came - came % 10 + 9 - came % 10,
        3 => came + 6,
        9 => came - 6,
        _ => came,
    };
    let wave = (i as f64 / 9.0).sin() + ((i * 7919) % 101) as f64 / 300.0;
    let fault = if (380..400).contains(&i) || (460..463).contains(&i) { 9.0 } else { 0.0 };
    let time = if i % 50 == 49 { T0 + i as i64 - 5 } else { T0 + i as i64 };
    let (kind, data) = if n.is_multiple_of(97) {
        (RecordKind::Rejected("not JSON".into()), "?".to_owned())
    } else {
        (RecordKind::Telemetry, format!("{{\"ts\":{time},\"flow\":{},\"power\":{}}}", wave, 2.0 * wave + fault))
    };
    NewRecord {
        kind,
        partition_key: thing.as_str().into(),
        hash_key: None,
        thing,
        thing_sequence: came + 1,
        arrival: Timestamp::from_seconds(T0 + came as i64),
        topic: "tenants/t1/devices/x/telemetry".into(),
        data: data.into(),
    }
}

fn stream_name() -> StreamName {
    TenantId::new("t1").unwrap().stream()
}

pub(crate) fn append(stream: &MemoryStream, range: std::ops::Range<u64>) {
    let appended = stream.append(&stream_name(), range.map(record).collect());
    futures::executor::block_on(appended).unwrap();
}

pub(crate) fn stream() -> Arc<MemoryStream> {
    let stream = Arc::new(MemoryStream::new());
    stream.create(&stream_name(), 2).unwrap();
    stream
}

pub(crate) fn finish(stream: &Arc<MemoryStream>, table: &Arc<MemoryTable>) -> Vec<Item> {
    let mut last = scorer(stream, table.clone());
    while last.round(false) > 0 {}
    last.round(true);
    let tables = ["anomaly-results-t1", "scoring-anomaly-stream-t1", OUTBOX];
    tables.iter().flat_map(|name| table.scan(name, None, usize::MAX).unwrap()).collect()
}

fn uninterrupted() -> &'static [Item] {
    static ITEMS: LazyLock<Vec<Item>> = LazyLock::new(|| {
        let (stream, table) = (stream(), Arc::new(MemoryTable::new()));
        append(&stream, 0..RECORDS);
        finish(&stream, &table)
    });
    &ITEMS
}

#[test]
fn the_uninterrupted_run_finds_the_faults() {
    let items = uninterrupted();
    let episodes = items.iter().filter(|item| item.pk == crate::record::EPISODES).count();
    assert!((3..=12).contains(&episodes), "{episodes} episodes");
    let rows = items.iter().filter(|item| item.pk.starts_with("pump")).count();
    assert!(rows > 1_300, "{rows} rows");
    assert!(items.iter().any(|item| item.pk == "alert"), "an alert waits in the outbox");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn restarts_do_not_change_the_answer(
        pieces in proptest::collection::vec((1u64..400, 0u8..4, 1u32..4, any::<bool>()), 1..12),
    ) {
        let (stream, table) = (stream(), Arc::new(MemoryTable::new()));
        let mut done = 0;
        let mut current = scorer(&stream, table.clone());
        for (length, end, commits, durable) in pieces {
            let to = RECORDS.min(done + length);
            append(&stream, done..to);
            done = to;
            current.round(false);
            match end {
                0 => {}
                // Killed between two commits.
                1 => current = scorer(&stream, table.clone()),
                // Stopped in order.
                2 => {
                    current.round(true);
                    current = scorer(&stream, table.clone());
                }
                // Killed within a commit.
                _ => {
                    let unlucky = Unlucky { table: table.clone(), commits_left: AtomicU32::new(commits), durable };
                    let mut doomed = scorer(&stream, Arc::new(unlucky));
                    let half = RECORDS.min(done + length / 2);
                    append(&stream, done..half);
                    done = half;
                    doomed.round(false);
                    doomed.round(true);
                    current = scorer(&stream, table.clone());
                }
            }
        }
        append(&stream, done..RECORDS);
        let (found, expected) = (finish(&stream, &table), uninterrupted());
        for (found, expected) in found.iter().zip(expected) {
            prop_assert_eq!((&found.pk, &found.sk), (&expected.pk, &expected.sk));
            prop_assert_eq!(&found.value, &expected.value, "{} {}", found.pk, found.sk);
        }
        prop_assert_eq!(found.len(), expected.len());
    }
}

/// What was found, without where: positions name shards, and so do states and counts.
fn without_places(items: &[Item]) -> Vec<(String, serde_json::Value)> {
    let results = items.iter().filter(|item| item.pk.starts_with("pump") || item.pk.starts_with('#'));
    let plain = |item: &Item| {
        let mut value: serde_json::Value = serde_json::from_slice(&item.value).unwrap();
        let mut inner = &mut value;
        if item.pk == crate::record::ALERTS {
            inner.as_object_mut().unwrap().remove("key");
            inner = &mut inner["episode"];
        }
        let inner = inner.as_object_mut().unwrap();
        if let Some(corrected) = inner.get_mut("corrected").and_then(|corrected| corrected.as_object_mut()) {
            corrected.remove("offset").unwrap();
        }
        inner.remove("position").or_else(|| inner.remove("id")).unwrap();
        (item.pk.clone(), value)
    };
    let mut plain: Vec<_> = results.map(plain).collect();
    plain.sort_by_key(|(pk, value)| (pk.clone(), value.to_string()));
    plain
}

/// The sums of a thing's counts over all shards, and the last number.
fn counts(table: &MemoryTable, shards: u32) -> BTreeMap<ThingName, Counts> {
    let mut all = BTreeMap::<ThingName, Counts>::new();
    for shard in (0..shards).map(ShardId) {
        for (thing, counts) in Progress::of(&stream_name(), shard).all_counts(table).unwrap() {
            let sum = all.entry(thing).or_default();
            sum.received = sum.received.max(counts.received);
            sum.rejected += counts.rejected;
            sum.scored += counts.scored;
            sum.late += counts.late;
        }
    }
    all
}

/// The next reshard of those that the test makes up: a split of an open shard, or a merge of two neighbours.
fn reshard(stream: &MemoryStream, choice: u32) {
    let shards = stream.describe(&stream_name()).unwrap().shards;
    let open: Vec<_> = shards.open().collect();
    let chosen = open[choice as usize % open.len()];
    let next = open.iter().find(|shard| Some(shard.hash_keys.0) == chosen.hash_keys.1.checked_add(1));
    let step = match next {
        Some(next) if choice.is_multiple_of(3) => Reshard::Merge { shard: chosen.id, adjacent: next.id },
        _ => {
            let (first, last) = chosen.hash_keys;
            Reshard::Split { shard: chosen.id, at: first + (last - first) / 2 + 1 }
        }
    };
    stream.reshard(&stream_name(), &[step]).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn reshards_do_not_change_the_answer(
        pieces in proptest::collection::vec((1u64..400, any::<u32>(), 0u32..3, any::<bool>()), 1..8),
    ) {
        let (stream, table) = (stream(), Arc::new(MemoryTable::new()));
        let mut done = 0;
        let mut current = scorer(&stream, table.clone());
        for (length, choice, rounds, killed) in pieces {
            let to = RECORDS.min(done + length);
            append(&stream, done..to);
            done = to;
            reshard(&stream, choice);
            for _ in 0..rounds {
                current.round(false);
            }
            if killed {
                current = scorer(&stream, table.clone());
            }
        }
        append(&stream, done..RECORDS);
        let found = without_places(&finish(&stream, &table));
        let (other_stream, other) = (self::stream(), Arc::new(MemoryTable::new()));
        append(&other_stream, 0..RECORDS);
        let expected = without_places(&finish(&other_stream, &other));
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(found.len(), expected.len());
        let shards = stream.describe(&stream_name()).unwrap().shards.all().len() as u32;
        prop_assert_eq!(counts(&table, shards), counts(&other, 2));
    }
}

#[test]
fn a_thing_that_falls_silent_at_a_split_is_told_once() {
    let (stream, table) = (stream(), Arc::new(MemoryTable::new()));
    let mut scorer = scorer(&stream, table.clone());
    append(&stream, 0..300);
    for choice in [1, 2] {
        reshard(&stream, choice);
    }
    while scorer.round(false) > 0 {}
    // The records are of years ago, and listening began before them.
    scorer.started = Timestamp::from_seconds(T0);
    scorer.look_for_silence();
    scorer.look_for_silence();
    let silent = |table: &MemoryTable| {
        let items = table.scan("anomaly-results-t1", None, usize::MAX).unwrap();
        let text = |item: &Item| String::from_utf8_lossy(&item.value).into_owned();
        items.iter().filter(|i| i.pk == crate::record::EPISODES && text(i).contains("\"silence\"")).count()
    };
    assert_eq!(silent(&table), 3);
    // They speak again, in the children: who has gone there is not looked for in the parents.
    append(&stream, 300..600);
    while scorer.round(false) > 0 {}
    let residents: usize = scorer.shards.values().map(|shard| shard.things.len()).sum();
    assert_eq!(residents, 3);
}

#[test]
fn a_state_is_written_after_256_records_and_two_seconds() {
    let clock = FakeClock::at(Timestamp::from_seconds(T0));
    let (stream, table) = (stream(), Arc::new(MemoryTable::new()));
    let mut scorer = scorer_at(&stream, table.clone(), Arc::new(clock.clone()));
    let mut score = |records: std::ops::Range<u64>| {
        append(&stream, records);
        while scorer.round(false) > 0 {}
        let shards = (0..2).map(|shard| Progress::of(&stream_name(), ShardId(shard)));
        let of = |thing: &str| {
            let thing = ThingName::new(thing).unwrap();
            shards.clone().find_map(|shard| shard.snapshot(&*table, &thing).unwrap()).map(|stored| stored.as_of)
        };
        ["pump1", "pump2", "pump3"].map(of)
    };
    assert_eq!(score(0..3 * 256), [None; 3], "too soon");
    clock.advance(Duration::from_secs(2));
    let written = score(3 * 256..3 * 257);
    assert!(written.iter().all(Option::is_some));
    clock.advance(Duration::from_secs(60));
    assert_eq!(score(3 * 257..3 * 512), written, "too few");
    assert!(score(3 * 512..3 * 513).iter().zip(&written).all(|(new, old)| new > old));
}
