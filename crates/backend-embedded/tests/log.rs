//! The log against everything that can happen to its files: crashes, lost writes, flipped bits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures::executor::block_on;
use kilter_backend_embedded::{EmbeddedStream, StreamConfig};
use kilter_core::{
    NewRecord, Offset, Record, ShardId, StreamName,
    ports::stream::{ReadLimit, Stream, StreamAdmin, StreamError, StreamErrorKind},
};
use kilter_testkit::{
    FakeClock,
    stream::{read_all, record, stream_name},
};
use proptest::prelude::*;
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

const SHARD: ShardId = ShardId(0);
const SEGMENT_HEADER_BYTES: u64 = 40;

fn name() -> StreamName {
    stream_name("s")
}

fn try_open(directory: &Path, segment_bytes: u64) -> Result<Arc<EmbeddedStream>, StreamError> {
    let config = StreamConfig { segment_bytes, retention_bytes: 0, ..StreamConfig::default() };
    EmbeddedStream::open(directory, config, Arc::new(FakeClock::default()))
}

fn open(directory: &Path, segment_bytes: u64) -> Arc<EmbeddedStream> {
    let stream = try_open(directory, segment_bytes).unwrap();
    stream.create(&name(), 1).unwrap();
    stream
}

/// The shard's segments, oldest first.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory.join("s/shard-0000")).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    logs.sort();
    logs
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).unwrap().len()
}

/// Where the last frame ends; zeros may follow.
fn frames_end(file: &Path) -> u64 {
    let bytes = fs::read(file).unwrap();
    let mut at = SEGMENT_HEADER_BYTES as usize;
    while let Some(header) = bytes.get(at..at + 20).filter(|header| header.iter().any(|byte| *byte != 0)) {
        at += 20 + u32::from_le_bytes(header[..4].try_into().unwrap()) as usize;
    }
    at as u64
}

/// What a crash leaves of the one shard.
fn crash_image(from: &Path) -> TempDir {
    let image = TempDir::new().unwrap();
    let (from, to) = (from.join("s"), image.path().join("s"));
    fs::create_dir_all(to.join("shard-0000")).unwrap();
    fs::copy(from.join("meta"), to.join("meta")).unwrap();
    for entry in fs::read_dir(from.join("shard-0000")).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join("shard-0000").join(entry.file_name())).unwrap();
    }
    image
}

fn cut(file: &Path, length: u64) {
    OpenOptions::new().write(true).open(file).unwrap().set_len(length).unwrap();
}

fn patch(file: &Path, position: u64, change: impl FnOnce(u8) -> u8) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[change(byte[0])], position).unwrap();
}

/// Records of the given sizes, each unlike all others.
fn batch(first: u64, sizes: &[usize]) -> Vec<NewRecord> {
    let one = |(i, size): (usize, &usize)| {
        let number = first + i as u64;
        let data: Vec<u8> = (0..*size).map(|at| (number as usize * 31 + at * 7) as u8).collect();
        NewRecord { thing_sequence: number, ..record("key", data) }
    };
    sizes.iter().enumerate().map(one).collect()
}

fn append(stream: &dyn Stream, records: Vec<NewRecord>) -> u64 {
    block_on(stream.append(&name(), records)).unwrap().last().map_or(0, |place| place.1.0 + 1)
}

fn assert_prefix(read: &[Record], of: &[NewRecord]) {
    for (read, (number, appended)) in read.iter().zip((0..).zip(of)) {
        assert_eq!((read.offset.0, &read.record), (number, appended));
    }
    assert!(read.len() <= of.len());
}

fn sizes() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let size = prop_oneof![10 => 0..200usize, 1 => 0..5000usize];
    prop::collection::vec(prop::collection::vec(size, 1..8), 1..10)
}

/// Appends batch after batch. Answers all records, and for every batch how many records were acknowledged
/// then and where the last segment's records ended.
fn fill(stream: &dyn Stream, directory: &Path, batches: &[Vec<usize>]) -> (Vec<NewRecord>, Vec<(PathBuf, u64, u64)>) {
    let (mut records, mut acknowledged) = (Vec::new(), Vec::new());
    for sizes in batches {
        let batch = batch(records.len() as u64, sizes);
        records.extend(batch.iter().cloned());
        let count = append(stream, batch);
        let last = segments(directory).pop().unwrap();
        acknowledged.push((last.file_name().unwrap().into(), frames_end(&last), count));
    }
    (records, acknowledged)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A crash may cut the last segment anywhere: what was acknowledged before that byte was written is
    /// there, what is there is a prefix, and the log goes on.
    #[test]
    fn a_cut_tail_recovers_a_prefix(batches in sizes(), segment_bytes in 500..20_000u64, place: prop::sample::Index) {
        let directory = TempDir::new().unwrap();
        let stream = open(directory.path(), segment_bytes);
        let (mut records, acknowledged) = fill(&*stream, directory.path(), &batches);
        let image = crash_image(directory.path());
        let last = segments(image.path()).pop().unwrap();
        let at = place.index(length(&last) as usize + 1) as u64;
        cut(&last, at);

        let stream = open(image.path(), segment_bytes);
        let read = read_all(&*stream, &name(), 0);
        assert_prefix(&read, &records);
        let file_name = PathBuf::from(last.file_name().unwrap());
        let safe = acknowledged.iter().filter(|(file, length, _)| *file < file_name || (*file == file_name && *length <= at));
        prop_assert!(read.len() as u64 >= safe.map(|(_, _, count)| *count).max().unwrap_or(0));

        records.truncate(read.len());
        records.extend(batch(records.len() as u64, &[10, 20]));
        prop_assert_eq!(append(&*stream, records[read.len()..].to_vec()), records.len() as u64);
        drop(stream);
        let again = open(image.path(), segment_bytes);
        let read = read_all(&*again, &name(), 0);
        assert_prefix(&read, &records);
        prop_assert_eq!(read.len(), records.len());
    }

    /// A power cut may lose any part of the last, unacknowledged write and keep what lies behind it.
    #[test]
    fn lost_pages_of_an_unfinished_write_lose_nothing_acknowledged(
        batches in sizes(),
        unfinished in prop::collection::vec(0..3000usize, 1..12),
        lost in prop::collection::vec((any::<prop::sample::Index>(), 1..4096usize), 1..4),
        closed: bool,
    ) {
        let directory = TempDir::new().unwrap();
        let mut stream = open(directory.path(), 1 << 30);
        let (mut records, _) = fill(&*stream, directory.path(), &batches);
        if closed {
            drop(stream);
            stream = open(directory.path(), 1 << 30);
        }
        let count = records.len();
        let safe = frames_end(&segments(directory.path())[0]);
        records.extend(batch(count as u64, &unfinished));
        append(&*stream, records[count..].to_vec());

        let image = crash_image(directory.path());
        let file = segments(image.path()).pop().unwrap();
        let end = frames_end(&file);
        for (place, bytes) in lost {
            let from = safe + place.index((end - safe) as usize) as u64;
            let zeros = vec![0; bytes.min((end - from) as usize)];
            OpenOptions::new().write(true).open(&file).unwrap().write_all_at(&zeros, from).unwrap();
        }
        let stream = open(image.path(), 1 << 30);
        let read = read_all(&*stream, &name(), 0);
        assert_prefix(&read, &records);
        prop_assert!(read.len() >= count);
    }

    /// One wrong byte anywhere in a log that was closed in order is never taken for data: either the start or
    /// the read that comes upon it says `Damaged`, and what was read before is right.
    #[test]
    fn a_wrong_byte_is_damage(batches in sizes(), segment_bytes in 500..20_000u64, place: prop::sample::Index, flip in 1..=255u8) {
        let directory = TempDir::new().unwrap();
        let stream = open(directory.path(), segment_bytes);
        let (records, _) = fill(&*stream, directory.path(), &batches);
        drop(stream);
        let files = segments(directory.path());
        let total: u64 = files.iter().map(|file| length(file)).sum();
        // The last mark is no record: it may go.
        let mut at = place.index((total - 20) as usize) as u64;
        let mut files = files.iter();
        let file = files.find(|file| match at.checked_sub(length(file)) {
            Some(rest) => { at = rest; false }
            None => true,
        }).unwrap();
        patch(file, at, |byte| byte ^ flip);

        match try_open(directory.path(), segment_bytes) {
            Err(error) => prop_assert_eq!(error.kind, StreamErrorKind::Damaged),
            Ok(stream) => {
                let mut read: Vec<Record> = Vec::new();
                let error = loop {
                    let from = Offset(read.len() as u64);
                    match stream.read(&name(), SHARD, from, ReadLimit { records: 5, bytes: 1 << 20 }) {
                        Ok(more) if more.is_empty() => break None,
                        Ok(more) => read.extend(more),
                        Err(error) => break Some(error),
                    }
                };
                assert_prefix(&read, &records);
                prop_assert_eq!(error.map(|error| error.kind), Some(StreamErrorKind::Damaged));
            }
        }
    }

    /// Appends, reads, retention and restarts in any order, against a vector.
    #[test]
    fn answers_like_a_vector(steps in prop::collection::vec(step(), 1..60), segment_bytes in 200..3000u64) {
        let directory = TempDir::new().unwrap();
        let mut stream = open(directory.path(), segment_bytes);
        let (mut records, mut first): (Vec<NewRecord>, u64) = (Vec::new(), 0);
        let mut needed = None;
        for step in steps {
            match step {
                Step::Append(sizes) => {
                    let batch = batch(records.len() as u64, &sizes);
                    records.extend(batch.iter().cloned());
                    append(&*stream, batch);
                }
                Step::Read(from, count, bytes) => {
                    let from = from.index(records.len() + 2) as u64;
                    let read = stream.read(&name(), SHARD, Offset(from), ReadLimit { records: count, bytes });
                    let first = stream.bounds(&name(), SHARD).unwrap().first.0;
                    match read {
                        Err(error) => prop_assert!(error.kind == StreamErrorKind::Trimmed && from < first),
                        // Retention may come between two segments of one read.
                        Ok(read) if from < first => {
                            prop_assert!(expected(&records, from, count, bytes).starts_with(&read));
                        }
                        Ok(read) => prop_assert_eq!(read, expected(&records, from, count, bytes)),
                    }
                }
                Step::Retain(to) => {
                    let to = to.index(records.len() + 1) as u64;
                    stream.retain_from(&name(), SHARD, Offset(to)).unwrap();
                    needed = needed.max(Some(to));
                }
                Step::Trim => stream.enforce_retention(),
                Step::Reopen => {
                    drop(stream);
                    stream = open(directory.path(), segment_bytes);
                    // The round that was the last one may have deleted something.
                    let now = stream.bounds(&name(), SHARD).unwrap().first.0;
                    prop_assert!(now == first || needed.take().is_some_and(|needed| now <= needed));
                    (first, needed) = (now, None);
                }
            }
            let bounds = stream.bounds(&name(), SHARD).unwrap();
            prop_assert_eq!(bounds.next.0, records.len() as u64);
            prop_assert!(bounds.first.0 >= first, "what is gone does not come back");
            prop_assert!(bounds.first.0 == first || needed.is_some_and(|needed| bounds.first.0 <= needed));
            first = bounds.first.0;
        }
        let deleted = stream.delete(&name()).unwrap();
        prop_assert!(deleted == records.len() as u64 - first || (needed.is_some() && deleted < records.len() as u64 - first));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<usize>),
    Read(prop::sample::Index, usize, usize),
    Retain(prop::sample::Index),
    Trim,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(0..300usize, 1..10).prop_map(Step::Append),
        6 => (any::<prop::sample::Index>(), 0..20usize, 0..2000usize).prop_map(|(a, b, c)| Step::Read(a, b, c)),
        1 => any::<prop::sample::Index>().prop_map(Step::Retain),
        1 => Just(Step::Trim),
        1 => Just(Step::Reopen),
    ]
}

fn expected(records: &[NewRecord], from: u64, count: usize, bytes: usize) -> Vec<Record> {
    let (mut found, mut sum) = (Vec::new(), 0);
    for (record, offset) in records.iter().skip(from as usize).zip(from..).take(count) {
        sum += record.data.len();
        if sum > bytes && !found.is_empty() {
            break;
        }
        found.push(Record { offset: Offset(offset), record: record.clone() });
    }
    found
}

#[test]
fn damage_is_told_with_file_position_and_advice() {
    let directory = TempDir::new().unwrap();
    let stream = open(directory.path(), 1 << 20);
    append(&*stream, batch(0, &[50]));
    append(&*stream, batch(1, &[50]));
    drop(stream);
    let file = segments(directory.path()).remove(0);
    patch(&file, SEGMENT_HEADER_BYTES + 60, |byte| !byte);
    let error = try_open(directory.path(), 1 << 20).err().unwrap();
    assert_eq!(error.kind, StreamErrorKind::Damaged);
    let message = error.to_string();
    for part in [file.to_str().unwrap(), "byte 40", "restore", "truncate -s 40"] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    // The advice works.
    cut(&file, 40);
    assert_eq!(read_all(&*open(directory.path(), 1 << 20), &name(), 0), []);
}

#[test]
fn zeros_written_ahead_are_gone_after_a_crash_and_after_an_orderly_end() {
    let directory = TempDir::new().unwrap();
    let stream = open(directory.path(), 1 << 20);
    let records = batch(0, &[400; 20]);
    append(&*stream, records.clone());
    let file = segments(directory.path()).remove(0);
    let end = frames_end(&file);
    assert_eq!(length(&file), 2 * end, "as many zeros as records");

    let image = crash_image(directory.path());
    let after = open(image.path(), 1 << 20);
    assert_eq!(length(&segments(image.path())[0]), end);
    assert_prefix(&read_all(&*after, &name(), 0), &records);
    assert_eq!(append(&*after, batch(20, &[10])), 21);

    drop(stream);
    assert_eq!(length(&file), end + 20, "the mark is last");
}

#[test]
fn a_shard_without_its_files_is_damage() {
    let directory = TempDir::new().unwrap();
    drop(open(directory.path(), 1 << 20));
    let file = segments(directory.path()).remove(0);
    fs::remove_file(file).unwrap();
    assert_eq!(try_open(directory.path(), 1 << 20).err().unwrap().kind, StreamErrorKind::Damaged);
    let directory = TempDir::new().unwrap();
    drop(open(directory.path(), 1 << 20));
    fs::remove_file(directory.path().join("s/meta")).unwrap();
    assert_eq!(try_open(directory.path(), 1 << 20).err().unwrap().kind, StreamErrorKind::Damaged);
}

#[test]
fn a_missing_segment_is_damage_when_read() {
    let directory = TempDir::new().unwrap();
    let stream = open(directory.path(), 1);
    for i in 0..4 {
        append(&*stream, batch(i, &[50]));
    }
    drop(stream);
    fs::remove_file(&segments(directory.path())[1]).unwrap();
    let stream = open(directory.path(), 1);
    let read = |from| stream.read(&name(), SHARD, Offset(from), ReadLimit { records: 10, bytes: 1 << 20 });
    assert_eq!(read(0).unwrap().len(), 1);
    assert_eq!(read(1).unwrap_err().kind, StreamErrorKind::Damaged);
    assert_eq!(read(2).unwrap().len(), 2);
}

#[test]
fn indexes_are_made_anew_where_they_are_missing_or_wrong() {
    let directory = TempDir::new().unwrap();
    let stream = open(directory.path(), 300_000);
    let records = batch(0, &[500; 2000]);
    append(&*stream, records.clone());
    drop(stream);
    let logs = segments(directory.path());
    assert!(logs.len() > 3, "{logs:?}");
    fs::remove_file(logs[0].with_extension("idx")).unwrap();
    patch(&logs[1].with_extension("idx"), 60, |byte| !byte);
    fs::copy(logs[1].with_extension("idx"), logs[2].with_extension("idx")).unwrap();
    let orphan = logs[0].with_file_name("00000000000000099999.idx");
    fs::write(&orphan, "left behind").unwrap();
    let stream = open(directory.path(), 300_000);
    for from in [1999, 1000, 777, 400, 1, 0] {
        let read = stream.read(&name(), SHARD, Offset(from), ReadLimit { records: 3, bytes: 1 << 20 }).unwrap();
        assert_eq!(read[0].offset, Offset(from));
        assert_eq!(read[0].record, records[from as usize]);
    }
    assert!(logs[0].with_extension("idx").exists() && !orphan.exists());
}

#[test]
fn unfinished_makings_and_deletions_are_cleared_away() {
    let directory = TempDir::new().unwrap();
    let stream = open(directory.path(), 1 << 20);
    append(&*stream, batch(0, &[1]));
    drop(stream);
    fs::create_dir_all(directory.path().join("new~making/shard-0000")).unwrap();
    fs::create_dir_all(directory.path().join("old~deleted/shard-0000")).unwrap();
    let stream = open(directory.path(), 1 << 20);
    assert_eq!(stream.list().unwrap(), [(name(), 1)]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}
