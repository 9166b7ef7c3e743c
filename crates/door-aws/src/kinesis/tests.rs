//! What boto3 cannot show: iterators that expire, by a clock of the test's own.

use super::{names::Iterator, *};
use axum::http::HeaderMap;
use kilter_core::{
    NewRecord, Offset, RecordKind, ShardId, TenantId, ThingName, Timestamp,
    ports::{
        put::PutRecord,
        resources::Resource,
        stream::{AppendFuture, StreamAdmin},
    },
};
use kilter_testkit::{MemoryStream, MemoryTable};
use serde_json::json;

struct Plain(Arc<MemoryStream>);

impl Put for Plain {
    fn put(&self, stream: &StreamName, records: Vec<PutRecord>) -> AppendFuture {
        let record = |r: PutRecord| NewRecord {
            kind: RecordKind::Telemetry,
            partition_key: r.partition_key,
            hash_key: None,
            thing: ThingName::new("x").unwrap(),
            thing_sequence: 1,
            arrival: Timestamp::from_seconds(100),
            topic: "".into(),
            data: r.data,
        };
        self.0.append(stream, records.into_iter().map(record).collect())
    }
}

impl Resources for Plain {
    fn exists(&self, _: &TenantId, _: Resource) -> bool {
        false
    }
    fn list(&self, _: Resource) -> Result<Vec<(TenantId, Timestamp)>, ControlError> {
        Ok(Vec::new())
    }
    fn make(&self, _: &TenantId, _: Resource) -> Result<(), ControlError> {
        Ok(())
    }
    fn remove(&self, _: &TenantId, _: Resource) -> Result<(), ControlError> {
        Ok(())
    }
    fn make_stream(&self, stream: &StreamName, shards: u32) -> Result<(), ControlError> {
        self.0.create(stream, shards).map_err(|error| ControlError::internal("no", error))
    }
    fn remove_stream(&self, stream: &StreamName) -> Result<(), ControlError> {
        self.0.delete(stream).map(drop).map_err(|error| ControlError::internal("no", error))
    }
}

async fn ask(kinesis: &Kinesis, operation: &str, input: Value, at: i64) -> Result<Value, AwsError> {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-target", format!("Kinesis_20131202.{operation}").parse().unwrap());
    let unsigned = Call::new("us-east-1", "123456789012", Timestamp::from_seconds(at));
    let call = Call { headers, body: input.to_string().into(), ..unsigned };
    let answer = kinesis.call(&call).await?;
    Ok(if answer.body.is_empty() { Value::Null } else { serde_json::from_slice(&answer.body).unwrap() })
}

#[tokio::test]
async fn iterators_expire_and_lag_is_told() {
    let stream = Arc::new(MemoryStream::new());
    let kinesis = Kinesis::new(KinesisPorts {
        stream: stream.clone(),
        put: Arc::new(Plain(stream.clone())),
        resources: Arc::new(Plain(stream)),
        table: Arc::new(MemoryTable::new()),
    });
    ask(&kinesis, "CreateStream", json!({"StreamName": "s", "ShardCount": 1}), 100).await.unwrap();
    for _ in 0..3 {
        ask(&kinesis, "PutRecord", json!({"StreamName": "s", "PartitionKey": "k", "Data": "aGk="}), 100).await.unwrap();
    }
    let wanted = json!({"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"});
    let iterator = ask(&kinesis, "GetShardIterator", wanted, 100).await.unwrap()["ShardIterator"].clone();
    let got = ask(&kinesis, "GetRecords", json!({"ShardIterator": iterator, "Limit": 2}), 107).await.unwrap();
    assert_eq!((got["Records"].as_array().unwrap().len(), &got["MillisBehindLatest"]), (2, &json!(7_000)));
    let next = got["NextShardIterator"].clone();
    let got = ask(&kinesis, "GetRecords", json!({ "ShardIterator": next }), 108).await.unwrap();
    assert_eq!((got["Records"].as_array().unwrap().len(), &got["MillisBehindLatest"]), (1, &json!(0)));
    let old = ask(&kinesis, "GetRecords", json!({ "ShardIterator": iterator }), 401).await.unwrap_err();
    assert_eq!(old.code, "ExpiredIteratorException");
    let forged = Iterator {
        stream: StreamName::new("other").unwrap(),
        shard: ShardId(0),
        next: Offset(0),
        made: Timestamp::from_seconds(100),
    };
    let refused = ask(&kinesis, "GetRecords", json!({"ShardIterator": forged.write()}), 101).await.unwrap_err();
    assert_eq!(refused.code, "ResourceNotFoundException");
}
