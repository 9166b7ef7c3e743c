//! Gaps: a thing that was silent for much longer than it usually is. Judged when it speaks again.

use crate::Learn;
use crate::detector::{Detector, Input, Part, Reaction, THING};
use crate::tail::{TAIL_NEEDED, Tail};
use kilter_core::{Direction, Timestamp};
use serde::{Deserialize, Serialize};

/// Readings less apart than this (one millisecond) are one moment.
const SECONDS_MIN: f64 = 1e-3;
/// The running median takes steps of this many e-folds once it has settled.
const MEDIAN_STEP_MIN: f64 = 0.01;
/// Up to so many usual intervals all silences are alike: even clockwork things stutter.
const STUTTER: f64 = 3.0;
/// Of a thing that never was silent for longer, the chance of a silence is taken to fall with its length to this power.
const DECLINE: f64 = 2.0;
const WEEK_SECONDS: f64 = 7.0 * 86_400.0;

/// Silences in the usual interval, judged by a peaks-over-threshold tail (Hosking and Wallis 1987) of the thing's own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Gap {
    last: Option<Timestamp>,
    seen: u32,
    /// Natural logarithm of the usual interval in seconds.
    usual_ln: f64,
    /// How much longer than usual, in e-folds.
    tail: Tail,
}

impl Gap {
    /// Readings that the thing usually sends per week; 0 before two moments are known.
    pub fn readings_per_week(&self) -> f64 {
        if self.seen == 0 { 0.0 } else { WEEK_SECONDS / self.usual_ln.exp() }
    }

    /// The last reading's time.
    pub fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// A reading until which the silence says nothing.
    pub fn rest(&mut self, now: Timestamp) {
        self.last = Some(now);
    }

    fn seconds(&self, now: Timestamp) -> Option<f64> {
        Some(now.seconds_since(self.last?)).filter(|&seconds| seconds >= SECONDS_MIN)
    }

    fn statistic(&self, seconds: f64) -> f64 {
        (seconds.ln() - self.usual_ln - STUTTER.ln()).max(0.0)
    }
}

impl Detector for Gap {
    const NAME: &'static str = "gap";

    fn score(&self, input: &Input<'_>) -> Reaction {
        let Some(seconds) = self.seconds(input.event_time) else {
            return Reaction::warming(self.tail.count(), TAIL_NEEDED, 0.0);
        };
        let raw = self.statistic(seconds);
        let Some(score) = self.tail.score_paced(raw, 1.0 / DECLINE) else {
            return Reaction::warming(self.tail.count(), TAIL_NEEDED, raw);
        };
        let expected = [0.0, self.usual_ln.exp() * STUTTER];
        let part = Part { slot: THING, share: 1.0, direction: Direction::Odd, value: seconds, expected };
        Reaction::scored(score, raw, part)
    }

    fn learn(&mut self, input: &Input<'_>, _seen: &Reaction, mode: Learn) {
        if let (Learn::Full, Some(seconds)) = (mode, self.seconds(input.event_time)) {
            if self.seen > 0 {
                self.tail.learn(self.statistic(seconds), input.readings_per_week);
            }
            self.seen = self.seen.saturating_add(1);
            let step = (1.0 / f64::from(self.seen)).max(MEDIAN_STEP_MIN);
            let error = seconds.ln() - self.usual_ln;
            self.usual_ln = if self.seen == 1 { seconds.ln() } else { self.usual_ln + error.clamp(-step, step) };
        }
        if mode == Learn::Hold {
            self.tail.hold();
        }
        // A clock that was set back starts anew from there: waiting for it to catch up could take centuries.
        self.last = Some(input.event_time);
    }

    fn is_sound(&self) -> bool {
        self.usual_ln.is_finite() && self.usual_ln.abs() < 100.0 && self.tail.is_sound()
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + Tail::memory_bytes()
    }
}
