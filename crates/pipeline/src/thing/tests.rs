//! What becomes of readings that come in order, late, twice, or not at all.

use super::*;
use kilter_core::{NewRecord, Offset, RecordKind};

const T0: i64 = 1_700_000_000;

fn with(horizon: Horizon) -> ThingState {
    ThingState::new(TenantId::new("t1").unwrap(), ThingName::new("pump1").unwrap(), ScorerConfig::default(), horizon)
}

/// One that puts nothing in order.
fn state() -> ThingState {
    with(Horizon::NONE)
}

fn restore(horizon: Horizon, bytes: &[u8]) -> ThingState {
    let (tenant, thing) = (TenantId::new("t1").unwrap(), ThingName::new("pump1").unwrap());
    ThingState::restore(tenant, thing, ScorerConfig::default(), horizon, bytes).unwrap()
}

fn record(offset: u64, payload: String) -> Record {
    Record {
        offset: Offset(offset),
        record: NewRecord {
            kind: RecordKind::Telemetry,
            partition_key: "pump1".into(),
            hash_key: None,
            thing: ThingName::new("pump1").unwrap(),
            thing_sequence: offset + 1,
            arrival: Timestamp::from_seconds(T0 + offset as i64),
            topic: "tenants/t1/devices/pump1/telemetry".into(),
            data: payload.into(),
        },
    }
}

/// Of a state whose marks are all in memory yet.
fn no_marks(_: u64) -> Result<Option<Vec<u8>>, TableError> {
    panic!("nothing was written, so nothing is read")
}

fn process(state: &mut ThingState, offset: u64, payload: &str) -> (usize, u64) {
    let done = state.process(ShardId(0), &record(offset, payload.to_owned()), &no_marks).unwrap();
    (done.rows.len(), done.late_readings)
}

#[test]
fn late_and_double_readings_are_not_scored() {
    let mut state = state();
    assert_eq!(process(&mut state, 0, &format!("{{\"ts\":{T0},\"a\":1}}")), (1, 0));
    assert_eq!(process(&mut state, 1, &format!("{{\"ts\":{T0},\"a\":1}}")), (0, 1), "duplicate");
    assert_eq!(process(&mut state, 2, &format!("{{\"ts\":{},\"a\":1}}", T0 - 5)), (0, 1), "out of order");
    assert_eq!(
        process(&mut state, 3, &format!("{{\"ts\":{T0},\"b\":1}}")),
        (1, 0),
        "another signal of the same moment"
    );
    assert_eq!(process(&mut state, 4, &format!("{{\"ts\":{},\"a\":2}}", T0 + 1)), (1, 0));
    let batch = format!("[{{\"ts\":{},\"a\":3}},{{\"ts\":{},\"a\":3}}]", T0, T0 + 2);
    assert_eq!(process(&mut state, 5, &batch), (1, 1));
}

#[test]
fn readings_without_a_time_of_their_own_are_all_scored_however_close_they_come() {
    let mut state = state();
    let arrival = |nanos: i64| Timestamp::from_nanos(T0 * 1_000_000_000 + nanos);
    let mut came = |offset: u64, nanos: i64, payload: &str| {
        let mut record = record(offset, payload.to_owned());
        record.record.arrival = arrival(nanos);
        let done = state.process(ShardId(0), &record, &no_marks).unwrap();
        let times: Vec<i64> = done.rows.iter().map(|row| row.event_time.as_nanos() - T0 * 1_000_000_000).collect();
        (times, done.late_readings)
    };
    let by_rule = format!("{{\"ts\":{},\"a\":1}}", T0 * 1_000);
    assert_eq!(came(0, 300, &by_rule), (vec![0], 0), "the rule's milliseconds");
    assert_eq!(came(1, 301, &by_rule), (vec![1], 0), "the same millisecond");
    assert_eq!(came(2, 900_000, &by_rule), (vec![2], 0));
    assert_eq!(came(3, 900_001, "{\"a\":1}"), (vec![900_001], 0), "the arrival's nanoseconds");
    assert_eq!(came(4, 900_001, "[{\"a\":1},{\"a\":2},{\"a\":3}]"), (vec![900_002, 900_003, 900_004], 0));
    assert_eq!(came(5, 900_002, "{\"a\":1}"), (vec![900_005], 0), "behind the batch's last");
    // A clock that is set back is no such moment, and a time of its own is what it says.
    assert_eq!(came(6, -5_000_000, "{\"a\":1}"), (vec![], 1));
    assert_eq!(came(7, 2_000_000, &format!("{{\"ts\":{T0},\"a\":1}}")), (vec![], 1));
}

#[test]
fn a_restored_state_goes_on_exactly_where_it_was() {
    let payload = |i: u64| format!("{{\"ts\":{},\"a\":{},\"b\":{}}}", T0 + i as i64, i % 7, (i * i) % 11);
    let mut whole = state();
    for i in 0..700 {
        whole.process(ShardId(0), &record(i, payload(i)), &no_marks).unwrap();
    }
    let bytes = whole.snapshot();
    let mut restored = restore(Horizon::NONE, &bytes);
    for i in 700..1_000 {
        let (a, b) = (
            whole.process(ShardId(0), &record(i, payload(i)), &no_marks).unwrap(),
            restored.process(ShardId(0), &record(i, payload(i)), &no_marks).unwrap(),
        );
        assert_eq!(a.rows, b.rows);
        assert_eq!(a.changes, b.changes);
    }
    assert_eq!(whole.snapshot(), restored.snapshot());
}

/// A waveform of 128 samples, as a payload.
fn shaken(i: u64) -> String {
    let sample = |k: u64| ((k * k + i * 31) % 17).to_string();
    let samples: Vec<String> = (0..128).map(sample).collect();
    format!("{{\"v\":{{\"rate_hz\":1000,\"rms\":5,\"samples\":[{}]}}}}", samples.join(","))
}

#[test]
fn what_a_waveform_shows_is_signals_and_is_restored() {
    let mut whole = state();
    for i in 0..60 {
        process(&mut whole, i, &shaken(i));
    }
    let mut restored = restore(Horizon::NONE, &whole.snapshot());
    let next = record(60, shaken(60));
    let [a, b] = [&mut whole, &mut restored].map(|state| state.process(ShardId(0), &next, &no_marks).unwrap());
    assert_eq!(a.rows, b.rows);
    assert_eq!(whole.snapshot(), restored.snapshot());
    let value = |name: &str| a.rows[0].values.iter().find(|(n, _)| ***n == *name).map(|(_, value)| *value);
    assert_eq!(value("v.rms"), Some(5.0), "what the device says counts");
    assert!(value("v.kurtosis").is_some() && value("v.envelope_line_db").is_some(), "{:?}", a.rows[0].values);
    assert_eq!(value("v.rate_hz"), None);
}

#[test]
fn a_waveform_that_comes_late_is_put_in_order_and_not_learned() {
    let mut state = with(Horizon::default());
    let at = |i: u64, time: i64| shaken(i).replacen('{', &format!("{{\"ts\":{time},"), 1);
    for i in 0..60 {
        process(&mut state, i, &at(i, T0 + 2 * i as i64));
    }
    let learned = state.vibration.clone();
    let done = state.process(ShardId(0), &record(60, at(60, T0 + 101)), &no_marks).unwrap();
    assert_eq!((done.rows.len(), done.late_readings), (1, 0));
    assert!(done.rows[0].values.contains_key("v.kurtosis"), "{:?}", done.rows[0].values);
    assert_eq!(state.vibration, learned);
}

#[test]
fn a_state_of_another_version_is_refused() {
    let mut bytes = state().snapshot();
    bytes[0] = 9;
    let (tenant, thing) = (TenantId::new("t1").unwrap(), ThingName::new("pump1").unwrap());
    let refused = ThingState::restore(tenant, thing, ScorerConfig::default(), Horizon::NONE, &bytes).err();
    assert_eq!(refused, Some(StateError::Version { found: 9, known: STATE_VERSION }));
}

#[test]
fn a_device_that_names_a_new_field_every_time_stays_small() {
    let mut state = state();
    for i in 0..5_000u64 {
        state.process(ShardId(0), &record(i, format!("{{\"a\":{},\"f{i}\":1}}", i % 5)), &no_marks).unwrap();
    }
    assert!(state.signals() <= kilter_detect::SIGNALS_MAX);
    assert!(state.memory_bytes() < 4 << 20, "{}", state.memory_bytes());
}

#[test]
fn silence_is_noticed_once_and_ends_with_the_next_readings() {
    let mut state = state();
    for i in 0..50 {
        process(&mut state, i, &format!("{{\"a\":{}}}", i % 5));
    }
    let at = |second: i64| Timestamp::from_seconds(T0 + second);
    assert!(state.check_silence(at(60), at(0)).is_none());
    assert!(state.check_silence(at(75), at(70)).is_none(), "we were not listening");
    let change = state.check_silence(at(80), at(0)).unwrap();
    assert_eq!(&*change.episode.causes[0].detector, "silence");
    assert!(state.check_silence(at(90), at(0)).is_none(), "told once");
    let done: Vec<Change> = (100..130)
        .flat_map(|i| state.process(ShardId(0), &record(i, format!("{{\"a\":{}}}", i % 5)), &no_marks).unwrap().changes)
        .collect();
    assert!(done.last().unwrap().episode.end.is_some());
}
