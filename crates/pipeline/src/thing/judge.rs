//! What judges a thing's readings in order of event time: its detectors, the times of its values, its episodes. It can
//! be copied and written down, so that readings that came late are judged again from an earlier state.

use super::clocks::Moments;
use crate::episodes::{Change, Episodes};
use kilter_core::{AlertBudget, Correction, Reading, ScoredReading, TenantId, ThingName, Timestamp, Verdict};
use kilter_detect::{Learn, Sample, ScorerConfig, StateError, ThingScorer};
use serde::{Deserialize, Serialize};

/// Values shown in a row of the results table; the record itself is kept whole in the lake.
const ROW_VALUES_MAX: usize = 256;

/// Whose readings they are.
#[derive(Debug, Clone)]
pub struct Who {
    pub tenant: TenantId,
    pub thing: ThingName,
    pub budget: AlertBudget,
}

#[derive(Debug, Clone)]
pub struct Judge {
    pub scorer: ThingScorer,
    pub moments: Moments,
    pub episodes: Episodes,
}

/// A [`Judge`] as it is written down.
#[derive(Serialize, Deserialize)]
pub struct StoredJudge {
    scorer: Vec<u8>,
    moments: Moments,
    episodes: Episodes,
}

/// What was said of one reading.
pub struct Judged {
    pub row: ScoredReading,
    pub changes: Vec<Change>,
    pub unscored_signals: u32,
    /// Whether it was taken as what the thing is like.
    pub learned: bool,
}

/// What comes with a reading into its row.
pub struct Origin {
    pub arrival: Timestamp,
    pub position: Box<str>,
    pub corrected: Option<Correction>,
}

impl Judge {
    pub fn new(scorer: ThingScorer) -> Self {
        Self { scorer, moments: Moments::default(), episodes: Episodes::default() }
    }

    pub fn store(&self) -> StoredJudge {
        StoredJudge { scorer: self.scorer.snapshot(), moments: self.moments.clone(), episodes: self.episodes.clone() }
    }

    pub fn restore(config: ScorerConfig, stored: StoredJudge) -> Result<Self, StateError> {
        let StoredJudge { scorer, moments, episodes } = stored;
        Ok(Self { scorer: ThingScorer::restore(config, &scorer)?, moments, episodes })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(&self.store()).expect("plain data with known lengths always serialises")
    }

    pub fn from_bytes(config: ScorerConfig, bytes: &[u8]) -> Result<Self, StateError> {
        let stored = postcard::from_bytes(bytes).map_err(|e| StateError::Damaged { what: e.to_string() })?;
        Self::restore(config, stored)
    }

    /// Scores the reading, then learns it.
    pub fn take(&mut self, who: &Who, reading: Reading, origin: Origin) -> Judged {
        self.moments.pass(&reading);
        let sample = Sample { event_time: reading.event_time, signals: &reading.signals };
        let outcome = self.scorer.score(&sample);
        let flagged = outcome.verdict == Verdict::Anomalous;
        let learn = if flagged && self.episodes.holds() { Learn::Hold } else { Learn::Full };
        self.scorer.learn(&sample, &outcome, learn);
        let learned = learn == Learn::Full && outcome.verdict != Verdict::Paused;
        let row = ScoredReading {
            thing: who.thing.clone(),
            event_time: reading.event_time,
            arrival: origin.arrival,
            position: origin.position,
            verdict: outcome.verdict,
            score: outcome.score,
            threshold: outcome.threshold,
            values: reading.signals.into_iter().take(ROW_VALUES_MAX).collect(),
            causes: outcome.causes,
            corrected: origin.corrected,
        };
        let changes = self.episodes.observe(&who.tenant, &row, self.moments.event_interval, who.budget);
        Judged { row, changes, unscored_signals: outcome.unscored_signals, learned }
    }
}
