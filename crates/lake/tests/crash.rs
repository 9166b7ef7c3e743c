//! A crash at any point between two writes leaves a lake that the next attempt completes: each row once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod samples;

use kilter_core::{Offset, RecordKind};
use kilter_lake::{Lake, LakeErrorKind};
use proptest::prelude::*;
use samples::*;
use std::fs;

const DAY: &str = "2026-11-23T12:00:00Z";

fn offsets(root: &std::path::Path, dataset: &str) -> Vec<u64> {
    read_records(root, dataset).iter().map(|record| record.offset.0).collect()
}

#[test]
fn the_same_batch_again_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let batch = records(0..20, at(DAY));
    assert_eq!(lake(root.path()).write_raw(&tenant(), SHARD, &batch).unwrap().len(), 1);
    let before = lake(root.path()).objects(&tenant()).unwrap();
    let reopened = lake(root.path());
    assert!(reopened.write_raw(&tenant(), SHARD, &batch).unwrap().is_empty());
    assert_eq!(format!("{before:?}"), format!("{:?}", reopened.objects(&tenant()).unwrap()), "not even rewritten");
}

#[test]
fn crash_between_object_and_manifest() {
    let root = tempfile::tempdir().unwrap();
    let batch = records(0..20, at(DAY));
    lake(root.path()).write_raw(&tenant(), SHARD, &batch[..10]).unwrap();
    lake(root.path()).write_raw(&tenant(), SHARD, &batch[10..15]).unwrap();
    let manifests = files(&bucket(root.path()).join("tenant001/_manifest/raw"), ".json");
    fs::remove_file(&manifests[1]).unwrap();

    let after = lake(root.path());
    let verified = after.verify(&tenant()).unwrap();
    assert_eq!(verified.intact, 1);
    assert_eq!(
        verified.unfinished,
        ["tenant001/raw/date=2026-11-23/part-0-00000000000000000010-00000000000000000014.parquet"]
    );
    // The stream has grown meanwhile: the next attempt is cut differently.
    let written = after.write_raw(&tenant(), SHARD, &batch[5..]).unwrap();
    assert_eq!((written[0].first, written[0].last, written.len()), (Offset(10), Offset(19), 1));
    assert_eq!(offsets(root.path(), "raw"), (0..20).collect::<Vec<_>>(), "each row once");
    assert!(after.verify(&tenant()).unwrap().unfinished.is_empty());
}

#[test]
fn crash_while_staging() {
    let root = tempfile::tempdir().unwrap();
    lake(root.path()).write_raw(&tenant(), SHARD, &records(0..2, at(DAY))).unwrap();
    let folder = bucket(root.path()).join("tenant001/raw/date=2026-11-23");
    let name = |shard: u32| format!("part-{shard}-00000000000000000002-00000000000000000003.parquet#1");
    fs::write(folder.join(name(0)), b"half").unwrap();
    fs::write(folder.join(name(1)), b"another shard's").unwrap();
    let manifests = bucket(root.path()).join("tenant001/_manifest/raw");
    fs::write(manifests.join("part-0-00000000000000000002-00000000000000000003.json#1"), b"{").unwrap();

    let after = lake(root.path());
    assert_eq!(after.objects(&tenant()).unwrap().len(), 2, "staged files are no objects");
    after.write_raw(&tenant(), SHARD, &records(2..4, at(DAY))).unwrap();
    let left = files(&bucket(root.path()), "#1");
    assert_eq!(left, [folder.join(name(1))], "another writer's files are its own");
    assert_eq!(offsets(root.path(), "raw"), [0, 1, 2, 3]);
}

#[test]
fn a_failed_write_is_repeated_without_restart() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake(root.path());
    let batch = records(0..10, at(DAY));
    // A file where the manifests' folder should be: the object can be written, its manifest cannot.
    let blocked = bucket(root.path()).join("tenant001/_manifest");
    fs::create_dir_all(blocked.parent().unwrap()).unwrap();
    fs::write(&blocked, b"").unwrap();
    let error = lake.write_raw(&tenant(), SHARD, &batch[..5]).unwrap_err();
    assert!(error.retryable(), "{error}");
    fs::remove_file(&blocked).unwrap();
    let written = lake.write_raw(&tenant(), SHARD, &batch).unwrap();
    assert_eq!((written.len(), written[0].rows), (1, 10));
    assert_eq!(offsets(root.path(), "raw"), (0..10).collect::<Vec<_>>());
    assert!(lake.verify(&tenant()).unwrap().unfinished.is_empty());
}

#[test]
fn other_rows_under_archived_offsets_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake(root.path());
    lake.write_raw(&tenant(), SHARD, &records(0..10, at(DAY))).unwrap();
    // The stream was deleted and made anew: offsets start at 0 again.
    let anew = records(0..3, at("2026-11-24T12:00:00Z"));
    let error = lake.write_raw(&tenant(), SHARD, &anew).unwrap_err();
    assert_eq!(error.kind, LakeErrorKind::Conflict);
    assert!(!error.retryable());
    assert!(error.to_string().contains("offboard"), "{error}");
    assert_eq!(offsets(root.path(), "raw").len(), 10, "nothing was written");
    // What was telemetry cannot turn into something rejected.
    let mut turned = records(12..14, at(DAY));
    lake.write_raw(&tenant(), SHARD, &turned).unwrap();
    turned.insert(0, record(11, at(DAY), b"x", Some("late")));
    turned[0].record.kind = RecordKind::Telemetry;
    assert_eq!(lake.write_raw(&tenant(), SHARD, &turned).unwrap_err().kind, LakeErrorKind::Conflict);
    // The conflict blocks nobody else, and the right rows still go in.
    lake.write_raw(&tenant(), SHARD, &records(12..20, at(DAY))).unwrap();
    assert_eq!(offsets(root.path(), "raw").len(), 18);
}

#[test]
fn a_second_attempt_may_have_lost_rows_and_gained_new_ones() {
    let root = tempfile::tempdir().unwrap();
    let day = at(DAY);
    let rows: Vec<_> = (0..6).map(|i| reading(i, 0, day)).collect();
    lake(root.path()).write_scored(&tenant(), SHARD, Offset(0), Offset(3), &rows[..4]).unwrap();
    // Rows 0 and 2 expired between the attempts.
    let again = [rows[1].clone(), rows[3].clone(), rows[4].clone(), rows[5].clone()];
    let written = lake(root.path()).write_scored(&tenant(), SHARD, Offset(0), Offset(5), &again).unwrap();
    assert_eq!((written.len(), written[0].first, written[0].rows), (1, Offset(4), 2));
    assert_eq!(read_scored(root.path()), rows);
    let other = [reading(1, 1, day)];
    let error = lake(root.path()).write_scored(&tenant(), SHARD, Offset(0), Offset(5), &other).unwrap_err();
    assert_eq!(error.kind, LakeErrorKind::Conflict);
}

#[test]
fn rows_out_of_order_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake(root.path());
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
    let root = tempfile::tempdir().unwrap();
    let lake = lake(root.path());
    for start in [0, 10, 20] {
        lake.write_raw(&tenant(), SHARD, &records(start..start + 10, at(DAY))).unwrap();
    }
    let objects = files(&bucket(root.path()).join("tenant001/raw"), ".parquet");
    let mut flipped = fs::read(&objects[0]).unwrap();
    flipped[40] ^= 1;
    fs::write(&objects[0], flipped).unwrap();
    fs::remove_file(&objects[1]).unwrap();
    let manifests = files(&bucket(root.path()).join("tenant001/_manifest"), ".json");
    fs::write(&manifests[2], b"{").unwrap();
    let verified = lake.verify(&tenant()).unwrap();
    assert_eq!((verified.intact, verified.damaged.len()), (0, 3), "{verified:?}");
    let problems: Vec<&str> = verified.damaged.iter().map(|damage| damage.problem.as_str()).collect();
    assert!(problems[0].contains("SHA-256") && problems[1].contains("missing"), "{problems:?}");
    assert!(verified.unfinished.is_empty(), "an object with an unreadable manifest is not garbage: {verified:?}");
}

#[test]
fn shards_are_written_side_by_side() {
    let root = tempfile::tempdir().unwrap();
    let lake: Lake = lake(root.path());
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
    // Each case writes and syncs some dozens of files.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However batches are cut, and whichever manifests a crash cost, each row is archived once.
    #[test]
    fn each_row_once(
        attempts in prop::collection::vec((0usize..30, 1usize..30, any::<bool>()), 1..6),
        kinds in prop::collection::vec(any::<bool>(), 40),
    ) {
        let root = tempfile::tempdir().unwrap();
        // 40 minutes around midnight.
        let all: Vec<_> = kinds.iter().enumerate().map(|(i, telemetry)| {
            let arrival = at("2026-11-23T23:40:00Z").plus_seconds(60 * i as i64);
            record(i as u64, arrival, b"{}", (!telemetry).then_some("odd"))
        }).collect();
        let mut checkpoint = 0;
        for (back, ahead, crash) in attempts {
            let start = checkpoint - back.min(checkpoint);
            let end = (checkpoint + ahead).min(all.len());
            lake(root.path()).write_raw(&tenant(), SHARD, &all[start..end]).unwrap();
            if crash && end > checkpoint {
                // The last object of a dataset lost its manifest; the checkpoint was not reached.
                let newest = |dataset| files(&bucket(root.path()).join("tenant001/_manifest").join(dataset), ".json");
                for manifest in newest("raw").last().into_iter().chain(newest("rejected").last()) {
                    let name = manifest.file_name().unwrap().to_str().unwrap().to_owned();
                    if name["part-0-".len()..][..20].parse::<usize>().unwrap() >= checkpoint {
                        fs::remove_file(manifest).unwrap();
                    }
                }
            } else {
                checkpoint = end;
            }
        }
        lake(root.path()).write_raw(&tenant(), SHARD, &all[checkpoint..]).unwrap();
        let mut seen = read_records(root.path(), "raw");
        seen.extend(read_records(root.path(), "rejected"));
        seen.sort_by_key(|record| record.offset);
        prop_assert_eq!(seen, all);
    }
}
