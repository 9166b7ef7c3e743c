//! Feeds a recording to a thing of the pipeline, as the scorer's thread does, and keeps what became of it.

use super::{
    series::Series,
    stream::{Cost, thread_seconds},
};
use kilter_core::{AlertEvent, Reading, Score, ScoredReading, TenantId, ThingName, Verdict};
use kilter_detect::{Sample, ScorerConfig, ThingScorer};
use kilter_pipeline::{Horizon, Processed, ThingState};

/// What the pipeline made of a recording.
#[derive(Debug, Default)]
pub struct Alarms {
    /// By row; `None` where a row has no values.
    pub rows: Vec<Option<Told>>,
    /// Rows at which an episode was opened, and those of them that raised an alert.
    pub opened: Vec<usize>,
    pub alerted: Vec<usize>,
    pub cost: Cost,
}

/// What was said of one reading.
#[derive(Debug)]
pub struct Told {
    pub anomalous: bool,
    pub score: Option<Score>,
    /// Signals, the first to blame first.
    pub causes: Vec<Box<str>>,
}

impl From<ScoredReading> for Told {
    fn from(row: ScoredReading) -> Self {
        let causes = row.causes.into_iter().map(|cause| cause.signal).collect();
        Self { anomalous: row.verdict == Verdict::Anomalous, score: row.score, causes }
    }
}

impl Alarms {
    pub fn is_anomalous(&self, row: usize) -> bool {
        self.rows[row].as_ref().is_some_and(|row| row.anomalous)
    }
}

/// `look` sees the scorer and each reading before it is scored.
pub fn alarms(
    series: &Series,
    config: ScorerConfig,
    mut look: impl FnMut(usize, &ThingScorer, &Sample<'_>),
) -> anyhow::Result<Alarms> {
    let mut state = ThingState::new(TenantId::new("bench")?, ThingName::new("machine")?, config, Horizon::NONE);
    let mut alarms = Alarms::default();
    let mut known = None;
    let begun = thread_seconds()?;
    for row in 0..series.rows() {
        let reading = Reading { event_time: series.times[row], signals: series.signals_at(row) };
        look(row, state.scorer(), &Sample { event_time: reading.event_time, signals: &reading.signals });
        let mut done = Processed::default();
        state.take_in(reading.into(), series.times[row], row.to_string().into(), &mut done);
        for change in done.changes {
            if known.as_ref() != Some(&change.episode.id) {
                alarms.opened.push(row);
                known = Some(change.episode.id);
            }
            if change.alert == Some(AlertEvent::Opened) {
                alarms.alerted.push(row);
            }
        }
        alarms.rows.push(done.rows.pop().map(Told::from));
    }
    let cpu_seconds = thread_seconds()? - begun;
    alarms.cost = Cost::new(series.rows(), series.signals.len(), cpu_seconds, 0, state.scorer());
    Ok(alarms)
}
