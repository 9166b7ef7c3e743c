//! What is remembered of time: of the values in order of event time, of the messages in order of arrival.

use crate::decode;
use kilter_core::{Reading, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Signals whose last time is remembered; beyond that the longest unseen is forgotten, and with it only the
/// knowledge that an older reading of it would be late.
const LAST_TIMES_MAX: usize = 1_024;
/// Weight of the newest interval in the running mean.
const INTERVAL_WEIGHT: f64 = 0.05;

/// When values were measured; part of what is judged again when readings come late.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Moments {
    /// Last event time of each signal.
    last: BTreeMap<Box<str>, Timestamp>,
    pub last_event: Option<Timestamp>,
    /// Running mean, in seconds; 0 while unknown.
    pub event_interval: f64,
}

/// When messages came; what has come has come, whatever its event time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Arrivals {
    pub last: Option<Timestamp>,
    pub messages: u64,
    /// Shard and offset of the last record.
    pub last_position: Box<str>,
    /// Running mean, in seconds; 0 while unknown.
    pub interval: f64,
}

impl Arrivals {
    pub fn note(&mut self, arrival: Timestamp, position: Box<str>) {
        self.messages += 1;
        if let Some(last) = self.last {
            mean(&mut self.interval, arrival.seconds_since(last));
        }
        self.last = Some(self.last.map_or(arrival, |last| last.max(arrival)));
        self.last_position = position;
    }
}

impl Moments {
    /// When a reading happened. One without a time of its own has that of its arrival, in milliseconds where a rule's
    /// `timestamp()` gave it; several of one moment happened one after the other, as they came, and none is a duplicate.
    pub fn moment(&self, time: Timestamp, arrival: Timestamp) -> Timestamp {
        if time != arrival && time != decode::to_millis(arrival) {
            return time;
        }
        let last = self.last_event.map_or(i64::MIN, Timestamp::as_nanos);
        match last.saturating_sub(time.as_nanos()) {
            0..decode::MILLI_NANOS => Timestamp::from_nanos(last + 1),
            _ => time,
        }
    }

    /// Keeps the signals that are newer than what was last seen of them; `None` when none is.
    pub fn fresh(&self, mut reading: Reading) -> Option<Reading> {
        let time = reading.event_time;
        reading.signals.retain(|(name, _)| self.last.get(name).is_none_or(|last| *last < time));
        (!reading.signals.is_empty()).then_some(reading)
    }

    /// Takes note of a reading that is judged now.
    pub fn pass(&mut self, reading: &Reading) {
        let time = reading.event_time;
        for (name, _) in &reading.signals {
            if let Some(last) = self.last.get_mut(name) {
                *last = time.max(*last);
            } else {
                self.make_room();
                self.last.insert(name.clone(), time);
            }
        }
        if let Some(last) = self.last_event.filter(|last| time > *last) {
            mean(&mut self.event_interval, time.seconds_since(last));
        }
        self.last_event = Some(self.last_event.map_or(time, |last| last.max(time)));
    }

    fn make_room(&mut self) {
        if self.last.len() >= LAST_TIMES_MAX {
            let oldest =
                self.last.iter().min_by_key(|(name, time)| (**time, (*name).clone())).map(|(name, _)| name.clone());
            if let Some(name) = oldest {
                self.last.remove(&name);
            }
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.last.len() * 64
    }
}

fn mean(mean: &mut f64, value: f64) {
    let value = value.max(0.0);
    if *mean == 0.0 {
        *mean = value;
    } else {
        // One long pause must not make a silent thing look usual: it counts as at most ten intervals.
        *mean += INTERVAL_WEIGHT * (value.min(*mean * 10.0) - *mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_names_a_new_field_every_time_is_not_remembered_for_ever() {
        let mut moments = Moments::default();
        for i in 0..5_000 {
            let signals = vec![(format!("f{i}").into(), 1.0)];
            moments.pass(&Reading { event_time: Timestamp::from_seconds(i), signals });
        }
        assert_eq!(moments.last.len(), LAST_TIMES_MAX);
        assert!(moments.last.contains_key("f4999"));
    }
}
