//! Making, removing and listing streams.

use super::{Request, argument, control_error, no_stream, stream_error};
use crate::{Answer, AwsError, json};
use kilter_core::{StreamName, ports::table::Write};
use serde_json::{Value, json as object};

/// As many as one tenant's stream may have.
pub(super) const SHARDS_MAX: i64 = 64;
const STREAMS_PAGE_MAX: i64 = 10_000;
const STREAMS_PAGE: i64 = 100;
/// Partitions of the service's own table.
pub(super) const TABLE: &str = "kinesis";
pub(super) const MADE: &str = "made";

impl Request<'_> {
    pub(super) fn create_stream(&self) -> Result<Answer, AwsError> {
        let name = self.stream()?;
        if let Some(mode) = self.input.get("StreamModeDetails").and_then(|m| m["StreamMode"].as_str())
            && mode != "PROVISIONED"
        {
            return Err(argument(format!("StreamMode {mode:.32} is not offered: use PROVISIONED with a ShardCount")));
        }
        let shards = self.number("ShardCount", 1, SHARDS_MAX, Some(1))?;
        let tags = self.tags_given()?;
        self.ports.resources.make_stream(&name, shards as u32).map_err(|error| match error.kind {
            kilter_core::ports::control::ControlErrorKind::Conflict => {
                let message = format!("Stream {name} under account {} already exists.", self.call.account);
                AwsError::new("ResourceInUseException", message)
            }
            _ => control_error(error),
        })?;
        let made = serde_json::to_vec(&self.call.now).map_err(AwsError::internal)?;
        let made = Write::put(&TABLE.into(), MADE, name.as_str(), made);
        self.ports.table.commit(vec![made, self.tags_write(&name, &tags)?]).map_err(AwsError::internal)?;
        Ok(Answer::empty())
    }

    pub(super) fn delete_stream(&self) -> Result<Answer, AwsError> {
        let (name, _) = self.known_stream()?;
        self.ports.resources.remove_stream(&name).map_err(|error| match error.kind {
            kilter_core::ports::control::ControlErrorKind::NotFound => no_stream(self.call, &name),
            _ => control_error(error),
        })?;
        let writes = [MADE, super::tags::TAGS].map(|part| Write::delete(&TABLE.into(), part, name.as_str()));
        self.ports.table.commit(writes.into()).map_err(AwsError::internal)?;
        Ok(Answer::empty())
    }

    pub(super) fn list_streams(&self) -> Result<Answer, AwsError> {
        let limit = self.number("Limit", 1, STREAMS_PAGE_MAX, Some(STREAMS_PAGE))? as usize;
        // A page's token is the last name of the one before.
        let after = self.text("NextToken")?.or(self.text("ExclusiveStartStreamName")?).unwrap_or_default();
        let streams = self.ports.stream.list().map_err(stream_error)?;
        let mut names: Vec<StreamName> = streams.into_iter().map(|(name, _)| name).collect();
        names.retain(|name| name.as_str() > after);
        let more = names.len() > limit;
        names.truncate(limit);
        let summary = |name: &StreamName| -> Result<Value, AwsError> {
            Ok(object!({
                "StreamName": name, "StreamARN": self.arn(name), "StreamStatus": "ACTIVE",
                "StreamModeDetails": {"StreamMode": "PROVISIONED"},
                "StreamCreationTimestamp": json::seconds(self.made(name)?),
            }))
        };
        let summaries: Vec<Value> = names.iter().map(summary).collect::<Result<_, _>>()?;
        let mut answer = object!({"StreamNames": names, "HasMoreStreams": more, "StreamSummaries": summaries});
        if let Some(last) = names.last().filter(|_| more) {
            answer["NextToken"] = last.as_str().into();
        }
        Ok(Answer::json(&answer))
    }
}
