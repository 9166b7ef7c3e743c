//! What an operator knows and a detector cannot: deviations that do not matter, times of maintenance, a machine that
//! is off.

use crate::detector::{Detector, Part, Reaction};
use crate::stuck::Stuck;
use kilter_core::Timestamp;
use serde::{Deserialize, Serialize};

/// Deviations of a signal that do not matter, measured from the middle of what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tolerance {
    /// Up to this far, in the signal's own unit, …
    pub difference: f64,
    /// … or this part of what was expected, in per cent, whichever is more.
    pub percent: f64,
    /// The side on which alone deviations matter; `None`: both.
    pub only: Option<Side>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Above,
    Below,
}

impl Tolerance {
    pub(crate) fn matters(&self, part: &Part) -> bool {
        let middle = part.expected[0] / 2.0 + part.expected[1] / 2.0;
        let by = part.value - middle;
        let counts = match self.only {
            Some(Side::Above) => by > 0.0,
            Some(Side::Below) => by < 0.0,
            None => true,
        };
        counts && by.abs() > self.difference.max(self.percent / 100.0 * middle.abs())
    }
}

/// From and, excluded, until when a thing is maintained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Maintenance {
    pub fn contains(&self, time: Timestamp) -> bool {
        (self.from..self.until).contains(&time)
    }

    fn meets(&self, from: Timestamp, to: Timestamp) -> bool {
        self.from <= to && from < self.until
    }
}

/// How to tell that a thing is off: while the signal is below, and for a while after it rises again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffState {
    pub signal: Box<str>,
    pub below: f64,
    /// Starting up is no fault either.
    #[serde(default)]
    pub start_up_seconds: f64,
}

impl OffState {
    /// Whether the reading shows the thing off; `None` where it does not carry the signal.
    pub(crate) fn shown_by(&self, signals: &[(Box<str>, f64)]) -> Option<bool> {
        let at = signals.binary_search_by(|(name, _)| name.cmp(&self.signal)).ok()?;
        Some(signals[at].1 < self.below)
    }
}

/// Whether a maintenance was going on at any time from the one to the other.
pub(crate) fn maintained(maintenance: &[Maintenance], from: Timestamp, to: Timestamp) -> bool {
    maintenance.iter().any(|one| one.meets(from, to))
}

/// Takes out of a detector's finding the signals whose deviations do not matter. False where most of it is gone. That
/// a signal stands still is no matter of how far it deviates.
pub(crate) fn keep_what_matters(
    name: &str,
    reaction: &mut Reaction,
    tolerance_of: impl Fn(&Part) -> Option<Tolerance>,
) -> bool {
    if name == Stuck::NAME {
        return true;
    }
    let (mut all, mut left) = (0.0, 0.0);
    for place in &mut reaction.parts {
        let Some(part) = place else { continue };
        all += part.share;
        if tolerance_of(part).is_none_or(|tolerance| tolerance.matters(part)) {
            left += part.share;
        } else {
            *place = None;
        }
    }
    left * 2.0 >= all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Learn, Outcome, Sample, ScorerConfig, ThingScorer};
    use kilter_core::Verdict;

    /// A reading a minute: a temperature that wanders a little, and a motor.
    struct Machine {
        scorer: ThingScorer,
        minute: i64,
    }

    impl Machine {
        fn new(config: ScorerConfig) -> Self {
            let mut machine = Self { scorer: ThingScorer::new(config, 1), minute: 0 };
            (0..600).for_each(|_| drop(machine.read(0.0, 1_500.0)));
            machine
        }

        fn now(&self) -> Timestamp {
            Timestamp::from_seconds(1_700_000_000 + self.minute * 60)
        }

        fn read(&mut self, off_by: f64, rpm: f64) -> Outcome {
            self.minute += 1;
            let wander = (self.minute as f64 * 0.7).sin() + (self.minute * self.minute % 17) as f64 / 17.0;
            let signals: Vec<(Box<str>, f64)> =
                vec![("rpm".into(), rpm + wander), ("temp".into(), 60.0 + wander + off_by)];
            let sample = Sample { event_time: self.now(), signals: &signals };
            let outcome = self.scorer.score(&sample);
            let mode = if outcome.verdict == Verdict::Anomalous { Learn::Hold } else { Learn::Full };
            self.scorer.learn(&sample, &outcome, mode);
            outcome
        }

        /// The verdict on the temperature alone, 20 degrees off.
        fn verdict(config: ScorerConfig, off_by: f64) -> Verdict {
            Self::new(config).read(off_by, 1_500.0).verdict
        }
    }

    fn tolerating(tolerance: Tolerance) -> ScorerConfig {
        ScorerConfig { tolerances: [("temp".into(), tolerance)].into(), ..ScorerConfig::default() }
    }

    #[test]
    fn what_does_not_matter_is_not_told() {
        let within = |difference| tolerating(Tolerance { difference, ..Tolerance::default() });
        let only = |side| tolerating(Tolerance { only: Some(side), ..Tolerance::default() });
        let percent = |percent| tolerating(Tolerance { percent, ..Tolerance::default() });
        for (config, off_by, verdict) in [
            (ScorerConfig::default(), 20.0, Verdict::Anomalous),
            (within(25.0), 20.0, Verdict::Normal),
            (within(15.0), 20.0, Verdict::Anomalous),
            (percent(50.0), 20.0, Verdict::Normal),
            (percent(10.0), 20.0, Verdict::Anomalous),
            (only(Side::Above), -20.0, Verdict::Normal),
            (only(Side::Above), 20.0, Verdict::Anomalous),
            (only(Side::Below), -20.0, Verdict::Anomalous),
        ] {
            let said = format!("{off_by} with {:?}", config.tolerances);
            assert_eq!(Machine::verdict(config, off_by), verdict, "{said}");
        }
    }

    #[test]
    fn what_does_not_matter_is_no_cause() {
        let mut config = tolerating(Tolerance { difference: 25.0, ..Tolerance::default() });
        config.tolerances.insert("other".into(), Tolerance::default());
        let outcome = Machine::new(config).read(20.0, 900.0);
        assert_eq!(outcome.verdict, Verdict::Anomalous);
        assert!(outcome.causes.iter().all(|cause| &*cause.signal == "rpm"), "{:?}", outcome.causes);
    }

    #[test]
    fn maintenance_is_neither_scored_nor_learned_nor_a_gap() {
        let maintenance =
            |machine: &Machine| vec![Maintenance { from: machine.now(), until: machine.now().plus_seconds(3_600) }];
        let plain = Machine::new(ScorerConfig::default());
        let config = ScorerConfig { maintenance: maintenance(&plain), ..ScorerConfig::default() };
        let mut machine = Machine::new(config.clone());
        // The last reading of before comes at the very moment at which it begins.
        assert_eq!(machine.read(20.0, 0.0).verdict, Verdict::Paused);
        (0..40).for_each(|_| assert_eq!(machine.read(30.0, 0.0).verdict, Verdict::Paused));
        machine.minute += 30;
        assert!(machine.scorer.rests(machine.now()));
        assert_eq!(machine.read(0.0, 1_500.0).verdict, Verdict::Normal, "silence in it is no gap");
        assert_eq!(machine.read(20.0, 1_500.0).verdict, Verdict::Anomalous, "what it showed was not learned");
        let mut unannounced = plain;
        unannounced.minute += 3_000;
        assert!(!unannounced.scorer.rests(unannounced.now()));
        assert_eq!(unannounced.read(0.0, 1_500.0).verdict, Verdict::Anomalous);
    }

    #[test]
    fn a_machine_that_is_off_or_starts_up_is_paused() {
        let off = OffState { signal: "rpm".into(), below: 100.0, start_up_seconds: 300.0 };
        let mut machine = Machine::new(ScorerConfig { off: Some(off), ..ScorerConfig::default() });
        (0..50).for_each(|_| assert_eq!(machine.read(-40.0, 0.0).verdict, Verdict::Paused));
        assert!(machine.scorer.rests(machine.now().plus_seconds(86_400)), "nobody waits for a machine that is off");
        (0..4).for_each(|_| assert_eq!(machine.read(-20.0, 700.0).verdict, Verdict::Paused));
        assert_eq!(machine.read(0.0, 1_500.0).verdict, Verdict::Normal);
        assert_eq!(machine.read(20.0, 1_500.0).verdict, Verdict::Anomalous);
    }
}
