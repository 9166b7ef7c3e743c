//! Conditions and filters: whether they hold for an item.

use super::Path;
use crate::dynamodb::{
    number::Number,
    value::{AttributeValue, Item},
};
use std::{borrow::Cow, cmp::Ordering};

#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Path(Path),
    Value(AttributeValue),
    /// `size(path)`
    Size(Path),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    Compare(Comparison, Operand, Operand),
    Between(Operand, Operand, Operand),
    In(Operand, Vec<Operand>),
    Exists(Path),
    NotExists(Path),
    HasType(Path, String),
    BeginsWith(Operand, Operand),
    Contains(Operand, Operand),
}

impl Comparison {
    pub fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    fn holds(self, a: Option<&AttributeValue>, b: Option<&AttributeValue>) -> bool {
        let (Some(a), Some(b)) = (a, b) else { return self == Self::NotEqual };
        match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::Less => order(a, b).is_some_and(Ordering::is_lt),
            Self::LessOrEqual => order(a, b).is_some_and(Ordering::is_le),
            Self::Greater => order(a, b).is_some_and(Ordering::is_gt),
            Self::GreaterOrEqual => order(a, b).is_some_and(Ordering::is_ge),
        }
    }
}

/// Only text, numbers and bytes have an order, each among themselves.
pub fn order(a: &AttributeValue, b: &AttributeValue) -> Option<Ordering> {
    match (a, b) {
        (AttributeValue::S(a), AttributeValue::S(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (AttributeValue::N(a), AttributeValue::N(b)) => Some(a.cmp(b)),
        (AttributeValue::B(a), AttributeValue::B(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

impl Operand {
    fn value<'a>(&'a self, item: &'a Item) -> Option<Cow<'a, AttributeValue>> {
        match self {
            Self::Path(path) => path.find(item).map(Cow::Borrowed),
            Self::Value(value) => Some(Cow::Borrowed(value)),
            Self::Size(path) => {
                let size = path.find(item).and_then(size_of)?;
                Some(Cow::Owned(AttributeValue::N(Number::from(size as u64))))
            }
        }
    }

    fn attributes<'a>(&'a self, into: &mut Vec<&'a str>) {
        if let Self::Path(path) | Self::Size(path) = self {
            into.push(path.attribute());
        }
    }
}

/// Text counts in UTF-16 units.
fn size_of(value: &AttributeValue) -> Option<usize> {
    Some(match value {
        AttributeValue::S(text) => text.encode_utf16().count(),
        AttributeValue::B(bytes) => bytes.len(),
        AttributeValue::Ss(set) => set.len(),
        AttributeValue::Ns(set) => set.len(),
        AttributeValue::Bs(set) => set.len(),
        AttributeValue::L(list) => list.len(),
        AttributeValue::M(map) => map.len(),
        AttributeValue::N(_) | AttributeValue::Bool(_) | AttributeValue::Null => return None,
    })
}

impl Condition {
    pub fn holds(&self, item: &Item) -> bool {
        match self {
            Self::And(a, b) => a.holds(item) && b.holds(item),
            Self::Or(a, b) => a.holds(item) || b.holds(item),
            Self::Not(inner) => !inner.holds(item),
            Self::Compare(how, a, b) => how.holds(a.value(item).as_deref(), b.value(item).as_deref()),
            Self::Between(of, low, high) => {
                let of = of.value(item);
                Comparison::GreaterOrEqual.holds(of.as_deref(), low.value(item).as_deref())
                    && Comparison::LessOrEqual.holds(of.as_deref(), high.value(item).as_deref())
            }
            Self::In(of, choices) => {
                let of = of.value(item);
                choices.iter().any(|choice| Comparison::Equal.holds(of.as_deref(), choice.value(item).as_deref()))
            }
            Self::Exists(path) => path.find(item).is_some(),
            Self::NotExists(path) => path.find(item).is_none(),
            Self::HasType(path, kind) => path.find(item).is_some_and(|value| value.kind() == kind),
            Self::BeginsWith(of, prefix) => match (of.value(item).as_deref(), prefix.value(item).as_deref()) {
                (Some(AttributeValue::S(text)), Some(AttributeValue::S(prefix))) => text.starts_with(prefix.as_str()),
                (Some(AttributeValue::B(bytes)), Some(AttributeValue::B(prefix))) => bytes.starts_with(prefix),
                _ => false,
            },
            Self::Contains(of, part) => match (of.value(item).as_deref(), part.value(item).as_deref()) {
                (Some(of), Some(part)) => contains(of, part),
                _ => false,
            },
        }
    }

    /// Every attribute that is looked at, as often as it is.
    pub fn attributes<'a>(&'a self, into: &mut Vec<&'a str>) {
        match self {
            Self::And(a, b) | Self::Or(a, b) => {
                a.attributes(into);
                b.attributes(into);
            }
            Self::Not(inner) => inner.attributes(into),
            Self::Compare(_, a, b) | Self::BeginsWith(a, b) | Self::Contains(a, b) => {
                a.attributes(into);
                b.attributes(into);
            }
            Self::Between(a, b, c) => [a, b, c].into_iter().for_each(|operand| operand.attributes(into)),
            Self::In(of, choices) => {
                of.attributes(into);
                choices.iter().for_each(|choice| choice.attributes(into));
            }
            Self::Exists(path) | Self::NotExists(path) | Self::HasType(path, _) => into.push(path.attribute()),
        }
    }
}

fn contains(of: &AttributeValue, part: &AttributeValue) -> bool {
    match (of, part) {
        (AttributeValue::S(text), AttributeValue::S(part)) => text.contains(part.as_str()),
        (AttributeValue::B(bytes), AttributeValue::B(part)) => {
            part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
        }
        (AttributeValue::Ss(set), AttributeValue::S(part)) => set.contains(part),
        (AttributeValue::Ns(set), AttributeValue::N(part)) => set.contains(part),
        (AttributeValue::Bs(set), AttributeValue::B(part)) => set.contains(part),
        (AttributeValue::L(list), part) => list.contains(part),
        _ => false,
    }
}
