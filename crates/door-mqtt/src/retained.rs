//! Retained messages: the last one of each topic, for those who subscribe later (MQTT 5 §3.3.1.3).

use crate::{
    records::{self, MessageRecord, RETAINED, RetainedRecord},
    store::{Store, Ticket},
};
use kilter_core::{Timestamp, ports::table::Write};
use kilter_mqtt::{QoS, outflow::Outbound, topics};
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

#[derive(Debug, Clone)]
pub struct Kept {
    pub message: Arc<Outbound>,
    pub qos: QoS,
}

#[derive(Default)]
struct State {
    by_topic: BTreeMap<Arc<str>, Kept>,
    bytes: usize,
}

pub struct Retained {
    state: RwLock<State>,
    messages_max: usize,
    bytes_max: usize,
}

impl Retained {
    pub fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { state: RwLock::default(), messages_max, bytes_max }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a message of this topic and payload may be kept.
    pub fn has_room(&self, topic: &str, payload_bytes: usize) -> bool {
        let state = self.read();
        let (count, bytes) = match state.by_topic.get(topic) {
            Some(known) => (state.by_topic.len() - 1, state.bytes - known.message.weight()),
            None => (state.by_topic.len(), state.bytes),
        };
        let weight = payload_bytes + topic.len() + kilter_mqtt::outflow::MESSAGE_OVERHEAD_BYTES;
        payload_bytes == 0 || (count < self.messages_max && bytes + weight <= self.bytes_max)
    }

    /// Keeps the message, or forgets what is kept where the payload is empty.
    pub fn set(&self, store: &Store, message: &Arc<Outbound>, qos: QoS) -> Ticket {
        let topic = &message.topic;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if message.payload.is_empty() {
            return match state.remove(topic) {
                true => store.submit([Write::delete(&RETAINED, &**topic, "")], None),
                false => 0,
            };
        }
        state.insert(Kept { message: Arc::clone(message), qos });
        let record = RetainedRecord { qos: qos.level(), message: MessageRecord::of(message) };
        // Under the lock: the disk sees the messages of a topic in the order in which they were kept here.
        store.submit([records::put(&RETAINED, topic, "", &record)], None)
    }

    /// Takes up what was kept.
    pub fn restore(&self, record: RetainedRecord) {
        let qos = QoS::from_level(record.qos).unwrap_or(QoS::AtLeastOnce);
        let kept = Kept { message: record.message.outbound(), qos };
        self.state.write().unwrap_or_else(PoisonError::into_inner).insert(kept);
    }

    pub fn get(&self, topic: &str, now: Timestamp) -> Option<Kept> {
        self.read().by_topic.get(topic).filter(|kept| !kept.message.expired(now)).cloned()
    }

    /// What matches the filter, in the order of the topics. Looks only at topics that begin like the filter.
    pub fn matching(&self, filter: &str, now: Timestamp) -> Vec<Kept> {
        let state = self.read();
        let literal = filter.split(['+', '#']).next().unwrap_or_default();
        // "a/#" matches "a" as well.
        let prefix = literal.strip_suffix('/').unwrap_or(literal);
        let range = state.by_topic.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let near = range.take_while(|(topic, _)| topic.starts_with(prefix));
        near.filter(|(topic, kept)| topics::matches(filter, topic) && !kept.message.expired(now))
            .map(|(_, kept)| kept.clone())
            .collect()
    }

    pub fn topics(&self, after: Option<&str>, limit: usize, now: Timestamp) -> Vec<String> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.read();
        let later = state.by_topic.range::<str, _>((from, Bound::Unbounded));
        later.filter(|(_, kept)| !kept.message.expired(now)).take(limit).map(|(topic, _)| topic.to_string()).collect()
    }

    /// Forgets what has expired.
    pub fn expire(&self, store: &Store, now: Timestamp) {
        let expired = |state: &State| -> Vec<Arc<str>> {
            let old = state.by_topic.iter().filter(|(_, kept)| kept.message.expired(now));
            old.map(|(topic, _)| Arc::clone(topic)).collect()
        };
        if expired(&self.read()).is_empty() {
            return;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for topic in expired(&state) {
            state.remove(&topic);
            store.submit([Write::delete(&RETAINED, &*topic, "")], None);
        }
    }
}

impl State {
    fn insert(&mut self, kept: Kept) {
        let topic = Arc::clone(&kept.message.topic);
        self.remove(&topic);
        self.bytes += kept.message.weight();
        self.by_topic.insert(topic, kept);
    }

    fn remove(&mut self, topic: &str) -> bool {
        let removed = self.by_topic.remove(topic);
        self.bytes -= removed.as_ref().map_or(0, |kept| kept.message.weight());
        removed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kilter_mqtt::outflow::MESSAGE_OVERHEAD_BYTES;
    use kilter_testkit::MemoryTable;

    const NOW: Timestamp = Timestamp::from_seconds(100);

    fn message(topic: &str, payload: &str, expires: Option<i64>) -> Arc<Outbound> {
        Arc::new(Outbound {
            topic: topic.into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            properties: None,
            expires: expires.map(Timestamp::from_seconds),
        })
    }

    #[test]
    fn the_last_of_each_topic_is_found_by_filter_until_it_is_removed_or_expires() {
        let store = Store::start(Arc::new(MemoryTable::new())).unwrap();
        let retained = Retained::new(100, 100_000);
        for (topic, payload, expires) in [
            ("a", "1", None),
            ("a/b", "2", None),
            ("a/b", "3", None),
            ("a/c/d", "4", None),
            ("ab", "5", None),
            ("$SYS/x", "6", None),
            ("a/old", "7", Some(100)),
        ] {
            retained.set(&store, &message(topic, payload, expires), QoS::AtLeastOnce);
        }
        let found = |filter: &str| -> Vec<String> {
            let all = retained.matching(filter, NOW).into_iter();
            all.map(|kept| String::from_utf8(kept.message.payload.to_vec()).unwrap()).collect()
        };
        assert_eq!(found("a/#"), ["1", "3", "4"]);
        assert_eq!(found("a/+"), ["3"]);
        assert_eq!(found("+/c/d"), ["4"]);
        assert_eq!(found("#"), ["1", "3", "4", "5"]);
        assert_eq!(found("$SYS/#"), ["6"]);
        retained.set(&store, &message("a/b", "", None), QoS::AtMostOnce);
        assert!(found("a/+").is_empty());
        assert_eq!(retained.topics(Some("a"), 2, NOW), ["a/c/d", "ab"]);
        retained.expire(&store, NOW);
        assert!(retained.get("a/old", Timestamp::from_seconds(0)).is_none());
        store.close();
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let store = Store::start(Arc::new(MemoryTable::new())).unwrap();
        let retained = Retained::new(2, 2 * MESSAGE_OVERHEAD_BYTES + 10);
        retained.set(&store, &message("a", "123", None), QoS::AtMostOnce);
        assert!(retained.has_room("b", 5));
        assert!(!retained.has_room("b", 6), "one byte over");
        retained.set(&store, &message("b", "1", None), QoS::AtMostOnce);
        assert!(!retained.has_room("c", 1), "one message over");
        assert!(retained.has_room("c", 0) && retained.has_room("b", 5));
        store.close();
    }
}
