//! Kinesis Data Streams over the port `Stream`: what is put here is scored, and what is got here is what was scored.

mod describe;
mod filter;
mod names;
mod records;
mod reshard;
mod retention;
mod streams;
mod tags;

use crate::{Access, Answer, AwsError, Call, Service, call::blocking, json};
use futures::{FutureExt, future::BoxFuture};
use kilter_core::{
    ShardView, StreamName,
    ports::{
        control::{ControlError, ControlErrorKind},
        put::Put,
        resources::Resources,
        stream::{Stream, StreamError, StreamErrorKind, StreamView},
        table::Table,
    },
};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What the service works with.
pub struct KinesisPorts {
    pub stream: Arc<dyn Stream>,
    pub put: Arc<dyn Put>,
    pub resources: Arc<dyn Resources>,
    /// Of tags and the times that streams were made.
    pub table: Arc<dyn Table>,
}

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Kinesis(Arc<KinesisPorts>);

impl Kinesis {
    pub fn new(ports: KinesisPorts) -> Self {
        Self(Arc::new(ports))
    }

    async fn answer(&self, call: &Call) -> Result<Answer, AwsError> {
        let operation = call.target().unwrap_or_default().to_owned();
        if operation == "PutRecord" || operation == "PutRecords" {
            return records::put(&self.0, call, operation == "PutRecords").await;
        }
        let (ports, call) = (self.0.clone(), call.clone());
        blocking(move || Request::read(&ports, &call)?.answer(&operation)).await
    }
}

impl Service for Kinesis {
    fn name(&self) -> &'static str {
        "kinesis"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, AwsError>> {
        self.answer(call).boxed()
    }

    fn access(&self, call: &Call) -> Access {
        let input = json::object(call).unwrap_or_default();
        let named = names::stream_named(&input, call);
        let resource = match (named, input.get("ShardIterator").and_then(Value::as_str)) {
            (Ok(stream), _) => call.arn("kinesis", &format!("stream/{stream}")),
            (Err(_), Some(iterator)) => match names::Iterator::read(iterator) {
                Some(iterator) => call.arn("kinesis", &format!("stream/{}", iterator.stream)),
                None => "*".to_owned(),
            },
            _ => "*".to_owned(),
        };
        Access { action: format!("kinesis:{}", call.target().unwrap_or("*")), resources: vec![resource] }
    }
}

/// A request with its input.
struct Request<'a> {
    ports: &'a KinesisPorts,
    call: &'a Call,
    input: Map<String, Value>,
}

impl<'a> Request<'a> {
    fn read(ports: &'a KinesisPorts, call: &'a Call) -> Result<Self, AwsError> {
        Ok(Self { ports, call, input: json::object(call)? })
    }

    /// One line per operation; what is not here is refused by its name.
    fn answer(&self, operation: &str) -> Result<Answer, AwsError> {
        match operation {
            "CreateStream" => self.create_stream(),
            "DeleteStream" => self.delete_stream(),
            "DescribeLimits" => self.describe_limits(),
            "DescribeStream" => self.describe_stream(),
            "DescribeStreamSummary" => self.describe_stream_summary(),
            "ListShards" => self.list_shards(),
            "ListStreams" => self.list_streams(),
            "GetShardIterator" => self.get_shard_iterator(),
            "GetRecords" => self.get_records(),
            "SplitShard" => self.split_shard(),
            "MergeShards" => self.merge_shards(),
            "UpdateShardCount" => self.update_shard_count(),
            "IncreaseStreamRetentionPeriod" => self.increase_stream_retention_period(),
            "DecreaseStreamRetentionPeriod" => self.decrease_stream_retention_period(),
            "AddTagsToStream" => self.add_tags_to_stream(),
            "RemoveTagsFromStream" => self.remove_tags_from_stream(),
            "ListTagsForStream" => self.list_tags_for_stream(),
            "TagResource" => self.tag_resource(),
            "UntagResource" => self.untag_resource(),
            "ListTagsForResource" => self.list_tags_for_resource(),
            other => Err(AwsError::unknown_operation(other)),
        }
    }

    fn stream(&self) -> Result<StreamName, AwsError> {
        names::stream_named(&self.input, self.call)
    }

    /// The stream that the request names, which must be there.
    fn known_stream(&self) -> Result<(StreamName, StreamView), AwsError> {
        let name = self.stream()?;
        let view = self.view(&name)?;
        Ok((name, view))
    }

    fn view(&self, name: &StreamName) -> Result<StreamView, AwsError> {
        self.ports.stream.describe(name).map_err(|error| match error.kind {
            StreamErrorKind::NotFound => no_stream(self.call, name),
            _ => stream_error(error),
        })
    }

    /// The shard that a parameter names, unless retention has ended it.
    fn known_shard<'v>(&self, name: &StreamName, view: &'v StreamView, of: &str) -> Result<&'v ShardView, AwsError> {
        let named = self.needed_text(of)?;
        let known = names::shard_of(named).and_then(|id| view.shards.get(id));
        known.filter(|shard| describe::is_kept(shard, view.retention, self.call.now)).ok_or_else(|| {
            let message =
                format!("Shard {named:.64} in stream {name} under account {} does not exist", self.call.account);
            AwsError::new("ResourceNotFoundException", message)
        })
    }

    fn text(&self, name: &str) -> Result<Option<&str>, AwsError> {
        match self.input.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_type(name, "text")),
        }
    }

    fn needed_text(&self, name: &str) -> Result<&str, AwsError> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// A whole number between bounds, or `default`.
    fn number(&self, name: &str, low: i64, high: i64, default: Option<i64>) -> Result<i64, AwsError> {
        let value = match self.input.get(name) {
            None | Some(Value::Null) => return default.ok_or_else(|| missing(name)),
            Some(value) => value.as_i64().ok_or_else(|| wrong_type(name, "a whole number"))?,
        };
        if (low..=high).contains(&value) {
            return Ok(value);
        }
        let member = names::member(name);
        let (bound, rule) = if value < low { (low, "greater") } else { (high, "less") };
        Err(invalid(format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must have \
             value {rule} than or equal to {bound}"
        )))
    }
}

fn missing(name: &str) -> AwsError {
    let member = names::member(name);
    invalid(format!(
        "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
    ))
}

fn wrong_type(name: &str, wanted: &str) -> AwsError {
    AwsError::new("SerializationException", format!("{name} must be {wanted}"))
}

fn invalid(message: String) -> AwsError {
    AwsError::new("ValidationException", message)
}

fn argument(message: impl Into<String>) -> AwsError {
    AwsError::new("InvalidArgumentException", message)
}

fn no_stream(call: &Call, name: &StreamName) -> AwsError {
    let message = format!("Stream {name} under account {} not found.", call.account);
    AwsError::new("ResourceNotFoundException", message)
}

fn stream_error(error: StreamError) -> AwsError {
    match error.kind {
        StreamErrorKind::NotFound => AwsError::new("ResourceNotFoundException", error.message),
        StreamErrorKind::Busy => AwsError::new("ProvisionedThroughputExceededException", error.message),
        StreamErrorKind::TooLarge => invalid(error.message),
        StreamErrorKind::Trimmed => argument(error.message),
        StreamErrorKind::Conflict => AwsError::new("ResourceInUseException", error.message),
        _ => AwsError::internal(error),
    }
}

fn control_error(error: ControlError) -> AwsError {
    match error.kind {
        ControlErrorKind::NotFound => AwsError::new("ResourceNotFoundException", error.message),
        ControlErrorKind::Conflict => AwsError::new("ResourceInUseException", error.message),
        ControlErrorKind::Invalid => invalid(error.message),
        ControlErrorKind::Internal => AwsError::internal(error),
    }
}

#[cfg(test)]
mod tests;
