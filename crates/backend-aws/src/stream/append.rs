//! The way in: one task numbers and sends what was queued. Of each shard one batch is on its way at a time.

use super::{
    Shared,
    batch::{BATCH_BYTES_MAX, Batch, encoded_bytes},
    failure::{error, failed, refused},
    numbers::shard_name,
};
use futures::{channel::oneshot, future::join_all};
use kilter_core::{
    NewRecord, Offset, ShardId, StreamName, hash_key,
    ports::stream::{StreamError, StreamErrorKind},
};
use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, atomic::Ordering},
};
use tokio::sync::mpsc::UnboundedReceiver;

/// Appends that are sent together.
const ROUND_MAX: usize = 1_000;

/// One append that waits.
pub struct Call {
    pub stream: StreamName,
    pub records: Vec<NewRecord>,
    pub bytes: usize,
    pub answer: oneshot::Sender<Answer>,
}

type Answer = Result<Vec<(ShardId, Offset)>, StreamError>;

/// A record with its call's number in the round and its own in the call.
struct Numbered {
    call: usize,
    place: usize,
    record: NewRecord,
}

/// Runs until the backend is dropped.
pub async fn serve(shared: Arc<Shared>, mut calls: UnboundedReceiver<Call>) {
    let mut round = Vec::new();
    while calls.recv_many(&mut round, ROUND_MAX).await > 0 {
        let bytes: usize = round.iter().map(|call| call.bytes).sum();
        let mut streams: BTreeMap<StreamName, Vec<Call>> = BTreeMap::new();
        for call in round.drain(..) {
            streams.entry(call.stream.clone()).or_default().push(call);
        }
        let turn = shared.turn.lock().await;
        join_all(streams.into_iter().map(|(stream, calls)| shared.send(stream, calls))).await;
        drop(turn);
        shared.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
    }
}

impl Shared {
    async fn send(&self, stream: StreamName, mut calls: Vec<Call>) {
        let mut answers: Vec<Answer> =
            calls.iter().map(|call| Ok(vec![(ShardId(0), Offset(0)); call.records.len()])).collect();
        match self.shares(&stream, &mut calls).await {
            Ok(shares) => {
                let sent = shares.into_iter().map(|(shard, records)| self.send_to(&stream, shard, records));
                for Sent { shard, places, failed } in join_all(sent).await {
                    for (call, place, offset) in places {
                        if let Ok(all) = &mut answers[call] {
                            all[place] = (shard, offset);
                        }
                    }
                    for (call, failure) in failed {
                        answers[call] = Err(failure);
                    }
                }
            }
            Err(failure) => answers.fill(Err(failure)),
        }
        self.tell();
        calls.into_iter().zip(answers).for_each(|(call, answer)| drop(call.answer.send(answer)));
    }

    /// Who gets which records, in the order of the calls.
    async fn shares(
        &self,
        stream: &StreamName,
        calls: &mut [Call],
    ) -> Result<BTreeMap<ShardId, Vec<Numbered>>, StreamError> {
        self.learn(stream).await?;
        if calls.iter().all(|call| call.records.is_empty()) {
            // Even what appends nothing is told that there is no such stream.
            self.listed(stream).await?;
        }
        let mut shares: BTreeMap<ShardId, Vec<Numbered>> = BTreeMap::new();
        let known = self.known();
        let known = known.get(stream).ok_or_else(|| {
            error(StreamErrorKind::NotFound, "append", format!("stream {stream} was deleted just now"))
        })?;
        for (call, from) in calls.iter_mut().enumerate() {
            for (place, record) in mem::take(&mut from.records).into_iter().enumerate() {
                let owner = known.shards.owner(|| record.hash_key.unwrap_or_else(|| hash_key(&record.partition_key)));
                shares.entry(owner).or_default().push(Numbered { call, place, record });
            }
        }
        Ok(shares)
    }

    /// Sends batch after batch; after one that failed no other.
    async fn send_to(&self, stream: &StreamName, shard: ShardId, records: Vec<Numbered>) -> Sent {
        let mut sent = Sent { shard, places: Vec::new(), failed: Vec::new() };
        let mut left = records.into_iter().peekable();
        while left.peek().is_some() {
            let (mut places, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some(next) = left.peek() {
                bytes += encoded_bytes(&next.record).unwrap_or(BATCH_BYTES_MAX);
                if bytes > BATCH_BYTES_MAX && !batch.is_empty() {
                    break;
                }
                let Some(Numbered { call, place, record }) = left.next() else { break };
                places.push((call, place));
                batch.push(record);
            }
            match self.send_batch(stream, shard, batch).await {
                Ok(first) => {
                    let numbered = (first.0..).map(Offset).zip(places);
                    sent.places.extend(numbered.map(|(offset, (call, place))| (call, place, offset)));
                }
                Err(failure) => {
                    let all = places.into_iter().map(|(call, _)| call).chain(left.map(|numbered| numbered.call));
                    sent.failed = all.map(|call| (call, failure.clone())).collect();
                    break;
                }
            }
        }
        sent
    }

    /// The offset of the batch's first record, once the service has it.
    async fn send_batch(
        &self,
        stream: &StreamName,
        shard: ShardId,
        records: Vec<NewRecord>,
    ) -> Result<Offset, StreamError> {
        let (first, hash_key) = {
            let known = self.known();
            let found = known.get(stream).and_then(|known| Some((known, known.shards.get(shard)?)));
            let (known, view) = found.ok_or_else(|| lost(stream, shard))?;
            if known.failed(shard) {
                return Err(lost(stream, shard));
            }
            (known.next(shard), view.hash_keys.0.to_string())
        };
        let next = Offset(first.0 + records.len() as u64);
        let data = Batch { first, records }.write()?;
        let put = self.client.put_record().stream_name(stream.as_str()).partition_key(shard_name(shard));
        let put = put.explicit_hash_key(hash_key).data(data).send().await;
        let mut known = self.known();
        match put {
            Ok(done) if done.shard_id() == shard_name(shard) => {
                if let Some(known) = known.get_mut(stream) {
                    known.appended(shard, first, next, done.sequence_number);
                }
                Ok(first)
            }
            Ok(done) => {
                known.remove(stream);
                let message = format!(
                    "shard {} of stream {stream} was closed by somebody else, and {} got its records: let one process \
                     append and reshard",
                    shard.0, done.shard_id
                );
                Err(error(StreamErrorKind::Io, "append", message))
            }
            Err(cause) => {
                if let Some(known) = known.get_mut(stream).filter(|_| !refused(&cause)) {
                    known.fail(shard);
                }
                let failure = failed("append", stream, cause);
                if failure.kind == StreamErrorKind::NotFound {
                    known.remove(stream);
                }
                Err(failure)
            }
        }
    }
}

/// What became of a shard's records: places by call and record, and the calls that failed.
struct Sent {
    shard: ShardId,
    places: Vec<(usize, usize, Offset)>,
    failed: Vec<(usize, StreamError)>,
}

fn lost(stream: &StreamName, shard: ShardId) -> StreamError {
    let message = format!(
        "of an earlier batch for shard {} of stream {stream} nobody knows whether it arrived: restart, so that the shard's \
         end is read again",
        shard.0
    );
    error(StreamErrorKind::Io, "append", message)
}
