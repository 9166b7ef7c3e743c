//! What a stream is, and its shards.

use super::{
    Request, argument,
    names::{hash_keys, sequence_number, shard_name},
    stream_error,
    streams::{MADE, TABLE},
};
use crate::{Answer, AwsError, json};
use base64::{Engine, engine::general_purpose::STANDARD};
use kilter_core::{Offset, ShardId, StreamName, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json as object};

const SHARDS_PAGE_MAX: i64 = 10_000;
const SHARDS_PAGE: i64 = 1_000;
const DESCRIBE_PAGE: i64 = 100;
/// Like the real ones, a page's token does not hold for ever.
const TOKEN_SECONDS_MAX: f64 = 300.0;

/// The next page of `ListShards`.
#[derive(Serialize, Deserialize)]
struct Page {
    stream: StreamName,
    from: u32,
    made: Timestamp,
}

impl Request<'_> {
    pub(super) fn arn(&self, name: &StreamName) -> String {
        self.call.arn("kinesis", &format!("stream/{name}"))
    }

    /// When the stream was made; the epoch where that was not through this service.
    pub(super) fn made(&self, name: &StreamName) -> Result<Timestamp, AwsError> {
        let stored = self.ports.table.get(TABLE, MADE, name.as_str()).map_err(AwsError::internal)?;
        Ok(stored.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    fn facts(&self, name: &StreamName) -> Result<Value, AwsError> {
        Ok(object!({
            "StreamName": name, "StreamARN": self.arn(name), "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": "PROVISIONED"},
            "RetentionPeriodHours": self.ports.retention_hours,
            "StreamCreationTimestamp": json::seconds(self.made(name)?),
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE",
        }))
    }

    pub(super) fn describe_stream_summary(&self) -> Result<Answer, AwsError> {
        let (name, shards) = self.known_stream()?;
        let mut facts = self.facts(&name)?;
        facts["OpenShardCount"] = shards.into();
        facts["ConsumerCount"] = 0.into();
        Ok(Answer::json(&object!({ "StreamDescriptionSummary": facts })))
    }

    pub(super) fn describe_stream(&self) -> Result<Answer, AwsError> {
        let (name, shards) = self.known_stream()?;
        let limit = self.number("Limit", 1, SHARDS_PAGE_MAX, Some(DESCRIBE_PAGE))? as u32;
        let from = self.after_shard("ExclusiveStartShardId")?;
        let (page, next) = self.shards(&name, shards, from, limit)?;
        let mut facts = self.facts(&name)?;
        facts["Shards"] = page.into();
        facts["HasMoreShards"] = next.is_some().into();
        Ok(Answer::json(&object!({ "StreamDescription": facts })))
    }

    pub(super) fn list_shards(&self) -> Result<Answer, AwsError> {
        let limit = self.number("MaxResults", 1, SHARDS_PAGE_MAX, Some(SHARDS_PAGE))? as u32;
        let (name, from) = match self.text("NextToken")? {
            Some(token) => {
                if self.input.contains_key("StreamName") || self.input.contains_key("ExclusiveStartShardId") {
                    return Err(argument("NextToken and StreamName or ExclusiveStartShardId cannot be used together"));
                }
                let page: Option<Page> =
                    STANDARD.decode(token).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                let page = page.ok_or_else(|| argument("NextToken is not valid"))?;
                if self.call.now.seconds_since(page.made) > TOKEN_SECONDS_MAX {
                    return Err(AwsError::new(
                        "ExpiredNextTokenException",
                        "NextToken has expired: list from the start",
                    ));
                }
                (page.stream, page.from)
            }
            None => (self.stream()?, self.after_shard("ExclusiveStartShardId")?),
        };
        let streams = self.ports.stream.list().map_err(stream_error)?;
        let known = streams.into_iter().find(|(known, _)| *known == name);
        let (_, shards) = known.ok_or_else(|| super::no_stream(self.call, &name))?;
        let (page, next) = self.shards(&name, shards, from, limit)?;
        let mut answer = object!({ "Shards": page });
        if let Some(from) = next {
            let page = Page { stream: name, from, made: self.call.now };
            answer["NextToken"] = STANDARD.encode(serde_json::to_vec(&page).map_err(AwsError::internal)?).into();
        }
        Ok(Answer::json(&answer))
    }

    fn after_shard(&self, name: &str) -> Result<u32, AwsError> {
        let Some(text) = self.text(name)? else { return Ok(0) };
        let shard = super::names::shard_of(text).ok_or_else(|| argument(format!("{name} is not a shard's id")))?;
        Ok(shard.0.saturating_add(1))
    }

    /// A page of shards, and where the next begins.
    fn shards(
        &self,
        name: &StreamName,
        shards: u32,
        from: u32,
        limit: u32,
    ) -> Result<(Vec<Value>, Option<u32>), AwsError> {
        let to = from.saturating_add(limit).min(shards);
        let mut page = Vec::new();
        for shard in (from..to).map(ShardId) {
            let bounds = self.ports.stream.bounds(name, shard).map_err(stream_error)?;
            let (start, end) = hash_keys(shard, shards);
            page.push(object!({
                "ShardId": shard_name(shard),
                "HashKeyRange": {"StartingHashKey": start.to_string(), "EndingHashKey": end.to_string()},
                "SequenceNumberRange": {"StartingSequenceNumber": sequence_number(shard, Offset(bounds.first.0))},
            }));
        }
        Ok((page, (to < shards).then_some(to)))
    }

    pub(super) fn describe_limits(&self) -> Result<Answer, AwsError> {
        let streams = self.ports.stream.list().map_err(stream_error)?;
        let open: u64 = streams.iter().map(|(_, shards)| u64::from(*shards)).sum();
        Ok(Answer::json(&object!({
            "ShardLimit": i32::MAX, "OpenShardCount": open, "OnDemandStreamCount": 0, "OnDemandStreamCountLimit": 0,
        })))
    }
}
