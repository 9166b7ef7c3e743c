//! `kilter replay`: a recorded CSV takes a device's road, and its labelled faults are found.

use crate::{
    harness::{Installation, tell},
    tools,
};
use kilter_core::Timestamp;
use serde_json::Value;
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

const NAB: &str = "realKnownCause/machine_temperature_system_failure.csv";

/// The series runs from 2 December 2013 to 19 February 2014.
const RECORDED_DAYS: f64 = 79.0;

/// The data sets beside the repository; says so where they are missing.
fn shared(test: &str) -> Option<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if data.is_dir() {
        return Some(data);
    }
    tools::skip(test, &format!("{} is not there", data.display()));
    None
}

/// Replays a file and answers the report and the episodes, oldest first.
fn replay(file: &Path, thing: &str, time_column: &str) -> (Value, Vec<Value>) {
    let installation = Installation::new("");
    let server = installation.start();
    let began = Instant::now();
    let file = file.to_str().unwrap();
    let report = installation
        .kilter(&["replay", file, "--tenant", "plant", "--thing", thing, "--time-column", time_column])
        .json();
    tell(&format!("replay of {file}: {report} in {:?}", began.elapsed()));
    let listed = installation.kilter(&["anomalies", "list", "--tenant", "plant"]).json();
    let Value::Array(mut episodes) = listed else { panic!("not a list: {listed}") };
    episodes.reverse();
    episodes.iter().for_each(|episode| check_episode(episode, thing));
    assert!(episodes.is_sorted_by_key(start));
    assert_eq!(report["anomalies"], episodes.len());
    let ledger = installation.kilter(&["ledger", "--tenant", "plant"]).json();
    assert_eq!(ledger[0]["received"], report["published"], "{ledger}");
    assert!(server.stop().success());
    (report, episodes)
}

fn time(value: &Value) -> Timestamp {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no time"));
    assert!(text.ends_with('Z') && text.contains('T'), "{text} is not RFC 3339 in UTC");
    Timestamp::parse_rfc3339(text).unwrap()
}

fn start(episode: &Value) -> Timestamp {
    time(&episode["start"])
}

/// Open episodes reach to the end of time.
fn end(episode: &Value) -> Timestamp {
    if episode["end"].is_null() { Timestamp::from_nanos(i64::MAX) } else { time(&episode["end"]) }
}

/// What contract §7 promises of every episode.
fn check_episode(episode: &Value, thing: &str) {
    assert_eq!(episode["thing"], thing);
    assert!(start(episode) <= time(&episode["peak"]) && time(&episode["peak"]) <= end(episode), "{episode:#}");
    assert!(["low", "medium", "high", "critical"].contains(&episode["severity"].as_str().unwrap()), "{episode:#}");
    let causes = episode["causes"].as_array().unwrap();
    assert!(!causes.is_empty(), "{episode:#}");
    let shares: f64 = causes.iter().map(|cause| cause["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-6, "shares sum to {shares}: {episode:#}");
    for cause in causes {
        assert!(cause["signal"].is_string() && cause["value"].is_number(), "{cause}");
        assert!(["high", "low", "odd"].contains(&cause["direction"].as_str().unwrap()), "{cause}");
        let expected = [0, 1].map(|i| cause["expected"][i].as_f64().unwrap());
        assert!(expected[0] <= expected[1], "{cause}");
    }
}

#[test]
fn a_generated_fault_is_found() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("pump.csv");
    let mut text = "when;flow;current;anomaly\n".to_owned();
    // Two signals that move together, with noise that repeats after 97 x 89 rows; row 1500 to 1519 breaks the pattern.
    for i in 0..2_000u64 {
        let noise = ((i * 31) % 97) as f64 / 97.0 + ((i * 17) % 89) as f64 / 89.0 - 1.0;
        let flow = 200.0 + 20.0 * (i as f64 / 40.0).sin() + noise;
        let fault = (1_500..1_520).contains(&i);
        let current = flow * 0.3 + noise * 0.2 + if fault { 25.0 } else { 0.0 };
        let time = Timestamp::from_seconds(1_700_000_000 + 60 * i as i64).format("%Y-%m-%d %H:%M:%S");
        writeln!(text, "{time};{flow:.4};{current:.4};{}", u8::from(fault)).unwrap();
    }
    std::fs::write(&file, text).unwrap();
    let (report, episodes) = replay(&file, "pump", "when");
    assert_eq!((&report["published"], &report["scored"]), (&Value::from(2_000), &Value::from(2_000)), "{report}");
    let fault = Timestamp::from_seconds(1_700_000_000 + 60 * 1_500);
    let found = episodes.iter().find(|episode| start(episode) <= fault && fault <= end(episode));
    let found = found.unwrap_or_else(|| panic!("not found among {episodes:#?}"));
    assert_eq!(found["causes"][0]["signal"], "current", "{found:#}");
    assert_eq!(found["causes"][0]["direction"], "high", "{found:#}");
}

#[test]
fn the_machine_temperature_failures_are_found() {
    let Some(data) = shared("replay: the_machine_temperature_failures_are_found") else { return };
    let (report, episodes) = replay(&data.join("nab").join(format!("{NAB}.gz")), "machine", "timestamp");
    assert_eq!(report["published"], 22_695, "{report}");
    let windows: Value = serde_json::from_slice(&std::fs::read(data.join("nab/windows.json")).unwrap()).unwrap();
    let windows = windows[NAB].as_array().unwrap();
    let moment = |value: &Value| Timestamp::parse_rfc3339(&format!("{}Z", value.as_str().unwrap())).unwrap();
    let overlaps = |window: &&Value| {
        let (from, to) = (moment(&window[0]), moment(&window[1]));
        episodes.iter().any(|episode| start(episode) <= to && from <= end(episode))
    };
    let found = windows.iter().filter(overlaps).count();
    let spans: Vec<String> = episodes.iter().map(|e| format!("{} to {}", e["start"], e["end"])).collect();
    tell(&format!("machine temperature: {found} of {} windows, episodes {spans:#?}", windows.len()));
    assert!(found >= 3, "{found} of {windows:#?} found: {spans:#?}");
    // Who always cries finds everything.
    let outside = |episode: &Value| {
        let (began, ended) = (start(episode), end(episode));
        let inside = windows.iter().map(|window| {
            let (from, to) = (moment(&window[0]).max(began), moment(&window[1]).min(ended));
            to.seconds_since(from).max(0.0)
        });
        ended.seconds_since(began) - inside.sum::<f64>()
    };
    let false_alarm: f64 = episodes.iter().map(outside).sum();
    let whole = RECORDED_DAYS * 86_400.0;
    tell(&format!("machine temperature: anomalous for {false_alarm} of {whole} s outside of failures"));
    assert!(false_alarm < whole / 5.0, "anomalous for {false_alarm} of {whole} s outside of failures");
}

#[test]
fn the_valve_fault_is_found() {
    let Some(data) = shared("replay: the_valve_fault_is_found") else { return };
    let file = data.join("skab/valve1/0.csv.gz");
    let labelled = labelled(&file);
    let (report, episodes) = replay(&file, "valve", "datetime");
    assert_eq!(report["published"], report["scored"], "{report}");
    let spans: Vec<String> = episodes.iter().map(|e| format!("{} to {}", e["start"], e["end"])).collect();
    tell(&format!("valve: labelled {labelled:?}, episodes {spans:#?}"));
    let within = episodes.iter().any(|e| labelled.0 <= start(e) && start(e) <= labelled.1);
    assert!(within, "no episode begins within {labelled:?}: {spans:#?}");
}

/// First and last moment with `anomaly` 1.
fn labelled(file: &Path) -> (Timestamp, Timestamp) {
    let mut text = String::new();
    let mut gzip = flate2::read::MultiGzDecoder::new(std::fs::File::open(file).unwrap());
    std::io::Read::read_to_string(&mut gzip, &mut text).unwrap();
    let mut times = text.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split(';').collect();
        let anomalous = fields[fields.len() - 2] == "1.0";
        anomalous.then(|| Timestamp::parse_rfc3339(&format!("{}Z", fields[0])).unwrap())
    });
    let first = times.next().unwrap();
    (first, times.last().unwrap())
}
