//! Combinations: do the signals still go together as they did during commissioning?
//!
//! The distance of a reading from the commissioning's mean along every principal axis, small axes as much as large
//! ones (Hotelling's T² and the residual Q of process monitoring in one; covariance shrunk as by Ledoit and Wolf 2004),
//! each distance judged by how often the axis was seen independently, their mean smoothed.
//!
//! What the edge of normal is, readings that were not learned must say: each half of commissioning is measured by the
//! other. Where they disagree by more than the number of signals explains, commissioning was not one state, and the
//! combination is believed the less.

use super::eigen::{Square, eigen};
use super::moments::{Range, SMOOTH, SMOOTH_READINGS, quantile, smoothed};
use serde::{Deserialize, Serialize};

/// Signals whose combination is watched: the covariance takes their square in memory and time.
pub(super) const COMBINED_MAX: usize = 64;
/// Part of the covariance that is taken from the identity.
const SHRINKAGE: f64 = 0.001;
/// The quantile that counts as the edge of a half.
const EDGE: f64 = 0.95;
/// Headroom above the edge, as a factor.
const MARGIN: f64 = 1.025;
/// How fast belief falls with disagreement of the halves: a power of it.
const DISBELIEF: i32 = 3;

/// Signals that moved, by place, and the axes of their covariance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Combination {
    signals: Vec<u16>,
    ranges: Vec<Range>,
    /// One row per axis, scaled so that the coordinate has unit variance.
    axes: Vec<f32>,
    along: Vec<Range>,
    edge: f64,
}

impl Combination {
    /// `None` where fewer than two signals move.
    pub(super) fn fit(columns: &[Vec<f64>]) -> Option<Self> {
        let moves = |column: &Vec<f64>| Range::of(column).deviation > 0.0;
        let moving = columns.iter().enumerate().filter(|(_, column)| moves(column));
        let signals: Vec<u16> = moving.map(|(i, _)| i as u16).take(COMBINED_MAX).collect();
        let columns: Vec<&[f64]> = signals.iter().map(|&i| &*columns[usize::from(i)]).collect();
        let rows = columns.first()?.len();
        if columns.len() < 2 {
            return None;
        }
        let mut whole = Self::fit_part(signals, &columns, &[(0, rows)]);
        let inside = quantile(whole.courses(&columns, 0, rows), EDGE);
        let halves = [(0, rows / 2), (rows / 2, rows)];
        let mut outside = 0f64;
        for (i, &(from, to)) in halves.iter().enumerate() {
            let other = Self::fit_part(whole.signals.clone(), &columns, &[halves[1 - i]]);
            outside = outside.max(quantile(other.courses(&columns, from, to), EDGE));
        }
        // A covariance of d signals from n readings makes what was not learned further away by about d / n.
        let explained = inside * (1.0 + columns.len() as f64 / (rows as f64 / 2.0));
        let disagreement = if explained > 0.0 { (outside / explained).max(1.0) } else { 1.0 };
        whole.edge = (outside.max(inside) * disagreement.powi(DISBELIEF) * MARGIN).clamp(1e-3, 1e12);
        Some(whole)
    }

    fn fit_part(signals: Vec<u16>, columns: &[&[f64]], parts: &[(usize, usize)]) -> Self {
        let size = columns.len();
        let cut = |column: &[f64]| -> Vec<f64> {
            parts.iter().flat_map(|&(from, to)| column[from..to].iter().copied()).collect()
        };
        let ranges: Vec<Range> = columns.iter().map(|column| Range::of(&cut(column))).collect();
        let standard: Vec<Vec<f64>> = columns
            .iter()
            .zip(&ranges)
            .map(|(column, range)| cut(column).iter().map(|x| standardised(range, *x)).collect())
            .collect();
        let rows = standard.first().map_or(1, Vec::len).max(1) as f64;
        let mut covariance = Square::zero(size);
        for i in 0..size {
            for j in 0..=i {
                let sum: f64 = standard[i].iter().zip(&standard[j]).map(|(a, b)| a * b).sum();
                let cell = (1.0 - SHRINKAGE) * sum / rows + if i == j { SHRINKAGE } else { 0.0 };
                (*covariance.at_mut(i, j), *covariance.at_mut(j, i)) = (cell, cell);
            }
        }
        let (values, vectors) = eigen(covariance);
        let mut axes = Vec::with_capacity(size * size);
        for (i, value) in values.iter().enumerate() {
            let scale = value.max(SHRINKAGE / 2.0).sqrt();
            axes.extend((0..size).map(|j| (vectors.at(i, j) / scale) as f32));
        }
        let mut fitted = Self { signals, ranges, axes, along: Vec::new(), edge: 1.0 };
        fitted.along = (0..size)
            .map(|axis| {
                let course: Vec<f64> = (0..standard.first().map_or(0, Vec::len))
                    .map(|row| dot(fitted.axis(axis), standard.iter().map(|column| column[row])))
                    .collect();
                // Standardised columns have mean zero, and so has every axis, with unit variance by construction.
                let looks = Range::of(&smoothed(&course, 0.0)).looks;
                Range { mean: 0.0, deviation: 1.0, looks }
            })
            .collect();
        fitted
    }

    fn axis(&self, axis: usize) -> &[f32] {
        &self.axes[axis * self.ranges.len()..(axis + 1) * self.ranges.len()]
    }

    fn standard(&self, values: impl Iterator<Item = f64>) -> Vec<f64> {
        self.ranges.iter().zip(values).map(|(range, x)| standardised(range, x)).collect()
    }

    fn mean_surprise(&self, standard: &[f64]) -> f64 {
        let along = self.along_axes(standard);
        let surprise = |(range, along): (&Range, f64)| range.surprise(along);
        self.along.iter().zip(along).map(surprise).sum::<f64>() / standard.len().max(1) as f64
    }

    /// How far a reading lies along every axis. Four axes at a time, so that no sum waits for its own last addition.
    fn along_axes(&self, standard: &[f64]) -> Vec<f64> {
        const SIDE: usize = 4;
        let size = standard.len().max(1);
        let fours = self.axes.chunks_exact(SIDE * size);
        let left = fours.remainder().chunks_exact(size).map(|axis| dot(axis, standard.iter().copied()));
        let sums = |axes: &[f32]| {
            let axes: [&[f32]; SIDE] = std::array::from_fn(|i| &axes[i * size..(i + 1) * size]);
            let mut sums = [0f64; SIDE];
            for (at, x) in standard.iter().enumerate() {
                (0..SIDE).for_each(|i| sums[i] += f64::from(axes[i][at]) * x);
            }
            sums
        };
        fours.clone().flat_map(sums).chain(left).collect()
    }

    /// The smoothed statistic over some rows, without those in which smoothing begins.
    fn courses(&self, columns: &[&[f64]], from: usize, to: usize) -> Vec<f64> {
        let raw: Vec<f64> = (from..to)
            .map(|row| self.mean_surprise(&self.standard(columns.iter().map(|column| column[row]))))
            .collect();
        let skip = (SMOOTH_READINGS as usize).min(raw.len() / 2);
        smoothed(&raw, 0.0).into_iter().skip(skip).map(f64::sqrt).collect()
    }

    /// The smoothed surprise after one more reading; `values` of all the thing's signals.
    pub(super) fn follow(&self, smoothed: f64, values: &[f64]) -> f64 {
        let standard = self.standard(self.signals.iter().map(|&i| values[usize::from(i)]));
        smoothed + SMOOTH * (self.mean_surprise(&standard) - smoothed)
    }

    pub(super) fn drift(&mut self, values: &[f64], weight: f64) {
        let places = self.signals.iter().map(|&i| values[usize::from(i)]);
        self.ranges.iter_mut().zip(places).for_each(|(range, value)| range.drift(value, weight));
    }

    /// 1 is the edge of normal.
    pub(super) fn oddness(&self, smoothed: f64) -> f64 {
        smoothed.max(0.0).sqrt() / self.edge
    }

    /// Per signal that is watched: its place, what it adds to the squared distance, and its own distance.
    pub(super) fn contributions(&self, values: &[f64]) -> Vec<(usize, f64, f64)> {
        let standard = self.standard(self.signals.iter().map(|&i| values[usize::from(i)]));
        let size = standard.len();
        let mut pulls = vec![0f64; size];
        for (axis, along) in self.along_axes(&standard).into_iter().enumerate() {
            // The t distribution's weight: an axis that was seldom seen pulls less.
            let weight = along / (1.0 + along * along / self.along[axis].looks);
            pulls.iter_mut().zip(self.axis(axis)).for_each(|(pull, x)| *pull += weight * f64::from(*x));
        }
        let places = self.signals.iter().map(|&i| usize::from(i));
        places.zip(pulls).zip(&standard).map(|((place, pull), z)| (place, (pull * z).max(0.0), *z)).collect()
    }

    /// Three deviations either way, as far as the signal alone is concerned.
    pub(super) fn expected(&self, signal: usize) -> Option<[f64; 2]> {
        let at = self.signals.iter().position(|&i| usize::from(i) == signal)?;
        let range = self.ranges[at];
        Some([range.mean - 3.0 * range.deviation, range.mean + 3.0 * range.deviation])
    }

    pub(super) fn is_sound(&self, signals: usize) -> bool {
        let size = self.signals.len();
        size <= COMBINED_MAX
            && self.signals.iter().all(|&i| usize::from(i) < signals)
            && self.ranges.len() == size
            && self.along.len() == size
            && self.axes.len() == size * size
            && self.axes.iter().all(|x| x.is_finite())
            && self.ranges.iter().chain(&self.along).all(Range::is_sound)
            && self.edge > 0.0
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.axes.capacity() * size_of::<f32>()
            + (self.ranges.capacity() + self.along.capacity()) * size_of::<Range>()
            + self.signals.capacity() * size_of::<u16>()
    }
}

fn standardised(range: &Range, value: f64) -> f64 {
    range.distance(value).clamp(-1e6, 1e6)
}

fn dot(axis: &[f32], values: impl Iterator<Item = f64>) -> f64 {
    axis.iter().zip(values).map(|(a, x)| f64::from(*a) * x).sum()
}
