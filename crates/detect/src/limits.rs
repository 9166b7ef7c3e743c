//! Hard limits: what an operator has forbidden needs no statistics.

use crate::Learn;
use crate::Limits;
use crate::detector::{Detector, Input, Part, Reaction};
use kilter_core::{Direction, Score};
use serde::{Deserialize, Serialize};

/// No paper: a comparison. Outside the range is [`Score::MAX`] from the first reading on; inside says nothing (score 0).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LimitsDetector {
    limits: Limits,
}

impl LimitsDetector {
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }
}

impl Detector for LimitsDetector {
    const NAME: &'static str = "limits";

    fn score(&self, input: &Input<'_>) -> Reaction {
        let Some(&(slot, value)) = input.values.first() else { return Reaction::warming(0, 1, 0.0) };
        let (low, high) = (self.limits.low, self.limits.high);
        let direction = if high.is_some_and(|high| value > high) {
            Direction::High
        } else if low.is_some_and(|low| value < low) {
            Direction::Low
        } else {
            Direction::Odd
        };
        let score = if direction == Direction::Odd { Score::ZERO } else { Score::new(Score::MAX) };
        let expected =
            [low.unwrap_or(value.min(high.unwrap_or(value))), high.unwrap_or(value.max(low.unwrap_or(value)))];
        Reaction::scored(score, score.value(), Part { slot, share: 1.0, direction, value, expected })
    }

    fn learn(&mut self, _input: &Input<'_>, _seen: &Reaction, _mode: Learn) {}

    fn is_sound(&self) -> bool {
        self.limits.low.is_none_or(f64::is_finite)
            && self.limits.high.is_none_or(f64::is_finite)
            && !matches!(self.limits, Limits { low: Some(low), high: Some(high) } if low > high)
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
    }
}
