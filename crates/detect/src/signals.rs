//! The signals of one thing: which there are, their slots, and who has to go when there are too many.

use crate::catalog::SignalDetectors;
use crate::change::Levels;
use crate::detector::{Detector, Slot, VALUE_MAX};
use crate::novelty::Novelty;
use crate::windows::Windows;
use serde::{Deserialize, Serialize};

/// Most signals of one thing that are scored.
pub const SIGNALS_MAX: usize = 256;
/// A signal may lose its place to a new one after this many readings without it.
pub const UNSEEN_READINGS: u64 = 1_000;
/// Longest name that gets a place, in bytes: names are state, too.
pub const NAME_BYTES_MAX: usize = 256;

/// A thing with more signals has no window ensembles: their memory is some hundred times that of the other detectors
/// of a signal, and what is odd in many signals shows in their combination.
pub const WINDOWED_SIGNALS_MAX: usize = 4;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Signal {
    pub(crate) name: Box<str>,
    pub(crate) slot: Slot,
    /// The thing's count of readings when the signal was last seen.
    last_seen: u64,
    pub(crate) detectors: SignalDetectors,
    pub(crate) novelty: Novelty,
    pub(crate) levels: Levels,
    /// Where the thing has few enough signals.
    pub(crate) windows: Option<Box<Windows>>,
}

/// Sorted by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Signals {
    by_name: Vec<Signal>,
}

/// The part of a sample that has places.
pub(crate) struct Placed {
    /// By slot.
    pub(crate) values: Vec<(Slot, f64)>,
    /// Position in `Signals` and value, by name.
    pub(crate) known: Vec<(usize, f64)>,
    /// How many of the sample's signals have no place yet.
    pub(crate) unknown: usize,
}

impl Signals {
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Signal> {
        self.by_name.iter()
    }

    pub(crate) fn at(&self, position: usize) -> &Signal {
        &self.by_name[position]
    }

    pub(crate) fn at_mut(&mut self, position: usize) -> &mut Signal {
        &mut self.by_name[position]
    }

    /// The levels of placed signals, each with its value; `known` by position.
    pub(crate) fn levels_of(&mut self, known: &[(usize, f64)]) -> impl Iterator<Item = (&mut Levels, f64)> {
        let mut known = known.iter().peekable();
        self.by_name.iter_mut().enumerate().filter_map(move |(position, signal)| {
            let (_, value) = known.next_if(|(at, _)| *at == position)?;
            Some((&mut signal.levels, *value))
        })
    }

    pub(crate) fn name_of(&self, slot: Slot) -> Option<&str> {
        self.by_name.iter().find(|signal| signal.slot == slot).map(|signal| &*signal.name)
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.by_name.binary_search_by(|signal| (*signal.name).cmp(name))
    }

    /// Finds the places of a sample's signals.
    pub(crate) fn place(&self, sample: &[(Box<str>, f64)]) -> Placed {
        let mut placed =
            Placed { values: Vec::with_capacity(sample.len().min(SIGNALS_MAX)), known: Vec::new(), unknown: 0 };
        placed.known.reserve(sample.len().min(SIGNALS_MAX));
        for (name, value) in sample {
            match self.position(name) {
                Ok(position) => {
                    let value = value.clamp(-VALUE_MAX, VALUE_MAX);
                    placed.known.push((position, value));
                    placed.values.push((self.by_name[position].slot, value));
                }
                Err(_) => placed.unknown += 1,
            }
        }
        placed.values.sort_unstable_by_key(|&(slot, _)| slot);
        placed
    }

    /// How many new signals would get a place at reading number `now`.
    pub(crate) fn room(&self, now: u64) -> usize {
        let stale = if self.len() < SIGNALS_MAX { 0 } else { self.by_name.iter().filter(|s| s.is_stale(now)).count() };
        SIGNALS_MAX - self.len() + stale
    }

    /// Gives places to the sample's new signals as long as there is room, calling `forget` for each slot taken
    /// from a signal that has gone; then marks all placed ones as seen.
    pub(crate) fn admit(&mut self, sample: &[(Box<str>, f64)], now: u64, mut forget: impl FnMut(Slot)) {
        for (name, _) in sample {
            let position = match self.position(name) {
                Ok(position) => position,
                Err(_) if name.len() > NAME_BYTES_MAX => continue,
                Err(_) => {
                    let Some(slot) = self.free_slot(now, &mut forget) else { continue };
                    // Freeing a slot may have moved the place.
                    let (Ok(at) | Err(at)) = self.position(name);
                    self.by_name.insert(at, Signal::new(name.clone(), slot, now));
                    at
                }
            };
            self.by_name[position].last_seen = now;
        }
        let windowed = self.len() <= WINDOWED_SIGNALS_MAX;
        for signal in &mut self.by_name {
            match (&signal.windows, windowed) {
                (None, true) => signal.windows = Some(Box::default()),
                (Some(_), false) => signal.windows = None,
                _ => {}
            }
        }
    }

    fn free_slot(&mut self, now: u64, forget: &mut impl FnMut(Slot)) -> Option<Slot> {
        if self.len() < SIGNALS_MAX {
            let mut taken = [false; SIGNALS_MAX];
            self.by_name.iter().for_each(|signal| taken[usize::from(signal.slot)] = true);
            return taken.iter().position(|taken| !taken).map(|slot| slot as Slot);
        }
        let (position, longest) = self.by_name.iter().enumerate().min_by_key(|(_, signal)| signal.last_seen)?;
        if !longest.is_stale(now) {
            return None;
        }
        let slot = self.by_name.remove(position).slot;
        forget(slot);
        Some(slot)
    }

    pub(crate) fn is_sound(&self) -> bool {
        let mut taken = [false; SIGNALS_MAX];
        self.len() <= SIGNALS_MAX
            && self.by_name.is_sorted_by(|a, b| a.name < b.name)
            && self.by_name.iter().all(|signal| {
                taken.get_mut(usize::from(signal.slot)).is_some_and(|taken| !std::mem::replace(taken, true))
                    && signal.name.len() <= NAME_BYTES_MAX
                    && signal.detectors.is_sound()
                    && signal.novelty.is_sound()
                    && signal.levels.is_sound()
                    && signal.windows.as_ref().is_none_or(|windows| windows.is_sound())
            })
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.by_name
            .iter()
            .map(|s| {
                let windows = s.windows.as_ref().map_or(0, |windows| windows.memory_bytes());
                size_of::<Signal>() + s.name.len() + s.detectors.memory_bytes() + s.novelty.memory_bytes() + windows
            })
            .sum()
    }
}

impl Signal {
    fn new(name: Box<str>, slot: Slot, now: u64) -> Self {
        let (detectors, novelty, levels) = (SignalDetectors::default(), Novelty::default(), Levels::default());
        Self { name, slot, last_seen: now, detectors, novelty, levels, windows: None }
    }

    fn is_stale(&self, now: u64) -> bool {
        now.saturating_sub(self.last_seen) >= UNSEEN_READINGS
    }
}
