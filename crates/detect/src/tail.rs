//! From a raw statistic to a probability: an on-line estimate of a distribution's upper tail.
//!
//! Readings are not independent: an odd statistic stays odd for a while. So the tail is made of *excursions*: runs
//! of readings above the statistic's own upper decile, each counted once, by its maximum, when it has ended. An
//! excursion that is still going on is judged by those that ended before; what builds up slowly cannot teach its own
//! judge. Beyond the decile, p = decile · (chance that an excursion reaches as high), the latter from peaks over
//! threshold, fitted to the largest maxima ([`crate::pareto`]). No fit
//! may fall below what plain counting supports: within the maxima seen, the conformal r / (N + 1); beyond the
//! largest, a decline from 1 / (N + 1) whose pace the maxima themselves set, in the predictive form that is wide when
//! they are few.

use crate::pareto::{Pareto, decline};
use kilter_core::Score;
use serde::{Deserialize, Serialize};

/// Maxima kept per generation. 32 fix a tail's scale to about 18 %; more costs memory in every signal.
const PEAKS_MAX: usize = 32;
/// Thinned sample of all observations per generation: it gives the decile and probabilities above it.
const BODY_MAX: usize = 32;
/// An excursion is above the value that this part of the observations exceeds.
const DECILE: f64 = 0.1;
/// An excursion has ended when so many observations in a row were below the decile …
const QUIET: u8 = 8;
/// … or is counted as ended after this many: it is how things are now.
const LENGTH_MAX: u16 = 128;
/// Observations before a probability is given: fewer do not even tell the decile.
pub const TAIL_NEEDED: u32 = 50;
/// A generation is closed after a week, but not before this many observations …
const GENERATION_MIN: f64 = 4_096.0;
/// … nor after more than these: an unknown or absurd interval must not make the memory eternal.
const GENERATION_MAX: f64 = 1_000_000.0;
/// The tail's scale is at least this part of the distance from median to decile: guards against maxima that happen
/// to be equal.
const SCALE_FLOOR: f64 = 0.1;

/// A stretch of history.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Generation {
    count: u32,
    /// Every `stride`-th observation; thinned by half whenever full.
    body: Vec<f32>,
    stride: u32,
    /// Observations above the decile.
    above: u32,
    excursions: u32,
    /// The largest maxima, descending.
    peaks: Vec<f32>,
}

impl Generation {
    /// Whether the body has changed.
    fn learn(&mut self, x: f32) -> bool {
        self.stride = self.stride.max(1);
        let taken = self.count.is_multiple_of(self.stride);
        if taken {
            if self.body.len() == BODY_MAX {
                let mut index = 0;
                self.body.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.stride = self.stride.saturating_mul(2);
            }
            self.body.push(x);
        }
        self.count = self.count.saturating_add(1);
        taken
    }

    fn learn_excursion(&mut self, maximum: f32) {
        self.excursions = self.excursions.saturating_add(1);
        let rank = self.peaks.partition_point(|&peak| peak >= maximum);
        if rank < PEAKS_MAX {
            self.peaks.truncate(PEAKS_MAX - 1);
            self.peaks.insert(rank, maximum);
        }
    }

    fn is_sound(&self) -> bool {
        self.peaks.len() == PEAKS_MAX.min(self.excursions as usize)
            && self.excursions <= self.above
            && self.above <= self.count
            && self.body.len() <= BODY_MAX
            && (self.count == 0) == self.body.is_empty()
            && self.peaks.iter().chain(&self.body).all(|x| x.is_finite())
            && self.peaks.is_sorted_by(|a, b| a >= b)
    }
}

/// A run of observations above the decile that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Excursion {
    maximum: f32,
    length: u16,
    quiet: u8,
}

/// The upper tail of one statistic; two generations, so that what is forgotten is forgotten gradually.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Tail {
    current: Generation,
    previous: Generation,
    median: f32,
    decile: f32,
    open: Option<Excursion>,
}

impl Tail {
    /// Observations behind the estimate.
    pub fn count(&self) -> u32 {
        self.current.count.saturating_add(self.previous.count)
    }

    /// Excursions behind the estimate.
    pub fn excursions(&self) -> u32 {
        self.current.excursions.saturating_add(self.previous.excursions)
    }

    /// The part of the observations that belongs to excursions: a tenth, or less where many are alike.
    pub fn share_above(&self) -> f64 {
        let above = f64::from(self.current.above) + f64::from(self.previous.above);
        ((above + 1.0) / (f64::from(self.count()) + 1.0)).min(DECILE)
    }

    /// Learns one observation. `readings_per_week` sets how long is remembered: one to two weeks.
    pub fn learn(&mut self, x: f64, readings_per_week: f64) {
        let x = narrow(x);
        if self.count() >= TAIL_NEEDED / 2 {
            self.follow(x);
        }
        if self.current.learn(x) {
            self.place_decile();
        }
        let length = readings_per_week.clamp(GENERATION_MIN, GENERATION_MAX);
        if f64::from(self.current.count) >= length {
            let stride = (self.current.stride / 2).max(1);
            self.previous = std::mem::replace(&mut self.current, Generation { stride, ..Generation::default() });
        }
    }

    /// Opens, extends or ends an excursion.
    fn follow(&mut self, x: f32) {
        let above = x > self.decile;
        // Counted with the observation itself, which comes next.
        self.current.above = self.current.above.saturating_add(u32::from(above));
        let Some(open) = &mut self.open else {
            if above {
                self.open = Some(Excursion { maximum: x, length: 1, quiet: 0 });
            }
            return;
        };
        open.maximum = open.maximum.max(x);
        open.length = open.length.saturating_add(1);
        open.quiet = if above { 0 } else { open.quiet.saturating_add(1) };
        if open.quiet >= QUIET || open.length >= LENGTH_MAX {
            let maximum = open.maximum;
            self.open = None;
            // One that began before this generation is counted in it.
            self.current.above = self.current.above.max(self.current.excursions.saturating_add(1));
            self.current.learn_excursion(maximum);
        }
    }

    fn place_decile(&mut self) {
        let mut body = [0f32; 2 * BODY_MAX];
        let mut length = 0;
        for (place, &x) in body.iter_mut().zip(self.current.body.iter().chain(&self.previous.body)) {
            *place = x;
            length += 1;
        }
        let body = &mut body[..length];
        body.sort_unstable_by(f32::total_cmp);
        self.median = body[(length - 1) / 2];
        self.decile = body[((length - 1) as f64 * (1.0 - DECILE)) as usize];
    }

    /// An episode has begun: what led up to it is not taken for ordinary.
    pub fn hold(&mut self) {
        self.open = None;
    }

    /// −log10 of the chance that an observation is at least `x`; `None` before [`TAIL_NEEDED`] observations.
    pub fn score(&self, x: f64) -> Option<Score> {
        self.score_paced(x, f64::INFINITY)
    }

    /// As [`Self::score`], but while no excursion was ever seen, the chance beyond the decile falls by a factor of e
    /// with every `pace`: for statistics of which it is known how unlikely twice as much is.
    pub fn score_paced(&self, x: f64, pace: f64) -> Option<Score> {
        (self.count() >= TAIL_NEEDED).then(|| Score::from_probability(self.probability(narrow(x), pace)))
    }

    fn probability(&self, x: f32, pace: f64) -> f64 {
        if x <= self.decile {
            return self.body_probability(x).max(DECILE);
        }
        let share = self.share_above();
        let all = f64::from(self.excursions());
        if all == 0.0 {
            return share * (-(f64::from(x) - f64::from(self.decile)) / pace).exp();
        }
        let mut peaks = [0f32; PEAKS_MAX];
        let found = self.largest(&mut peaks);
        let peaks = &peaks[..found];
        let at_least = peaks.iter().filter(|&&peak| peak >= x).count() as f64;
        // Where memory is full, the least maximum kept is the threshold; else the decile is.
        let threshold = if found < PEAKS_MAX { self.decile } else { peaks[PEAKS_MAX - 1] };
        let peaks = &peaks[..peaks.partition_point(|&peak| peak > threshold)];
        if x <= threshold {
            return share * (at_least + 1.0) / (all + 1.0);
        }
        if peaks.is_empty() {
            // All maxima are alike: how far they are from the decile is the only measure there is.
            let pace = f64::from(threshold) - f64::from(self.decile);
            return share * decline(f64::from(x) - f64::from(threshold), pace, found as f64) / (all + 1.0);
        }
        let fit = Pareto::fit(peaks, threshold, SCALE_FLOOR * f64::from(self.decile - self.median));
        let fitted = peaks.len() as f64 / all * fit.exceedance(f64::from(x) - f64::from(threshold));
        let excess = f64::from(x) - f64::from(peaks[0]);
        let floor = if excess <= 0.0 { at_least.max(1.0) } else { fit.beyond_largest(excess) };
        share * fitted.max(floor / (all + 1.0)).min(1.0)
    }

    /// Writes the largest maxima of both generations, descending; returns how many there are.
    fn largest(&self, into: &mut [f32; PEAKS_MAX]) -> usize {
        let (mut a, mut b) = (self.current.peaks.iter().peekable(), self.previous.peaks.iter().peekable());
        for (i, place) in into.iter_mut().enumerate() {
            let next = match (a.peek(), b.peek()) {
                (Some(x), Some(y)) if x >= y => a.next(),
                (_, Some(_)) => b.next(),
                (Some(_), None) => a.next(),
                (None, None) => return i,
            };
            *place = next.copied().unwrap_or_default();
        }
        PEAKS_MAX
    }

    fn body_probability(&self, x: f32) -> f64 {
        let (mut above, mut all) = (0, 0);
        for generation in [&self.current, &self.previous] {
            above += generation.body.iter().filter(|&&y| y >= x).count();
            all += generation.body.len();
        }
        (above + 1) as f64 / (all + 1) as f64
    }

    pub fn is_sound(&self) -> bool {
        self.current.is_sound()
            && self.previous.is_sound()
            && self.median.is_finite()
            && self.decile.is_finite()
            && self.median <= self.decile
            && self.open.is_none_or(|open| open.maximum.is_finite())
    }

    pub fn memory_bytes() -> usize {
        size_of::<Self>() + 2 * (PEAKS_MAX + BODY_MAX) * size_of::<f32>()
    }
}

/// Statistics are compared as they are stored: to about four digits, so that rounding noise is no difference.
fn narrow(x: f64) -> f32 {
    const LARGEST: f64 = 1e30;
    const BITS_DROPPED: u32 = 11;
    if x.is_nan() {
        return 0.0;
    }
    let bits = (x.clamp(-LARGEST, LARGEST) as f32).to_bits();
    f32::from_bits((bits + (1 << (BITS_DROPPED - 1))) >> BITS_DROPPED << BITS_DROPPED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::{
        Xoshiro256PlusPlus,
        rand_core::{RngCore, SeedableRng},
    };

    fn uniform(rng: &mut Xoshiro256PlusPlus) -> f64 {
        (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    #[test]
    fn says_nothing_before_it_has_seen_enough() {
        let mut tail = Tail::default();
        for i in 0..TAIL_NEEDED {
            assert_eq!(tail.score(1e9), None, "{i}");
            tail.learn(f64::from(i), 0.0);
        }
        assert!(tail.score(1e9).is_some());
    }

    #[test]
    fn flat_history_supports_counting_only() {
        let mut tail = Tail::default();
        for i in 0..999 {
            // Rounding noise is no difference.
            tail.learn(5.0 + f64::from(i % 3) * 1e-9, 0.0);
        }
        assert!((tail.score(6.0).unwrap().value() - 3.0).abs() < 1e-9);
        assert!(tail.score(5.0).unwrap().value() < 0.01);
        assert!(tail.score_paced(6.0, 0.5).unwrap().value() > 3.5);
    }

    /// Feeds statistics whose excursions are `run` readings long; gives how many of `later` excursions are called
    /// rarer than one in `rare`.
    fn called_rare(quantile: fn(f64) -> f64, run: usize, rare: f64, rng: &mut Xoshiro256PlusPlus) -> f64 {
        let mut tail = Tail::default();
        let threshold = |tail: &Tail| -(tail.share_above() / rare).log10();
        let (mut calls, later) = (0, 4_000);
        for i in 0..1_000 + later {
            let peak = quantile(uniform(rng));
            if i >= 1_000 && tail.score(peak).unwrap().value() >= threshold(&tail) {
                calls += 1;
            }
            for j in 0..12 * run {
                tail.learn(if j < run { peak } else { -uniform(rng) }, 1e6);
            }
        }
        f64::from(calls) / f64::from(later)
    }

    #[test]
    fn keeps_its_word_for_light_and_heavy_tails_and_for_runs() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        for (name, quantile) in [
            ("exponential", (|p: f64| -p.ln()) as fn(f64) -> f64),
            ("bounded", |p| 1.0 - p),
            ("heavy", |p| (p.powf(-0.25) - 1.0) / 0.25),
        ] {
            for run in [1, 10] {
                let rate = called_rare(quantile, run, 200.0, &mut rng);
                assert!((0.0..2.0 / 200.0).contains(&rate), "{name}, runs of {run}: {rate} instead of {}", 1.0 / 200.0);
            }
        }
    }

    #[test]
    fn what_is_going_on_does_not_teach_its_own_judge() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(9);
        let mut tail = Tail::default();
        for _ in 0..2_000 {
            tail.learn(uniform(&mut rng), 0.0);
        }
        for step in 0..100 {
            tail.learn(1.0 + f64::from(step) * 0.1, 0.0);
        }
        assert!(tail.score(11.0).unwrap().value() > 4.0, "a slow rise is learned only when it is over");
    }

    #[test]
    fn scores_never_fall_as_the_statistic_grows() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(8);
        let mut tail = Tail::default();
        for _ in 0..700 {
            tail.learn(uniform(&mut rng).powi(3) * 100.0, 0.0);
        }
        let scores: Vec<f64> = (0..4000).map(|i| tail.score(f64::from(i) * 0.1).unwrap().value()).collect();
        assert!(scores.is_sorted_by(|a, b| *b >= *a - 0.2), "beyond a rounding of steps");
        assert!(scores.iter().all(|s| s.is_finite()));
    }

    #[test]
    fn forgets_within_two_generations() {
        let mut tail = Tail::default();
        for _ in 0..10 {
            tail.learn(1e30, 0.0);
        }
        for i in 0..(2.0 * GENERATION_MIN) as u32 {
            tail.learn(f64::from(i * 37 % 97), 0.0);
        }
        assert!(tail.score(1_000.0).unwrap().value() > 4.0);
        assert!(tail.is_sound());
    }
}
