//! The forest proper: groups of trees, each group over its own time-decaying random sample of what was seen.

use super::boxes::Lane;
use super::lockstep::{ABREAST, Ways, scores};
use super::points::Points;
use super::tree::{DIMS_MAX, Scratch, Tree};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;
use serde::{Deserialize, Serialize};

/// How large a forest is and how long it remembers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Groups of trees, each with its own sample, and trees per group.
    pub groups: usize,
    pub trees_per_group: usize,
    /// Samples per group, at most 256.
    pub samples: usize,
    /// Least chance of a point to enter a group's sample: what is remembered fades over `samples / accept_min` points.
    pub accept_min: f64,
    pub fading: Fading,
    /// Whether trees keep the bounding boxes of their nodes, for speed.
    pub boxes: bool,
}

/// From when on a sample fades.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fading {
    /// From the first point on: every point counts for less than the next one by the same factor.
    #[default]
    Always,
    /// From when the chance of a point is down to the least one; until then all points count alike.
    Late,
}

impl Plan {
    /// Of the `learned`th point to enter a group's sample, one of which is then dropped, each as likely as any other.
    fn chance(&self, learned: u32) -> f64 {
        let samples = self.samples as f64;
        match self.fading {
            Fading::Late => (samples / f64::from(learned)).max(self.accept_min),
            Fading::Always => {
                let kept = 1.0 - self.accept_min / samples;
                // Of all points so far, the newest counting one.
                let weight = (1.0 - kept.powi(learned.min(i32::MAX as u32) as i32)) / (1.0 - kept);
                samples / weight
            }
        }
    }
}

/// Trees over one sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Group {
    points: Points,
    trees: Vec<Tree>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ensemble {
    groups: Vec<Group>,
    /// Points learned so far.
    learned: u32,
}

/// What the forest says of one point.
pub struct Sighting {
    pub score: f64,
    /// The score's parts by coordinate, summed over the trees.
    pub shares: [f32; DIMS_MAX],
    /// The nearest leaf in each tree.
    pub neighbours: Vec<Neighbour>,
}

/// A leaf: its group, and its point there.
#[derive(Clone, Copy)]
pub struct Neighbour {
    group: u16,
    leaf: u8,
}

impl Ensemble {
    pub fn new(plan: &Plan, lanes: usize) -> Self {
        let group = Group { points: Points::new(lanes), trees: vec![Tree::default(); plan.trees_per_group] };
        Self { groups: vec![group; plan.groups], learned: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub fn learned(&self) -> u32 {
        self.learned
    }

    /// Samples that every group has at least.
    pub fn samples(&self) -> usize {
        self.groups.iter().map(|group| group.points.total()).min().unwrap_or(0)
    }

    pub fn coordinate(&self, neighbour: Neighbour, dim: usize) -> f32 {
        self.groups[usize::from(neighbour.group)].points.coordinate(neighbour.leaf, dim)
    }

    /// `None` while there is no sample.
    pub fn look(&self, point: &[Lane]) -> Option<Sighting> {
        let mut scratch = Scratch::default();
        let mut neighbours = Vec::with_capacity(self.groups.iter().map(|group| group.trees.len()).sum());
        let mut score = 0.0;
        for (index, group) in self.groups.iter().enumerate() {
            let scale = (1.0 + group.points.total() as f64).log2();
            for tree in &group.trees {
                let finding = tree.score::<true>(point, &group.points, &mut scratch)?;
                score += f64::from(finding.score) * scale;
                neighbours.push(Neighbour { group: index as u16, leaf: finding.neighbour });
            }
        }
        let trees = neighbours.len().max(1) as f64;
        (!neighbours.is_empty()).then_some(Sighting { score: score / trees, shares: scratch.shares, neighbours })
    }

    /// The score alone. `None` while there is no sample.
    pub fn score(&self, point: &[Lane]) -> Option<f64> {
        let mut trees = self.groups.iter().flat_map(|group| group.trees.iter().map(move |tree| (tree, &group.points)));
        let (mut scratch, mut ways) = (Scratch::default(), Ways::default());
        let (mut score, mut count) = (0.0, 0);
        let (mut total, mut scale) = (0, 0.0);
        while let Some(first) = trees.next() {
            let mut abreast = [first; ABREAST];
            let mut used = 1usize;
            for (place, tree) in abreast[1..].iter_mut().zip(&mut trees) {
                *place = tree;
                used += 1;
            }
            let found = if abreast.iter().all(|(tree, _)| tree.is_boxed()) {
                scores(abreast, point, &mut ways)
            } else {
                let mut found = [0.0; ABREAST];
                for (found, (tree, points)) in found.iter_mut().zip(abreast) {
                    *found = tree.score::<false>(point, points, &mut scratch)?.score;
                }
                found
            };
            for (found, (_, points)) in found.into_iter().zip(abreast).take(used) {
                if points.total() != total {
                    total = points.total();
                    scale = (1.0 + total as f64).log2();
                }
                score += f64::from(found) * scale;
            }
            count += used;
        }
        (count > 0).then(|| score / count as f64)
    }

    pub fn learn(&mut self, point: &[Lane], plan: &Plan, rng: &mut Xoshiro256PlusPlus) {
        self.learned = self.learned.saturating_add(1);
        let chance = plan.chance(self.learned);
        let mut scratch = Scratch::default();
        for group in &mut self.groups {
            if group.points.total() >= plan.samples {
                let drawn = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
                if drawn >= chance {
                    continue;
                }
                if let Some(old) = group.points.drop_random(rng) {
                    group.trees.iter_mut().for_each(|tree| tree.remove(old, &group.points, &mut scratch));
                }
            }
            // A point that is there already is where the cuts of any tree lead.
            let nearest = group.trees.first().and_then(|tree| tree.nearest(point));
            match nearest.filter(|&leaf| group.points.is_at(leaf, point)) {
                Some(known) => group.points.add_copy(known),
                None => {
                    let new = group.points.add(point);
                    for tree in &mut group.trees {
                        tree.insert(new, &group.points, plan.boxes, rng, &mut scratch);
                    }
                }
            }
        }
    }

    /// Makes the boxes that this plan keeps, which are not stored.
    pub fn keep_boxes(&mut self, plan: &Plan) {
        for group in self.groups.iter_mut().filter(|_| plan.boxes) {
            group.trees.iter_mut().for_each(|tree| tree.keep_boxes(&group.points));
        }
    }

    /// Whether it is a forest of this plan over points of so many lanes, no coordinate beyond `coordinate_max`.
    pub fn is_sound(&self, plan: &Plan, lanes: usize, coordinate_max: f32) -> bool {
        self.groups.len() == plan.groups
            && self.groups.iter().all(|group| {
                group.points.lanes() == lanes
                    && group.points.is_sound(plan.samples, coordinate_max)
                    && group.trees.len() == plan.trees_per_group
                    && group.trees.iter().all(|tree| tree.is_sound(&group.points))
            })
    }

    pub fn memory_bytes(&self, plan: &Plan, lanes: usize) -> usize {
        let trees = plan.trees_per_group * Tree::memory_bytes(plan.samples);
        self.groups.len() * (Points::memory_bytes(lanes, plan.samples) + trees)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::rand_core::SeedableRng;

    /// The older half of what was seen, in a forest that has seen twice as many points as it remembers well.
    #[test]
    fn samples_fade_as_the_plan_says() {
        let (seen, samples, accept_min) = (1_280u32, 64, 0.1);
        for (fading, expected) in [(Fading::Late, (-1.0f64).exp()), (Fading::Always, 1.0 / (1.0 + 1f64.exp()))] {
            let plan = Plan { groups: 200, trees_per_group: 1, samples, accept_min, fading, boxes: false };
            let (mut trees, mut rng) = (Ensemble::new(&plan, 1), Xoshiro256PlusPlus::seed_from_u64(1));
            for at in 0..seen {
                trees.learn(&[[at as f32, 0.0, 0.0, 0.0]], &plan, &mut rng);
            }
            let held = |group: &Group| -> Vec<f32> {
                group.trees[0].leaves.iter().map(|&leaf| group.points.coordinate(leaf, 0)).collect()
            };
            let held = trees.groups.iter().flat_map(held);
            let old = held.filter(|&at| at < seen as f32 / 2.0).count() as f64 / (200 * samples) as f64;
            assert!((old - expected).abs() < 0.02, "{fading:?}: {old} instead of {expected}");
        }
    }
}
