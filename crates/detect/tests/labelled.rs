//! Real recordings with labelled faults, streamed once through the scorer: one configuration for all of them.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // A test: a broken recording should stop it, and numbers are its output.

use flate2::read::GzDecoder;
use kilter_core::{Timestamp, Verdict};
use kilter_detect::{Sample, ScorerConfig, ThingScorer};
use kilter_testkit::detector::Feeder;
use std::io::Read;
use std::path::PathBuf;

/// Flagged readings in a row that are not learned: as the pipeline does.
const HOLD_READINGS: u32 = 60;
/// Quiet readings that end an episode.
const EPISODE_ENDS_AFTER: usize = 30;

/// The recordings' folder, or why the test cannot run. Fails where tools and data are required.
fn data(file: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(file);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("KILTER_REQUIRE_TOOLS").is_none(), "{} is required", path.display());
    println!("SKIPPED: {} is not there", path.display());
    None
}

/// A recording: column names, and per row the time's text and the other columns.
struct Recording {
    columns: Vec<String>,
    rows: Vec<(String, Vec<f64>)>,
}

fn read(file: &str) -> Option<Recording> {
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(data(file)?).unwrap()).read_to_string(&mut text).unwrap();
    let separator = if text.lines().next()?.contains(';') { ';' } else { ',' };
    let mut lines = text.lines().map(|line| line.split(separator));
    let columns = lines.next()?.skip(1).map(str::to_owned).collect();
    let rows = lines
        .map(|mut cells| (cells.next().unwrap().to_owned(), cells.map(|cell| cell.parse().unwrap()).collect()))
        .collect();
    Some(Recording { columns, rows })
}

/// First and last row of each run of flagged readings.
fn episodes(recording: &Recording) -> (Vec<usize>, Vec<(usize, usize)>) {
    let mut feeder = Feeder::new(ThingScorer::new(ScorerConfig::default(), 42), HOLD_READINGS);
    let mut flagged = Vec::new();
    let mut episodes: Vec<(usize, usize)> = Vec::new();
    let mut order: Vec<usize> = (0..recording.columns.len())
        .filter(|&i| !["anomaly", "changepoint"].contains(&&*recording.columns[i]))
        .collect();
    order.sort_by_key(|&i| &recording.columns[i]);
    for (row, (time, values)) in recording.rows.iter().enumerate() {
        let signals: Vec<(Box<str>, f64)> =
            order.iter().map(|&i| (recording.columns[i].as_str().into(), values[i])).collect();
        let event_time = Timestamp::parse_rfc3339(&format!("{}Z", time.replacen(' ', "T", 1))).unwrap();
        let outcome = feeder.feed(&Sample { event_time, signals: &signals });
        if outcome.verdict != Verdict::Anomalous {
            continue;
        }
        flagged.push(row);
        match episodes.last_mut() {
            Some((_, last)) if row - *last <= EPISODE_ENDS_AFTER => *last = row,
            _ => episodes.push((row, row)),
        }
    }
    (flagged, episodes)
}

/// Rows of a SKAB recording in which a column is 1.
fn labelled(recording: &Recording, column: &str) -> Vec<usize> {
    let at = recording.columns.iter().position(|name| name == column).unwrap();
    (0..recording.rows.len()).filter(|&row| recording.rows[row].1[at] == 1.0).collect()
}

#[test]
fn machine_temperature() {
    const NAME: &str = "realKnownCause/machine_temperature_system_failure.csv";
    let (Some(recording), Some(windows)) = (read(&format!("nab/{NAME}.gz")), data("nab/windows.json")) else { return };
    let windows: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(windows).unwrap()).unwrap();
    let windows: Vec<[String; 2]> = serde_json::from_value(windows[NAME].clone()).unwrap();
    let (flagged, episodes) = episodes(&recording);
    let inside = |row: usize, window: &[String; 2]| {
        let time = recording.rows[row].0.as_str();
        (&window[0][..19]..=&window[1][..19]).contains(&time)
    };
    let found: Vec<bool> = windows.iter().map(|w| flagged.iter().any(|&row| inside(row, w))).collect();
    let weeks = recording.rows.len() as f64 * 300.0 / (7.0 * 86_400.0);
    let per_week = episodes.len() as f64 / weeks;
    println!("windows found: {found:?}; {} episodes in {weeks:.1} weeks, {per_week:.1} a week", episodes.len());
    assert!(found.iter().filter(|&&found| found).count() >= 3, "{found:?}");
    assert!(found[3], "the failure of February 8th must be found");
    assert!(per_week <= ScorerConfig::default().budget.per_asset_and_week, "{per_week} episodes a week");
}

#[test]
fn healthy_rig_stays_quiet() {
    let Some(recording) = read("skab/anomaly-free/anomaly-free.csv.gz") else { return };
    let (flagged, episodes) = episodes(&recording);
    println!("anomaly-free: {} of {} readings flagged, episodes {episodes:?}", flagged.len(), recording.rows.len());
    assert!(episodes.len() <= 3, "{episodes:?}");
}

#[test]
fn valve_faults_are_found() {
    let (mut found, mut early, mut all) = (0, 0, 0);
    for number in [0, 3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let Some(recording) = read(&format!("skab/valve1/{number}.csv.gz")) else { return };
        let (flagged, episodes) = episodes(&recording);
        let fault = labelled(&recording, "anomaly");
        let first = flagged.iter().find(|row| fault.contains(row));
        let before = episodes.iter().filter(|(_, last)| *last < fault[0]).count();
        println!(
            "valve1/{number}: fault from row {}, first flagged inside: {first:?}, episodes before: {before}",
            fault[0]
        );
        if number == 0 {
            let changepoint = labelled(&recording, "changepoint")[0];
            assert!(flagged.iter().any(|row| (changepoint..changepoint + 120).contains(row)), "valve1/0: {flagged:?}");
            assert_eq!(before, 0, "valve1/0: {episodes:?}");
        }
        (found, early, all) = (found + usize::from(first.is_some()), early + before, all + 1);
    }
    println!("valve1: {found} of {all} faults found, {early} episodes before them");
    assert!(found >= 8, "{found} of {all}");
    assert!(early <= 8, "{early} false episodes before the faults");
}
