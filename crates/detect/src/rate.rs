//! Rate of change: how fast a signal moves, against how fast it usually does.

use crate::Learn;
use crate::detector::{Detector, Input, Part, Reaction, VALUE_MAX};
use crate::tail::{TAIL_NEEDED, Tail};
use kilter_core::{Direction, Timestamp};
use serde::{Deserialize, Serialize};

/// Readings closer than this (one microsecond) are one moment: their quotient is noise of the clock.
const SECONDS_MIN: f64 = 1e-6;
/// The scale is an exponentially weighted mean over about so many readings …
const SCALE_MEMORY: f64 = 512.0;
/// … in which one rate counts for at most so many scales.
const CLIP: f64 = 4.0;
/// Largest rate in scales: enough to rank anything.
const RATE_MAX: f64 = 1e6;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Rate {
    last: Option<(Timestamp, f64)>,
    /// Mean absolute rate, per second.
    scale: f64,
    seen: u32,
    tail: Tail,
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
        (rate.abs() / self.scale.max(f64::MIN_POSITIVE)).min(RATE_MAX).ln_1p()
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
        let reach = (3.0 * self.scale * input.event_time.seconds_since(then)).min(VALUE_MAX);
        let direction = if rate > 0.0 { Direction::High } else { Direction::Low };
        let expected = [last - reach, last + reach];
        Reaction::scored(score, raw, Part { slot, share: 1.0, direction, value, expected })
    }

    fn learn(&mut self, input: &Input<'_>, _seen: &Reaction, mode: Learn) {
        if let (Learn::Full, Some(rate)) = (mode, self.rate(input)) {
            let statistic = self.statistic(rate);
            if self.scale > 0.0 {
                self.tail.learn(statistic, input.readings_per_week);
            }
            self.seen = self.seen.saturating_add(1);
            let limit = if self.scale > 0.0 { CLIP * self.scale } else { f64::INFINITY };
            self.scale += (rate.abs().min(limit) - self.scale) / SCALE_MEMORY.min(f64::from(self.seen));
        }
        if mode == Learn::Hold {
            self.tail.hold();
        }
        if let Some(&(_, value)) = input.values.first() {
            self.last = Some((input.event_time, value));
        }
    }

    fn is_sound(&self) -> bool {
        self.scale.is_finite()
            && self.scale >= 0.0
            && self.last.is_none_or(|(_, value)| value.abs() <= VALUE_MAX)
            && self.tail.is_sound()
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + Tail::memory_bytes()
    }
}
