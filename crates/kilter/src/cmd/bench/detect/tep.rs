//! Tennessee Eastman process: a simulated plant of 52 signals. Learns one run without fault, then is shown one run per
//! fault, which sets in after 160 readings.

use super::{
    Figures, OneSeries, Report, Suite,
    alarms::{self, Alarms},
    series::{self, Series},
    stream::{self, Cost},
};
use indicatif::ProgressBar;
use kilter_detect::ScorerConfig;
use std::path::Path;

const NORMAL: &str = "d00";
/// In the test runs; also the name of the column.
const LABEL: &str = "label";
/// Hardly observable; the literature leaves them out of its averages.
const UNOBSERVABLE: [&str; 3] = ["d03", "d09", "d15"];

/// The run that is learned, with one that is judged below it.
struct Run {
    series: Series,
    /// Of the judged rows.
    faulty: Vec<bool>,
}

#[derive(Debug, Clone, Copy)]
struct Judged {
    /// Per cent of the fault's rows that were flagged, and of the rows before it.
    detected: Option<f64>,
    false_alarms: f64,
    normal_rows: f64,
    /// Readings from the fault's first to the first that was flagged.
    delay: Option<f64>,
}

pub fn run(data: &Path, bar: &ProgressBar) -> anyhow::Result<Report> {
    let runs = runs(&data.join("tep"))?;
    let alarms = stream::for_all(&runs, bar, |run| {
        let config = ScorerConfig { commissioning_readings: run.series.normal_rows, ..ScorerConfig::default() };
        alarms::alarms(&run.series, config, |_, _, _| {})
    })?;
    let judged: Vec<Judged> = runs.iter().zip(&alarms).map(|(run, alarms)| judge(run, alarms)).collect();
    let named = runs.iter().zip(&judged).map(|(run, judged)| OneSeries {
        name: run.series.name.clone(),
        figures: vec![
            ("detected", judged.detected),
            ("false_alarms", Some(judged.false_alarms)),
            ("median_delay", judged.delay),
        ],
    });
    let by_series = named.collect();
    let observable = runs.iter().zip(&judged).filter(|(run, _)| !UNOBSERVABLE.contains(&&*run.series.name));
    let mut ours = figures(&observable.map(|(_, judged)| *judged).collect::<Vec<_>>());
    let normal_rows: f64 = judged.iter().map(|one| one.normal_rows).sum();
    let false_rows: f64 = judged.iter().map(|one| one.normal_rows * one.false_alarms).sum();
    ours.push(("false_alarms_all_runs", (normal_rows > 0.0).then(|| false_rows / normal_rows)));
    let cost = Cost::sum(alarms.iter().map(|one| &one.cost));
    Ok(Report { suite: Suite::Tep, series: runs.len(), ours, published: Vec::new(), cost, by_series })
}

fn figures(judged: &[Judged]) -> Figures {
    let faults: Vec<&Judged> = judged.iter().filter(|one| one.detected.is_some()).collect();
    let found = faults.iter().filter(|one| one.delay.is_some()).count();
    let mean = |sum: f64, count: usize| (count > 0).then(|| sum / count as f64);
    let mut delays: Vec<f64> = faults.iter().map(|one| one.delay.unwrap_or(f64::INFINITY)).collect();
    delays.sort_by(f64::total_cmp);
    let middle = delays.len() / 2;
    let median = match delays.len() % 2 {
        _ if delays.is_empty() => None,
        0 => Some(f64::midpoint(delays[middle - 1], delays[middle])),
        _ => Some(delays[middle]),
    };
    vec![
        ("detected", mean(faults.iter().filter_map(|one| one.detected).sum(), faults.len())),
        ("false_alarms", mean(faults.iter().map(|one| one.false_alarms).sum(), faults.len())),
        ("median_delay", median.filter(|delay| delay.is_finite())),
        ("faults_found", mean(100.0 * found as f64, faults.len())),
    ]
}

fn runs(folder: &Path) -> anyhow::Result<Vec<Run>> {
    let mut runs = Vec::new();
    for name in series::stems(folder, "_te.csv.gz")? {
        let mut table = series::table(&folder.join(format!("{NORMAL}.csv.gz")), false)?;
        let learned = table.rows();
        let judged = series::table(&folder.join(format!("{name}_te.csv.gz")), false)?;
        let faulty = judged.column(LABEL)?.iter().map(|&label| label > 0.0).collect();
        table.extend(&judged)?;
        let mut series = Series::new(name, table.signals_without(&[LABEL]), None);
        series.normal_rows = Some(learned as u32);
        runs.push(Run { series, faulty });
    }
    Ok(runs)
}

fn judge(run: &Run, alarms: &Alarms) -> Judged {
    let learned = run.series.rows() - run.faulty.len();
    let flagged = |row: &usize| alarms.is_anomalous(learned + row);
    let part = |rows: Vec<usize>| {
        let count = rows.len() as f64;
        (count > 0.0).then(|| 100.0 * rows.iter().filter(|row| flagged(row)).count() as f64 / count)
    };
    let rows = |faulty: bool| (0..run.faulty.len()).filter(|&row| run.faulty[row] == faulty).collect::<Vec<_>>();
    let delay = rows(true).iter().position(flagged).map(|delay| delay as f64);
    let normal = rows(false);
    let normal_rows = normal.len() as f64;
    Judged { detected: part(rows(true)), false_alarms: part(normal).unwrap_or(0.0), normal_rows, delay }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_is_not_found_counts_as_late_for_ever() {
        let run = |detected, delay| Judged { detected, false_alarms: 2.0, normal_rows: 160.0, delay };
        let of = |judged: &[Judged], name: &str| figures(judged).into_iter().find(|(n, _)| *n == name).unwrap().1;
        let faults = [run(Some(100.0), Some(1.0)), run(Some(50.0), Some(4.0)), run(None, None)];
        assert_eq!(of(&faults, "median_delay"), Some(2.5));
        assert_eq!(of(&faults, "detected"), Some(75.0));
        assert_eq!(of(&[faults[0], run(Some(0.0), None)], "median_delay"), None);
        assert_eq!(of(&[faults[0], run(Some(0.0), None)], "faults_found"), Some(50.0));
    }
}
