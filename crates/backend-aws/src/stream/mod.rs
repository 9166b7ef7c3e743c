//! The port `Stream` over Kinesis.
//!
//! Kinesis's sequence numbers have more digits than an offset and holes between them. So this backend numbers records
//! itself: a record of Kinesis is a *batch*, records of one shard with the offset of the first ([`batch`]). One batch of a
//! shard is on its way at a time, which keeps the order and makes of many waiting appends one request. Where the numbers
//! end is read from the stream when it is first used ([`numbers`]).
//!
//! Only one process may append to a stream or reshard it.

mod admin;
mod append;
mod batch;
mod failure;
mod numbers;
mod read;

pub use batch::{BATCH_BYTES_MAX, RECORD_BYTES_MAX};

use append::{Call, serve};
use aws_sdk_kinesis::Client;
use batch::encoded_bytes;
use failure::error;
use futures::{FutureExt, channel::oneshot, future::ready};
use kilter_core::{
    NewRecord, Offset, Record, ShardId, StreamName,
    ports::stream::{AppendFuture, Bounds, ReadLimit, Stream, StreamError, StreamErrorKind},
};
use numbers::Known;
use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::mpsc::{UnboundedSender, unbounded_channel},
};

/// Bytes of records that wait to be sent; beyond them appends are refused as *Busy*.
const QUEUE_BYTES_MAX: usize = 64 << 20;

pub struct AwsStream {
    shared: Arc<Shared>,
    queue: UnboundedSender<Call>,
}

struct Shared {
    client: Client,
    runtime: Handle,
    known: Mutex<HashMap<StreamName, Known>>,
    /// Held while batches are sent, and by whoever makes, reshards or deletes a stream: no batch is numbered for a
    /// shard that is closed before it arrives.
    turn: tokio::sync::Mutex<()>,
    queued_bytes: AtomicUsize,
    closed: AtomicBool,
    /// Counts what [`Stream::wait`] waits for.
    news: Mutex<u64>,
    told: Condvar,
}

impl AwsStream {
    pub fn new(client: Client, runtime: Handle) -> Self {
        let (queue, calls) = unbounded_channel();
        let shared = Arc::new(Shared {
            client,
            runtime: runtime.clone(),
            known: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            queued_bytes: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            news: Mutex::new(1),
            told: Condvar::new(),
        });
        runtime.spawn(serve(shared.clone(), calls));
        Self { shared, queue }
    }

    /// Nothing is changed from now on; what was queued is still sent.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, HashMap<StreamName, Known>> {
        lock(&self.known)
    }

    fn tell(&self) {
        *lock(&self.news) += 1;
        self.told.notify_all();
    }

    fn check_open(&self, operation: &'static str) -> Result<(), StreamError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(error(StreamErrorKind::Closed, operation, "the backend is shutting down"));
        }
        Ok(())
    }

    /// Whether an append may be queued, and its bytes.
    fn admit(&self, records: &[NewRecord]) -> Result<usize, StreamError> {
        self.check_open("append")?;
        let mut bytes = 0;
        for record in records {
            let encoded = encoded_bytes(record)?;
            if record.data.len() > RECORD_BYTES_MAX || encoded > BATCH_BYTES_MAX {
                let message = format!(
                    "a record has {} bytes of data, {encoded} in all; at most {RECORD_BYTES_MAX} and {BATCH_BYTES_MAX} fit",
                    record.data.len()
                );
                return Err(error(StreamErrorKind::TooLarge, "append", message));
            }
            bytes += encoded;
        }
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::SeqCst);
        // One append larger than the bound is taken when nothing else waits.
        if queued > 0 && queued + bytes > QUEUE_BYTES_MAX {
            self.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
            let message = format!("{queued} bytes wait to be sent already: try again shortly");
            return Err(error(StreamErrorKind::Busy, "append", message));
        }
        Ok(bytes)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream for AwsStream {
    fn append(&self, stream: &StreamName, records: Vec<NewRecord>) -> AppendFuture {
        let bytes = match self.shared.admit(&records) {
            Ok(bytes) => bytes,
            Err(refused) => return ready(Err(refused)).boxed(),
        };
        let (answer, answered) = oneshot::channel();
        // Where nobody receives any more, the answer is dropped with the call.
        let _ = self.queue.send(Call { stream: stream.clone(), records, bytes, answer });
        let gone = || error(StreamErrorKind::Closed, "append", "the runtime that sends records has ended");
        answered.map(move |answer| answer.unwrap_or_else(|_| Err(gone()))).boxed()
    }

    fn read(
        &self,
        stream: &StreamName,
        shard: ShardId,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<Vec<Record>, StreamError> {
        self.shared.runtime.block_on(self.shared.read(stream, shard, from, limit))
    }

    fn bounds(&self, stream: &StreamName, shard: ShardId) -> Result<Bounds, StreamError> {
        self.shared.runtime.block_on(self.shared.bounds(stream, shard))
    }

    fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        let news = lock(&self.shared.news);
        let waited = self.shared.told.wait_timeout_while(news, timeout, |news| *news == seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Kinesis deletes by age alone and cannot be told what is still needed: set a retention that is longer than any
    /// reader is behind.
    fn retain_from(&self, stream: &StreamName, shard: ShardId, _: Offset) -> Result<(), StreamError> {
        self.shared.runtime.block_on(self.shared.place(stream, shard, Offset(0))).map(drop)
    }
}
