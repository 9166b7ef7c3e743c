//! `kilter bench detect`: how well the detectors find what people have labelled, on public sets, by each set's own
//! protocol, beside the published results for exactly the series that are there.

mod alarms;
mod budget;
mod causes;
mod cwru;
mod nab;
mod nab_score;
mod series;
mod skab;
mod skab_score;
mod stream;
mod tep;
mod tsb;
mod ucr;
mod vus;

use crate::{config::Shared, output};
use anyhow::ensure;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{fmt::Write, path::PathBuf};

/// Measure how well anomalies are found, on labelled public data
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The folder holds nab/, skab/, tsb-ad/ and the sets that tsb-ad/manifest.csv names, each with the files that docs/guide/detection-results.md describes. Every series goes once through the scorer of the stream, in order, with one configuration for all; published results are computed anew for the series that are there.\n\nExample:\n  kilter bench detect --suite nab --data ../shared/data\n  kilter bench detect --suite tsb --data ../shared/data --output json"
)]
pub struct Args {
    /// Which benchmark's data and protocol
    #[arg(long, value_enum)]
    suite: Suite,
    /// The folder that holds the sets
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Suite {
    /// Numenta Anomaly Benchmark: early detection in univariate streams
    Nab,
    /// Skoltech Anomaly Benchmark: a water rig with eight sensors
    Skab,
    /// TSB-AD: VUS-PR over series of many sets, univariate and multivariate
    Tsb,
    /// SMD and ASD: whether the signals told as causes are those that experts named
    Causes,
    /// Tennessee Eastman process: faults found, false alarms, delay
    Tep,
    /// CWRU: nine damages of a rolling bearing, heard in waveforms
    Cwru,
    /// UCR anomaly archive: one subtle anomaly in each long univariate series
    Ucr,
    /// Alerts on stretches without anomaly, beside the budget that was asked
    Budget,
}

/// Figures by name, in the order in which they are shown.
type Figures = Vec<(&'static str, Option<f64>)>;

#[derive(Debug, Serialize)]
pub struct Report {
    suite: Suite,
    series: usize,
    #[serde(serialize_with = "as_object")]
    ours: Figures,
    published: Vec<Published>,
    cost: stream::Cost,
    /// Our figure of every series, where the suite has one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_series: Vec<OneSeries>,
}

#[derive(Debug, Serialize)]
struct Published {
    name: String,
    #[serde(flatten, serialize_with = "as_object")]
    figures: Figures,
}

#[derive(Debug, Serialize)]
struct OneSeries {
    name: String,
    #[serde(flatten, serialize_with = "as_object")]
    figures: Figures,
}

fn as_object<S: serde::Serializer>(figures: &Figures, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(figures.iter().copied())
}

pub async fn run(shared: &Shared, args: Args) -> anyhow::Result<()> {
    ensure!(
        args.data.is_dir(),
        "{} is not a folder: give the one that holds nab/, skab/ and tsb-ad/",
        args.data.display()
    );
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")?);
    let work = bar.clone();
    let report = tokio::task::spawn_blocking(move || match args.suite {
        Suite::Nab => nab::run(&args.data, &work),
        Suite::Skab => skab::run(&args.data, &work),
        Suite::Tsb => tsb::run(&args.data, &work),
        Suite::Causes => causes::run(&args.data, &work),
        Suite::Tep => tep::run(&args.data, &work),
        Suite::Cwru => cwru::run(&args.data, &work),
        Suite::Ucr => ucr::run(&args.data, &work),
        Suite::Budget => budget::run(&args.data, &work),
    })
    .await??;
    bar.finish_and_clear();
    output::print(shared.output, &report, people)
}

/// The figures under the names; those that are not known are absent.
fn row(name: &str, figures: &Figures, names: &[&str]) -> Vec<String> {
    let cell = |wanted: &&str| {
        let found = figures.iter().find(|(name, _)| name == wanted);
        found.and_then(|(_, figure)| *figure).map_or("-".to_owned(), |figure| format!("{figure:.3}"))
    };
    std::iter::once(name.to_owned()).chain(names.iter().map(cell)).collect()
}

fn people(report: &Report) -> String {
    let mut shown = vec![("Kilter", &report.ours)];
    shown.extend(report.published.iter().map(|one| (&*one.name, &one.figures)));
    if report.published.is_empty() {
        shown.extend(report.by_series.iter().map(|one| (&*one.name, &one.figures)));
    }
    let mut names: Vec<&'static str> = Vec::new();
    for (name, _) in shown.iter().flat_map(|(_, figures)| *figures) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let rows = shown.iter().map(|(name, figures)| row(name, figures, &names)).collect();
    let mut head = vec!["detector"];
    head.extend(names);
    let mut text = output::table(&head, rows, "no series of this suite in the folder");
    let cost = &report.cost;
    let _ = write!(
        text,
        "\n{} series, {} readings: {:.1} s of processor time, {:.1} µs per reading, {} bytes of state per signal; settled {} readings later",
        report.series,
        cost.readings,
        cost.cpu_seconds,
        cost.microseconds_per_reading,
        cost.state_bytes_per_signal,
        cost.lag_readings
    );
    text
}
