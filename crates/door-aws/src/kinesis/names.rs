//! How Kinesis writes shards, sequence numbers and iterators.

use super::{argument, invalid, missing};
use crate::{AwsError, Call};
use base64::{Engine, engine::general_purpose::STANDARD};
use kilter_core::{Offset, ShardId, StreamName, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Digits of a sequence number: a leading 49 as the real ones have it, the offset, the shard.
const OFFSET_DIGITS: usize = 20;
const SHARD_DIGITS: usize = 10;
const LEADING: &str = "49";

/// `StreamName` as Kinesis's messages spell it: `streamName`.
pub fn member(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_lowercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// By `StreamName`, or by `StreamARN`.
pub fn stream_named(input: &Map<String, Value>, call: &Call) -> Result<StreamName, AwsError> {
    let text = |name: &str| input.get(name).and_then(Value::as_str);
    let name = match (text("StreamName"), text("StreamARN")) {
        (Some(name), None) => name,
        (None, Some(arn)) => of_arn(arn, call)?,
        (Some(name), Some(arn)) if of_arn(arn, call)? == name => name,
        (Some(_), Some(_)) => return Err(argument("StreamName and StreamARN name different streams")),
        (None, None) => return Err(missing("StreamName")),
    };
    StreamName::new(name).map_err(|_| {
        invalid(format!(
            "1 validation error detected: Value '{name:.128}' at 'streamName' failed to satisfy constraint: Member must \
             satisfy regular expression pattern: [a-zA-Z0-9_.-]+ and have length less than or equal to 128"
        ))
    })
}

/// The stream's name in an ARN of this site.
pub fn of_arn<'a>(arn: &'a str, call: &Call) -> Result<&'a str, AwsError> {
    arn.strip_prefix(&call.arn("kinesis", "stream/"))
        .ok_or_else(|| argument(format!("StreamARN {arn:.200} is not of a stream of this region and account")))
}

pub fn shard_name(shard: ShardId) -> String {
    format!("shardId-{:012}", shard.0)
}

pub fn shard_of(name: &str) -> Option<ShardId> {
    let digits = name.strip_prefix("shardId-").filter(|digits| digits.len() == 12)?;
    digits.parse().ok().map(ShardId)
}

/// Decimal, as Kinesis has it: no sign, no leading zero.
pub fn hash_key_of(text: &str) -> Option<u128> {
    let plain = text == "0" || (text.starts_with(|first: char| ('1'..='9').contains(&first)));
    text.parse().ok().filter(|_| plain)
}

/// Sorts as text as the offsets do, and names its shard.
pub fn sequence_number(shard: ShardId, offset: Offset) -> String {
    format!("{LEADING}{:020}{:010}", offset.0, shard.0)
}

/// `None` where it is not one of this shard's.
pub fn offset_of(number: &str, shard: ShardId) -> Option<Offset> {
    let digits = number.strip_prefix(LEADING).filter(|digits| digits.len() == OFFSET_DIGITS + SHARD_DIGITS)?;
    let (offset, of) = digits.split_at_checked(OFFSET_DIGITS)?;
    let same = of.parse::<u32>().ok()? == shard.0;
    offset.parse().ok().filter(|_| same).map(Offset)
}

/// Where a reader stands. Opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iterator {
    #[serde(rename = "n")]
    pub stream: StreamName,
    #[serde(rename = "s")]
    pub shard: ShardId,
    #[serde(rename = "o")]
    pub next: Offset,
    #[serde(rename = "t")]
    pub made: Timestamp,
}

impl Iterator {
    pub fn write(&self) -> String {
        let text = serde_json::to_vec(self).expect("names and numbers are JSON");
        STANDARD.encode(text)
    }

    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_slice(&STANDARD.decode(text).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_sort_as_offsets_do() {
        let numbers: Vec<String> =
            [0, 9, 10, u64::MAX].map(|offset| sequence_number(ShardId(3), Offset(offset))).into();
        assert!(numbers.is_sorted());
        for (number, offset) in numbers.iter().zip([0, 9, 10, u64::MAX]) {
            assert_eq!(offset_of(number, ShardId(3)), Some(Offset(offset)));
            assert_eq!(offset_of(number, ShardId(2)), None);
        }
        assert_eq!(offset_of("0", ShardId(0)), None);
    }

    #[test]
    fn iterators_come_back_as_they_were() {
        let iterator = Iterator {
            stream: StreamName::new("s").unwrap(),
            shard: ShardId(1),
            next: Offset(7),
            made: Timestamp::from_seconds(5),
        };
        assert_eq!(Iterator::read(&iterator.write()), Some(iterator));
        assert_eq!(Iterator::read("AAAA"), None);
    }
}
