//! Where an event begins: a strength counts only if there was no larger one among the last readings.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Readings for which an event silences what is not stronger: between 30 and 140, NAB's score hardly changes.
const REFRACTORY_READINGS: usize = 100;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Onset {
    recent: VecDeque<f32>,
}

impl Onset {
    /// `strength` where it begins an event or makes it worse, else 0.
    pub(crate) fn strength(&self, strength: f64) -> f64 {
        let stronger = self.recent.iter().any(|&recent| f64::from(recent) >= strength);
        if stronger { 0.0 } else { strength }
    }

    pub(crate) fn learn(&mut self, strength: Option<f64>) {
        if self.recent.len() >= REFRACTORY_READINGS {
            self.recent.pop_front();
        }
        // What is stored must not be less than what was said, or the same strength would begin twice.
        self.recent.push_back((strength.unwrap_or(0.0) as f32).next_up());
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.recent.len() <= REFRACTORY_READINGS && self.recent.iter().all(|strength| strength.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_has_one_onset_unless_it_becomes_worse() {
        let mut onset = Onset::default();
        let strengths = [0.5, 3.0, 2.0, 3.0, 5.0, 1.0];
        let said: Vec<f64> = strengths
            .iter()
            .map(|&strength| {
                let said = onset.strength(strength);
                onset.learn(Some(strength));
                said
            })
            .collect();
        assert_eq!(said, [0.5, 3.0, 0.0, 0.0, 5.0, 0.0]);
        (0..REFRACTORY_READINGS).for_each(|_| onset.learn(None));
        assert_eq!(onset.strength(2.0), 2.0);
    }
}
