//! What needs a hand inside: a disk that fails, a committer that is held up, time that passes.

use super::*;
use futures::executor::block_on;
use kilter_core::Timestamp;
use kilter_testkit::{
    FakeClock,
    stream::{read_all, record, stream_name},
};
use std::{fs, fs::File};
use tempfile::TempDir;

struct Fixture {
    directory: TempDir,
    clock: FakeClock,
    stream: Arc<EmbeddedStream>,
    name: StreamName,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn fixture(shards: u32, config: StreamConfig) -> Fixture {
    let (directory, clock, name) = (TempDir::new().unwrap(), FakeClock::default(), stream_name("s"));
    let stream = EmbeddedStream::open(directory.path(), config, Arc::new(clock.clone())).unwrap();
    stream.create(&name, shards).unwrap();
    Fixture { directory, clock, stream, name }
}

fn small_segments() -> StreamConfig {
    StreamConfig { segment_bytes: 1000, ..StreamConfig::default() }
}

impl Fixture {
    fn append(&self, key: &str, data: &[u8]) -> Result<Vec<(ShardId, Offset)>, StreamError> {
        block_on(self.queue(key, data))
    }

    fn queue(&self, key: &str, data: &[u8]) -> AppendFuture {
        let arrival = self.clock.now();
        self.stream.append(&self.name, vec![NewRecord { arrival, ..record(key, data.to_vec()) }])
    }

    fn shard(&self, number: u32) -> Arc<Shard> {
        self.stream.shard("test", &self.name, ShardId(number)).unwrap()
    }

    fn first(&self) -> u64 {
        self.stream.bounds(&self.name, ShardId(0)).unwrap().first.0
    }

    fn reopen(&mut self, config: StreamConfig) {
        self.stream.close();
        self.stream = EmbeddedStream::open(self.directory.path(), config, Arc::new(self.clock.clone())).unwrap();
    }
}

#[test]
fn a_write_that_fails_ends_the_shard_until_a_restart() {
    let mut fixture = fixture(2, StreamConfig::default());
    let places: Vec<_> = (0..8).map(|i| fixture.append(&format!("k{i}"), b"before").unwrap()[0]).collect();
    let bad = places.iter().position(|place| place.0 == ShardId(0)).unwrap();
    let good = places.iter().position(|place| place.0 == ShardId(1)).unwrap();
    let shard = fixture.shard(0);
    let path = lock(&shard.writer).segment.path.clone();
    // Open for reading only: the next write fails.
    lock(&shard.writer).file = Arc::new(File::open(&path).unwrap());
    let bounds = fixture.stream.bounds(&fixture.name, ShardId(0)).unwrap();

    let error = fixture.append(&format!("k{bad}"), b"lost").unwrap_err();
    assert_eq!(error.kind, StreamErrorKind::Io);
    assert!(!error.retryable());
    for part in [path.to_str().unwrap(), "Fix the disk", "restart"] {
        assert!(error.to_string().contains(part), "{part:?} is not in {error}");
    }
    // The disk works again, but nobody knows what it holds.
    lock(&shard.writer).file = Arc::new(File::options().read(true).write(true).open(&path).unwrap());
    assert_eq!(fixture.append(&format!("k{bad}"), b"refused").unwrap_err().kind, StreamErrorKind::Io);
    let both = vec![record(&format!("k{good}"), "x"), record(&format!("k{bad}"), "x")];
    assert_eq!(block_on(fixture.stream.append(&fixture.name, both)).unwrap_err().kind, StreamErrorKind::Io);
    fixture.append(&format!("k{good}"), b"goes on").unwrap();
    assert_eq!(fixture.stream.bounds(&fixture.name, ShardId(0)).unwrap(), bounds);
    assert_eq!(read_all(&*fixture.stream, &fixture.name, 0).len() as u64, bounds.next.0);

    fixture.reopen(StreamConfig::default());
    assert_eq!(fixture.stream.bounds(&fixture.name, ShardId(0)).unwrap(), bounds);
    fixture.append(&format!("k{bad}"), b"again").unwrap();
}

#[test]
fn a_segment_that_cannot_be_made_ends_the_shard_too() {
    let fixture = fixture(1, small_segments());
    fixture.append("k", &[1; 600]).unwrap();
    let shard = fixture.shard(0);
    // Something lies where the next segment must go.
    fs::write(segment::log_path(&shard.directory, 1), "").unwrap();
    assert_eq!(fixture.append("k", &[2; 600]).unwrap_err().kind, StreamErrorKind::Io);
    assert_eq!(fixture.append("k", &[3]).unwrap_err().kind, StreamErrorKind::Io);
    assert_eq!(read_all(&*fixture.stream, &fixture.name, 0).len(), 1);
}

#[test]
fn beyond_the_queues_bound_it_is_busy() {
    let fixture = fixture(1, StreamConfig { queue_bytes_max: 5000, ..StreamConfig::default() });
    let shard = fixture.shard(0);
    let held_up = lock(&shard.writer);
    // One append is let in whatever its size.
    let mut queued = vec![fixture.queue("k", &[0; 20_000])];
    assert_eq!(fixture.append("k", b"too many").unwrap_err().kind, StreamErrorKind::Busy);
    drop(held_up);
    block_on(queued.remove(0)).unwrap();

    // The committer says "done" after it has answered: until then it may still be busy.
    while fixture.append("k", b"x").is_err_and(|error| error.retryable()) {}
    let held_up = lock(&shard.writer);
    let refused = loop {
        let queued_one = fixture.queue("k", &[0; 500]);
        queued.push(queued_one);
        if queued.len() > 20 {
            break queued.split_off(1).into_iter().rev().take(5).map(block_on).collect::<Vec<_>>();
        }
    };
    assert!(refused.iter().all(|result| result.as_ref().unwrap_err().kind == StreamErrorKind::Busy));
    drop(held_up);
    block_on(queued.remove(0)).unwrap();
}

#[test]
fn what_gathers_while_the_disk_works_is_one_round() {
    let fixture = fixture(1, StreamConfig::default());
    fixture.append("k", b"first").unwrap();
    let shard = fixture.shard(0);
    let held_up = lock(&shard.writer);
    let futures: Vec<_> = (0..50u8).map(|i| fixture.queue("k", &[i])).collect();
    assert_eq!(fixture.stream.bounds(&fixture.name, ShardId(0)).unwrap().next, Offset(1), "not durable: invisible");
    assert_eq!(read_all(&*fixture.stream, &fixture.name, 0).len(), 1);
    drop(held_up);
    for (offset, future) in (1..).zip(futures) {
        assert_eq!(block_on(future).unwrap(), [(ShardId(0), Offset(offset))]);
    }
    // The first of them may have been taken up before the rest came; the others share one write.
    let opened = lock(&shard.view).active.open("test").unwrap();
    let end = lock(&shard.view).end;
    let mut frames = frames::FrameReader::new(&opened.file, opened.salt, format::SEGMENT_HEADER_BYTES as u64, end, 0);
    let mut rounds = 0;
    while let Some(frame) = frames.next().unwrap() {
        rounds += u32::from(frame.header.back == 0);
    }
    assert!(rounds <= 3, "{rounds} rounds");
}

#[test]
fn age_deletes_sealed_segments_that_nobody_needs() {
    let fixture = fixture(1, StreamConfig { retention_age: 7 * DAY, ..small_segments() });
    for _ in 0..10 {
        fixture.append("k", &[7; 600]).unwrap();
        fixture.clock.advance(DAY);
    }
    // The records are 10, 9, … 1 days old.
    fixture.stream.enforce_retention();
    assert_eq!(fixture.first(), 0, "nobody has said what is needed");
    fixture.stream.retain_from(&fixture.name, ShardId(0), Offset(2)).unwrap();
    fixture.stream.enforce_retention();
    assert_eq!(fixture.first(), 2);
    fixture.stream.retain_from(&fixture.name, ShardId(0), Offset(10)).unwrap();
    fixture.stream.enforce_retention();
    assert_eq!(fixture.first(), 3, "seven days are not more than seven days");
    fixture.clock.advance(100 * DAY);
    fixture.stream.enforce_retention();
    assert_eq!(fixture.first(), 10, "the segment being written goes too, once all in it has expired");
    let left = fs::read_dir(&fixture.shard(0).directory).unwrap().count();
    assert_eq!(left, 1);
}

#[test]
fn age_is_known_after_a_restart() {
    let config = StreamConfig { retention_age: 7 * DAY, ..small_segments() };
    let mut fixture = fixture(1, config.clone());
    for _ in 0..3 {
        fixture.append("k", &[7; 600]).unwrap();
    }
    fixture.clock.advance(8 * DAY);
    fixture.append("k", &[7; 600]).unwrap();
    fixture.append("k", &[7; 600]).unwrap();
    fixture.reopen(config);
    fixture.stream.enforce_retention();
    assert_eq!(fixture.first(), 0);
    fixture.stream.retain_from(&fixture.name, ShardId(0), Offset(5)).unwrap();
    fixture.stream.enforce_retention();
    assert_eq!(fixture.first(), 3);
}

#[test]
fn size_deletes_the_oldest_as_soon_as_a_segment_is_sealed() {
    let fixture = fixture(1, StreamConfig { retention_bytes: 3000, ..small_segments() });
    fixture.append("k", &[7; 600]).unwrap();
    fixture.stream.retain_from(&fixture.name, ShardId(0), Offset(u64::MAX)).unwrap();
    for _ in 0..20 {
        fixture.append("k", &[7; 600]).unwrap();
    }
    fixture.stream.close();
    let bytes = lock(&fixture.shard(0).view).bytes();
    assert!((1500..=3000 + 1000).contains(&bytes), "{bytes}");
    assert_eq!(read_all(&*fixture.stream, &fixture.name, 0).len() as u64, 21 - fixture.first());
}

#[test]
fn a_deleted_stream_keeps_the_committer_off_its_successor() {
    let fixture = fixture(1, small_segments());
    fixture.append("k", &[1; 600]).unwrap();
    let shard = fixture.shard(0);
    let held_up = lock(&shard.writer);
    let late: Vec<_> = (0..5).map(|_| fixture.queue("k", &[2; 600])).collect();
    thread_deletes(&fixture, held_up);
    fixture.stream.create(&fixture.name, 1).unwrap();
    for future in late {
        // Committed just before, or told that the stream is gone.
        assert!(block_on(future).is_ok_and(|places| places[0].1.0 > 0) || fixture.first() == 0);
    }
    assert_eq!(fixture.append("k", b"new").unwrap(), [(ShardId(0), Offset(0))]);
    assert_eq!(read_all(&*fixture.stream, &fixture.name, 0)[0].record.data, &b"new"[..]);
    assert_eq!(fs::read_dir(&fixture.shard(0).directory).unwrap().count(), 1);
}

#[test]
fn retention_of_a_deleted_stream_spares_its_successor() {
    let fixture = fixture(1, StreamConfig { retention_bytes: 0, ..small_segments() });
    let fill = || (0..5).for_each(|_| drop(fixture.append("k", &[1; 600]).unwrap()));
    fill();
    let old = fixture.shard(0);
    lock(&old.view).retain_from = Some(5);
    fixture.stream.delete(&fixture.name).unwrap();
    fixture.stream.create(&fixture.name, 1).unwrap();
    fill();
    retention::enforce(&old, DAY, 0, &fixture.clock);
    assert_eq!(read_all(&*fixture.stream, &fixture.name, 0).len(), 5);
}

/// Deletes the stream on another thread while `held_up` is let go.
fn thread_deletes(fixture: &Fixture, held_up: MutexGuard<'_, shard::Writer>) {
    std::thread::scope(|scope| {
        let deleting = scope.spawn(|| fixture.stream.delete(&fixture.name));
        drop(held_up);
        deleting.join().unwrap().unwrap();
    });
}

#[test]
fn keys_go_where_kinesis_would_put_them() {
    let one_of = |shards: u32, key: &str| {
        Shards::even(shards, Offset(0), Timestamp::default()).owner(|| kilter_core::hash_key(key)).0
    };
    // MD5("a") = 0cc1…, MD5("b") = 92eb…, MD5("e") = e167…
    assert_eq!([one_of(1, "a"), one_of(1, "e")], [0, 0]);
    assert_eq!([one_of(2, "a"), one_of(2, "b"), one_of(2, "e")], [0, 1, 1]);
    assert_eq!([one_of(4, "a"), one_of(4, "b"), one_of(4, "e")], [0, 2, 3]);
    assert_eq!([one_of(3, "a"), one_of(3, "b"), one_of(3, "e")], [0, 1, 2]);
}

#[test]
fn a_shut_down_without_news_writes_nothing() {
    let mut fixture = fixture(1, StreamConfig::default());
    let length = |fixture: &Fixture| fs::metadata(&lock(&fixture.shard(0).writer).segment.path).unwrap().len();
    fixture.reopen(StreamConfig::default());
    assert_eq!(length(&fixture), format::SEGMENT_HEADER_BYTES as u64);
    fixture.append("k", b"x").unwrap();
    fixture.reopen(StreamConfig::default());
    let marked = length(&fixture);
    fixture.reopen(StreamConfig::default());
    fixture.reopen(StreamConfig::default());
    assert_eq!(length(&fixture), marked, "one mark is enough");
    fixture.append("k", b"y").unwrap();
    assert_eq!(read_all(&*fixture.stream, &fixture.name, 0).len(), 2);
}

#[test]
fn records_out_of_time_do_not_upset_retention() {
    let fixture = fixture(1, StreamConfig { retention_age: DAY, ..small_segments() });
    for arrival in [Timestamp::MIN, Timestamp::from_nanos(i64::MAX), Timestamp::from_nanos(0)] {
        let odd = NewRecord { arrival, ..record("k", vec![0; 900]) };
        block_on(fixture.stream.append(&fixture.name, vec![odd])).unwrap();
    }
    fixture.stream.retain_from(&fixture.name, ShardId(0), Offset(3)).unwrap();
    fixture.stream.enforce_retention();
    assert_eq!(fixture.first(), 1, "one that claims to come from the future is kept until it is too much");
}

#[test]
fn a_decrease_trims_what_rests_in_the_last_segment() {
    let mut fixture = fixture(1, StreamConfig::default());
    fixture.append("k", b"old").unwrap();
    fixture.clock.advance(2 * DAY);
    fixture.stream.retain_from(&fixture.name, ShardId(0), Offset(1)).unwrap();
    fixture.stream.enforce_retention();
    assert_eq!(fixture.first(), 0, "a week is kept");
    fixture.stream.set_retention(&fixture.name, DAY).unwrap();
    assert_eq!(fixture.first(), 1);
    fixture.append("k", b"new").unwrap();
    fixture.stream.enforce_retention();
    assert_eq!(read_all(&*fixture.stream, &fixture.name, 0).len(), 1);
    fixture.reopen(StreamConfig::default());
    assert_eq!(fixture.stream.describe(&fixture.name).unwrap().retention, DAY);
    // Still needed: not a matter of age.
    fixture.clock.advance(2 * DAY);
    fixture.stream.retain_from(&fixture.name, ShardId(0), Offset(1)).unwrap();
    fixture.stream.enforce_retention();
    assert_eq!(fixture.first(), 1);
}

#[test]
fn a_closed_shard_is_read_until_its_records_expire() {
    let fixture = fixture(1, StreamConfig { retention_age: DAY, ..StreamConfig::default() });
    (0..3).for_each(|_| drop(fixture.append("k", b"x").unwrap()));
    let split = Reshard::Split { shard: ShardId(0), at: u128::MAX / 2 };
    fixture.stream.reshard(&fixture.name, &[split]).unwrap();
    fixture.stream.retain_from(&fixture.name, ShardId(0), Offset(3)).unwrap();
    fixture.stream.enforce_retention();
    assert_eq!(read_all(&*fixture.stream, &fixture.name, 0).len(), 3);
    fixture.clock.advance(2 * DAY);
    fixture.stream.enforce_retention();
    let end = Bounds { first: Offset(3), next: Offset(3) };
    assert_eq!(fixture.stream.bounds(&fixture.name, ShardId(0)).unwrap(), end);
    assert_eq!(fs::read_dir(&fixture.shard(0).directory).unwrap().count(), 1);
}

#[test]
fn a_crash_within_a_reshard_leaves_the_old_shards() {
    let mut fixture = fixture(1, StreamConfig::default());
    fixture.append("k", b"before").unwrap();
    let before = fixture.stream.describe(&fixture.name).unwrap();
    let directory = fixture.directory.path().join("s");
    let meta = fs::read(directory.join("meta")).unwrap();
    let split = Reshard::Split { shard: ShardId(0), at: u128::MAX / 2 };
    fixture.stream.reshard(&fixture.name, &[split]).unwrap();
    // All of it but its last step: the children are there, and nothing tells of them.
    fixture.stream.close();
    fs::write(directory.join("meta"), meta).unwrap();
    fs::write(directory.join("meta~making"), "kilter-stream 2").unwrap();
    fixture.reopen(StreamConfig::default());
    assert_eq!(fixture.stream.describe(&fixture.name).unwrap(), before);
    assert_eq!(fixture.append("k", b"after").unwrap(), [(ShardId(0), Offset(1))]);
    fixture.stream.reshard(&fixture.name, &[split]).unwrap();
    fixture.reopen(StreamConfig::default());
    assert_eq!(read_all(&*fixture.stream, &fixture.name, 0).len(), 2);
    let place = fixture.append("k", b"child").unwrap()[0];
    assert!(place.0.0 > 0 && place.1 == Offset(2), "{place:?}");
}

#[test]
fn a_closed_shard_whose_log_is_cut_short_is_not_opened() {
    let mut fixture = fixture(1, StreamConfig::default());
    fixture.append("k", b"x").unwrap();
    let split = Reshard::Split { shard: ShardId(0), at: u128::MAX / 2 };
    fixture.stream.reshard(&fixture.name, &[split]).unwrap();
    let sealed = lock(&fixture.shard(0).view).active.path.clone();
    fixture.stream.close();
    fs::remove_file(sealed).unwrap();
    let config = StreamConfig::default();
    let log = fixture.shard(0).directory.join(format!("{:020}.log", 0));
    fs::write(&log, &fs::read(&log).unwrap()[..50]).unwrap();
    let opened = EmbeddedStream::open(fixture.directory.path(), config, Arc::new(fixture.clock.clone()));
    let error = opened.map(drop).unwrap_err();
    assert!(error.to_string().contains("was closed at record 1, but its log ends at 0"), "{error}");
    fixture.directory = TempDir::new().unwrap();
}
