//! `ShardFilter`: shards by when they were open.

use super::{Request, argument, invalid, missing, names::shard_of, wrong_type};
use crate::AwsError;
use kilter_core::{ShardView, Timestamp, ports::stream::StreamView};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Both ends are part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Period {
    from: Timestamp,
    to: Timestamp,
}

impl Period {
    const NEVER: Timestamp = Timestamp::from_nanos(i64::MAX);
    pub const ALL: Self = Self { from: Timestamp::MIN, to: Self::NEVER };
    /// When only what is open now will still be.
    const LATEST: Self = Self { from: Self::NEVER, to: Self::NEVER };

    /// The shard was open at some moment of the period.
    pub fn meets(self, shard: &ShardView) -> bool {
        shard.opened <= self.to && shard.closed.is_none_or(|(_, at)| at >= self.from)
    }
}

impl Request<'_> {
    /// The first shard that the filter lets through, and when those that it lets through were open.
    pub(super) fn shard_filter(&self, view: &StreamView) -> Result<(u32, Period), AwsError> {
        let filter = match self.input.get("ShardFilter") {
            None | Some(Value::Null) => return Ok((0, Period::ALL)),
            Some(filter) => filter.as_object().ok_or_else(|| wrong_type("ShardFilter", "an object"))?,
        };
        let horizon = self.horizon(view);
        let since = || timestamp(filter).map(|at| at.max(horizon));
        let period = match filter.get("Type").and_then(Value::as_str).ok_or_else(|| missing("ShardFilter.Type"))? {
            "AFTER_SHARD_ID" => {
                let id = filter.get("ShardId").and_then(Value::as_str).and_then(shard_of);
                let id = id.ok_or_else(|| argument("ShardFilter of type AFTER_SHARD_ID needs a ShardId"))?;
                return Ok((id.0.saturating_add(1), Period::ALL));
            }
            "AT_TRIM_HORIZON" => Period { from: horizon, to: horizon },
            "FROM_TRIM_HORIZON" => Period::ALL,
            "AT_LATEST" => Period::LATEST,
            "AT_TIMESTAMP" => since().map(|at| Period { from: at, to: at })?,
            "FROM_TIMESTAMP" => since().map(|from| Period { from, ..Period::ALL })?,
            other => {
                return Err(invalid(format!(
                    "1 validation error detected: Value '{other:.64}' at 'shardFilter.type' failed to satisfy constraint: \
                     Member must satisfy enum value set: [AFTER_SHARD_ID, AT_TRIM_HORIZON, FROM_TRIM_HORIZON, AT_LATEST, \
                     AT_TIMESTAMP, FROM_TIMESTAMP]"
                )));
            }
        };
        Ok((0, period))
    }

    /// Since when the stream has what was put: as far back as records are kept, but not before there was a shard.
    fn horizon(&self, view: &StreamView) -> Timestamp {
        let kept = self.call.now.plus_seconds(-(view.retention.as_secs() as i64));
        view.shards.all().first().map_or(kept, |first| first.opened.max(kept))
    }
}

fn timestamp(filter: &Map<String, Value>) -> Result<Timestamp, AwsError> {
    let seconds = filter.get("Timestamp").and_then(Value::as_f64);
    let seconds = seconds.ok_or_else(|| argument("ShardFilter of this type needs a Timestamp"))?;
    Ok(Timestamp::from_nanos((seconds * 1e9) as i64))
}
