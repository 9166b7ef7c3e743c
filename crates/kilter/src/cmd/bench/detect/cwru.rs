//! CWRU: the bearing at the drive end of a motor, healthy and with nine damages. The product's own road: a payload with
//! a waveform is decoded, its features are scored.

use super::{
    Figures, OneSeries, Published, Report, Suite, series,
    stream::{self, Cost, thread_seconds},
};
use indicatif::ProgressBar;
use kilter_core::{TenantId, ThingName, Timestamp, Verdict};
use kilter_detect::{ScorerConfig, vibration::Bearing};
use kilter_pipeline::{Horizon, Processed, ThingState, decode::decode};
use std::{collections::BTreeMap, fmt::Write, path::Path};

const RATE_HZ: f64 = 48_000.0;
const WINDOW: usize = 2_048;
/// Windows overlap: 29 that do not would not last through a warm-up of 256 readings.
const HOP: usize = 128;
const NORMAL: &str = "1797_Normal";
/// Samples of the healthy recording that are learned; the rest is judged.
const LEARNED_SAMPLES: usize = 60_000;
const COLUMN: &str = "de";
/// The recording says nothing of how often a sensor would send a waveform.
const SECONDS_BETWEEN: i64 = 60;
const SPEED_RPM: f64 = 1_797.0;
/// Signals that people watch by themselves, held against the largest value that was learned.
const BY_THEMSELVES: [&str; 3] = ["rms", "kurtosis", "crest"];

/// What was said of one window.
struct Told {
    anomalous: bool,
    features: BTreeMap<Box<str>, f64>,
}

/// One recording, judged behind the learned part of the healthy one.
struct Run {
    name: String,
    faulty: bool,
    learned: Vec<Told>,
    judged: Vec<Told>,
    cost: Cost,
}

pub fn run(data: &Path, bar: &ProgressBar) -> anyhow::Result<Report> {
    let folder = data.join("cwru");
    let samples = |name: &str| {
        let table = series::table(&folder.join(format!("{name}.csv.gz")), false)?;
        anyhow::Ok(table.column(COLUMN)?.to_vec())
    };
    let normal = samples(NORMAL)?;
    let (learned, healthy) = normal.split_at(LEARNED_SAMPLES.min(normal.len()));
    let mut recordings = vec![(NORMAL.to_owned(), healthy.to_vec())];
    for name in series::stems(&folder, ".csv.gz")?.into_iter().filter(|name| name != NORMAL) {
        recordings.push((name.clone(), samples(&name)?));
    }
    let runs = |bearing: Option<&Bearing>| {
        stream::for_all(&recordings, bar, |(name, samples)| one(name, learned, samples, bearing))
    };
    let (plain, described) = (runs(None)?, runs(Some(&bearing()))?);
    let said = |runs: &[Run]| figures(runs, |_, told| told.anomalous);
    let above_all_learned = |feature: &&str| {
        let value = |told: &Told| told.features.get(*feature).copied().unwrap_or(0.0);
        let above = |run: &Run, told: &Told| value(told) > run.learned.iter().map(value).fold(0.0, f64::max);
        Published { name: format!("({feature} above all that was learned)"), figures: figures(&plain, above) }
    };
    let mut beside = vec![Published { name: "(the bearing described)".to_owned(), figures: said(&described) }];
    beside.extend(BY_THEMSELVES.iter().map(above_all_learned));
    let by_series = plain.iter().map(|run| OneSeries {
        name: run.name.clone(),
        figures: figures(std::slice::from_ref(run), |_, told| told.anomalous),
    });
    let by_series = by_series.collect();
    let cost = Cost::sum(plain.iter().map(|run| &run.cost));
    Ok(Report { suite: Suite::Cwru, series: plain.len(), ours: said(&plain), published: beside, cost, by_series })
}

/// The SKF 6205 at the drive end.
fn bearing() -> Bearing {
    Bearing { speed_rpm: Some(SPEED_RPM), ..Bearing::new(9, 7.94, 39.04) }
}

fn windows(samples: &[f64]) -> impl ExactSizeIterator<Item = &[f64]> {
    let count = (samples.len() + HOP).saturating_sub(WINDOW) / HOP;
    (0..count).map(move |at| &samples[at * HOP..at * HOP + WINDOW])
}

fn payload(time: Timestamp, window: &[f64]) -> String {
    let mut text = format!("{{\"ts\":{},\"de\":{{\"rate_hz\":{RATE_HZ},\"samples\":[", time.as_nanos());
    for (at, sample) in window.iter().enumerate() {
        let _ = write!(text, "{}{sample}", if at == 0 { "" } else { "," });
    }
    text + "]}}"
}

fn one(name: &str, learned: &[f64], judged: &[f64], bearing: Option<&Bearing>) -> anyhow::Result<Run> {
    let config = ScorerConfig {
        commissioning_readings: Some(windows(learned).len() as u32),
        bearings: bearing.map(|bearing| (COLUMN.into(), bearing.clone())).into_iter().collect(),
        ..ScorerConfig::default()
    };
    let mut state = ThingState::new(TenantId::new("bench")?, ThingName::new("motor")?, config, Horizon::NONE);
    let mut told = Vec::new();
    let begun = thread_seconds()?;
    for (at, window) in windows(learned).chain(windows(judged)).enumerate() {
        let time = Timestamp::from_seconds(1_700_000_000 + at as i64 * SECONDS_BETWEEN);
        for decoded in decode(payload(time, window).as_bytes(), time).map_err(anyhow::Error::msg)? {
            let mut done = Processed::default();
            state.take_in(decoded, time, at.to_string().into(), &mut done);
            told.extend(done.rows.into_iter().map(|row| {
                let feature = |(name, value): (Box<str>, f64)| (name.trim_start_matches("de.").into(), value);
                Told {
                    anomalous: row.verdict == Verdict::Anomalous,
                    features: row.values.into_iter().map(feature).collect(),
                }
            }));
        }
    }
    let cpu_seconds = thread_seconds()? - begun;
    let cost = Cost::new(told.len(), state.signals(), cpu_seconds, 0, state.scorer());
    let judged = told.split_off(windows(learned).len());
    Ok(Run { name: name.to_owned(), faulty: name != NORMAL, learned: told, judged, cost })
}

/// By what is flagged of a run's judged windows.
fn figures(runs: &[Run], flagged: impl Fn(&Run, &Told) -> bool) -> Figures {
    let of = |run: &Run| run.judged.iter().map(|told| flagged(run, told)).collect::<Vec<bool>>();
    let (mut faults, mut found, mut detected, mut delays) = (0.0, 0.0, 0.0, Vec::new());
    let (mut healthy, mut false_alarms) = (0.0, 0.0);
    for run in runs {
        let flags = of(run);
        let hits = flags.iter().filter(|flag| **flag).count() as f64;
        if run.faulty {
            let first = flags.iter().position(|flag| *flag);
            faults += 1.0;
            found += f64::from(u8::from(first.is_some()));
            detected += hits / flags.len().max(1) as f64;
            delays.extend(first.map(|first| first as f64));
        } else {
            healthy += flags.len() as f64;
            false_alarms += hits;
        }
    }
    let mean = |sum: f64, count: f64| (count > 0.0).then(|| sum / count);
    vec![
        ("faults", (faults > 0.0).then_some(faults)),
        ("faults_found", (faults > 0.0).then_some(found)),
        ("windows_flagged", mean(100.0 * detected, faults)),
        ("delay_windows_max", delays.into_iter().reduce(f64::max)),
        ("false_alarms", mean(100.0 * false_alarms, healthy)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_with_the_samples() {
        let samples = vec![0.0; WINDOW + 3 * HOP];
        assert_eq!((windows(&samples).len(), windows(&samples[..WINDOW - 1]).len()), (4, 0));
        assert!(windows(&samples).all(|window| window.len() == WINDOW));
    }

    #[test]
    fn figures_count_faults_and_false_alarms_apart() {
        let run = |faulty, flags: &[bool]| Run {
            name: String::new(),
            faulty,
            learned: Vec::new(),
            judged: flags.iter().map(|&anomalous| Told { anomalous, features: BTreeMap::new() }).collect(),
            cost: Cost::default(),
        };
        let runs = [run(true, &[false, true]), run(true, &[false, false]), run(false, &[true, false, false, false])];
        let figures = figures(&runs, |_, told| told.anomalous);
        let values: Vec<Option<f64>> = figures.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [2.0, 1.0, 25.0, 1.0, 25.0].map(Some));
    }
}
