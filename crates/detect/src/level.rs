//! A robust running level and scale of one signal: exponentially weighted, winsorised, able to follow any step.

use serde::{Deserialize, Serialize};

/// Residuals beyond this many scales move level and scale no further: one outlier is not a trend.
const CLIP: f64 = 4.0;
/// So many residuals in a row beyond the clip, all on one side, are a new level: go there at once.
const MOVED_AFTER: i32 = 48;
/// Largest residual given back, in scales: enough to rank anything, small enough to stay finite.
pub const RESIDUAL_MAX: f64 = 1e6;
/// Relative resolution below which differences are rounding noise.
const RESOLUTION: f64 = 1e-9;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Level {
    centre: f64,
    /// Mean absolute residual.
    scale: f64,
    seen: u32,
    /// Signed length of the run of clipped residuals.
    run: i32,
    /// Readings over which the level forgets, and those over which the scale does.
    memory: f32,
    scale_memory: f32,
}

impl Level {
    pub fn new(memory: f32, scale_memory: f32) -> Self {
        Self { centre: 0.0, scale: 0.0, seen: 0, run: 0, memory, scale_memory }
    }

    pub fn seen(&self) -> u32 {
        self.seen
    }

    /// Mean absolute residual, never zero.
    pub fn scale(&self) -> f64 {
        self.scale.max(RESOLUTION * self.centre.abs()).max(f64::MIN_POSITIVE)
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

    pub fn learn(&mut self, x: f64) {
        self.seen = self.seen.saturating_add(1);
        if self.seen == 1 {
            self.centre = x;
            return;
        }
        let seen = f64::from(self.seen);
        let error = x - self.centre;
        let limit = if self.scale > 0.0 { CLIP * self.scale() } else { f64::INFINITY };
        let clipped = error.clamp(-limit, limit);
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
        self.centre += clipped / f64::from(self.memory).min(seen);
        self.scale += (clipped.abs() - self.scale) / f64::from(self.scale_memory).min(seen);
    }

    pub fn is_sound(&self) -> bool {
        self.centre.is_finite()
            && self.scale.is_finite()
            && self.scale >= 0.0
            && self.memory >= 1.0
            && self.scale_memory >= 1.0
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
    fn extremes_neither_overflow_nor_stay() {
        let mut level = Level::new(16.0, 128.0);
        for x in [1.0, 1e300, -1e300, 5e-324, 1e300, 0.0] {
            level.learn(x);
            assert!(level.is_sound() && level.residual(-1e300).is_finite() && level.residual(1e300).is_finite());
        }
        for i in 0..200_000 {
            level.learn(f64::from(i % 7));
        }
        assert!(level.residual(3.0).abs() < 2.0, "{level:?}");
        assert!(level.residual(1_000.0) > 50.0, "{level:?}");
    }
}
