//! JSON bodies: read with the messages that AWS services answer.

use crate::{AwsError, Call};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The body as an object; an empty one is an empty object.
pub fn object(call: &Call) -> Result<Map<String, Value>, AwsError> {
    if call.body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&call.body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(AwsError::new("SerializationException", "The request's body must be a JSON object")),
        Err(error) => Err(unreadable(&error)),
    }
}

/// The body as an operation's input. `SerializationException` where a member has the wrong type; that a member is
/// there and holds what it may is the operation's to check, with the service's own error.
pub fn input<T: DeserializeOwned>(call: &Call) -> Result<T, AwsError> {
    let body: &[u8] = if call.body.is_empty() { b"{}" } else { &call.body };
    serde_json::from_slice(body).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> AwsError {
    AwsError::new("SerializationException", format!("The request's body cannot be read: {error}"))
}

/// Seconds since the epoch with milliseconds, as JSON protocols write a time.
pub fn seconds(time: kilter_core::Timestamp) -> Value {
    Value::from((time.as_nanos() / 1_000_000) as f64 / 1_000.0)
}
