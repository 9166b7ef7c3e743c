//! What a stream is, and its shards.

use super::{
    Request, argument,
    filter::Period,
    names::{sequence_number, shard_name},
    stream_error,
    streams::{MADE, TABLE},
};
use crate::{Answer, AwsError, json};
use base64::{Engine, engine::general_purpose::STANDARD};
use kilter_core::{ShardId, ShardView, StreamName, Timestamp, ports::stream::StreamView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json as object};
use std::time::Duration;

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
    /// Of the filter that the first page was asked for with.
    lived: Period,
    made: Timestamp,
}

/// A closed shard is there until all its records have expired.
pub(super) fn is_kept(shard: &ShardView, retention: Duration, now: Timestamp) -> bool {
    shard.closed.is_none_or(|(_, at)| now.seconds_since(at) <= retention.as_secs_f64())
}

fn hash_key_range(shard: &ShardView) -> Value {
    let (first, last) = shard.hash_keys;
    object!({"StartingHashKey": first.to_string(), "EndingHashKey": last.to_string()})
}

/// What a reader goes on with at the end of a shard.
pub(super) fn children(view: &StreamView, parent: ShardId) -> Vec<Value> {
    let children = view.shards.all().iter().filter(|shard| shard.parents.contains(&parent));
    let child = |shard: &ShardView| {
        let parents: Vec<String> = shard.parents.iter().map(|id| shard_name(*id)).collect();
        object!({"ShardId": shard_name(shard.id), "ParentShards": parents, "HashKeyRange": hash_key_range(shard)})
    };
    children.map(child).collect()
}

fn described(shard: &ShardView) -> Value {
    let mut numbers = object!({"StartingSequenceNumber": sequence_number(shard.id, shard.start)});
    if let Some((end, _)) = shard.closed {
        numbers["EndingSequenceNumber"] = sequence_number(shard.id, end).into();
    }
    let mut described = object!({
        "ShardId": shard_name(shard.id), "HashKeyRange": hash_key_range(shard), "SequenceNumberRange": numbers,
    });
    for (name, parent) in ["ParentShardId", "AdjacentParentShardId"].iter().zip(&shard.parents) {
        described[name] = shard_name(*parent).into();
    }
    described
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

    fn facts(&self, name: &StreamName, view: &StreamView) -> Result<Value, AwsError> {
        Ok(object!({
            "StreamName": name, "StreamARN": self.arn(name), "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": "PROVISIONED"},
            "RetentionPeriodHours": view.retention.as_secs() / 3_600,
            "StreamCreationTimestamp": json::seconds(self.made(name)?),
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE",
        }))
    }

    pub(super) fn describe_stream_summary(&self) -> Result<Answer, AwsError> {
        let (name, view) = self.known_stream()?;
        let mut facts = self.facts(&name, &view)?;
        facts["OpenShardCount"] = view.shards.open().len().into();
        facts["ConsumerCount"] = 0.into();
        Ok(Answer::json(&object!({ "StreamDescriptionSummary": facts })))
    }

    pub(super) fn describe_stream(&self) -> Result<Answer, AwsError> {
        let (name, view) = self.known_stream()?;
        let limit = self.number("Limit", 1, SHARDS_PAGE_MAX, Some(DESCRIBE_PAGE))? as usize;
        let from = self.after_shard("ExclusiveStartShardId")?;
        let (page, next) = self.shards(&view, Period::ALL, from, limit);
        let mut facts = self.facts(&name, &view)?;
        facts["Shards"] = page.into();
        facts["HasMoreShards"] = next.is_some().into();
        Ok(Answer::json(&object!({ "StreamDescription": facts })))
    }

    pub(super) fn list_shards(&self) -> Result<Answer, AwsError> {
        let limit = self.number("MaxResults", 1, SHARDS_PAGE_MAX, Some(SHARDS_PAGE))? as usize;
        let (name, view, from, lived) = match self.text("NextToken")? {
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
                (page.stream.clone(), self.view(&page.stream)?, page.from, page.lived)
            }
            None => {
                let (name, view) = self.known_stream()?;
                let (from, lived) = self.shard_filter(&view)?;
                (name, view, from.max(self.after_shard("ExclusiveStartShardId")?), lived)
            }
        };
        let (page, next) = self.shards(&view, lived, from, limit);
        let mut answer = object!({ "Shards": page });
        if let Some(from) = next {
            let page = Page { stream: name, from, lived, made: self.call.now };
            answer["NextToken"] = STANDARD.encode(serde_json::to_vec(&page).map_err(AwsError::internal)?).into();
        }
        Ok(Answer::json(&answer))
    }

    pub(super) fn after_shard(&self, name: &str) -> Result<u32, AwsError> {
        let Some(text) = self.text(name)? else { return Ok(0) };
        let shard = super::names::shard_of(text).ok_or_else(|| argument(format!("{name} is not a shard's id")))?;
        Ok(shard.0.saturating_add(1))
    }

    /// A page of shards, and where the next begins.
    fn shards(&self, view: &StreamView, lived: Period, from: u32, limit: usize) -> (Vec<Value>, Option<u32>) {
        let kept = |shard: &&ShardView| is_kept(shard, view.retention, self.call.now) && lived.meets(shard);
        let mut rest = view.shards.all().iter().filter(|shard| shard.id.0 >= from).filter(kept).peekable();
        let page = rest.by_ref().take(limit).map(described).collect();
        (page, rest.peek().map(|shard| shard.id.0))
    }

    pub(super) fn describe_limits(&self) -> Result<Answer, AwsError> {
        let mut open = 0;
        for (name, _) in self.ports.stream.list().map_err(stream_error)? {
            open += self.ports.stream.describe(&name).map_or(0, |view| view.shards.open().len());
        }
        Ok(Answer::json(&object!({
            "ShardLimit": i32::MAX, "OpenShardCount": open, "OnDemandStreamCount": 0, "OnDemandStreamCountLimit": 0,
        })))
    }
}
