//! `kilter detect`: scores a recorded CSV offline, by the pipeline's own decoding, scorer and episodes.

mod plot;

use super::{
    anomalies,
    recording::{LABEL_COLUMNS, Recording},
};
use crate::{config::Shared, output};
use anyhow::Context;
use kilter_core::{
    Cause, Episode, Score, ScoredReading, TenantId, ThingName, Timestamp, Verdict,
    ports::clock::{Clock, SystemClock},
};
use kilter_detect::ScorerConfig;
use kilter_pipeline::{Horizon, Processed, ThingState, decode::decode};
use plot::Plot;
use serde::Serialize;
use std::{fmt::Write, path::PathBuf};

/// Score a recorded CSV offline, with the very code that scores the stream
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The file may be gzipped, and separated by commas or semicolons. An empty cell is no reading of that signal; a column of text is left out. Needs no server and keeps nothing.\n\nExample:\n  kilter detect press1.csv --normal-rows 500 --plot press1.svg"
)]
pub struct Args {
    /// The recording: a header, then a row per reading
    file: PathBuf,
    /// The column with the event time [default: ts, timestamp, time, datetime or date]
    #[arg(long, value_name = "COLUMN")]
    time_column: Option<String>,
    /// Columns that are not looked at; labels would give the answer away
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', default_value = LABEL_COLUMNS)]
    ignore: Vec<String>,
    /// So many first rows are known to be normal
    #[arg(long, value_name = "ROWS")]
    normal_rows: Option<u32>,
    #[command(flatten)]
    budget: super::budget::BudgetArgs,
    /// Draw signals, what was expected of them, score and episodes
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    episodes: Vec<Episode>,
    readings: Vec<Said>,
    /// Rows that are not later than one before them, and rows without a number.
    late: u64,
    empty: u64,
}

/// What was said of one reading.
#[derive(Debug, Serialize)]
struct Said {
    time: Timestamp,
    #[serde(flatten)]
    verdict: Verdict,
    score: Option<Score>,
    threshold: Option<Score>,
    causes: Vec<Cause>,
}

impl From<ScoredReading> for Said {
    fn from(row: ScoredReading) -> Self {
        let causes = if row.verdict == Verdict::Anomalous { row.causes } else { Vec::new() };
        Self { time: row.event_time, verdict: row.verdict, score: row.score, threshold: row.threshold, causes }
    }
}

pub async fn run(shared: &Shared, args: Args) -> anyhow::Result<()> {
    let report = tokio::task::spawn_blocking(move || detect(&args)).await??;
    output::print(shared.output, &report, people)
}

fn detect(args: &Args) -> anyhow::Result<Report> {
    let mut recording = Recording::open(&args.file, args.time_column.as_deref(), &args.ignore)?;
    let config = ScorerConfig {
        budget: args.budget.budget().unwrap_or_default(),
        commissioning_readings: args.normal_rows,
        ..ScorerConfig::default()
    };
    let mut state = ThingState::new(TenantId::new("offline")?, ThingName::new("recording")?, config, Horizon::NONE);
    let (mut report, mut plot) = (Report::default(), args.plot.as_ref().map(|_| Plot::default()));
    let now = SystemClock.now();
    while let Some(row) = recording.next_row()? {
        if row.is_empty() {
            report.empty += 1;
            continue;
        }
        let readings = decode(&serde_json::to_vec(&row.payload)?, now).map_err(|why| recording.at(row.line, &why))?;
        for decoded in readings {
            let expected = state.scorer().expected();
            let mut done = Processed::default();
            let position = format!("line {}", row.line);
            plot.iter_mut().for_each(|plot| plot.expect(&decoded.reading, &expected));
            state.take_in(decoded, now, position.into(), &mut done);
            report.take(done, &mut plot);
        }
    }
    if let (Some(path), Some(plot)) = (&args.plot, plot) {
        let drawn = plot.draw(&report.episodes)?;
        std::fs::write(path, drawn).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    report.episodes.reverse();
    Ok(report)
}

impl Report {
    fn take(&mut self, done: Processed, plot: &mut Option<Plot>) {
        self.late += done.late_readings;
        for change in done.changes {
            match self.episodes.last_mut() {
                Some(last) if last.id == change.episode.id => *last = change.episode,
                _ => self.episodes.push(change.episode),
            }
        }
        for row in done.rows {
            plot.iter_mut().for_each(|plot| plot.score(&row));
            self.readings.push(row.into());
        }
    }
}

fn people(report: &Report) -> String {
    let mut text = anomalies::list(&report.episodes);
    let count = |wanted: fn(&Verdict) -> bool| report.readings.iter().filter(|said| wanted(&said.verdict)).count();
    let _ = write!(
        text,
        "\n{} readings: {} to warm up, {} normal, {} anomalous; {} late, {} rows without a number.",
        report.readings.len(),
        count(|verdict| matches!(verdict, Verdict::Warming { .. })),
        count(|verdict| *verdict == Verdict::Normal),
        count(|verdict| *verdict == Verdict::Anomalous),
        report.late,
        report.empty
    );
    text
}
