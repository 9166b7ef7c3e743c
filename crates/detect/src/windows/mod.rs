//! Windows: how far is what the signal has just done from everything it did while it was known to be normal?
//!
//! A nearest-neighbour ensemble: the signal's last 8, 24, 64 and 192 readings, averaged down to 32 coordinates and
//! centred, are compared with a reservoir of such windows from the thing's commissioning, once as they are and once
//! z-normalised (1-NN over subsequences: Yeh et al. 2016, "Matrix Profile I"; its place among the best of the
//! published detectors: Liu and Paparrizos 2024, "The Elephant in the Room", TSB-AD). Each of the eight distances is
//! divided by the edge that accepted-normal readings reach; their mean is the oddness.
//!
//! At once a reading is judged by the windows that end with it. Settled, 191 readings later, it is judged by all
//! windows that contain it, which tells where an anomaly begins and ends.

mod reservoir;
mod search;
mod shape;

use crate::detector::{Detector, Input, Part, Reaction, VALUE_MAX, WORK_MAX};
use crate::tail::{TAIL_NEEDED, Tail};
use crate::yardstick::Yardstick;
use crate::{COMMISSIONING_READINGS, Learn};
use kilter_core::Direction;
use reservoir::{MOMENTS_MAX, Reservoir};
use search::Nearest;
use serde::{Deserialize, Serialize};
use shape::{LONGEST, SCALES, Shape};
use std::collections::VecDeque;

/// Readings that are collected before the signal's place and scale are chosen.
const FORM_AFTER: usize = 64;
/// Distances per reading: every scale, raw and normalised.
const DISTANCES: usize = 2 * SCALES.len();
const _: () = assert!(DISTANCES == WORK_MAX, "all distances go from score to learn");
/// Moments in the reservoir before distances to it mean anything.
const MOMENTS_MIN: usize = 64;
/// Distances that the yardsticks have seen before anything is judged by them.
const MEASURED_MIN: u32 = 64;
/// A window enters the reservoir this many readings late, so that no window is compared with itself.
const DELAY: usize = LONGEST;
/// Readings that are remembered: the window in question and the one that enters the reservoir.
const HISTORY: usize = LONGEST + DELAY;
/// An edge below this part of the signal's deviation is quantisation, not a property of the signal.
const EDGE_MIN: f64 = 0.02;
/// Oddness up to here, half of what normal readings reach, is all alike to the tail: it must not rank the ordinary.
const ALIKE: f64 = 0.5;
/// A window's own deviation counts as at least this part of the signal's when it is normalised.
const FLAT: f64 = 0.1;
/// After commissioning, a reading counts for learning with this weight if it is within the edge of normal, else with 1 …
const ACCEPTED_WEIGHT: u32 = 8;
/// … and one moment enters the reservoir, in place of the oldest, whenever so much weight has come together: a process
/// that slowly becomes another one is followed in some 16,000 readings, and what is odd is not soon taken for normal.
const MOMENT_WEIGHT: u32 = 16 * ACCEPTED_WEIGHT;
/// A signal whose changes are invisible at its scale, or that is outside of it by so many deviations …
const OUTGROWN: f64 = 100.0;
const INVISIBLE: f64 = 1e-7;
/// … in this many readings more than not, is another signal now: everything is learned anew.
const MISFITS_MAX: u32 = 512;
/// The reservoir is adapted when the signal's deviation has changed by this factor.
const DEVIATION_CHANGED: f64 = 1.1;
/// Coordinates beyond this say nothing but "absurd", and their squares must stay finite.
const COORDINATE_MAX: f32 = 1e9;

/// Nearest neighbours of subsequences (Yeh et al. 2016), of four lengths, as they are and z-normalised.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Windows {
    stored: Stored,
}

/// The state; what follows from it is computed when it is read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Stored {
    /// Readings waiting for place and scale; empty once these are known.
    collected: Vec<f64>,
    place: f64,
    /// 0 before it is known.
    scale: f64,
    /// The last readings, placed and scaled, latest last.
    recent: VecDeque<f32>,
    /// Readings learned as normal, and their mean and sum of squared deviations, placed and scaled.
    learned: u32,
    mean: f64,
    deviations: f64,
    /// A moment enters the reservoir every so many learned readings.
    stride: u32,
    reservoir: Reservoir,
    yardsticks: [Yardstick; DISTANCES],
    /// The last readings' distances as multiples of their edges, latest last; as many as the longest window.
    measured: VecDeque<[f32; DISTANCES]>,
    tail: Tail,
    /// Weight of readings since a moment was last learned, and the number of the moment that is next to go.
    weight: u32,
    next: u32,
    /// Readings since commissioning, at most [`DELAY`]: so long windows of it are still to enter the reservoir.
    since: u32,
    /// The signal's last value, and how many more readings did not fit the scale than did.
    last: f64,
    misfits: u32,
}

impl From<Stored> for Windows {
    fn from(mut stored: Stored) -> Self {
        if stored.reservoir.is_sound() {
            stored.reservoir.complete();
        }
        Self { stored }
    }
}

impl From<Windows> for Stored {
    fn from(windows: Windows) -> Self {
        windows.stored
    }
}

impl Windows {
    /// Whether the yardsticks have seen enough to judge by.
    fn is_ready(&self) -> bool {
        self.stored.yardsticks[0].seen() >= MEASURED_MIN
    }

    fn coordinate(&self, value: f64) -> f32 {
        let z = (value - self.stored.place) / self.stored.scale;
        (z as f32).clamp(-COORDINATE_MAX, COORDINATE_MAX)
    }

    /// The signal's deviation in its own scale.
    fn deviation(&self) -> f64 {
        (self.stored.deviations / f64::from(self.stored.learned.max(1))).sqrt()
    }

    /// The last readings with one more, if that fills the longest window.
    fn window(&self, value: f64) -> Option<[f32; LONGEST]> {
        let recent = &self.stored.recent;
        if self.stored.scale <= 0.0 || recent.len() < LONGEST - 1 {
            return None;
        }
        let mut window = [0f32; LONGEST];
        let earlier = recent.iter().skip(recent.len() - (LONGEST - 1));
        window.iter_mut().zip(earlier).for_each(|(place, x)| *place = *x);
        window[LONGEST - 1] = self.coordinate(value);
        Some(window)
    }

    fn measure(&self, distances: &[f32; DISTANCES]) -> [f32; DISTANCES] {
        let raw_floor = EDGE_MIN * self.deviation();
        let mut measured = [0f32; DISTANCES];
        for (i, place) in measured.iter_mut().enumerate() {
            let floor = if i % 2 == 0 { raw_floor } else { EDGE_MIN };
            *place = self.stored.yardsticks[i].measure(f64::from(distances[i]), floor).min(f64::from(f32::MAX)) as f32;
        }
        measured
    }

    /// The oddness of the reading [`LONGEST`] − 1 readings ago by all windows that contain it.
    fn settled(&self, now: &[f32; DISTANCES]) -> Option<f64> {
        let measured = &self.stored.measured;
        if measured.len() < LONGEST {
            return None;
        }
        let mut sums = [0f64; DISTANCES];
        // The oldest but one and what follows it, up to now.
        for (age, distances) in measured.iter().skip(1).chain([now]).enumerate() {
            for (scale, length) in SCALES.iter().enumerate() {
                if age < *length {
                    sums[2 * scale] += f64::from(distances[2 * scale]);
                    sums[2 * scale + 1] += f64::from(distances[2 * scale + 1]);
                }
            }
        }
        let means = sums.iter().enumerate().map(|(i, sum)| sum / SCALES[i / 2] as f64);
        Some(means.sum::<f64>() / DISTANCES as f64)
    }

    /// What the signal did where it was most like now, at the scale that finds now oddest.
    fn part(&self, input: &Input<'_>, window: &[f32; LONGEST], found: &[Nearest], measured: &[f32]) -> Option<Part> {
        let &(slot, value) = input.values.first()?;
        let surprise = |scale: usize| measured[2 * scale].max(measured[2 * scale + 1]);
        let scale = (0..SCALES.len()).max_by(|&a, &b| surprise(a).total_cmp(&surprise(b)))?;
        let middle = Shape::of(window, scale).mean + self.stored.reservoir.end_of(found[scale].moment, scale);
        let edge = self.stored.yardsticks[2 * scale].edge().max(EDGE_MIN * self.deviation());
        let at = |x: f64| (self.stored.place + x * self.stored.scale).clamp(-VALUE_MAX, VALUE_MAX);
        let expected = [at(f64::from(middle) - edge), at(f64::from(middle) + edge)];
        let direction = match (value < expected[0], value > expected[1]) {
            (true, _) => Direction::Low,
            (_, true) => Direction::High,
            _ => Direction::Odd,
        };
        Some(Part { slot, share: 1.0, direction, value, expected })
    }

    /// Chooses place and scale from what was collected.
    fn form(&mut self) {
        let collected = std::mem::take(&mut self.stored.collected);
        let mut sorted = collected.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let middle = sorted[sorted.len() / 2];
        let spread = (sorted[sorted.len() - 1] - sorted[0]) / 4.0;
        // A signal that stands still is measured against its own magnitude: a hundredth of it, or one unit around zero.
        let still = if middle == 0.0 { 1.0 } else { 0.01 * middle.abs() };
        let scale = if spread > 1e-9 * middle.abs() { spread } else { still };
        self.stored.place = middle;
        self.stored.scale = scale.clamp(f64::MIN_POSITIVE, VALUE_MAX);
        self.stored.stride = 1;
        for value in collected {
            let x = self.coordinate(value);
            self.take_in(x);
            self.push(x);
        }
    }

    /// Learns the deviation, and keeps the windows that ended [`DELAY`] readings ago when their turn has come.
    fn take_in(&mut self, x: f32) {
        let stored = &mut self.stored;
        stored.learned = stored.learned.saturating_add(1);
        stored.since = 0;
        let error = f64::from(x) - stored.mean;
        stored.mean += error / f64::from(stored.learned);
        stored.deviations += error * (f64::from(x) - stored.mean);
        let number = stored.learned;
        self.enter(number);
    }

    /// Puts the moment that is due into the reservoir, thinning it when it is full.
    fn enter(&mut self, number: u32) {
        let stored = &mut self.stored;
        if stored.recent.len() < HISTORY || !number.is_multiple_of(stored.stride.max(1)) {
            return;
        }
        if stored.reservoir.len() >= MOMENTS_MAX {
            stored.reservoir.thin();
            stored.stride = stored.stride.saturating_mul(2);
        }
        self.keep(None);
    }

    /// Learns a reading that comes after commissioning: few of them, and of those that look odd fewer.
    fn follow(&mut self, seen: &Reaction) {
        let stored = &mut self.stored;
        stored.weight += if seen.raw <= 1.0 { ACCEPTED_WEIGHT } else { 1 };
        if stored.weight < MOMENT_WEIGHT || stored.recent.len() < HISTORY {
            return;
        }
        stored.weight = 0;
        for (yardstick, &distance) in stored.yardsticks.iter_mut().zip(&seen.work) {
            yardstick.learn(f64::from(distance));
        }
        let oldest = stored.next as usize % stored.reservoir.len().max(1);
        stored.next = oldest as u32 + 1;
        let room = stored.reservoir.len() < MOMENTS_MAX;
        self.keep(if room { None } else { Some(oldest) });
    }

    /// Puts the windows that ended [`DELAY`] readings ago into the reservoir.
    fn keep(&mut self, instead_of: Option<usize>) {
        let stored = &mut self.stored;
        let earlier: Vec<f32> = stored.recent.iter().take(LONGEST).copied().collect();
        let shapes = std::array::from_fn(|scale| Shape::of(&earlier, scale));
        stored.reservoir.keep(&shapes, instead_of);
        let (floor, now) = (f64::from(self.stored.reservoir.floor()), FLAT * self.deviation());
        if now > floor * DEVIATION_CHANGED || now * DEVIATION_CHANGED < floor {
            self.stored.reservoir.set_floor((now as f32).min(COORDINATE_MAX));
        }
    }

    /// Whether place and scale no longer have anything to do with the signal.
    fn is_misfit(&mut self, x: f32, value: f64) -> bool {
        let (deviation, mean) = (self.deviation(), self.stored.mean);
        let before = self.stored.recent.back().copied().unwrap_or(x);
        let moved = f64::from((x - before).abs());
        let invisible = value != self.stored.last && moved < INVISIBLE * deviation;
        let outgrown = deviation > 0.0 && (f64::from(x) - mean).abs() > OUTGROWN * deviation;
        let misfits = self.stored.misfits;
        self.stored.misfits = if invisible || outgrown { misfits + 1 } else { misfits.saturating_sub(1) };
        self.stored.last = value;
        self.stored.misfits >= MISFITS_MAX
    }

    fn push(&mut self, x: f32) {
        let recent = &mut self.stored.recent;
        if recent.len() >= HISTORY {
            recent.pop_front();
        }
        recent.push_back(x);
    }
}

impl Detector for Windows {
    const NAME: &'static str = "windows";

    fn score(&self, input: &Input<'_>) -> Reaction {
        let needed = (HISTORY + MOMENTS_MIN) as u32 + MEASURED_MIN + TAIL_NEEDED;
        let seen = self.stored.learned.min(needed - TAIL_NEEDED) + self.stored.tail.count().min(TAIL_NEEDED);
        let silent = Reaction::warming(seen.min(needed - 1), needed, 0.0);
        let Some(&(_, value)) = input.values.first() else { return silent };
        if self.stored.reservoir.len() < MOMENTS_MIN {
            return silent;
        }
        let Some(window) = self.window(value) else { return silent };
        let found: [Nearest; SCALES.len()] =
            std::array::from_fn(|scale| self.stored.reservoir.nearest(&Shape::of(&window, scale), scale));
        let mut work = [0f32; WORK_MAX];
        for (pair, nearest) in work.as_chunks_mut::<2>().0.iter_mut().zip(&found) {
            *pair = [nearest.raw, nearest.normalised];
        }
        if !self.is_ready() {
            return Reaction { work, ..silent };
        }
        let measured = self.measure(&work);
        let oddness = measured.iter().map(|&x| f64::from(x)).sum::<f64>() / DISTANCES as f64;
        let mut reaction =
            match (self.stored.tail.score(oddness.max(ALIKE)), self.part(input, &window, &found, &measured)) {
                (Some(score), Some(part)) => Reaction::scored(score, oddness, part),
                _ => Reaction { raw: oddness, ..silent },
            };
        if !input.commissioning {
            reaction.oddness = Some(oddness);
            reaction.settled = self.settled(&measured);
        }
        Reaction { work, ..reaction }
    }

    fn learn(&mut self, input: &Input<'_>, seen: &Reaction, mode: Learn) {
        let Some(&(_, value)) = input.values.first() else { return };
        if self.stored.scale <= 0.0 {
            self.stored.collected.push(value);
            if self.stored.collected.len() >= FORM_AFTER {
                self.form();
            }
            return;
        }
        if self.is_ready() {
            let measured = if input.commissioning { [0.0; DISTANCES] } else { self.measure(&seen.work) };
            if self.stored.measured.len() >= LONGEST {
                self.stored.measured.pop_front();
            }
            self.stored.measured.push_back(measured);
            match mode {
                Learn::Full => self.stored.tail.learn(seen.raw.max(ALIKE), input.readings_per_week),
                Learn::Hold => self.stored.tail.hold(),
            }
        }
        let x = self.coordinate(value);
        if self.is_misfit(x, value) {
            *self = Self::default();
            return;
        }
        let learning = input.commissioning || self.stored.learned < COMMISSIONING_READINGS || !self.is_ready();
        if !learning && self.stored.since < DELAY as u32 {
            self.stored.since += 1;
            self.enter(self.stored.learned.saturating_add(self.stored.since));
        } else if !learning && mode == Learn::Full {
            self.follow(seen);
        }
        if learning && mode == Learn::Full {
            if self.stored.reservoir.len() >= MOMENTS_MIN {
                for (yardstick, &distance) in self.stored.yardsticks.iter_mut().zip(&seen.work) {
                    yardstick.learn(f64::from(distance));
                }
            }
            self.take_in(x);
        }
        self.push(x);
    }

    fn lag(&self) -> u32 {
        LONGEST as u32 - 1
    }

    fn is_sound(&self) -> bool {
        let stored = &self.stored;
        let bounded = |x: &f32| x.is_finite() && x.abs() <= COORDINATE_MAX;
        let scaled = stored.scale == 0.0 && stored.recent.is_empty() && stored.reservoir.len() == 0
            || stored.collected.is_empty() && (f64::MIN_POSITIVE..=VALUE_MAX).contains(&stored.scale);
        scaled
            && stored.collected.len() < FORM_AFTER
            && stored.collected.iter().all(|x| x.abs() <= VALUE_MAX)
            && stored.place.abs() <= VALUE_MAX
            && stored.recent.len() <= HISTORY
            && stored.recent.iter().all(bounded)
            && stored.mean.is_finite()
            && (0.0..=f64::MAX).contains(&stored.deviations)
            && stored.since <= DELAY as u32
            && stored.weight < MOMENT_WEIGHT
            && stored.misfits < MISFITS_MAX
            && stored.measured.len() <= LONGEST
            && stored.measured.iter().flatten().all(|x| *x >= 0.0 && x.is_finite())
            && stored.reservoir.is_sound()
            && stored.yardsticks.iter().all(Yardstick::is_sound)
            && stored.tail.is_sound()
    }

    fn memory_bytes(&self) -> usize {
        let stored = &self.stored;
        size_of::<Self>()
            + 8 * stored.collected.capacity()
            + 4 * stored.recent.capacity()
            + stored.measured.capacity() * size_of::<[f32; DISTANCES]>()
            + stored.reservoir.memory_bytes()
            + stored.yardsticks.iter().map(Yardstick::memory_bytes).sum::<usize>()
            + Tail::memory_bytes()
    }
}
