//! The log store: order, bounds, and what a restart finds.

use super::{
    TableLogs,
    store::{EVENT_BYTES_MAX, GROUP_BYTES_MAX},
};
use kilter_core::{
    Timestamp,
    ports::logs::{LogAdmin, LogErrorKind, LogEvent, LogQuery, Logs},
};
use kilter_testkit::{FakeClock, MemoryTable};
use std::{sync::Arc, time::Duration};

fn open() -> (Arc<MemoryTable>, FakeClock, TableLogs) {
    let (table, clock) = (Arc::new(MemoryTable::new()), FakeClock::default());
    let logs = TableLogs::open(table.clone(), Arc::new(clock.clone())).unwrap();
    (table, clock, logs)
}

fn event(seconds: i64, message: &str) -> LogEvent {
    LogEvent { time: Timestamp::from_seconds(1_767_225_000 + seconds), message: message.to_owned() }
}

fn messages(logs: &TableLogs, query: LogQuery<'_>) -> Vec<String> {
    let events = logs.events("g", &LogQuery { limit: 100, ..query }).unwrap();
    events.into_iter().map(|event| event.event.message).collect()
}

#[test]
fn events_are_in_order_of_time_and_pages_join() {
    let (_, _, logs) = open();
    logs.put("g", "s1", vec![event(2, "b"), event(1, "a")], true).unwrap();
    logs.put("g", "s2", vec![event(2, "c"), event(3, "d")], true).unwrap();
    assert_eq!(messages(&logs, LogQuery::default()), ["a", "b", "c", "d"]);
    assert_eq!(messages(&logs, LogQuery { descending: true, ..LogQuery::default() }), ["d", "c", "b", "a"]);
    assert_eq!(messages(&logs, LogQuery { stream: Some("s2"), ..LogQuery::default() }), ["c", "d"]);
    let time = |seconds: i64| Some(Timestamp::from_seconds(1_767_225_000 + seconds));
    assert_eq!(messages(&logs, LogQuery { from: time(2), to: time(3), ..LogQuery::default() }), ["b", "c"]);
    let first = logs.events("g", &LogQuery { limit: 2, ..LogQuery::default() }).unwrap();
    assert_eq!(messages(&logs, LogQuery { after: Some(&first[1].key), ..LogQuery::default() }), ["c", "d"]);
    let back = LogQuery { after: Some(&first[1].key), descending: true, ..LogQuery::default() };
    assert_eq!(messages(&logs, back), ["a"]);
}

#[test]
fn groups_and_streams_are_made_found_again_and_removed() {
    let (table, clock, logs) = open();
    logs.create_group("g").unwrap();
    assert_eq!(logs.create_group("g").unwrap_err().kind, LogErrorKind::Exists);
    assert_eq!(logs.create_group("a b").unwrap_err().kind, LogErrorKind::Invalid);
    assert_eq!(logs.put("g", "s", vec![event(1, "x")], false).unwrap_err().kind, LogErrorKind::NotFound);
    assert_eq!(logs.create_stream("h", "s").unwrap_err().kind, LogErrorKind::NotFound);
    logs.create_stream("g", "s").unwrap();
    logs.put("g", "s", vec![event(1, "x")], false).unwrap();
    logs.put("g", "t", vec![event(2, "y")], true).unwrap();
    logs.set_retention("g", Some(7)).unwrap();
    let again = TableLogs::open(table, Arc::new(clock)).unwrap();
    assert_eq!(again.groups().unwrap(), logs.groups().unwrap());
    assert_eq!(again.streams("g").unwrap(), logs.streams("g").unwrap());
    assert_eq!(again.groups().unwrap()[0].retention_days, Some(7));
    again.delete_stream("g", "s").unwrap();
    assert_eq!(messages(&again, LogQuery::default()), ["y"]);
    again.delete_group("g").unwrap();
    assert_eq!(
        again.events("g", &LogQuery { limit: 1, ..LogQuery::default() }).unwrap_err().kind,
        LogErrorKind::NotFound
    );
    again.create_group("g").unwrap();
    assert!(messages(&again, LogQuery::default()).is_empty());
}

#[test]
fn what_is_too_much_or_too_old_goes_first_come_first_gone() {
    let (_, clock, logs) = open();
    let long = "x".repeat(EVENT_BYTES_MAX + 1);
    for i in 0..80 {
        logs.put("g", "s", vec![event(i, &format!("{i} {long}"))], true).unwrap();
    }
    let group = &logs.groups().unwrap()[0];
    let kept = messages(&logs, LogQuery::default());
    assert!(group.bytes <= GROUP_BYTES_MAX + EVENT_BYTES_MAX as u64 + 26, "{}", group.bytes);
    assert_eq!(kept.len() as u64, group.bytes / (EVENT_BYTES_MAX as u64 + 26));
    assert!(kept.iter().all(|message| message.len() == EVENT_BYTES_MAX) && kept.last().unwrap().starts_with("79 "));
    clock.advance(Duration::from_secs(40 * 86_400));
    logs.put("g", "s", vec![LogEvent { time: Timestamp::from_seconds(1_770_000_000), message: "new".into() }], true)
        .unwrap();
    assert_eq!(messages(&logs, LogQuery::default()), ["new"]);
    assert_eq!(logs.groups().unwrap()[0].bytes, 29);
}
