//! Document paths: reading along them, and cutting an item down to some of them.

use crate::dynamodb::value::{AttributeValue, Item};
use std::{collections::BTreeMap, fmt};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// Begins with the name of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// The attribute of the item that the path begins with.
    pub fn attribute(&self) -> &str {
        match self.0.first() {
            Some(Step::Key(name)) => name,
            _ => "",
        }
    }

    pub fn find<'a>(&self, item: &'a Item) -> Option<&'a AttributeValue> {
        let mut found = item.get(self.attribute())?;
        for step in &self.0[1..] {
            found = match (found, step) {
                (AttributeValue::M(map), Step::Key(name)) => map.get(name)?,
                (AttributeValue::L(list), Step::Index(index)) => list.get(*index)?,
                _ => return None,
            };
        }
        Some(found)
    }

    /// Whether one is the other or lies below it.
    fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a == b)
    }

    /// Whether both cannot be true of one item: at the same place one wants a map, the other a list.
    fn conflicts(&self, other: &Self) -> bool {
        let parting = self.0.iter().zip(&other.0).find(|(a, b)| a != b);
        matches!(parting, Some((Step::Key(_), Step::Index(_)) | (Step::Index(_), Step::Key(_))))
    }
}

/// As error messages write it: `[a, b, [1]]`.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, step) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            match step {
                Step::Key(name) => f.write_str(name)?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        f.write_str("]")
    }
}

/// What is wrong with these paths together, in the service's words.
pub fn quarrel<'a>(paths: &[&'a Path]) -> Option<String> {
    let mut sorted: Vec<&'a Path> = paths.to_vec();
    sorted.sort();
    let pairs = || sorted.iter().enumerate().flat_map(|(at, a)| sorted[at + 1..].iter().map(move |b| (*a, *b)));
    if let Some((a, b)) = pairs().find(|(a, b)| a.overlaps(b)) {
        return Some(format!(
            "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: {a}, path two: {b}"
        ));
    }
    let (a, b) = pairs().find(|(a, b)| a.conflicts(b))?;
    Some(format!(
        "Two document paths conflict with each other; must remove or rewrite one of these paths; path one: {a}, path two: {b}"
    ))
}

/// Paths merged into a tree.
#[derive(Debug, Clone, Default)]
pub struct Projection {
    whole: bool,
    keys: BTreeMap<String, Projection>,
    /// In the list's order, which is that of the answer.
    indexes: BTreeMap<usize, Projection>,
}

impl Projection {
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut root = Self::default();
        for path in paths {
            let mut node = &mut root;
            for step in &path.0 {
                node = match step {
                    Step::Key(name) => node.keys.entry(name.clone()).or_default(),
                    Step::Index(index) => node.indexes.entry(*index).or_default(),
                };
            }
            node.whole = true;
        }
        root
    }

    /// Only whole attributes.
    pub fn of_attributes<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let paths: Vec<Path> = names.into_iter().map(|name| Path(vec![Step::Key(name.to_owned())])).collect();
        Self::of(&paths)
    }

    /// The names of the attributes that it asks for, in whole or in part.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    pub fn cut(&self, item: &Item) -> Item {
        self.keys.iter().filter_map(|(name, below)| Some((name.clone(), below.cut_value(item.get(name)?)?))).collect()
    }

    fn cut_value(&self, value: &AttributeValue) -> Option<AttributeValue> {
        if self.whole {
            return Some(value.clone());
        }
        match value {
            AttributeValue::M(map) => {
                let inner = self.cut(map);
                (!inner.is_empty()).then_some(AttributeValue::M(inner))
            }
            AttributeValue::L(list) => {
                let inner: Vec<AttributeValue> =
                    self.indexes.iter().filter_map(|(index, below)| below.cut_value(list.get(*index)?)).collect();
                (!inner.is_empty()).then_some(AttributeValue::L(inner))
            }
            _ => None,
        }
    }
}
