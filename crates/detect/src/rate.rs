//! Rate of change: how fast a signal moves, against how fast it usually does.

use crate::Learn;
use crate::detector::{Detector, Input, Part, Reaction, VALUE_MAX};
use crate::level::Scale;
use crate::tail::{TAIL_NEEDED, Tail};
use kilter_core::{Direction, Timestamp};
use serde::{Deserialize, Serialize};

/// Readings closer than this (one microsecond) are one moment: their quotient is noise of the clock.
const SECONDS_MIN: f64 = 1e-6;
/// Readings over which the usual rate is averaged.
const SCALE_MEMORY: f32 = 512.0;
/// Largest rate in scales: enough to rank anything.
const RATE_MAX: f64 = 1e6;

/// Rates in their running mean, judged by a peaks-over-threshold tail (Hosking and Wallis 1987).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    last: Option<(Timestamp, f64)>,
    /// Of absolute rates, per second.
    scale: Scale,
    tail: Tail,
}

impl Default for Rate {
    fn default() -> Self {
        Self { last: None, scale: Scale::new(SCALE_MEMORY), tail: Tail::default() }
    }
}

impl Rate {
    /// Units per second since the last reading; `None` where time has not advanced.
    fn rate(&self, input: &Input<'_>) -> Option<f64> {
        let (&(_, value), (then, last)) = (input.values.first()?, self.last?);
        let seconds = input.event_time.seconds_since(then);
        (seconds >= SECONDS_MIN).then(|| ((value - last) / seconds).clamp(-VALUE_MAX, VALUE_MAX))
    }

    /// In scales, compressed: rates are heavy-tailed by nature (every step of a set point is one).
    fn statistic(&self, rate: f64) -> f64 {
        (rate.abs() / self.scale.mean().max(f64::MIN_POSITIVE)).min(RATE_MAX).ln_1p()
    }
}

impl Detector for Rate {
    const NAME: &'static str = "rate";

    fn score(&self, input: &Input<'_>) -> Reaction {
        let (Some(&(slot, value)), Some(rate), Some((then, last))) =
            (input.values.first(), self.rate(input), self.last)
        else {
            return Reaction::warming(self.tail.count(), TAIL_NEEDED, 0.0);
        };
        let raw = self.statistic(rate);
        let Some(score) = self.tail.score(raw) else {
            return Reaction::warming(self.tail.count(), TAIL_NEEDED, raw);
        };
        let reach = (3.0 * self.scale.mean() * input.event_time.seconds_since(then)).min(VALUE_MAX);
        let direction = if rate > 0.0 { Direction::High } else { Direction::Low };
        let expected = [last - reach, last + reach];
        Reaction::scored(score, raw, Part { slot, share: 1.0, direction, value, expected })
    }

    fn learn(&mut self, input: &Input<'_>, _seen: &Reaction, mode: Learn) {
        if let (Learn::Full, Some(rate)) = (mode, self.rate(input)) {
            let statistic = self.statistic(rate);
            self.tail.learn(statistic, input.readings_per_week);
            // A rate is its own size: of a signal that stands still it is exactly zero.
            self.scale.learn(rate.abs(), rate.abs());
        }
        if mode == Learn::Hold {
            self.tail.hold();
        }
        if let Some(&(_, value)) = input.values.first() {
            self.last = Some((input.event_time, value));
        }
    }

    fn is_sound(&self) -> bool {
        self.scale.is_sound() && self.last.is_none_or(|(_, value)| value.abs() <= VALUE_MAX) && self.tail.is_sound()
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + Tail::memory_bytes()
    }
}
