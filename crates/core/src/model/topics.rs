//! Topic names and filters: what is valid, and what matches what (MQTT 5 §4.7).

use std::collections::HashMap;

/// AWS IoT's limit for names and filters, in bytes of UTF-8.
pub const TOPIC_BYTES_MAX: usize = 256;
/// AWS IoT's limit: eight levels. It also bounds the depth of the subscription trie.
pub const TOPIC_SLASHES_MAX: usize = 7;

/// AWS IoT's limit for a rule's name.
const RULE_BYTES_MAX: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    #[error("it is empty")]
    Empty,
    #[error("it has more than {TOPIC_BYTES_MAX} bytes")]
    TooLong,
    #[error("it has more than {TOPIC_SLASHES_MAX} slashes")]
    TooDeep,
    #[error("it contains U+0000")]
    Nul,
    #[error("a topic name contains '+' or '#'")]
    Wildcard,
    #[error("'+' or '#' is not a whole level of its own, or '#' is not the last one")]
    MisplacedWildcard,
    #[error("topics that begin with '$' are the server's own")]
    Reserved,
    #[error("a shared subscription is $share/<group>/<filter>, with a group without '+', '#' and '/'")]
    Shared,
}

/// A filter as SUBSCRIBE names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedFilter<'a> {
    /// There for a shared subscription (MQTT 5 §4.8.2).
    pub group: Option<&'a str>,
    pub filter: &'a str,
}

/// Takes `$share/<group>/<filter>` apart; any other filter has no group.
pub fn split_share(filter: &str) -> Result<SharedFilter<'_>, InvalidTopic> {
    if filter != "$share" && !filter.starts_with("$share/") {
        return Ok(SharedFilter { group: None, filter });
    }
    match filter["$share".len()..].strip_prefix('/').and_then(|rest| rest.split_once('/')) {
        Some((group, filter)) if !group.is_empty() && !group.contains(['+', '#']) => {
            Ok(SharedFilter { group: Some(group), filter })
        }
        _ => Err(InvalidTopic::Shared),
    }
}

/// A topic that a client may publish on.
pub fn check_name(name: &str) -> Result<(), InvalidTopic> {
    // AWS does not count the prefix of Basic Ingest.
    check_length(basic_ingest(name).map_or(name, |(_, topic)| topic))?;
    if name.contains(['+', '#']) {
        return Err(InvalidTopic::Wildcard);
    }
    if name.starts_with('$') && basic_ingest(name).is_none() {
        return Err(InvalidTopic::Reserved);
    }
    Ok(())
}

/// `$aws/rules/<rule>/<topic>` (AWS IoT's Basic Ingest): the rule that alone gets the message, and the topic that it
/// sees. Nobody can subscribe to such a message.
pub fn basic_ingest(name: &str) -> Option<(&str, &str)> {
    let (rule, topic) = name.strip_prefix("$aws/rules/")?.split_once('/')?;
    if rule.is_empty() || rule.len() > RULE_BYTES_MAX || topic.is_empty() { None } else { Some((rule, topic)) }
}

/// A filter that a client may subscribe to, without what [`split_share`] takes off.
pub fn check_filter(filter: &str) -> Result<(), InvalidTopic> {
    check_length(filter)?;
    if split_share(filter)?.group.is_some() {
        return Err(InvalidTopic::Shared);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wild = level.contains(['+', '#']);
        if wild && (level.len() > 1 || (level == "#" && levels.peek().is_some())) {
            return Err(InvalidTopic::MisplacedWildcard);
        }
    }
    Ok(())
}

fn check_length(topic: &str) -> Result<(), InvalidTopic> {
    if topic.is_empty() {
        return Err(InvalidTopic::Empty);
    }
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(InvalidTopic::TooLong);
    }
    if topic.bytes().filter(|byte| *byte == b'/').count() > TOPIC_SLASHES_MAX {
        return Err(InvalidTopic::TooDeep);
    }
    if topic.contains('\0') {
        return Err(InvalidTopic::Nul);
    }
    Ok(())
}

/// Whether a valid filter matches a valid name. Wildcards at the first level do not match `$…` (§4.7.2).
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = name.split('/');
    for level in filter.split('/') {
        // "a/#" matches "a" as well.
        if level == "#" {
            return true;
        }
        match names.next() {
            Some(name) if level == "+" || level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// Values under topic filters: one walk finds all whose filter matches a name. Every filter must have passed
/// [`check_filter`]. Empty branches are pruned: memory follows what is there.
#[derive(Debug, Clone)]
pub struct TopicTree<T> {
    root: Node<T>,
    count: usize,
}

#[derive(Debug, Clone)]
struct Node<T> {
    children: HashMap<Box<str>, Node<T>>,
    /// Those whose filter ends here.
    here: Vec<T>,
    /// Those whose filter ends with `#` below here; they match this level as well.
    below: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { children: HashMap::new(), here: Vec::new(), below: Vec::new() }
    }
}

impl<T> Default for TopicTree<T> {
    fn default() -> Self {
        Self { root: Node::default(), count: 0 }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.here.is_empty() && self.below.is_empty()
    }
}

impl<T> TopicTree<T> {
    /// Adds a value; answers the one under the same filter that is `same` and was replaced.
    pub fn add(&mut self, filter: &str, value: T, same: impl Fn(&T) -> bool) -> Option<T> {
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
        match list.iter_mut().find(|known| same(known)) {
            Some(known) => Some(std::mem::replace(known, value)),
            None => {
                list.push(value);
                self.count += 1;
                None
            }
        }
    }

    /// Removes the values under a filter that `gone` names; says how many.
    pub fn remove(&mut self, filter: &str, gone: impl Fn(&T) -> bool) -> usize {
        let removed = remove_below(&mut self.root, filter.split('/'), &gone);
        self.count -= removed;
        removed
    }

    /// Calls `found` with every value whose filter matches the name, once per filter.
    pub fn matching<'t>(&'t self, name: &str, mut found: impl FnMut(&'t T)) {
        if self.count > 0 {
            walk(&self.root, Some(name), name.starts_with('$'), &mut found);
        }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

fn remove_below<'a, T>(
    node: &mut Node<T>,
    mut levels: impl Iterator<Item = &'a str>,
    gone: &impl Fn(&T) -> bool,
) -> usize {
    let list = match levels.next() {
        None => &mut node.here,
        Some("#") => &mut node.below,
        Some(level) => {
            let Some(child) = node.children.get_mut(level) else { return 0 };
            let removed = remove_below(child, levels, gone);
            if child.is_empty() {
                node.children.remove(level);
            }
            return removed;
        }
    };
    let before = list.len();
    list.retain(|value| !gone(value));
    before - list.len()
}

/// `rest` is what of the name lies below `node`; `None` when the name ends there. Recursion is as deep as
/// the name has levels, which [`TOPIC_SLASHES_MAX`] bounds.
fn walk<'t, T>(node: &'t Node<T>, rest: Option<&str>, reserved: bool, found: &mut impl FnMut(&'t T)) {
    // Only the first level's wildcards are kept from `$…`, and only there is `reserved` still set.
    if !reserved {
        node.below.iter().for_each(&mut *found);
    }
    let Some(rest) = rest else {
        node.here.iter().for_each(found);
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
