//! A crash at any commit leaves nothing twice and nothing out.

use super::*;
use crate::{
    consumer::tests::{Unlucky, append, finish, stream},
    record::archive_key,
};
use kilter_core::ports::clock::SystemClock;
use kilter_testkit::{MemoryObjects, MemoryStream, MemoryTable};
use std::sync::atomic::AtomicU32;

/// Enough for rows of one shard to be deleted in several commits.
const RECORDS: u64 = 6_300;

fn tenant() -> TenantId {
    TenantId::new("t1").unwrap()
}

fn table_name() -> String {
    table_of(&tenant().stream())
}

/// One round, which with `flush` takes everything; answers what the lake holds then.
fn round(
    stream: &Arc<MemoryStream>,
    table: Arc<dyn Table>,
    objects: &Arc<MemoryObjects>,
    flush: bool,
) -> Vec<(String, u64)> {
    let lake = Arc::new(Lake::open(objects.clone(), "us-east-1").unwrap());
    lake.create_bucket(&tenant()).unwrap();
    let archive = Archive {
        stream: stream.clone(),
        table,
        lake: lake.clone(),
        clock: Arc::new(SystemClock),
        config: ArchiveConfig { flush_age: Duration::MAX, results_age: Duration::MAX },
        gate: Arc::default(),
        health: Arc::default(),
    };
    archive.round(&mut HashMap::new(), flush);
    lake.objects(&tenant()).unwrap().into_iter().map(|object| (object.key, object.bytes)).collect()
}

fn rows_that_wait(table: &MemoryTable) -> usize {
    let items = table.scan(&table_name(), None, usize::MAX).unwrap();
    items.iter().filter(|item| item.pk.ends_with("/unarchived")).count()
}

#[test]
fn a_crash_at_any_commit_leaves_the_same_objects() {
    let (stream, scored) = (stream(), Arc::new(MemoryTable::new()));
    append(&stream, 0..RECORDS);
    finish(&stream, &scored);
    let copy = || {
        let items = [tenant().table(), table_name()]
            .map(|name| (Arc::from(&*name), scored.scan(&name, None, usize::MAX).unwrap()));
        let put = |(name, items): (Arc<str>, Vec<Item>)| {
            items.into_iter().map(move |item| Write::put(&name, item.pk, item.sk, item.value))
        };
        let table = Arc::new(MemoryTable::new());
        table.commit(items.into_iter().flat_map(put).collect()).unwrap();
        table
    };
    assert!(rows_that_wait(&scored) > 2 * DELETED_AT_ONCE, "{} rows wait", rows_that_wait(&scored));
    let expected = round(&stream, copy(), &Arc::default(), true);
    assert!(expected.iter().any(|(key, _)| key.contains("scored/")), "{expected:?}");
    for commits in 1.. {
        let mut survived = false;
        for durable in [false, true] {
            let (table, objects) = (copy(), Arc::default());
            let unlucky = Arc::new(Unlucky { table: table.clone(), commits_left: AtomicU32::new(commits), durable });
            round(&stream, unlucky.clone(), &objects, true);
            survived = unlucky.commits_left.load(Ordering::Acquire) > 0;
            assert_eq!(
                round(&stream, table.clone(), &objects, true),
                expected,
                "crash at commit {commits}, durable: {durable}"
            );
            assert_eq!(rows_that_wait(&table), 0);
        }
        if survived {
            break;
        }
    }
}

#[test]
fn rows_are_written_without_waiting_once_they_span_an_object() {
    let (stream, scored) = (stream(), Arc::new(MemoryTable::new()));
    append(&stream, 0..300);
    finish(&stream, &scored);
    let rows = scored.scan(&tenant().table(), None, usize::MAX).unwrap();
    let found = rows.iter().find(|item| item.pk.starts_with("pump")).unwrap();
    let pk = archive_partition(Progress::of(&tenant().stream(), ShardId(0)).partition());
    let row = |offset: u64| {
        let mut row: serde_json::Value = serde_json::from_slice(&found.value).unwrap();
        row["position"] = format!("0:{offset}:0").into();
        Write::put(&table_name().into(), pk.clone(), archive_key(Offset(offset), 0), row.to_string().into_bytes())
    };
    let most = OBJECT_ROWS_MAX as u64;
    for (last, written) in [(most - 2, 0), (most - 1, 1)] {
        let table = Arc::new(MemoryTable::new());
        table.commit(vec![row(0), row(last)]).unwrap();
        let objects = round(&stream, table.clone(), &Arc::default(), false);
        assert_eq!(objects.iter().filter(|(key, _)| key.ends_with(".parquet")).count(), written, "{last}: {objects:?}");
        assert_eq!(rows_that_wait(&table), 2 - 2 * written);
    }
}
