//! An operation's input, checked with the messages of the service.

use super::{Result, invalid};
use crate::{AwsError, Call, json};
use kilter_core::Timestamp;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub const NAME_CHARS_MAX: usize = 63;
const ROLE_CHARS_MIN: usize = 20;
const TAGS_MAX: usize = 50;
const TAG_KEY_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;

pub type Tags = BTreeMap<String, String>;

pub struct Input<'a> {
    pub call: &'a Call,
    pub operation: &'a str,
    pub members: Map<String, Value>,
}

/// `ModelName` as messages spell it: `modelName`.
fn member(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_lowercase().to_string() + letters.as_str()).unwrap_or_default()
}

pub fn constraint(value: &str, name: &str, rule: &str) -> AwsError {
    let name = member(name);
    invalid(format!(
        "1 validation error detected: Value '{value:.256}' at '{name}' failed to satisfy constraint: Member must {rule}"
    ))
}

fn wrong_type(name: &str, wanted: &str) -> AwsError {
    AwsError::new("SerializationException", format!("{name} must be {wanted}"))
}

pub fn missing(name: &str) -> AwsError {
    let name = member(name);
    invalid(format!(
        "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"
    ))
}

/// What is not offered is refused, rather than forgotten.
pub fn only(given: &Map<String, Value>, operation: &str, offered: &[&str]) -> Result<()> {
    match given.iter().find(|(name, value)| !value.is_null() && !offered.contains(&name.as_str())) {
        Some((name, _)) => Err(invalid(format!("{operation} does not offer {name:.64} here: leave it out"))),
        None => Ok(()),
    }
}

/// Letters, digits and hyphens, not at either end.
pub fn is_name(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric();
    text.len() <= NAME_CHARS_MAX
        && text.starts_with(letter)
        && text.ends_with(letter)
        && text.chars().all(|c| letter(c) || c == '-')
}

pub fn text<'v>(of: &'v Map<String, Value>, name: &str) -> Result<Option<&'v str>> {
    match of.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_type(name, "text")),
    }
}

pub fn name_in<'v>(of: &'v Map<String, Value>, name: &str) -> Result<&'v str> {
    let given = text(of, name)?.ok_or_else(|| missing(name))?;
    if given.len() > NAME_CHARS_MAX {
        return Err(constraint(given, name, &format!("have length less than or equal to {NAME_CHARS_MAX}")));
    }
    let rule = "satisfy regular expression pattern: ^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$";
    if is_name(given) { Ok(given) } else { Err(constraint(given, name, rule)) }
}

pub fn number_in(of: &Map<String, Value>, name: &str, (low, high): (f64, f64)) -> Result<Option<f64>> {
    let value = match of.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_f64().ok_or_else(|| wrong_type(name, "a number"))?,
    };
    if value < low {
        return Err(constraint(&value.to_string(), name, &format!("have value greater than or equal to {low}")));
    }
    if value > high {
        return Err(constraint(&value.to_string(), name, &format!("have value less than or equal to {high}")));
    }
    Ok(Some(value))
}

impl<'a> Input<'a> {
    pub fn read(call: &'a Call, operation: &'a str) -> Result<Self> {
        Ok(Self { call, operation, members: json::object(call)? })
    }

    pub fn only(&self, offered: &[&str]) -> Result<()> {
        only(&self.members, self.operation, offered)
    }

    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        text(&self.members, name)
    }

    pub fn name(&self, name: &str) -> Result<&str> {
        name_in(&self.members, name)
    }

    pub fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>> {
        match self.members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(wrong_type(name, "an object")),
        }
    }

    pub fn list(&self, name: &str) -> Result<&[Value]> {
        match self.members.get(name) {
            None | Some(Value::Null) => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(wrong_type(name, "a list")),
        }
    }

    pub fn whole(&self, name: &str, low: usize, high: usize, default: usize) -> Result<usize> {
        let value = number_in(&self.members, name, (low as f64, high as f64))?;
        match value {
            Some(value) if value.fract() != 0.0 => Err(wrong_type(name, "a whole number")),
            value => Ok(value.map_or(default, |value| value as usize)),
        }
    }

    /// Seconds since the epoch.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>> {
        let seconds = number_in(&self.members, name, (f64::MIN, f64::MAX))?;
        Ok(seconds.map(|seconds| Timestamp::from_nanos((seconds * 1e9) as i64)))
    }

    /// One of these, or the first.
    pub fn choice(&self, name: &str, choices: &[&'static str]) -> Result<&'static str> {
        let Some(given) = self.text(name)? else { return Ok(choices[0]) };
        let known = choices.iter().find(|choice| **choice == given).copied();
        known.ok_or_else(|| constraint(given, name, &format!("satisfy enum value set: [{}]", choices.join(", "))))
    }

    pub fn role(&self, name: &str) -> Result<&str> {
        let role = self.text(name)?.ok_or_else(|| missing(name))?;
        let rule = "satisfy regular expression pattern: ^arn:aws[a-z\\-]*:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+$";
        let of_account = role.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split_once(":role/"));
        let is_role = of_account.is_some_and(|(account, name)| {
            account.len() == 12 && account.bytes().all(|digit| digit.is_ascii_digit()) && !name.is_empty()
        });
        if is_role && role.len() >= ROLE_CHARS_MIN { Ok(role) } else { Err(constraint(role, name, rule)) }
    }

    /// `Tags`, a list of keys and values.
    pub fn tags(&self) -> Result<Tags> {
        let mut tags = Tags::new();
        for tag in self.list("Tags")? {
            let tag = tag.as_object().ok_or_else(|| wrong_type("Tags", "a list of objects"))?;
            let key = text(tag, "Key")?.ok_or_else(|| missing("tags.key"))?;
            let value = text(tag, "Value")?.ok_or_else(|| missing("tags.value"))?;
            let key_fits = (1..=TAG_KEY_CHARS_MAX).contains(&key.chars().count());
            if !key_fits || key.starts_with("aws:") || value.chars().count() > TAG_VALUE_CHARS_MAX {
                return Err(invalid(format!(
                    "The tag {key:.64} is not valid: a key has 1 to {TAG_KEY_CHARS_MAX} characters and does not begin with \
                     aws:, a value at most {TAG_VALUE_CHARS_MAX}"
                )));
            }
            tags.insert(key.to_owned(), value.to_owned());
        }
        within_limit(&tags)?;
        Ok(tags)
    }
}

pub fn within_limit(tags: &Tags) -> Result<()> {
    if tags.len() > TAGS_MAX {
        return Err(invalid(format!("A resource has at most {TAGS_MAX} tags")));
    }
    Ok(())
}
