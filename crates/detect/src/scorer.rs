//! The scorer of one thing: every detector on every signal and on all of them together, told as one score.
//!
//! Each detector answers with a chance by its own history. The smallest chance of a reading is, again, a statistic
//! with a history: its own tail says how often a healthy reading of this thing has one as small. That takes account
//! of how many detectors there are, how they depend on one another, and how honest each of them is, which a
//! Bonferroni factor could only guess.

use crate::blend::{Blend, CHANNELS};
use crate::budget;
use crate::catalog::{THING_DETECTORS, ThingDetectors};
use crate::change::Changes;
use crate::context;
use crate::cusum::Cusum;
use crate::detector::{Detector, Input, Part, Reaction, THING};
use crate::gap::Gap;
use crate::limits::LimitsDetector;
use crate::onset::Onset;
use crate::reference::Reference;
use crate::sample::Workings;
use crate::signals::{Placed, Signal, Signals};
use crate::tail::Tail;
use crate::windows::Windows;
use crate::{CAUSES_MAX, Learn, Outcome, Sample, ScorerConfig};
use kilter_core::{Cause, Score, Timestamp, Verdict};
use serde::{Deserialize, Serialize};

/// Readings before a thing is scored: 64 to choose the forest's dimensions and scales, about 50 for the detectors'
/// tails, and the rest, over a hundred, to calibrate the smallest chance of all of them.
pub const WARM_UP_READINGS: u32 = 256;
/// From this reading on the detectors speak, and their smallest chance is learned.
const COMBINE_FROM: u64 = 128;
/// A signal with less than this part of the first cause's share is no cause.
const NEGLIGIBLE: f64 = 0.02;
/// The name under which the thing itself appears among the causes, for gaps.
pub const GAP_SIGNAL: &str = "(gap)";

/// Scores one thing: each of its signals and all of them together.
#[derive(Debug, Clone)]
pub struct ThingScorer {
    config: ScorerConfig,
    pub(crate) state: State,
}

/// Everything learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    readings: u64,
    signals: Signals,
    things: ThingDetectors,
    blend: Blend,
    onset: Onset,
    changes: Changes,
    /// When the thing was last seen off.
    off_at: Option<Timestamp>,
    /// Of the highest score that any detector gave.
    strongest: Tail,
}

/// A detector's name with its answer.
type Answer = (&'static str, Reaction);

impl ThingScorer {
    /// A scorer that has seen nothing. The seed fixes everything that is random in it.
    pub fn new(config: ScorerConfig, seed: u64) -> Self {
        let state = State {
            readings: 0,
            signals: Signals::default(),
            things: ThingDetectors::new(seed),
            blend: Blend::default(),
            onset: Onset::default(),
            changes: Changes::default(),
            off_at: None,
            strongest: Tail::default(),
        };
        Self { config, state }
    }

    pub(crate) fn with_state(config: ScorerConfig, state: State) -> Self {
        Self { config, state }
    }

    pub fn config(&self) -> &ScorerConfig {
        &self.config
    }

    /// Says how odd the sample is. Changes nothing.
    pub fn score(&self, sample: &Sample<'_>) -> Outcome {
        let state = &self.state;
        if self.pauses(sample) {
            return Outcome::paused();
        }
        let placed = state.signals.place(sample.signals);
        let commissioning = state.readings < u64::from(self.config.commissioning());
        let (mut answers, mut workings) = state.answers(sample, &placed, commissioning);
        answers.retain_mut(|(name, reaction)| self.counts(name, reaction, sample.event_time));
        // Without a commissioning that somebody vouches for, the reference ranks and explains but raises no alarm.
        let vouched = self.config.commissioning_readings.is_some();
        let strongest = state.strongest_of(&answers, vouched);
        let broken = self.broken_limits(sample);
        let threshold = budget::threshold(self.config.budget, state.things.gap.readings_per_week(), &state.strongest);
        let seen = u32::try_from(state.readings).unwrap_or(u32::MAX);
        let warm = if seen >= WARM_UP_READINGS { state.strongest.score(strongest.value()) } else { None };
        let off = answers.iter().find(|(name, reaction)| *name == Reference::NAME && Reference::alarms(reaction));
        let off = off.filter(|_| vouched).map(|(_, reaction)| *reaction);
        let (verdict, score) = match (broken.is_empty(), warm) {
            (false, _) => (Verdict::Anomalous, Some(Score::new(Score::MAX))),
            (true, Some(score)) if score >= threshold => (Verdict::Anomalous, Some(score)),
            // Off its reference is beyond the threshold, by as much as the edge was passed.
            (true, warm) if let Some(off) = &off => {
                let beyond = Score::new(threshold.value() + Reference::excess(off).max(1.0).log10());
                (Verdict::Anomalous, Some(warm.map_or(beyond, |warm| later_if_higher(warm, beyond))))
            }
            (true, Some(score)) => (Verdict::Normal, Some(score)),
            (true, None) => (Verdict::Warming { seen: seen.min(WARM_UP_READINGS), needed: WARM_UP_READINGS }, None),
        };
        workings.strongest = (!answers.is_empty()).then_some(strongest.value());
        let (oddness, settled) = state.blend.words(&mut workings);
        let novelties = placed.known.iter().map(|&(at, value)| state.signals.at(at).novelty.of(value));
        workings.novelty = novelties.reduce(f64::max);
        let onset = workings.novelty.map(|novelty| state.onset.strength(novelty));
        workings.furthest =
            Changes::furthest(placed.known.iter().map(|&(at, value)| (&state.signals.at(at).levels, value)));
        let change = (!commissioning).then(|| state.changes.told(workings.furthest));
        answers.retain(|(_, reaction)| reaction.score().is_some());
        let causes = match (score, &off) {
            (None, _) => Vec::new(),
            (Some(_), Some(off)) if broken.is_empty() => state.causes_off_reference(off),
            _ => state.causes(&broken, &answers),
        };
        let unscored = placed.unknown.saturating_sub(state.signals.room(state.readings));
        Outcome {
            verdict,
            score,
            threshold: score.map(|_| threshold),
            oddness,
            settled,
            onset,
            change,
            causes,
            unscored_signals: u32::try_from(unscored).unwrap_or(u32::MAX),
            workings,
        }
    }

    /// Whether the thing is maintained, off or starting up: neither scored nor learned.
    fn pauses(&self, sample: &Sample<'_>) -> bool {
        let now = sample.event_time;
        let off = self.config.off.as_ref().is_some_and(|off| match off.shown_by(sample.signals) {
            Some(true) => true,
            _ => self.state.off_at.is_some_and(|at| now.seconds_since(at) < off.start_up_seconds),
        });
        off || self.config.maintenance.iter().any(|maintenance| maintenance.contains(now))
    }

    /// Whether silence from the last reading to `now` is nothing to tell: somebody works on the thing, or it was off.
    pub fn rests(&self, now: Timestamp) -> bool {
        let Some(last) = self.state.things.gap.last() else { return false };
        self.state.off_at == Some(last) || context::maintained(&self.config.maintenance, last, now)
    }

    /// Whether a detector's finding counts, by what the operator knows; takes out of it what does not.
    fn counts(&self, name: &str, reaction: &mut Reaction, now: Timestamp) -> bool {
        let tolerance_of = |part: &Part| self.config.tolerances.get(self.state.signals.name_of(part.slot)?).copied();
        (name != Gap::NAME || !self.rests(now))
            && (self.config.tolerances.is_empty() || context::keep_what_matters(name, reaction, tolerance_of))
    }

    fn broken_limits(&self, sample: &Sample<'_>) -> Vec<Cause> {
        let mut broken = Vec::new();
        for (name, limits) in &self.config.limits {
            let Ok(at) = sample.signals.binary_search_by(|(signal, _)| signal.cmp(name)) else { continue };
            let input = Input {
                event_time: sample.event_time,
                values: &[(0, sample.signals[at].1)],
                readings_per_week: 0.0,
                commissioning: false,
            };
            let reaction = LimitsDetector::new(*limits).score(&input);
            if let (Some(score), Some(part)) = (reaction.score(), reaction.parts[0])
                && score > Score::ZERO
            {
                broken.push(cause(name, LimitsDetector::NAME, &part, 1.0));
            }
        }
        broken
    }

    /// Learns the sample; `outcome` is what [`Self::score`] has just said about it.
    pub fn learn(&mut self, sample: &Sample<'_>, outcome: &Outcome, mode: Learn) {
        let rests = self.rests(sample.event_time);
        let state = &mut self.state;
        if rests || outcome.verdict == Verdict::Paused {
            state.things.gap.rest(sample.event_time);
        }
        if let Some(true) = self.config.off.as_ref().and_then(|off| off.shown_by(sample.signals)) {
            state.off_at = Some(sample.event_time);
        }
        if outcome.verdict == Verdict::Paused {
            return;
        }
        let (signals, things) = (&mut state.signals, &mut state.things);
        signals.admit(sample.signals, state.readings, |slot| things.forget(slot));
        let placed = signals.place(sample.signals);
        let readings_per_week = things.gap.readings_per_week();
        let commissioning = state.readings < u64::from(self.config.commissioning());
        let whole = Input { event_time: sample.event_time, values: &placed.values, readings_per_week, commissioning };
        // Who was not asked has said nothing.
        let silent = Reaction::warming(0, 1, 0.0);
        let workings = &outcome.workings;
        for &(position, value) in &placed.known {
            let signal = signals.at_mut(position);
            let input = Input { values: &[(signal.slot, value)], ..whole };
            signal.detectors.learn(&input, mode);
            signal.novelty.learn(value);
            if let Some(windows) = &mut signal.windows {
                let seen = workings.windows.iter().find(|(slot, _)| *slot == signal.slot);
                windows.learn(&input, seen.map_or(&silent, |(_, reaction)| reaction), mode);
            }
        }
        things.learn(&whole, workings.things.as_ref().unwrap_or(&[silent; THING_DETECTORS]), mode);
        let levels = signals.levels_of(&placed.known);
        let ordinary = mode == Learn::Full && (commissioning || state.changes.is_within(workings.furthest));
        state.changes.learn(workings.furthest, ordinary, levels);
        state.blend.learn(workings, state.lags());
        state.onset.learn(workings.novelty);
        match (mode, outcome.workings.strongest) {
            (Learn::Hold, _) => state.strongest.hold(),
            (Learn::Full, Some(strongest)) if state.readings >= COMBINE_FROM => {
                state.strongest.learn(strongest, readings_per_week);
            }
            (Learn::Full, _) => {}
        }
        state.readings = state.readings.saturating_add(1);
    }

    /// All signals by their part in how far the sample is off the reference, largest first; empty without a reference.
    pub fn ranking(&self, sample: &Sample<'_>) -> Vec<(&str, f64)> {
        let placed = self.state.signals.place(sample.signals);
        let whole = Input {
            event_time: sample.event_time,
            values: &placed.values,
            readings_per_week: 0.0,
            commissioning: false,
        };
        let ranked = self.state.things.reference.ranking(&whole);
        ranked.into_iter().filter_map(|(slot, share)| Some((self.state.signals.name_of(slot)?, share))).collect()
    }

    /// Where an ordinary next value of each signal would lie, by name; nothing of a signal that was never seen.
    pub fn expected(&self) -> Vec<(&str, [f64; 2])> {
        let vouched = self.config.commissioning_readings.is_some();
        let reference = |slot| self.state.things.reference.expected(slot).filter(|_| vouched);
        let of = |signal: &Signal| reference(signal.slot).unwrap_or_else(|| signal.detectors.expected());
        self.state.signals.iter().map(|signal| (&*signal.name, of(signal))).collect()
    }

    /// Signals that have a place.
    pub fn signals(&self) -> usize {
        self.state.signals.len()
    }

    /// Upper estimate of what the scorer occupies.
    pub fn memory_bytes(&self) -> usize {
        let limits: usize = self.config.limits.keys().map(|name| name.len() + 64).sum();
        let state = &self.state;
        size_of::<Self>()
            + limits
            + state.signals.memory_bytes()
            + state.things.memory_bytes()
            + state.blend.memory_bytes()
            + Tail::memory_bytes()
    }
}

impl State {
    /// What every detector says.
    fn answers(&self, sample: &Sample<'_>, placed: &Placed, commissioning: bool) -> (Vec<Answer>, Workings) {
        let readings_per_week = self.things.gap.readings_per_week();
        let whole = Input { event_time: sample.event_time, values: &placed.values, readings_per_week, commissioning };
        let mut answers = Vec::with_capacity(4 * placed.known.len() + THING_DETECTORS);
        let mut workings = Workings::default();
        for &(position, value) in &placed.known {
            let signal = self.signals.at(position);
            let input = Input { values: &[(signal.slot, value)], ..whole };
            signal.detectors.react(&input, |name, reaction| answers.push((name, reaction)));
            if let Some(windows) = &signal.windows {
                let reaction = windows.score(&input);
                answers.push((Windows::NAME, reaction));
                workings.windows.push((signal.slot, reaction));
            }
        }
        let things = self.things.react(&whole);
        answers.extend(things);
        workings.things = Some(things.map(|(_, reaction)| reaction));
        (answers, workings)
    }

    /// Of the blend's channels: the signals' windows, then the detectors of the whole thing.
    fn lags(&self) -> [u32; CHANNELS] {
        let mut lags = [0; CHANNELS];
        lags[0] = self.signals.iter().filter_map(|signal| Some(signal.windows.as_ref()?.lag())).max().unwrap_or(0);
        lags[1..].copy_from_slice(&self.things.lags());
        lags
    }

    /// The highest score of any detector. Where levels are held against the reference, which knows how far they wander
    /// together, the running level of single signals has no say: jumps are the rate's business.
    fn strongest_of(&self, answers: &[Answer], vouched: bool) -> Score {
        let referenced = vouched && self.things.reference.is_ready();
        let heard = answers.iter().filter(|(name, _)| !(referenced && *name == Cusum::NAME));
        heard.filter_map(|(_, reaction)| reaction.score()).fold(Score::ZERO, later_if_higher)
    }

    /// Off its reference, the thing's signals are weighed by the reference alone: it saw all of them together.
    fn causes_off_reference(&self, off: &Reaction) -> Vec<Cause> {
        let named = |part: &Part| Some(cause(self.signals.name_of(part.slot)?, Reference::NAME, part, part.share));
        told(off.parts.iter().flatten().filter_map(named).collect())
    }

    /// The signals that most of the oddness comes from. A broken limit is cause enough.
    fn causes(&self, broken: &[Cause], answers: &[Answer]) -> Vec<Cause> {
        let mut causes: Vec<Cause> = broken.to_vec();
        if causes.is_empty() {
            causes = self.weighed(answers);
        }
        told(causes)
    }

    /// Per signal, the sum of what detectors blame it for; each counts by how sure it is beside the surest.
    fn weighed(&self, answers: &[Answer]) -> Vec<Cause> {
        let surest = answers.iter().filter_map(|(_, r)| r.score()).fold(Score::ZERO, later_if_higher).value();
        let mut blamed: Vec<(f64, f64, &'static str, Part)> = Vec::new();
        for (name, reaction) in answers {
            let Some(score) = reaction.score() else { continue };
            let weight = if surest > 0.0 { score.value() * (score.value() / surest).powi(3) } else { 1.0 };
            for part in reaction.parts.iter().flatten() {
                let weight = weight * part.share;
                match blamed.iter_mut().find(|(.., other)| other.slot == part.slot) {
                    Some((sum, largest, detector, kept)) => {
                        *sum += weight;
                        if weight > *largest {
                            (*largest, *detector, *kept) = (weight, name, *part);
                        }
                    }
                    None => blamed.push((weight, weight, name, *part)),
                }
            }
        }
        blamed.sort_by(|a, b| b.0.total_cmp(&a.0));
        let named = |(sum, _, detector, part): &(f64, f64, &'static str, Part)| {
            let name = if part.slot == THING { GAP_SIGNAL } else { self.signals.name_of(part.slot)? };
            Some(cause(name, detector, part, *sum))
        };
        blamed.iter().filter_map(named).take(CAUSES_MAX).collect()
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.signals.is_sound()
            && self.things.is_sound()
            && self.blend.is_sound()
            && self.onset.is_sound()
            && self.changes.is_sound()
            && self.strongest.is_sound()
    }
}

/// The first few, without what is negligible beside the first; their shares sum to 1.
fn told(mut causes: Vec<Cause>) -> Vec<Cause> {
    causes.truncate(CAUSES_MAX);
    let least = causes.first().map_or(0.0, |cause| cause.share * NEGLIGIBLE);
    causes.retain(|cause| cause.share >= least);
    let total: f64 = causes.iter().map(|cause| cause.share).sum();
    let count = causes.len() as f64;
    for cause in &mut causes {
        cause.share = if total > 0.0 { cause.share / total } else { 1.0 / count };
    }
    causes
}

fn later_if_higher(a: Score, b: Score) -> Score {
    if b > a { b } else { a }
}

fn cause(name: &str, detector: &str, part: &Part, share: f64) -> Cause {
    Cause {
        signal: name.into(),
        share,
        direction: part.direction,
        value: part.value,
        expected: part.expected,
        detector: detector.into(),
    }
}
