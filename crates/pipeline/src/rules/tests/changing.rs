//! Rules that change while messages flow: a change is in force when the call returns, no message meets half of it, and
//! none is lost.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Changes of each kind; enough that every one meets messages on their way.
const CHANGES: u64 = 200;

/// Publishes 0, 1, 2, … on `a` until told to stop; answers how many.
fn publisher(house: Arc<House>, stop: Arc<AtomicBool>, next: Arc<AtomicU64>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !stop.load(Ordering::Acquire) {
            let number = next.load(Ordering::Acquire);
            futures::executor::block_on(house.publish("a", &format!("{{\"n\":{number}}}")));
            next.store(number + 1, Ordering::Release);
        }
    })
}

fn all_records(house: &House) -> Vec<Value> {
    let limit = ReadLimit { records: usize::MAX, bytes: usize::MAX };
    let read = house.stream.read(&StreamName::new("other").unwrap(), ShardId(0), Offset(0), limit).unwrap();
    read.into_iter().map(|record| serde_json::from_slice(&record.record.data).unwrap()).collect()
}

/// Waits until a message has come that was published after this call.
fn one_more(next: &AtomicU64) -> u64 {
    let seen = next.load(Ordering::Acquire);
    while next.load(Ordering::Acquire) < seen + 2 {
        std::thread::yield_now();
    }
    seen
}

#[test]
fn a_replaced_rule_is_the_new_one_at_once_and_every_message_meets_one_of_them() {
    let house = Arc::new(house());
    let version = |v: u64| {
        payload(&format!("SELECT n, {v} AS v, {v} AS w FROM 'a'"), json!([{"kinesis": {"streamName": "other"}}]))
    };
    house.admin.create("r", version(0)).unwrap();
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let running = publisher(house.clone(), stop.clone(), next.clone());
    // By version: a number that was given out after the rule was replaced by it.
    let mut since = vec![0];
    for v in 1..=CHANGES {
        house.admin.replace("r", version(v)).unwrap();
        since.push(one_more(&next) + 1);
    }
    stop.store(true, Ordering::Release);
    running.join().unwrap();
    let records = all_records(&house);
    let numbers: Vec<u64> = records.iter().map(|record| record["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..next.load(Ordering::Acquire)).collect::<Vec<_>>(), "each once, in order");
    for record in &records {
        assert_eq!(record["v"], record["w"], "one version whole");
        let (n, v) = (record["n"].as_u64().unwrap(), record["v"].as_u64().unwrap() as usize);
        let newest = since.iter().filter(|first| **first <= n).count() - 1;
        assert!(v >= newest, "message {n} met version {v}, although {newest} was in force");
    }
}

#[test]
fn a_rule_that_is_switched_off_or_deleted_gets_nothing_more() {
    let house = Arc::new(house());
    let rule = || payload("SELECT n FROM 'a'", json!([{"kinesis": {"streamName": "other"}}]));
    house.admin.create("r", rule()).unwrap();
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let running = publisher(house.clone(), stop.clone(), next.clone());
    // Numbers that must be there, and such that must not.
    let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
    for round in 0..CHANGES {
        wanted.push(one_more(&next) + 1);
        match round % 2 {
            0 => house.admin.set_disabled("r", true).unwrap(),
            _ => drop(house.admin.delete("r").unwrap()),
        }
        unwanted.push(one_more(&next) + 1);
        match round % 2 {
            0 => house.admin.set_disabled("r", false).unwrap(),
            _ => drop(house.admin.create("r", rule()).unwrap()),
        }
    }
    stop.store(true, Ordering::Release);
    running.join().unwrap();
    let there: std::collections::BTreeSet<u64> =
        all_records(&house).iter().map(|record| record["n"].as_u64().unwrap()).collect();
    assert!(wanted.iter().all(|n| there.contains(n)), "lost although the rule was in force");
    assert!(unwanted.iter().all(|n| !there.contains(n)), "kept although the rule was not in force");
}
