//! Records and scored readings for the tests, and their way back out of Parquet.
#![allow(dead_code, reason = "each test file uses its part of this")]

use bytes::Bytes;
use kilter_core::{
    Cause, Correction, Direction, NewRecord, Offset, Record, RecordKind, Score, ScoredReading, ShardId, TenantId,
    ThingName, Timestamp, Verdict,
    ports::objects::{Contents, Listing, Meta, Objects, PutCondition},
};
use kilter_lake::Lake;
use kilter_testkit::MemoryObjects;
use parquet::{
    file::{reader::FileReader, serialized_reader::SerializedFileReader},
    record::{Field, List, Map, Row, RowAccessor},
};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::Arc,
};

pub const REGION: &str = "us-east-1";
pub const SHARD: ShardId = ShardId(0);

pub fn tenant() -> TenantId {
    TenantId::new("tenant001").unwrap()
}

pub fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

pub fn root() -> Arc<MemoryObjects> {
    Arc::default()
}

pub fn lake(root: &Arc<MemoryObjects>) -> Lake {
    let lake = Lake::open(root.clone(), REGION).unwrap();
    lake.create_bucket(&tenant()).unwrap();
    lake
}

pub fn bucket() -> String {
    tenant().bucket(REGION)
}

pub fn bytes_of(root: &MemoryObjects, key: &str) -> Bytes {
    let version = root.version(&bucket(), key, None).unwrap().unwrap();
    let mut bytes = Vec::new();
    root.read(&version.contents, 0, version.bytes()).unwrap().read_to_end(&mut bytes).unwrap();
    bytes.into()
}

/// What damage, or somebody with a key of the endpoint, does.
pub fn replace(root: &MemoryObjects, key: &str, bytes: &[u8]) {
    let mut staging = root.stage(false).unwrap();
    staging.write_all(bytes).unwrap();
    let content = staging.finish().unwrap();
    root.publish(&bucket(), key, vec![content], Meta::default(), PutCondition::Always).unwrap();
}

pub fn delete(root: &MemoryObjects, key: &str) {
    root.remove(&bucket(), &[(key.to_owned(), None)]).unwrap();
}

pub fn record(offset: u64, arrival: Timestamp, data: &[u8], reason: Option<&str>) -> Record {
    let thing = ThingName::new("pump-1").unwrap();
    Record {
        offset: Offset(offset),
        record: NewRecord {
            kind: reason.map_or(RecordKind::Telemetry, |reason| RecordKind::Rejected(reason.into())),
            partition_key: thing.as_str().into(),
            hash_key: None,
            topic: tenant().telemetry_topic(&thing).into(),
            thing,
            thing_sequence: offset + 1,
            arrival,
            data: Bytes::copy_from_slice(data),
        },
    }
}

/// One second apart from `start` on.
pub fn records(offsets: std::ops::Range<u64>, start: Timestamp) -> Vec<Record> {
    let json = |i: u64| format!("{{\"pressure\":{}.5,\"offset\":{i}}}", i % 7);
    offsets.map(|i| record(i, start.plus_seconds(i as i64), json(i).as_bytes(), None)).collect()
}

pub fn reading(offset: u64, index: u32, arrival: Timestamp) -> ScoredReading {
    ScoredReading {
        thing: ThingName::new("pump-1").unwrap(),
        event_time: arrival.plus_seconds(-1),
        arrival,
        position: format!("0:{offset}:{index}").into(),
        verdict: Verdict::Anomalous,
        score: Some(Score::new(4.5)),
        threshold: Some(Score::new(3.25)),
        values: BTreeMap::from([("flow".into(), 1.5), ("pressure".into(), -0.25)]),
        causes: vec![Cause {
            signal: "flow".into(),
            share: 1.0,
            direction: Direction::High,
            value: 1.5,
            expected: [0.5, 1.0],
            detector: "cusum".into(),
        }],
        corrected: None,
    }
}

/// The same reading, corrected by a record that came late.
pub fn corrected(reading: &ScoredReading, revision: u32, offset: u64, known: Timestamp) -> ScoredReading {
    let correction = Correction { revision, known, offset: Offset(offset) };
    ScoredReading { score: Some(Score::new(1.5)), corrected: Some(correction), ..reading.clone() }
}

/// Keys of the tenant that begin with a folder's name, sorted.
pub fn keys(root: &MemoryObjects, folder: &str) -> Vec<String> {
    let prefix = format!("{}/{folder}/", tenant());
    let listing = Listing { prefix, limit: usize::MAX, ..Listing::default() };
    let mut keys: Vec<_> = root.list(&bucket(), &listing).unwrap().into_iter().map(|version| version.key).collect();
    keys.sort_by_key(|key| key.rsplit('/').next().unwrap().to_owned());
    keys
}

fn rows(root: &MemoryObjects, key: &str) -> Vec<Row> {
    let reader = SerializedFileReader::new(bytes_of(root, key)).unwrap();
    reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
}

/// All records of a dataset (`raw` or `rejected`), in order of their keys' last parts.
pub fn read_records(root: &MemoryObjects, dataset: &str) -> Vec<Record> {
    keys(root, dataset).iter().flat_map(|key| rows(root, key)).map(|row| record_of(&row)).collect()
}

fn record_of(row: &Row) -> Record {
    assert_eq!(row.get_int(3).unwrap(), SHARD.0 as i32);
    let thing = ThingName::new(row.get_string(0).unwrap()).unwrap();
    let kind = if row.len() > 7 {
        RecordKind::Rejected(row.get_string(7).unwrap().as_str().into())
    } else {
        RecordKind::Telemetry
    };
    Record {
        offset: Offset(row.get_long(4).unwrap() as u64),
        record: NewRecord {
            kind,
            partition_key: thing.as_str().into(),
            hash_key: None,
            thing,
            thing_sequence: row.get_long(5).unwrap() as u64,
            arrival: Timestamp::from_nanos(row.get_long(2).unwrap()),
            topic: row.get_string(1).unwrap().as_str().into(),
            data: Bytes::copy_from_slice(row.get_bytes(6).unwrap().data()),
        },
    }
}

pub fn read_scored(root: &MemoryObjects) -> Vec<ScoredReading> {
    keys(root, "scored").iter().flat_map(|key| rows(root, key)).map(|row| scored_of(&row)).collect()
}

fn scored_of(row: &Row) -> ScoredReading {
    let score = |i: usize| row.get_double(i).ok().map(Score::new);
    let verdict = match row.get_string(4).unwrap().as_str() {
        "normal" => Verdict::Normal,
        "anomalous" => Verdict::Anomalous,
        "warming" => {
            Verdict::Warming { seen: row.get_long(5).unwrap() as u32, needed: row.get_long(6).unwrap() as u32 }
        }
        other => panic!("verdict {other}"),
    };
    ScoredReading {
        thing: ThingName::new(row.get_string(0).unwrap()).unwrap(),
        event_time: Timestamp::from_nanos(row.get_long(1).unwrap()),
        arrival: Timestamp::from_nanos(row.get_long(2).unwrap()),
        position: row.get_string(3).unwrap().as_str().into(),
        verdict,
        score: score(7),
        threshold: score(8),
        values: values_of(row.get_map(9).unwrap()),
        causes: causes_of(row.get_list(10).unwrap()),
        corrected: Some(Correction {
            known: Timestamp::from_nanos(row.get_long(11).unwrap()),
            offset: Offset(row.get_long(12).unwrap() as u64),
            revision: row.get_int(13).unwrap() as u32,
        })
        .filter(|correction| correction.revision > 0),
    }
}

fn values_of(map: &Map) -> BTreeMap<Box<str>, f64> {
    let entry = |(name, value): &(Field, Field)| match (name, value) {
        (Field::Str(name), Field::Double(value)) => (name.as_str().into(), *value),
        other => panic!("signal {other:?}"),
    };
    map.entries().iter().map(entry).collect()
}

fn causes_of(list: &List) -> Vec<Cause> {
    let cause = |field: &Field| {
        let Field::Group(row) = field else { panic!("cause {field:?}") };
        Cause {
            signal: row.get_string(0).unwrap().as_str().into(),
            share: row.get_double(1).unwrap(),
            direction: match row.get_string(2).unwrap().as_str() {
                "high" => Direction::High,
                "low" => Direction::Low,
                _ => Direction::Odd,
            },
            value: row.get_double(3).unwrap(),
            expected: [row.get_double(4).unwrap(), row.get_double(5).unwrap()],
            detector: row.get_string(6).unwrap().as_str().into(),
        }
    };
    list.elements().iter().map(cause).collect()
}
