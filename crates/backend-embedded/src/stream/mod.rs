//! The port `Stream` as a segmented log on the local disk. `format.rs` has the bytes, `catalog.rs` the
//! directories, `append.rs` the way in, `read.rs` the way out, `recover.rs` what happens at a start.

mod append;
mod catalog;
mod config;
mod faults;
mod format;
mod frames;
mod index;
mod read;
mod recover;
mod reshard;
mod retention;
mod segment;
mod shard;
#[cfg(test)]
mod tests;

pub use config::StreamConfig;
pub use format::{RECORD_BYTES_MAX, RECORD_TEXT_BYTES_MAX};

use append::{Committer, Queue};
use catalog::Meta;
use kilter_core::{
    NewRecord, Offset, Record, Reshard, ShardId, Shards, StreamName,
    ports::{
        clock::Clock,
        stream::{AppendFuture, Bounds, ReadLimit, Stream, StreamAdmin, StreamError, StreamErrorKind, StreamView},
    },
};
use shard::Shard;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Streams below one directory. Whoever opens it holds a [`crate::DirectoryLock`].
pub struct EmbeddedStream {
    directory: PathBuf,
    config: StreamConfig,
    clock: Arc<dyn Clock>,
    streams: RwLock<BTreeMap<StreamName, Arc<OneStream>>>,
    /// Held while streams are made or deleted.
    admin: Mutex<()>,
    queue: Arc<Queue>,
    changes: Arc<Changes>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) struct OneStream {
    name: StreamName,
    layout: RwLock<Arc<Layout>>,
}

/// What a stream consists of; replaced as a whole.
pub(crate) struct Layout {
    meta: Meta,
    /// By number.
    shards: Vec<Arc<Shard>>,
}

impl OneStream {
    fn layout(&self) -> Arc<Layout> {
        self.layout.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, layout: Layout) {
        *self.layout.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(layout);
    }

    fn enforce_retention(&self, config: &StreamConfig, clock: &dyn Clock) {
        let layout = self.layout();
        let age = layout.meta.retention.unwrap_or(config.retention_age);
        for shard in &layout.shards {
            retention::enforce(shard, age, config.retention_bytes, clock);
        }
    }
}

impl EmbeddedStream {
    /// Opens every stream below `directory` and cuts off what a crash left unfinished. Reads the last segment
    /// of every shard and nothing else. Metrics are raised from here on: install their recorder before.
    ///
    /// # Errors
    /// `Damaged` where acknowledged records cannot be read any more, `Io` where the disk refuses.
    pub fn open(directory: &Path, config: StreamConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StreamError> {
        describe_metrics();
        let started = Instant::now();
        let opened = catalog::open_all(directory)?;
        let streams: BTreeMap<_, _> =
            opened.into_iter().map(|stream| (stream.name.clone(), Arc::new(stream))).collect();
        tracing::info!(directory = %directory.display(), streams = streams.len(), elapsed = ?started.elapsed(), "streams opened");
        let (queue, changes) = (Arc::new(Queue::default()), Arc::new(Changes::default()));
        let committer =
            Committer { queue: queue.clone(), changes: changes.clone(), config: config.clone(), clock: clock.clone() };
        let committer = committer.start().map_err(|error| faults::io("open", directory, error))?;
        Ok(Arc::new(Self {
            directory: directory.to_path_buf(),
            config,
            clock,
            streams: RwLock::new(streams),
            admin: Mutex::new(()),
            queue,
            changes,
            committer: Mutex::new(Some(committer)),
        }))
    }

    /// Commits what is queued, then refuses appends and changes with `Closed`. Reads go on. A second call
    /// does nothing.
    pub fn close(&self) {
        self.queue.close();
        let Some(committer) = lock(&self.committer).take() else { return };
        if committer.join().is_err() {
            tracing::error!(
                "the thread that writes the streams has panicked; what it had not acknowledged may be lost"
            );
            return;
        }
        for stream in self.all() {
            for shard in &stream.layout().shards {
                shard.finish();
            }
        }
        self.changes.bump();
    }

    /// Deletes what retention's rules allow, in every stream. Also done whenever a segment is sealed; call it
    /// every minute for the sake of streams that rest. Blocking.
    pub fn enforce_retention(&self) {
        for stream in self.all() {
            stream.enforce_retention(&self.config, &*self.clock);
        }
    }

    fn all(&self) -> Vec<Arc<OneStream>> {
        self.streams.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn find(&self, operation: &'static str, stream: &StreamName) -> Result<Arc<OneStream>, StreamError> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(stream).cloned().ok_or_else(|| faults::no_stream(operation, stream))
    }

    fn shard(&self, operation: &'static str, stream: &StreamName, shard: ShardId) -> Result<Arc<Shard>, StreamError> {
        let layout = self.find(operation, stream)?.layout();
        let count = layout.shards.len();
        layout.shards.get(shard.0 as usize).cloned().ok_or_else(|| faults::no_shard(operation, stream, shard, count))
    }

    fn open_for_change(&self, operation: &'static str) -> Result<MutexGuard<'_, ()>, StreamError> {
        let admin = lock(&self.admin);
        if self.queue.closed() { Err(faults::closed(operation)) } else { Ok(admin) }
    }
}

impl Drop for EmbeddedStream {
    fn drop(&mut self) {
        self.close();
    }
}

impl StreamAdmin for EmbeddedStream {
    fn create_from(&self, stream: &StreamName, shards: u32, first: Offset) -> Result<(), StreamError> {
        let _admin = self.open_for_change("create")?;
        let conflict = |message| Err(StreamError::new(StreamErrorKind::Conflict, "create", message));
        if !(1..=Shards::COUNT_MAX).contains(&shards) {
            let max = Shards::COUNT_MAX;
            return conflict(format!("stream {stream} cannot have {shards} shards; choose 1 to {max}"));
        }
        if let Ok(there) = self.find("create", stream) {
            return match there.layout().meta.shards.open().len() {
                count if count == shards as usize => Ok(()),
                count => {
                    conflict(format!("stream {stream} is there with {count} shards, not {shards}; choose another name"))
                }
            };
        }
        let meta = Meta { shards: Shards::even(shards, first, self.clock.now()), retention: None };
        let made = catalog::create(&self.directory, stream, meta)?;
        self.streams.write().unwrap_or_else(PoisonError::into_inner).insert(stream.clone(), Arc::new(made));
        tracing::info!(%stream, shards, "stream created");
        self.changes.bump();
        Ok(())
    }

    fn delete(&self, stream: &StreamName) -> Result<u64, StreamError> {
        let _admin = self.open_for_change("delete")?;
        let found = self.find("delete", stream)?;
        let abandon = |shard: &Arc<Shard>| shard.abandon(faults::no_stream("append", stream));
        let records = found.layout().shards.iter().map(abandon).sum();
        self.streams.write().unwrap_or_else(PoisonError::into_inner).remove(stream);
        catalog::remove(&self.directory, stream)?;
        tracing::info!(%stream, records, "stream deleted");
        self.changes.bump();
        Ok(records)
    }

    fn list(&self) -> Result<Vec<(StreamName, u32)>, StreamError> {
        Ok(self.all().iter().map(|stream| (stream.name.clone(), stream.layout().shards.len() as u32)).collect())
    }

    fn describe(&self, stream: &StreamName) -> Result<StreamView, StreamError> {
        let meta = &self.find("describe", stream)?.layout().meta;
        Ok(StreamView { shards: meta.shards.clone(), retention: meta.retention.unwrap_or(self.config.retention_age) })
    }

    fn reshard(&self, stream: &StreamName, steps: &[Reshard]) -> Result<(), StreamError> {
        let _admin = self.open_for_change("reshard")?;
        let found = self.find("reshard", stream)?;
        let _no_round = lock(&self.queue.round);
        reshard::reshard(&self.directory, &found, steps, self.clock.now())?;
        tracing::info!(%stream, shards = found.layout().meta.shards.open().len(), "stream resharded");
        self.changes.bump();
        Ok(())
    }

    fn set_retention(&self, stream: &StreamName, age: Duration) -> Result<(), StreamError> {
        let _admin = self.open_for_change("retention")?;
        let found = self.find("retention", stream)?;
        let layout = found.layout();
        let meta = Meta { retention: Some(age), ..layout.meta.clone() };
        catalog::write_meta(&self.directory, stream, &meta)?;
        found.replace(Layout { meta, shards: layout.shards.clone() });
        tracing::info!(%stream, seconds = age.as_secs(), "the stream's retention changed");
        found.enforce_retention(&self.config, &*self.clock);
        Ok(())
    }
}

impl Stream for EmbeddedStream {
    fn append(&self, stream: &StreamName, records: Vec<NewRecord>) -> AppendFuture {
        match self.find("append", stream) {
            Ok(found) => append::append(&self.queue, self.config.queue_bytes_max, found, &records),
            Err(error) => Box::pin(futures::future::ready(Err(error))),
        }
    }

    fn read(
        &self,
        stream: &StreamName,
        shard: ShardId,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<Vec<Record>, StreamError> {
        let found = self.shard("read", stream, shard)?;
        found.read(from, limit).or_else(|error| {
            // A stream that is deleted meanwhile loses its files under the reader, perhaps to a successor.
            let now = self.shard("read", stream, shard)?;
            if Arc::ptr_eq(&found, &now) { Err(error) } else { now.read(from, limit) }
        })
    }

    fn bounds(&self, stream: &StreamName, shard: ShardId) -> Result<Bounds, StreamError> {
        let shard = self.shard("bounds", stream, shard)?;
        let view = lock(&shard.view);
        Ok(Bounds { first: Offset(view.first()), next: Offset(view.next) })
    }

    fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        self.changes.wait(seen, timeout)
    }

    fn retain_from(&self, stream: &StreamName, shard: ShardId, offset: Offset) -> Result<(), StreamError> {
        let shard = self.shard("retain", stream, shard)?;
        lock(&shard.view).retain_from = Some(offset.0);
        Ok(())
    }
}

/// A number that grows with everything that readers may be waiting for.
pub(crate) struct Changes {
    number: Mutex<u64>,
    grown: Condvar,
}

impl Default for Changes {
    fn default() -> Self {
        // Not 0, which is what a reader starts with: its first wait must tell it to look.
        Self { number: Mutex::new(1), grown: Condvar::new() }
    }
}

impl Changes {
    fn bump(&self) {
        *lock(&self.number) += 1;
        self.grown.notify_all();
    }

    fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        let number = lock(&self.number);
        let waited = self.grown.wait_timeout_while(number, timeout, |number| *number == seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What a mutex guards here is changed as a whole or not at all, so a panic elsewhere does not spoil it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn describe_metrics() {
    metrics::describe_counter!("kilter_stream_append_records_total", "Records made durable, by stream");
    metrics::describe_counter!(
        "kilter_stream_append_bytes_total",
        metrics::Unit::Bytes,
        "Bytes of the log made durable, by stream"
    );
    metrics::describe_histogram!(
        "kilter_stream_fsync_seconds",
        metrics::Unit::Seconds,
        "Time that the disk took to make a shard's writes durable"
    );
    metrics::describe_counter!(
        "kilter_stream_torn_bytes_total",
        metrics::Unit::Bytes,
        "Bytes of unfinished writes that were cut off at a start"
    );
}
