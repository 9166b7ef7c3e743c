//! Key conditions: one value of the partition key, and at most one condition on the sort key.

use super::{Comparison, Condition, Kind, Operand, Path, Placeholders};
use crate::{
    AwsError,
    dynamodb::{fault::invalid, value::AttributeValue},
};

#[derive(Debug, Clone, PartialEq)]
pub enum RangeCondition {
    Compare(Comparison, AttributeValue),
    Between(AttributeValue, AttributeValue),
    BeginsWith(AttributeValue),
}

#[derive(Debug, Clone, PartialEq)]
pub struct KeyCondition {
    pub hash: AttributeValue,
    pub range: Option<RangeCondition>,
}

impl KeyCondition {
    /// Of a table or index whose partition key is `hash` and whose sort key, if it has one, is `range`.
    pub fn parse(
        text: &str,
        placeholders: &mut Placeholders,
        hash: &str,
        range: Option<&str>,
    ) -> Result<Self, AwsError> {
        let condition = Condition::parse(Kind::Key, text, placeholders)?;
        let mut terms = Vec::new();
        flatten(condition, &mut terms)?;
        if terms.len() > 2 {
            return Err(invalid("Conditions can be of length 1 or 2 only"));
        }
        let (mut of_hash, mut of_range) = (None, None);
        for term in terms {
            let (name, condition) = simple(term)?;
            let place = if name == hash {
                &mut of_hash
            } else if Some(name.as_str()) == range {
                &mut of_range
            } else {
                let wanted = if of_hash.is_none() { hash } else { range.unwrap_or(hash) };
                return Err(invalid(format!("Query condition missed key schema element: {wanted}")));
            };
            if place.replace(condition).is_some() {
                return Err(Kind::Key.fault("KeyConditionExpressions must only contain one condition per key"));
            }
        }
        match of_hash {
            Some(RangeCondition::Compare(Comparison::Equal, hash)) => Ok(Self { hash, range: of_range }),
            Some(_) => Err(invalid("Query key condition not supported")),
            None => Err(invalid(format!("Query condition missed key schema element: {hash}"))),
        }
    }
}

fn flatten(condition: Condition, terms: &mut Vec<Condition>) -> Result<(), AwsError> {
    match condition {
        Condition::And(a, b) => {
            flatten(*a, terms)?;
            flatten(*b, terms)
        }
        Condition::Or(..) => Err(unusable("OR")),
        Condition::Not(_) => Err(unusable("NOT")),
        other => {
            terms.push(other);
            Ok(())
        }
    }
}

fn unusable(operator: &str) -> AwsError {
    Kind::Key.fault(format_args!("Invalid operator used in KeyConditionExpression: {operator}"))
}

/// The attribute that a term is about, and what it asks of it.
fn simple(term: Condition) -> Result<(String, RangeCondition), AwsError> {
    match term {
        Condition::Compare(Comparison::NotEqual, ..) => Err(unusable("<>")),
        Condition::Compare(how, Operand::Path(path), Operand::Value(value)) => {
            Ok((attribute(&path)?, RangeCondition::Compare(how, value)))
        }
        Condition::Compare(how, Operand::Value(value), Operand::Path(path)) => {
            Ok((attribute(&path)?, RangeCondition::Compare(mirrored(how), value)))
        }
        Condition::Between(Operand::Path(path), Operand::Value(low), Operand::Value(high)) => {
            Ok((attribute(&path)?, RangeCondition::Between(low, high)))
        }
        Condition::BeginsWith(Operand::Path(path), Operand::Value(prefix)) => {
            Ok((attribute(&path)?, RangeCondition::BeginsWith(prefix)))
        }
        Condition::In(..) => Err(unusable("IN")),
        Condition::Exists(_) => Err(unusable("attribute_exists")),
        Condition::NotExists(_) => Err(unusable("attribute_not_exists")),
        Condition::HasType(..) => Err(unusable("attribute_type")),
        Condition::Contains(..) => Err(unusable("contains")),
        _ => Err(Kind::Key.fault("Each condition must compare one key attribute with a value")),
    }
}

fn attribute(path: &Path) -> Result<String, AwsError> {
    if path.0.len() > 1 {
        return Err(Kind::Key.fault("KeyConditionExpressions cannot have conditions on nested attributes"));
    }
    Ok(path.attribute().to_owned())
}

fn mirrored(how: Comparison) -> Comparison {
    match how {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        same => same,
    }
}
