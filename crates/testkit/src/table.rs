//! What every implementation of the port `Table` must do, taken from its doc comments sentence by sentence.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a check says its name and fails by panicking")]

use kilter_core::ports::table::{Condition, Item, SkRange, Table, TableError, TableErrorKind, Write};
use std::{sync::Arc, thread};

/// Hands the suite tables to try.
pub trait Subject {
    /// Empty.
    fn fresh(&mut self) -> Arc<dyn Table>;
    /// Ends the one given, the last made, and opens what it left.
    fn reopen(&mut self, table: Arc<dyn Table>) -> Arc<dyn Table>;
    /// Bytes of the longest table name, pk and sk.
    fn key_bytes_max(&self) -> usize;
    /// Bytes of the largest value.
    fn value_bytes_max(&self) -> usize;
}

type Check = fn(&mut dyn Subject);

/// Runs all checks; panics at the first that does not hold.
pub fn check(subject: &mut dyn Subject) {
    let checks: [(&str, Check); 10] = [
        ("items are put, replaced, deleted, each under its own key", keeps_items),
        ("within a commit the later write wins", later_write_wins),
        ("conditions ask about the time before the commit", conditions_look_back),
        ("a failed condition leaves nothing behind", commits_all_or_nothing),
        ("a range is cut out of one partition, bytewise, in either direction", ranges),
        ("a scan pages through one table", scans),
        ("a dropped table is gone and counted", drops),
        ("what is too large is refused with its whole commit", refuses_too_large),
        ("commits are serial", commits_serially),
        ("what was committed outlives the process", survives),
    ];
    for (what, run) in checks {
        // Captured by the test harness, shown when a check fails.
        println!("table: {what}");
        run(subject);
    }
}

fn name(table: &str) -> Arc<str> {
    table.into()
}

fn kind<T: std::fmt::Debug>(result: Result<T, TableError>) -> TableErrorKind {
    let error = result.unwrap_err();
    assert!(error.to_string().len() > 20, "an error must say what happened: {error}");
    error.kind
}

fn put(table: &dyn Table, items: &[(&str, &str, &str)]) {
    let writes = items.iter().map(|(table, pk, sk)| Write::put(&name(table), *pk, *sk, sk.as_bytes().to_vec()));
    table.commit(writes.collect()).unwrap();
}

fn keys(items: &[Item]) -> Vec<(&str, &str)> {
    items.iter().map(|item| (&*item.pk, &*item.sk)).collect()
}

fn all(table: &dyn Table, of: &str) -> Vec<Item> {
    table.scan(of, None, usize::MAX).unwrap()
}

fn keeps_items(subject: &mut dyn Subject) {
    let table = subject.fresh();
    let t = name("t");
    assert_eq!(table.get("t", "p", "s").unwrap(), None);
    assert_eq!(table.range("t", "p", SkRange::ALL, 10).unwrap(), []);
    assert_eq!(all(&*table, "t"), []);
    table.commit(vec![]).unwrap();
    let odd = [("", ""), ("p", ""), ("p", "s"), ("p", "s\0"), ("p\0", "s"), ("ps", ""), ("\u{1f6b0}", "ключ")];
    for (i, (pk, sk)) in odd.iter().enumerate() {
        table.commit(vec![Write::put(&t, *pk, *sk, vec![i as u8; i])]).unwrap();
        table.commit(vec![Write::put(&name("other"), *pk, *sk, b"other".to_vec())]).unwrap();
    }
    for (i, (pk, sk)) in odd.iter().enumerate() {
        assert_eq!(table.get("t", pk, sk).unwrap(), Some(vec![i as u8; i]), "{pk:?} {sk:?}");
    }
    table.commit(vec![Write::put(&t, "p", "s", b"again".to_vec())]).unwrap();
    assert_eq!(table.get("t", "p", "s").unwrap().as_deref(), Some(&b"again"[..]));
    table.commit(vec![Write::delete(&t, "p", "s"), Write::delete(&t, "never", "there")]).unwrap();
    assert_eq!(table.get("t", "p", "s").unwrap(), None);
    assert_eq!(table.get("other", "p", "s").unwrap().as_deref(), Some(&b"other"[..]));
    assert_eq!(all(&*table, "t").len(), odd.len() - 1);
}

fn later_write_wins(subject: &mut dyn Subject) {
    let table = subject.fresh();
    let t = name("t");
    table
        .commit(vec![
            Write::put(&t, "p", "twice", vec![1]),
            Write::put(&t, "p", "gone", vec![1]),
            Write::delete(&t, "p", "back"),
            Write::put(&t, "p", "twice", vec![2]),
            Write::delete(&t, "p", "gone"),
            Write::put(&t, "p", "back", vec![3]),
        ])
        .unwrap();
    assert_eq!(table.get("t", "p", "twice").unwrap(), Some(vec![2]));
    assert_eq!(table.get("t", "p", "gone").unwrap(), None);
    assert_eq!(table.get("t", "p", "back").unwrap(), Some(vec![3]));
}

fn conditions_look_back(subject: &mut dyn Subject) {
    let table = subject.fresh();
    let t = name("t");
    let put = |sk: &str, value: u8| Write::put(&t, "p", sk, vec![value]);
    let failed = TableErrorKind::ConditionFailed;
    assert_eq!(kind(table.commit(vec![put("a", 1).only_if(Condition::Present)])), failed);
    table.commit(vec![put("a", 1).only_if(Condition::Absent)]).unwrap();
    assert_eq!(kind(table.commit(vec![put("a", 2).only_if(Condition::Absent)])), failed);
    assert_eq!(table.get("t", "p", "a").unwrap(), Some(vec![1]));
    table.commit(vec![put("a", 2).only_if(Condition::Present)]).unwrap();
    assert_eq!(table.get("t", "p", "a").unwrap(), Some(vec![2]));
    // The commit's own writes do not count.
    table.commit(vec![put("b", 1), put("b", 2).only_if(Condition::Absent)]).unwrap();
    assert_eq!(kind(table.commit(vec![put("c", 1), put("c", 2).only_if(Condition::Present)])), failed);
    table.commit(vec![Write::delete(&t, "p", "a"), put("a", 3).only_if(Condition::Present)]).unwrap();
    assert_eq!(table.get("t", "p", "a").unwrap(), Some(vec![3]));
    assert_eq!(kind(table.commit(vec![Write::delete(&t, "p", "c").only_if(Condition::Present)])), failed);
    table.commit(vec![Write::delete(&t, "p", "a").only_if(Condition::Present)]).unwrap();
    assert_eq!(table.get("t", "p", "a").unwrap(), None);
}

fn commits_all_or_nothing(subject: &mut dyn Subject) {
    let table = subject.fresh();
    put(&*table, &[("t", "p", "old"), ("u", "p", "old")]);
    let failed = table.commit(vec![
        Write::put(&name("t"), "p", "new", vec![1]),
        Write::delete(&name("u"), "p", "old"),
        Write::put(&name("u"), "q", "new", vec![1]),
        Write::put(&name("t"), "p", "old", vec![1]).only_if(Condition::Absent),
        Write::put(&name("v"), "p", "new", vec![1]),
    ]);
    assert_eq!(kind(failed), TableErrorKind::ConditionFailed);
    let table = subject.reopen(table);
    assert_eq!(keys(&all(&*table, "t")), [("p", "old")]);
    assert_eq!(keys(&all(&*table, "u")), [("p", "old")]);
    assert_eq!(all(&*table, "v"), []);
    assert_eq!(table.get("t", "p", "old").unwrap().as_deref(), Some(&b"old"[..]));
}

fn ranges(subject: &mut dyn Subject) {
    let table = subject.fresh();
    let sks = ["", "1", "10", "2", "B", "a", "b", "b\0", "ä"];
    for sk in sks {
        put(&*table, &[("t", "p", sk), ("t", "p\0", sk), ("t", "o", sk), ("t", "pp", sk), ("t2", "p", sk)]);
    }
    let range = |from, to, descending, limit| -> Vec<String> {
        let items = table.range("t", "p", SkRange { from, to, descending }, limit).unwrap();
        assert!(items.iter().all(|item| item.pk == "p" && item.value == item.sk.as_bytes()));
        items.into_iter().map(|item| item.sk).collect()
    };
    assert_eq!(range("", None, false, 100), sks);
    assert_eq!(range("", None, true, 100), sks.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(range("10", Some("b"), false, 100), ["10", "2", "B", "a"], "from is inside, to is not");
    assert_eq!(range("10", Some("b"), true, 100), ["a", "B", "2", "10"]);
    assert_eq!(range("10", Some("b"), false, 2), ["10", "2"]);
    assert_eq!(range("10", Some("b"), true, 2), ["a", "B"], "the limit counts from the side that comes first");
    assert_eq!(range("0", Some("11"), false, 100), ["1", "10"], "bounds need not be items");
    assert_eq!(range("b", None, true, 1), ["ä"]);
    assert_eq!(range("", None, false, 0), Vec::<String>::new());
    assert_eq!(range("b", Some("b"), false, 100), Vec::<String>::new());
    assert_eq!(range("b", Some("a"), false, 100), Vec::<String>::new(), "upside down is empty");
    assert_eq!(range("", Some(""), true, 100), Vec::<String>::new());
}

fn scans(subject: &mut dyn Subject) {
    let table = subject.fresh();
    for pk in ["c", "a", "a\0", "b"] {
        put(
            &*table,
            &[("t", pk, "2"), ("t", pk, ""), ("t", pk, "1"), ("s", pk, "1"), ("t\0", pk, "1"), ("tt", pk, "1")],
        );
    }
    let everything = all(&*table, "t");
    let expected: Vec<_> = ["a", "a\0", "b", "c"].iter().flat_map(|pk| ["", "1", "2"].map(|sk| (*pk, sk))).collect();
    assert_eq!(keys(&everything), expected);
    for limit in 1..8 {
        let mut pages: Vec<Item> = Vec::new();
        loop {
            let after = pages.last().map(|item| (item.pk.clone(), item.sk.clone()));
            let after = after.as_ref().map(|(pk, sk)| (&**pk, &**sk));
            let page = table.scan("t", after, limit).unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            pages.extend(page);
        }
        assert_eq!(pages, everything, "pages of {limit}");
    }
    assert_eq!(keys(&table.scan("t", Some(("b", "11")), 2).unwrap()), [("b", "2"), ("c", "")]);
    assert_eq!(table.scan("t", None, 0).unwrap(), []);
    assert_eq!(table.scan("nothing", None, 10).unwrap(), []);
}

fn drops(subject: &mut dyn Subject) {
    let table = subject.fresh();
    for i in 0..300 {
        put(&*table, &[("t", &format!("p{}", i % 7), &i.to_string())]);
    }
    put(&*table, &[("s", "p", "1"), ("t\0", "p", "1"), ("tt", "p", "1")]);
    assert_eq!(table.drop_table("t").unwrap(), 300);
    assert_eq!(table.drop_table("t").unwrap(), 0);
    assert_eq!(table.drop_table("nothing").unwrap(), 0);
    let table = subject.reopen(table);
    assert_eq!(all(&*table, "t"), []);
    for other in ["s", "t\0", "tt"] {
        assert_eq!(keys(&all(&*table, other)), [("p", "1")]);
    }
}

fn refuses_too_large(subject: &mut dyn Subject) {
    let (key_max, value_max) = (subject.key_bytes_max(), subject.value_bytes_max());
    let table = subject.fresh();
    let (t, long) = (name("t"), "x".repeat(key_max + 1));
    let bad = [
        Write::put(&name(&long), "p", "s", vec![]),
        Write::put(&t, long.clone(), "s", vec![]),
        Write::put(&t, "p", long.clone(), vec![]),
        Write::delete(&t, "p", long.clone()),
        Write::put(&t, "p", "s", vec![0; value_max + 1]),
    ];
    for write in bad {
        let writes = vec![Write::put(&t, "p", "before", vec![1]), write, Write::put(&t, "p", "behind", vec![1])];
        assert_eq!(kind(table.commit(writes)), TableErrorKind::TooLarge);
        assert_eq!(all(&*table, "t"), []);
    }
    let longest = &long[1..];
    table.commit(vec![Write::put(&name(longest), longest, longest, vec![7; value_max])]).unwrap();
    assert_eq!(table.get(longest, longest, longest).unwrap(), Some(vec![7; value_max]));
}

fn commits_serially(subject: &mut dyn Subject) {
    let table = subject.fresh();
    let won: usize = thread::scope(|scope| {
        let race = |racer: u8| {
            let table = &table;
            move || {
                let attempt = |place: u32| {
                    let first = Write::put(&name("t"), "race", place.to_string(), vec![racer]);
                    let proof = Write::put(&name("t"), format!("racer {racer}"), place.to_string(), vec![racer]);
                    table.commit(vec![first.only_if(Condition::Absent), proof]).is_ok()
                };
                (0..20).filter(|place| attempt(*place)).count()
            }
        };
        let racers: Vec<_> = (0..4).map(|racer| scope.spawn(race(racer))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(won, 20, "of those who want to be the first exactly one is");
    for item in table.range("t", "race", SkRange::ALL, 100).unwrap() {
        let proof = table.get("t", &format!("racer {}", item.value[0]), &item.sk).unwrap();
        assert_eq!(proof.as_ref(), Some(&item.value));
    }
    assert_eq!(all(&*table, "t").len(), 40);
}

fn survives(subject: &mut dyn Subject) {
    let mut table = subject.fresh();
    for round in 0..3u8 {
        for sk in 0..20 {
            let put = Write::put(&name("t"), format!("p{round}"), format!("{sk:03}"), vec![round; sk * 50]);
            table.commit(vec![put, Write::put(&name("t"), "last", "", vec![round, sk as u8])]).unwrap();
        }
        table = subject.reopen(table);
        assert_eq!(table.get("t", "last", "").unwrap(), Some(vec![round, 19]));
        for earlier in 0..=round {
            let items = table.range("t", &format!("p{earlier}"), SkRange::ALL, usize::MAX).unwrap();
            let expected: Vec<_> = (0..20).map(|sk| (format!("{sk:03}"), vec![earlier; sk * 50])).collect();
            assert_eq!(items.into_iter().map(|item| (item.sk, item.value)).collect::<Vec<_>>(), expected);
        }
    }
}
