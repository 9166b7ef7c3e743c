//! Records that come without a device: through the Kinesis API.

use crate::{append::Appender, consumer::tenant_of, decode};
use futures::FutureExt;
use kilter_core::{
    NewRecord, RecordKind, ShardId, StreamName, ThingName, Timestamp,
    ports::{
        clock::Clock,
        put::{Put, PutRecord},
        stream::{AppendFuture, Stream},
    },
};
use std::sync::Arc;

pub struct PipelinePut {
    pub append: Arc<Appender>,
    pub stream: Arc<dyn Stream>,
    pub clock: Arc<dyn Clock>,
}

impl Put for PipelinePut {
    fn put(&self, stream: &StreamName, records: Vec<PutRecord>) -> AppendFuture {
        // Before anything is counted for a stream that is not there.
        if let Err(error) = self.stream.bounds(stream, ShardId(0)) {
            return futures::future::ready(Err(error)).boxed();
        }
        let now = self.clock.now();
        let scored = tenant_of(stream).is_some();
        let numbered = records.into_iter().enumerate();
        let records = numbered.map(|(count, record)| {
            // A nanosecond apart: without times of their own, records of one batch would be duplicates of each other.
            let arrival = Timestamp::from_nanos(now.as_nanos().saturating_add(count as i64));
            let kind = if scored { kind_of(&record.data, arrival) } else { RecordKind::Telemetry };
            let PutRecord { partition_key, hash_key, data } = record;
            let thing = thing_named(&partition_key);
            NewRecord { kind, partition_key, hash_key, thing, thing_sequence: 0, arrival, topic: "".into(), data }
        });
        self.append.append(stream.clone(), records.collect())
    }
}

fn kind_of(data: &[u8], arrival: Timestamp) -> RecordKind {
    metrics::counter!("kilter_ingest_received_total").increment(1);
    match decode::decode(data, arrival) {
        Ok(_) => RecordKind::Telemetry,
        Err(reason) => {
            metrics::counter!("kilter_ingest_rejected_total").increment(1);
            RecordKind::Rejected(reason)
        }
    }
}

/// The thing of a record that came with nothing but a partition key, or a topic.
pub fn thing_named(name: &str) -> ThingName {
    let letter = |c: char| if c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-') { c } else { '_' };
    let name: String = name.chars().take(ThingName::LEN_MAX).map(letter).collect();
    ThingName::new(&name).unwrap_or_else(|_| ThingName::new("unnamed").expect("the word is a thing's name"))
}
