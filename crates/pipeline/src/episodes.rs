//! From anomalous readings to episodes, and from episodes to alerts within the budget. Pure and deterministic: the
//! same readings give the same episodes and alerts, whenever they are scored.

use crate::words::{cause_in_words, rarity_in_words};
use kilter_core::{
    Alert, AlertBudget, AlertEvent, Cause, Direction, Episode, Score, ScoredReading, Severity, TenantId, Timestamp,
    Verdict,
};
use serde::{Deserialize, Serialize};

/// An episode ends once this many readings in a row were normal: shorter pauses belong to one event.
pub const QUIET_READINGS: u32 = 20;
/// For this many anomalous readings the detectors learn nothing from what they flagged. After that it has lasted too
/// long for a passing fault: the new state is learned, so that a repaired or re-set machine is normal again.
pub const HOLD_READINGS: u64 = 500;
/// Readings further apart than this many usual intervals are not one event.
const APART_INTERVALS: f64 = 20.0;
/// The budget is counted over this window.
const WEEK_SECONDS: i64 = 7 * 86_400;
/// More alerts than this in a week are not remembered one by one; far beyond any budget.
const RECENT_MAX: usize = 1_000;

/// Ends the id of an episode that is a silence.
pub const SILENCE: &str = "+silence";

/// What the episodes of one thing remember from one reading to the next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Episodes {
    open: Option<Open>,
    /// Alerts of the last week, or of as many as the budget asks for one: when, and the highest score by then.
    recent: Vec<(Timestamp, f64)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Open {
    episode: Episode,
    quiet: u32,
    last_anomalous: Timestamp,
    alerted: bool,
}

/// A changed episode, and the alert that the change raises.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub episode: Episode,
    pub alert: Option<AlertEvent>,
    /// The start that it was kept under until now, where late data has moved it.
    pub moved_from: Option<Timestamp>,
}

impl Episodes {
    /// The open episode, and whether people were told of it.
    pub fn open(&self) -> Option<(&Episode, bool)> {
        self.open.as_ref().map(|open| (&open.episode, open.alerted))
    }

    /// The open episode is one that is known already: it goes on under that one's name.
    pub fn known_as(&mut self, told: &Episode, alerted: bool) {
        if let Some(open) = &mut self.open {
            let own = &mut open.episode;
            (own.id, own.known, own.corrected) = (told.id.clone(), told.known, told.corrected);
            open.alerted |= alerted;
        }
    }

    /// Whether what is flagged now is still too young to be learned as normal.
    pub fn holds(&self) -> bool {
        self.open.as_ref().is_none_or(|open| open.episode.readings < HOLD_READINGS)
    }

    /// Takes the next scored reading in. `interval` is the thing's usual one, in seconds.
    pub fn observe(
        &mut self,
        tenant: &TenantId,
        row: &ScoredReading,
        interval: f64,
        budget: AlertBudget,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(open) = &mut self.open {
            let apart = row.event_time.seconds_since(open.last_anomalous) > interval * APART_INTERVALS;
            if row.verdict != Verdict::Anomalous {
                open.quiet += 1;
            }
            let from_silence = open.episode.readings == 0;
            if open.quiet >= QUIET_READINGS || (apart && !from_silence) {
                changes.extend(self.close());
            }
        }
        if let (Verdict::Anomalous, Some(score)) = (row.verdict, row.score) {
            changes.push(self.anomalous(tenant, row, score, budget));
        }
        changes
    }

    fn anomalous(&mut self, tenant: &TenantId, row: &ScoredReading, score: Score, budget: AlertBudget) -> Change {
        let threshold = row.threshold.unwrap_or(Score::ZERO);
        let open = self.open.get_or_insert_with(|| Open {
            episode: Episode {
                id: format!("{}@{}", row.thing, row.position).into(),
                tenant: tenant.clone(),
                thing: row.thing.clone(),
                start: row.event_time,
                peak: row.event_time,
                end: None,
                severity: severity(score, threshold),
                peak_score: score,
                threshold,
                readings: 0,
                causes: row.causes.clone(),
                known: row.arrival,
                corrected: None,
                withdrawn: None,
            },
            quiet: 0,
            last_anomalous: row.event_time,
            alerted: false,
        });
        open.quiet = 0;
        open.last_anomalous = open.last_anomalous.max(row.event_time);
        open.episode.readings += 1;
        if score > open.episode.peak_score || open.episode.readings == 1 {
            open.episode.peak = row.event_time;
            open.episode.peak_score = Score::new(score.value().max(open.episode.peak_score.value()));
            open.episode.severity = severity(open.episode.peak_score, open.episode.threshold);
            open.episode.causes = row.causes.clone();
        }
        let alert = Self::alert(&mut self.recent, open, row.event_time, budget);
        Change { episode: open.episode.clone(), alert, moved_from: None }
    }

    /// Whether the open episode is to be told now: within the week's budget always; beyond it only if it is worse
    /// than everything told in that time, so that the worst always gets through.
    fn alert(
        recent: &mut Vec<(Timestamp, f64)>,
        open: &mut Open,
        now: Timestamp,
        budget: AlertBudget,
    ) -> Option<AlertEvent> {
        if open.alerted {
            return None;
        }
        // Less than one alert a week is one in so many weeks.
        let window = WEEK_SECONDS as f64 / budget.per_asset_and_week.min(1.0);
        recent.retain(|(at, _)| now.seconds_since(*at) < window);
        let score = open.episode.peak_score.value();
        let worst = recent.iter().map(|(_, s)| *s).fold(0.0, f64::max);
        let within = (recent.len() as f64) < budget.per_asset_and_week;
        if !(within || score > worst || score >= Score::MAX) {
            return None;
        }
        if recent.len() < RECENT_MAX {
            recent.push((now, score));
        }
        open.alerted = true;
        Some(AlertEvent::Opened)
    }

    fn close(&mut self) -> Option<Change> {
        let open = self.open.take()?;
        let mut episode = open.episode;
        episode.end = Some(open.last_anomalous);
        Some(Change { episode, alert: open.alerted.then_some(AlertEvent::Closed), moved_from: None })
    }

    /// Opens an episode for a thing that has said nothing since `last_seen`. When it speaks again, its next readings
    /// go on with this episode or end it.
    pub fn silent(&mut self, quiet: &Silence<'_>, budget: AlertBudget) -> Option<Change> {
        if self.open.is_some() {
            return None;
        }
        let span = quiet.now.seconds_since(quiet.last_arrival);
        let cause = Cause {
            signal: "(no data)".into(),
            share: 1.0,
            direction: Direction::Odd,
            value: span,
            expected: [0.0, quiet.limit_seconds],
            detector: "silence".into(),
        };
        let mut open = Open {
            episode: Episode {
                id: format!("{}@{}{SILENCE}", quiet.thing, quiet.position).into(),
                tenant: quiet.tenant.clone(),
                thing: quiet.thing.clone(),
                start: quiet.last_event,
                peak: quiet.last_event,
                end: None,
                severity: Severity::Medium,
                peak_score: Score::ZERO,
                threshold: Score::ZERO,
                readings: 0,
                causes: vec![cause],
                known: quiet.now,
                corrected: None,
                withdrawn: None,
            },
            quiet: 0,
            last_anomalous: quiet.last_event,
            alerted: false,
        };
        let alert = Self::alert(&mut self.recent, &mut open, quiet.last_event, budget);
        let change = Change { episode: open.episode.clone(), alert, moved_from: None };
        self.open = Some(open);
        Some(change)
    }
}

/// A thing that has not been heard of for too long.
pub struct Silence<'a> {
    pub tenant: &'a TenantId,
    pub thing: &'a kilter_core::ThingName,
    /// Of its last record.
    pub position: &'a str,
    pub last_event: Timestamp,
    pub last_arrival: Timestamp,
    pub now: Timestamp,
    pub limit_seconds: f64,
}

/// By how many times rarer than the budget asks for: 10, 100 and 10,000 times. A hard limit is always critical.
fn severity(score: Score, threshold: Score) -> Severity {
    match score.value() - threshold.value() {
        _ if score.value() >= Score::MAX => Severity::Critical,
        excess if excess >= 4.0 => Severity::Critical,
        excess if excess >= 2.0 => Severity::High,
        excess if excess >= 1.0 => Severity::Medium,
        _ => Severity::Low,
    }
}

/// The alert for a change, with its sentence for people.
pub fn alert(change: &Change, raised: Timestamp) -> Option<Alert> {
    let event = change.alert?;
    let episode = change.episode.clone();
    let causes: Vec<String> = episode.causes.iter().map(cause_in_words).collect();
    let (thing, start, causes) = (&episode.thing, episode.start, causes.join("; "));
    let rarity = rarity_in_words(&episode).map_or_else(String::new, |rarity| format!(", {rarity}"));
    let summary = match (event, episode.end) {
        (AlertEvent::Closed, Some(end)) => format!("{thing} back to normal since {end}, after: {causes}"),
        (AlertEvent::Amended, Some(end)) => {
            format!("{thing}, by late readings: anomalous from {start} to {end}: {causes}")
        }
        (AlertEvent::Amended, None) => format!("{thing}, by late readings: anomalous since {start}{rarity}: {causes}"),
        (AlertEvent::Withdrawn, _) => {
            format!("{thing}, by late readings: no anomaly at {start}; what was told is withdrawn: {causes}")
        }
        _ => format!("{thing} anomalous since {start}{rarity}: {causes}"),
    };
    Some(Alert { key: key(event, &episode), event, raised, episode, summary, deliveries: Vec::new() })
}

/// What late data has changed may be told again, and close again: its revision makes that another alert.
fn key(event: AlertEvent, episode: &Episode) -> Box<str> {
    let revision = episode.corrected.map_or_else(String::new, |corrected| format!("-{}", corrected.revision));
    match event {
        AlertEvent::Opened => format!("{}/opened", episode.id).into(),
        AlertEvent::Closed => format!("{}/closed{revision}", episode.id).into(),
        AlertEvent::Amended => format!("{}/amended{revision}", episode.id).into(),
        AlertEvent::Withdrawn => format!("{}/withdrawn{revision}", episode.id).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_core::ThingName;

    const T0: i64 = 1_700_000_000;

    fn row(second: i64, score: f64) -> ScoredReading {
        ScoredReading {
            thing: ThingName::new("pump1").unwrap(),
            event_time: Timestamp::from_seconds(T0 + second),
            arrival: Timestamp::from_seconds(T0 + second),
            position: format!("0:{second}:0").into(),
            verdict: if score >= 3.0 { Verdict::Anomalous } else { Verdict::Normal },
            score: Some(Score::new(score)),
            threshold: Some(Score::new(3.0)),
            values: Default::default(),
            causes: Vec::new(),
            corrected: None,
        }
    }

    fn run(episodes: &mut Episodes, scores: impl IntoIterator<Item = (i64, f64)>, budget: f64) -> Vec<Change> {
        let tenant = TenantId::new("t1").unwrap();
        let budget = AlertBudget { per_asset_and_week: budget };
        scores.into_iter().flat_map(|(t, s)| episodes.observe(&tenant, &row(t, s), 1.0, budget)).collect()
    }

    #[test]
    fn one_event_is_one_episode_and_one_alert() {
        let mut episodes = Episodes::default();
        // Anomalous at 10, 12 and 15 with a pause, then quiet.
        let scores = (0..60).map(|t| (t, if [10, 12, 15].contains(&t) { 4.0 + t as f64 / 10.0 } else { 0.5 }));
        let changes = run(&mut episodes, scores, 3.0);
        let opened: Vec<_> = changes.iter().filter(|c| c.alert == Some(AlertEvent::Opened)).collect();
        assert_eq!(opened.len(), 1);
        let last = changes.last().unwrap();
        assert_eq!(last.alert, Some(AlertEvent::Closed));
        assert_eq!(last.episode.start, Timestamp::from_seconds(T0 + 10));
        assert_eq!(last.episode.peak, Timestamp::from_seconds(T0 + 15));
        assert_eq!(last.episode.end, Some(Timestamp::from_seconds(T0 + 15)));
        assert_eq!(last.episode.readings, 3);
        assert_eq!(&*last.episode.id, "pump1@0:10:0");
    }

    #[test]
    fn beyond_the_budget_only_the_worse_gets_through() {
        let mut episodes = Episodes::default();
        let peaks = [5.0, 6.0, 4.0, 5.9, 7.0];
        let scores = peaks.iter().enumerate().flat_map(|(i, peak)| {
            let start = i as i64 * 1_000;
            std::iter::once((start, *peak)).chain((1..40).map(move |t| (start + t, 0.0)))
        });
        let changes = run(&mut episodes, scores, 2.0);
        let told: Vec<f64> = changes
            .iter()
            .filter(|c| c.alert == Some(AlertEvent::Opened))
            .map(|c| c.episode.peak_score.value())
            .collect();
        assert_eq!(told, [5.0, 6.0, 7.0]);
        let later = run(&mut episodes, [(WEEK_SECONDS + 10_000, 3.5)], 2.0);
        assert_eq!(later[0].alert, Some(AlertEvent::Opened), "a new week has a new budget");
    }

    #[test]
    fn what_lasts_is_learned_in_the_end() {
        let mut episodes = Episodes::default();
        assert!(episodes.holds());
        run(&mut episodes, (0..HOLD_READINGS as i64 - 1).map(|t| (t, 5.0)), 3.0);
        assert!(episodes.holds());
        run(&mut episodes, [(HOLD_READINGS as i64, 5.0)], 3.0);
        assert!(!episodes.holds());
    }

    #[test]
    fn readings_far_apart_are_two_events() {
        let mut episodes = Episodes::default();
        let changes = run(&mut episodes, [(0, 5.0), (100, 5.0)], 3.0);
        assert_eq!(changes.iter().filter(|c| c.alert == Some(AlertEvent::Opened)).count(), 2);
    }

    #[test]
    fn a_summary_says_what_and_why() {
        let mut episodes = Episodes::default();
        let mut reading = row(0, 5.0);
        reading.causes = vec![Cause {
            signal: "discharge_bar".into(),
            share: 0.61,
            direction: Direction::Low,
            value: 2.1,
            expected: [3.8, 4.4],
            detector: "forest".into(),
        }];
        let tenant = TenantId::new("t1").unwrap();
        let changes = episodes.observe(&tenant, &reading, 1.0, AlertBudget::default());
        let alert = alert(&changes[0], reading.arrival).unwrap();
        assert_eq!(
            alert.summary,
            "pump1 anomalous since 2023-11-14T22:13:20Z, seen once in 100,000 readings of normal running: \
             discharge_bar low: 2.100, expected 3.800 to 4.400 (61 %)"
        );
    }
}
