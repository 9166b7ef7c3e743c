//! Attribute values: their JSON form, their rules, their size, and the bytes that they are kept as.

use super::{
    fault::{internal, invalid},
    number::{Number, NumberError},
};
use crate::AwsError;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

/// Largest item in bytes, names and values.
pub const ITEM_BYTES_MAX: usize = 400 * 1024;
/// Lists and maps within each other.
const LEVELS_MAX: usize = 32;
/// What a list or map costs beside its elements, and each element beside its value.
const CONTAINER_BYTES: usize = 3;
/// First byte of a kept item: the form of what follows.
const STORED_FORM: u8 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AttributeValue {
    S(String),
    N(Number),
    B(Vec<u8>),
    Bool(bool),
    Null,
    Ss(BTreeSet<String>),
    Ns(BTreeSet<Number>),
    Bs(BTreeSet<Vec<u8>>),
    L(Vec<AttributeValue>),
    M(Item),
}

/// An item, or a map within one, by attribute names.
pub type Item = BTreeMap<String, AttributeValue>;

impl AttributeValue {
    /// The type's name as requests write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::S(_) => "S",
            Self::N(_) => "N",
            Self::B(_) => "B",
            Self::Bool(_) => "BOOL",
            Self::Null => "NULL",
            Self::Ss(_) => "SS",
            Self::Ns(_) => "NS",
            Self::Bs(_) => "BS",
            Self::L(_) => "L",
            Self::M(_) => "M",
        }
    }

    /// Bytes that count towards an item's size.
    pub fn size(&self) -> usize {
        match self {
            Self::S(text) => text.len(),
            Self::N(number) => number.size(),
            Self::B(bytes) => bytes.len(),
            Self::Bool(_) | Self::Null => 1,
            Self::Ss(set) => set.iter().map(String::len).sum(),
            Self::Ns(set) => set.iter().map(|number| number.size()).sum(),
            Self::Bs(set) => set.iter().map(Vec::len).sum(),
            Self::L(list) => CONTAINER_BYTES + list.iter().map(|value| 1 + value.size()).sum::<usize>(),
            Self::M(map) => {
                CONTAINER_BYTES + map.iter().map(|(name, value)| 1 + name.len() + value.size()).sum::<usize>()
            }
        }
    }

    pub fn to_json(&self) -> Json {
        match self {
            Self::S(text) => json!({ "S": text }),
            Self::N(number) => json!({ "N": number.to_string() }),
            Self::B(bytes) => json!({ "B": STANDARD.encode(bytes) }),
            Self::Bool(truth) => json!({ "BOOL": truth }),
            Self::Null => json!({ "NULL": true }),
            Self::Ss(set) => json!({ "SS": set }),
            Self::Ns(set) => json!({ "NS": set.iter().map(Number::to_string).collect::<Vec<_>>() }),
            Self::Bs(set) => json!({ "BS": set.iter().map(|bytes| STANDARD.encode(bytes)).collect::<Vec<_>>() }),
            Self::L(list) => json!({ "L": list.iter().map(Self::to_json).collect::<Vec<_>>() }),
            Self::M(map) => json!({ "M": item_to_json(map) }),
        }
    }

    pub fn from_json(json: &Json) -> Result<Self, AwsError> {
        Self::read(json, 0)
    }

    fn read(json: &Json, level: usize) -> Result<Self, AwsError> {
        if level > LEVELS_MAX {
            return Err(invalid("Nesting Levels have exceeded supported limits"));
        }
        let Json::Object(members) = json else { return Err(wrong_json("an attribute value must be an object")) };
        let mut members = members.iter().filter(|(_, value)| !value.is_null());
        let Some((kind, value)) = members.next() else {
            return Err(invalid(
                "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
            ));
        };
        if members.next().is_some() {
            return Err(invalid(
                "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes",
            ));
        }
        Ok(match (kind.as_str(), value) {
            ("S", Json::String(text)) => Self::S(text.clone()),
            ("N", Json::String(text)) => Self::N(number(text)?),
            ("B", Json::String(text)) => Self::B(binary(text)?),
            ("BOOL", Json::Bool(truth)) => Self::Bool(*truth),
            ("NULL", Json::Bool(true)) => Self::Null,
            ("NULL", Json::Bool(false)) => {
                return Err(rule("Null attribute value types must have the value of true"));
            }
            ("SS", Json::Array(of)) => Self::Ss(set("string", of, |text| Ok(text.to_owned()))?),
            ("NS", Json::Array(of)) => Self::Ns(set("number", of, number)?),
            ("BS", Json::Array(of)) => Self::Bs(set("binary", of, binary)?),
            ("L", Json::Array(of)) => {
                Self::L(of.iter().map(|value| Self::read(value, level + 1)).collect::<Result<_, _>>()?)
            }
            ("M", Json::Object(of)) => Self::M(read_map(of, level + 1)?),
            ("S" | "N" | "B" | "BOOL" | "NULL" | "SS" | "NS" | "BS" | "L" | "M", _) => {
                return Err(wrong_json(&format!("the value of type {kind} has the wrong JSON type")));
            }
            _ => {
                return Err(invalid(
                    "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
                ));
            }
        })
    }
}

fn wrong_json(why: &str) -> AwsError {
    AwsError::new("SerializationException", format!("The request cannot be read: {why}"))
}

fn rule(what: &str) -> AwsError {
    invalid(format!("One or more parameter values were invalid: {what}"))
}

fn number(text: &str) -> Result<Number, AwsError> {
    Number::parse(text).map_err(|error| match error {
        NumberError::NotANumber => invalid(format!("{error}: {text:.100}")),
        other => other.into(),
    })
}

fn binary(text: &str) -> Result<Vec<u8>, AwsError> {
    STANDARD.decode(text).map_err(|_| wrong_json("a binary value must be base64"))
}

fn set<T: Ord>(kind: &str, of: &[Json], read: impl Fn(&str) -> Result<T, AwsError>) -> Result<BTreeSet<T>, AwsError> {
    if of.is_empty() {
        return Err(rule(&format!("An {kind} set  may not be empty")));
    }
    let mut set = BTreeSet::new();
    for element in of {
        let text = element.as_str().ok_or_else(|| wrong_json("the elements of a set must be JSON strings"))?;
        if !set.insert(read(text)?) {
            let all: Vec<&str> = of.iter().filter_map(Json::as_str).collect();
            return Err(rule(&format!("Input collection [{:.500}] contains duplicates.", all.join(", "))));
        }
    }
    Ok(set)
}

fn read_map(members: &Map<String, Json>, level: usize) -> Result<Item, AwsError> {
    members.iter().map(|(name, value)| Ok((name.clone(), AttributeValue::read(value, level)?))).collect()
}

pub fn item_from_json(members: &Map<String, Json>) -> Result<Item, AwsError> {
    if members.keys().any(String::is_empty) {
        return Err(rule("Empty attribute name"));
    }
    read_map(members, 0)
}

pub fn item_to_json(item: &Item) -> Json {
    Json::Object(item.iter().map(|(name, value)| (name.clone(), value.to_json())).collect())
}

pub fn item_size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value.size()).sum()
}

/// The bytes that an item is kept as.
pub fn store(item: &Item) -> Vec<u8> {
    let mut bytes = vec![STORED_FORM];
    let form = postcard::to_extend(item, Vec::new()).expect("plain data with known lengths always serialises");
    bytes.extend(form);
    bytes
}

pub fn load(bytes: &[u8]) -> Result<Item, AwsError> {
    match bytes.split_first() {
        Some((&STORED_FORM, form)) => {
            postcard::from_bytes(form).map_err(|error| internal(format!("a kept item cannot be read ({error})")))
        }
        _ => Err(internal("a kept item is of a form that this release does not know: start the release that wrote it")),
    }
}

/// What the pipeline keeps as JSON, as an attribute value. Numbers beyond DynamoDB's range become text.
pub fn from_plain_json(json: &Json) -> AttributeValue {
    match json {
        Json::Null => AttributeValue::Null,
        Json::Bool(truth) => AttributeValue::Bool(*truth),
        Json::Number(number) => {
            let text = number.to_string();
            Number::parse(&text).map_or_else(|_| AttributeValue::S(text), AttributeValue::N)
        }
        Json::String(text) => AttributeValue::S(text.clone()),
        Json::Array(list) => AttributeValue::L(list.iter().map(from_plain_json).collect()),
        Json::Object(map) => {
            AttributeValue::M(map.iter().map(|(name, value)| (name.clone(), from_plain_json(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(json: Json) -> String {
        AttributeValue::from_json(&json).unwrap_err().message
    }

    #[test]
    fn follows_the_rules() {
        assert!(refused(json!({})).contains("is empty"));
        assert!(refused(json!({"S": "a", "N": "1"})).contains("more than one datatypes"));
        assert!(refused(json!({"N": "one"})).contains("cannot be converted to a numeric value: one"));
        assert!(refused(json!({"NULL": false})).contains("value of true"));
        assert!(refused(json!({"SS": []})).contains("may not be empty"));
        assert!(refused(json!({"NS": ["1", "1.0"]})).contains("contains duplicates"));
        assert!(refused(json!({"S": 1})).contains("wrong JSON type"));
        let deep = (0..40).fold(json!({"S": "x"}), |inner, _| json!({"L": [inner]}));
        assert!(refused(deep).contains("Nesting Levels"));
    }

    #[test]
    fn counts_bytes_as_documented() {
        let item = json!({"pk": {"S": "abc"}, "n": {"N": "-12.5"}, "l": {"L": [{"BOOL": true}]}, "m": {"M": {"a": {"NULL": true}}}});
        let item = item_from_json(item.as_object().unwrap()).unwrap();
        assert_eq!(item_size(&item), (2 + 3) + (1 + 4) + (1 + 3 + 2) + (1 + 3 + 3));
    }

    pub fn any_value() -> impl Strategy<Value = AttributeValue> {
        let leaf = prop_oneof![
            ".{0,5}".prop_map(AttributeValue::S),
            any::<i64>().prop_map(|n| AttributeValue::N(Number::parse(&n.to_string()).unwrap())),
            any::<Vec<u8>>().prop_map(AttributeValue::B),
            any::<bool>().prop_map(AttributeValue::Bool),
            Just(AttributeValue::Null),
            proptest::collection::btree_set(".{0,3}", 1..4).prop_map(AttributeValue::Ss),
            proptest::collection::btree_set(any::<Vec<u8>>(), 1..4).prop_map(AttributeValue::Bs),
        ];
        leaf.prop_recursive(4, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(AttributeValue::L),
                proptest::collection::btree_map(".{1,3}", inner, 0..4).prop_map(AttributeValue::M),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_kept_and_answered_is_what_came(value in any_value()) {
            prop_assert_eq!(&AttributeValue::from_json(&value.to_json()).unwrap(), &value);
            let item = Item::from([("a".to_owned(), value)]);
            prop_assert_eq!(load(&store(&item)).unwrap(), item);
        }
    }
}
