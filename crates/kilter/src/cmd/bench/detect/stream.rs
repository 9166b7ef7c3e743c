//! Streams a recording through the scorer, as the pipeline does: score, then learn, one reading after the other.

use super::series::Series;
use anyhow::Context;
use indicatif::ProgressBar;
use kilter_core::Verdict;
use kilter_detect::{Learn, Sample, ScorerConfig, ThingScorer};
use kilter_pipeline::HOLD_READINGS;
use serde::Serialize;
use std::{
    fs,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Quiet readings after which what is flagged is a new episode.
const QUIET_READINGS: u64 = 30;

/// What was said of one reading.
#[derive(Debug, Clone, Copy, Default)]
pub struct Row {
    pub anomalous: bool,
    /// Strictly causal; 0 while learning.
    pub oddness: f64,
    /// With the fixed lag; that of the moment itself where the stream ends before.
    pub settled: f64,
    /// Of an event that begins; 0 otherwise.
    pub onset: f64,
    /// Whether a signal's level has become another one.
    pub changed: bool,
}

#[derive(Debug, Default)]
pub struct Streamed {
    pub rows: Vec<Row>,
    pub cost: Cost,
}

/// What it took.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Cost {
    pub readings: u64,
    pub cpu_seconds: f64,
    pub microseconds_per_reading: f64,
    /// Of the state as it is stored, on average.
    pub state_bytes_per_signal: u64,
    /// The most readings that a settled score was late.
    pub lag_readings: u32,
    #[serde(skip)]
    state_bytes: u64,
    #[serde(skip)]
    signals: u64,
}

impl Cost {
    fn add(&mut self, other: &Self) {
        self.readings += other.readings;
        self.cpu_seconds += other.cpu_seconds;
        self.state_bytes += other.state_bytes;
        self.signals += other.signals;
        self.lag_readings = self.lag_readings.max(other.lag_readings);
        self.microseconds_per_reading = self.cpu_seconds * 1e6 / self.readings.max(1) as f64;
        self.state_bytes_per_signal = self.state_bytes / self.signals.max(1);
    }

    pub fn new(readings: usize, signals: usize, cpu_seconds: f64, lag_readings: u32, scorer: &ThingScorer) -> Self {
        Self {
            readings: readings as u64,
            cpu_seconds,
            lag_readings,
            state_bytes: scorer.snapshot().len() as u64,
            signals: signals as u64,
            ..Self::default()
        }
    }

    pub fn of(all: &[Streamed]) -> Self {
        Self::sum(all.iter().map(|one| &one.cost))
    }

    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        all.into_iter().for_each(|one| sum.add(one));
        sum
    }
}

/// Streams a series through a fresh scorer with the default configuration, but for the stretch known to be normal.
pub fn stream(series: &Series) -> anyhow::Result<Streamed> {
    const SEED: u64 = 42;
    let config = ScorerConfig { commissioning_readings: series.normal_rows, ..ScorerConfig::default() };
    let mut scorer = ThingScorer::new(config, SEED);
    let mut rows = vec![Row::default(); series.rows()];
    let (mut flagged, mut quiet, mut lag) = (0, 0, 0);
    let begun = thread_seconds()?;
    for row in 0..rows.len() {
        let signals = series.signals_at(row);
        let sample = Sample { event_time: series.times[row], signals: &signals };
        let outcome = scorer.score(&sample);
        let anomalous = outcome.verdict == Verdict::Anomalous;
        (flagged, quiet) = match (anomalous, quiet) {
            (true, _) => (flagged + 1, 0),
            (false, QUIET_READINGS..) => (0, quiet),
            (false, _) => (flagged, quiet + 1),
        };
        let hold = anomalous && flagged <= HOLD_READINGS;
        scorer.learn(&sample, &outcome, if hold { Learn::Hold } else { Learn::Full });
        let oddness = outcome.oddness.unwrap_or(0.0);
        let (onset, changed) = (outcome.onset.unwrap_or(0.0), outcome.change.is_some_and(|change| change > 0.0));
        rows[row] = Row { anomalous, oddness, settled: oddness, onset, changed };
        if let Some(settled) = outcome.settled {
            lag = lag.max(settled.readings_ago);
            if let Some(earlier) = row.checked_sub(settled.readings_ago as usize) {
                rows[earlier].settled = settled.oddness;
            }
        }
    }
    let cpu_seconds = thread_seconds()? - begun;
    Ok(Streamed { rows, cost: Cost::new(series.rows(), series.signals.len(), cpu_seconds, lag, &scorer) })
}

/// Processor time of this thread.
pub fn thread_seconds() -> anyhow::Result<f64> {
    const FILE: &str = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(FILE).with_context(|| format!("{FILE} cannot be read: this command needs Linux"))?;
    let nanoseconds: f64 = text.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1e9)
}

/// Does `work` for every item, on all cores; results in the order of the items.
pub fn for_all<T: Sync, R: Send>(
    items: &[T],
    bar: &ProgressBar,
    work: impl Fn(&T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    bar.set_length(items.len() as u64);
    bar.set_position(0);
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(items.len())));
    let cores = thread::available_parallelism().map_or(1, usize::from).min(items.len().max(1));
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = work(item);
                    let failed = result.is_err();
                    results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((at, result));
                    bar.inc(1);
                    if failed {
                        return;
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}
