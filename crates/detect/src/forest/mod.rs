//! Random cut forest: unusual combinations of a thing's signals, with each signal's part in them.
//!
//! After Guha, Mishra, Roy and Schrijvers, "Robust random cut forest based anomaly detection on streams" (2016).
//! Departures, all for compact state: trees share points in groups; each group keeps its own time-decaying random
//! sample; few bounding boxes are kept, or none. A point is the regular signals of a thing, robustly normalised, with their
//! last values where there are few of them. Two statistics are judged, each by its own tail: the forest's score of
//! this reading, and its running mean, which shows what is only slightly odd but stays so.

mod boxes;
mod cut_forest;
mod ensemble;
mod grow;
mod lockstep;
mod model_file;
mod points;
mod tree;

use crate::Learn;
use crate::detector::{Detector, Input, Part, Reaction, Slot, VALUE_MAX};
use crate::tail::{TAIL_NEEDED, Tail};
use boxes::Lane;
pub use cut_forest::{FEATURES_MAX, ParameterError, Parameters, RandomCutForest};
use ensemble::{Ensemble, Fading, Plan, Sighting};
use kilter_core::Direction;
pub use model_file::MODEL_BYTES_MAX;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tree::DIMS_MAX;

/// Readings that are collected before dimensions and their scales are chosen.
const FORM_AFTER: usize = 64;
/// A signal is regular if it came with this part of the collected readings.
const REGULAR: f32 = 0.9;
/// What is remembered fades over 192 × 16 readings.
const PLAN: Plan =
    Plan { groups: 4, trees_per_group: 8, samples: 192, accept_min: 1.0 / 16.0, fading: Fading::Late, boxes: false };
/// Fewest samples that a score is given from.
const SAMPLES_MIN: usize = 48;
/// Coordinates that a point is filled up to with earlier values of its signals.
const SHINGLE_DIMS: usize = 8;
/// Readings over which the running mean of scores forgets.
const MEAN_MEMORY: f64 = 16.0;
/// Readings over which the presence of signals is averaged.
const PRESENCE_MEMORY: f32 = 256.0;
/// No reform sooner after the last than this many readings: the set must have changed durably.
const REFORM_AFTER: u32 = 2_048;
/// A coordinate this far out (in robust scales) on average means that the scale no longer fits.
const OUTGROWN: f32 = 8.0;

/// Up to so many scales coordinates are linear; beyond, logarithmic, so that one monstrous value does not swallow
/// all cuts.
const LINEAR: f64 = 4.0;
/// No coordinate is larger: ln of the largest value, and a little more.
const COORDINATE_MAX: f32 = 700.0;
/// A coordinate that moves less than this between readings (but does) is invisible beside the others.
const SHRUNK: f64 = 1e-7;

/// One signal as a coordinate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Dim {
    slot: Slot,
    centre: f64,
    scale: f64,
    /// The last value, in case the next reading lacks it.
    last: f64,
    /// Running means of the coordinate's magnitude, and of how much it moves (in scales).
    magnitude: f32,
    movement: f64,
    /// Earlier coordinates, latest first.
    earlier: Vec<f32>,
}

impl Dim {
    /// Whether the scale no longer has anything to do with the signal.
    fn is_misfit(&self) -> bool {
        self.magnitude > OUTGROWN || (self.movement > 0.0 && self.movement < SHRUNK)
    }

    fn coordinate(&self, value: f64) -> f32 {
        let z = ((value - self.centre) / self.scale).clamp(-VALUE_MAX, VALUE_MAX);
        let bent = if z.abs() <= LINEAR { z } else { z.signum() * (LINEAR + (z.abs() - LINEAR + 1.0).ln()) };
        bent as f32
    }

    fn value(&self, coordinate: f32) -> f64 {
        let bent = f64::from(coordinate);
        let z = if bent.abs() <= LINEAR {
            bent
        } else {
            bent.signum() * (LINEAR - 1.0 + (bent.abs() - LINEAR).min(f64::from(COORDINATE_MAX)).exp())
        };
        (self.centre + z * self.scale).clamp(-VALUE_MAX, VALUE_MAX)
    }
}

/// A robust random cut forest (Guha, Mishra, Roy and Schrijvers 2016) over the signals of a thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forest {
    rng: Xoshiro256PlusPlus,
    /// Readings waiting for the dimensions to be chosen; empty once they are.
    collected: Vec<Vec<(Slot, f64)>>,
    dims: Vec<Dim>,
    trees: Ensemble,
    /// Part of the recent readings that had each signal, by slot.
    presence: Vec<f32>,
    mean: f64,
    scores: Tail,
    means: Tail,
}

impl Forest {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            collected: Vec::new(),
            dims: Vec::new(),
            trees: Ensemble::default(),
            presence: Vec::new(),
            mean: 0.0,
            scores: Tail::default(),
            means: Tail::default(),
        }
    }

    /// Coordinates of one signal in a point: its value and so many earlier ones.
    fn shingle(&self) -> usize {
        (SHINGLE_DIMS / self.dims.len().max(1)).max(1)
    }

    fn lanes(&self) -> usize {
        (self.dims.len() * self.shingle()).div_ceil(4)
    }

    /// The reading as a point; only the first lanes are in use.
    fn point(&self, values: &[(Slot, f64)]) -> [Lane; DIMS_MAX / 4] {
        let mut point = [[0f32; 4]; DIMS_MAX / 4];
        let shingle = self.shingle();
        for (dim, place) in self.dims.iter().zip(point.as_flattened_mut().chunks_exact_mut(shingle)) {
            place[0] = dim.coordinate(value_of(values, dim.slot).unwrap_or(dim.last));
            place[1..].copy_from_slice(&dim.earlier);
        }
        point
    }

    /// `None` while there are too few samples.
    fn look(&self, point: &[Lane]) -> Option<Sighting> {
        if self.trees.samples() < SAMPLES_MIN { None } else { self.trees.look(point) }
    }

    fn mean_with(&self, score: f64) -> f64 {
        self.mean + (score - self.mean) / MEAN_MEMORY.min(f64::from(self.trees.learned().max(1)))
    }

    /// The signals that made the point odd, and what its neighbours have in their place.
    fn parts(&self, input: &Input<'_>, sighting: &Sighting) -> [Option<Part>; crate::CAUSES_MAX] {
        let shingle = self.shingle();
        let mut order: Vec<(f64, usize)> = sighting.shares[..self.dims.len() * shingle]
            .chunks_exact(shingle)
            .enumerate()
            .map(|(i, lags)| (lags.iter().map(|&share| f64::from(share)).sum(), i))
            .collect();
        let total: f64 = order.iter().map(|(share, _)| share).sum();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut parts = [None; crate::CAUSES_MAX];
        for (part, (share, i)) in parts.iter_mut().zip(order) {
            let dim = &self.dims[i];
            let mut near: Vec<f32> =
                sighting.neighbours.iter().map(|&neighbour| self.trees.coordinate(neighbour, i * shingle)).collect();
            near.sort_unstable_by(f32::total_cmp);
            let expected = [near[near.len() / 10], near[near.len() - 1 - near.len() / 10]].map(|x| dim.value(x));
            let value = value_of(input.values, dim.slot).unwrap_or(dim.last);
            let direction = match (value < expected[0], value > expected[1]) {
                (true, _) => Direction::Low,
                (_, true) => Direction::High,
                _ => Direction::Odd,
            };
            let share = if total > 0.0 { share / total } else { 1.0 / self.dims.len() as f64 };
            *part = Some(Part { slot: dim.slot, share, direction, value, expected });
        }
        parts
    }

    fn note_presence(&mut self, values: &[(Slot, f64)]) {
        for presence in &mut self.presence {
            *presence -= *presence / PRESENCE_MEMORY;
        }
        for &(slot, _) in values {
            let slot = usize::from(slot);
            if slot >= self.presence.len() {
                self.presence.resize(slot + 1, 0.0);
            }
            self.presence[slot] += 1.0 / PRESENCE_MEMORY;
        }
    }

    /// Whether the signals, or their ranges, are durably others than those the forest was formed for.
    fn is_outdated(&self) -> bool {
        if self.trees.learned() < REFORM_AFTER {
            return false;
        }
        let present = |slot: Slot| self.presence.get(usize::from(slot)).copied().unwrap_or(0.0);
        let gone = self.dims.iter().any(|dim| present(dim.slot) < 0.02);
        let regular = self.presence.iter().filter(|&&presence| presence > 0.98).count().min(DIMS_MAX);
        gone || regular > self.dims.len() || self.dims.iter().any(Dim::is_misfit)
    }

    /// Chooses dimensions and scales from the collected readings, then learns those.
    fn form(&mut self) {
        let collected = std::mem::take(&mut self.collected);
        let mut by_slot: BTreeMap<Slot, Vec<f64>> = BTreeMap::new();
        for &(slot, value) in collected.iter().flatten() {
            by_slot.entry(slot).or_default().push(value);
        }
        by_slot.retain(|_, values| values.len() as f32 >= REGULAR * FORM_AFTER as f32);
        self.dims = by_slot.into_iter().take(DIMS_MAX).map(|(slot, values)| formed(slot, values)).collect();
        let shingle = self.shingle();
        for dim in &mut self.dims {
            dim.earlier = vec![dim.coordinate(dim.last); shingle - 1];
        }
        self.trees = if self.dims.is_empty() { Ensemble::default() } else { Ensemble::new(&PLAN, self.lanes()) };
        for values in &collected {
            let point = self.point(values);
            self.trees.learn(&point[..self.lanes()], &PLAN, &mut self.rng);
            self.move_on(values);
        }
    }

    /// Last values and earlier coordinates.
    fn move_on(&mut self, values: &[(Slot, f64)]) {
        for dim in &mut self.dims {
            let value = value_of(values, dim.slot).unwrap_or(dim.last);
            let moved = ((value - dim.last) / dim.scale).abs().min(1.0);
            dim.movement += (moved - dim.movement) / f64::from(PRESENCE_MEMORY);
            dim.last = value;
            let coordinate = dim.coordinate(dim.last);
            dim.magnitude += (coordinate.abs() - dim.magnitude) / PRESENCE_MEMORY;
            if let Some(oldest) = dim.earlier.last_mut() {
                *oldest = coordinate;
                dim.earlier.rotate_right(1);
            }
        }
    }
}

fn value_of(values: &[(Slot, f64)], slot: Slot) -> Option<f64> {
    values.binary_search_by_key(&slot, |&(slot, _)| slot).ok().map(|at| values[at].1)
}

/// A dimension scaled by the quartiles of what was collected.
fn formed(slot: Slot, mut values: Vec<f64>) -> Dim {
    let first = values.first().copied().unwrap_or(0.0);
    values.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| values[((values.len() - 1) as f64 * part) as usize];
    let centre = at(0.5);
    /// Of a normal distribution: 1.35 standard deviations lie between the quartiles.
    const QUARTILES: f64 = 1.35;
    let spread = (at(0.75) - at(0.25)) / QUARTILES;
    let extremes = (at(1.0) - at(0.0)) / 8.0;
    // A flat signal is measured against its own magnitude: a hundredth of it, or one unit around zero.
    let flat = if centre == 0.0 { 1.0 } else { 0.01 * centre.abs() };
    let scale = if spread.max(extremes) > 1e-9 * centre.abs() { spread.max(extremes) } else { flat };
    Dim {
        slot,
        centre,
        scale: scale.clamp(f64::MIN_POSITIVE, VALUE_MAX),
        last: first,
        magnitude: 0.0,
        movement: 1.0,
        earlier: Vec::new(),
    }
}

impl Detector for Forest {
    const NAME: &'static str = "forest";

    fn score(&self, input: &Input<'_>) -> Reaction {
        let needed = FORM_AFTER as u32 + TAIL_NEEDED;
        let seen = self.collected.len() as u32 + self.scores.count();
        if self.dims.is_empty() {
            return Reaction::warming(seen, needed, 0.0);
        }
        let point = self.point(input.values);
        let Some(sighting) = self.look(&point[..self.lanes()]) else { return Reaction::warming(seen, needed, 0.0) };
        let now = self.scores.score(sighting.score);
        let lasting = self.means.score(self.mean_with(sighting.score));
        let (Some(now), Some(lasting)) = (now, lasting) else {
            return Reaction::warming(FORM_AFTER as u32 + self.scores.count(), needed, sighting.score);
        };
        let score = if now >= lasting { now } else { lasting };
        Reaction::found(score, sighting.score, self.parts(input, &sighting))
    }

    fn learn(&mut self, input: &Input<'_>, seen: &Reaction, mode: Learn) {
        if mode == Learn::Hold {
            if seen.raw > 0.0 {
                self.mean = self.mean_with(seen.raw);
            }
            self.scores.hold();
            self.means.hold();
            self.move_on(input.values);
            return;
        }
        self.note_presence(input.values);
        if self.is_outdated() {
            self.dims.clear();
            self.trees = Ensemble::default();
            self.scores = Tail::default();
            self.means = Tail::default();
        }
        if self.dims.is_empty() {
            self.collected.push(input.values.iter().take(crate::SIGNALS_MAX).copied().collect());
            if self.collected.len() >= FORM_AFTER {
                self.form();
            }
            return;
        }
        if seen.raw > 0.0 {
            self.mean = self.mean_with(seen.raw);
            self.scores.learn(seen.raw, input.readings_per_week);
            self.means.learn(self.mean, input.readings_per_week);
        }
        let point = self.point(input.values);
        self.trees.learn(&point[..self.lanes()], &PLAN, &mut self.rng);
        self.move_on(input.values);
    }

    fn forget(&mut self, slot: Slot) {
        if let Some(presence) = self.presence.get_mut(usize::from(slot)) {
            *presence = 0.0;
        }
        if self.dims.iter().any(|dim| dim.slot == slot) {
            self.dims.clear();
            self.trees = Ensemble::default();
        }
        for values in &mut self.collected {
            values.retain(|&(other, _)| other != slot);
        }
    }

    fn is_sound(&self) -> bool {
        let lanes = self.lanes();
        let shingle = self.shingle();
        let dims_fit = self.dims.len() <= DIMS_MAX
            && self.dims.is_sorted_by(|a, b| a.slot < b.slot)
            && self.dims.iter().all(|dim| {
                dim.centre.abs() <= VALUE_MAX
                    && (f64::MIN_POSITIVE..=VALUE_MAX).contains(&dim.scale)
                    && dim.last.abs() <= VALUE_MAX
                    && dim.magnitude.is_finite()
                    && dim.movement.is_finite()
                    && dim.earlier.len() == shingle - 1
                    && dim.earlier.iter().all(|x| x.abs() <= COORDINATE_MAX)
            });
        let trees_fit = if self.dims.is_empty() {
            self.trees.is_empty()
        } else {
            self.trees.is_sound(&PLAN, lanes, COORDINATE_MAX)
        };
        dims_fit
            && trees_fit
            && self.collected.len() <= FORM_AFTER
            && self.collected.iter().all(|values| values.len() <= crate::SIGNALS_MAX)
            && self.collected.iter().flatten().all(|(_, value)| value.abs() <= VALUE_MAX)
            && self.presence.len() <= usize::from(Slot::MAX)
            && self.presence.iter().all(|x| (0.0..=2.0).contains(x))
            && (0.0..1e6).contains(&self.mean)
            && self.scores.is_sound()
            && self.means.is_sound()
    }

    fn memory_bytes(&self) -> usize {
        let collected: usize = self.collected.iter().map(|values| 24 + values.len() * 16).sum();
        size_of::<Self>()
            + collected
            + self.dims.len() * (size_of::<Dim>() + self.shingle() * 4)
            + self.trees.memory_bytes(&PLAN, self.lanes())
            + self.presence.len() * 4
            + 2 * Tail::memory_bytes()
    }
}
