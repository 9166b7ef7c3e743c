//! Novelty: a value that the signal has never had, or a liveliness that it has never had.
//!
//! How far is the value from the nearest one that the signal ever had (nearest-neighbour conformity of single values,
//! after Burnaev and Ishimtsev 2016, "Conformalized density- and distance-based anomaly detection in time-series
//! data"), and how far is its short-term variance from its long-term variance, up or down? Both are measured by the
//! edge that the signal itself has set so far; the larger one counts. Of the values that it had, a summary is kept: what
//! lies closest together is merged first, so that the range and its empty stretches stay known.
//!
//! It is no detector with a say in the score: it feeds the onset, which tells where an event begins.

use crate::yardstick::Yardstick;
use serde::{Deserialize, Serialize};

/// Values that stand for all that the signal ever had.
const VALUES_MAX: usize = 128;
/// Statistics before anything is measured by them.
const MEASURED_MIN: u32 = 64;
/// Readings over which level and short variance forget, and over which the long variance does.
const SHORT_MEMORY: f64 = 20.0;
const LONG_MEMORY: f64 = 1_000.0;
/// Where nearly all values were known ones, a new one is this odd, however far away.
const UNSEEN: f64 = 10.0;
/// Relative distance below which values are the same one.
const RESOLUTION: f64 = 1e-9;
/// Variances further apart than this factor are no further apart.
const RATIO_MAX: f64 = 1e12;
/// No oddness is larger; enough to rank anything, and finite.
const ODDNESS_MAX: f64 = 1e6;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Novelty {
    /// Ascending.
    values: Vec<f64>,
    seen: u32,
    level: f64,
    short: f64,
    long: f64,
    distances: Yardstick,
    contrasts: Yardstick,
}

impl Novelty {
    /// Distance to the nearest known value, and where it would be inserted.
    fn distance(&self, value: f64) -> (f64, usize) {
        let at = self.values.partition_point(|&known| known < value);
        let above = self.values.get(at).map(|known| known - value);
        let below = at.checked_sub(1).map(|at| value - self.values[at]);
        let nearest = match (above, below) {
            (Some(above), Some(below)) => above.min(below),
            (above, below) => above.or(below).unwrap_or(0.0),
        };
        (if nearest <= RESOLUTION * value.abs() { 0.0 } else { nearest }, at)
    }

    /// The variances' state after one more value: level, short, long.
    fn moved(&self, value: f64) -> (f64, f64, f64) {
        let seen = f64::from(self.seen) + 1.0;
        let error = value - self.level;
        // Squares of what is beyond this would not be finite.
        let square = (error * error).min(f64::MAX / 4.0);
        let level = if self.seen == 0 { value } else { self.level + error / SHORT_MEMORY.min(seen) };
        let square = if self.seen == 0 { 0.0 } else { square };
        let short = self.short + (square - self.short) / SHORT_MEMORY.min(seen);
        (level, short, self.long + (square - self.long) / LONG_MEMORY.min(seen))
    }

    fn admit(&mut self, value: f64, at: usize) {
        self.values.insert(at, value);
        if self.values.len() <= VALUES_MAX {
            return;
        }
        let gap = |at: &usize| self.values[at + 1] - self.values[at - 1];
        let closest = (1..self.values.len() - 1).min_by(|a, b| gap(a).total_cmp(&gap(b)));
        if let Some(closest) = closest {
            self.values.remove(closest);
        }
    }
}

/// How far the short variance is from the long one, in e-folds either way.
fn contrast(short: f64, long: f64) -> f64 {
    if long <= 0.0 { 0.0 } else { (short / long).clamp(1.0 / RATIO_MAX, RATIO_MAX).ln().abs() }
}

/// A statistic by its yardstick; where nearly all were zero, whatever is not.
fn measured(yardstick: &Yardstick, statistic: f64) -> f64 {
    match (yardstick.seen() >= MEASURED_MIN, yardstick.edge() > 0.0) {
        (false, _) => 0.0,
        (true, true) => yardstick.measure(statistic, 0.0).min(ODDNESS_MAX),
        (true, false) => {
            if statistic > 0.0 {
                UNSEEN
            } else {
                0.0
            }
        }
    }
}

impl Novelty {
    /// How new the value or the liveliness that it makes is: 1 is the edge of what the signal has shown so far.
    pub(crate) fn of(&self, value: f64) -> f64 {
        let (_, short, long) = self.moved(value);
        self.measured(self.distance(value).0, contrast(short, long))
    }

    fn measured(&self, distance: f64, contrast: f64) -> f64 {
        measured(&self.distances, distance).max(measured(&self.contrasts, contrast))
    }

    /// Notes what the signal has had, whether it was accepted as normal or not: that it was there is a fact.
    pub(crate) fn learn(&mut self, value: f64) {
        let (distance, at) = self.distance(value);
        (self.level, self.short, self.long) = self.moved(value);
        self.seen = self.seen.saturating_add(1);
        self.distances.learn(distance);
        self.contrasts.learn(contrast(self.short, self.long));
        if distance > 0.0 || self.values.is_empty() {
            self.admit(value, at);
        }
    }

    pub(crate) fn is_sound(&self) -> bool {
        let variance = |x: f64| x.is_finite() && x >= 0.0;
        self.values.len() <= VALUES_MAX
            && self.values.is_sorted()
            && self.values.iter().all(|value| value.abs() <= crate::detector::VALUE_MAX)
            && self.level.abs() <= crate::detector::VALUE_MAX
            && variance(self.short)
            && variance(self.long)
            && self.distances.is_sound()
            && self.contrasts.is_sound()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        8 * self.values.capacity() + self.distances.memory_bytes() + self.contrasts.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_never_there_is_new_once() {
        let mut novelty = Novelty::default();
        for i in 0..2_000 {
            novelty.learn(f64::from(i % 97));
        }
        assert!(novelty.of(50.0) < 1.0);
        assert!(novelty.of(400.0) > 1.0);
        novelty.learn(400.0);
        assert_eq!(novelty.distance(400.0).0, 0.0, "what has been there is known");
        assert!(novelty.is_sound());
    }

    #[test]
    fn any_finite_values_are_survived() {
        let mut novelty = Novelty::default();
        for i in 0..500 {
            for value in [0.0, -0.0, 1e300, -1e300, 5e-324, f64::from(i)] {
                assert!(novelty.of(value).is_finite());
                novelty.learn(value);
            }
        }
        assert!(novelty.is_sound() && novelty.values.len() <= VALUES_MAX);
    }
}
