//! Reading requests: typed members, table names and what all operations on items have in common.

use super::fault::{constraint, invalid, missing};
use crate::{AwsError, Call};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

/// Members of an older way to say what expressions say; each names the expression to use.
const LEGACY: [(&str, &str); 8] = [
    ("AttributesToGet", "ProjectionExpression"),
    ("AttributeUpdates", "UpdateExpression"),
    ("ConditionalOperator", "ConditionExpression"),
    ("Expected", "ConditionExpression"),
    ("KeyConditions", "KeyConditionExpression"),
    ("QueryFilter", "FilterExpression"),
    ("ScanFilter", "FilterExpression"),
    ("Exists", "ConditionExpression"),
];

pub fn object(call: &Call) -> Result<Map<String, Json>, AwsError> {
    let body: &[u8] = if call.body.is_empty() { b"{}" } else { &call.body };
    match serde_json::from_slice(body) {
        Ok(Json::Object(members)) => Ok(members),
        Ok(_) | Err(_) => Err(AwsError::new("SerializationException", "The request's body is not a JSON object")),
    }
}

/// The request as `T` reads it. What it does not know is left alone, as the service does.
pub fn read<T: DeserializeOwned>(members: Map<String, Json>) -> Result<T, AwsError> {
    for (legacy, now) in LEGACY {
        if members.get(legacy).is_some_and(|value| !value.is_null()) {
            return Err(invalid(format!("{legacy} is not supported by Kilter: use {now}")));
        }
    }
    let members = members.into_iter().filter(|(_, value)| !value.is_null()).collect();
    serde_json::from_value(Json::Object(members))
        .map_err(|error| AwsError::new("SerializationException", format!("The request cannot be read: {error}")))
}

/// A table's name, given as such or as an ARN of this account and region.
pub fn table_name(call: &Call, given: Option<&str>, member: &str) -> Result<String, AwsError> {
    let given = given.ok_or_else(|| missing(member))?;
    let name = match given.strip_prefix("arn:") {
        Some(_) => {
            let prefix = format!("arn:aws:dynamodb:{}:{}:table/", call.region, call.account);
            given.strip_prefix(&prefix).map(|rest| rest.split('/').next().unwrap_or_default()).ok_or_else(|| {
                AwsError::new(
                    "ResourceNotFoundException",
                    format!("Requested resource not found: {given} is not of this account and region"),
                )
            })?
        }
        None => given,
    };
    check_name(name, member)?;
    Ok(name.to_owned())
}

/// Of a table or an index.
pub fn check_name(name: &str, member: &str) -> Result<(), AwsError> {
    if name.len() < 3 {
        return Err(constraint(name, member, "Member must have length greater than or equal to 3"));
    }
    if name.len() > 255 {
        return Err(constraint(name, member, "Member must have length less than or equal to 255"));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')) {
        return Err(constraint(name, member, "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"));
    }
    Ok(())
}

/// One of the values that a member may have; `default` where it is absent.
pub fn choice<'a>(
    given: Option<&'a str>,
    default: &'a str,
    member: &str,
    allowed: &[&str],
) -> Result<&'a str, AwsError> {
    let value = given.unwrap_or(default);
    if allowed.contains(&value) {
        return Ok(value);
    }
    let rule = format!("Member must satisfy enum value set: [{}]", allowed.join(", "));
    Err(constraint(value, member, &rule))
}

/// A whole number within bounds.
pub fn bounded(given: Option<i64>, member: &str, least: i64, most: i64) -> Result<Option<usize>, AwsError> {
    let Some(value) = given else { return Ok(None) };
    if value < least {
        let rule = format!("Member must have value greater than or equal to {least}");
        return Err(constraint(&value.to_string(), member, &rule));
    }
    if value > most {
        let rule = format!("Member must have value less than or equal to {most}");
        return Err(constraint(&value.to_string(), member, &rule));
    }
    Ok(usize::try_from(value).ok())
}
