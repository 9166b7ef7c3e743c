//! Onto the streams: numbers a stream's records and queues them in one step, so that numbers and log have one order.

use crate::{checkpoint::CheckpointError, sequence::Sequences};
use futures::{FutureExt, future::BoxFuture};
use kilter_core::{
    NewRecord, StreamName, ThingName,
    ports::{
        stream::{AppendFuture, Stream, StreamError},
        table::Table,
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

pub struct Appender {
    pub stream: Arc<dyn Stream>,
    /// By stream. Held while a batch is numbered and queued.
    sequences: Mutex<HashMap<StreamName, Sequences>>,
}

impl Appender {
    /// Reads every stream's tail to take up the things' counts: blocking.
    pub fn open(stream: Arc<dyn Stream>, table: &dyn Table) -> Result<Self, CheckpointError> {
        let mut sequences = HashMap::new();
        for (name, shards) in stream.list()? {
            sequences.insert(name.clone(), Sequences::recover(&*stream, table, &name, shards)?);
        }
        Ok(Self { stream, sequences: Mutex::new(sequences) })
    }

    /// Numbers and queues a stream's records in one step.
    pub fn append(&self, name: StreamName, mut records: Vec<NewRecord>) -> AppendFuture {
        let mut all = self.sequences.lock().expect("no holder of the sequence lock panics");
        let sequences = all.entry(name.clone()).or_default();
        for record in &mut records {
            record.thing_sequence = sequences.next(&record.thing);
        }
        let things: Vec<ThingName> = records.iter().map(|r| r.thing.clone()).collect();
        let mut durable = self.stream.append(&name, records);
        match (&mut durable).now_or_never() {
            Some(Err(refused)) => {
                sequences.take_back(things.iter());
                futures::future::ready(Err(refused)).boxed()
            }
            Some(done) => futures::future::ready(done).boxed(),
            None => durable,
        }
    }

    /// All of the records, each onto its stream; resolves once all are durable.
    pub fn append_all(
        &self,
        records: impl IntoIterator<Item = (StreamName, NewRecord)>,
    ) -> BoxFuture<'static, Result<(), StreamError>> {
        let mut batches: BTreeMap<StreamName, Vec<NewRecord>> = BTreeMap::new();
        for (stream, record) in records {
            batches.entry(stream).or_default().push(record);
        }
        all_durable(batches.into_iter().map(|(stream, records)| self.append(stream, records)).collect())
    }

    /// Forgets a stream that was deleted.
    pub fn forget(&self, name: &StreamName) {
        self.sequences.lock().expect("no holder of the sequence lock panics").remove(name);
    }
}

fn all_durable(mut pending: Vec<AppendFuture>) -> BoxFuture<'static, Result<(), StreamError>> {
    match (pending.pop(), pending.is_empty()) {
        (None, _) => futures::future::ready(Ok(())).boxed(),
        (Some(only), true) => only.map(|done| done.map(drop)).boxed(),
        (Some(last), false) => {
            pending.push(last);
            futures::future::try_join_all(pending).map(|done| done.map(drop)).boxed()
        }
    }
}
