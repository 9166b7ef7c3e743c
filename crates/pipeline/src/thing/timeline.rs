//! A thing's last readings in order of event time, and states from which they can be judged again: what is needed to
//! put a reading that comes late where it belongs.

use super::judge::Judge;
use kilter_core::{Correction, Reading, Timestamp};
use kilter_detect::ScorerConfig;
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, sync::Arc};

/// Readings from one mark to the next: what is judged again for a late reading beside those that follow it, and how
/// often a state is written.
pub const MARK_READINGS: u64 = 256;
/// Names and values of a thing's readings in memory, as if none shared its names with its neighbour: wide readings are put
/// in order within fewer of them, with marks closer together.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// States of a thing's marks, unless it is one: things of a hundred signals and more are put in order within fewer readings.
const MARKED_BYTES_MAX: usize = 4 << 20;

/// How far behind the newest reading of its thing a reading may be and still be put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Of event time; 0: nothing is put in order.
    pub seconds: u32,
    /// Newer readings of the thing: bounds what is kept in memory.
    pub readings: u32,
}

impl Horizon {
    /// What is behind is not scored.
    pub const NONE: Self = Self { seconds: 0, readings: 0 };
    pub const SECONDS_MAX: u32 = 86_400;
    pub const READINGS_MAX: u32 = 4_096;

    pub fn is_none(&self) -> bool {
        self.seconds == 0
    }
}

/// Five minutes: a gateway that lost its connection for a moment; 512 readings: 100 kB of memory for eight signals.
impl Default for Horizon {
    fn default() -> Self {
        Self { seconds: 300, readings: 512 }
    }
}

/// Names of signals; neighbours mostly share them.
type Names = Arc<[Box<str>]>;

#[derive(Debug, Clone)]
pub enum What {
    Reading {
        names: Names,
        values: Box<[f64]>,
    },
    /// The thing had said nothing until `now`.
    Silence {
        now: Timestamp,
        limit_seconds: f64,
    },
}

#[derive(Debug, Clone)]
pub struct Entry {
    /// The event time; of what came from beyond the horizon and is the first of its signals, that of the newest.
    pub place: Timestamp,
    pub event_time: Timestamp,
    pub arrival: Timestamp,
    pub position: Box<str>,
    pub corrected: Option<Correction>,
    pub what: What,
}

/// A state as of the first entries.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mark {
    number: u64,
    /// Entries that it has seen, counted from the thing's first.
    at: u64,
    size: u32,
    /// Until it is in the table.
    #[serde(skip)]
    bytes: Option<Vec<u8>>,
}

/// The state before the reading that came late last: the next one is often its neighbour. Not written down.
struct Near {
    at: u64,
    judge: Box<Judge>,
}

pub struct Timeline {
    horizon: Horizon,
    /// Oldest first, from the oldest mark on.
    entries: VecDeque<Entry>,
    /// Of all entries, and of those behind the last mark.
    bytes: usize,
    bytes_since_mark: usize,
    /// Entries before these.
    first: u64,
    /// Of the newest reading before the first entry that ever was.
    floor: Option<Timestamp>,
    /// Oldest first; the oldest has seen nothing of `entries`.
    marks: VecDeque<Mark>,
    next_mark: u64,
    near: Option<Near>,
    /// In the table, and of no use any more.
    dropped: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
pub struct StoredTimeline {
    entries: Vec<StoredEntry>,
    first: u64,
    floor: Option<Timestamp>,
    marks: VecDeque<Mark>,
    next_mark: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredEntry {
    place: Timestamp,
    event_time: Timestamp,
    arrival: Timestamp,
    position: Box<str>,
    corrected: Option<Correction>,
    what: StoredWhat,
}

#[derive(Serialize, Deserialize)]
enum StoredWhat {
    /// Names are left out where they are those of the reading before.
    Reading(Option<Vec<Box<str>>>, Box<[f64]>),
    Silence(Timestamp, f64),
}

/// Where a reading belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Behind all that there is, or of the newest's moment.
    InOrder,
    /// Before what was scored already, within the horizon.
    Late,
    Beyond,
}

/// What is to be written of the marks with a state: those that are new, and those that are no more.
#[derive(Debug, Default)]
pub struct MarkWrites {
    pub put: Vec<(u64, Vec<u8>)>,
    pub delete: Vec<u64>,
}

impl Timeline {
    pub fn new(horizon: Horizon) -> Self {
        let (entries, marks) = (VecDeque::new(), VecDeque::new());
        Self {
            horizon,
            entries,
            bytes: 0,
            bytes_since_mark: 0,
            first: 0,
            floor: None,
            marks,
            next_mark: 0,
            near: None,
            dropped: Vec::new(),
        }
    }

    pub fn is_off(&self) -> bool {
        self.horizon.is_none()
    }

    /// Entries that there have been.
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Entries before the oldest from which can be judged again.
    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn newest(&self) -> Option<Timestamp> {
        self.entries.back().map(|entry| entry.place)
    }

    pub fn place(&self, time: Timestamp) -> Place {
        match self.newest() {
            None => Place::InOrder,
            Some(newest) if time >= newest => Place::InOrder,
            Some(newest) if time <= self.edge(newest) || Some(time) <= self.floor => Place::Beyond,
            Some(_) => {
                let newer = self.entries.len() - self.entries.partition_point(|entry| entry.place < time);
                if newer <= self.horizon.readings as usize { Place::Late } else { Place::Beyond }
            }
        }
    }

    /// What is not later than this is beyond the horizon.
    fn edge(&self, newest: Timestamp) -> Timestamp {
        newest.plus_seconds(-i64::from(self.horizon.seconds))
    }

    /// Whether a signal has a value of this very moment.
    pub fn knows(&self, time: Timestamp, signal: &str) -> bool {
        let from = self.entries.partition_point(|entry| entry.place < time);
        let same = self.entries.range(from..).take_while(|entry| entry.place == time);
        same.filter(|entry| entry.event_time == time).any(|entry| entry.has(signal))
    }

    /// Makes an entry of a reading.
    pub fn entry(&self, place: Timestamp, reading: &Reading, arrival: Timestamp, position: Box<str>) -> Entry {
        let same = |names: &&Names| names.iter().eq(reading.signals.iter().map(|(name, _)| name));
        let last = self.entries.back().and_then(Entry::names);
        let names = match last.filter(same) {
            Some(names) => names.clone(),
            None => reading.signals.iter().map(|(name, _)| name.clone()).collect(),
        };
        let values = reading.signals.iter().map(|(_, value)| *value).collect();
        let what = What::Reading { names, values };
        Entry { place, event_time: reading.event_time, arrival, position, corrected: None, what }
    }

    /// `judge` has not seen the entry yet.
    pub fn push(&mut self, entry: Entry, judge: &Judge) {
        if self.marks.is_empty() {
            self.floor = judge.moments.last_event;
        }
        self.mark_if_due(self.end(), judge);
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        self.passed(self.end() - 1);
        if self.near.as_ref().is_some_and(|near| self.end() - near.at > MARK_READINGS) {
            self.near = None;
        }
        self.trim();
    }

    /// Marks the state that has seen the first `at` entries, where the last mark is far enough behind.
    pub fn mark_if_due(&mut self, at: u64, judge: &Judge) {
        let far = self.bytes_since_mark >= KEPT_BYTES_MAX / 4;
        if self.marks.back().is_none_or(|last| far || at - last.at >= MARK_READINGS) {
            self.bytes_since_mark = 0;
            let bytes = judge.to_bytes();
            self.marks.push_back(Mark { number: self.next_mark, at, size: bytes.len() as u32, bytes: Some(bytes) });
            self.next_mark += 1;
        }
    }

    /// An entry has been judged, after [`Self::mark_if_due`].
    pub fn passed(&mut self, at: u64) {
        self.bytes_since_mark += self.entries[(at - self.first) as usize].bytes();
    }

    fn bytes_of(&self, entries: std::ops::Range<u64>) -> usize {
        let range = (entries.start - self.first) as usize..(entries.end - self.first) as usize;
        self.entries.range(range).map(Entry::bytes).sum()
    }

    /// The oldest entries that are too many bytes.
    fn too_many(&self) -> usize {
        let mut bytes = self.bytes;
        let mut entries = self.entries.iter();
        while bytes > KEPT_BYTES_MAX
            && let Some(entry) = entries.next()
        {
            bytes -= entry.bytes();
        }
        self.entries.len() - entries.len()
    }

    /// Forgets what no late reading can need.
    fn trim(&mut self) {
        let Some(newest) = self.newest() else { return };
        let edge = self.edge(newest);
        let by_time = self.entries.partition_point(|entry| entry.place <= edge);
        let by_count = self.entries.len().saturating_sub(self.horizon.readings as usize);
        let needed = self.first + by_time.max(by_count).max(self.too_many()) as u64;
        let mut marked: usize = self.marks.iter().map(|mark| mark.size as usize).sum();
        while self.marks.get(1).is_some_and(|mark| mark.at <= needed || marked > MARKED_BYTES_MAX) {
            let oldest = self.marks.pop_front();
            marked -= oldest.as_ref().map_or(0, |mark| mark.size as usize);
            self.drop_mark(oldest);
        }
        let from = self.marks.front().map_or(self.first, |mark| mark.at);
        let gone = self.entries.drain(..(from - self.first) as usize);
        self.bytes -= gone.map(|entry| entry.bytes()).sum::<usize>();
        self.first = from;
        if self.near.as_ref().is_some_and(|near| near.at < from) {
            self.near = None;
        }
    }

    fn drop_mark(&mut self, mark: Option<Mark>) {
        self.dropped.extend(mark.filter(|mark| mark.bytes.is_none()).map(|mark| mark.number));
    }

    /// How many entries come before a reading of this time.
    pub fn before(&self, time: Timestamp) -> u64 {
        self.first + self.entries.partition_point(|entry| entry.place <= time) as u64
    }

    /// The last state that has seen no more than the first `at` entries, and how many it has seen.
    pub fn rewind<E>(
        &mut self,
        at: u64,
        config: &ScorerConfig,
        read: &dyn Fn(u64) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Option<(Judge, u64)>, E> {
        let Some(mark) = self.marks.iter().rev().find(|mark| mark.at <= at) else { return Ok(None) };
        if let Some(near) = self.near.take_if(|near| (mark.at..=at).contains(&near.at)) {
            self.bytes_since_mark = self.bytes_of(mark.at..near.at);
            return Ok(Some((*near.judge, near.at)));
        }
        let bytes = match &mark.bytes {
            Some(bytes) => Some(bytes.clone()),
            None => read(mark.number)?,
        };
        let judge = bytes.and_then(|bytes| Judge::from_bytes(config.clone(), &bytes).ok());
        self.bytes_since_mark = 0;
        Ok(judge.map(|judge| (judge, mark.at)))
    }

    /// Puts late entries, oldest first, where they belong; answers their places among all. What was marked behind the
    /// first of them is void.
    pub fn insert(&mut self, late: Vec<Entry>) -> Vec<u64> {
        let from = late.first().map_or(self.end(), |entry| self.before(entry.place));
        while self.marks.back().is_some_and(|mark| mark.at > from) {
            let void = self.marks.pop_back();
            self.drop_mark(void);
        }
        self.near = None;
        let mut places = Vec::with_capacity(late.len());
        for entry in late {
            let at = self.before(entry.place);
            self.bytes += entry.bytes();
            self.entries.insert((at - self.first) as usize, entry);
            places.push(at);
        }
        places
    }

    pub fn keep_near(&mut self, at: u64, judge: &Judge) {
        self.near = Some(Near { at, judge: Box::new(judge.clone()) });
    }

    pub fn get_mut(&mut self, at: u64) -> &mut Entry {
        &mut self.entries[(at - self.first) as usize]
    }

    /// To be called when what was inserted has been judged.
    pub fn settle(&mut self) {
        self.trim();
    }

    /// For the commit that writes the state: from then on these marks are in the table.
    pub fn take_writes(&mut self) -> MarkWrites {
        let fresh = |mark: &mut Mark| Some((mark.number, mark.bytes.take()?));
        MarkWrites { put: self.marks.iter_mut().filter_map(fresh).collect(), delete: std::mem::take(&mut self.dropped) }
    }

    /// Marks that must be in the table.
    pub fn written(&self) -> impl Iterator<Item = u64> {
        self.marks.iter().filter(|mark| mark.bytes.is_none()).map(|mark| mark.number)
    }

    /// A mark that comes from elsewhere: it is written here with the next state.
    pub fn adopt(&mut self, number: u64, bytes: Vec<u8>) {
        if let Some(mark) = self.marks.iter_mut().find(|mark| mark.number == number) {
            mark.bytes = Some(bytes);
        }
    }

    pub fn memory_bytes(&self) -> usize {
        let near = self.near.as_ref().map_or(0, |near| near.judge.scorer.memory_bytes());
        let marks: usize = self.marks.iter().filter_map(|mark| mark.bytes.as_ref()).map(Vec::len).sum();
        self.entries.iter().map(Entry::memory_bytes).sum::<usize>() + near + marks
    }

    pub fn store(&self) -> StoredTimeline {
        let mut last: Option<&Names> = None;
        let mut entries = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let what = match &entry.what {
                What::Reading { names, values } => {
                    let known = last.replace(names).is_some_and(|last| last == names);
                    StoredWhat::Reading((!known).then(|| names.to_vec()), values.clone())
                }
                What::Silence { now, limit_seconds } => StoredWhat::Silence(*now, *limit_seconds),
            };
            let Entry { place, event_time, arrival, position, corrected, .. } = entry.clone();
            entries.push(StoredEntry { place, event_time, arrival, position, corrected, what });
        }
        let (first, floor, next_mark) = (self.first, self.floor, self.next_mark);
        // Their bytes are left out, so nothing large is copied.
        let marks = self.marks.iter().map(|mark| Mark { bytes: None, ..*mark }).collect();
        StoredTimeline { entries, first, floor, marks, next_mark }
    }

    /// A timeline that was kept for another horizon is cut, or grows, with the readings that follow.
    pub fn restore(horizon: Horizon, stored: StoredTimeline) -> Self {
        let mut timeline = Self::new(horizon);
        if horizon.is_none() {
            timeline.dropped = stored.marks.iter().map(|mark| mark.number).collect();
            timeline.next_mark = stored.next_mark;
            return timeline;
        }
        let mut last: Names = Arc::default();
        for entry in stored.entries {
            let what = match entry.what {
                StoredWhat::Reading(names, values) => {
                    last = names.map_or(last, Into::into);
                    What::Reading { names: last.clone(), values }
                }
                StoredWhat::Silence(now, limit_seconds) => What::Silence { now, limit_seconds },
            };
            let StoredEntry { place, event_time, arrival, position, corrected, .. } = entry;
            timeline.entries.push_back(Entry { place, event_time, arrival, position, corrected, what });
        }
        (timeline.first, timeline.floor) = (stored.first, stored.floor);
        (timeline.marks, timeline.next_mark) = (stored.marks, stored.next_mark);
        timeline.bytes = timeline.entries.iter().map(Entry::bytes).sum();
        let marked = timeline.marks.back().map_or(timeline.first, |mark| mark.at);
        timeline.bytes_since_mark = timeline.bytes_of(marked.clamp(timeline.first, timeline.end())..timeline.end());
        timeline
    }
}

impl Entry {
    fn names(&self) -> Option<&Names> {
        match &self.what {
            What::Reading { names, .. } => Some(names),
            What::Silence { .. } => None,
        }
    }

    pub fn has(&self, signal: &str) -> bool {
        self.names().is_some_and(|names| names.iter().any(|name| **name == *signal))
    }

    /// The reading that it was made of.
    pub fn reading(&self) -> Option<Reading> {
        let What::Reading { names, values } = &self.what else { return None };
        let signals = names.iter().cloned().zip(values.iter().copied()).collect();
        Some(Reading { event_time: self.event_time, signals })
    }

    /// What it takes with names of its own; so the same whatever its neighbours are.
    fn bytes(&self) -> usize {
        let names = self.names().map_or(0, |names| names.iter().map(|name| name.len() + size_of::<Box<str>>()).sum());
        self.memory_bytes() + names
    }

    fn memory_bytes(&self) -> usize {
        let values = if let What::Reading { values, .. } = &self.what { size_of_val(&**values) } else { 0 };
        size_of::<Self>() + self.position.len() + values
    }
}
