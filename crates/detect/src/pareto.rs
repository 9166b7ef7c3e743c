//! Peaks over threshold: what lies beyond a high threshold follows, in the limit, a generalised Pareto distribution
//! (Pickands 1975), whatever the values come from.
//!
//! Fitted by probability-weighted moments (Hosking and Wallis 1987), the shape shrunk towards a slightly heavy tail, because
//! few values say little about it.

/// The shape that a tail is shrunk to, and the number of values that this prior weighs.
const SHAPE_PRIOR: f64 = 0.1;
const SHAPE_PRIOR_VALUES: f64 = 20.0;
/// Heavier fits mean infinite variance and would hide everything.
const SHAPE_MAX: f64 = 0.5;

/// A generalised Pareto distribution over excesses.
pub(crate) struct Pareto {
    shape: f64,
    scale: f64,
    /// Pace of the decline beyond the largest value, and the number of values that it rests on.
    pace: f64,
    support: f64,
}

impl Pareto {
    /// `values` descending, none below the threshold. A mean excess below `floor` counts as `floor`: values that happen to
    /// be equal have no scale.
    pub(crate) fn fit(values: &[f32], threshold: f32, floor: f64) -> Self {
        let support = values.len().max(1) as f64;
        let (mut mean, mut weighted, mut reach) = (0.0, 0.0, 0f64);
        for (rank, &value) in values.iter().enumerate() {
            let excess = f64::from(value) - f64::from(threshold);
            mean += excess / support;
            // The part of the excesses that lies above this one.
            weighted += excess * (rank as f64 + 0.35) / support / support;
            reach = reach.max(excess);
        }
        let mean = mean.max(floor).max(f64::MIN_POSITIVE);
        let raw = if mean > 2.0 * weighted { 2.0 - mean / (mean - 2.0 * weighted) } else { 0.0 };
        let shrunk = (raw.clamp(-SHAPE_MAX, SHAPE_MAX) * support + SHAPE_PRIOR * SHAPE_PRIOR_VALUES)
            / (support + SHAPE_PRIOR_VALUES);
        // 1 / support is the shape of the predictive distribution when the true tail is exponential.
        let shape = shrunk.max(1.0 / support).min(1.0);
        Self { shape, scale: mean * (1.0 - shape).max(0.5), pace: mean.max(reach / support.ln_1p()), support }
    }

    /// The chance that an excess is larger than `excess`, given that there is one.
    pub(crate) fn exceedance(&self, excess: f64) -> f64 {
        (1.0 + self.shape * excess / self.scale).powf(-1.0 / self.shape)
    }

    /// The chance to exceed the largest value by `beyond`, given that it is exceeded, that counting alone supports.
    pub(crate) fn beyond_largest(&self, beyond: f64) -> f64 {
        decline(beyond, self.pace, self.support)
    }
}

/// The predictive chance to exceed the largest value seen by `excess`, for an exponential tail whose scale was
/// estimated as `pace` from `support` values. 1 where there is no scale.
pub(crate) fn decline(excess: f64, pace: f64, support: f64) -> f64 {
    if pace > 0.0 { (1.0 + excess / (support * pace)).powf(-support) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::{
        Xoshiro256PlusPlus,
        rand_core::{RngCore, SeedableRng},
    };

    fn uniform(rng: &mut Xoshiro256PlusPlus) -> f64 {
        ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn exponential(chance: f64) -> f64 {
        -chance.ln()
    }

    fn heavy(chance: f64) -> f64 {
        (chance.powf(-0.25) - 1.0) / 0.25
    }

    fn bounded(chance: f64) -> f64 {
        (1.0 - chance.powf(0.25)) / 0.25
    }

    /// Upper quantile of the standard normal distribution: Abramowitz and Stegun 26.2.23, to 4.5e-4.
    fn gaussian(chance: f64) -> f64 {
        let (tail, sign) = if chance < 0.5 { (chance, 1.0) } else { (1.0 - chance, -1.0) };
        let t = (-2.0 * tail.ln()).sqrt();
        let above = 2.515_517 + 0.802_853 * t + 0.010_328 * t * t;
        let below = 1.0 + 1.432_788 * t + 0.189_269 * t * t + 0.001_308 * t * t * t;
        sign * (t - above / below)
    }

    /// Of 500 values of a known distribution the largest 32 are fitted, many times over; gives the median of what is then
    /// said of the true quantile of `chance`, as a multiple of it.
    fn said(quantile: fn(f64) -> f64, chance: f64) -> f64 {
        const VALUES: usize = 500;
        const FITTED: usize = 32;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(11);
        let mut said: Vec<f64> = (0..301)
            .map(|_| {
                let mut values: Vec<f32> = (0..VALUES).map(|_| quantile(uniform(&mut rng)) as f32).collect();
                values.sort_unstable_by(|a, b| b.total_cmp(a));
                let threshold = values[FITTED];
                let fit = Pareto::fit(&values[..FITTED], threshold, 0.0);
                let excess = quantile(chance) - f64::from(threshold);
                FITTED as f64 / VALUES as f64 * fit.exceedance(excess) / chance
            })
            .collect();
        said.sort_by(f64::total_cmp);
        said[said.len() / 2]
    }

    #[test]
    fn knows_the_quantiles_of_known_distributions() {
        let tails = [("exponential", exponential as fn(f64) -> f64), ("heavy", heavy), ("gaussian", gaussian)];
        for (name, quantile) in tails {
            for (chance, factor) in [(1e-2, 1.3), (1e-3, 2.5)] {
                let said = said(quantile, chance);
                assert!((1.0 / factor..=factor).contains(&said), "{name}: {said} of {chance}");
            }
        }
    }

    #[test]
    fn errs_towards_the_ordinary_where_the_tail_is_bounded_or_beyond_what_was_seen() {
        for (name, quantile) in [("bounded", bounded as fn(f64) -> f64), ("gaussian", gaussian)] {
            let said = said(quantile, 1e-4);
            assert!((1.0..200.0).contains(&said), "{name}: {said}");
        }
    }

    #[test]
    fn equal_values_take_the_floor_for_their_scale() {
        let fit = Pareto::fit(&[5.0; 8], 5.0, 0.5);
        let at = |excess: f64| fit.exceedance(excess);
        assert!((at(0.0) - 1.0).abs() < 1e-9 && at(0.5) > 0.1 && at(0.5) < 0.7 && at(50.0) < 1e-3, "{}", at(0.5));
    }
}
