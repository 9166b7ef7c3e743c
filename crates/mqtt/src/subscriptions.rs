//! Who listens to what: one walk finds every subscriber of a topic.

use crate::{QoS, topics::TopicTree};

/// Names a subscriber; whoever owns the trie gives them out.
pub type SubscriberId = u64;

/// What a subscriber was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub qos: QoS,
    /// Not for what the subscriber published itself.
    pub no_local: bool,
}

/// Every filter must have passed [`crate::topics::check_filter`], every name [`crate::topics::check_name`].
#[derive(Debug, Default)]
pub struct Subscriptions(TopicTree<(SubscriberId, Grant)>);

impl Subscriptions {
    /// Adds a subscription or replaces the grant of the one that is there; `true` when it is new.
    pub fn add(&mut self, filter: &str, subscriber: SubscriberId, grant: Grant) -> bool {
        self.0.add(filter, (subscriber, grant), |(id, _)| *id == subscriber).is_none()
    }

    /// `true` when the subscription was there.
    pub fn remove(&mut self, filter: &str, subscriber: SubscriberId) -> bool {
        self.0.remove(filter, |(id, _)| *id == subscriber) > 0
    }

    /// All matching subscribers, each once, with the highest QoS that any of its filters was granted.
    pub fn matching(&self, name: &str, found: &mut Vec<(SubscriberId, Grant)>) {
        found.clear();
        self.0.matching(name, |entry| found.push(*entry));
        found.sort_unstable_by_key(|(id, grant)| (*id, std::cmp::Reverse(grant.qos), grant.no_local));
        found.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            // One filter that wants its own messages is enough to want them.
            kept.1.no_local &= !same || later.1.no_local;
            same
        });
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_filters_count_once_with_the_best_of_both() {
        let mut trie = Subscriptions::default();
        let grant = |qos, no_local| Grant { qos, no_local };
        trie.add("a/#", 1, grant(QoS::AtMostOnce, true));
        trie.add("a/+", 1, grant(QoS::AtLeastOnce, true));
        trie.add("+/b", 2, grant(QoS::AtLeastOnce, true));
        trie.add("a/b", 2, grant(QoS::AtMostOnce, false));
        let mut found = Vec::new();
        trie.matching("a/b", &mut found);
        assert_eq!(found, [(1, grant(QoS::AtLeastOnce, true)), (2, grant(QoS::AtLeastOnce, false))]);
        for (filter, id) in [("a/#", 1), ("a/+", 1), ("+/b", 2), ("a/b", 2)] {
            assert!(trie.remove(filter, id));
        }
        assert!(trie.is_empty());
    }
}
