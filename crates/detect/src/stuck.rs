//! Stuck signals: a run of identical values that is improbably long for this very signal.
//!
//! The yardstick is the signal's own runs. Of a signal whose runs were mostly short, a run much longer than any
//! before is odd; of one that is constant, quantised or binary by nature, long runs are the rule and nothing is said.

use crate::Learn;
use crate::detector::{Detector, Input, Part, Reaction};
use crate::tail::{TAIL_NEEDED, Tail};
use kilter_core::Direction;
use serde::{Deserialize, Serialize};

/// Runs up to this length are alike: a few equal values in a row are chance or rounding.
const SHORT_RUN: u32 = 4;
/// Of a signal that never had a longer run, the chance of one of length r is taken to fall with r to this power.
const DECLINE: f64 = 2.0;

/// Runs of one value, judged by a peaks-over-threshold tail (Hosking and Wallis 1987) of the signal's own runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stuck {
    last: Option<f64>,
    /// Identical values in a row, the last one included.
    run: u32,
    /// Of the runs that have ended: natural logarithm of how much longer than a short one they were.
    runs: Tail,
}

fn statistic(run: u32) -> f64 {
    (f64::from(run.max(SHORT_RUN)) / f64::from(SHORT_RUN)).ln()
}

impl Stuck {
    fn run_with(&self, value: f64) -> u32 {
        if self.last == Some(value) { self.run.saturating_add(1) } else { 1 }
    }
}

impl Detector for Stuck {
    const NAME: &'static str = "stuck";

    fn score(&self, input: &Input<'_>) -> Reaction {
        let Some(&(slot, value)) = input.values.first() else {
            return Reaction::warming(self.runs.count(), TAIL_NEEDED, 0.0);
        };
        let raw = statistic(self.run_with(value));
        let Some(score) = self.runs.score_paced(raw, 1.0 / DECLINE) else {
            return Reaction::warming(self.runs.count(), TAIL_NEEDED, raw);
        };
        let part = Part { slot, share: 1.0, direction: Direction::Odd, value, expected: [value, value] };
        Reaction::scored(score, raw, part)
    }

    fn learn(&mut self, input: &Input<'_>, _seen: &Reaction, mode: Learn) {
        let Some(&(_, value)) = input.values.first() else { return };
        let run = self.run_with(value);
        if run == 1 && self.run > 0 && mode == Learn::Full {
            self.runs.learn(statistic(self.run), input.readings_per_week);
        }
        if mode == Learn::Hold {
            self.runs.hold();
        }
        self.run = run;
        self.last = Some(value);
    }

    fn is_sound(&self) -> bool {
        self.runs.is_sound() && self.last.is_none_or(f64::is_finite) && (self.last.is_none() || self.run > 0)
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + Tail::memory_bytes()
    }
}
