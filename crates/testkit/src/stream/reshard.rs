//! What a stream's shards and its retention must do when they are changed.

use super::{PATIENCE, Subject, append, datas, kind, read_all, record, stream_name};
use futures::executor::block_on;
use kilter_core::{
    NewRecord, Offset, Reshard, ShardId, ShardView, StreamName,
    ports::stream::{Stream, StreamErrorKind},
};
use std::{thread, time::Duration};

fn shards_of(stream: &dyn Stream, name: &StreamName) -> Vec<ShardView> {
    stream.describe(name).unwrap().shards.all().to_vec()
}

/// A record that goes where its own hash key says.
fn placed(hash_key: u128, data: &'static str) -> NewRecord {
    NewRecord { hash_key: Some(hash_key), ..record("k", data) }
}

const HALF: u128 = 1 << 127;
const BATCHES: u32 = 80;

pub fn reshards(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("reshard");
    stream.create(&name, 2).unwrap();
    append(&*stream, &name, vec![placed(0, "a"), placed(HALF - 1, "b"), placed(HALF, "c"), placed(u128::MAX, "d")]);
    let split = Reshard::Split { shard: ShardId(0), at: 100 };
    stream.reshard(&name, &[split]).unwrap();
    let places = append(&*stream, &name, vec![placed(99, "e"), placed(100, "f"), placed(HALF, "g")]);
    assert_eq!(places, [(ShardId(2), Offset(2)), (ShardId(3), Offset(2)), (ShardId(1), Offset(2))]);
    stream.reshard(&name, &[Reshard::Merge { shard: ShardId(1), adjacent: ShardId(3) }]).unwrap();
    assert_eq!(append(&*stream, &name, vec![placed(100, "h"), placed(HALF, "i")]).len(), 2);
    let stream = subject.reopen(stream);
    let texts = |shard| datas(&read_all(&*stream, &name, shard)).concat();
    assert_eq!([0, 1, 2, 3, 4].map(texts), [&b"ab"[..], b"cdg", b"e", b"f", b"hi"]);
    let shards = shards_of(&*stream, &name);
    let facts = shards.iter().map(|s| (s.hash_keys, s.start.0, s.parents.iter().map(|p| p.0).collect::<Vec<_>>()));
    let expected = [
        ((0, HALF - 1), 0, vec![]),
        ((HALF, u128::MAX), 0, vec![]),
        ((0, 99), 2, vec![0]),
        ((100, HALF - 1), 2, vec![0]),
        ((100, u128::MAX), 3, vec![1, 3]),
    ];
    assert_eq!(facts.collect::<Vec<_>>(), expected);
    let ends: Vec<_> = shards.iter().map(|shard| shard.closed.map(|(end, _)| end.0)).collect();
    assert_eq!(ends, [Some(2), Some(3), None, Some(3), None]);
    assert_eq!(stream.list().unwrap(), [(name.clone(), 5)]);
    stream.create(&name, 2).unwrap();
    assert_eq!(kind(stream.create(&name, 5)), StreamErrorKind::Conflict);
    assert_eq!(stream.delete(&name).unwrap(), 9);
}

pub fn reshards_as_a_whole(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("whole");
    stream.create(&name, 1).unwrap();
    append(&*stream, &name, vec![record("k", "x")]);
    let split = |shard, at| Reshard::Split { shard: ShardId(shard), at };
    let merge = |shard, adjacent| Reshard::Merge { shard: ShardId(shard), adjacent: ShardId(adjacent) };
    let before = shards_of(&*stream, &name);
    for bad in [split(0, 0), split(1, 5), split(7, 5), merge(0, 0), merge(0, 9)] {
        assert_eq!(kind(stream.reshard(&name, &[bad])), StreamErrorKind::Conflict, "{bad:?}");
    }
    let none = stream.reshard(&name, &[split(0, HALF), split(1, HALF)]);
    assert_eq!(kind(none), StreamErrorKind::Conflict);
    assert_eq!(shards_of(&*stream, &name), before);
    assert_eq!(kind(stream.reshard(&stream_name("none"), &[split(0, HALF)])), StreamErrorKind::NotFound);
    let seen = stream.wait(0, PATIENCE);
    // Into three: a shard of the first step is split by the second, and never holds a record.
    stream.reshard(&name, &[split(0, HALF), split(1, 5), split(2, HALF + 5), merge(4, 5)]).unwrap();
    assert_ne!(stream.wait(seen, PATIENCE), seen, "who waits looks for the children");
    let stream = subject.reopen(stream);
    let view = stream.describe(&name).unwrap();
    let open: Vec<_> = view.shards.open().map(|shard| (shard.id.0, shard.hash_keys.0, shard.start.0)).collect();
    assert_eq!(open, [(3, 0, 1), (7, 5, 1), (6, HALF + 5, 1)]);
    let ends: Vec<_> = view.shards.all().iter().filter_map(|s| s.closed.map(|(end, _)| end.0)).collect();
    assert_eq!(ends, [1; 5]);
    assert!(matches!(append(&*stream, &name, vec![record("k", "y")])[..], [(_, Offset(1))]));
}

pub fn orders_across_shards(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("lineage");
    stream.create(&name, 1).unwrap();
    let keys: Vec<String> = (0..4).map(|key| format!("key-{key}")).collect();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let batch = |i: u32| keys.iter().map(|key| record(key, format!("{key} {i:06}"))).collect();
            let futures: Vec<_> = (0..BATCHES).map(|i| stream.append(&name, batch(i))).collect();
            futures.into_iter().for_each(|future| drop(block_on(future).unwrap()));
        });
        for (shard, at) in [(0, HALF), (1, HALF / 2), (2, HALF + HALF / 2)] {
            stream.reshard(&name, &[Reshard::Split { shard: ShardId(shard), at }]).unwrap();
        }
        stream.reshard(&name, &[Reshard::Merge { shard: ShardId(4), adjacent: ShardId(5) }]).unwrap();
        writer.join().unwrap();
    });
    // A parent's number is smaller than its children's.
    let all = (0..8).flat_map(|shard| read_all(&*stream, &name, shard));
    let texts: Vec<String> = all.map(|r| String::from_utf8(r.record.data.to_vec()).unwrap()).collect();
    for key in &keys {
        let own: Vec<&String> = texts.iter().filter(|text| text.starts_with(&format!("{key} "))).collect();
        assert!(own.len() == BATCHES as usize && own.is_sorted(), "{key}");
    }
}

pub fn says_its_retention(subject: &mut dyn Subject) {
    let stream = subject.fresh();
    let name = stream_name("retention");
    let (day, year) = (Duration::from_secs(86_400), Duration::from_secs(365 * 86_400));
    assert_eq!(kind(stream.set_retention(&name, day)), StreamErrorKind::NotFound);
    assert_eq!(kind(stream.describe(&name)), StreamErrorKind::NotFound);
    stream.create(&name, 1).unwrap();
    assert_ne!(stream.describe(&name).unwrap().retention, year);
    stream.set_retention(&name, year).unwrap();
    let stream = subject.reopen(stream);
    assert_eq!(stream.describe(&name).unwrap().retention, year);
    stream.set_retention(&name, day).unwrap();
    assert_eq!(stream.describe(&name).unwrap().retention, day);
}
