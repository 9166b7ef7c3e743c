//! Scores: one scale for all detectors, one row per scored reading.

use crate::{Offset, ThingName, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How odd a reading is: −log10 of the estimated chance that a healthy reading is at least this odd.
/// 3.0 means one healthy reading in a thousand. From 0 to [`Score::MAX`]; the same for every detector.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Score(f64);

impl Score {
    pub const MAX: f64 = 20.0;
    pub const ZERO: Self = Self(0.0);

    /// From a tail probability; anything that is not a probability becomes the nearest one, NaN becomes 1.
    pub fn from_probability(p: f64) -> Self {
        if p.is_nan() { Self::ZERO } else { Self((-p.clamp(0.0, 1.0).log10()).clamp(0.0, Self::MAX)) }
    }
    pub fn new(value: f64) -> Self {
        if value.is_nan() { Self::ZERO } else { Self(value.clamp(0.0, Self::MAX)) }
    }
    pub fn value(self) -> f64 {
        self.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    High,
    Low,
    /// Neither above nor below: stuck, missing, or an unusual combination.
    Odd,
}

/// One signal's part in a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    pub signal: Box<str>,
    /// Part of the whole, 0 to 1; the shares of a score sum to 1.
    pub share: f64,
    pub direction: Direction,
    pub value: f64,
    /// What would have been ordinary: `[low, high]`, in the signal's own unit.
    pub expected: [f64; 2],
    /// The detector that saw it, by its catalog name (`cusum`, `forest`, …).
    pub detector: Box<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Verdict {
    /// Still learning what is ordinary: `seen` of `needed` readings. Has no score.
    Warming {
        seen: u32,
        needed: u32,
    },
    Normal,
    Anomalous,
    /// The thing is maintained, off or starting up: not scored, not learned. Has no score.
    Paused,
}

/// That late data has changed a result: how often, when the present one became known, and by which record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    pub revision: u32,
    /// Arrival time of the late record.
    pub known: Timestamp,
    pub offset: Offset,
}

/// A row of the results table: one scored reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredReading {
    pub thing: ThingName,
    pub event_time: Timestamp,
    pub arrival: Timestamp,
    /// Shard and offset of the record, and the reading's index within it: `shard:offset:index`.
    pub position: Box<str>,
    pub verdict: Verdict,
    /// `None` exactly while warming or paused.
    pub score: Option<Score>,
    /// The score from which this reading would have been anomalous, as the alert budget sets it.
    pub threshold: Option<Score>,
    pub values: BTreeMap<Box<str>, f64>,
    /// Largest share first, at most three.
    pub causes: Vec<Cause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected: Option<Correction>,
}
