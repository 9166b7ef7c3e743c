//! The episodes that late readings may still change, as they were last told, and what becomes of them when readings
//! are judged again.

use crate::episodes::{Change, SILENCE};
use kilter_core::{AlertEvent, Correction, Episode, Offset, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// At most one for each reading of the timeline, and the open one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tellings(Vec<Told>);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Told {
    episode: Episode,
    /// Whether an alert was raised for it.
    alerted: bool,
    /// Entries of the timeline that had been judged when it ended, or was withdrawn.
    last: u64,
}

impl Told {
    fn is_open(&self) -> bool {
        self.episode.end.is_none()
    }

    fn is_withdrawn(&self) -> bool {
        self.episode.withdrawn.is_some()
    }

    fn is_silence(&self) -> bool {
        self.episode.id.contains(SILENCE)
    }

    /// Whether both could be the same event.
    fn meets(&self, other: &Self) -> bool {
        let ends = |told: &Self| told.episode.end.unwrap_or(Timestamp::from_nanos(i64::MAX));
        self.is_silence() == other.is_silence()
            && self.episode.start <= ends(other)
            && other.episode.start <= ends(self)
    }

    /// Whether people would call it another story than they were told.
    fn differs(&self, other: &Self) -> bool {
        let story = |told: &Self| {
            let e = &told.episode;
            (e.start, e.peak, e.end, e.severity, e.causes.iter().map(|cause| cause.signal.clone()).collect::<Vec<_>>())
        };
        story(self) != story(other)
    }
}

/// By which record late readings came.
#[derive(Debug, Clone, Copy)]
pub struct Cause {
    pub known: Timestamp,
    pub offset: Offset,
}

impl Cause {
    /// The next revision of what `before` was the last correction of.
    pub fn correction(self, before: Option<Correction>) -> Correction {
        let revision = before.map_or(0, |before| before.revision).saturating_add(1);
        Correction { revision, known: self.known, offset: self.offset }
    }
}

/// What is told of episodes whose readings were judged again, and the one that is open now, with whether an alert was
/// raised for it.
#[derive(Default)]
pub struct Amendments {
    pub changes: Vec<Change>,
    pub open: Option<(Episode, bool)>,
}

impl Tellings {
    /// Takes a change in. `at`: entries judged by then.
    pub fn note(&mut self, change: &Change, at: u64) {
        let opened = change.alert == Some(AlertEvent::Opened);
        let at = if change.episode.end.is_some() { at } else { 0 };
        match self.0.iter_mut().rev().find(|told| told.episode.id == change.episode.id) {
            Some(told) => {
                told.episode = change.episode.clone();
                told.alerted |= opened;
                told.last = at;
            }
            None => self.0.push(Told { episode: change.episode.clone(), alerted: opened, last: at }),
        }
    }

    /// The episode that was open in the state from which is judged again.
    pub fn carry(&mut self, open: Option<(&Episode, bool)>) {
        self.0.extend(open.map(|(episode, alerted)| Told { episode: episode.clone(), alerted, last: 0 }));
    }

    /// Forgets what no late reading can change: what ended before the timeline's first entry.
    pub fn forget(&mut self, first: u64) {
        self.0.retain(|told| told.last > first || told.is_open());
    }

    /// All entries behind the first `from` were judged again, which gave `now`; answers what that changes.
    pub fn amend(&mut self, now: Self, from: u64, end: u64, cause: Cause) -> Amendments {
        let (mut before, kept): (Vec<Told>, _) =
            std::mem::take(&mut self.0).into_iter().partition(|told| told.last > from || told.is_open());
        self.0 = kept;
        let pairs = pair(&before, &now.0);
        let taken: BTreeSet<Box<str>> = self.0.iter().chain(&before).map(|told| told.episode.id.clone()).collect();
        let mut amendments = Amendments::default();
        let mut paired = vec![false; before.len()];
        for (mut new, old) in now.0.into_iter().zip(pairs) {
            let told = match old {
                Some(old) => {
                    paired[old] = true;
                    amended(&before[old], new, cause, &mut amendments.changes)
                }
                None => {
                    // An episode that late data has moved may have its first reading's name.
                    while taken.contains(&new.episode.id) {
                        new.episode.id = format!("{}+", new.episode.id).into();
                    }
                    raised(new, cause, &mut amendments.changes)
                }
            };
            if told.is_open() {
                amendments.open = Some((told.episode.clone(), told.alerted));
            }
            self.0.push(told);
        }
        let vanished = before.iter_mut().zip(paired).filter(|(_, paired)| !paired).map(|(told, _)| told);
        for told in vanished {
            if !told.is_withdrawn() {
                withdraw(told, end, cause, &mut amendments.changes);
            }
            self.0.push(told.clone());
        }
        // In the same order however far back it was judged from.
        self.0.sort_by(|a, b| (a.episode.start, &a.episode.id).cmp(&(b.episode.start, &b.episode.id)));
        amendments
    }
}

/// Which of the old ones each new one is: that of the same name and time, else the first that it meets, else one that
/// was withdrawn under its name.
fn pair(before: &[Told], now: &[Told]) -> Vec<Option<usize>> {
    let mut pairs = vec![None; now.len()];
    let mut free = vec![true; before.len()];
    let rules: [fn(&Told, &Told) -> bool; 3] = [
        |old, new| !old.is_withdrawn() && old.episode.id == new.episode.id && old.meets(new),
        |old, new| !old.is_withdrawn() && old.meets(new),
        |old, new| old.episode.id == new.episode.id,
    ];
    for same in rules {
        for (new, pair) in now.iter().zip(&mut pairs).filter(|(_, pair)| pair.is_none()) {
            *pair = (0..before.len()).find(|&old| free[old] && same(&before[old], new));
            if let Some(old) = *pair {
                free[old] = false;
            }
        }
    }
    pairs
}

fn amended(old: &Told, new: Told, cause: Cause, changes: &mut Vec<Change>) -> Told {
    let identity = |episode: &mut Episode| {
        episode.id = old.episode.id.clone();
        (episode.known, episode.corrected) = (old.episode.known, old.episode.corrected);
    };
    let mut told = Told { alerted: old.alerted || new.alerted, ..new.clone() };
    identity(&mut told.episode);
    if told.episode == old.episode && told.alerted == old.alerted {
        return told;
    }
    told.episode.corrected = Some(cause.correction(old.episode.corrected));
    let moved_from = (old.episode.start != told.episode.start).then_some(old.episode.start);
    let change = |alert, moved_from| Change { episode: told.episode.clone(), alert, moved_from };
    let ends = old.is_open() && !told.is_open();
    let alert = match (old.alerted, new.alerted) {
        (false, true) => Some(AlertEvent::Opened),
        (true, _) if ends => Some(AlertEvent::Closed),
        (true, _) if told.differs(old) || old.is_withdrawn() => Some(AlertEvent::Amended),
        _ => None,
    };
    changes.push(change(alert, moved_from));
    if alert == Some(AlertEvent::Opened) && !told.is_open() {
        changes.push(change(Some(AlertEvent::Closed), None));
    }
    told
}

fn raised(mut told: Told, cause: Cause, changes: &mut Vec<Change>) -> Told {
    // Its readings may have been known for long; that they are an anomaly is known only now.
    told.episode.known = cause.known;
    let change = |alert| Change { episode: told.episode.clone(), alert, moved_from: None };
    changes.push(change(told.alerted.then_some(AlertEvent::Opened)));
    if told.alerted && !told.is_open() {
        changes.push(change(Some(AlertEvent::Closed)));
    }
    told
}

fn withdraw(told: &mut Told, end: u64, cause: Cause, changes: &mut Vec<Change>) {
    let episode = &mut told.episode;
    episode.withdrawn = Some(cause.known);
    episode.corrected = Some(cause.correction(episode.corrected));
    episode.end = episode.end.or(Some(episode.peak));
    told.last = end;
    let alert = told.alerted.then_some(AlertEvent::Withdrawn);
    changes.push(Change { episode: episode.clone(), alert, moved_from: None });
}
