//! The random cut forest by itself, with the parameters that the literature and SageMaker's built-in algorithm name.

use super::boxes::Lane;
use super::ensemble::{Ensemble, Fading, Plan};
use super::tree::DIMS_MAX;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// Most features of a point.
pub const FEATURES_MAX: usize = DIMS_MAX;
/// Larger magnitudes are taken as this one, so that boxes have finite sides.
const FEATURE_MAX: f64 = 1e30;
/// Most trees, and most samples of each.
const TREES_MAX: usize = 1_000;
const SAMPLES_MAX: usize = 256;
/// What is remembered fades over ten times the sample.
const ACCEPT_MIN: f64 = 0.1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Features of a point, 1 to [`FEATURES_MAX`].
    pub features: usize,
    /// Trees, each over a sample of its own, 1 to 1000.
    pub trees: usize,
    /// Samples per tree, 1 to 256.
    pub samples: usize,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParameterError {
    #[error("{0} features: a point has 1 to {FEATURES_MAX}")]
    Features(usize),
    #[error("{0} trees: a forest has 1 to {TREES_MAX}")]
    Trees(usize),
    #[error("{0} samples per tree: a tree has 1 to {SAMPLES_MAX}")]
    Samples(usize),
}

/// Points come in the order of time; older ones fade from the trees' samples.
///
/// The score of a point is the expected inverse depth at which random cuts isolate it, times log2 of the sample's size
/// plus one, averaged over the trees: around 1 for ordinary points, above for unusual ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RandomCutForest {
    parameters: Parameters,
    rng: Xoshiro256PlusPlus,
    trees: Ensemble,
    /// Where it is stored, the version says which.
    #[serde(skip)]
    pub(super) fading: Fading,
}

impl RandomCutForest {
    pub fn new(parameters: Parameters, seed: u64) -> Result<Self, ParameterError> {
        let Parameters { features, trees, samples } = parameters;
        if !(1..=FEATURES_MAX).contains(&features) {
            return Err(ParameterError::Features(features));
        }
        if !(1..=TREES_MAX).contains(&trees) {
            return Err(ParameterError::Trees(trees));
        }
        if !(1..=SAMPLES_MAX).contains(&samples) {
            return Err(ParameterError::Samples(samples));
        }
        let (rng, fading) = (Xoshiro256PlusPlus::seed_from_u64(seed), Fading::Always);
        let trees = Ensemble::new(&plan(parameters, fading), features.div_ceil(4));
        Ok(Self { parameters, rng, trees, fading })
    }

    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// `None` while nothing was learned, or if the point has another number of features or one that is not finite.
    pub fn score(&self, point: &[f64]) -> Option<f64> {
        self.trees.score(&self.lanes(point)?)
    }

    /// Says whether the point was usable: as many features as the forest has, all finite.
    pub fn learn(&mut self, point: &[f64]) -> bool {
        let Some(point) = self.lanes(point) else { return false };
        self.trees.learn(&point, &plan(self.parameters, self.fading), &mut self.rng);
        true
    }

    /// Whether restored state keeps every invariant that the code relies on.
    pub fn is_sound(&self) -> bool {
        let (plan, lanes) = (plan(self.parameters, self.fading), self.parameters.features.div_ceil(4));
        Self::new(self.parameters, 0).is_ok() && self.trees.is_sound(&plan, lanes, FEATURE_MAX as f32)
    }

    /// After state was restored: makes what is kept for speed alone.
    pub(super) fn keep_boxes(&mut self) {
        self.trees.keep_boxes(&plan(self.parameters, self.fading));
    }

    fn lanes(&self, point: &[f64]) -> Option<Vec<Lane>> {
        if point.len() != self.parameters.features {
            return None;
        }
        let mut lanes = vec![[0f32; 4]; point.len().div_ceil(4)];
        for (lane, &x) in lanes.as_flattened_mut().iter_mut().zip(point) {
            *lane = x.is_finite().then_some(x.clamp(-FEATURE_MAX, FEATURE_MAX) as f32)?;
        }
        Some(lanes)
    }
}

fn plan(parameters: Parameters, fading: Fading) -> Plan {
    Plan {
        groups: parameters.trees,
        trees_per_group: 1,
        samples: parameters.samples,
        accept_min: ACCEPT_MIN,
        fading,
        boxes: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Parameters = Parameters { features: 5, trees: 50, samples: 256 };

    /// A cloud around zero.
    fn learned() -> RandomCutForest {
        let mut forest = RandomCutForest::new(SMALL, 7).unwrap();
        for i in 0..1_000u32 {
            let point = [13, 29, 31, 37, 41].map(|prime| f64::from(i * prime % 101) / 100.0 - 0.5);
            assert!(forest.learn(&point));
        }
        forest
    }

    #[test]
    fn an_unusual_point_scores_higher_and_state_goes_on_after_a_restore() {
        let mut forest = learned();
        let (ordinary, unusual) = ([0.1; 5], [0.1, 0.1, 3.0, 0.1, 0.1]);
        let (low, high) = (forest.score(&ordinary).unwrap(), forest.score(&unusual).unwrap());
        assert!(high > 2.0 * low, "{high} against {low}");
        let mut again: RandomCutForest = postcard::from_bytes(&postcard::to_stdvec(&forest).unwrap()).unwrap();
        assert!(again.is_sound() && again == forest);
        for point in [ordinary, unusual, [f64::MAX; 5], [f64::MIN; 5]] {
            assert_eq!(forest.score(&point).unwrap().to_bits(), again.score(&point).unwrap().to_bits());
            assert!(forest.learn(&point) && again.learn(&point));
        }
        assert!(again.is_sound() && again == forest);
    }

    #[test]
    fn what_is_no_point_is_refused_and_bounds_are_named() {
        let mut forest = RandomCutForest::new(SMALL, 7).unwrap();
        assert_eq!(forest.score(&[0.0; 5]), None, "nothing was learned");
        for point in [&[0.0; 4][..], &[0.0; 6], &[0.0, f64::NAN, 0.0, 0.0, 0.0], &[f64::INFINITY; 5]] {
            assert!(!forest.learn(point) && forest.score(point).is_none());
        }
        let refused = |features, trees, samples| RandomCutForest::new(Parameters { features, trees, samples }, 1).err();
        assert_eq!(refused(33, 50, 256), Some(ParameterError::Features(33)));
        assert_eq!(refused(32, 1_001, 256), Some(ParameterError::Trees(1_001)));
        assert_eq!(refused(32, 1_000, 257), Some(ParameterError::Samples(257)));
        assert_eq!(refused(32, 1_000, 256), None);
    }
}
