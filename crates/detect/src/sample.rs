//! What goes into a scorer and what comes out: samples, configuration, outcomes.

use crate::blend::CHANNELS;
use crate::catalog::THING_DETECTORS;
use crate::context::{Maintenance, OffState, Tolerance};
use crate::detector::{Reaction, Slot};
use crate::vibration::Bearing;
use kilter_core::{AlertBudget, Cause, Score, Timestamp, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The signals of one thing at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    pub event_time: Timestamp,
    /// Finite values, sorted by name, each name once; only what the reading itself carried.
    pub signals: &'a [(Box<str>, f64)],
}

/// What an operator sets; everything else is learned.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScorerConfig {
    pub budget: AlertBudget,
    /// The thing's first so many readings are known to be normal: its commissioning. The detectors that compare with
    /// what was normal learn it from these, and from later readings only slowly. `None`: [`COMMISSIONING_READINGS`].
    pub commissioning_readings: Option<u32>,
    /// Hard limits by signal name: outside is anomalous at once, warmed up or not.
    pub limits: BTreeMap<Box<str>, Limits>,
    /// Deviations that do not matter, by signal name.
    pub tolerances: BTreeMap<Box<str>, Tolerance>,
    pub maintenance: Vec<Maintenance>,
    pub off: Option<OffState>,
    /// Rolling bearings, by the name of the waveform in which they are heard.
    pub bearings: BTreeMap<Box<str>, Bearing>,
}

/// Readings that count as commissioning where nobody has said how many are.
pub const COMMISSIONING_READINGS: u32 = 512;

impl ScorerConfig {
    pub(crate) fn commissioning(&self) -> u32 {
        self.commissioning_readings.unwrap_or(COMMISSIONING_READINGS)
    }
}

/// A permitted range, in the signal's own unit; the bounds themselves are permitted.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// How much of a reading is learned. The pipeline alone decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learn {
    /// Everything: the reading is taken as ordinary.
    Full,
    /// Clocks, run lengths and last values move on, but what is ordinary stays as it was.
    Hold,
}

/// The answer to one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// `None` exactly while warming or paused.
    pub score: Option<Score>,
    /// The score from which this sample would have been anomalous.
    pub threshold: Option<Score>,
    /// The blend of the detectors that measure shape and combination, unbounded and free of any budget: 0 is ordinary,
    /// 1 the edge of what commissioning showed. It ranks what `score` can no longer tell apart. `None` while they learn.
    pub oddness: Option<f64>,
    /// The final word about an earlier reading, of which more is known by now.
    pub settled: Option<Settled>,
    /// How new what the signals do is where it begins or becomes worse, else 0: 1 is the edge of what the thing has
    /// shown so far. One event has one onset, so it suits to wake somebody, where `oddness` suits to rank readings.
    pub onset: Option<f64>,
    /// How far the level of a signal has gone from where it was, at least 1, where that is to be told, else 0. `None`
    /// during commissioning.
    pub change: Option<f64>,
    /// At most [`CAUSES_MAX`], largest share first; the shares sum to 1.
    pub causes: Vec<Cause>,
    /// Signals that no detector looked at because the thing already has [`crate::SIGNALS_MAX`].
    pub unscored_signals: u32,
    /// What `learn` needs of the work that `score` has done.
    pub(crate) workings: Workings,
}

impl Outcome {
    pub(crate) fn paused() -> Self {
        Self {
            verdict: Verdict::Paused,
            score: None,
            threshold: None,
            oddness: None,
            settled: None,
            onset: None,
            change: None,
            causes: Vec::new(),
            unscored_signals: 0,
            workings: Workings::default(),
        }
    }
}

/// How odd an earlier reading was, in the light of the readings since.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settled {
    /// Fixed once the thing is commissioned, and never more than the longest window of its detectors.
    pub readings_ago: u32,
    /// As [`Outcome::oddness`].
    pub oddness: f64,
}

/// What the detectors have said, kept so that `learn` need not compute it again.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Workings {
    pub(crate) things: Option<[Reaction; THING_DETECTORS]>,
    pub(crate) windows: Vec<(Slot, Reaction)>,
    /// The settled words of the blend's channels, each with its detector's own lag.
    pub(crate) settled: [Option<f32>; CHANNELS],
    /// The largest novelty of any signal.
    pub(crate) novelty: Option<f64>,
    /// How far the furthest signal's level is from where it was.
    pub(crate) furthest: f64,
    /// The highest score of any detector.
    pub(crate) strongest: Option<f64>,
}

/// More than three causes is a list, not an explanation.
pub const CAUSES_MAX: usize = 3;

/// Why stored state was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("the detector state is empty: nothing was stored; start the thing afresh")]
    Empty,
    #[error("the detector state has version {found}, this program reads version {known}: start the thing afresh")]
    Version { found: u8, known: u8 },
    #[error("the detector state is damaged ({what}): restore it from a backup or start the thing afresh")]
    Damaged { what: String },
}
