//! What accepted-normal readings reach: a high quantile of a statistic, by which it is divided to become oddness.
//!
//! A histogram over the statistic's logarithm, so that it needs to know neither unit nor range. Early observations
//! fade while more come in: a detector that is still learning finds everything odd.

use serde::{Deserialize, Serialize};

/// The quantile that counts as the edge of normal.
const EDGE: f64 = 0.995;
/// Bins per doubling: 9 % apart, and interpolated.
const BINS_PER_OCTAVE: f64 = 8.0;
/// Statistics are taken to lie within so many octaves around 1.
const OCTAVES_MAX: f64 = 120.0;
/// Whenever there are twice as many observations as before, all that came so far counts for half.
const FIRST_FADE: u32 = 64;
/// Fades no later than after this many: what is normal changes in the long run.
const FADE_AFTER_MAX: u32 = 65_536;

/// The edge of normal of one statistic that is not negative.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Yardstick {
    /// Bin number and weight, by number.
    bins: Vec<(i16, f32)>,
    seen: u32,
    fade_at: u32,
    edge: f64,
}

impl Yardstick {
    /// Observations so far.
    pub fn seen(&self) -> u32 {
        self.seen
    }

    /// The edge of normal; 0 before any observation.
    pub fn edge(&self) -> f64 {
        self.edge
    }

    /// `x` as a multiple of the edge; an edge below `floor` counts as `floor`.
    pub fn measure(&self, x: f64, floor: f64) -> f64 {
        x / self.edge.max(floor).max(f64::MIN_POSITIVE)
    }

    pub fn learn(&mut self, x: f64) {
        let octaves = if x > 0.0 { x.log2().clamp(-OCTAVES_MAX, OCTAVES_MAX) } else { -OCTAVES_MAX };
        let bin = (octaves * BINS_PER_OCTAVE).floor() as i16;
        match self.bins.binary_search_by_key(&bin, |&(bin, _)| bin) {
            Ok(at) => self.bins[at].1 += 1.0,
            Err(at) => self.bins.insert(at, (bin, 1.0)),
        }
        self.seen = self.seen.saturating_add(1);
        if self.seen >= self.fade_at.max(FIRST_FADE) {
            self.fade_at = self.seen.saturating_add(self.seen.min(FADE_AFTER_MAX));
            self.bins.iter_mut().for_each(|(_, weight)| *weight /= 2.0);
            // What is left of single observations after some ten fades says nothing about a quantile.
            self.bins.retain(|&(_, weight)| weight > 1e-3);
        }
        self.edge = self.quantile();
    }

    fn quantile(&self) -> f64 {
        let total: f64 = self.bins.iter().map(|&(_, weight)| f64::from(weight)).sum();
        let mut above = total * (1.0 - EDGE);
        for &(bin, weight) in self.bins.iter().rev() {
            let weight = f64::from(weight);
            if above < weight {
                let octaves = (f64::from(bin) + 1.0 - above / weight) / BINS_PER_OCTAVE;
                return if f64::from(bin) <= -OCTAVES_MAX * BINS_PER_OCTAVE { 0.0 } else { octaves.exp2() };
            }
            above -= weight;
        }
        0.0
    }

    pub fn is_sound(&self) -> bool {
        let limit = (OCTAVES_MAX * BINS_PER_OCTAVE) as i16;
        self.edge.is_finite()
            && self.edge >= 0.0
            && self.bins.is_sorted_by(|a, b| a.0 < b.0)
            && self.bins.iter().all(|&(bin, weight)| bin.abs() <= limit && (0.0..=1e9).contains(&weight))
    }

    pub fn memory_bytes(&self) -> usize {
        self.bins.capacity() * size_of::<(i16, f32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_edge_in_any_unit() {
        for unit in [1e-20, 1.0, 1e20] {
            let mut yardstick = Yardstick::default();
            (0..10_000).for_each(|i| yardstick.learn(f64::from(i * 7 % 1_000) * unit));
            let edge = yardstick.edge() / unit;
            assert!((960.0..=1_050.0).contains(&edge), "{edge}");
            assert!((yardstick.measure(2.0 * edge * unit, 0.0) - 2.0).abs() < 1e-9);
        }
    }

    #[test]
    fn what_was_learned_first_fades() {
        let mut yardstick = Yardstick::default();
        (0..100).for_each(|_| yardstick.learn(50.0));
        (0..20_000).for_each(|_| yardstick.learn(1.0));
        assert!(yardstick.edge() < 1.2, "{}", yardstick.edge());
    }

    #[test]
    fn zeros_have_no_edge() {
        let mut yardstick = Yardstick::default();
        (0..100).for_each(|_| yardstick.learn(0.0));
        assert_eq!(yardstick.edge(), 0.0);
        assert_eq!(yardstick.measure(1.0, 0.5), 2.0);
        assert!(yardstick.is_sound());
    }
}
