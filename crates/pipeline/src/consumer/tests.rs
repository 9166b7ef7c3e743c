//! A crash does not change the answer: whatever is scored in however many pieces, with however many restarts, ends in
//! the same rows, episodes, alerts, counts and states.

use super::*;
use kilter_core::{
    NewRecord,
    ports::{
        clock::SystemClock,
        stream::StreamAdmin,
        table::{Item, SkRange, TableError, TableErrorKind},
    },
};
use kilter_testkit::{MemoryStream, MemoryTable};
use proptest::prelude::*;
use std::sync::atomic::AtomicU32;

const T0: i64 = 1_700_000_000;
const RECORDS: u64 = 1_500;

/// Loses power at one of its commits: before or after it has become durable.
struct Unlucky {
    table: Arc<MemoryTable>,
    commits_left: AtomicU32,
    durable: bool,
}

impl Table for Unlucky {
    fn get(&self, table: &str, pk: &str, sk: &str) -> Result<Option<Vec<u8>>, TableError> {
        self.table.get(table, pk, sk)
    }
    fn commit(&self, writes: Vec<Write>) -> Result<(), TableError> {
        if self.commits_left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return self.table.commit(writes);
        }
        if self.durable {
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

fn scorer(stream: &Arc<MemoryStream>, table: Arc<dyn Table>) -> Scorer {
    Scorer::new(ScorerPorts {
        stream: stream.clone(),
        table,
        clock: Arc::new(SystemClock),
        config_for: Arc::new(|_, _| ScorerConfig::default()),
        keeps_rows: Arc::new(|_| true),
        live: Live::default(),
        gate: Arc::default(),
        alerts: Arc::default(),
        health: Arc::default(),
        log: FunctionLog::default(),
    })
}

/// Three things with correlated signals, faults, late and rejected records.
fn record(n: u64) -> NewRecord {
    let thing = ThingName::new(["pump1", "pump2", "pump3"][(n % 3) as usize]).unwrap();
    let i = n / 3;
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
        thing,
        thing_sequence: i + 1,
        arrival: Timestamp::from_seconds(T0 + i as i64),
        topic: "tenants/t1/devices/x/telemetry".into(),
        data: data.into(),
    }
}

fn stream_name() -> StreamName {
    TenantId::new("t1").unwrap().stream()
}

fn append(stream: &MemoryStream, range: std::ops::Range<u64>) {
    let appended = stream.append(&stream_name(), range.map(record).collect());
    futures::executor::block_on(appended).unwrap();
}

fn stream() -> Arc<MemoryStream> {
    let stream = Arc::new(MemoryStream::new());
    stream.create(&stream_name(), 2).unwrap();
    stream
}

fn finish(stream: &Arc<MemoryStream>, table: &Arc<MemoryTable>) -> Vec<Item> {
    let mut last = scorer(stream, table.clone());
    while last.round(false) > 0 {}
    last.round(true);
    let tables = ["anomaly-results-t1", "scoring-anomaly-stream-t1", OUTBOX];
    tables.iter().flat_map(|name| table.scan(name, None, usize::MAX).unwrap()).collect()
}

fn uninterrupted() -> Vec<Item> {
    let (stream, table) = (stream(), Arc::new(MemoryTable::new()));
    append(&stream, 0..RECORDS);
    finish(&stream, &table)
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
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert_eq!((&found.pk, &found.sk), (&expected.pk, &expected.sk));
            prop_assert_eq!(&found.value, &expected.value, "{} {}", found.pk, found.sk);
        }
        prop_assert_eq!(found.len(), expected.len());
    }
}
