//! The envelope spectrum that a machine usually has, and the line that stands out of it.

use super::{Bearing, Seen, Waveform, spectrum::LINES_MAX};
use crate::NAME_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Waveforms of one thing whose spectra are remembered, and that one reading may carry: three axes at two bearings, and
/// two more.
pub const WAVEFORMS_MAX: usize = 8;
/// Waveforms before what is learned is spoken of.
pub const LEARN_FIRST: u32 = 16;
/// From so many on, a new one counts as one of so many.
const MEMORY: u32 = 512;

/// What is known of the vibrations of one thing, by the waveforms' names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Vibration {
    learned: BTreeMap<Box<str>, Learned>,
}

/// The mean of the lines' levels. Another rate or length has other lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Learned {
    rate_hz: f64,
    samples: usize,
    seen: u32,
    lines: Vec<f32>,
}

impl Vibration {
    /// What a waveform shows, beside what was learned. Changes nothing.
    pub fn look(&self, name: &str, waveform: &Waveform, bearing: Option<(&Bearing, f64)>) -> Seen {
        let mut seen = Seen::of(waveform, bearing);
        let learned = self.learned.get(name).filter(|learned| learned.seen >= LEARN_FIRST && learned.fits(&seen));
        let above = learned.and_then(|learned| {
            let above = seen.lines.iter().zip(&learned.lines).map(|(line, usual)| line - usual);
            above.reduce(f32::max)
        });
        seen.features.extend(above.map(|above| ("envelope_line_db", f64::from(above))));
        seen
    }

    /// The speed that belongs to a reading with these signals goes into [`Self::look`].
    pub fn turning<'a>(bearing: &'a Bearing, signals: &[(Box<str>, f64)]) -> Option<(&'a Bearing, f64)> {
        Some((bearing, bearing.turns_per_second(signals)?))
    }

    /// Learns what was seen in a healthy waveform. Where [`WAVEFORMS_MAX`] have places, there is none for another, nor for
    /// a name that is too long to be a signal's.
    pub fn learn(&mut self, name: &str, seen: &Seen) {
        if seen.lines.is_empty() || name.len() > NAME_BYTES_MAX {
            return;
        }
        if let Some(learned) = self.learned.get_mut(name).filter(|learned| learned.fits(seen)) {
            return learned.learn(seen);
        }
        if self.learned.contains_key(name) || self.learned.len() < WAVEFORMS_MAX {
            let Seen { rate_hz, samples, .. } = *seen;
            self.learned.insert(name.into(), Learned { rate_hz, samples, seen: 1, lines: seen.lines.clone() });
        }
    }

    pub fn is_sound(&self) -> bool {
        let sound = |learned: &Learned| {
            (1..=LINES_MAX).contains(&learned.lines.len()) && learned.lines.iter().all(|line| line.is_finite())
        };
        self.learned.len() <= WAVEFORMS_MAX && self.learned.values().all(sound)
    }

    pub fn memory_bytes(&self) -> usize {
        let names: usize = self.learned.keys().map(|name| name.len()).sum();
        names + self.learned.values().map(|learned| size_of::<Learned>() + 4 * learned.lines.len()).sum::<usize>()
    }
}

impl Learned {
    fn fits(&self, seen: &Seen) -> bool {
        (self.rate_hz, self.samples, self.lines.len()) == (seen.rate_hz, seen.samples, seen.lines.len())
    }

    fn learn(&mut self, seen: &Seen) {
        self.seen = (self.seen + 1).min(MEMORY);
        let weight = 1.0 / self.seen as f32;
        for (usual, line) in self.lines.iter_mut().zip(&seen.lines) {
            *usual += weight * (line - *usual);
        }
    }
}
