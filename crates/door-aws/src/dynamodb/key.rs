//! Keys: which attributes identify an item, and the two strings that stand for them in the port `Table`.

use super::{
    fault::invalid,
    value::{AttributeValue, Item},
};
use crate::AwsError;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The service's limits, in bytes.
pub const HASH_BYTES_MAX: usize = 2048;
pub const RANGE_BYTES_MAX: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyType {
    S,
    N,
    B,
}

impl KeyType {
    pub fn name(self) -> &'static str {
        match self {
            Self::S => "S",
            Self::N => "N",
            Self::B => "B",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPart {
    pub name: String,
    pub kind: KeyType,
}

/// Of a table or an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySchema {
    pub hash: KeyPart,
    pub range: Option<KeyPart>,
}

/// Where an item is in its table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub pk: String,
    pub sk: String,
}

impl KeyPart {
    pub fn matches(&self, value: &AttributeValue) -> bool {
        value.kind() == self.kind.name()
    }
}

impl KeySchema {
    pub fn parts(&self) -> impl Iterator<Item = &KeyPart> {
        std::iter::once(&self.hash).chain(&self.range)
    }

    pub fn has(&self, attribute: &str) -> bool {
        self.parts().any(|part| part.name == attribute)
    }

    /// Of a whole item that is put.
    pub fn of_item(&self, item: &Item) -> Result<Position, AwsError> {
        for part in self.parts() {
            match item.get(&part.name) {
                None => {
                    return Err(invalid(format!(
                        "One or more parameter values were invalid: Missing the key {} in the item",
                        part.name
                    )));
                }
                Some(value) if !part.matches(value) => {
                    return Err(invalid(format!(
                        "One or more parameter values were invalid: Type mismatch for key {} expected: {} actual: {}",
                        part.name,
                        part.kind.name(),
                        value.kind()
                    )));
                }
                Some(_) => {}
            }
        }
        self.position(item)
    }

    /// Of a `Key` member: these attributes and no other.
    pub fn of_key(&self, key: &Item) -> Result<Position, AwsError> {
        let fits = |part: &KeyPart| key.get(&part.name).is_some_and(|value| part.matches(value));
        if key.len() != self.parts().count() || !self.parts().all(fits) {
            return Err(invalid("The provided key element does not match the schema"));
        }
        self.position(key)
    }

    fn position(&self, item: &Item) -> Result<Position, AwsError> {
        let text = |part: &KeyPart, most: usize| {
            let value =
                item.get(&part.name).ok_or_else(|| invalid("The provided key element does not match the schema"))?;
            check_part(part, value, most)?;
            Ok::<_, AwsError>(sortable(value))
        };
        let pk = text(&self.hash, HASH_BYTES_MAX)?;
        let sk = self.range.as_ref().map(|range| text(range, RANGE_BYTES_MAX)).transpose()?.unwrap_or_default();
        Ok(Position { pk, sk })
    }

    /// The key attributes of an item.
    pub fn key_of(&self, item: &Item) -> Item {
        self.parts().filter_map(|part| Some((part.name.clone(), item.get(&part.name)?.clone()))).collect()
    }
}

fn check_part(part: &KeyPart, value: &AttributeValue, most: usize) -> Result<(), AwsError> {
    let bytes = value.size();
    if bytes == 0 {
        let kind = if part.kind == KeyType::B { "binary" } else { "string" };
        return Err(invalid(format!(
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty {kind} value. Key: {}",
            part.name
        )));
    }
    if bytes > most {
        let which = if most == HASH_BYTES_MAX { "hashkey" } else { "rangekey" };
        return Err(invalid(format!(
            "One or more parameter values were invalid: Size of {which} has exceeded the maximum size limit of{most} bytes"
        )));
    }
    Ok(())
}

/// Text that sorts bytewise as the values of its type do.
pub fn sortable(value: &AttributeValue) -> String {
    match value {
        AttributeValue::S(text) => text.clone(),
        AttributeValue::N(number) => number.sortable(),
        AttributeValue::B(bytes) => hex(bytes),
        _ => String::new(),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The sort key of an item's place in an index: the index's own, then what tells items apart that share it. Two items
/// would have to have keys of one SHA-256 to be taken for each other.
pub fn index_sk(range: Option<&AttributeValue>, base: &Position) -> String {
    let own = digest(&SHA256, format!("{}\0{}{}", base.pk.len(), base.pk, base.sk).as_bytes());
    format!("{}{}", index_prefix(range), hex(own.as_ref()))
}

/// What the places of all items with this index sort key begin with. No such prefix is one of another, and they sort
/// as the values do: zero characters within are marked, two in a row end it.
pub fn index_prefix(range: Option<&AttributeValue>) -> String {
    range.map_or_else(String::new, |value| format!("{}\0\0", index_text(value)))
}

pub fn index_text(value: &AttributeValue) -> String {
    sortable(value).replace('\0', "\0\u{1}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_in_an_index_sort_as_their_values(a in "[\0\u{1}\u{2}ab]{0,4}", b in "[\0\u{1}\u{2}ab]{0,4}") {
            let prefix = |text: &str| index_prefix(Some(&AttributeValue::S(text.to_owned())));
            prop_assert_eq!(prefix(&a).cmp(&prefix(&b)), a.cmp(&b));
            prop_assert!(a == b || !prefix(&a).starts_with(&prefix(&b)));
        }
    }
}
