//! What stands for `#name` and `:value` in a request's expressions, and whether each is used.

use super::Kind;
use crate::{
    AwsError,
    dynamodb::{fault::invalid, value::AttributeValue},
};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct Placeholders {
    names: BTreeMap<String, String>,
    values: BTreeMap<String, AttributeValue>,
    unused_names: BTreeSet<String>,
    unused_values: BTreeSet<String>,
}

impl Placeholders {
    /// `expressions`: the members of the request that may use them, present or not.
    pub fn read(
        names: Option<&Map<String, Json>>,
        values: Option<&Map<String, Json>>,
        expressions: &[(Kind, Option<&str>)],
    ) -> Result<Self, AwsError> {
        let mut read = Self::default();
        if let Some(names) = names {
            if expressions.iter().all(|(_, text)| text.is_none()) {
                return Err(invalid("ExpressionAttributeNames can only be specified when using expressions"));
            }
            read.read_names(names)?;
        }
        if let Some(values) = values {
            let using: Vec<&(Kind, Option<&str>)> =
                expressions.iter().filter(|(kind, _)| *kind != Kind::Projection).collect();
            if using.iter().all(|(_, text)| text.is_none()) {
                let none: Vec<&str> = using.iter().map(|(kind, _)| kind.member()).collect();
                let (list, verb) = (none.join(" and "), if none.len() > 1 { "are" } else { "is" });
                return Err(invalid(format!(
                    "ExpressionAttributeValues can only be specified when using expressions: {list} {verb} null"
                )));
            }
            read.read_values(values)?;
        }
        Ok(read)
    }

    fn read_names(&mut self, names: &Map<String, Json>) -> Result<(), AwsError> {
        if names.is_empty() {
            return Err(invalid("ExpressionAttributeNames must not be empty"));
        }
        for (key, name) in names {
            if !well_formed(key, '#') {
                return Err(invalid(format!(
                    "ExpressionAttributeNames contains invalid key: Syntax error; key: \"{key}\""
                )));
            }
            let name = name.as_str().filter(|name| !name.is_empty()).ok_or_else(|| {
                invalid(format!("ExpressionAttributeNames contains invalid value: Empty attribute name for key {key}"))
            })?;
            self.names.insert(key.clone(), name.to_owned());
            self.unused_names.insert(key.clone());
        }
        Ok(())
    }

    fn read_values(&mut self, values: &Map<String, Json>) -> Result<(), AwsError> {
        if values.is_empty() {
            return Err(invalid("ExpressionAttributeValues must not be empty"));
        }
        for (key, value) in values {
            if !well_formed(key, ':') {
                return Err(invalid(format!(
                    "ExpressionAttributeValues contains invalid key: Syntax error; key: \"{key}\""
                )));
            }
            let value = AttributeValue::from_json(value).map_err(|mut error| {
                if error.code == "ValidationException" {
                    error.message =
                        format!("ExpressionAttributeValues contains invalid value: {} for key {key}", error.message);
                }
                error
            })?;
            self.values.insert(key.clone(), value);
            self.unused_values.insert(key.clone());
        }
        Ok(())
    }

    pub fn name(&mut self, kind: Kind, placeholder: &str) -> Result<String, AwsError> {
        self.unused_names.remove(placeholder);
        self.names.get(placeholder).cloned().ok_or_else(|| {
            kind.fault(format_args!(
                "An expression attribute name used in the document path is not defined; attribute name: {placeholder}"
            ))
        })
    }

    pub fn value(&mut self, kind: Kind, placeholder: &str) -> Result<AttributeValue, AwsError> {
        self.unused_values.remove(placeholder);
        self.values.get(placeholder).cloned().ok_or_else(|| {
            kind.fault(format_args!(
                "An expression attribute value used in expression is not defined; attribute value: {placeholder}"
            ))
        })
    }

    /// Called when every expression of the request is parsed.
    pub fn all_used(&self) -> Result<(), AwsError> {
        let listed = |unused: &BTreeSet<String>| unused.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        for (member, unused) in
            [("ExpressionAttributeNames", &self.unused_names), ("ExpressionAttributeValues", &self.unused_values)]
        {
            if !unused.is_empty() {
                return Err(invalid(format!(
                    "Value provided in {member} unused in expressions: keys: {{{}}}",
                    listed(unused)
                )));
            }
        }
        Ok(())
    }
}

fn well_formed(key: &str, mark: char) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || (mark == ':' && matches!(c, '-' | '.'));
    key.strip_prefix(mark).is_some_and(|rest| !rest.is_empty() && rest.chars().all(allowed))
}
