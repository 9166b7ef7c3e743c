//! The port `Stream` in memory: what is appended is "durable" at once and for as long as the process lives.

use futures::{FutureExt, future::ready};
use kilter_core::{
    NewRecord, Offset, Record, Reshard, ShardId, Shards, StreamName, Timestamp, hash_key,
    ports::stream::{AppendFuture, Bounds, ReadLimit, Stream, StreamAdmin, StreamError, StreamErrorKind, StreamView},
};
use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

#[derive(Debug, Default)]
pub struct MemoryStream {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    streams: BTreeMap<StreamName, OneStream>,
    changes: u64,
    closed: bool,
}

#[derive(Debug)]
struct OneStream {
    view: StreamView,
    shards: Vec<Shard>,
}

#[derive(Debug, Default)]
struct Shard {
    first: u64,
    records: Vec<NewRecord>,
    retain_from: Option<u64>,
}

impl Default for State {
    fn default() -> Self {
        Self { streams: BTreeMap::new(), changes: 1, closed: false }
    }
}

impl MemoryStream {
    /// Largest `data` of one record, in bytes: as large as Kinesis takes.
    pub const RECORD_BYTES_MAX: usize = 1 << 20;

    pub fn new() -> Self {
        Self::default()
    }

    /// How long a stream keeps its records before anybody has said so.
    const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

    /// Deletes every record that nobody needs any more, whatever its age.
    pub fn trim(&self) {
        for shard in self.lock().streams.values_mut().flat_map(|stream| &mut stream.shards) {
            let needed = shard.retain_from.unwrap_or(shard.first).clamp(shard.first, shard.next());
            shard.records.drain(..(needed - shard.first) as usize);
            shard.first = needed;
        }
    }

    /// Refuses appends and changes from now on.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bump(&self, state: &mut State) {
        state.changes += 1;
        self.changed.notify_all();
    }
}

impl Shard {
    fn next(&self) -> u64 {
        self.first + self.records.len() as u64
    }
}

impl State {
    fn stream(&mut self, operation: &'static str, stream: &StreamName) -> Result<&mut OneStream, StreamError> {
        let missing = || StreamError::new(StreamErrorKind::NotFound, operation, format!("there is no stream {stream}"));
        self.streams.get_mut(stream).ok_or_else(missing)
    }

    fn shard(
        &mut self,
        operation: &'static str,
        stream: &StreamName,
        shard: ShardId,
    ) -> Result<&mut Shard, StreamError> {
        let missing =
            || StreamError::new(StreamErrorKind::NotFound, operation, format!("there is no shard {}", shard.0));
        self.stream(operation, stream)?.shards.get_mut(shard.0 as usize).ok_or_else(missing)
    }

    fn refuse_when_closed(&self, operation: &'static str) -> Result<(), StreamError> {
        if self.closed {
            Err(StreamError::new(StreamErrorKind::Closed, operation, "the stream is closed"))
        } else {
            Ok(())
        }
    }

    fn append(&mut self, stream: &StreamName, records: Vec<NewRecord>) -> Result<Vec<(ShardId, Offset)>, StreamError> {
        self.refuse_when_closed("append")?;
        let OneStream { view, shards } = self.stream("append", stream)?;
        if records.iter().any(|record| record.data.len() > MemoryStream::RECORD_BYTES_MAX) {
            return Err(StreamError::new(StreamErrorKind::TooLarge, "append", "a record is larger than 1 MiB"));
        }
        let place = |record: NewRecord| {
            let id = view.shards.owner(|| record.hash_key.unwrap_or_else(|| hash_key(&record.partition_key)));
            let shard = &mut shards[id.0 as usize];
            let offset = shard.next();
            shard.records.push(NewRecord { hash_key: None, ..record });
            (id, Offset(offset))
        };
        Ok(records.into_iter().map(place).collect())
    }
}

impl StreamAdmin for MemoryStream {
    fn create_from(&self, stream: &StreamName, shards: u32, first: Offset) -> Result<(), StreamError> {
        let mut state = self.lock();
        state.refuse_when_closed("create")?;
        let wanted = shards as usize;
        match state.streams.get(stream).map(|there| there.view.shards.open().len()) {
            Some(count) if count == wanted => Ok(()),
            found if found.is_some() || wanted == 0 => {
                let message = format!("stream {stream} cannot have {shards} shards; it has {found:?}");
                Err(StreamError::new(StreamErrorKind::Conflict, "create", message))
            }
            _ => {
                let fresh = || Shard { first: first.0, ..Shard::default() };
                let all = Shards::even(shards, first, Timestamp::default());
                let view = StreamView { shards: all, retention: Self::RETENTION };
                let shards = std::iter::repeat_with(fresh).take(wanted).collect();
                state.streams.insert(stream.clone(), OneStream { view, shards });
                self.bump(&mut state);
                Ok(())
            }
        }
    }

    fn delete(&self, stream: &StreamName) -> Result<u64, StreamError> {
        let mut state = self.lock();
        state.refuse_when_closed("delete")?;
        let records = state.stream("delete", stream)?.shards.iter().map(|shard| shard.records.len() as u64).sum();
        state.streams.remove(stream);
        self.bump(&mut state);
        Ok(records)
    }

    fn list(&self) -> Result<Vec<(StreamName, u32)>, StreamError> {
        Ok(self.lock().streams.iter().map(|(name, stream)| (name.clone(), stream.shards.len() as u32)).collect())
    }

    fn describe(&self, stream: &StreamName) -> Result<StreamView, StreamError> {
        self.lock().stream("describe", stream).map(|stream| stream.view.clone())
    }

    fn reshard(&self, stream: &StreamName, steps: &[Reshard]) -> Result<(), StreamError> {
        let mut state = self.lock();
        state.refuse_when_closed("reshard")?;
        let OneStream { view, shards } = state.stream("reshard", stream)?;
        let mut all = view.shards.clone();
        for step in steps {
            let end = |id: ShardId| shards.get(id.0 as usize).map_or(Offset(0), |shard| Offset(shard.next()));
            let refused = |why| StreamError::new(StreamErrorKind::Conflict, "reshard", why);
            all.step(*step, end, Timestamp::default()).map_err(refused)?;
        }
        shards.extend(all.all()[shards.len()..].iter().map(|new| Shard { first: new.start.0, ..Shard::default() }));
        view.shards = all;
        self.bump(&mut state);
        Ok(())
    }

    fn set_retention(&self, stream: &StreamName, age: Duration) -> Result<(), StreamError> {
        let mut state = self.lock();
        state.refuse_when_closed("retention")?;
        state.stream("retention", stream)?.view.retention = age;
        Ok(())
    }
}

impl Stream for MemoryStream {
    fn append(&self, stream: &StreamName, records: Vec<NewRecord>) -> AppendFuture {
        let mut state = self.lock();
        let appended = state.append(stream, records);
        if appended.is_ok() {
            self.bump(&mut state);
        }
        ready(appended).boxed()
    }

    fn read(
        &self,
        stream: &StreamName,
        shard: ShardId,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<Vec<Record>, StreamError> {
        let mut state = self.lock();
        let shard = state.shard("read", stream, shard)?;
        let Some(skip) = from.0.checked_sub(shard.first) else {
            let message = format!("record {} is deleted; the oldest one kept is {}", from.0, shard.first);
            return Err(StreamError::new(StreamErrorKind::Trimmed, "read", message));
        };
        let (mut found, mut bytes) = (Vec::new(), 0);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        for (record, offset) in shard.records.iter().skip(skip).zip(from.0..).take(limit.records) {
            bytes += record.data.len();
            if bytes > limit.bytes && !found.is_empty() {
                break;
            }
            found.push(Record { offset: Offset(offset), record: record.clone() });
        }
        Ok(found)
    }

    fn bounds(&self, stream: &StreamName, shard: ShardId) -> Result<Bounds, StreamError> {
        let mut state = self.lock();
        let shard = state.shard("bounds", stream, shard)?;
        Ok(Bounds { first: Offset(shard.first), next: Offset(shard.next()) })
    }

    fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, |state| state.changes == seen);
        waited.unwrap_or_else(PoisonError::into_inner).0.changes
    }

    fn retain_from(&self, stream: &StreamName, shard: ShardId, offset: Offset) -> Result<(), StreamError> {
        self.lock().shard("retain", stream, shard)?.retain_from = Some(offset.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Subject, check};
    use std::sync::Arc;

    #[derive(Default)]
    struct Memory(Arc<MemoryStream>);

    impl Subject for Memory {
        fn fresh(&mut self) -> Arc<dyn Stream> {
            self.0 = Arc::default();
            self.0.clone()
        }
        fn reopen(&mut self, stream: Arc<dyn Stream>) -> Arc<dyn Stream> {
            stream
        }
        fn trim(&mut self) {
            self.0.trim();
        }
        fn close(&mut self) {
            self.0.close();
        }
        fn record_bytes_max(&self) -> usize {
            MemoryStream::RECORD_BYTES_MAX
        }
    }

    #[test]
    fn keeps_the_contract() {
        check(&mut Memory::default());
    }
}
