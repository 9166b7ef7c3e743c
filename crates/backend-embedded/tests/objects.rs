//! Objects on the disk against the ports' conformance suite, and what the suite cannot see: files, keys, crashes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use kilter_backend_embedded::EmbeddedObjects;
use kilter_core::ports::objects::*;
use kilter_testkit::{
    FakeClock,
    objects::{Subject, check, get, pattern, put, stage},
};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};
use tempfile::TempDir;

const B: &str = "a-bucket";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn open(root: &Path) -> EmbeddedObjects {
    EmbeddedObjects::open(root, Arc::new(FakeClock::default())).unwrap()
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if folder != root {
                found.push(entry.path().strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

struct Embedded(TempDir);

impl Subject for Embedded {
    fn fresh(&mut self) -> Arc<dyn Uploads> {
        self.0 = TempDir::new().unwrap();
        Arc::new(open(self.0.path()))
    }
    /// What the disk would hold, had the process been killed now.
    fn reopen(&mut self, _: Arc<dyn Uploads>) -> Arc<dyn Uploads> {
        let left = TempDir::new().unwrap();
        copy(self.0.path(), left.path());
        self.0 = left;
        let opened = open(self.0.path());
        opened.scrub().unwrap();
        Arc::new(opened)
    }
}

#[test]
fn objects_keep_the_contract() {
    check(&mut Embedded(TempDir::new().unwrap()));
}

#[test]
fn files_are_where_people_look_and_go_with_their_objects() {
    let root = TempDir::new().unwrap();
    let objects = open(root.path());
    objects.create_bucket(B, "us-east-1").unwrap();
    put(&objects, "t/raw/date=2026-11-23/part-0.parquet", b"rows");
    put(&objects, "t/raw/date=2026-11-23/part-0.parquet", b"other rows");
    let found = files(root.path());
    assert_eq!(found.len(), 1, "{found:?}");
    let name = found[0].to_str().unwrap();
    assert!(name.starts_with("a-bucket/t/raw/date=2026-11-23/part-0~") && name.ends_with(".parquet"), "{name}");
    assert_eq!(fs::read(root.path().join(name)).unwrap(), b"other rows");
    // Given up: by drop, by discard, by a condition.
    objects.stage(false).unwrap().write_all(b"x").unwrap();
    objects.discard(stage(&objects, b"x", false));
    let refused = objects.publish(
        B,
        "t/raw/date=2026-11-23/part-0.parquet",
        vec![stage(&objects, b"x", false)],
        Meta::default(),
        PutCondition::Absent,
    );
    assert_eq!(refused.unwrap_err().kind, ObjectErrorKind::ConditionFailed);
    assert_eq!(files(root.path()), found);
    objects.remove(B, &[("t/raw/date=2026-11-23/part-0.parquet".into(), None)]).unwrap();
    objects.delete_bucket(B).unwrap();
    assert_eq!(files(root.path()), Vec::<PathBuf>::new());
    assert!(!root.path().join(B).exists(), "empty folders go too");
}

#[test]
fn encrypted_bytes_are_not_on_the_disk_and_belong_to_the_key() {
    let root = TempDir::new().unwrap();
    let secret = b"a secret that nobody should find ".repeat(5000);
    let objects = open(root.path());
    objects.create_bucket(B, "us-east-1").unwrap();
    let content = stage(&objects, &secret, true);
    let version = objects.publish(B, "k.csv", vec![content], Meta::default(), PutCondition::Always).unwrap();
    assert!(get(&objects, "k.csv").unwrap() == secret);
    let file = root.path().join(&files(root.path())[0]);
    assert!(file.to_str().unwrap().ends_with(".csv.sealed"));
    let on_disk = fs::read(&file).unwrap();
    assert!(!on_disk.windows(10).any(|window| window == &secret[..10]));
    let fails = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let mut reader = objects.read(&version.contents, 0, version.bytes()).unwrap();
        reader.read_to_end(&mut Vec::new()).is_err()
    };
    let chunk = 65_536 + 16;
    let swapped = [&on_disk[chunk..2 * chunk], &on_disk[..chunk], &on_disk[2 * chunk..]].concat();
    let mut flipped = on_disk.clone();
    flipped[chunk + 7] ^= 1;
    for broken in [&swapped, &flipped, &on_disk[..2 * chunk], &on_disk[..on_disk.len() - 1], &[]] {
        assert!(fails(broken));
    }
    assert!(!fails(&on_disk));
    let key = root.path().join("_master.key");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    drop(objects);
    fs::remove_file(&key).unwrap();
    let objects = open(root.path());
    let error = objects.read(&version.contents, 0, 1).err().unwrap();
    assert_eq!(error.kind, ObjectErrorKind::Damaged);
    assert!(error.to_string().contains("backup"), "{error}");
    drop(objects);
    fs::write(&key, b"short").unwrap();
    let error = EmbeddedObjects::open(root.path(), Arc::new(FakeClock::default())).err().unwrap();
    assert_eq!(error.kind, ObjectErrorKind::Damaged);
}

#[test]
fn a_start_clears_away_what_a_crash_left_and_nothing_else() {
    let root = TempDir::new().unwrap();
    let objects = open(root.path());
    objects.create_bucket(B, "us-east-1").unwrap();
    put(&objects, "kept", b"kept");
    put(&objects, "gone/deep/k.txt", b"gone");
    let upload = objects.create_upload(B, "u", Meta::default(), false).unwrap();
    let content = stage(&objects, b"part", false);
    let modified = kilter_core::Timestamp::from_nanos(0);
    let part = Part { number: 1, etag: String::new(), checksum: None, modified, content };
    objects.put_part(B, &upload, part).unwrap();
    let staged = stage(&objects, b"staged", false);
    let before = files(root.path());
    // As if the process had been killed between the index's commit and the file's removal, or before the commit.
    let orphan = before.iter().find(|path| path.starts_with("a-bucket/gone")).unwrap();
    let bytes = fs::read(root.path().join(orphan)).unwrap();
    objects.remove(B, &[("gone/deep/k.txt".into(), None)]).unwrap();
    fs::create_dir_all(root.path().join(orphan).parent().unwrap()).unwrap();
    fs::write(root.path().join(orphan), bytes).unwrap();
    fs::write(root.path().join("a-bucket/not-ours.txt"), b"").unwrap();
    assert_eq!(objects.scrub().unwrap(), 0, "this process's own files are not judged");
    drop(objects);
    let objects = open(root.path());
    let during = stage(&objects, b"during", false);
    assert_eq!(objects.scrub().unwrap(), 2);
    let left = files(root.path());
    assert!(!left.contains(orphan) && !left.contains(&staged.place.into()), "{left:?}");
    assert!(left.contains(&during.place.into()) && left.contains(&"a-bucket/not-ours.txt".into()));
    assert_eq!(get(&objects, "kept").as_deref(), Some(&b"kept"[..]));
    let parts = objects.parts(&upload.id, 0, 9).unwrap();
    objects.end_upload(B, &upload, Some((parts, Meta::default(), PutCondition::Always))).unwrap();
    assert_eq!(get(&objects, "u").as_deref(), Some(&b"part"[..]));
}

/// Tells the child where to write.
const DIRECTORY: &str = "KILTER_TEST_OBJECTS_DIRECTORY";
const KILLS: u64 = 12;
const KEYS: u64 = 7;

fn nth(number: u64) -> Vec<u8> {
    pattern((number.wrapping_mul(2_654_435_761) % 97) as usize * 1500, number as u8)
}

/// Not a test of its own: the process that is killed.
#[test]
fn child() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let objects = open(Path::new(&directory));
    objects.create_bucket(B, "us-east-1").unwrap();
    let next = |key: u64| -> u64 {
        let found = objects.version(B, &format!("k{key}"), None).unwrap();
        found.map_or(0, |version| version.meta.etag.parse::<u64>().unwrap() + 1)
    };
    thread::scope(|scope| {
        for key in 0..KEYS {
            let (objects, first) = (&objects, next(key));
            scope.spawn(move || {
                for number in first.. {
                    let content = stage(objects, &nth(number), number % 2 == 0);
                    let meta = Meta { etag: number.to_string(), ..Meta::default() };
                    objects.publish(B, &format!("k{key}"), vec![content], meta, PutCondition::Always).unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "acknowledged {key} {number}").unwrap();
                    out.flush().unwrap();
                }
            });
        }
    });
}

#[test]
fn a_killed_process_loses_no_object_that_it_acknowledged_and_leaves_no_file() {
    let directory = TempDir::new().unwrap();
    let mut acknowledged = [None; KEYS as usize];
    for kill in 0..KILLS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = thread::spawn(move || -> Vec<(usize, u64)> {
            let lines = lines.map_while(Result::ok);
            let numbers = lines.filter_map(|line| {
                let (key, number) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
                Some((key.parse().ok()?, number.parse().ok()?))
            });
            numbers.collect()
        });
        // The moment is left to the scheduler: the point is that it is none in particular.
        thread::sleep(Duration::from_millis(60 + kill * 37 % 150));
        child.kill().unwrap();
        child.wait().unwrap();
        for (key, number) in listening.join().unwrap() {
            acknowledged[key] = Some(number);
        }
        let objects = open(directory.path());
        objects.scrub().unwrap();
        let mut there = 0;
        for (key, acknowledged) in acknowledged.iter().enumerate() {
            let Some(version) = objects.version(B, &format!("k{key}"), None).unwrap_or(None) else {
                assert!(acknowledged.is_none());
                continue;
            };
            there += 1;
            let number: u64 = version.meta.etag.parse().unwrap();
            assert!(acknowledged.is_none_or(|acknowledged| number >= acknowledged));
            assert!(get(&objects, &version.key).unwrap() == nth(number));
        }
        assert_eq!(files(directory.path()).len(), there);
    }
    assert!(acknowledged.iter().any(Option::is_some), "nothing was written at all");
}

#[test]
fn plain_files_of_an_earlier_release_become_objects() {
    let root = TempDir::new().unwrap();
    let old = root.path().join("lake");
    let folder = old.join("iot-data-lake-t-us-east-1/t/raw/date=2026-11-23");
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(old.join("iot-data-lake-empty-us-east-1/empty")).unwrap();
    fs::write(folder.join("part-0.parquet"), b"rows").unwrap();
    fs::write(folder.join("part-1.parquet"), b"more rows").unwrap();
    fs::write(folder.join("part-2.parquet#1"), b"half").unwrap();
    let objects = open(&root.path().join("objects"));
    // A crash had cut an earlier attempt short, after the object and before the file's removal.
    objects.create_bucket("iot-data-lake-t-us-east-1", "us-east-1").unwrap();
    let meta = Meta { etag: "first attempt".into(), ..Meta::default() };
    let (content, key) = (stage(&objects, b"rows", false), "t/raw/date=2026-11-23/part-0.parquet");
    objects.publish("iot-data-lake-t-us-east-1", key, vec![content], meta, PutCondition::Always).unwrap();
    assert_eq!(objects.adopt(&old, "us-east-1").unwrap(), 1);
    assert!(!old.exists());
    assert_eq!(objects.adopt(&old, "us-east-1").unwrap(), 0);
    let listing = Listing { limit: 10, ..Listing::default() };
    let found = objects.list("iot-data-lake-t-us-east-1", &listing).unwrap();
    let found: Vec<_> = found.iter().map(|v| (&*v.key, v.bytes(), &*v.meta.etag)).collect();
    let second = ("t/raw/date=2026-11-23/part-1.parquet", 9, "420e367b22de6a69bf6b95c9a12fbef5");
    assert_eq!(found, [(key, 4, "first attempt"), second]);
    assert_eq!(objects.buckets().unwrap().len(), 2);
}
