//! Shapes: has the thing ever moved like this? The distance of the last readings of all its measurements, as one
//! window, from the nearest of a few typical windows of commissioning (k-means, MacQueen 1967; on windows as in
//! KMeansAD, the best published detector of TSB-AD-M).
//!
//! A window's length times the number of measurements is bounded, so a thing of one signal has long windows and one of
//! forty short ones. Signals that were only ever 0 or 1 are states and commands, no measurements: how they alternate
//! says little about the shape of what is measured.

use super::moments::{Range, quantile};
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{RngCore, SeedableRng},
};
use serde::{Deserialize, Serialize};

/// Readings in a window at most.
pub(super) const WINDOW_MAX: usize = 64;
const WINDOW_MIN: usize = 4;
/// Numbers in a window at most: typical windows take so much memory each, and so much time with every reading.
const NUMBERS_MAX: usize = 256;
/// Typical windows.
const TYPICAL: usize = 24;
/// Windows of commissioning that they are made from, spread evenly.
const SAMPLED_MAX: usize = 1_024;
/// Rounds of k-means; more change little.
const ROUNDS: usize = 12;
/// The quantile of commissioning that counts as its edge.
const EDGE: f64 = 0.99;
/// A typical distance below this part of the signals' deviation is quantisation.
const EDGE_MIN: f64 = 1e-3;
const COORDINATE_MAX: f64 = 1e6;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Shapes {
    signals: Vec<u16>,
    places: Vec<f64>,
    scales: Vec<f64>,
    window: usize,
    /// Typical windows, one after another, oldest reading first.
    typical: Vec<f32>,
    edge: f64,
}

impl Shapes {
    /// `columns` relative to their `origins`.
    pub(super) fn fit(columns: &[Vec<f64>], origins: &[f64], seed: u64) -> Option<Self> {
        let is_state = |i: usize| columns[i].iter().map(|x| x + origins[i]).all(|x| x == 0.0 || x == 1.0);
        let mut signals: Vec<u16> = (0..columns.len()).filter(|&i| !is_state(i)).map(|i| i as u16).collect();
        if signals.is_empty() {
            signals = (0..columns.len() as u16).collect();
        }
        signals.truncate(NUMBERS_MAX / WINDOW_MIN);
        let rows = columns.first()?.len();
        let window = (NUMBERS_MAX / signals.len().max(1)).clamp(WINDOW_MIN, WINDOW_MAX).min(rows / 4);
        if window < WINDOW_MIN {
            return None;
        }
        let ranges: Vec<Range> = signals.iter().map(|&i| Range::of(&columns[usize::from(i)])).collect();
        let scale = |(range, &i): (&Range, &u16)| {
            let size = (range.mean + origins[usize::from(i)]).abs();
            match range.deviation {
                deviation if deviation > 1e-6 * size && deviation > 0.0 => deviation,
                // What stood still is measured against its own size.
                _ if size > 0.0 => size,
                _ => 1.0,
            }
        };
        let mut shapes = Self {
            places: ranges.iter().map(|range| range.mean).collect(),
            scales: ranges.iter().zip(&signals).map(scale).collect(),
            signals,
            window,
            typical: Vec::new(),
            edge: 1.0,
        };
        let points: Vec<f32> = (0..rows)
            .flat_map(|row| shapes.point(&columns.iter().map(|column| column[row]).collect::<Vec<_>>()))
            .collect();
        let width = shapes.signals.len();
        let count = rows - window + 1;
        let step = count.div_ceil(SAMPLED_MAX);
        let sampled: Vec<&[f32]> =
            (0..count).step_by(step).map(|from| &points[from * width..(from + window) * width]).collect();
        shapes.typical = k_means(&sampled, seed);
        let reached = (0..count).map(|from| shapes.distance(&points[from * width..(from + window) * width])).collect();
        shapes.edge = quantile(reached, EDGE) + EDGE_MIN;
        Some(shapes)
    }

    /// A reading as a window keeps it; `values` of all the thing's signals.
    pub(super) fn point(&self, values: &[f64]) -> Vec<f32> {
        let at = |((&i, place), scale): ((&u16, &f64), &f64)| {
            ((values[usize::from(i)] - place) / scale).clamp(-COORDINATE_MAX, COORDINATE_MAX) as f32
        };
        self.signals.iter().zip(&self.places).zip(&self.scales).map(at).collect()
    }

    /// Readings in a window.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// Numbers in a window.
    pub(super) fn numbers(&self) -> usize {
        self.window * self.signals.len()
    }

    fn distance(&self, window: &[f32]) -> f64 {
        let nearest = nearest(&self.typical, window).1;
        (f64::from(nearest) / window.len().max(1) as f64).sqrt()
    }

    /// 1 is the edge of normal.
    pub(super) fn oddness(&self, window: &[f32]) -> f64 {
        self.distance(window) / self.edge
    }

    pub(super) fn is_sound(&self, signals: usize) -> bool {
        let width = self.signals.len();
        width > 0
            && self.signals.iter().all(|&i| usize::from(i) < signals)
            && self.places.len() == width
            && self.scales.len() == width
            && self.scales.iter().all(|&x| x > 0.0)
            && (WINDOW_MIN..=WINDOW_MAX).contains(&self.window)
            && !self.typical.is_empty()
            && self.typical.len().is_multiple_of(self.numbers())
            && self.typical.len() <= TYPICAL * self.numbers()
            && self.edge > 0.0
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.typical.capacity() * size_of::<f32>() + self.signals.capacity() * (size_of::<u16>() + 2 * size_of::<f64>())
    }
}

/// Lloyd's algorithm from a k-means++ start (Arthur and Vassilvitskii 2007).
fn k_means(windows: &[&[f32]], seed: u64) -> Vec<f32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let width = windows.first().map_or(0, |window| window.len());
    let mut centres: Vec<f32> = windows.first().map_or(Vec::new(), |window| window.to_vec());
    let mut apart: Vec<f32> = windows.iter().map(|window| squared(window, &centres)).collect();
    while centres.len() < TYPICAL.min(windows.len()) * width {
        let total: f64 = apart.iter().map(|&x| f64::from(x)).sum();
        if total <= 0.0 {
            break;
        }
        let mut left = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
        let chosen = apart.iter().position(|&x| {
            left -= f64::from(x);
            left < 0.0
        });
        let centre = windows[chosen.unwrap_or(windows.len() - 1)];
        centres.extend_from_slice(centre);
        apart.iter_mut().zip(windows).for_each(|(apart, window)| *apart = apart.min(squared(window, centre)));
    }
    for _ in 0..ROUNDS {
        let mut sums = vec![0f64; centres.len()];
        let mut counts = vec![0u32; centres.len() / width.max(1)];
        for window in windows {
            let (centre, _) = nearest(&centres, window);
            counts[centre] += 1;
            sums[centre * width..].iter_mut().zip(*window).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        for (centre, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let range = centre * width..(centre + 1) * width;
            centres[range.clone()]
                .iter_mut()
                .zip(&sums[range])
                .for_each(|(place, sum)| *place = (sum / f64::from(count)) as f32);
        }
    }
    centres
}

/// The nearest of the centres and its squared distance.
fn nearest(centres: &[f32], window: &[f32]) -> (usize, f32) {
    let distances = centres.chunks_exact(window.len().max(1)).map(|centre| squared(window, centre)).enumerate();
    distances.fold((0, f32::MAX), |best, next| if next.1 < best.1 { next } else { best })
}

fn squared(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums side by side: the compiler may not reorder one sum, and so could not vectorise it.
    let mut sums = [0f32; 8];
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for i in 0..8 {
            sums[i] += (a[i] - b[i]) * (a[i] - b[i]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b) * (a - b)).sum();
    sums.iter().sum::<f32>() + rest
}
