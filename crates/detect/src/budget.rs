//! From an alert budget to a threshold: how rare a reading must be to deserve one of the week's alerts.
//!
//! People are told about episodes, not readings, and odd readings come in runs: the excursions of [`crate::tail`].
//! A thing whose scores make E excursions a week can only cause E alerts a week, whether it reports every second or
//! every five minutes; a budget of B asks that an excursion be among the oddest B of E. That is what the threshold
//! says: chance of an excursion B / E, and the chance of a reading is that times the part of readings in excursions.

use crate::tail::Tail;
use kilter_core::{AlertBudget, Score};

/// The part of the budget that a well-behaved thing is meant to use. A healthy process is not as steady as any
/// estimate has it; the rest is kept for that.
const SPENT: f64 = 2.0 / 3.0;
/// However generous the budget, what one healthy reading in 20 shows is not called anomalous …
const CHANCE_MAX: f64 = 5e-2;
/// … and however tight, no tail estimate from a week or two can tell rarer things apart.
const CHANCE_MIN: f64 = 1e-6;
/// A history of n excursions cannot tell one in 10·n from one in 100·n, and to wait until it can would leave a thing
/// unguarded for its first days. So the threshold starts at this part of 1 / n and tightens as n grows; what that
/// costs over all time is a harmonic sum: NEWCOMER_CHANCE · ln(n at the end / n at the start), about one episode.
const NEWCOMER_CHANCE: f64 = 0.2;
/// Taken until the interval is known: one reading a minute.
const READINGS_PER_WEEK_UNKNOWN: f64 = 10_080.0;

/// The score from which a reading is anomalous, for a thing whose scores rest on `history`.
pub(crate) fn threshold(budget: AlertBudget, readings_per_week: f64, history: &Tail) -> Score {
    let readings = if readings_per_week >= 1.0 { readings_per_week } else { READINGS_PER_WEEK_UNKNOWN };
    let excursions = f64::from(history.excursions()) + 1.0;
    let excursions_per_week = readings * excursions / (f64::from(history.count()) + 1.0);
    let spent = SPENT * budget.per_asset_and_week.max(0.0) / excursions_per_week;
    let chance = history.share_above() * spent.max(NEWCOMER_CHANCE / excursions);
    Score::from_probability(chance.clamp(CHANCE_MIN, CHANCE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history in which every 50th reading is an excursion.
    fn history(readings: u32) -> Tail {
        let mut tail = Tail::default();
        for i in 0..readings {
            tail.learn(if i % 50 == 0 { f64::from(i % 1_000) } else { -f64::from(i % 7) }, 1e6);
        }
        tail
    }

    #[test]
    fn a_tighter_budget_asks_for_rarer_readings() {
        let long = history(200_000);
        let at = |budget, readings| threshold(AlertBudget { per_asset_and_week: budget }, readings, &long).value();
        assert!(at(0.1, 10_080.0) > at(3.0, 10_080.0));
        assert!(at(3.0, 604_800.0) > at(3.0, 10_080.0));
        assert!((at(1e9, 10_080.0) - -CHANCE_MAX.log10()).abs() < 1e-9);
        assert_eq!(at(3.0, 0.0), at(3.0, READINGS_PER_WEEK_UNKNOWN));
        assert_eq!(at(f64::NAN, 10_080.0), at(0.0, 10_080.0));
        assert_eq!(at(-1.0, 10_080.0), at(0.0, 10_080.0));
    }

    #[test]
    fn a_newcomer_is_judged_by_what_its_history_can_tell() {
        let at = |readings| threshold(AlertBudget::default(), 604_800.0, &history(readings)).value();
        assert!(at(300) < at(3_000) && at(3_000) < at(30_000));
    }
}
