//! Reference: the thing beside its own commissioning, signals one by one and together.
//!
//! Three models are made from the commissioning's readings, once: the [levels](level) that signals keep to, the
//! [combinations](combination) in which they move, the [shapes](shapes) of their common course. Each gives its
//! statistic as a multiple of the edge of normal, which it measured itself. Levels and combinations raise the
//! *alarm*: the larger of the two beyond 1, until it has been below [`CLEARED`] for [`CLEAR_READINGS`]. Levels and
//! shapes rank: their mean is the oddness, at once, and settled when all windows that contain a reading have been seen.
//!
//! What counts as the middle follows the process, but some thirty times slower than commissioning took, and not while
//! the thing is off; the rest of the models stays as commissioning made it, until an alarm has lasted so long that it is how things are now
//! ([`RECOMMISSION_FACTOR`]); then they are made anew from that time's readings.

mod combination;
mod commission;
mod eigen;
mod level;
mod moments;
mod shapes;

use crate::detector::{Detector, Input, PARTS_MAX, Part, Reaction, Slot, THING, VALUE_MAX};
use crate::tail::{TAIL_NEEDED, Tail};
use crate::{COMMISSIONING_READINGS, Learn};
use combination::Combination;
use commission::Commissioning;
use kilter_core::Direction;
use level::Levels;
use serde::{Deserialize, Serialize};
use shapes::Shapes;
use std::collections::VecDeque;

/// Values relative to their origin stay within what squares bear.
const RELATIVE_MAX: f64 = 1e30;
/// Fewer readings make no reference.
const READINGS_MIN: usize = 64;
/// A single signal is left to the detectors of single signals.
const SIGNALS_MIN: usize = 2;
/// An alarm has cleared when the statistic has been below this part of its edge …
const CLEARED: f64 = 0.85;
/// … for so many readings in a row.
const CLEAR_READINGS: u8 = 20;
/// Readings on both sides over which the settled word averages the levels' oddness: smoothing itself lags so much.
const LEVEL_REACH: usize = 10;
/// An alarm that lasts this many times as long as commissioning did, while it is being learned, is no fault.
const RECOMMISSION_FACTOR: u32 = 4;
/// A signal that is so many deviations off explains what is odd without the others.
const ALONE: f64 = 4.0;
/// What is normal follows the process with a memory of so many commissionings.
const FOLLOW_FACTOR: f64 = 32.0;
/// Where in `Reaction::work` the statistics are handed to `learn`.
const LEVEL: usize = 0;
const SHAPE: usize = 1;
const COMBINED: usize = 2;
const ALARM: usize = 3;

/// Exponentially weighted levels (Roberts 1959), all principal axes (Hotelling 1931), k-means of windows (MacQueen 1967),
/// each against commissioning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    seed: u64,
    commissioning: Commissioning,
    /// What may take its place.
    anew: Commissioning,
    commissioned: u32,
    models: Option<Models>,
    /// Smoothed value of every signal, relative to its origin.
    levels: Vec<f64>,
    /// Smoothed surprise of the combination.
    combined: f64,
    /// The last readings but the newest, as [`Shapes`] sees them, oldest first.
    window: VecDeque<f32>,
    /// Oddness of the last readings by levels and shapes, newest last.
    said: VecDeque<[f32; 2]>,
    alarm: bool,
    /// Readings in a row that would end the alarm.
    clear: u8,
    /// Readings of the present alarm that were learned.
    lasting: u32,
    /// By how many more readings than not commissioning dwarfed what changed.
    dwarfed: u32,
    tail: Tail,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Models {
    levels: Levels,
    combination: Option<Combination>,
    shapes: Option<Shapes>,
}

/// A reading as the models see it.
struct Sight {
    /// Relative to the signals' origins.
    values: Vec<f64>,
    levels: Vec<f64>,
    combined: f64,
    level: f64,
    combination: f64,
    shape: Option<f64>,
}

impl Reference {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            commissioning: Commissioning::default(),
            anew: Commissioning::default(),
            commissioned: 0,
            models: None,
            levels: Vec::new(),
            combined: 0.0,
            window: VecDeque::new(),
            said: VecDeque::new(),
            alarm: false,
            clear: 0,
            lasting: 0,
            dwarfed: 0,
            tail: Tail::default(),
        }
    }

    /// Whether there are models to compare with.
    pub fn is_ready(&self) -> bool {
        self.models.is_some()
    }

    /// Whether the thing is off its reference as of the reading that `reaction` answered.
    pub fn alarms(reaction: &Reaction) -> bool {
        reaction.work[ALARM] > 0.0
    }

    /// The statistic that raises the alarm, as a multiple of its edge.
    pub fn excess(reaction: &Reaction) -> f64 {
        f64::from(reaction.work[LEVEL]).max(f64::from(reaction.work[COMBINED]))
    }

    /// The alarm and the readings towards its end, after a statistic.
    fn alarm_after(&self, excess: f64) -> (bool, u8) {
        match (self.alarm, excess) {
            (_, excess) if excess > 1.0 => (true, 0),
            (true, excess) if excess < CLEARED => {
                let clear = self.clear.saturating_add(1);
                (clear < CLEAR_READINGS, clear)
            }
            (alarm, _) => (alarm, 0),
        }
    }

    fn sight(&self, models: &Models, input: &Input<'_>) -> Sight {
        let values: Vec<f64> = self
            .commissioning
            .columns
            .iter()
            .map(|column| value_of(input.values, column.slot).unwrap_or(column.last) - column.origin)
            .map(|value| value.clamp(-RELATIVE_MAX, RELATIVE_MAX))
            .collect();
        let levels = models.levels.follow(&self.levels, &values);
        let combined = models.combination.as_ref().map_or(0.0, |c| c.follow(self.combined, &values));
        let shape = models.shapes.as_ref().and_then(|shapes| {
            let mut window: Vec<f32> = self.window.iter().copied().collect();
            window.extend(shapes.point(&values));
            (window.len() == shapes.numbers()).then(|| shapes.oddness(&window))
        });
        Sight {
            level: models.levels.oddness(&levels),
            combination: models.combination.as_ref().map_or(0.0, |c| c.oddness(combined)),
            values,
            levels,
            combined,
            shape,
        }
    }

    /// Every signal that has a part in the oddness, largest share first; the shares sum to 1.
    fn blame(&self, models: &Models, sight: &Sight) -> Vec<(usize, f64)> {
        let mut parts = vec![0f64; sight.values.len()];
        let mut add = |weight: f64, of: Vec<(usize, f64)>| {
            let total: f64 = of.iter().map(|(_, part)| part).sum();
            if total > 0.0 {
                of.iter().for_each(|(place, part)| parts[*place] += weight * part / total);
            }
        };
        add(sight.level.powi(2), models.levels.surprises(sight.levels.iter().copied()).enumerate().collect());
        // What signals show alone explains best; the combination spreads it over all that go with them.
        if let Some(combination) = models.combination.as_ref().filter(|_| sight.level < 1.0) {
            let contributions = combination.contributions(&sight.values);
            let alone = contributions.iter().any(|(.., distance)| distance.abs() > ALONE);
            let part =
                |&(place, part, distance): &(usize, f64, f64)| (place, if alone { distance.powi(2) } else { part });
            add(sight.combination.powi(2), contributions.iter().map(part).collect());
        }
        let total: f64 = parts.iter().sum();
        let mut shares: Vec<(usize, f64)> =
            parts.into_iter().map(|part| if total > 0.0 { part / total } else { 0.0 }).enumerate().collect();
        shares.retain(|&(place, _)| place < self.levels.len() && self.commissioning.columns[place].slot != THING);
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        shares
    }

    fn part(&self, models: &Models, sight: &Sight, place: usize, share: f64) -> Part {
        let column = &self.commissioning.columns[place];
        let level_speaks = sight.level >= sight.combination;
        let expected = models.levels.expected(place);
        let narrow = models.combination.as_ref().and_then(|combination| combination.expected(place));
        let [low, high] = if level_speaks { expected } else { narrow.unwrap_or(expected) };
        let distance = models.levels.distance(place, sight.levels[place]);
        let value = sight.values[place];
        let direction = match (value < low, value > high) {
            (true, _) => Direction::Low,
            (_, true) => Direction::High,
            _ if level_speaks && distance > 0.0 => Direction::High,
            _ if level_speaks => Direction::Low,
            _ => Direction::Odd,
        };
        let at = |x: f64| (x + column.origin).clamp(-VALUE_MAX, VALUE_MAX);
        Part { slot: column.slot, share, direction, value: at(value), expected: [at(low), at(high)] }
    }

    /// The levels at which the signal alone would be off its reference; `None` before there is one.
    pub fn expected(&self, slot: Slot) -> Option<[f64; 2]> {
        let place = self.commissioning.columns.iter().position(|column| column.slot == slot)?;
        let range = self.models.as_ref().filter(|_| place < self.levels.len())?.levels.expected(place);
        let origin = self.commissioning.columns[place].origin;
        Some(range.map(|level| (level + origin).clamp(-VALUE_MAX, VALUE_MAX)))
    }

    /// All signals by their part in the reading's oddness, largest first; empty before there is a reference.
    pub fn ranking(&self, input: &Input<'_>) -> Vec<(Slot, f64)> {
        let Some(models) = &self.models else { return Vec::new() };
        let sight = self.sight(models, input);
        let blame = self.blame(models, &sight);
        blame.into_iter().map(|(place, share)| (self.commissioning.columns[place].slot, share)).collect()
    }

    /// Makes the models, and replays the end of commissioning so that nothing begins at nothing.
    fn fit(&mut self) {
        let columns = self.commissioning.table();
        let origins: Vec<f64> = self.commissioning.columns.iter().map(|column| column.origin).collect();
        if columns.len() < SIGNALS_MIN {
            return;
        }
        let rows = self.commissioning.readings();
        let models = Models {
            levels: Levels::fit(&columns),
            combination: Combination::fit(&columns),
            shapes: Shapes::fit(&columns, &origins, self.seed),
        };
        self.levels = columns.iter().map(|column| column.first().copied().unwrap_or(0.0)).collect();
        self.combined = 0.0;
        self.window.clear();
        self.said.clear();
        for row in 0..rows {
            let last: Vec<f64> = columns.iter().map(|column| column[row]).collect();
            self.levels = models.levels.follow(&self.levels, &last);
            if let Some(combination) = &models.combination {
                self.combined = combination.follow(self.combined, &last);
            }
            self.push(&models, &last);
        }
        self.models = Some(models);
        self.commissioned = rows as u32;
        self.commissioning.drop_values();
        (self.alarm, self.clear, self.lasting, self.dwarfed) = (false, 0, 0, 0);
    }

    /// Takes a reading into the window, as long as it is one short of full.
    fn push(&mut self, models: &Models, values: &[f64]) {
        let Some(shapes) = &models.shapes else { return };
        let point = shapes.point(values);
        let keep = shapes.numbers() - point.len();
        self.window.extend(point);
        while self.window.len() > keep {
            self.window.pop_front();
        }
    }

    /// The final word about the reading [`Self::lag`] readings ago, with this one's oddness.
    fn settled(&self, models: &Models, now: [f32; 2]) -> Option<f64> {
        let lag = self.lag() as usize;
        let said: Vec<[f32; 2]> = self.said.iter().copied().chain([now]).collect();
        let at = said.len().checked_sub(lag + 1)?;
        let mean = |part: usize, from: usize, to: usize| {
            let words = &said[from..=to.min(said.len() - 1)];
            words.iter().map(|word| f64::from(word[part])).sum::<f64>() / words.len() as f64
        };
        let level = mean(LEVEL, at.saturating_sub(LEVEL_REACH), at + LEVEL_REACH);
        Some(match &models.shapes {
            Some(shapes) => (level + mean(SHAPE, at, at + shapes.window() - 1)) / 2.0,
            None => level,
        })
    }

    /// Counts the readings whose every change is invisible beside commissioning: that was of another thing.
    fn note_dwarfed(&mut self, models: &Models, input: &Input<'_>) {
        let mut changes = self.commissioning.columns.iter().enumerate().filter_map(|(place, column)| {
            let change = value_of(input.values, column.slot)? - column.last;
            (change != 0.0).then_some((place, change))
        });
        let dwarfed = changes.next().is_some_and(|(place, change)| models.levels.dwarfs(place, change))
            && changes.all(|(place, change)| models.levels.dwarfs(place, change));
        self.dwarfed = if dwarfed { self.dwarfed.saturating_add(1) } else { self.dwarfed.saturating_sub(1) };
    }

    /// An alarm that is being learned for long is how things are now, and so is what commissioning dwarfs: collects
    /// for another commissioning.
    fn outlast(&mut self, input: &Input<'_>, mode: Learn) {
        let needed = self.commissioned.max(COMMISSIONING_READINGS);
        if !self.alarm && self.dwarfed < needed {
            if self.lasting > 0 {
                self.lasting = 0;
                self.anew = Commissioning::default();
            }
            return;
        }
        if mode == Learn::Hold {
            return;
        }
        self.lasting = self.lasting.saturating_add(1);
        let long = needed.saturating_mul(RECOMMISSION_FACTOR);
        if self.lasting > long.saturating_sub(needed) {
            self.anew.keep(input.values);
        }
        if self.lasting >= long {
            self.commissioning = std::mem::take(&mut self.anew);
            self.tail = Tail::default();
            self.fit();
        }
    }
}

impl Detector for Reference {
    const NAME: &'static str = "reference";

    fn score(&self, input: &Input<'_>) -> Reaction {
        let needed = READINGS_MIN as u32 + TAIL_NEEDED;
        let Some(models) = &self.models else {
            let seen = self.commissioning.readings().min(READINGS_MIN) as u32;
            return Reaction::warming(seen, needed, 0.0);
        };
        let sight = self.sight(models, input);
        let now = [narrow(sight.level), narrow(sight.shape.unwrap_or(sight.level))];
        let excess = sight.level.max(sight.combination);
        let mut parts = [None; PARTS_MAX];
        for (part, (place, share)) in parts.iter_mut().zip(self.blame(models, &sight)) {
            *part = Some(self.part(models, &sight, place, share));
        }
        let mut reaction = match self.tail.score(excess) {
            Some(score) => Reaction::found(score, excess.min(VALUE_MAX), parts),
            None => Reaction { parts, ..Reaction::warming(READINGS_MIN as u32 + self.tail.count(), needed, excess) },
        };
        reaction.oddness = Some(f64::from(now[LEVEL] + now[SHAPE]) / 2.0);
        reaction.settled = self.settled(models, now);
        reaction.work[LEVEL] = now[LEVEL];
        reaction.work[SHAPE] = now[SHAPE];
        reaction.work[COMBINED] = narrow(sight.combination);
        reaction.work[ALARM] = f32::from(u8::from(self.alarm_after(excess).0));
        reaction
    }

    fn learn(&mut self, input: &Input<'_>, seen: &Reaction, mode: Learn) {
        let Some(models) = self.models.take() else {
            if input.commissioning && mode == Learn::Full {
                self.commissioning.keep(input.values);
            } else if self.commissioning.readings() >= READINGS_MIN {
                self.fit();
            } else if mode == Learn::Full {
                self.commissioning.keep(input.values);
            }
            return;
        };
        let sight = self.sight(&models, input);
        self.note_dwarfed(&models, input);
        for column in &mut self.commissioning.columns {
            column.last = value_of(input.values, column.slot).unwrap_or(column.last);
        }
        self.push(&models, &sight.values);
        let mut models = models;
        if mode == Learn::Full && !self.alarm {
            let weight = 1.0 / (f64::from(self.commissioned.max(READINGS_MIN as u32)) * FOLLOW_FACTOR);
            models.levels.drift(&sight.levels, weight);
            if let Some(combination) = &mut models.combination {
                combination.drift(&sight.values, weight);
            }
        }
        (self.levels, self.combined) = (sight.levels, sight.combined);
        self.said.push_back([seen.work[LEVEL], seen.work[SHAPE]]);
        self.models = Some(models);
        while self.said.len() > self.lag() as usize + LEVEL_REACH {
            self.said.pop_front();
        }
        (self.alarm, self.clear) = self.alarm_after(sight.level.max(sight.combination));
        match mode {
            Learn::Full => self.tail.learn(seen.raw, input.readings_per_week),
            Learn::Hold => self.tail.hold(),
        }
        self.outlast(input, mode);
    }

    fn forget(&mut self, slot: Slot) {
        self.commissioning.forget(slot);
        self.anew.forget(slot);
    }

    fn lag(&self) -> u32 {
        let shapes = self.models.as_ref().and_then(|models| models.shapes.as_ref());
        shapes.map_or(0, |shapes| shapes.window() - 1).max(LEVEL_REACH) as u32
    }

    fn is_sound(&self) -> bool {
        let signals = self.commissioning.columns.len();
        let models_fit = self.models.as_ref().is_none_or(|models| {
            models.levels.is_sound(self.levels.len())
                && self.levels.len() <= signals
                && models.combination.as_ref().is_none_or(|c| c.is_sound(self.levels.len()))
                && models
                    .shapes
                    .as_ref()
                    .is_none_or(|shapes| shapes.is_sound(self.levels.len()) && self.window.len() < shapes.numbers())
        });
        models_fit
            && self.commissioning.is_sound()
            && self.anew.is_sound()
            && self.levels.iter().all(|x| x.is_finite())
            && self.combined.is_finite()
            && self.window.iter().all(|x| x.is_finite())
            && self.said.len() <= shapes::WINDOW_MAX + 2 * LEVEL_REACH
            && self.said.iter().flatten().all(|x| x.is_finite())
            && self.tail.is_sound()
    }

    fn memory_bytes(&self) -> usize {
        let models = self.models.as_ref().map_or(0, |models| {
            models.levels.memory_bytes()
                + models.combination.as_ref().map_or(0, Combination::memory_bytes)
                + models.shapes.as_ref().map_or(0, Shapes::memory_bytes)
        });
        size_of::<Self>()
            + self.commissioning.memory_bytes()
            + self.anew.memory_bytes()
            + models
            + self.levels.capacity() * size_of::<f64>()
            + self.window.capacity() * size_of::<f32>()
            + self.said.capacity() * size_of::<[f32; 2]>()
            + Tail::memory_bytes()
    }
}

fn value_of(values: &[(Slot, f64)], slot: Slot) -> Option<f64> {
    values.binary_search_by_key(&slot, |&(slot, _)| slot).ok().map(|at| values[at].1)
}

/// Finite as it is kept and handed on.
fn narrow(x: f64) -> f32 {
    x.clamp(0.0, f64::from(f32::MAX)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_core::Timestamp;
    use rand_xoshiro::{
        Xoshiro256PlusPlus,
        rand_core::{RngCore, SeedableRng},
    };

    /// Three signals that move together with a little noise of their own, and a state that switches.
    struct Plant {
        rng: Xoshiro256PlusPlus,
        reading: i64,
    }

    impl Plant {
        fn noise(&mut self) -> f64 {
            (0..4).map(|_| (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 - 0.5).sum()
        }

        fn read(&mut self) -> [f64; 4] {
            self.reading += 1;
            let load = (self.reading as f64 / 7.0).sin() + 0.3 * self.noise();
            let [a, b, c] = [0.05 * self.noise(), 0.05 * self.noise(), 0.05 * self.noise()];
            [50.0 + load + a, 8.0 - 2.0 * load + b, 1e6 + 3.0 * load + c, f64::from(u8::from(self.reading % 50 < 25))]
        }
    }

    fn feed(reference: &mut Reference, values: [f64; 4], commissioning: bool, mode: Learn) -> Reaction {
        let values: Vec<(Slot, f64)> = values.iter().enumerate().map(|(i, x)| (i as Slot, *x)).collect();
        let event_time = Timestamp::from_seconds(0);
        let input = Input { event_time, values: &values, readings_per_week: 0.0, commissioning };
        let reaction = reference.score(&input);
        reference.learn(&input, &reaction, mode);
        reaction
    }

    fn commissioned() -> (Reference, Plant) {
        let mut plant = Plant { rng: Xoshiro256PlusPlus::seed_from_u64(5), reading: 0 };
        let mut reference = Reference::new(1);
        for _ in 0..512 {
            let values = plant.read();
            assert!(feed(&mut reference, values, true, Learn::Full).oddness.is_none());
        }
        (reference, plant)
    }

    #[test]
    fn a_broken_combination_alarms_and_names_its_signal_until_it_is_whole_again() {
        let (mut reference, mut plant) = commissioned();
        for _ in 0..600 {
            let values = plant.read();
            let reaction = feed(&mut reference, values, false, Learn::Full);
            assert!(!Reference::alarms(&reaction), "{}", Reference::excess(&reaction));
        }
        let mut found = None;
        for since in 0..60 {
            let mut values = plant.read();
            // Within the range that the signal alone has.
            values[1] = 8.0 - (values[1] - 8.0);
            let reaction = feed(&mut reference, values, false, Learn::Hold);
            if Reference::alarms(&reaction) && found.is_none() {
                found = Some((since, reaction.parts[0].unwrap().slot));
            }
        }
        assert!(found.is_some_and(|(since, slot)| since < 20 && slot == 1), "{found:?}");
        let clear = (0..100).position(|_| {
            let values = plant.read();
            !Reference::alarms(&feed(&mut reference, values, false, Learn::Full))
        });
        assert!(clear.is_some_and(|after| after >= usize::from(CLEAR_READINGS) - 1), "{clear:?}");
    }

    #[test]
    fn a_shifted_level_alarms_with_direction_and_expected_range() {
        let (mut reference, mut plant) = commissioned();
        let mut last = None;
        for _ in 0..40 {
            let mut values = plant.read();
            values[0] += 6.0;
            last = Some(feed(&mut reference, values, false, Learn::Hold));
        }
        let part = last.unwrap().parts[0].unwrap();
        assert_eq!((part.slot, part.direction), (0, Direction::High));
        assert!(part.expected[0] < 50.0 && part.expected[1] > 50.0 && part.expected[1] < part.value, "{part:?}");
    }

    #[test]
    fn the_settled_word_says_where_a_shape_was_odd() {
        let (mut reference, mut plant) = commissioned();
        let mut settled = Vec::new();
        for i in 0..400 {
            let mut values = plant.read();
            if (200..230).contains(&i) {
                values[2] = 1e6;
            }
            let reaction = feed(&mut reference, values, false, Learn::Full);
            settled.extend(reaction.settled);
        }
        let lag = reference.lag() as usize;
        assert!(lag < shapes::WINDOW_MAX);
        let oddest = (0..settled.len()).max_by(|&a, &b| settled[a].total_cmp(&settled[b])).unwrap();
        // Words are spoken from `lag` readings after commissioning on, for earlier readings that are still known.
        let at = oddest + (400 - settled.len()) - lag;
        assert!((195..235).contains(&at), "{at}");
    }

    #[test]
    fn what_stays_and_is_learned_becomes_the_reference() {
        let (mut reference, mut plant) = commissioned();
        let mut alarms = Vec::new();
        for i in 0..3_000 {
            let mut values = plant.read();
            values[0] += 20.0;
            let mode = if i < 500 { Learn::Hold } else { Learn::Full };
            alarms.push(Reference::alarms(&feed(&mut reference, values, false, mode)));
        }
        assert!(alarms[100..2_400].iter().all(|alarm| *alarm));
        assert!(alarms[2_700..].iter().all(|alarm| !*alarm));
    }

    #[test]
    fn a_single_signal_has_no_reference() {
        let mut reference = Reference::new(1);
        for i in 0..600 {
            let values = [(0, f64::from(i % 7))];
            let event_time = Timestamp::from_seconds(0);
            let input = Input { event_time, values: &values, readings_per_week: 0.0, commissioning: i < 512 };
            let reaction = reference.score(&input);
            reference.learn(&input, &reaction, Learn::Full);
        }
        assert!(!reference.is_ready());
    }
}
