//! What every detector is: one trait, one kind of input, one kind of answer.

use crate::Learn;
use kilter_core::{Direction, Score, Timestamp};
use serde::{Serialize, de::DeserializeOwned};

/// The number that a thing's scorer gave to one of its signals; reused only after [`Detector::forget`].
pub type Slot = u16;

/// Stands for the thing itself where no signal is to blame.
pub const THING: Slot = Slot::MAX;

/// Larger magnitudes are taken as this one, so that differences and quotients stay finite.
pub const VALUE_MAX: f64 = 1e300;

/// What a detector sees of one reading.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    pub event_time: Timestamp,
    /// Finite, within ±[`VALUE_MAX`], sorted by slot. A detector of one signal gets exactly that signal.
    pub values: &'a [(Slot, f64)],
    /// How many readings a week the thing usually sends; 0 while unknown.
    pub readings_per_week: f64,
    /// Whether the reading belongs to the thing's commissioning: a stretch that is known to be normal.
    pub commissioning: bool,
}

/// How far a detector has come with a reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Judgement {
    /// Has seen `seen` of the `needed` observations and says nothing yet.
    Warming {
        seen: u32,
        needed: u32,
    },
    Scored(Score),
}

/// One signal's part in a detector's finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    pub slot: Slot,
    /// 0 to 1; the shares of a finding sum to at most 1.
    pub share: f64,
    pub direction: Direction,
    pub value: f64,
    pub expected: [f64; 2],
}

/// A detector names at most this many signals.
pub const PARTS_MAX: usize = crate::CAUSES_MAX;
/// A detector hands at most this many numbers from `score` to `learn`.
pub const WORK_MAX: usize = 8;

/// A detector's answer to one reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reaction {
    pub judgement: Judgement,
    /// The raw statistic in the detector's own unit; finite. Given back to `learn`.
    pub raw: f64,
    /// The raw statistic as a multiple of what accepted-normal readings of this thing reach ([`crate::yardstick`]):
    /// 0 is ordinary, 1 the edge of it, and there is no upper end. `None`: this detector has no part in the blend.
    pub oddness: Option<f64>,
    /// The final word about the reading [`Detector::lag`] readings ago, on the scale of `oddness`; `None` where the
    /// detector does not look back, its first word being its last.
    pub settled: Option<f64>,
    /// What `learn` would otherwise have to compute again; the detector's own business.
    pub work: [f32; WORK_MAX],
    /// Largest share first.
    pub parts: [Option<Part>; PARTS_MAX],
}

impl Reaction {
    pub fn warming(seen: u32, needed: u32, raw: f64) -> Self {
        Self { judgement: Judgement::Warming { seen: seen.min(needed), needed }, ..Self::silent(raw) }
    }

    pub fn scored(score: Score, raw: f64, part: Part) -> Self {
        let mut parts = [None; PARTS_MAX];
        parts[0] = Some(part);
        Self::found(score, raw, parts)
    }

    /// As [`Self::scored`], with several signals to blame.
    pub fn found(score: Score, raw: f64, parts: [Option<Part>; PARTS_MAX]) -> Self {
        Self { judgement: Judgement::Scored(score), parts, ..Self::silent(raw) }
    }

    fn silent(raw: f64) -> Self {
        let judgement = Judgement::Warming { seen: 0, needed: 1 };
        Self { judgement, raw, oddness: None, settled: None, work: [0.0; WORK_MAX], parts: [None; PARTS_MAX] }
    }

    pub fn score(&self) -> Option<Score> {
        match self.judgement {
            Judgement::Warming { .. } => None,
            Judgement::Scored(score) => Some(score),
        }
    }
}

/// One way of being odd.
///
/// - `score` changes nothing. It answers *warming (n of m)* or a [`Score`]: −log10 of the chance that a healthy
///   reading is at least this odd, by the detector's own history. One scale for all detectors.
/// - `learn` is called after `score` with that answer. Under [`Learn::Hold`] clocks, run lengths and last values
///   move on while distributions stay as they are.
/// - The whole state is serialisable: restored means bit-identical from there on, random generator included.
/// - No clock, no I/O, no threads, no globals; only readings up to this one are known.
/// - Any finite value and any sequence of event times is survived: nothing becomes NaN, nothing stays poisoned.
pub trait Detector: Clone + Serialize + DeserializeOwned {
    /// The name in the catalog and in causes.
    const NAME: &'static str;

    fn score(&self, input: &Input<'_>) -> Reaction;

    fn learn(&mut self, input: &Input<'_>, seen: &Reaction, mode: Learn);

    /// The signal behind `slot` is gone and the number will be given to another one.
    fn forget(&mut self, _slot: Slot) {}

    /// How many readings its settled word lags behind; fixed once the detector speaks.
    fn lag(&self) -> u32 {
        0
    }

    /// Whether restored state keeps every invariant that the code relies on.
    fn is_sound(&self) -> bool;

    /// Upper estimate of what the state occupies.
    fn memory_bytes(&self) -> usize;
}
