//! What every implementation of the ports of `objects` must do, taken from their doc comments sentence by sentence.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a check says its name and fails by panicking")]

mod promises;

use kilter_core::{Timestamp, ports::objects::*};
use std::{io::Read, sync::Arc, thread};

/// Hands the suite storage to try.
pub trait Subject {
    /// Empty.
    fn fresh(&mut self) -> Arc<dyn Uploads>;
    /// Ends the one given, the last made, and opens what it left.
    fn reopen(&mut self, objects: Arc<dyn Uploads>) -> Arc<dyn Uploads>;
    /// Bytes of the smallest part that need not be the last.
    fn part_bytes_min(&self) -> usize {
        1
    }
}

type Check = fn(&mut dyn Subject);
const B: &str = "a-bucket";

/// Promises that not every service can give. A backend that leaves one out says why in its README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// A bucket is in the region that it was made for, whichever that is.
    Regions,
    /// A bucket keeps settings under whatever name.
    Settings,
    /// An object's entity tag is the one that it was published with.
    Etags,
    /// A version's number orders it among those of its key.
    Numbers,
    /// What is to be encrypted is, and nothing else.
    Encryption,
    /// An object's replication status can be set.
    Replication,
}

/// Runs all checks; panics at the first that does not hold.
pub fn check(subject: &mut dyn Subject) {
    check_but(subject, &[]);
}

/// Runs all checks but those of some promises.
pub fn check_but(subject: &mut dyn Subject, left_out: &[Promise]) {
    let checks: [(&str, Check); 12] = [
        ("buckets are made, set, listed and deleted when empty", buckets),
        ("an object is what was put, whatever its key", keeps_objects),
        ("ranges are cut out of contents, encrypted or not", ranges),
        ("a reader reads on when its object is replaced", reads_on),
        ("conditions hold or nothing happens", conditions),
        ("versions pile up, and go one by one", versions),
        ("suspended versioning replaces the null version only", suspended),
        ("listings page through keys in order", lists),
        ("listings page through versions", lists_versions),
        ("metadata is changed in place", amends),
        ("an object comes in parts", parts),
        ("changes are serial and outlive the process", survives),
    ];
    let more: [(Promise, &str, Check); 6] = [
        (Promise::Regions, "a bucket is in the region that it was made for", promises::regions),
        (Promise::Settings, "a bucket keeps settings by name", promises::settings),
        (Promise::Etags, "an object's entity tag is its publisher's", promises::etags),
        (Promise::Numbers, "versions have numbers that order them", promises::numbers),
        (Promise::Encryption, "what is to be encrypted is, and nothing else", promises::encryption),
        (Promise::Replication, "a replication status is set in place", promises::replication),
    ];
    let more = more.into_iter().filter(|(promise, ..)| !left_out.contains(promise)).map(|(_, what, run)| (what, run));
    for (what, run) in checks.into_iter().chain(more) {
        // Captured by the test harness, shown when a check fails.
        println!("objects: {what}");
        run(subject);
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, ObjectError>) -> ObjectErrorKind {
    let error = result.unwrap_err();
    assert!(error.to_string().len() > 20, "an error must say what happened: {error}");
    error.kind
}

/// Bytes that differ from their neighbours.
pub fn pattern(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|at| (at as u64).wrapping_mul(2_654_435_761).to_be_bytes()[5] ^ seed).collect()
}

pub fn stage(objects: &dyn Uploads, bytes: &[u8], encrypted: bool) -> Content {
    let mut staging = objects.stage(encrypted).unwrap();
    // Pieces that fit no chunk.
    bytes.chunks(10_007).for_each(|piece| staging.write_all(piece).unwrap());
    let content = staging.finish().unwrap();
    assert_eq!(content.bytes, bytes.len() as u64);
    content
}

pub fn put(objects: &dyn Uploads, key: &str, bytes: &[u8]) -> Version {
    let meta = Meta { etag: format!("etag-{}", bytes.len()), ..Meta::default() };
    objects.publish(B, key, vec![stage(objects, bytes, false)], meta, PutCondition::Always).unwrap()
}

pub fn read(objects: &dyn Uploads, version: &Version, from: u64, to: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    objects.read(&version.contents, from, to).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

pub fn get(objects: &dyn Uploads, key: &str) -> Option<Vec<u8>> {
    let version = objects.version(B, key, None).unwrap().filter(|version| !version.delete_marker)?;
    assert!(version.latest);
    Some(read(objects, &version, 0, version.bytes()))
}

fn made(subject: &mut dyn Subject, versioning: Versioning) -> Arc<dyn Uploads> {
    let objects = subject.fresh();
    assert!(objects.create_bucket(B, "us-east-1").unwrap());
    if versioning != Versioning::Off {
        objects.configure(B, BucketChange::Versioning(versioning)).unwrap();
    }
    objects
}

fn all(objects: &dyn Uploads, versions: bool) -> Vec<Version> {
    objects.list(B, &Listing { limit: usize::MAX, versions, ..Listing::default() }).unwrap()
}

fn keys(found: &[Version]) -> Vec<&str> {
    found.iter().map(|version| &*version.key).collect()
}

fn buckets(subject: &mut dyn Subject) {
    let objects = subject.fresh();
    assert_eq!(objects.buckets().unwrap(), []);
    for bad in ["", "a", "../x", "a/b", "_parts"] {
        assert_eq!(kind(objects.create_bucket(bad, "r")), ObjectErrorKind::Invalid);
        assert_eq!(objects.bucket(bad).unwrap(), None);
    }
    assert!(objects.create_bucket("bbb", "us-east-1").unwrap());
    assert!(objects.create_bucket("aaa", "us-east-1").unwrap());
    assert!(!objects.create_bucket("bbb", "us-east-1").unwrap());
    objects.configure("bbb", BucketChange::Versioning(Versioning::Enabled)).unwrap();
    objects.configure("bbb", BucketChange::Encrypted(true)).unwrap();
    let objects = subject.reopen(objects);
    let found = objects.buckets().unwrap();
    assert_eq!(found.iter().map(|bucket| &*bucket.name).collect::<Vec<_>>(), ["aaa", "bbb"]);
    let bucket = objects.bucket("bbb").unwrap().unwrap();
    assert_eq!((&*bucket.region, bucket.versioning, bucket.encrypted), ("us-east-1", Versioning::Enabled, true));
    let content = stage(&*objects, b"x", false);
    objects.publish("bbb", "k", vec![content], Meta::default(), PutCondition::Always).unwrap();
    assert_eq!(kind(objects.delete_bucket("bbb")), ObjectErrorKind::NotEmpty);
    objects.remove("bbb", &[("k".into(), None)]).unwrap();
    assert_eq!(kind(objects.delete_bucket("bbb")), ObjectErrorKind::NotEmpty, "versions and markers are there");
    let left = objects.list("bbb", &Listing { limit: 9, versions: true, ..Listing::default() }).unwrap();
    let left: Vec<_> = left.into_iter().map(|version| (version.key, Some(version.id))).collect();
    assert_eq!(objects.remove("bbb", &left).unwrap().len(), 2);
    objects.delete_bucket("bbb").unwrap();
    assert_eq!(kind(objects.delete_bucket("bbb")), ObjectErrorKind::NoBucket);
    let content = stage(&*objects, b"x", false);
    let late = objects.publish("bbb", "k", vec![content], Meta::default(), PutCondition::Always);
    assert_eq!(kind(late), ObjectErrorKind::NoBucket);
}

fn keeps_objects(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Off);
    let long = "ключ/".repeat(113);
    let odd = [
        "k",
        "a/b",
        "a",
        "a//b",
        "/",
        "..",
        "../../x",
        "~1",
        "a~b.c",
        ".hidden",
        "\u{1f6b0}\0\u{1}",
        &long,
        &"x".repeat(1024),
    ];
    for (i, key) in odd.iter().enumerate() {
        put(&*objects, key, &pattern(i * 100, i as u8));
    }
    let objects = subject.reopen(objects);
    for (i, key) in odd.iter().enumerate() {
        assert_eq!(get(&*objects, key), Some(pattern(i * 100, i as u8)), "{key:?}");
    }
    put(&*objects, "k", b"again");
    assert_eq!(get(&*objects, "k").as_deref(), Some(&b"again"[..]));
    assert_eq!(objects.remove(B, &[("k".into(), None), ("never".into(), None)]).unwrap(), vec![Removed::default(); 2]);
    assert_eq!(get(&*objects, "k"), None);
    assert_eq!(objects.version(B, "k", Some(NULL_VERSION)).unwrap(), None);
    assert_eq!(kind(objects.version("no-bucket", "k", None)), ObjectErrorKind::NoBucket);
    for bad in ["", &"x".repeat(1025)] {
        let content = stage(&*objects, b"x", false);
        let refused = objects.publish(B, bad, vec![content], Meta::default(), PutCondition::Always);
        assert_eq!(kind(refused), ObjectErrorKind::Invalid);
    }
    assert_eq!(all(&*objects, false).len(), odd.len() - 1);
}

fn ranges(subject: &mut dyn Subject) {
    let mut objects = made(subject, Versioning::Off);
    for encrypted in [false, true] {
        let pieces = [65_536, 0, 1, 65_536 * 2 + 5, 7].map(|bytes| pattern(bytes, 3));
        let contents: Vec<_> = pieces.iter().map(|piece| stage(&*objects, piece, encrypted)).collect();
        objects.publish(B, "k", contents, Meta::default(), PutCondition::Always).unwrap();
        let whole = pieces.concat();
        objects = subject.reopen(objects);
        let version = objects.version(B, "k", None).unwrap().unwrap();
        assert_eq!(version.bytes(), whole.len() as u64);
        let end = whole.len();
        let cuts = [0, 1, 65_535, 65_536, 65_537, 65_538, 131_072, 131_073, 131_074, end - 8, end - 7, end - 1, end];
        for (at, from) in cuts.iter().enumerate() {
            for to in &cuts[at..] {
                assert!(read(&*objects, &version, *from as u64, *to as u64) == whole[*from..*to], "{from}..{to}");
            }
        }
    }
}

fn reads_on(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Off);
    let old = pattern(300_000, 1);
    let version = put(&*objects, "k", &old);
    let mut reader = objects.read(&version.contents, 0, version.bytes()).unwrap();
    let mut first = vec![0; 1000];
    reader.read_exact(&mut first).unwrap();
    put(&*objects, "k", b"new");
    objects.remove(B, &[("k".into(), None)]).unwrap();
    reader.read_to_end(&mut first).unwrap();
    assert!(first == old);
}

fn conditions(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Off);
    let attempt = |condition| {
        let meta = Meta { etag: "e".into(), ..Meta::default() };
        objects.publish(B, "k", vec![stage(&*objects, b"x", false)], meta, condition)
    };
    assert_eq!(kind(attempt(PutCondition::Etag("e".into()))), ObjectErrorKind::NoKey);
    let etag = attempt(PutCondition::Absent).unwrap().meta.etag;
    assert_eq!(kind(attempt(PutCondition::Absent)), ObjectErrorKind::ConditionFailed);
    assert_eq!(kind(attempt(PutCondition::Etag("f".into()))), ObjectErrorKind::ConditionFailed);
    attempt(PutCondition::Etag(etag)).unwrap();
    objects.configure(B, BucketChange::Versioning(Versioning::Enabled)).unwrap();
    objects.remove(B, &[("k".into(), None)]).unwrap();
    attempt(PutCondition::Absent).unwrap();
    let won: usize = thread::scope(|scope| {
        let race = || {
            (0..10)
                .filter(|place| {
                    let content = stage(&*objects, b"x", false);
                    let key = format!("race-{place}");
                    objects.publish(B, &key, vec![content], Meta::default(), PutCondition::Absent).is_ok()
                })
                .count()
        };
        let racers: Vec<_> = (0..4).map(|_| scope.spawn(race)).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(won, 10, "of those who want to be the first exactly one is");
}

fn versions(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Off);
    let null = put(&*objects, "k", b"null");
    assert_eq!(null.id, NULL_VERSION);
    objects.configure(B, BucketChange::Versioning(Versioning::Enabled)).unwrap();
    let first = put(&*objects, "k", b"first");
    let second = put(&*objects, "k", b"second");
    assert!(first.id != second.id);
    for (version, bytes) in [(&null, "null"), (&first, "first"), (&second, "second")] {
        let found = objects.version(B, "k", Some(&version.id)).unwrap().unwrap();
        assert_eq!((&found.id, found.latest), (&version.id, bytes == "second"));
        assert_eq!(read(&*objects, &found, 0, found.bytes()), bytes.as_bytes());
    }
    let removed = objects.remove(B, &[("k".into(), None)]).unwrap().remove(0);
    assert!(removed.delete_marker);
    let marker = removed.version.unwrap();
    assert_eq!(get(&*objects, "k"), None);
    assert!(objects.version(B, "k", None).unwrap().unwrap().delete_marker);
    let objects = subject.reopen(objects);
    let order: Vec<_> = all(&*objects, true).into_iter().map(|version| (version.id, version.latest)).collect();
    let expected = [(&marker, true), (&second.id, false), (&first.id, false), (&null.id, false)];
    assert_eq!(order, expected.map(|(id, latest)| (id.clone(), latest)));
    let gone = |id: &str| objects.remove(B, &[("k".into(), Some(id.into()))]).unwrap().remove(0);
    assert_eq!(gone("0123"), Removed { version: Some("0123".into()), delete_marker: false });
    assert_eq!(gone(&marker), Removed { version: Some(marker.clone()), delete_marker: true });
    assert_eq!(get(&*objects, "k").as_deref(), Some(&b"second"[..]), "the next one is back");
    gone(&first.id);
    assert_eq!(get(&*objects, "k").as_deref(), Some(&b"second"[..]));
    gone(&second.id);
    assert_eq!(get(&*objects, "k").as_deref(), Some(&b"null"[..]));
    gone(NULL_VERSION);
    assert_eq!(all(&*objects, true), []);
    assert!(objects.remove(B, &[("never".into(), None)]).unwrap()[0].delete_marker, "a marker even where nothing was");
}

fn suspended(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Enabled);
    let kept = put(&*objects, "k", b"kept");
    objects.configure(B, BucketChange::Versioning(Versioning::Suspended)).unwrap();
    put(&*objects, "k", b"null one");
    put(&*objects, "k", b"null two");
    let ids = |objects: &dyn Uploads| -> Vec<String> { all(objects, true).into_iter().map(|v| v.id).collect() };
    assert_eq!(ids(&*objects), [NULL_VERSION, &kept.id]);
    let removed = objects.remove(B, &[("k".into(), None)]).unwrap().remove(0);
    assert_eq!(removed, Removed { version: Some(NULL_VERSION.into()), delete_marker: true });
    assert_eq!(ids(&*objects), [NULL_VERSION, &kept.id], "the marker has replaced the null version");
    objects.configure(B, BucketChange::Versioning(Versioning::Enabled)).unwrap();
    let newest = put(&*objects, "k", b"newest");
    assert_eq!(ids(&*objects), [&newest.id, NULL_VERSION, &kept.id]);
    objects.configure(B, BucketChange::Versioning(Versioning::Suspended)).unwrap();
    put(&*objects, "k", b"null three");
    assert_eq!(ids(&*objects), [NULL_VERSION, &newest.id, &kept.id], "also where it was an older one");
}

fn lists(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Enabled);
    let names = ["a", "a/1", "a/2", "a0", "b", "b/\u{10ffff}", "b/\u{10ffff}x", "c", "ä", "\u{ffff}", "\u{10ffff}"];
    for name in names.iter().rev() {
        put(&*objects, name, b"old");
        put(&*objects, name, name.as_bytes());
    }
    for gone in ["aa", "a/3", "zz"] {
        put(&*objects, gone, b"gone");
        objects.remove(B, &[(gone.into(), None)]).unwrap();
    }
    let list = |prefix: &str, from: &str, limit: usize| -> Vec<String> {
        let listing = Listing { prefix: prefix.into(), from: from.into(), limit, ..Listing::default() };
        let found = objects.list(B, &listing).unwrap();
        assert!(found.iter().all(|version| version.latest && version.bytes() == version.key.len() as u64));
        found.into_iter().map(|version| version.key).collect()
    };
    assert_eq!(list("", "", 100), names);
    assert_eq!(list("a/", "", 100), ["a/1", "a/2"]);
    assert_eq!(list("b/", "", 100), ["b/\u{10ffff}", "b/\u{10ffff}x"]);
    assert_eq!(list("b/\u{10ffff}", "", 100), ["b/\u{10ffff}", "b/\u{10ffff}x"]);
    assert_eq!(list("\u{10ffff}", "", 100), ["\u{10ffff}"]);
    assert_eq!(list("a", "a/2", 2), ["a/2", "a0"], "from is inside");
    assert_eq!(list("a", "b", 2), Vec::<String>::new());
    assert_eq!(list("", "", 0), Vec::<String>::new());
    for limit in 1..5 {
        let (mut pages, mut from) = (Vec::new(), String::new());
        loop {
            let page = list("", &from, limit);
            let Some(last) = page.last() else { break };
            from = format!("{last}\0");
            pages.extend(page);
        }
        assert_eq!(pages, names, "pages of {limit}");
    }
}

fn lists_versions(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Enabled);
    for key in ["a", "b", "c"] {
        for round in 0..3 {
            put(&*objects, key, &pattern(round, 0));
        }
    }
    objects.remove(B, &[("b".into(), None)]).unwrap();
    let everything = all(&*objects, true);
    assert_eq!(keys(&everything), ["a", "a", "a", "b", "b", "b", "b", "c", "c", "c"]);
    assert_eq!(everything.iter().filter(|version| version.latest).count(), 3);
    for limit in 1..6 {
        let mut pages: Vec<Version> = Vec::new();
        loop {
            let last = pages.last().map(|last| (last.key.clone(), last.id.clone()));
            let (from, from_version) = last.map_or((String::new(), None), |(key, id)| (key, Some(id)));
            let page =
                objects.list(B, &Listing { prefix: String::new(), from, from_version, limit, versions: true }).unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            pages.extend(page);
        }
        assert_eq!(pages, everything, "pages of {limit}");
    }
}

fn amends(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Enabled);
    let (old, new) = (put(&*objects, "k", b"old"), put(&*objects, "k", b"new"));
    let tags = vec![("a".to_owned(), "b".to_owned())];
    objects.amend(B, "k", &old.id, Amend::Tags(tags.clone())).unwrap();
    let objects = subject.reopen(objects);
    let found = |id: &str| objects.version(B, "k", Some(id)).unwrap().unwrap();
    assert_eq!(found(&old.id), Version { meta: Meta { tags, ..old.meta.clone() }, latest: false, ..old });
    assert_eq!(found(&new.id), new);
    assert_eq!(get(&*objects, "k").as_deref(), Some(&b"new"[..]));
    assert_eq!(kind(objects.amend(B, "k", "nope", Amend::Tags(vec![]))), ObjectErrorKind::NoKey);
    let marker = objects.remove(B, &[("k".into(), None)]).unwrap().remove(0).version.unwrap();
    assert_eq!(kind(objects.amend(B, "k", &marker, Amend::Tags(vec![]))), ObjectErrorKind::NoKey);
}

fn part(objects: &dyn Uploads, number: u32, bytes: &[u8]) -> Part {
    let content = stage(objects, bytes, false);
    Part { number, etag: format!("p{number}"), checksum: None, modified: Timestamp::from_nanos(1), content }
}

fn parts(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Off);
    let begin = |key: &str| objects.create_upload(B, key, Meta::default(), false).unwrap();
    let upload = begin("k");
    let other = begin("k");
    begin("j");
    assert_eq!(objects.upload(B, "k", &upload.id).unwrap(), Some(upload.clone()));
    assert_eq!(objects.upload(B, "other", &upload.id).unwrap(), None);
    let bytes = subject.part_bytes_min().max(70_000);
    for number in [7, 1, 3] {
        objects.put_part(B, &upload, part(&*objects, number, &pattern(bytes, number as u8))).unwrap();
    }
    objects.put_part(B, &upload, part(&*objects, 3, &pattern(5, 33))).unwrap();
    let objects = subject.reopen(objects);
    let stored = objects.parts(&upload.id, 0, 100).unwrap();
    assert_eq!(stored.iter().map(|part| part.number).collect::<Vec<_>>(), [1, 3, 7]);
    assert_eq!(objects.parts(&upload.id, 1, 1).unwrap(), stored[1..2]);
    assert_eq!(get(&*objects, "k"), None, "nothing is there before the end");
    let unknown = part(&*objects, 9, b"x");
    let end = |parts: Vec<Part>| objects.end_upload(B, &upload, Some((parts, Meta::default(), PutCondition::Always)));
    assert_eq!(kind(end(vec![unknown])), ObjectErrorKind::ConditionFailed);
    let version = end(vec![stored[0].clone(), stored[1].clone()]).unwrap().unwrap();
    assert_eq!(version.bytes(), bytes as u64 + 5);
    let objects = subject.reopen(objects);
    assert!(get(&*objects, "k").unwrap() == [pattern(bytes, 1), pattern(5, 33)].concat());
    assert_eq!(kind(objects.end_upload(B, &upload, None)), ObjectErrorKind::NoUpload);
    assert_eq!(kind(objects.put_part(B, &upload, part(&*objects, 1, b"x"))), ObjectErrorKind::NoUpload);
    let uploads = |prefix: &str, after: (&str, &str), limit| -> Vec<String> {
        objects.uploads(B, prefix, after, limit).unwrap().into_iter().map(|upload| upload.key).collect()
    };
    assert_eq!(uploads("", ("", ""), 10), ["j", "k"]);
    assert_eq!(uploads("", ("", ""), 1), ["j"]);
    assert_eq!(uploads("k", ("", ""), 10), ["k"]);
    assert_eq!(uploads("", ("k", &other.id), 10), Vec::<String>::new());
    assert_eq!(objects.end_upload(B, &other, None).unwrap(), None);
    assert_eq!(uploads("", ("", ""), 10), ["j"]);
    objects.remove(B, &[("k".into(), None)]).unwrap();
    objects.delete_bucket(B).unwrap();
}

fn survives(subject: &mut dyn Subject) {
    let mut objects = made(subject, Versioning::Off);
    for round in 0..3u8 {
        thread::scope(|scope| {
            for writer in 0..4u8 {
                let objects = &*objects;
                scope.spawn(move || {
                    for i in 0..10 {
                        put(objects, &format!("w{writer}/{i}"), &pattern(usize::from(round) * 100 + i, writer));
                        put(objects, "shared", &[writer; 100]);
                    }
                });
            }
        });
        objects = subject.reopen(objects);
        assert_eq!(all(&*objects, false).len(), 41);
        for (writer, i) in (0..4u8).flat_map(|writer| (0..10).map(move |i| (writer, i))) {
            let expected = pattern(usize::from(round) * 100 + i, writer);
            assert_eq!(get(&*objects, &format!("w{writer}/{i}")), Some(expected));
        }
        let shared = get(&*objects, "shared").unwrap();
        assert!(shared.iter().all(|byte| *byte == shared[0]) && shared.len() == 100);
    }
}
