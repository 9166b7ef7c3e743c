//! Level: residuals against a robust running level, one by one (spikes, steps) and summed up (shifts, drifts).
//!
//! Two levels of different memory: the short one follows the process and judges the next value; against the long
//! one a two-sided CUSUM (Page 1954) adds up what the single residuals are too small to show. Neither has a fixed
//! decision limit: each statistic is judged by its own tail.

use crate::Learn;
use crate::detector::{Detector, Input, Judgement, Part, Reaction};
use crate::level::Level;
use crate::tail::{TAIL_NEEDED, Tail};
use kilter_core::Direction;
use serde::{Deserialize, Serialize};

/// Readings over which the short level forgets.
const SHORT_MEMORY: f32 = 8.0;
/// Readings over which the long level, and the short one's scale, forgets.
const LONG_MEMORY: f32 = 512.0;
/// Readings over which the long level's scale forgets: a few disturbed days must not become the yardstick at once.
const LONG_SCALE_MEMORY: f32 = 4_096.0;
/// Part of the sum that is forgiven with each reading, in scales (Page's reference value).
const ALLOWANCE: f64 = 0.75;
/// One reading adds at most this: a single spike is the residual's business.
const STEP_MAX: f64 = 4.0;
/// Readings over which a sum fades, so that it tells of a shift's size and not only of its age.
const SUM_MEMORY: f64 = 128.0;
const SUM_MAX: f64 = STEP_MAX * SUM_MEMORY;
/// The long level is meaningless until it has seen this many readings.
const LONG_NEEDED: u32 = 64;

/// A long level this many scales away …
const LEFT_BEHIND: f64 = 1e6;
/// … for so many readings was led astray by a glitch and would take very long to come back.
const LEFT_BEHIND_AFTER: u16 = 256;

/// Exponentially weighted levels (Roberts 1959), residuals against the one and sums (Page 1954) against the other, each
/// judged by a peaks-over-threshold tail (Hosking and Wallis 1987).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cusum {
    short: Level,
    long: Level,
    /// For how many readings the long level has been absurdly far away.
    left_behind: u16,
    /// Sums of what lies above and below the long level.
    sums: [f64; 2],
    /// Of the residuals above and below the short level.
    residuals: [Tail; 2],
    shifts: [Tail; 2],
}

impl Default for Cusum {
    fn default() -> Self {
        Self {
            short: Level::new(SHORT_MEMORY, LONG_MEMORY),
            long: Level::new(LONG_MEMORY, LONG_SCALE_MEMORY),
            left_behind: 0,
            sums: [0.0; 2],
            residuals: Default::default(),
            shifts: Default::default(),
        }
    }
}

impl Cusum {
    /// Where most values are to be expected now.
    pub fn expected(&self) -> [f64; 2] {
        self.short.band()
    }

    fn sums_with(&self, value: f64) -> [f64; 2] {
        if self.long.seen() < LONG_NEEDED {
            return [0.0; 2];
        }
        let step = self.long.residual(value).clamp(-STEP_MAX, STEP_MAX);
        let add = |sum: f64, step: f64| (sum - sum / SUM_MEMORY + step - ALLOWANCE).clamp(0.0, SUM_MAX);
        [add(self.sums[0], step), add(self.sums[1], -step)]
    }
}

impl Detector for Cusum {
    const NAME: &'static str = "cusum";

    fn score(&self, input: &Input<'_>) -> Reaction {
        let seen = self.residuals[0].count();
        let Some(&(slot, value)) = input.values.first() else { return Reaction::warming(seen, TAIL_NEEDED, 0.0) };
        let residual = self.short.residual(value);
        let sums = self.sums_with(value);
        let candidates = [
            (self.residuals[0].score(residual), Direction::High, self.short.band(), residual),
            (self.residuals[1].score(-residual), Direction::Low, self.short.band(), residual),
            (self.shifts[0].score(sums[0]), Direction::High, self.long.band(), sums[0]),
            (self.shifts[1].score(sums[1]), Direction::Low, self.long.band(), sums[1]),
        ];
        let mut best = Reaction::warming(seen, TAIL_NEEDED, residual);
        for (score, direction, expected, raw) in candidates {
            let Some(score) = score else { continue };
            let better = match best.judgement {
                Judgement::Warming { .. } => true,
                Judgement::Scored(so_far) => score > so_far,
            };
            if better {
                best = Reaction::scored(score, raw, Part { slot, share: 1.0, direction, value, expected });
            }
        }
        best
    }

    fn learn(&mut self, input: &Input<'_>, _seen: &Reaction, mode: Learn) {
        let Some(&(_, value)) = input.values.first() else { return };
        let sums = self.sums_with(value);
        if mode == Learn::Full {
            let residual = self.short.residual(value);
            if self.short.seen() > 8 {
                self.residuals[0].learn(residual, input.readings_per_week);
                self.residuals[1].learn(-residual, input.readings_per_week);
            }
            if self.long.seen() >= LONG_NEEDED {
                self.shifts[0].learn(sums[0], input.readings_per_week);
                self.shifts[1].learn(sums[1], input.readings_per_week);
            }
            self.short.learn(value);
            self.long.learn(value);
            if (value - self.long.centre()).abs() > LEFT_BEHIND * self.short.scale() {
                self.left_behind = self.left_behind.saturating_add(1);
            } else {
                self.left_behind = 0;
            }
            if self.left_behind >= LEFT_BEHIND_AFTER {
                self.long.restart(&self.short);
                self.left_behind = 0;
            }
        }
        if mode == Learn::Hold {
            self.residuals.iter_mut().chain(&mut self.shifts).for_each(Tail::hold);
        }
        self.sums = sums;
    }

    fn is_sound(&self) -> bool {
        self.short.is_sound()
            && self.long.is_sound()
            && self.sums.iter().all(|sum| (0.0..=SUM_MAX).contains(sum))
            && self.residuals.iter().chain(&self.shifts).all(Tail::is_sound)
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + 4 * Tail::memory_bytes()
    }
}
