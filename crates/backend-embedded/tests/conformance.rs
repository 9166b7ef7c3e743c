//! Both backends against the ports' conformance suites, and the table against the one in memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use kilter_backend_embedded::{EmbeddedStream, EmbeddedTable, RECORD_BYTES_MAX, StreamConfig, table};
use kilter_core::ports::{
    stream::Stream,
    table::{Condition, SkRange, Table, Write},
};
use kilter_testkit::{FakeClock, MemoryTable, stream, table as suite};
use proptest::prelude::*;
use std::{fs, path::Path, sync::Arc};
use tempfile::TempDir;

/// Copies what the disk would hold, had the process been killed now.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

struct Embedded {
    directory: TempDir,
    stream: Option<Arc<EmbeddedStream>>,
    segment_bytes: u64,
}

impl Embedded {
    fn open(&mut self) -> Arc<dyn Stream> {
        // Retention may delete whatever nobody needs.
        let config = StreamConfig { segment_bytes: self.segment_bytes, retention_bytes: 0, ..StreamConfig::default() };
        let clock = Arc::new(FakeClock::default());
        let stream = EmbeddedStream::open(self.directory.path(), config, clock).unwrap();
        self.stream = Some(stream.clone());
        stream
    }
}

impl stream::Subject for Embedded {
    fn fresh(&mut self) -> Arc<dyn Stream> {
        self.directory = TempDir::new().unwrap();
        self.open()
    }
    fn reopen(&mut self, _: Arc<dyn Stream>) -> Arc<dyn Stream> {
        let left = TempDir::new().unwrap();
        copy(self.directory.path(), left.path());
        self.directory = left;
        self.open()
    }
    fn trim(&mut self) {
        self.stream.as_ref().unwrap().enforce_retention();
    }
    fn close(&mut self) {
        self.stream.as_ref().unwrap().close();
    }
    fn record_bytes_max(&self) -> usize {
        RECORD_BYTES_MAX
    }
}

#[test]
fn the_stream_keeps_the_contract_in_small_segments() {
    stream::check(&mut Embedded { directory: TempDir::new().unwrap(), stream: None, segment_bytes: 8192 });
}

#[test]
fn the_stream_keeps_the_contract_with_a_segment_per_record() {
    stream::check(&mut Embedded { directory: TempDir::new().unwrap(), stream: None, segment_bytes: 1 });
}

struct Redb(TempDir);

impl suite::Subject for Redb {
    fn fresh(&mut self) -> Arc<dyn Table> {
        self.0 = TempDir::new().unwrap();
        Arc::new(EmbeddedTable::open(&self.0.path().join("table.redb")).unwrap())
    }
    fn reopen(&mut self, table: Arc<dyn Table>) -> Arc<dyn Table> {
        let left = TempDir::new().unwrap();
        copy(self.0.path(), left.path());
        drop(table);
        self.0 = left;
        Arc::new(EmbeddedTable::open(&self.0.path().join("table.redb")).unwrap())
    }
    fn key_bytes_max(&self) -> usize {
        table::KEY_BYTES_MAX
    }
    fn value_bytes_max(&self) -> usize {
        table::VALUE_BYTES_MAX
    }
}

#[test]
fn the_table_keeps_the_contract() {
    suite::check(&mut Redb(TempDir::new().unwrap()));
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Write>),
    Range { pk: String, from: String, to: Option<String>, descending: bool, limit: usize },
    Scan { after: Option<(String, String)>, limit: usize },
    Drop,
    Reopen,
}

fn key() -> impl Strategy<Value = String> {
    "[ab\0]{0,2}"
}

fn write() -> impl Strategy<Value = Write> {
    let condition =
        prop::sample::select(vec![Condition::Always, Condition::Always, Condition::Absent, Condition::Present]);
    ("[tu]", key(), key(), prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), condition)
        .prop_map(|(table, pk, sk, value, condition)| Write { table: table.into(), pk, sk, value, condition })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(write(), 0..5).prop_map(Step::Commit),
        4 => (key(), key(), prop::option::of(key()), any::<bool>(), 0..10usize)
            .prop_map(|(pk, from, to, descending, limit)| Step::Range { pk, from, to, descending, limit }),
        4 => (prop::option::of((key(), key())), 0..20usize).prop_map(|(after, limit)| Step::Scan { after, limit }),
        1 => Just(Step::Drop),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_table_answers_like_the_one_in_memory(steps in prop::collection::vec(step(), 1..40)) {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("table.redb");
        let (mut table, model) = (EmbeddedTable::open(&file).unwrap(), MemoryTable::new());
        for step in steps {
            match step {
                Step::Commit(writes) => {
                    let (got, expected) = (table.commit(writes.clone()), model.commit(writes));
                    prop_assert_eq!(got.map_err(|error| error.kind), expected.map_err(|error| error.kind));
                }
                Step::Range { pk, from, to, descending, limit } => {
                    let range = SkRange { from: &from, to: to.as_deref(), descending };
                    prop_assert_eq!(
                        table.range("t", &pk, range, limit).unwrap(),
                        model.range("t", &pk, range, limit).unwrap()
                    );
                }
                Step::Scan { after, limit } => {
                    let after = after.as_ref().map(|(pk, sk)| (&**pk, &**sk));
                    prop_assert_eq!(table.scan("t", after, limit).unwrap(), model.scan("t", after, limit).unwrap());
                }
                Step::Drop => prop_assert_eq!(table.drop_table("t").unwrap(), model.drop_table("t").unwrap()),
                Step::Reopen => {
                    drop(table);
                    table = EmbeddedTable::open(&file).unwrap();
                }
            }
        }
        prop_assert_eq!(table.scan("u", None, 1000).unwrap(), model.scan("u", None, 1000).unwrap());
    }
}
