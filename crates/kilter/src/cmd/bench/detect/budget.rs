//! Is the budget kept? Alerts per asset and month on stretches without labelled anomalies, beside what was asked.
//!
//! The configuration is the one of somebody who sets nothing but the budget. Where a set is too short for the default
//! budget to bring [`ALERTS_MIN`] alerts, a larger one is asked that would.

use super::{
    Figures, OneSeries, Report, Suite,
    alarms::{self, Alarms},
    nab,
    series::{self, Series},
    skab,
    stream::{self, Cost},
};
use indicatif::ProgressBar;
use kilter_core::AlertBudget;
use kilter_detect::{ScorerConfig, WARM_UP_READINGS};
use std::path::Path;

/// Fewer say nothing about a rate.
const ALERTS_MIN: f64 = 10.0;
const DAY_SECONDS: f64 = 86_400.0;
const MINUTE_SECONDS: i64 = 60;
const TEP_SECONDS: i64 = 180;

/// A recording, and its rows that are labelled as anomalous or near to it.
pub struct Recording {
    pub series: Series,
    pub anomalous: Vec<bool>,
}

impl Recording {
    /// Days that it spent scored and without anomaly.
    fn normal_days(&self) -> f64 {
        let scored = WARM_UP_READINGS as usize..self.series.rows();
        let normal = scored.filter(|&row| !self.anomalous[row]).count() as f64;
        normal * self.series.usual_seconds() / DAY_SECONDS
    }

    fn normal_rows<'a>(&'a self, rows: &'a [usize]) -> impl Iterator<Item = &'a usize> {
        rows.iter().filter(|&&row| !self.anomalous[row])
    }
}

pub fn run(data: &Path, bar: &ProgressBar) -> anyhow::Result<Report> {
    let sets = [
        ("skab", skab::normal(&data.join("skab"))?),
        ("tep", tep(&data.join("tep"))?),
        ("smap", whole(&data.join("smap_msl/smap"), MINUTE_SECONDS)?),
        ("gecco", gecco(&data.join("gecco"))?),
        ("nab", nab::recordings(&data.join("nab"))?),
        ("asd", whole(&data.join("asd"), 5 * MINUTE_SECONDS)?),
        ("smd", whole(&data.join("smd"), MINUTE_SECONDS)?),
    ];
    let (mut by_series, mut costs, mut worst) = (Vec::new(), Vec::new(), 1f64);
    for (name, recordings) in &sets {
        let days: f64 = recordings.iter().map(Recording::normal_days).sum();
        let usual = AlertBudget::default().per_asset_and_month();
        let asked = usual.max(ALERTS_MIN * AlertBudget::MONTH_DAYS / days);
        let config = ScorerConfig { budget: AlertBudget::monthly(asked), ..ScorerConfig::default() };
        let alarms = stream::for_all(recordings, bar, |one| alarms::alarms(&one.series, config.clone(), |_, _, _| {}))?;
        let count = |rows: fn(&Alarms) -> &[usize]| -> f64 {
            recordings.iter().zip(&alarms).map(|(one, alarms)| one.normal_rows(rows(alarms)).count() as f64).sum()
        };
        let (alerts, episodes) = (count(|alarms| &alarms.alerted), count(|alarms| &alarms.opened));
        let achieved = alerts / days * AlertBudget::MONTH_DAYS;
        worst = worst.max(achieved / asked).max(asked / achieved.max(f64::MIN_POSITIVE));
        by_series.push(OneSeries {
            name: (*name).to_owned(),
            figures: vec![
                ("asset_days", Some(days)),
                ("asked", Some(asked)),
                ("achieved", Some(achieved)),
                ("ratio", Some(achieved / asked)),
                ("alerts", Some(alerts)),
                ("episodes", Some(episodes)),
            ],
        });
        costs.extend(alarms.into_iter().map(|one| one.cost));
    }
    let series = sets.iter().map(|(_, recordings)| recordings.len()).sum();
    let ours: Figures = vec![("worst_factor", Some(worst))];
    Ok(Report { suite: Suite::Budget, series, ours, published: Vec::new(), cost: Cost::sum(&costs), by_series })
}

/// Two runs without fault, one after the other.
fn tep(folder: &Path) -> anyhow::Result<Vec<Recording>> {
    let mut table = series::table(&folder.join("d00.csv.gz"), false)?;
    table.extend(&series::table(&folder.join("d00_te.csv.gz"), false)?)?;
    let anomalous = vec![false; table.rows()];
    let mut series = Series::new("d00".to_owned(), table.signals_without(&["label"]), None);
    series.space(TEP_SECONDS);
    Ok(vec![Recording { series, anomalous }])
}

/// The learned part of every series, then the judged one. The sets have no times; readings are so many seconds apart.
fn whole(folder: &Path, seconds: i64) -> anyhow::Result<Vec<Recording>> {
    let mut channels = Vec::new();
    for name in series::stems(folder, "_train.csv.gz")? {
        let mut table = series::table(&folder.join(format!("{name}_train.csv.gz")), false)?;
        let mut anomalous = vec![false; table.rows()];
        let test = series::table(&folder.join(format!("{name}_test.csv.gz")), false)?;
        anomalous.extend(test.column("label")?.iter().map(|&label| label > 0.0));
        table.extend(&test)?;
        let mut series = Series::new(name, table.signals_without(&["label"]), None);
        series.space(seconds);
        channels.push(Recording { series, anomalous });
    }
    Ok(channels)
}

fn gecco(folder: &Path) -> anyhow::Result<Vec<Recording>> {
    let table = series::table(&folder.join("gecco2018.csv.gz"), true)?;
    let anomalous = table.column("EVENT")?.iter().map(|&event| event > 0.0).collect();
    let times = table.timestamps()?;
    let series = Series::new("gecco".to_owned(), table.signals_without(&["EVENT"]), Some(times));
    Ok(vec![Recording { series, anomalous }])
}
