//! Changes: where the level of a signal becomes another one, up or down, into a fault or out of it.
//!
//! A fast and a slow running mean of each signal; their distance, in deviations around the slow one and then in what
//! that distance usually is. The signal that is furthest speaks for the thing, measured by the edge that the thing's
//! accepted-normal readings set. Told when the edge is passed, and again while it lasts.
//!
//! Like the onset it tells where something begins and has no say in the score.

use crate::detector::VALUE_MAX;
use crate::yardstick::Yardstick;
use serde::{Deserialize, Serialize};

/// Readings that the fast and the slow mean remember, as moving averages of so many would.
const FAST: f64 = 20.0;
const SLOW: f64 = 100.0;
/// Readings over which the long-run deviation and the usual distance forget.
const LONG: f64 = 1_000.0;
/// One value counts as at most so many deviations: a spike is no new level.
const CLIP: f64 = 3.0;
/// The deviation counts as at least this part of the long-run one: a signal that happens to be calm is not suspicious.
const CALM: f64 = 0.3;
/// Readings before the slow mean means anything; as many again before its usual distance does.
const NEEDED: u32 = 100;
/// So many times the edge is a change: levels wander further in the long run than a short commissioning shows.
const MARGIN: f64 = 1.25;
/// A change that lasts is told again after this many readings.
const AGAIN_READINGS: u8 = 20;
/// Distances beyond are no further.
const DISTANCE_MAX: f64 = 1e9;
/// Squares of larger values would not be finite.
const ERROR_MAX: f64 = 1e150;

/// One signal's levels.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Levels {
    seen: u32,
    fast: f64,
    slow: f64,
    /// Around the slow mean: of late, and in the long run.
    variance: f64,
    long: f64,
    /// Mean square of the distance.
    usual: f64,
}

impl Levels {
    fn deviation(&self) -> f64 {
        self.variance.sqrt() + CALM * self.long.sqrt()
    }

    /// The fast mean after one more value, and how far it then is from the slow one, in deviations.
    fn next(&self, value: f64) -> (f64, f64) {
        if self.seen == 0 {
            return (value, 0.0);
        }
        let fast = self.fast + 2.0 / (FAST + 1.0) * (value - self.fast);
        let (apart, deviation) = (fast - self.slow, self.deviation());
        let distance = if deviation > 0.0 { (apart / deviation).clamp(-DISTANCE_MAX, DISTANCE_MAX) } else { 0.0 };
        (fast, distance)
    }

    /// How far the level is from where it was, in what that usually is; 0 while that is unknown.
    fn distance(&self, value: f64) -> f64 {
        let usual = self.usual.sqrt();
        if self.seen < 2 * NEEDED || usual <= 0.0 { 0.0 } else { (self.next(value).1.abs() / usual).min(DISTANCE_MAX) }
    }

    /// `ordinary`: whether the distance is one to measure others by.
    fn learn(&mut self, value: f64, ordinary: bool) {
        let (fast, distance) = self.next(value);
        let first = self.seen == 0;
        let (slow, deviation) = (if first { value } else { self.slow }, self.deviation());
        let error = (value - slow).clamp(-ERROR_MAX, ERROR_MAX);
        let clipped = if deviation > 0.0 { error.clamp(-CLIP * deviation, CLIP * deviation) } else { error };
        self.seen = self.seen.saturating_add(1);
        let seen = f64::from(self.seen);
        let weight = (2.0 / (SLOW + 1.0)).max(1.0 / seen);
        self.fast = fast;
        self.slow = slow + weight * clipped;
        self.variance += weight * (clipped * clipped - self.variance);
        self.long += (clipped * clipped - self.long) / seen.min(LONG);
        if ordinary && self.seen > NEEDED {
            self.usual += (distance * distance - self.usual) / (seen - f64::from(NEEDED)).min(LONG);
        }
    }

    pub(crate) fn is_sound(&self) -> bool {
        let square = |x: f64| x.is_finite() && x >= 0.0;
        self.fast.abs() <= 2.0 * VALUE_MAX
            && self.slow.abs() <= 2.0 * VALUE_MAX
            && square(self.variance)
            && square(self.long)
            && square(self.usual)
    }
}

/// What the thing's signals have shown together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Changes {
    edge: Yardstick,
    /// Readings until a change that lasts is told again.
    told: u8,
}

impl Changes {
    /// The furthest distance of any signal.
    pub(crate) fn furthest<'a>(signals: impl Iterator<Item = (&'a Levels, f64)>) -> f64 {
        signals.map(|(levels, value)| levels.distance(value)).fold(0.0, f64::max)
    }

    fn strength(&self, furthest: f64) -> f64 {
        if self.edge.seen() < NEEDED { 0.0 } else { self.edge.measure(furthest, 0.0).min(DISTANCE_MAX) / MARGIN }
    }

    /// How far beyond the edge, at least 1, where a change is to be told; else 0.
    pub(crate) fn told(&self, furthest: f64) -> f64 {
        let strength = self.strength(furthest);
        if strength >= 1.0 && self.told == 0 { strength } else { 0.0 }
    }

    /// Whether the reading that [`Self::furthest`] spoke of is within the edge.
    pub(crate) fn is_within(&self, furthest: f64) -> bool {
        furthest <= self.edge.edge()
    }

    /// Takes that reading in; `levels` are those of its signals. Only an ordinary one moves the edge.
    pub(crate) fn learn<'a>(
        &mut self,
        furthest: f64,
        ordinary: bool,
        levels: impl Iterator<Item = (&'a mut Levels, f64)>,
    ) {
        let changed = self.told(furthest) > 0.0;
        self.told = if changed { AGAIN_READINGS } else { self.told.saturating_sub(1) };
        let mut known = false;
        for (levels, value) in levels {
            known |= levels.seen >= 2 * NEEDED;
            levels.learn(value, ordinary);
        }
        if ordinary && known {
            self.edge.learn(furthest);
        }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.edge.is_sound() && self.told <= AGAIN_READINGS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds one signal; gives the readings at which a change was told.
    fn told(values: impl Iterator<Item = f64>) -> Vec<usize> {
        let (mut levels, mut changes) = (Levels::default(), Changes::default());
        let mut told = Vec::new();
        for (at, value) in values.enumerate() {
            let furthest = Changes::furthest([(&levels, value)].into_iter());
            if changes.told(furthest) > 0.0 {
                told.push(at);
            }
            let ordinary = at < 512 || changes.is_within(furthest);
            changes.learn(furthest, ordinary, [(&mut levels, value)].into_iter());
            assert!(levels.is_sound() && changes.is_sound());
        }
        told
    }

    fn noise(at: usize) -> f64 {
        ((at * at * 31 + at * 7) % 101) as f64 / 101.0
    }

    #[test]
    fn a_step_and_the_way_back_are_told_soon_and_noise_is_not() {
        let level = |at: usize| if (1_000..1_400).contains(&at) { 3.0 } else { 0.0 };
        let told = told((0..2_000).map(|at| level(at) + noise(at)));
        let near = |at: &usize| (1_000..1_120).contains(at) || (1_400..1_520).contains(at);
        assert!(told.iter().all(near), "{told:?}");
        assert!(told[0] < 1_010 && told.iter().any(|at| (1_400..1_420).contains(at)), "{told:?}");
    }

    #[test]
    fn any_finite_values_are_survived() {
        told((0..3_000).map(|at| [0.0, 1e300, -1e300, 5e-324, 3.0][at % 5]));
    }
}
