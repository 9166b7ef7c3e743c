//! One number out of all detectors that measure oddness, at once and settled.
//!
//! Each detector gives its statistic as a multiple of what accepted-normal readings reach, so they may be averaged.
//! At once, each says what it knows when the reading arrives. Settled, each says what it knows a fixed number of
//! readings later; those that know sooner wait for the slowest, so that one number speaks of one reading.

use crate::Settled;
use crate::catalog::THING_DETECTORS;
use crate::detector::Reaction;
use crate::sample::Workings;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What is blended: the oddest of the signals' windows, and every detector of the whole thing.
pub(crate) const CHANNELS: usize = 1 + THING_DETECTORS;
/// No detector may settle later than this many readings.
const LAG_MAX: u32 = 512;

/// Words on their way: one queue per channel, as long as the channel is early.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Blend {
    lag: u32,
    waiting: [VecDeque<Option<f32>>; CHANNELS],
}

impl Blend {
    /// Fills in the channels' settled words, and blends. Nothing is blended while no detector has a word.
    pub(crate) fn words(&self, workings: &mut Workings) -> (Option<f64>, Option<Settled>) {
        let mut now = [None; CHANNELS];
        let windows = workings.windows.iter().map(|(_, reaction)| reaction);
        (now[0], workings.settled[0]) = oddest(windows);
        for (i, reaction) in workings.things.iter().flatten().enumerate() {
            (now[i + 1], workings.settled[i + 1]) = oddest([reaction].into_iter());
        }
        let mut settled = workings.settled;
        for (word, waiting) in settled.iter_mut().zip(&self.waiting) {
            if let Some(earlier) = waiting.front() {
                *word = *earlier;
            }
        }
        let settled = mean(&settled).map(|oddness| Settled { readings_ago: self.lag, oddness });
        (mean(&now), settled)
    }

    pub(crate) fn learn(&mut self, workings: &Workings, lags: [u32; CHANNELS]) {
        self.lag = lags.iter().copied().max().unwrap_or(0).min(LAG_MAX);
        for ((waiting, word), lag) in self.waiting.iter_mut().zip(workings.settled).zip(lags) {
            waiting.push_back(word);
            while waiting.len() > self.lag.saturating_sub(lag) as usize {
                waiting.pop_front();
            }
        }
    }

    pub(crate) fn is_sound(&self) -> bool {
        let finite = |word: &Option<f32>| word.is_none_or(f32::is_finite);
        self.lag <= LAG_MAX
            && self.waiting.iter().all(|waiting| waiting.len() <= LAG_MAX as usize && waiting.iter().all(finite))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.capacity() * size_of::<Option<f32>>()).sum()
    }
}

/// The largest word at once, and settled.
fn oddest<'a>(reactions: impl Iterator<Item = &'a Reaction>) -> (Option<f32>, Option<f32>) {
    let larger = |a: Option<f32>, b: Option<f64>| match (a, b.map(|b| b as f32)) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    };
    reactions.fold((None, None), |(now, settled), reaction| {
        (larger(now, reaction.oddness), larger(settled, reaction.settled.or(reaction.oddness)))
    })
}

fn mean(words: &[Option<f32>; CHANNELS]) -> Option<f64> {
    let spoken = words.iter().flatten();
    let (sum, count) = spoken.fold((0.0, 0u32), |(sum, count), &word| (sum + f64::from(word), count + 1));
    (count > 0).then(|| sum / f64::from(count))
}
