//! A crash at any point between two writes leaves a lake that the next attempt completes: each row once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod samples;

use kilter_core::{Offset, RecordKind, ports::objects::*};
use kilter_lake::{Lake, LakeErrorKind};
use kilter_testkit::MemoryObjects;
use proptest::prelude::*;
use samples::*;
use std::{
    io::Read,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
};

const DAY: &str = "2026-11-23T12:00:00Z";

fn offsets(root: &MemoryObjects, dataset: &str) -> Vec<u64> {
    read_records(root, dataset).iter().map(|record| record.offset.0).collect()
}

#[test]
fn the_same_batch_again_changes_nothing() {
    let root = root();
    let batch = records(0..20, at(DAY));
    assert_eq!(lake(&root).write_raw(&tenant(), SHARD, &batch).unwrap().len(), 1);
    let before = lake(&root).objects(&tenant()).unwrap();
    let reopened = lake(&root);
    assert!(reopened.write_raw(&tenant(), SHARD, &batch).unwrap().is_empty());
    assert_eq!(format!("{before:?}"), format!("{:?}", reopened.objects(&tenant()).unwrap()), "not even rewritten");
}

#[test]
fn crash_between_object_and_manifest() {
    let root = root();
    let batch = records(0..20, at(DAY));
    lake(&root).write_raw(&tenant(), SHARD, &batch[..10]).unwrap();
    lake(&root).write_raw(&tenant(), SHARD, &batch[10..15]).unwrap();
    delete(&root, &keys(&root, "_manifest/raw")[1]);

    let after = lake(&root);
    let verified = after.verify(&tenant()).unwrap();
    assert_eq!(verified.intact, 1);
    assert_eq!(
        verified.unfinished,
        ["tenant001/raw/date=2026-11-23/part-0-00000000000000000010-00000000000000000014.parquet"]
    );
    // The stream has grown meanwhile: the next attempt is cut differently.
    let written = after.write_raw(&tenant(), SHARD, &batch[5..]).unwrap();
    assert_eq!((written[0].first, written[0].last, written.len()), (Offset(10), Offset(19), 1));
    assert_eq!(offsets(&root, "raw"), (0..20).collect::<Vec<_>>(), "each row once");
    assert!(after.verify(&tenant()).unwrap().unfinished.is_empty());
}

/// Storage that refuses what is put under some keys.
struct Refusing {
    inner: Arc<MemoryObjects>,
    refuses: AtomicBool,
}

impl Buckets for Refusing {
    fn create_bucket(&self, bucket: &str, region: &str) -> Result<bool, ObjectError> {
        self.inner.create_bucket(bucket, region)
    }
    fn bucket(&self, bucket: &str) -> Result<Option<Bucket>, ObjectError> {
        self.inner.bucket(bucket)
    }
    fn buckets(&self) -> Result<Vec<Bucket>, ObjectError> {
        self.inner.buckets()
    }
    fn configure(&self, bucket: &str, change: BucketChange) -> Result<(), ObjectError> {
        self.inner.configure(bucket, change)
    }
    fn delete_bucket(&self, bucket: &str) -> Result<(), ObjectError> {
        self.inner.delete_bucket(bucket)
    }
}

impl Contents for Refusing {
    fn stage(&self, encrypted: bool) -> Result<Box<dyn Staging>, ObjectError> {
        self.inner.stage(encrypted)
    }
    fn read(&self, contents: &[Content], from: u64, to: u64) -> Result<Box<dyn Read + Send>, ObjectError> {
        self.inner.read(contents, from, to)
    }
    fn discard(&self, content: Content) {
        self.inner.discard(content);
    }
}

impl Objects for Refusing {
    fn publish(
        &self,
        bucket: &str,
        key: &str,
        contents: Vec<Content>,
        meta: Meta,
        condition: PutCondition,
    ) -> Result<Version, ObjectError> {
        if self.refuses.load(Ordering::Relaxed) && key.contains("_manifest") {
            return Err(ObjectError::new(ObjectErrorKind::Io, "publish", "no space left"));
        }
        self.inner.publish(bucket, key, contents, meta, condition)
    }
    fn version(&self, bucket: &str, key: &str, id: Option<&str>) -> Result<Option<Version>, ObjectError> {
        self.inner.version(bucket, key, id)
    }
    fn remove(&self, bucket: &str, targets: &[(String, Option<String>)]) -> Result<Vec<Removed>, ObjectError> {
        self.inner.remove(bucket, targets)
    }
    fn amend(&self, bucket: &str, key: &str, id: &str, change: Amend) -> Result<(), ObjectError> {
        self.inner.amend(bucket, key, id, change)
    }
    fn list(&self, bucket: &str, listing: &Listing) -> Result<Vec<Version>, ObjectError> {
        self.inner.list(bucket, listing)
    }
}

#[test]
fn a_failed_write_is_repeated_without_restart() {
    let root = root();
    let storage = Arc::new(Refusing { inner: root.clone(), refuses: AtomicBool::new(true) });
    let lake = Lake::open(storage.clone(), REGION).unwrap();
    lake.create_bucket(&tenant()).unwrap();
    let batch = records(0..10, at(DAY));
    // The object can be written, its manifest cannot.
    let error = lake.write_raw(&tenant(), SHARD, &batch[..5]).unwrap_err();
    assert!(error.retryable(), "{error}");
    assert_eq!(lake.verify(&tenant()).unwrap().unfinished.len(), 1);
    storage.refuses.store(false, Ordering::Relaxed);
    let written = lake.write_raw(&tenant(), SHARD, &batch).unwrap();
    assert_eq!((written.len(), written[0].rows), (1, 10));
    assert_eq!(offsets(&root, "raw"), (0..10).collect::<Vec<_>>());
    assert!(lake.verify(&tenant()).unwrap().unfinished.is_empty());
}

#[test]
fn a_versioned_bucket_changes_nothing_for_the_lake() {
    let root = root();
    let first = lake(&root);
    root.configure(&bucket(), BucketChange::Versioning(Versioning::Enabled)).unwrap();
    first.write_raw(&tenant(), SHARD, &records(0..10, at(DAY))).unwrap();
    delete(&root, &keys(&root, "_manifest/raw")[0]);
    lake(&root).write_raw(&tenant(), SHARD, &records(0..12, at(DAY))).unwrap();
    assert_eq!(offsets(&root, "raw"), (0..12).collect::<Vec<_>>(), "deleted objects do not count");
    assert_eq!(first.remove_tenant(&tenant()).unwrap(), 4, "old versions go too");
    assert!(!first.has_bucket(&tenant()).unwrap());
}

#[test]
fn other_rows_under_archived_offsets_are_refused() {
    let root = root();
    let lake = lake(&root);
    lake.write_raw(&tenant(), SHARD, &records(0..10, at(DAY))).unwrap();
    // The stream was deleted and made anew: offsets start at 0 again.
    let anew = records(0..3, at("2026-11-24T12:00:00Z"));
    let error = lake.write_raw(&tenant(), SHARD, &anew).unwrap_err();
    assert_eq!(error.kind, LakeErrorKind::Conflict);
    assert!(!error.retryable());
    assert!(error.to_string().contains("offboard"), "{error}");
    assert_eq!(offsets(&root, "raw").len(), 10, "nothing was written");
    // What was telemetry cannot turn into something rejected.
    let mut turned = records(12..14, at(DAY));
    lake.write_raw(&tenant(), SHARD, &turned).unwrap();
    turned.insert(0, record(11, at(DAY), b"x", Some("late")));
    turned[0].record.kind = RecordKind::Telemetry;
    assert_eq!(lake.write_raw(&tenant(), SHARD, &turned).unwrap_err().kind, LakeErrorKind::Conflict);
    // The conflict blocks nobody else, and the right rows still go in.
    lake.write_raw(&tenant(), SHARD, &records(12..20, at(DAY))).unwrap();
    assert_eq!(offsets(&root, "raw").len(), 18);
}

#[test]
fn a_second_attempt_may_have_lost_rows_and_gained_new_ones() {
    let root = root();
    let day = at(DAY);
    let rows: Vec<_> = (0..6).map(|i| reading(i, 0, day)).collect();
    lake(&root).write_scored(&tenant(), SHARD, Offset(0), Offset(3), &rows[..4]).unwrap();
    // Rows 0 and 2 expired between the attempts.
    let again = [rows[1].clone(), rows[3].clone(), rows[4].clone(), rows[5].clone()];
    let written = lake(&root).write_scored(&tenant(), SHARD, Offset(0), Offset(5), &again).unwrap();
    assert_eq!((written.len(), written[0].first, written[0].rows), (1, Offset(4), 2));
    assert_eq!(read_scored(&root), rows);
    let other = [reading(1, 1, day)];
    let error = lake(&root).write_scored(&tenant(), SHARD, Offset(0), Offset(5), &other).unwrap_err();
    assert_eq!(error.kind, LakeErrorKind::Conflict);
}

#[test]
fn rows_out_of_order_are_refused() {
    let root = root();
    let lake = lake(&root);
    let mut batch = records(0..3, at(DAY));
    batch.swap(0, 2);
    assert_eq!(lake.write_raw(&tenant(), SHARD, &batch).unwrap_err().kind, LakeErrorKind::Invalid);
    let mut odd = reading(3, 0, at(DAY));
    odd.position = "nowhere".into();
    let error = lake.write_scored(&tenant(), SHARD, Offset(0), Offset(9), &[odd]).unwrap_err();
    assert_eq!(error.kind, LakeErrorKind::Invalid);
    assert!(lake.objects(&tenant()).unwrap().is_empty());
}

#[test]
fn verify_finds_damage() {
    let root = root();
    let lake = lake(&root);
    for start in [0, 10, 20] {
        lake.write_raw(&tenant(), SHARD, &records(start..start + 10, at(DAY))).unwrap();
    }
    let objects = keys(&root, "raw");
    let mut flipped = bytes_of(&root, &objects[0]).to_vec();
    flipped[40] ^= 1;
    replace(&root, &objects[0], &flipped);
    delete(&root, &objects[1]);
    replace(&root, &keys(&root, "_manifest/raw")[2], b"{");
    let verified = lake.verify(&tenant()).unwrap();
    assert_eq!((verified.intact, verified.damaged.len()), (0, 3), "{verified:?}");
    let problems: Vec<&str> = verified.damaged.iter().map(|damage| damage.problem.as_str()).collect();
    assert!(problems[0].contains("SHA-256") && problems[1].contains("missing"), "{problems:?}");
    assert!(verified.unfinished.is_empty(), "an object with an unreadable manifest is not garbage: {verified:?}");
}

#[test]
fn shards_are_written_side_by_side() {
    let root = root();
    let lake: Lake = lake(&root);
    std::thread::scope(|scope| {
        for shard in 0..3 {
            let lake = &lake;
            scope.spawn(move || {
                for start in (0..20).step_by(5) {
                    let shard = kilter_core::ShardId(shard);
                    lake.write_raw(&tenant(), shard, &records(start..start + 5, at(DAY))).unwrap();
                }
            });
        }
    });
    let verified = lake.verify(&tenant()).unwrap();
    assert_eq!((verified.intact, verified.rows), (12, 60));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However batches are cut, and whichever manifests a crash cost, each row is archived once.
    #[test]
    fn each_row_once(
        attempts in prop::collection::vec((0usize..30, 1usize..30, any::<bool>()), 1..6),
        kinds in prop::collection::vec(any::<bool>(), 40),
    ) {
        let root = root();
        // 40 minutes around midnight.
        let all: Vec<_> = kinds.iter().enumerate().map(|(i, telemetry)| {
            let arrival = at("2026-11-23T23:40:00Z").plus_seconds(60 * i as i64);
            record(i as u64, arrival, b"{}", (!telemetry).then_some("odd"))
        }).collect();
        let mut checkpoint = 0;
        for (back, ahead, crash) in attempts {
            let start = checkpoint - back.min(checkpoint);
            let end = (checkpoint + ahead).min(all.len());
            lake(&root).write_raw(&tenant(), SHARD, &all[start..end]).unwrap();
            if crash && end > checkpoint {
                // The last object of a dataset lost its manifest; the checkpoint was not reached.
                let newest = |dataset| keys(&root, &format!("_manifest/{dataset}"));
                for manifest in newest("raw").last().into_iter().chain(newest("rejected").last()) {
                    let name = manifest.rsplit('/').next().unwrap();
                    if name["part-0-".len()..][..20].parse::<usize>().unwrap() >= checkpoint {
                        delete(&root, manifest);
                    }
                }
            } else {
                checkpoint = end;
            }
        }
        lake(&root).write_raw(&tenant(), SHARD, &all[checkpoint..]).unwrap();
        let mut seen = read_records(&root, "raw");
        seen.extend(read_records(&root, "rejected"));
        seen.sort_by_key(|record| record.offset);
        prop_assert_eq!(seen, all);
    }
}
