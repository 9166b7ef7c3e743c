//! The way back: a shard's batches, from a place on.

use super::{
    Shared,
    batch::Batch,
    failure::{error, failed},
    numbers::shard_name,
};
use crate::{READY_LOOKS, READY_PAUSE};
use aws_sdk_kinesis::{error::ProvideErrorMetadata, primitives::DateTime, types::ShardIteratorType};
use kilter_core::{
    Offset, Record, ShardId, StreamName, Timestamp,
    ports::stream::{Bounds, ReadLimit, StreamError, StreamErrorKind},
};
use std::ops::ControlFlow;

/// Batches of one answer: at most as many MiB.
const PAGE: i32 = 8;

/// Where to begin.
pub enum Start {
    Beginning,
    Time(Timestamp),
    /// With the batch of this sequence number.
    Batch(String),
}

impl Shared {
    async fn iterator(
        &self,
        stream: &StreamName,
        shard: ShardId,
        start: &Start,
    ) -> Result<Option<String>, StreamError> {
        let asked = self.client.get_shard_iterator().stream_name(stream.as_str()).shard_id(shard_name(shard));
        let asked = match start {
            Start::Beginning => asked.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Start::Time(at) => asked
                .shard_iterator_type(ShardIteratorType::AtTimestamp)
                .timestamp(DateTime::from_secs(at.as_nanos().div_euclid(1_000_000_000))),
            Start::Batch(number) => {
                asked.shard_iterator_type(ShardIteratorType::AtSequenceNumber).starting_sequence_number(number)
            }
        };
        match asked.send().await {
            Ok(answer) => Ok(answer.shard_iterator),
            // Retention has deleted the batch: what is left is behind it.
            Err(cause) if cause.code() == Some("InvalidArgumentException") && matches!(start, Start::Batch(_)) => {
                Box::pin(self.iterator(stream, shard, &Start::Beginning)).await
            }
            Err(cause) => Err(failed("read", stream, cause)),
        }
    }

    /// Shows batches with their sequence numbers until `visit` has had enough or the shard is at its end.
    pub async fn walk(
        &self,
        stream: &StreamName,
        shard: ShardId,
        start: Start,
        visit: &mut (dyn FnMut(Batch, &str) -> ControlFlow<()> + Send),
    ) -> Result<(), StreamError> {
        let mut iterator = self.iterator(stream, shard, &start).await?;
        while let Some(at) = iterator {
            let page = self.client.get_records().shard_iterator(at).limit(PAGE).send().await;
            let page = page.map_err(|cause| failed("read", stream, cause))?;
            for record in &page.records {
                let batch = Batch::read(record.data().as_ref()).ok_or_else(|| {
                    let message = format!(
                        "record {} of shard {} of stream {stream} was not put by this backend",
                        record.sequence_number(),
                        shard.0
                    );
                    error(StreamErrorKind::Damaged, "read", message)
                })?;
                if visit(batch, record.sequence_number()).is_break() {
                    return Ok(());
                }
            }
            let end = page.records.is_empty() && page.millis_behind_latest.unwrap_or_default() == 0;
            iterator = page.next_shard_iterator.filter(|_| !end);
        }
        Ok(())
    }

    pub async fn read(
        &self,
        stream: &StreamName,
        shard: ShardId,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<Vec<Record>, StreamError> {
        for _ in 0..READY_LOOKS {
            let spot = self.place(stream, shard, from).await?;
            if from < spot.start {
                return Err(trimmed(stream, from, spot.start));
            }
            if limit.records == 0 || from >= spot.next {
                return Ok(Vec::new());
            }
            let mut gathered = Gathered { from, end: spot.next, limit, records: Vec::new(), bytes: 0, missed: None };
            let begin = spot.sequence_number.map_or(Start::Beginning, Start::Batch);
            let mut places = Vec::new();
            let mut visit = |batch: Batch, number: &str| {
                places.push((batch.first, number.to_owned()));
                gathered.take(batch)
            };
            self.walk(stream, shard, begin, &mut visit).await?;
            if let Some(known) = self.known().get_mut(stream) {
                places.into_iter().for_each(|(first, number)| known.remember(shard, first, number));
            }
            if let Some(first) = gathered.missed {
                return Err(trimmed(stream, from, first));
            }
            if !gathered.records.is_empty() {
                return Ok(gathered.records);
            }
            if let Some(first) = self.first(stream, shard).await?.filter(|first| *first > from) {
                return Err(trimmed(stream, from, first));
            }
            // A record may be durable a moment before it can be read.
            tokio::time::sleep(READY_PAUSE).await;
        }
        let message = format!("record {} of stream {stream} was put and does not come: look at the stream", from.0);
        Err(error(StreamErrorKind::Io, "read", message))
    }

    /// The offset of the first record that is kept.
    async fn first(&self, stream: &StreamName, shard: ShardId) -> Result<Option<Offset>, StreamError> {
        let mut first = None;
        let mut visit = |batch: Batch, _: &str| {
            first = Some(batch.first);
            ControlFlow::Break(())
        };
        self.walk(stream, shard, Start::Beginning, &mut visit).await?;
        Ok(first)
    }

    pub async fn bounds(&self, stream: &StreamName, shard: ShardId) -> Result<Bounds, StreamError> {
        let spot = self.place(stream, shard, Offset(0)).await?;
        if spot.start == spot.next {
            return Ok(Bounds { first: spot.start, next: spot.next });
        }
        let first = self.first(stream, shard).await?.unwrap_or(spot.next);
        Ok(Bounds { first, next: spot.next })
    }
}

fn trimmed(stream: &StreamName, from: Offset, first: Offset) -> StreamError {
    let message = format!("record {} of stream {stream} is not kept any more: the first one is {}", from.0, first.0);
    error(StreamErrorKind::Trimmed, "read", message)
}

/// What a read has found so far.
struct Gathered {
    /// The next wanted.
    from: Offset,
    end: Offset,
    limit: ReadLimit,
    records: Vec<Record>,
    bytes: usize,
    /// The first offset that there is, where the wanted one is gone.
    missed: Option<Offset>,
}

impl Gathered {
    fn take(&mut self, batch: Batch) -> ControlFlow<()> {
        if batch.first > self.from {
            self.missed = Some(batch.first).filter(|_| self.records.is_empty());
            return ControlFlow::Break(());
        }
        for (count, record) in batch.records.into_iter().enumerate() {
            let offset = Offset(batch.first.0 + count as u64);
            // Before what is wanted, or a batch that came twice.
            if offset < self.from {
                continue;
            }
            self.bytes += record.data.len();
            let full = self.records.len() == self.limit.records || self.bytes > self.limit.bytes;
            if offset >= self.end || (full && !self.records.is_empty()) {
                return ControlFlow::Break(());
            }
            self.from = offset.next();
            self.records.push(Record { offset, record });
        }
        if self.from >= self.end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
