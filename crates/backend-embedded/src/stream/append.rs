//! Group commit: appends queue up, one thread writes all that wait, syncs each file once, answers everybody.
//!
//! ```text
//! callers ── encode ──► queue ──► committer: place, write, fdatasync ──► publish ──► answer
//!                        ▲                                 │
//!                        └── the next round gathers here while the disk works
//! ```

use super::{Changes, OneStream, config::StreamConfig, faults, format, lock, shard::Shard};
use futures::{FutureExt, channel::oneshot};
use kilter_core::{
    NewRecord, Offset, ShardId,
    ports::{
        clock::Clock,
        stream::{AppendFuture, StreamError, StreamErrorKind},
    },
};
use std::{
    sync::{Arc, Condvar, Mutex},
    thread,
};

type Places = Vec<(ShardId, Offset)>;

/// One `append`, encoded.
pub(crate) struct Job {
    stream: Arc<OneStream>,
    /// One after the other, in the records' order.
    frames: Vec<u8>,
    /// One per record. The committer fills them in.
    places: Places,
    /// The hash keys of those records that name theirs.
    hash_keys: Vec<Option<u128>>,
    failed: Option<StreamError>,
    answer: oneshot::Sender<Result<Places, StreamError>>,
}

/// What waits for the committer.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    wake: Condvar,
    /// Held while the committer is at work, and by whoever changes a stream's shards: what was committed before is
    /// the parents', what is committed afterwards the children's.
    pub round: Mutex<()>,
}

#[derive(Default)]
struct QueueState {
    jobs: Vec<Job>,
    /// Of the frames that wait and of those being committed.
    bytes: u64,
    closed: bool,
    /// The committer waits for a job.
    idle: bool,
}

pub(crate) fn append(
    queue: &Queue,
    queue_bytes_max: u64,
    stream: Arc<OneStream>,
    records: &[NewRecord],
) -> AppendFuture {
    if records.is_empty() {
        return futures::future::ready(Ok(Vec::new())).boxed();
    }
    match encode(stream, records).and_then(|(job, answer)| queue.push(job, queue_bytes_max).map(|()| answer)) {
        Ok(answer) => answer
            .map(|answer| {
                answer.unwrap_or_else(|oneshot::Canceled| {
                    let message = "the thread that writes the streams has ended; the log says why. Restart kilter";
                    Err(StreamError::new(StreamErrorKind::Io, "append", message))
                })
            })
            .boxed(),
        Err(error) => futures::future::ready(Err(error)).boxed(),
    }
}

fn encode(
    stream: Arc<OneStream>,
    records: &[NewRecord],
) -> Result<(Job, oneshot::Receiver<Result<Places, StreamError>>), StreamError> {
    let mut bytes = 0;
    for record in records {
        bytes += format::frame_bytes(record).ok_or_else(|| too_large(record))?;
    }
    let mut frames = Vec::with_capacity(bytes);
    records.iter().for_each(|record| format::encode_frame(record, &mut frames));
    let places = vec![(ShardId(0), Offset::default()); records.len()];
    let hash_keys = records.iter().map(|record| record.hash_key).collect();
    let (answer, answered) = oneshot::channel();
    Ok((Job { stream, frames, places, hash_keys, failed: None, answer }, answered))
}

fn too_large(record: &NewRecord) -> StreamError {
    let message = format!(
        "a record of {} has {} bytes of data, a partition key of {} and a topic of {}; allowed are {} bytes of data and \
         {} of every other part. Send less at once",
        record.thing,
        record.data.len(),
        record.partition_key.len(),
        record.topic.len(),
        format::RECORD_BYTES_MAX,
        format::RECORD_TEXT_BYTES_MAX
    );
    StreamError::new(StreamErrorKind::TooLarge, "append", message)
}

impl Queue {
    fn push(&self, job: Job, bytes_max: u64) -> Result<(), StreamError> {
        let bytes = job.frames.len() as u64;
        let mut state = lock(&self.state);
        if state.closed {
            return Err(faults::closed("append"));
        }
        if state.bytes > 0 && state.bytes + bytes > bytes_max {
            let message = format!("{} bytes wait for the disk already; try again shortly", state.bytes);
            return Err(StreamError::new(StreamErrorKind::Busy, "append", message));
        }
        state.bytes += bytes;
        state.jobs.push(job);
        // Waking costs a system call: spare it while the committer is at work.
        if std::mem::take(&mut state.idle) {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Everything queued; waits for something. `None`: closed, and nothing is left.
    fn take(&self) -> Option<Vec<Job>> {
        let mut state = lock(&self.state);
        while state.jobs.is_empty() {
            if state.closed {
                return None;
            }
            state.idle = true;
            state = self.wake.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state.idle = false;
        Some(std::mem::take(&mut state.jobs))
    }

    fn done(&self, bytes: u64) {
        lock(&self.state).bytes -= bytes;
    }

    /// Refuses from now on; what is queued is still committed.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.wake.notify_one();
    }

    pub fn closed(&self) -> bool {
        lock(&self.state).closed
    }
}

/// The one thread that writes.
pub(crate) struct Committer {
    pub queue: Arc<Queue>,
    pub changes: Arc<Changes>,
    pub config: StreamConfig,
    pub clock: Arc<dyn Clock>,
}

impl Committer {
    pub fn start(self) -> std::io::Result<thread::JoinHandle<()>> {
        thread::Builder::new().name("kilter-stream".into()).spawn(move || self.run())
    }

    fn run(self) {
        let _last_will = RefuseWhenGone(&self.queue);
        while let Some(jobs) = self.queue.take() {
            let bytes = jobs.iter().map(|job| job.frames.len() as u64).sum();
            self.commit(jobs);
            self.queue.done(bytes);
        }
    }

    fn commit(&self, mut jobs: Vec<Job>) {
        let alone = lock(&self.queue.round);
        let mut round = Round::default();
        for job in &mut jobs {
            round.stage(job, self.config.segment_bytes);
        }
        round.write_and_sync();
        drop(alone);
        self.changes.bump();
        for job in jobs {
            let result = round.result(&job);
            let Job { places, answer, .. } = job;
            // Whoever does not want to know has dropped the future.
            let _ = answer.send(result.map(|()| places));
        }
        for touched in round.touched.into_iter().filter(|touched| touched.rolled) {
            touched.stream.enforce_retention(&self.config, &*self.clock);
        }
    }
}

/// Should the committer panic, nobody must wait for it for ever.
struct RefuseWhenGone<'a>(&'a Queue);

impl Drop for RefuseWhenGone<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.closed = true;
        state.jobs.clear();
    }
}

/// The shards that one round writes.
#[derive(Default)]
struct Round {
    touched: Vec<Touched>,
    any_failed: bool,
}

struct Touched {
    stream: Arc<OneStream>,
    shard: Arc<Shard>,
    records: u64,
    bytes: u64,
    rolled: bool,
    failed: Option<StreamError>,
}

impl Round {
    fn stage(&mut self, job: &mut Job, segment_bytes: u64) {
        let mut at = 0;
        let layout = job.stream.layout();
        for (place, hash_key) in job.places.iter_mut().zip(&job.hash_keys) {
            let frame_bytes = format::FRAME_HEADER_BYTES + format::u32_at(&job.frames, at) as usize;
            let frame = &job.frames[at..at + frame_bytes];
            at += frame_bytes;
            let own = || kilter_core::hash_key(format::partition_key(frame));
            place.0 = layout.meta.shards.owner(|| hash_key.unwrap_or_else(own));
            let shard = &layout.shards[place.0.0 as usize];
            let mut writer = lock(&shard.writer);
            let slot = *writer.slot.get_or_insert_with(|| {
                let (stream, shard) = (job.stream.clone(), shard.clone());
                self.touched.push(Touched { stream, shard, records: 0, bytes: 0, rolled: false, failed: None });
                self.touched.len() - 1
            });
            let touched = &mut self.touched[slot];
            let base = writer.segment.base;
            match shard.stage(&mut writer, frame, segment_bytes) {
                Ok(offset) => {
                    place.1 = Offset(offset);
                    touched.records += 1;
                    touched.bytes += frame_bytes as u64;
                    touched.rolled |= writer.segment.base != base;
                }
                Err(error) => {
                    touched.failed = Some(error.clone());
                    job.failed = Some(error);
                }
            }
        }
    }

    /// All files are written before the first is synced: the disk can work on them together.
    fn write_and_sync(&mut self) {
        for touched in &mut self.touched {
            let mut writer = lock(&touched.shard.writer);
            touched.failed = touched.failed.take().or(writer.write().err());
        }
        for touched in &mut self.touched {
            let mut writer = lock(&touched.shard.writer);
            writer.slot = None;
            if touched.failed.is_none() {
                touched.failed = writer.sync().err();
            }
            if touched.failed.is_some() {
                self.any_failed = true;
                continue;
            }
            touched.shard.publish(&writer);
            drop(writer);
            let stream = touched.stream.name.as_str();
            metrics::counter!("kilter_stream_append_records_total", "stream" => stream.to_owned())
                .increment(touched.records);
            metrics::counter!("kilter_stream_append_bytes_total", "stream" => stream.to_owned())
                .increment(touched.bytes);
        }
    }

    fn result(&self, job: &Job) -> Result<(), StreamError> {
        if let Some(error) = &job.failed {
            return Err(error.clone());
        }
        if !self.any_failed {
            return Ok(());
        }
        let of_job = |touched: &&Touched| {
            Arc::ptr_eq(&touched.stream, &job.stream)
                && job.places.iter().any(|place| place.0.0 == touched.shard.number)
        };
        let failed = self.touched.iter().filter(of_job).find_map(|touched| touched.failed.as_ref());
        failed.map_or(Ok(()), |error| Err(error.clone()))
    }
}
