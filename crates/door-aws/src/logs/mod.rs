//! CloudWatch Logs: the log groups of rules and of scoring functions, and those that operators make.

mod events;
mod groups;

use crate::{Answer, AwsError, Call, Service, json};
use futures::{FutureExt, future::BoxFuture};
use kilter_core::{
    Timestamp,
    ports::logs::{LogError, LogErrorKind, Logs},
};
use serde_json::{Map, Value};
use std::sync::Arc;

const NANOS_PER_MILLI: i64 = 1_000_000;

pub struct LogsService {
    pub logs: Arc<dyn Logs>,
}

type Result<T> = std::result::Result<T, AwsError>;
/// An operation's input.
type Input = Map<String, Value>;

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("InvalidParameterException", message)
}

fn failed(error: LogError) -> AwsError {
    let code = match error.kind {
        LogErrorKind::NotFound => "ResourceNotFoundException",
        LogErrorKind::Exists => "ResourceAlreadyExistsException",
        LogErrorKind::Invalid => "InvalidParameterException",
        LogErrorKind::Limit => "LimitExceededException",
        LogErrorKind::Internal => return AwsError::internal(error),
    };
    AwsError::new(code, error.message)
}

fn text<'i>(input: &'i Input, name: &str) -> Result<Option<&'i str>> {
    match input.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(AwsError::new("SerializationException", format!("{name} must be a string"))),
    }
}

fn required<'i>(input: &'i Input, name: &str) -> Result<&'i str> {
    let missing = || {
        invalid(format!(
            "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"
        ))
    };
    text(input, name)?.filter(|text| !text.is_empty()).ok_or_else(missing)
}

/// The group, by name or, where an operation takes that too, by ARN.
fn group(input: &Input) -> Result<&str> {
    match text(input, "logGroupIdentifier")? {
        Some(arn) => Ok(arn.split_once(":log-group:").map_or(arn, |(_, name)| name.trim_end_matches(":*"))),
        None => required(input, "logGroupName"),
    }
}

fn number(input: &Input, name: &str, default: i64, range: std::ops::RangeInclusive<i64>) -> Result<i64> {
    match input.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value
            .as_i64()
            .filter(|number| range.contains(number))
            .ok_or_else(|| invalid(format!("{name} must be a number from {} to {}", range.start(), range.end()))),
    }
}

fn flag(input: &Input, name: &str) -> bool {
    input.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// A time in milliseconds.
fn time(input: &Input, name: &str) -> Result<Option<Timestamp>> {
    match input.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let millis = value.as_i64().filter(|millis| *millis >= 0);
            let millis = millis.ok_or_else(|| invalid(format!("{name} must be milliseconds since 1970")))?;
            Ok(Some(Timestamp::from_nanos(millis.saturating_mul(NANOS_PER_MILLI))))
        }
    }
}

fn millis(time: Timestamp) -> Value {
    Value::from(time.as_nanos().div_euclid(NANOS_PER_MILLI))
}

/// Runs an operation; `None` is an empty answer.
fn dispatch(logs: &dyn Logs, call: &Call) -> Result<Option<Value>> {
    let input = json::object(call)?;
    let operation = call.target().unwrap_or_default();
    match operation {
        "CreateLogGroup" => groups::create(logs, &input).map(|()| None),
        "DeleteLogGroup" => groups::delete(logs, &input).map(|()| None),
        "DescribeLogGroups" => groups::describe(logs, &input, call).map(Some),
        "PutRetentionPolicy" => groups::set_retention(logs, &input).map(|()| None),
        "DeleteRetentionPolicy" => groups::drop_retention(logs, &input).map(|()| None),
        "CreateLogStream" => groups::create_stream(logs, &input).map(|()| None),
        "DeleteLogStream" => groups::delete_stream(logs, &input).map(|()| None),
        "DescribeLogStreams" => groups::describe_streams(logs, &input, call).map(Some),
        "PutLogEvents" => events::put(logs, &input, call.now).map(Some),
        "GetLogEvents" => events::get(logs, &input).map(Some),
        "FilterLogEvents" => events::filter(logs, &input).map(Some),
        other => Err(AwsError::unknown_operation(other)),
    }
}

impl Service for LogsService {
    fn name(&self) -> &'static str {
        "logs"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer>> {
        let (logs, call) = (self.logs.clone(), call.clone());
        async move {
            let answered = tokio::task::spawn_blocking(move || dispatch(&*logs, &call)).await;
            let answered = answered.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
            Ok(answered?.map_or_else(Answer::empty, |body| Answer::json(&body)))
        }
        .boxed()
    }
}
