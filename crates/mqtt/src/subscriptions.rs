//! Who listens to what: one walk finds every subscriber of a topic.

use crate::{
    QoS,
    topics::{SharedFilter, TopicTree},
};
use std::sync::Arc;

/// Names a subscriber; whoever owns the trie gives them out.
pub type SubscriberId = u64;

/// What a subscriber was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub qos: QoS,
    /// Not for what the subscriber published itself.
    pub no_local: bool,
    /// The retain flag is passed on as it came.
    pub retain_as_published: bool,
    /// Travels with each message that matched.
    pub subscription_id: Option<u32>,
}

impl Grant {
    /// A plain subscription, as in 3.1.1.
    pub const fn of(qos: QoS) -> Self {
        Self { qos, no_local: false, retain_as_published: false, subscription_id: None }
    }
}

/// A subscriber of a message, with the best of all its filters that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub subscriber: SubscriberId,
    pub qos: QoS,
    /// Every filter that matched is without local messages.
    pub no_local: bool,
    pub retain_as_published: bool,
    /// In ascending order.
    pub subscription_ids: Vec<u32>,
}

impl Match {
    fn of(subscriber: SubscriberId, grant: &Grant) -> Self {
        Self {
            subscriber,
            qos: grant.qos,
            no_local: grant.no_local,
            retain_as_published: grant.retain_as_published,
            subscription_ids: grant.subscription_id.into_iter().collect(),
        }
    }
}

#[derive(Debug)]
struct Entry {
    subscriber: SubscriberId,
    grant: Grant,
    share: Option<Arc<Share>>,
}

/// A group that shares a filter (MQTT 5 §4.8.2).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Share {
    group: Box<str>,
    filter: Box<str>,
}

/// Every filter must have passed [`crate::topics::check_filter`], every name [`crate::topics::check_name`].
#[derive(Debug, Default)]
pub struct Subscriptions(TopicTree<Entry>);

impl Subscriptions {
    /// Adds a subscription or replaces the grant of the one that is there; `true` when it is new.
    pub fn add(&mut self, shared: SharedFilter<'_>, subscriber: SubscriberId, grant: Grant) -> bool {
        let share = shared.group.map(|group| Arc::new(Share { group: group.into(), filter: shared.filter.into() }));
        let entry = Entry { subscriber, grant, share };
        let same = |known: &Entry| known.subscriber == subscriber && of_group(known, shared.group);
        self.0.add(shared.filter, entry, same).is_none()
    }

    /// `true` when the subscription was there.
    pub fn remove(&mut self, shared: SharedFilter<'_>, subscriber: SubscriberId) -> bool {
        let same = |known: &Entry| known.subscriber == subscriber && of_group(known, shared.group);
        self.0.remove(shared.filter, same) > 0
    }

    /// All matching subscribers, each once, with the best of what its filters were granted; and the members of each
    /// group that shares a matching filter, of whom one must be chosen.
    pub fn matching(&self, name: &str, found: &mut Vec<Match>, groups: &mut Vec<Vec<Match>>) {
        found.clear();
        groups.clear();
        let mut shared: Vec<(&Share, Match)> = Vec::new();
        self.0.matching(name, |entry| {
            let one = Match::of(entry.subscriber, &entry.grant);
            match &entry.share {
                None => found.push(one),
                Some(share) => shared.push((share, one)),
            }
        });
        found.sort_by_key(|one| one.subscriber);
        found.dedup_by(|later, kept| {
            let same = later.subscriber == kept.subscriber;
            if same {
                kept.qos = kept.qos.max(later.qos);
                // One filter that wants its own messages is enough to want them.
                kept.no_local &= later.no_local;
                kept.retain_as_published |= later.retain_as_published;
                kept.subscription_ids.append(&mut later.subscription_ids);
            }
            same
        });
        for one in found.iter_mut().filter(|one| one.subscription_ids.len() > 1) {
            one.subscription_ids.sort_unstable();
            one.subscription_ids.dedup();
        }
        shared.sort_by_key(|(share, one)| (*share, one.subscriber));
        groups.extend(
            shared
                .chunk_by(|(left, _), (right, _)| left == right)
                .map(|members| members.iter().map(|(_, one)| one.clone()).collect()),
        );
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn of_group(entry: &Entry, group: Option<&str>) -> bool {
    entry.share.as_ref().map(|share| &*share.group) == group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::split_share;

    fn add(trie: &mut Subscriptions, filter: &str, id: SubscriberId, grant: Grant) -> bool {
        trie.add(split_share(filter).unwrap(), id, grant)
    }

    #[test]
    fn overlapping_filters_count_once_with_the_best_of_both() {
        let mut trie = Subscriptions::default();
        let grant = |qos, no_local, id| Grant { no_local, subscription_id: id, ..Grant::of(qos) };
        let keeps = Grant { retain_as_published: true, ..grant(QoS::AtMostOnce, false, Some(7)) };
        add(&mut trie, "a/#", 1, grant(QoS::AtMostOnce, true, Some(9)));
        add(&mut trie, "a/+", 1, grant(QoS::AtLeastOnce, true, Some(4)));
        add(&mut trie, "+/b", 2, grant(QoS::AtLeastOnce, true, Some(7)));
        add(&mut trie, "a/b", 2, keeps);
        let (mut found, mut groups) = (Vec::new(), Vec::new());
        trie.matching("a/b", &mut found, &mut groups);
        let of = |subscriber, no_local, retain_as_published, ids: &[u32]| Match {
            subscriber,
            qos: QoS::AtLeastOnce,
            no_local,
            retain_as_published,
            subscription_ids: ids.to_vec(),
        };
        assert_eq!(found, [of(1, true, false, &[4, 9]), of(2, false, true, &[7])]);
        for (filter, id) in [("a/#", 1), ("a/+", 1), ("+/b", 2), ("a/b", 2)] {
            assert!(trie.remove(split_share(filter).unwrap(), id));
        }
        assert!(trie.is_empty());
    }

    #[test]
    fn groups_are_told_apart_by_name_and_filter() {
        let mut trie = Subscriptions::default();
        let plain = Grant::of(QoS::AtLeastOnce);
        for (filter, id) in
            [("$share/g/a/#", 1), ("$share/g/a/#", 2), ("$share/h/a/#", 1), ("$share/g/a/+", 3), ("a/b", 1)]
        {
            assert!(add(&mut trie, filter, id, plain));
        }
        assert!(!add(&mut trie, "$share/g/a/#", 2, plain), "it is there already");
        let (mut found, mut groups) = (Vec::new(), Vec::new());
        trie.matching("a/b", &mut found, &mut groups);
        assert_eq!(found.iter().map(|one| one.subscriber).collect::<Vec<_>>(), [1]);
        let mut members: Vec<Vec<u64>> =
            groups.iter().map(|group| group.iter().map(|one| one.subscriber).collect()).collect();
        members.sort();
        assert_eq!(members, [vec![1], vec![1, 2], vec![3]]);
        assert!(trie.remove(split_share("$share/h/a/#").unwrap(), 1));
        trie.matching("a/b", &mut found, &mut groups);
        assert_eq!((found.len(), groups.len()), (1, 2));
    }
}
