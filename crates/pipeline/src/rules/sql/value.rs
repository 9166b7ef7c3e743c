//! Values of AWS IoT SQL and how one type becomes another ("Data types", "Conversions" of its reference). Whole
//! numbers of 64 bits are `Int`; all other numbers are `Decimal` with double precision, where AWS has 34 digits.

use indexmap::IndexMap;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
    ser::SerializeMap,
};
use std::fmt;

pub type Object = IndexMap<String, Value>;

/// Larger doubles are not every one a whole number of their own.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Nothing: an absent member, a function called with what it cannot take. Left out of JSON.
    #[default]
    Undefined,
    Null,
    Bool(bool),
    Int(i64),
    /// Finite and not whole, or beyond what `Int` holds.
    Decimal(f64),
    Text(String),
    Array(Vec<Value>),
    Object(Object),
}

impl Value {
    /// A number; whole ones are `Int`, as version 2016-03-23 has it. What is not finite is Undefined.
    pub fn number(value: f64) -> Self {
        if !value.is_finite() {
            Self::Undefined
        } else if value.fract() == 0.0 && value.abs() <= EXACT_MAX {
            Self::Int(value as i64)
        } else {
            Self::Decimal(value)
        }
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined)
    }

    /// As a JSON document; `None` for Undefined.
    pub fn to_json(&self) -> Option<String> {
        if self.is_undefined() { None } else { serde_json::to_string(self).ok() }
    }

    /// To Decimal by the standard conversion: numbers, and texts that are one.
    pub fn to_decimal(&self) -> Option<f64> {
        match self {
            Self::Int(i) => Some(*i as f64),
            Self::Decimal(d) => Some(*d),
            Self::Text(text) => parse_decimal(text),
            _ => None,
        }
    }

    /// To Int, rounded down.
    pub fn to_int(&self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(*i),
            // `as` saturates: an index far beyond the end is an index beyond the end.
            other => other.to_decimal().map(|d| d.floor() as i64),
        }
    }

    /// To String by the standard conversion; `None` for Null and Undefined.
    pub fn to_text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Null | Self::Undefined => None,
            other => other.to_json(),
        }
    }

    /// To Boolean: booleans, and the texts `true` and `false` in any case.
    pub fn to_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            Self::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Self::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// `=`: `None` (Undefined) where either is Undefined.
    pub fn equals(&self, other: &Self) -> Option<bool> {
        Some(match (self, other) {
            (Self::Undefined, _) | (_, Self::Undefined) => return None,
            (Self::Int(a), Self::Decimal(b)) | (Self::Decimal(b), Self::Int(a)) => *a as f64 == *b,
            (a, b) => a == b,
        })
    }

    pub fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(object) => object.get(name),
            _ => None,
        }
    }

    /// How much work copying it is: one for each value and for each 64 bytes of text.
    pub fn weight(&self) -> u64 {
        match self {
            Self::Text(text) => 1 + text.len() as u64 / 64,
            Self::Array(items) => items.iter().map(Self::weight).sum::<u64>() + 1,
            Self::Object(members) => members.values().map(Self::weight).sum::<u64>() + members.len() as u64 + 1,
            _ => 1,
        }
    }
}

/// `^-?\d+(\.\d+)?((?i)E-?\d+)?$`, as the reference has it.
fn parse_decimal(text: &str) -> Option<f64> {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let body = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match body.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix('-').unwrap_or(exponent))),
        None => (body, None),
    };
    let well_formed = match mantissa.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(mantissa),
    } && exponent.is_none_or(digits);
    if !well_formed {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Option<bool>> for Value {
    fn from(value: Option<bool>) -> Self {
        value.map_or(Self::Undefined, Self::Bool)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Undefined | Self::Null => serializer.serialize_unit(),
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Int(i) => serializer.serialize_i64(*i),
            Self::Decimal(d) => serializer.serialize_f64(*d),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Array(items) => serializer.collect_seq(items.iter().filter(|item| !item.is_undefined())),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(None)?;
                for (name, value) in members.iter().filter(|(_, value)| !value.is_undefined()) {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Json)
    }
}

struct Json;

impl<'de> Visitor<'de> for Json {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Decimal(value as f64), Value::Int))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::number(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Object::new();
        while let Some((name, value)) = map.next_entry()? {
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_become_numbers_as_the_reference_says() {
        for (text, value) in [("0", 0.0), ("-1.2", -1.2), ("5E-12", 5e-12), ("5e3", 5000.0), ("007", 7.0)] {
            assert_eq!(parse_decimal(text), Some(value), "{text}");
        }
        for text in ["", "-", "+1", "1.", ".5", "1e+3", " 1", "NaN", "inf", "0x1", "1e", "1e999"] {
            assert_eq!(parse_decimal(text), None, "{text}");
        }
    }

    #[test]
    fn whole_decimals_are_ints_and_undefined_is_left_out() {
        let value: Value = serde_json::from_str(r#"{"b":10.0,"a":[1.5,null,"x"],"c":18446744073709551615}"#).unwrap();
        assert_eq!(value.to_json().unwrap(), r#"{"b":10,"a":[1.5,null,"x"],"c":1.8446744073709552e+19}"#);
        let members = Object::from_iter([("x".to_owned(), Value::Undefined), ("y".to_owned(), Value::Null)]);
        assert_eq!(Value::Object(members).to_json().unwrap(), r#"{"y":null}"#);
        assert_eq!(Value::Undefined.to_json(), None);
    }

    proptest! {
        #[test]
        fn any_json_comes_through(text in "[\\[\\]{}:,\"a-c0-9. -]{0,60}") {
            if let Ok(ours) = serde_json::from_str::<Value>(&text) {
                let again: Value = serde_json::from_str(&ours.to_json().unwrap()).unwrap();
                prop_assert_eq!(again, ours);
            }
        }
    }
}
