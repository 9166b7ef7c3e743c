//! What every implementation of the port `Stream` must do, taken from its doc comments sentence by sentence.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a check says its name and fails by panicking")]

mod reshard;

use bytes::Bytes;
use futures::executor::block_on;
use kilter_core::{
    NewRecord, Offset, Record, RecordKind, ShardId, StreamName, ThingName, Timestamp,
    ports::stream::{Bounds, ReadLimit, Stream, StreamErrorKind},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Hands the suite streams to try.
pub trait Subject {
    /// A new backend without any stream. The one before is not used any more.
    fn fresh(&mut self) -> Arc<dyn Stream>;
    /// Ends the one given, the last made, as abruptly as it can, and opens what that one left. Records that
    /// retention may delete are not deleted in between.
    fn reopen(&mut self, stream: Arc<dyn Stream>) -> Arc<dyn Stream>;
    /// Makes retention of the last one made delete all that it may.
    fn trim(&mut self);
    /// Shuts the last one made down in order.
    fn close(&mut self);
    /// Bytes of the largest `data` that is accepted.
    fn record_bytes_max(&self) -> usize;
}

/// How long a check waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

const EVERYTHING: ReadLimit = ReadLimit { records: usize::MAX, bytes: usize::MAX };

type Check = fn(&mut dyn Subject);

/// Promises that not every service can give. A backend that leaves one out says why in its README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Retention never deletes what somebody has said to need still.
    Needed,
}

/// Runs all checks; panics at the first that does not hold.
pub fn check(subject: &mut dyn Subject) {
    check_but(subject, &[]);
}

/// Runs all checks but those of some promises.
pub fn check_but(subject: &mut dyn Subject, left_out: &[Promise]) {
    let checks: [(&str, Check); 19] = [
        ("streams are made once, listed in order, and refuse another number of shards", makes_and_lists),
        ("a deleted stream is gone, counted, and its name is free", deletes),
        ("a stream begins at the offset that it was made with", begins_where_told),
        ("what does not exist is not found", misses),
        ("records come back as they were, at the places that append answered", keeps_every_field),
        ("reading stops at its limits, at the end, and hands out at least one record", heeds_limits),
        ("offsets have no holes and bounds tell them", counts_without_holes),
        ("a key stays in its shard and keys spread over shards", keys_choose_shards),
        ("the order is that of the calls, whatever becomes of the futures", orders_by_call),
        ("a record that is too large takes its whole batch with it", refuses_too_large),
        ("waiting ends with news or with the time", waits),
        ("a waiter wakes up when a record becomes durable", wakes),
        ("many threads may append and read at once", bears_concurrency),
        ("what was acknowledged outlives the process", survives),
        ("a split and a merge close their parents and open their children", reshard::reshards),
        ("of several steps all are taken or none", reshard::reshards_as_a_whole),
        ("a key's order outlives what becomes of its shard", reshard::orders_across_shards),
        ("a stream says how long it keeps its records", reshard::says_its_retention),
        ("a closed stream commits what was queued, refuses more, and can be read", closes),
    ];
    let more: [(Promise, &str, Check); 1] =
        [(Promise::Needed, "retention spares what is needed and says what is gone", trims)];
    let more = more.into_iter().filter(|(promise, ..)| !left_out.contains(promise)).map(|(_, what, run)| (what, run));
    for (what, run) in checks.into_iter().chain(more) {
        // Captured by the test harness, shown when a check fails.
        println!("stream: {what}");
        run(subject);
    }
}

pub fn stream_name(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

/// A plausible record; `data` tells it apart.
pub fn record(key: &str, data: impl Into<Bytes>) -> NewRecord {
    NewRecord {
        kind: RecordKind::Telemetry,
        partition_key: key.into(),
        hash_key: None,
        thing: ThingName::new("pump-1").unwrap(),
        thing_sequence: 1,
        arrival: Timestamp::from_seconds(1_767_225_600),
        topic: "tenants/tenant001/devices/pump-1/telemetry".into(),
        data: data.into(),
    }
}

/// All records of a shard, from the first one kept.
pub fn read_all(stream: &dyn Stream, name: &StreamName, shard: u32) -> Vec<Record> {
    let shard = ShardId(shard);
    let mut from = stream.bounds(name, shard).unwrap().first;
    let mut all = Vec::new();
    loop {
        let read = stream.read(name, shard, from, ReadLimit { records: 100, bytes: 1 << 20 }).unwrap();
        let Some(last) = read.last() else { return all };
        from = last.offset.next();
        all.extend(read);
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, kilter_core::ports::stream::StreamError>) -> StreamErrorKind {
    let error = result.unwrap_err();
    assert_eq!(error.retryable(), error.kind == StreamErrorKind::Busy);
    assert!(error.to_string().len() > 20, "an error must say what happened: {error}");
    error.kind
}

fn append(stream: &dyn Stream, name: &StreamName, records: Vec<NewRecord>) -> Vec<(ShardId, Offset)> {
    block_on(stream.append(name, records)).unwrap()
}

fn datas(records: &[Record]) -> Vec<&[u8]> {
    records.iter().map(|record| &*record.record.data).collect()
}

fn makes_and_lists(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    assert_eq!(stream.list().unwrap(), []);
    let (a, b, odd) = (stream_name("a"), stream_name("b"), stream_name(".."));
    stream.create(&b, 3).unwrap();
    stream.create(&a, 1).unwrap();
    stream.create(&odd, 1).unwrap();
    append(&*stream, &b, vec![record("k", "x")]);
    stream.create(&b, 3).unwrap();
    assert_eq!((0..3).map(|shard| read_all(&*stream, &b, shard).len()).sum::<usize>(), 1);
    assert_eq!(kind(stream.create(&b, 2)), StreamErrorKind::Conflict);
    assert_eq!(kind(stream.create(&stream_name("none"), 0)), StreamErrorKind::Conflict);
    let all = vec![(odd, 1), (a, 1), (b, 3)];
    assert_eq!(stream.list().unwrap(), all);
    let stream = subject.reopen(stream);
    assert_eq!(stream.list().unwrap(), all);
}

fn deletes(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let (name, other) = (stream_name("a"), stream_name("a.b"));
    stream.create(&name, 2).unwrap();
    stream.create(&other, 1).unwrap();
    append(&*stream, &other, vec![record("k", "kept")]);
    append(&*stream, &name, (0..10).map(|i| record(&format!("k{i}"), "x")).collect());
    assert_eq!(stream.delete(&name).unwrap(), 10);
    assert_eq!(kind(stream.bounds(&name, ShardId(0))), StreamErrorKind::NotFound);
    assert_eq!(kind(stream.read(&name, ShardId(0), Offset(0), EVERYTHING)), StreamErrorKind::NotFound);
    assert_eq!(kind(block_on(stream.append(&name, vec![record("k", "x")]))), StreamErrorKind::NotFound);
    assert_eq!(kind(stream.delete(&name)), StreamErrorKind::NotFound);
    let stream = subject.reopen(stream);
    assert_eq!(stream.list().unwrap(), [(other.clone(), 1)]);
    stream.create(&name, 1).unwrap();
    assert_eq!(append(&*stream, &name, vec![record("k", "new")]), [(ShardId(0), Offset(0))]);
    assert_eq!(datas(&read_all(&*stream, &name, 0)), [b"new"]);
    assert_eq!(datas(&read_all(&*stream, &other, 0)), [b"kept"]);
}

fn begins_where_told(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("later");
    stream.create_from(&name, 1, Offset(1_000)).unwrap();
    assert_eq!(append(&*stream, &name, vec![record("k", "first")]), [(ShardId(0), Offset(1_000))]);
    let stream = subject.reopen(stream);
    let bounds = stream.bounds(&name, ShardId(0)).unwrap();
    assert_eq!((bounds.first, bounds.next), (Offset(1_000), Offset(1_001)));
    assert_eq!(kind(stream.read(&name, ShardId(0), Offset(999), EVERYTHING)), StreamErrorKind::Trimmed);
    assert_eq!(append(&*stream, &name, vec![record("k", "second")]), [(ShardId(0), Offset(1_001))]);
}

fn misses(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let (there, missing) = (stream_name("there"), stream_name("missing"));
    stream.create(&there, 1).unwrap();
    for (name, shard) in [(&missing, ShardId(0)), (&there, ShardId(1))] {
        assert_eq!(kind(stream.read(name, shard, Offset(0), EVERYTHING)), StreamErrorKind::NotFound);
        assert_eq!(kind(stream.bounds(name, shard)), StreamErrorKind::NotFound);
        assert_eq!(kind(stream.retain_from(name, shard, Offset(0))), StreamErrorKind::NotFound);
    }
    assert_eq!(kind(block_on(stream.append(&missing, vec![record("k", "x")]))), StreamErrorKind::NotFound);
    assert_eq!(kind(block_on(stream.append(&missing, vec![]))), StreamErrorKind::NotFound);
    assert_eq!(kind(stream.delete(&missing)), StreamErrorKind::NotFound);
}

fn odd_records() -> Vec<NewRecord> {
    let plain = record("key", "data");
    vec![
        NewRecord { data: Bytes::new(), ..plain.clone() },
        NewRecord { data: (0..=255).collect::<Vec<u8>>().into(), ..plain.clone() },
        NewRecord { kind: RecordKind::Rejected("not JSON: \u{1f6b0}".into()), ..plain.clone() },
        NewRecord { kind: RecordKind::Rejected("".into()), ..plain.clone() },
        NewRecord { topic: "".into(), thing_sequence: u64::MAX, arrival: Timestamp::MIN, ..plain.clone() },
        NewRecord { topic: "t".repeat(5000).into(), arrival: Timestamp::from_nanos(-1), ..plain.clone() },
        NewRecord { thing: ThingName::new(&"x".repeat(ThingName::LEN_MAX)).unwrap(), ..plain.clone() },
        NewRecord { partition_key: "ключ \0".into(), data: vec![0; 100_000].into(), ..plain },
    ]
}

fn keeps_every_field(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("fields");
    stream.create(&name, 1).unwrap();
    let records = odd_records();
    let places = append(&*stream, &name, records.clone());
    let read = read_all(&*stream, &name, 0);
    assert_eq!(places, read.iter().map(|record| (ShardId(0), record.offset)).collect::<Vec<_>>());
    assert_eq!(read.into_iter().map(|record| record.record).collect::<Vec<_>>(), records);
    assert_eq!(append(&*stream, &name, vec![]), []);
}

fn heeds_limits(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("limits");
    stream.create(&name, 1).unwrap();
    append(&*stream, &name, (0..20u8).map(|i| record("k", vec![i; 100])).collect());
    let read = |from, records, bytes| -> Vec<u64> {
        let read = stream.read(&name, ShardId(0), Offset(from), ReadLimit { records, bytes }).unwrap();
        assert!(read.iter().all(|record| record.record.data[0] == record.offset.0 as u8));
        read.iter().map(|record| record.offset.0).collect()
    };
    assert_eq!(read(0, 3, usize::MAX), [0, 1, 2]);
    assert_eq!(read(3, usize::MAX, 250), [3, 4]);
    assert_eq!(read(5, usize::MAX, 200), [5, 6]);
    assert_eq!(read(7, usize::MAX, 0), [7], "at least one record, however large");
    assert!(read(8, 0, usize::MAX).is_empty());
    assert_eq!(read(18, 10, usize::MAX), [18, 19]);
    assert!(read(20, 10, usize::MAX).is_empty());
    assert!(read(u64::MAX, 10, usize::MAX).is_empty());
    assert_eq!(read(2, 1, 0), [2], "going back is allowed");
    assert_eq!(read(0, usize::MAX, usize::MAX).len(), 20);
}

fn counts_without_holes(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("bounds");
    stream.create(&name, 1).unwrap();
    let bounds = |first, next| Bounds { first: Offset(first), next: Offset(next) };
    assert_eq!(stream.bounds(&name, ShardId(0)).unwrap(), bounds(0, 0));
    for batch in 0..10 {
        let places = append(&*stream, &name, (0..7).map(|_| record("k", "x")).collect());
        let expected: Vec<_> = (0..7).map(|i| (ShardId(0), Offset(batch * 7 + i))).collect();
        assert_eq!(places, expected);
        assert_eq!(stream.bounds(&name, ShardId(0)).unwrap(), bounds(0, batch * 7 + 7));
    }
}

fn keys_choose_shards(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("keys");
    stream.create(&name, 4).unwrap();
    let keys: Vec<String> = (0..64).map(|i| format!("key-{i}")).collect();
    let batch = || -> Vec<_> { keys.iter().map(|key| record(key, key.clone())).collect() };
    let places = append(&*stream, &name, batch());
    let shards: Vec<_> = places.iter().map(|place| place.0).collect();
    for (place, key) in places.iter().zip(&keys) {
        let read = stream.read(&name, place.0, place.1, ReadLimit { records: 1, bytes: 1 }).unwrap();
        assert_eq!(read[0].record.data, key.as_bytes());
    }
    let stream = subject.reopen(stream);
    let again: Vec<_> = append(&*stream, &name, batch()).iter().map(|place| place.0).collect();
    assert_eq!(shards, again, "a key stays in its shard");
    for shard in 0..4 {
        let share = shards.iter().filter(|found| found.0 == shard).count();
        assert!((4..=40).contains(&share), "shard {shard} got {share} of 64 keys");
    }
}

fn orders_by_call(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("order");
    stream.create(&name, 2).unwrap();
    let mut futures: Vec<_> = (0..100u32)
        .map(|i| stream.append(&name, vec![record("k", i.to_be_bytes().to_vec()), record("k", vec![0xff])]))
        .collect();
    // Never polled, and dropped: the records are there all the same.
    drop(futures.remove(40));
    let mut last = None;
    while let Some(future) = futures.pop() {
        let places = block_on(future).unwrap();
        assert!(last.is_none_or(|last| places[1].1 < last));
        last = Some(places[0].1);
    }
    let shard = block_on(stream.append(&name, vec![record("k", "end")])).unwrap()[0].0;
    let read = read_all(&*stream, &name, shard.0);
    let order: Vec<u32> = read
        .iter()
        .filter_map(|record| Some(u32::from_be_bytes(record.record.data.as_ref().try_into().ok()?)))
        .collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
    assert_eq!(read.len(), 201);
}

fn refuses_too_large(subject: &mut dyn Subject) {
    let max = subject.record_bytes_max();
    let stream = subject.fresh();
    let name = stream_name("large");
    stream.create(&name, 1).unwrap();
    let batch = vec![record("k", "small"), record("k", vec![1; max + 1])];
    assert_eq!(kind(block_on(stream.append(&name, batch))), StreamErrorKind::TooLarge);
    append(&*stream, &name, vec![record("k", vec![7; max])]);
    let read = read_all(&*stream, &name, 0);
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].record.data, vec![7; max]);
}

fn waits(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let (name, other) = (stream_name("wait"), stream_name("other"));
    let seen = stream.wait(0, PATIENCE);
    assert_ne!(seen, 0, "the first wait tells to look");
    assert_eq!(stream.wait(seen, Duration::from_millis(20)), seen, "nothing happened");
    stream.create(&name, 1).unwrap();
    let created = stream.wait(seen, PATIENCE);
    assert_ne!(created, seen);
    append(&*stream, &name, vec![record("k", "x")]);
    let appended = stream.wait(created, PATIENCE);
    assert_ne!(appended, created);
    stream.create(&other, 1).unwrap();
    stream.delete(&other).unwrap();
    let deleted = stream.wait(appended, PATIENCE);
    assert_ne!(deleted, appended);
    assert_eq!(stream.wait(deleted, Duration::ZERO), deleted);
}

fn wakes(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("wake");
    stream.create(&name, 1).unwrap();
    let seen = stream.wait(0, PATIENCE);
    let waiting = {
        let (stream, name) = (stream.clone(), name.clone());
        thread::spawn(move || {
            // The record is readable once the wait is over, or a later wait tells so.
            let mut seen = seen;
            while stream.bounds(&name, ShardId(0)).unwrap().next == Offset(0) {
                let now = stream.wait(seen, PATIENCE);
                assert_ne!(now, seen, "woken within {PATIENCE:?}");
                seen = now;
            }
        })
    };
    append(&*stream, &name, vec![record("k", "x")]);
    waiting.join().unwrap();
}

const WRITERS: usize = 4;
const BATCHES: u32 = 60;

fn bears_concurrency(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("threads");
    stream.create(&name, 2).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| follow(&*stream, &name, &done));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn({
                    let (stream, name) = (&stream, &name);
                    move || {
                        let key = format!("writer-{writer}");
                        let batch = |i: u32| (0..5).map(|j| record(&key, format!("{key} {:06}", i * 5 + j))).collect();
                        let futures: Vec<_> = (0..BATCHES).map(|i| stream.append(name, batch(i))).collect();
                        futures.into_iter().for_each(|future| drop(block_on(future).unwrap()));
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::SeqCst);
        let seen = reader.join().unwrap();
        let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in seen {
            let text = String::from_utf8(record.record.data.to_vec()).unwrap();
            by_key.entry(record.record.partition_key.into()).or_default().push(text);
        }
        assert_eq!(by_key.len(), WRITERS);
        for (key, texts) in by_key {
            let expected: Vec<_> = (0..BATCHES * 5).map(|i| format!("{key} {i:06}")).collect();
            assert_eq!(texts, expected, "the order of one key is that of its calls");
        }
    });
}

/// Reads both shards on and on until the writers are done.
fn follow(stream: &dyn Stream, name: &StreamName, done: &AtomicBool) -> Vec<Record> {
    let (mut next, mut seen, mut all) = ([Offset(0); 2], 0, Vec::new());
    loop {
        let last_turn = done.load(Ordering::SeqCst);
        for (shard, next) in next.iter_mut().enumerate() {
            loop {
                let limit = ReadLimit { records: 7, bytes: 1000 };
                let read = stream.read(name, ShardId(shard as u32), *next, limit).unwrap();
                if read.is_empty() {
                    break;
                }
                for record in read {
                    assert_eq!(record.offset, *next, "no hole, no repetition");
                    *next = next.next();
                    all.push(record);
                }
            }
        }
        if last_turn {
            return all;
        }
        seen = stream.wait(seen, Duration::from_millis(50));
    }
}

fn trims(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("trim");
    stream.create(&name, 1).unwrap();
    for i in 0..40u8 {
        append(&*stream, &name, vec![record("k", vec![i; 3000])]);
    }
    subject.trim();
    assert_eq!(stream.bounds(&name, ShardId(0)).unwrap().first, Offset(0), "nobody has said what is needed");
    stream.retain_from(&name, ShardId(0), Offset(25)).unwrap();
    subject.trim();
    let bounds = stream.bounds(&name, ShardId(0)).unwrap();
    assert!((1..=25).contains(&bounds.first.0), "{bounds:?}");
    assert_eq!(bounds.next, Offset(40));
    assert_eq!(kind(stream.read(&name, ShardId(0), Offset(0), EVERYTHING)), StreamErrorKind::Trimmed);
    let before = Offset(bounds.first.0 - 1);
    assert_eq!(kind(stream.read(&name, ShardId(0), before, EVERYTHING)), StreamErrorKind::Trimmed);
    let kept = stream.read(&name, ShardId(0), bounds.first, EVERYTHING).unwrap();
    let expected: Vec<_> = (bounds.first.0..40).map(|i| vec![i as u8; 3000]).collect();
    assert_eq!(datas(&kept), expected);
    let stream = subject.reopen(stream);
    assert_eq!(stream.bounds(&name, ShardId(0)).unwrap(), bounds);
    assert_eq!(append(&*stream, &name, vec![record("k", "on")]), [(ShardId(0), Offset(40))]);
    assert_eq!(stream.delete(&name).unwrap(), 41 - bounds.first.0, "only what is still there is counted");
}

fn survives(subject: &mut dyn Subject) {
    let mut stream = subject.fresh();
    let name = stream_name("survive");
    stream.create(&name, 2).unwrap();
    let mut expected: BTreeMap<(ShardId, Offset), NewRecord> = BTreeMap::new();
    for round in 0..5 {
        for batch in 0..8 {
            let records: Vec<_> =
                (0..6).map(|i| record(&format!("k{i}"), format!("{round} {batch} {i}").repeat(i * 40 + 1))).collect();
            let places = append(&*stream, &name, records.clone());
            expected.extend(places.into_iter().zip(records));
        }
        stream = subject.reopen(stream);
        let mut found = BTreeMap::new();
        for shard in 0..2 {
            let read = read_all(&*stream, &name, shard);
            found.extend(read.into_iter().map(|record| ((ShardId(shard), record.offset), record.record)));
        }
        assert_eq!(found, expected, "after {round} restarts");
    }
}

fn closes(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("close");
    stream.create(&name, 1).unwrap();
    let queued = stream.append(&name, vec![record("k", "queued")]);
    subject.close();
    assert_eq!(block_on(queued).unwrap(), [(ShardId(0), Offset(0))]);
    assert_eq!(kind(block_on(stream.append(&name, vec![record("k", "late")]))), StreamErrorKind::Closed);
    assert_eq!(kind(stream.create(&stream_name("late"), 1)), StreamErrorKind::Closed);
    assert_eq!(kind(stream.delete(&name)), StreamErrorKind::Closed);
    assert_eq!(kind(stream.set_retention(&name, PATIENCE)), StreamErrorKind::Closed);
    assert_eq!(kind(stream.reshard(&name, &[])), StreamErrorKind::Closed);
    assert_eq!(datas(&read_all(&*stream, &name, 0)), [b"queued"]);
}
