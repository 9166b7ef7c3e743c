//! Robust running level and scale of one signal: exponentially weighted, winsorised, able to follow any step.

use crate::detector::VALUE_MAX;
use serde::{Deserialize, Serialize};

/// Magnitudes beyond this many scales count as this many: one outlier is not a trend.
const CLIP: f64 = 4.0;
/// A scale this many times larger than what is seen …
const LEFT_OVER: f64 = 1e9;
/// … for so many readings is a left-over of a glitch, which would take very long to fade.
const LEFT_OVER_AFTER: u8 = 64;
/// So many residuals in a row beyond the clip, all on one side, are a new level: go there at once.
const MOVED_AFTER: i32 = 48;
/// Largest residual given back, in scales: enough to rank anything, small enough to stay finite.
pub const RESIDUAL_MAX: f64 = 1e6;
/// Differences of values within ±[`VALUE_MAX`] are not larger.
const MAGNITUDE_MAX: f64 = 2.0 * VALUE_MAX;
/// Relative resolution below which differences are rounding noise.
const RESOLUTION: f64 = 1e-9;

/// Running mean of magnitudes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    mean: f64,
    seen: u32,
    /// Readings over which it forgets.
    memory: f32,
    /// How many magnitudes in a row were negligible, and the largest of them.
    negligible: u8,
    negligible_max: f64,
}

impl Scale {
    pub fn new(memory: f32) -> Self {
        Self { mean: 0.0, seen: 0, memory, negligible: 0, negligible_max: 0.0 }
    }

    /// Zero only before anything but zeros was seen.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// What a magnitude counts for at most.
    fn limit(&self) -> f64 {
        if self.mean > 0.0 { CLIP * self.mean } else { f64::INFINITY }
    }

    /// `size` is that of the value itself. Where it is zero, or not small beside the scale as well, a negligible
    /// magnitude is no sign of a glitch: the signal just stands still, as a stopped machine's or a stuck sensor's does.
    pub fn learn(&mut self, magnitude: f64, size: f64) {
        self.seen = self.seen.saturating_add(1);
        let counted = magnitude.min(self.limit());
        self.mean += (counted - self.mean) / f64::from(self.memory).min(f64::from(self.seen));
        let stands_still = size == 0.0 || size * LEFT_OVER >= self.mean;
        if magnitude * LEFT_OVER < self.mean && stands_still {
            return;
        }
        if magnitude * LEFT_OVER >= self.mean {
            (self.negligible, self.negligible_max) = (0, 0.0);
            return;
        }
        self.negligible = self.negligible.saturating_add(1);
        self.negligible_max = self.negligible_max.max(magnitude);
        if self.negligible >= LEFT_OVER_AFTER {
            self.mean = self.negligible_max.max(self.mean / LEFT_OVER);
            (self.negligible, self.negligible_max) = (0, 0.0);
        }
    }

    pub fn is_sound(&self) -> bool {
        (0.0..=MAGNITUDE_MAX).contains(&self.mean) && self.memory >= 1.0 && self.negligible_max <= MAGNITUDE_MAX
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Level {
    centre: f64,
    scale: Scale,
    seen: u32,
    /// Signed length of the run of clipped residuals.
    run: i32,
    /// Readings over which the level forgets.
    memory: f32,
}

impl Level {
    pub fn new(memory: f32, scale_memory: f32) -> Self {
        Self { centre: 0.0, scale: Scale::new(scale_memory), seen: 0, run: 0, memory }
    }

    pub fn seen(&self) -> u32 {
        self.seen
    }

    pub fn centre(&self) -> f64 {
        self.centre
    }

    /// Mean absolute residual, never zero.
    pub fn scale(&self) -> f64 {
        self.scale.mean().max(RESOLUTION * self.centre.abs()).max(f64::MIN_POSITIVE)
    }

    /// Distance of `x` from the level, in scales, within ±[`RESIDUAL_MAX`].
    pub fn residual(&self, x: f64) -> f64 {
        if self.seen == 0 {
            return 0.0;
        }
        ((x - self.centre) / self.scale()).clamp(-RESIDUAL_MAX, RESIDUAL_MAX)
    }

    /// Where most values are to be expected.
    pub fn band(&self) -> [f64; 2] {
        const WIDTH: f64 = 3.0;
        [self.centre - WIDTH * self.scale(), self.centre + WIDTH * self.scale()]
    }

    /// Starts anew at `centre`, keeping the scale of `other`.
    pub fn restart(&mut self, other: &Self) {
        self.centre = other.centre;
        self.scale = other.scale.clone();
        self.run = 0;
    }

    pub fn learn(&mut self, x: f64) {
        self.seen = self.seen.saturating_add(1);
        if self.seen == 1 {
            self.centre = x;
            return;
        }
        let error = x - self.centre;
        let limit = self.scale.limit();
        self.run = match (error.abs() > limit, error > 0.0) {
            (false, _) => 0,
            (true, true) => self.run.max(0).saturating_add(1),
            (true, false) => self.run.min(0).saturating_sub(1),
        };
        if self.run.abs() >= MOVED_AFTER {
            self.centre = x;
            self.run = 0;
            return;
        }
        self.centre += error.clamp(-limit, limit) / f64::from(self.memory).min(f64::from(self.seen));
        self.scale.learn(error.abs(), x.abs());
    }

    pub fn is_sound(&self) -> bool {
        self.centre.abs() <= MAGNITUDE_MAX
            && self.scale.is_sound()
            && self.memory >= 1.0
            && self.run.abs() <= MOVED_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_level_and_scale() {
        let mut level = Level::new(16.0, 128.0);
        for i in 0..2_000 {
            level.learn(if i % 2 == 0 { 9.0 } else { 11.0 });
        }
        assert!(level.residual(10.0).abs() < 0.5);
        assert!((0.5..1.5).contains(&level.scale()));
        assert!(level.residual(20.0) > 8.0);
    }

    #[test]
    fn a_signal_that_stands_still_keeps_its_scale_for_a_while() {
        for rest in [0.0, 1.287] {
            let mut level = Level::new(8.0, 512.0);
            for i in 0..2_000 {
                level.learn(1.3 + 0.1 * f64::from(i % 5 - 2));
            }
            let before = level.scale();
            for _ in 0..400 {
                level.learn(rest);
            }
            assert!(level.scale() > before / 4.0, "{} after {before}", level.scale());
        }
    }

    #[test]
    fn extremes_neither_overflow_nor_stay() {
        let mut level = Level::new(8.0, 512.0);
        for x in [1.0, 1e300, -1e300, 5e-324, 1e300, 0.0] {
            level.learn(x);
            assert!(level.is_sound() && level.residual(-1e300).is_finite() && level.residual(1e300).is_finite());
        }
        for i in 0..20_000 {
            level.learn(f64::from(i % 7));
        }
        assert!(level.residual(3.0).abs() < 2.0, "{level:?}");
        assert!(level.residual(1_000.0) > 50.0, "{level:?}");
    }
}
