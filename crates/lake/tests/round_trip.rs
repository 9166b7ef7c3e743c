//! What goes into the lake comes out of it, under the contract's names.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod samples;

use bytes::Bytes;
use kilter_core::{
    Cause, Direction, NewRecord, Offset, Record, RecordKind, Score, ScoredReading, ThingName, Timestamp, Verdict,
};
use kilter_lake::{Dataset, LakeErrorKind};
use proptest::{collection::vec, prelude::*};
use samples::*;

#[test]
fn a_batch_over_midnight_lands_under_the_contracts_names() {
    let root = root();
    let lake = lake(&root);
    let mut batch = records(0..10, at("2026-11-23T23:59:55Z"));
    batch[3].record.kind = RecordKind::Rejected("not JSON".into());
    let written = lake.write_raw(&tenant(), SHARD, &batch).unwrap();
    let keys: Vec<&str> = written.iter().map(|written| written.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "tenant001/raw/date=2026-11-23/part-0-00000000000000000000-00000000000000000004.parquet",
            "tenant001/raw/date=2026-11-24/part-0-00000000000000000005-00000000000000000009.parquet",
            "tenant001/rejected/date=2026-11-23/part-0-00000000000000000003-00000000000000000003.parquet",
        ]
    );
    assert_eq!(written.iter().map(|written| written.rows).collect::<Vec<_>>(), [4, 5, 1]);
    let mut back = read_records(&root, "raw");
    back.extend(read_records(&root, "rejected"));
    back.sort_by_key(|record| record.offset);
    assert_eq!(back, batch);

    let manifest = "tenant001/_manifest/raw/part-0-00000000000000000000-00000000000000000004.json";
    let manifest = bytes_of(&root, manifest);
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["object"], keys[0]);
    assert_eq!((&manifest["rows"], &manifest["last_offset"]), (&4.into(), &4.into()));
    assert_eq!(manifest["arrival_max"], "2026-11-23T23:59:59Z");
    assert_eq!(manifest["event_time_min"], serde_json::Value::Null);
    assert_eq!(manifest["sha256"].as_str().unwrap().len(), 64);

    let objects = lake.objects(&tenant()).unwrap();
    assert_eq!(objects.len(), 6, "three objects, three manifests");
    assert!(objects.windows(2).all(|pair| pair[0].key < pair[1].key));
    assert!(objects.iter().all(|object| object.bucket == "iot-data-lake-tenant001-us-east-1" && object.bytes > 0));
    let verified = lake.verify(&tenant()).unwrap();
    assert_eq!((verified.intact, verified.rows), (3, 10));
    assert!(verified.damaged.is_empty() && verified.unfinished.is_empty());
}

#[test]
fn scored_parts_answer_for_the_whole_span() {
    let root = root();
    let lake = lake(&root);
    let day = at("2026-11-23T12:00:00Z");
    let rows = [reading(12, 0, day), reading(12, 1, day), reading(15, 0, day.plus_seconds(86_400))];
    let written = lake.write_scored(&tenant(), SHARD, Offset(10), Offset(20), &rows).unwrap();
    let spans: Vec<_> = written.iter().map(|part| (part.dataset, part.first.0, part.last.0, part.rows)).collect();
    assert_eq!(spans, [(Dataset::Scored, 10, 14, 2), (Dataset::Scored, 15, 20, 1)]);
    assert_eq!(read_scored(&root), rows);
    let outside = lake.write_scored(&tenant(), SHARD, Offset(21), Offset(22), &[reading(23, 0, day)]).unwrap_err();
    assert_eq!(outside.kind, LakeErrorKind::Invalid);
    assert!(lake.write_scored(&tenant(), SHARD, Offset(21), Offset(30), &[]).unwrap().is_empty());
}

#[test]
fn a_corrected_reading_is_one_more_row_of_the_day_and_offset_that_brought_it() {
    let root = root();
    let (day, next) = (at("2026-11-23T12:00:00Z"), at("2026-11-24T12:00:00Z"));
    let first = [reading(3, 0, day), reading(4, 0, day)];
    lake(&root).write_scored(&tenant(), SHARD, Offset(0), Offset(9), &first).unwrap();
    let late = [reading(12, 0, next), corrected(&first[0], 1, 12, next), corrected(&first[1], 2, 12, next)];
    let written = lake(&root).write_scored(&tenant(), SHARD, Offset(10), Offset(12), &late).unwrap();
    assert_eq!((written.len(), written[0].rows), (1, 3));
    assert!(written[0].key.contains("/scored/date=2026-11-24/"), "{}", written[0].key);
    assert_eq!(read_scored(&root), [&first[..], &late].concat());
    // A second attempt finds them, and finds others out.
    let again = lake(&root).write_scored(&tenant(), SHARD, Offset(10), Offset(12), &late).unwrap();
    assert!(again.is_empty(), "{again:?}");
    let other = corrected(&reading(5, 0, day), 1, 12, next);
    let error = lake(&root).write_scored(&tenant(), SHARD, Offset(10), Offset(12), &[other]).unwrap_err();
    assert_eq!(error.kind, LakeErrorKind::Conflict);
}

#[test]
fn no_bucket_no_write() {
    let root = root();
    let lake = kilter_lake::Lake::open(root.clone(), REGION).unwrap();
    let batch = records(0..1, at("2026-11-23T00:00:00Z"));
    assert!(!lake.has_bucket(&tenant()).unwrap());
    let error = lake.write_raw(&tenant(), SHARD, &batch).unwrap_err();
    assert_eq!(error.kind, LakeErrorKind::NoBucket);
    assert!(error.to_string().contains("create it first"), "{error}");
    assert!(lake.create_bucket(&tenant()).unwrap());
    assert!(!lake.create_bucket(&tenant()).unwrap(), "the second call makes nothing");
    assert_eq!(lake.write_raw(&tenant(), SHARD, &batch).unwrap().len(), 1);
    assert_eq!(lake.remove_tenant(&tenant()).unwrap(), 2);
    assert!(!lake.has_bucket(&tenant()).unwrap());
    assert_eq!(lake.remove_tenant(&tenant()).unwrap(), 0);
    // A tenant made anew starts anew.
    assert!(lake.create_bucket(&tenant()).unwrap());
    assert_eq!(lake.write_raw(&tenant(), SHARD, &batch).unwrap().len(), 1);
    for bad in ["", "../x", "US", "a/b", "r".repeat(40).as_str()] {
        assert_eq!(kilter_lake::Lake::open(root.clone(), bad).err().unwrap().kind, LakeErrorKind::Invalid);
    }
}

#[test]
fn tenants_do_not_see_each_other() {
    let root = root();
    let lake = lake(&root);
    let other = kilter_core::TenantId::new("tenant0011").unwrap();
    lake.create_bucket(&other).unwrap();
    lake.write_raw(&tenant(), SHARD, &records(0..3, at("2026-11-23T00:00:00Z"))).unwrap();
    assert!(lake.objects(&other).unwrap().is_empty());
    assert_eq!(lake.remove_tenant(&other).unwrap(), 0);
    assert_eq!(lake.objects(&tenant()).unwrap().len(), 2);
}

fn any_timestamp() -> impl Strategy<Value = Timestamp> {
    prop_oneof![any::<i64>(), 1_790_000_000_000_000_000..1_790_100_000_000_000_000i64].prop_map(Timestamp::from_nanos)
}

fn any_thing() -> impl Strategy<Value = ThingName> {
    "[a-zA-Z0-9:_-]{1,20}".prop_map(|name| ThingName::new(&name).unwrap())
}

fn any_record() -> impl Strategy<Value = NewRecord> {
    let kind = prop_oneof![Just(RecordKind::Telemetry), any::<String>().prop_map(|s| RecordKind::Rejected(s.into()))];
    (kind, any_thing(), 0..=i64::MAX as u64, any_timestamp(), any::<String>(), vec(any::<u8>(), 0..200)).prop_map(
        |(kind, thing, thing_sequence, arrival, topic, data)| NewRecord {
            kind,
            partition_key: thing.as_str().into(),
            hash_key: None,
            thing,
            thing_sequence,
            arrival,
            topic: topic.into(),
            data: Bytes::from(data),
        },
    )
}

fn any_cause() -> impl Strategy<Value = Cause> {
    let direction = prop_oneof![Just(Direction::High), Just(Direction::Low), Just(Direction::Odd)];
    (any::<String>(), 0.0..=1.0f64, direction, any::<f64>(), any::<[f64; 2]>(), "[a-z]{0,9}").prop_map(
        |(signal, share, direction, value, expected, detector)| Cause {
            signal: signal.into(),
            share,
            direction,
            value,
            expected,
            detector: detector.into(),
        },
    )
}

fn any_reading() -> impl Strategy<Value = ScoredReading> {
    let verdict = prop_oneof![
        any::<[u32; 2]>().prop_map(|[seen, needed]| Verdict::Warming { seen, needed }),
        Just(Verdict::Normal),
        Just(Verdict::Anomalous)
    ];
    let score = || prop::option::of((0.0..20.0f64).prop_map(Score::new));
    let values = prop::collection::btree_map(any::<String>().prop_map(Into::into), any::<f64>(), 0..6);
    (any_thing(), any_timestamp(), any_timestamp(), verdict, score(), score(), values, vec(any_cause(), 0..4)).prop_map(
        |(thing, event_time, arrival, verdict, score, threshold, values, causes)| ScoredReading {
            thing,
            event_time,
            arrival,
            position: "".into(),
            verdict,
            score,
            threshold,
            values,
            causes,
            corrected: None,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn arbitrary_records_survive(news in vec((1u64..1000, any_record()), 1..20)) {
        let root = root();
        let lake = lake(&root);
        let mut offset = 0;
        let batch: Vec<Record> = news.into_iter().map(|(step, record)| {
            offset += step;
            Record { offset: Offset(offset), record }
        }).collect();
        lake.write_raw(&tenant(), SHARD, &batch).unwrap();
        let mut back = read_records(&root, "raw");
        back.extend(read_records(&root, "rejected"));
        back.sort_by_key(|record| record.offset);
        prop_assert_eq!(&back, &batch);
        prop_assert!(lake.write_raw(&tenant(), SHARD, &batch).unwrap().is_empty(), "a second time nothing is new");
        prop_assert_eq!(lake.verify(&tenant()).unwrap().rows, batch.len() as u64);
    }

    #[test]
    fn arbitrary_readings_survive(rows in vec((0u64..3, any_reading()), 1..20)) {
        let root = root();
        let lake = lake(&root);
        let (mut offset, mut index) = (1, 0);
        let mut batch: Vec<ScoredReading> = Vec::new();
        for (step, mut row) in rows {
            if step > 0 || batch.is_empty() {
                (offset, index) = (offset + step, 0);
            } else {
                index += 1;
                row.arrival = batch[batch.len() - 1].arrival;
            }
            row.position = format!("0:{offset}:{index}").into();
            batch.push(row);
        }
        lake.write_scored(&tenant(), SHARD, Offset(1), Offset(offset), &batch).unwrap();
        prop_assert_eq!(read_scored(&root), batch);
        let verified = lake.verify(&tenant()).unwrap();
        prop_assert!(verified.damaged.is_empty() && verified.unfinished.is_empty());
    }
}
