//! What the models of a commissioning share: means and deviations of columns, smoothing, heavy-tailed deviations.

use serde::{Deserialize, Serialize};

/// Readings that the smoothing of a level or a distance remembers, as a moving average of so many would.
pub(super) const SMOOTH_READINGS: f64 = 10.0;
/// Weight of the newest reading in the smoothing.
pub(super) const SMOOTH: f64 = 2.0 / (SMOOTH_READINGS + 1.0);
/// The first smoothed readings still tell where smoothing began.
pub(super) const SETTLE_READINGS: usize = 20;
/// How often a level must cross its mean for one independent look at the process: twice per swing.
const CROSSINGS_PER_LOOK: f64 = 2.0;
/// A level that never came back to its mean was seen once at most, and says next to nothing about its range.
const LOOKS_MIN: f64 = 0.5;

/// Deviations beyond which further is not more: a glitch must not outlast itself.
const FAR: f64 = 100.0;

/// Where a quantity lies, how far it spreads, and how often it was seen independently.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Range {
    pub(super) mean: f64,
    /// 0 where it stood still.
    pub(super) deviation: f64,
    pub(super) looks: f64,
}

impl Range {
    pub(super) fn of(values: &[f64]) -> Self {
        Self::with_looks(values, values)
    }

    /// Mean and deviation of `values`; the independent looks are counted on `levels`, their smoothed course.
    pub(super) fn with_looks(values: &[f64], levels: &[f64]) -> Self {
        let (mean, deviation) = mean_and_deviation(values);
        let (middle, _) = mean_and_deviation(levels);
        let crossings = levels.windows(2).filter(|pair| (pair[0] > middle) != (pair[1] > middle)).count();
        Self { mean, deviation, looks: (crossings as f64 / CROSSINGS_PER_LOOK).max(LOOKS_MIN) }
    }

    /// In deviations; of what stood still the least movement counts as enormous, and is judged by few looks.
    pub(super) fn distance(&self, value: f64) -> f64 {
        let least = 1e-9 * self.mean.abs().max(1e-9);
        ((value - self.mean) / self.deviation.max(least)).clamp(-1e9, 1e9)
    }

    /// The value, or what is [`FAR`] away on its side.
    pub(super) fn within(&self, value: f64) -> f64 {
        let reach = FAR * self.deviation;
        if reach > 0.0 { value.clamp(self.mean - reach, self.mean + reach) } else { value }
    }

    /// How surprising a distance is: twice the loss of log-likelihood under Student's t with as many degrees of freedom
    /// as there were independent looks. A normal distribution's squared distance where there were many; where a level
    /// only drifted while it was watched, a long way off is no surprise yet.
    pub(super) fn surprise(&self, distance: f64) -> f64 {
        self.looks * (distance * distance / self.looks).ln_1p()
    }

    /// Moves the middle a little towards a value.
    pub(super) fn drift(&mut self, value: f64, weight: f64) {
        self.mean += weight * (value - self.mean);
    }

    pub(super) fn is_sound(&self) -> bool {
        self.mean.is_finite()
            && self.deviation.is_finite()
            && self.deviation >= 0.0
            && self.looks.is_finite()
            && self.looks >= LOOKS_MIN
    }
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

/// The exponentially weighted course of `values`, from their first one on.
pub(super) fn smoothed(values: &[f64], first: f64) -> Vec<f64> {
    let mut level = first;
    values
        .iter()
        .map(|x| {
            level += SMOOTH * (x - level);
            level
        })
        .collect()
}

/// The value that a part `part` of `values` does not exceed; 0 of none.
pub(super) fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let place = (values.len().saturating_sub(1)) as f64 * part;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    match (values.get(below), values.get(above)) {
        (Some(low), Some(high)) => low + (high - low) * (place - place.floor()),
        _ => 0.0,
    }
}
