//! How fast records become durable, by batch size, alone and with many appends in flight; how fast they are read;
//! how long a start takes; how fast a table commits.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::executor::block_on;
use kilter_backend_embedded::{EmbeddedStream, EmbeddedTable, StreamConfig};
use kilter_core::{
    NewRecord, Offset, RecordKind, ShardId, StreamName, ThingName, Timestamp,
    ports::{
        clock::SystemClock,
        stream::{ReadLimit, Stream, StreamAdmin},
        table::{Table, Write},
    },
};
use std::sync::Arc;
use tempfile::TempDir;

/// Eight signals as JSON: what the demo's pumps send.
const PAYLOAD: &[u8] = br#"{"ts":1767225600123,"flow":12.4,"pressure":3.81,"temperature":41.2,"vibration":0.013,"current":7.9,"speed":1480,"level":66.1,"power":4.2}"#;

/// Appends in flight: what a few hundred connections with pipelined publishes keep waiting.
const IN_FLIGHT_MAX: usize = 1024;
/// Records in flight: far below what the queue holds.
const WAITING_RECORDS: usize = 65_536;

fn records(count: usize) -> Vec<NewRecord> {
    let record = |i: usize| NewRecord {
        kind: RecordKind::Telemetry,
        partition_key: format!("pump-{}", i % 6).into(),
        hash_key: None,
        thing: ThingName::new("pump-1").expect("the name is valid"),
        thing_sequence: i as u64,
        arrival: Timestamp::from_seconds(1_767_225_600),
        topic: "tenants/tenant001/devices/pump-1/telemetry".into(),
        data: PAYLOAD.into(),
    };
    (0..count).map(record).collect()
}

fn open(directory: &TempDir) -> (Arc<EmbeddedStream>, StreamName) {
    let stream = EmbeddedStream::open(directory.path(), StreamConfig::default(), Arc::new(SystemClock));
    let (stream, name) =
        (stream.expect("the directory is empty"), StreamName::new("bench").expect("the name is valid"));
    stream.create(&name, 1).expect("the disk has room");
    (stream, name)
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.sample_size(10);
    for batch in [1, 64, 1024] {
        let directory = TempDir::new().expect("the disk has room");
        let (stream, name) = open(&directory);
        let template = records(batch);
        let in_flight = IN_FLIGHT_MAX.min(WAITING_RECORDS / batch);
        group.throughput(Throughput::Elements((batch * in_flight) as u64));
        group.bench_function(BenchmarkId::new("pipelined", batch), |bencher| {
            bencher.iter(|| {
                let waiting: Vec<_> = (0..in_flight).map(|_| stream.append(&name, template.clone())).collect();
                waiting.into_iter().for_each(|future| drop(block_on(future).expect("the disk has room")));
            });
        });
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("one at a time", batch), |bencher| {
            bencher.iter(|| block_on(stream.append(&name, template.clone())).expect("the disk has room"));
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let directory = TempDir::new().expect("the disk has room");
    let (stream, name) = open(&directory);
    for _ in 0..100 {
        block_on(stream.append(&name, records(1000))).expect("the disk has room");
    }
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(100_000));
    group.sample_size(10);
    group.bench_function("from first to last", |bencher| {
        bencher.iter(|| {
            let mut next = Offset(0);
            loop {
                let limit = ReadLimit { records: 1000, bytes: 1 << 20 };
                let read = stream.read(&name, ShardId(0), next, limit).expect("the log is whole");
                let Some(last) = read.last() else { break };
                next = last.offset.next();
            }
            assert_eq!(next, Offset(100_000));
        });
    });
    group.finish();
}

fn start(criterion: &mut Criterion) {
    let directory = TempDir::new().expect("the disk has room");
    let (stream, name) = open(&directory);
    let large = NewRecord { data: vec![7; 64 * 1024].into(), ..records(1).remove(0) };
    // So many that the last segment, the one that is read, is well filled.
    for _ in 0..1000 {
        block_on(stream.append(&name, vec![large.clone(); 16])).expect("the disk has room");
    }
    drop(stream);
    let mut group = criterion.benchmark_group("start");
    group.sample_size(10);
    group.bench_function("with a stream of 1 GB", |bencher| bencher.iter(|| open(&directory)));
    group.finish();
}

fn commit(criterion: &mut Criterion) {
    let directory = TempDir::new().expect("the disk has room");
    let table = EmbeddedTable::open(&directory.path().join("table.redb")).expect("the directory is empty");
    let name: Arc<str> = "anomaly-results-tenant001".into();
    let mut group = criterion.benchmark_group("table");
    group.throughput(Throughput::Elements(100));
    group.sample_size(10);
    let mut sequence = 0_u64;
    group.bench_function("commit of 100 items", |bencher| {
        bencher.iter(|| {
            let put =
                |i: u64| Write::put(&name, format!("pump-{}", i % 6), format!("{:020}", sequence + i), vec![7; 300]);
            table.commit((0..100).map(put).collect()).expect("the disk has room");
            sequence += 100;
        });
    });
    group.finish();
}

criterion_group!(benches, append, read, start, commit);
criterion_main!(benches);
