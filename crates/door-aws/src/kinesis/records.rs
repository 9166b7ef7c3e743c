//! Putting and getting records. A record that is answered for is on the disk.

use super::{
    KinesisPorts, Request, argument, invalid,
    names::{Iterator, hash_key_of, offset_of, sequence_number, shard_name},
    stream_error,
};
use crate::{Answer, AwsError, Call, json};
use base64::{Engine, engine::general_purpose::STANDARD};
use kilter_core::{
    Offset, Record, ShardId, StreamName, Timestamp,
    ports::{
        put::PutRecord,
        stream::{Bounds, ReadLimit},
    },
};
use serde_json::{Map, Value, json as object};

/// Of one record: data and partition key.
const RECORD_BYTES_MAX: usize = 1 << 20;
const PARTITION_KEY_CHARS_MAX: usize = 256;
const PUT_RECORDS_MAX: usize = 500;
const PUT_BYTES_MAX: usize = 10 << 20;
const GET_RECORDS_MAX: i64 = 10_000;
const GET_BYTES_MAX: usize = 10 << 20;
const ITERATOR_SECONDS_MAX: f64 = 300.0;

/// `PutRecord`, or `PutRecords`.
pub(super) async fn put(ports: &KinesisPorts, call: &Call, many: bool) -> Result<Answer, AwsError> {
    let input = json::object(call)?;
    let stream = super::names::stream_named(&input, call)?;
    let records = if many { many_records(&input)? } else { vec![record(&input, "")?] };
    let bytes: usize = records.iter().map(|record| record.data.len() + record.partition_key.len()).sum();
    if bytes > PUT_BYTES_MAX {
        return Err(argument(format!("Records size exceeds {PUT_BYTES_MAX} bytes")));
    }
    let places = ports.put.put(&stream, records).await.map_err(|error| match error.kind {
        kilter_core::ports::stream::StreamErrorKind::NotFound => super::no_stream(call, &stream),
        _ => stream_error(error),
    })?;
    let place = |(shard, offset): &(ShardId, Offset)| object!({"ShardId": shard_name(*shard), "SequenceNumber": sequence_number(*shard, *offset)});
    let places: Vec<Value> = places.iter().map(place).collect();
    let answer = match (many, places.first()) {
        (false, Some(only)) => {
            let mut only = only.clone();
            only["EncryptionType"] = "NONE".into();
            only
        }
        _ => object!({"FailedRecordCount": 0, "EncryptionType": "NONE", "Records": places}),
    };
    Ok(Answer::json(&answer))
}

fn many_records(input: &Map<String, Value>) -> Result<Vec<PutRecord>, AwsError> {
    let Some(records) = input.get("Records").and_then(Value::as_array) else { return Err(super::missing("Records")) };
    if records.is_empty() || records.len() > PUT_RECORDS_MAX {
        return Err(invalid(format!(
            "1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have length \
             between 1 and {PUT_RECORDS_MAX}, and has {}",
            records.len()
        )));
    }
    let one = |(index, value): (usize, &Value)| {
        let at = format!("records.{}.member.", index + 1);
        record(value.as_object().ok_or_else(|| super::wrong_type("Records", "a list of objects"))?, &at)
    };
    records.iter().enumerate().map(one).collect()
}

fn record(input: &Map<String, Value>, at: &str) -> Result<PutRecord, AwsError> {
    let text = |name: &str| input.get(name).and_then(Value::as_str);
    let null = |name: &str| {
        invalid(format!(
            "1 validation error detected: Value null at '{at}{}' failed to satisfy constraint: Member must not be null",
            super::names::member(name)
        ))
    };
    let hash_key = match input.get("ExplicitHashKey").filter(|key| !key.is_null()) {
        None => None,
        Some(key) => Some(explicit_hash_key(key)?),
    };
    let key = text("PartitionKey").ok_or_else(|| null("PartitionKey"))?;
    if key.is_empty() || key.chars().count() > PARTITION_KEY_CHARS_MAX {
        return Err(invalid(format!(
            "1 validation error detected: Value '{key:.64}' at '{at}partitionKey' failed to satisfy constraint: Member \
             must have length between 1 and {PARTITION_KEY_CHARS_MAX}"
        )));
    }
    let data = STANDARD.decode(text("Data").ok_or_else(|| null("Data"))?);
    let data = data.map_err(|_| AwsError::new("SerializationException", "Data is not Base64"))?;
    if data.len() + key.len() > RECORD_BYTES_MAX {
        return Err(invalid(format!(
            "1 validation error detected: Value at '{at}data' failed to satisfy constraint: Member must have length less \
             than or equal to {RECORD_BYTES_MAX}"
        )));
    }
    Ok(PutRecord { partition_key: key.into(), hash_key, data: data.into() })
}

fn explicit_hash_key(key: &Value) -> Result<u128, AwsError> {
    let text = key.as_str().ok_or_else(|| super::wrong_type("ExplicitHashKey", "text"))?;
    hash_key_of(text).ok_or_else(|| {
        argument(format!("Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text:.64}"))
    })
}

impl Request<'_> {
    pub(super) fn get_shard_iterator(&self) -> Result<Answer, AwsError> {
        let (stream, view) = self.known_stream()?;
        let shard = self.known_shard(&stream, &view, "ShardId")?.id;
        let bounds = self.ports.stream.bounds(&stream, shard).map_err(stream_error)?;
        let next = match self.needed_text("ShardIteratorType")? {
            "TRIM_HORIZON" => bounds.first,
            "LATEST" => bounds.next,
            "AT_SEQUENCE_NUMBER" => self.starting_number(shard, bounds)?,
            "AFTER_SEQUENCE_NUMBER" => self.starting_number(shard, bounds)?.next(),
            "AT_TIMESTAMP" => {
                let seconds = self.input.get("Timestamp").and_then(Value::as_f64);
                let seconds = seconds.ok_or_else(|| argument("AT_TIMESTAMP needs a Timestamp"))?;
                let at = Timestamp::from_nanos((seconds * 1e9) as i64);
                if at > self.call.now {
                    return Err(argument(format!("The Timestamp {at} is in the future")));
                }
                self.first_from(&stream, shard, bounds, at)?
            }
            other => {
                return Err(invalid(format!(
                    "1 validation error detected: Value '{other:.64}' at 'shardIteratorType' failed to satisfy \
                     constraint: Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, \
                     AT_SEQUENCE_NUMBER, TRIM_HORIZON]"
                )));
            }
        };
        let iterator = Iterator { stream, shard, next, made: self.call.now };
        Ok(Answer::json(&object!({"ShardIterator": iterator.write()})))
    }

    fn starting_number(&self, shard: ShardId, bounds: Bounds) -> Result<Offset, AwsError> {
        let given = self.text("StartingSequenceNumber")?;
        let given = given.ok_or_else(|| argument("The iterator's type needs a StartingSequenceNumber"))?;
        offset_of(given, shard)
            .filter(|offset| *offset < bounds.next || *offset == bounds.first)
            .ok_or_else(|| {
                argument(format!("StartingSequenceNumber {given:.64} is not one of shard {}", shard_name(shard)))
            })
            // What retention has deleted since is read from the oldest record kept.
            .map(|offset| offset.max(bounds.first))
    }

    /// The first record that arrived at or after a moment. Arrivals do not go back within a shard.
    fn first_from(
        &self,
        stream: &StreamName,
        shard: ShardId,
        bounds: Bounds,
        at: Timestamp,
    ) -> Result<Offset, AwsError> {
        let (mut low, mut high) = (bounds.first.0, bounds.next.0);
        while low < high {
            let middle = low + (high - low) / 2;
            let one = ReadLimit { records: 1, bytes: 1 };
            let found = self.ports.stream.read(stream, shard, Offset(middle), one).map_err(stream_error)?;
            match found.first() {
                Some(record) if record.record.arrival < at => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(Offset(low))
    }

    pub(super) fn get_records(&self) -> Result<Answer, AwsError> {
        let limit = self.number("Limit", 1, GET_RECORDS_MAX, Some(GET_RECORDS_MAX))? as usize;
        let iterator = Iterator::read(self.needed_text("ShardIterator")?);
        let iterator = iterator.ok_or_else(|| argument("Invalid ShardIterator."))?;
        let Iterator { stream, shard, next, made } = iterator;
        let age = self.call.now.seconds_since(made);
        if age > ITERATOR_SECONDS_MAX {
            let message = format!(
                "Iterator expired. The iterator was created at time {made} while right now it is {} which is further in \
                 the future than the tolerated delay of 300000 milliseconds.",
                self.call.now
            );
            return Err(AwsError::new("ExpiredIteratorException", message));
        }
        let view = self.view(&stream)?;
        let closed = view.shards.get(shard).ok_or_else(|| super::no_stream(self.call, &stream))?.closed;
        let bounds = self.ports.stream.bounds(&stream, shard).map_err(stream_error)?;
        let from = next.max(bounds.first);
        let limit = ReadLimit { records: limit, bytes: GET_BYTES_MAX };
        let records = self.ports.stream.read(&stream, shard, from, limit).map_err(stream_error)?;
        let next = records.last().map_or(from, |record| record.offset.next());
        let mut answer = object!({
            "MillisBehindLatest": self.behind(&stream, shard, next)?,
            "Records": records.iter().map(|record| view_of(shard, record)).collect::<Vec<_>>(),
        });
        if closed.is_some_and(|(end, _)| next >= end) {
            answer["ChildShards"] = super::describe::children(&view, shard).into();
        } else {
            let iterator = Iterator { stream, shard, next, made: self.call.now };
            answer["NextShardIterator"] = iterator.write().into();
        }
        Ok(Answer::json(&answer))
    }

    /// How long ago the next record arrived; 0 where the reader has all there is.
    fn behind(&self, stream: &StreamName, shard: ShardId, next: Offset) -> Result<i64, AwsError> {
        let one = ReadLimit { records: 1, bytes: 1 };
        let following = self.ports.stream.read(stream, shard, next, one).map_err(stream_error)?;
        let behind = following.first().map_or(0.0, |record| self.call.now.seconds_since(record.record.arrival));
        Ok((behind * 1_000.0).max(0.0) as i64)
    }
}

fn view_of(shard: ShardId, record: &Record) -> Value {
    object!({
        "SequenceNumber": sequence_number(shard, record.offset),
        "ApproximateArrivalTimestamp": json::seconds(record.record.arrival),
        "Data": STANDARD.encode(&record.record.data),
        "PartitionKey": record.record.partition_key,
        "EncryptionType": "NONE",
    })
}
