//! Levels: has a signal left the range in which its smoothed course lay during commissioning?
//!
//! An exponentially weighted moving average per signal (Roberts 1959), judged by its own mean, deviation and number of
//! independent looks; the most surprising signal speaks for the thing.

use super::moments::{Range, SETTLE_READINGS, SMOOTH, quantile, smoothed};
use serde::{Deserialize, Serialize};

/// The quantile of commissioning that counts as its edge.
const EDGE: f64 = 0.99;
/// Levels wander further in the long run than a short commissioning shows: the edge of normal is so many times its.
/// Measured on SKAB, where 400 readings are to answer for the next 750.
const MARGIN: f64 = 2.1;
/// Readings before the edge is measured.
const EDGE_FROM: usize = 30;

/// A change below this part of a signal's range cannot be seen.
const INVISIBLE: f64 = 1e-6;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Levels {
    ranges: Vec<Range>,
    edge: f64,
}

impl Levels {
    /// `columns`: one per signal, all equally long.
    pub(super) fn fit(columns: &[Vec<f64>]) -> Self {
        let courses: Vec<Vec<f64>> =
            columns.iter().map(|column| smoothed(column, column.first().copied().unwrap_or(0.0))).collect();
        let ranges: Vec<Range> =
            courses.iter().map(|course| Range::of(&course[SETTLE_READINGS.min(course.len())..])).collect();
        let mut levels = Self { ranges, edge: 0.0 };
        let rows = courses.first().map_or(0, Vec::len);
        let reached =
            (EDGE_FROM.min(rows)..rows).map(|row| levels.statistic(courses.iter().map(|course| course[row]))).collect();
        levels.edge = quantile(reached, EDGE).max(1.0) * MARGIN;
        levels
    }

    /// The levels after one more value of every signal. However far off a value is, its level comes back in some thirty
    /// readings.
    pub(super) fn follow(&self, levels: &[f64], values: &[f64]) -> Vec<f64> {
        let next = |((range, level), value): ((&Range, &f64), &f64)| level + SMOOTH * (range.within(*value) - level);
        self.ranges.iter().zip(levels).zip(values).map(next).collect()
    }

    /// Whether a signal's changes have become invisible beside the range it had.
    pub(super) fn dwarfs(&self, signal: usize, change: f64) -> bool {
        self.ranges.get(signal).is_some_and(|range| change.abs() < INVISIBLE * range.deviation)
    }

    fn statistic(&self, levels: impl Iterator<Item = f64>) -> f64 {
        self.surprises(levels).fold(0.0, f64::max).sqrt()
    }

    /// Per signal, how surprising its level is.
    pub(super) fn surprises<'a>(&'a self, levels: impl Iterator<Item = f64> + 'a) -> impl Iterator<Item = f64> + 'a {
        self.ranges.iter().zip(levels).map(|(range, level)| range.surprise(range.distance(level)))
    }

    /// 1 is the edge of normal.
    pub(super) fn oddness(&self, levels: &[f64]) -> f64 {
        self.statistic(levels.iter().copied()) / self.edge
    }

    /// The levels at which a signal alone would reach the edge.
    pub(super) fn expected(&self, signal: usize) -> [f64; 2] {
        let range = self.ranges[signal];
        let furthest = (range.looks * (self.edge * self.edge / range.looks).exp_m1()).sqrt().min(1e9);
        let reach = furthest * range.deviation;
        [range.mean - reach, range.mean + reach]
    }

    pub(super) fn drift(&mut self, levels: &[f64], weight: f64) {
        self.ranges.iter_mut().zip(levels).for_each(|(range, level)| range.drift(*level, weight));
    }

    pub(super) fn distance(&self, signal: usize, level: f64) -> f64 {
        self.ranges[signal].distance(level)
    }

    pub(super) fn is_sound(&self, signals: usize) -> bool {
        self.ranges.len() == signals && self.ranges.iter().all(Range::is_sound) && self.edge > 0.0
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.ranges.capacity() * size_of::<Range>()
    }
}
