//! A trie of topic filters: one walk finds every subscriber of a topic.

use crate::QoS;
use std::collections::HashMap;

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
/// Empty branches are pruned: memory follows the subscriptions that there are.
#[derive(Debug, Default)]
pub struct Subscriptions {
    root: Node,
    count: usize,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, Node>,
    /// Those whose filter ends here.
    here: Vec<(SubscriberId, Grant)>,
    /// Those whose filter ends with `#` below here; they match this level as well.
    below: Vec<(SubscriberId, Grant)>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.here.is_empty() && self.below.is_empty()
    }
}

impl Subscriptions {
    /// Adds a subscription or replaces the grant of the one that is there; `true` when it is new.
    pub fn add(&mut self, filter: &str, subscriber: SubscriberId, grant: Grant) -> bool {
        let mut node = &mut self.root;
        let mut below = false;
        for level in filter.split('/') {
            if level == "#" {
                below = true;
                break;
            }
            if !node.children.contains_key(level) {
                node.children.insert(level.into(), Node::default());
            }
            node = node.children.get_mut(level).expect("the child was put there one line ago");
        }
        let list = if below { &mut node.below } else { &mut node.here };
        match list.iter_mut().find(|(id, _)| *id == subscriber) {
            Some((_, old)) => {
                *old = grant;
                false
            }
            None => {
                list.push((subscriber, grant));
                self.count += 1;
                true
            }
        }
    }

    /// `true` when the subscription was there.
    pub fn remove(&mut self, filter: &str, subscriber: SubscriberId) -> bool {
        let removed = remove_below(&mut self.root, filter.split('/'), subscriber);
        self.count -= usize::from(removed);
        removed
    }

    /// All matching subscribers, each once, with the highest QoS that any of its filters was granted.
    pub fn matching(&self, name: &str, found: &mut Vec<(SubscriberId, Grant)>) {
        found.clear();
        if self.count == 0 {
            return;
        }
        walk(&self.root, Some(name), name.starts_with('$'), found);
        found.sort_unstable_by_key(|(id, grant)| (*id, std::cmp::Reverse(grant.qos), grant.no_local));
        found.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            // One filter that wants its own messages is enough to want them.
            kept.1.no_local &= !same || later.1.no_local;
            same
        });
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

fn remove_below<'a>(node: &mut Node, mut levels: impl Iterator<Item = &'a str>, subscriber: SubscriberId) -> bool {
    let list = match levels.next() {
        None => &mut node.here,
        Some("#") => &mut node.below,
        Some(level) => {
            let Some(child) = node.children.get_mut(level) else { return false };
            let removed = remove_below(child, levels, subscriber);
            if child.is_empty() {
                node.children.remove(level);
            }
            return removed;
        }
    };
    let before = list.len();
    list.retain(|(id, _)| *id != subscriber);
    list.len() < before
}

/// `rest` is what of the name lies below `node`; `None` when the name ends there. Recursion is as deep as
/// the name has levels, which [`crate::topics::TOPIC_SLASHES_MAX`] bounds.
fn walk(node: &Node, rest: Option<&str>, reserved: bool, found: &mut Vec<(SubscriberId, Grant)>) {
    // Only the first level's wildcards are kept from `$…`, and only there is `reserved` still set.
    if !reserved {
        found.extend_from_slice(&node.below);
    }
    let Some(rest) = rest else {
        found.extend_from_slice(&node.here);
        return;
    };
    let (level, rest) = match rest.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (rest, None),
    };
    if let Some(child) = node.children.get(level) {
        walk(child, rest, false, found);
    }
    if !reserved && let Some(child) = node.children.get("+") {
        walk(child, rest, false, found);
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
        assert!(trie.is_empty() && trie.root.is_empty(), "branches were left behind");
    }
}
