//! Every change of the service goes through one writer: what many requests ask for at once is decided one after the
//! other and made durable by one commit. A condition is therefore decided on what is there when the write happens.

use super::fault::internal;
use crate::AwsError;
use kilter_core::ports::table::{Table, TableError, Write};
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};

/// Requests of one commit; more would keep the first of them waiting without saving much.
const JOBS_MAX: usize = 128;
/// Bytes of one commit, beyond which no further request joins it.
const COMMIT_BYTES_MAX: usize = 16 << 20;

/// Tells the one who asked how the commit went.
type Finish = Box<dyn FnOnce(Result<(), &TableError>) + Send>;
/// `None`: it was refused, and has been told so.
type Job = Box<dyn FnOnce(&mut Batch<'_>) -> Option<Finish> + Send>;

pub struct Writer {
    table: Arc<dyn Table>,
    queue: Mutex<VecDeque<Job>>,
    /// Held by who commits.
    lead: Mutex<()>,
}

impl Writer {
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table, queue: Mutex::default(), lead: Mutex::default() }
    }

    /// Runs `work`, and answers when what it has written is durable; nothing of it stays when it fails. Blocking.
    pub fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, AwsError> + Send + 'static,
    ) -> Result<T, AwsError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |batch| match batch.attempt(work) {
            Ok(answer) => Some(Box::new(move |committed: Result<(), &TableError>| {
                let _ = sender.send(committed.map(|()| answer).map_err(|error| error.clone().into()));
            })),
            Err(error) => {
                let _ = sender.send(Err(error));
                None
            }
        });
        lock(&self.queue).push_back(job);
        loop {
            let leading = lock(&self.lead);
            match receiver.try_recv() {
                Ok(answer) => return answer,
                Err(mpsc::TryRecvError::Empty) => self.commit(),
                Err(mpsc::TryRecvError::Disconnected) => return Err(internal("the writer has failed")),
            }
            drop(leading);
        }
    }

    fn commit(&self) {
        let mut batch = Batch { table: &*self.table, pending: HashMap::new(), undo: Vec::new(), bytes: 0 };
        let mut waiting = Vec::new();
        for _ in 0..JOBS_MAX {
            let Some(job) = lock(&self.queue).pop_front() else { break };
            waiting.extend(job(&mut batch));
            if batch.bytes > COMMIT_BYTES_MAX {
                break;
            }
        }
        let committed = self.table.commit(batch.into_writes());
        for finish in waiting {
            finish(committed.as_ref().copied());
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

type Key = (Arc<str>, String, String);

/// What is going to be committed, on top of what is there.
pub struct Batch<'a> {
    table: &'a dyn Table,
    pending: HashMap<Key, Option<Vec<u8>>>,
    /// How the pending writes were before the attempt that is running.
    undo: Vec<(Key, Option<Option<Vec<u8>>>)>,
    bytes: usize,
}

impl Batch<'_> {
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, AwsError>) -> Result<T, AwsError> {
        self.undo.clear();
        let answer = work(self);
        if answer.is_err() {
            for (key, before) in self.undo.drain(..).rev() {
                match before {
                    Some(value) => drop(self.pending.insert(key, value)),
                    None => drop(self.pending.remove(&key)),
                }
            }
        }
        answer
    }

    pub fn get(&self, table: &Arc<str>, pk: &str, sk: &str) -> Result<Option<Vec<u8>>, AwsError> {
        if !self.pending.is_empty()
            && let Some(value) = self.pending.get(&(table.clone(), pk.to_owned(), sk.to_owned()))
        {
            return Ok(value.clone());
        }
        Ok(self.table.get(table, pk, sk)?)
    }

    pub fn put(&mut self, table: &Arc<str>, pk: &str, sk: &str, value: Vec<u8>) {
        self.set(table, pk, sk, Some(value));
    }

    pub fn delete(&mut self, table: &Arc<str>, pk: &str, sk: &str) {
        self.set(table, pk, sk, None);
    }

    fn set(&mut self, table: &Arc<str>, pk: &str, sk: &str, value: Option<Vec<u8>>) {
        self.bytes += value.as_ref().map_or(0, Vec::len);
        let key = (table.clone(), pk.to_owned(), sk.to_owned());
        let before = match self.pending.entry(key.clone()) {
            Entry::Occupied(mut there) => Some(there.insert(value)),
            Entry::Vacant(free) => {
                free.insert(value);
                None
            }
        };
        self.undo.push((key, before));
    }

    fn into_writes(self) -> Vec<Write> {
        let write = |((table, pk, sk), value)| match value {
            Some(value) => Write::put(&table, pk, sk, value),
            None => Write::delete(&table, pk, sk),
        };
        self.pending.into_iter().map(write).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_testkit::MemoryTable;
    use std::thread;

    #[test]
    fn counts_up_without_losing_one() {
        let table: Arc<dyn Table> = Arc::new(MemoryTable::new());
        let writer = Writer::new(table.clone());
        let name: Arc<str> = "t".into();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let name = name.clone();
                        let count = writer.write(move |batch| {
                            let before = batch.get(&name, "p", "s")?.map_or(0, |bytes| bytes[0].into());
                            batch.put(&name, "p", "s", vec![(before + 1u32) as u8]);
                            Ok(before)
                        });
                        count.unwrap();
                    }
                });
            }
        });
        assert_eq!(table.get("t", "p", "s").unwrap(), Some(vec![(8 * 50u32) as u8]));
    }

    #[test]
    fn nothing_of_a_refused_request_stays() {
        let table: Arc<dyn Table> = Arc::new(MemoryTable::new());
        let writer = Writer::new(table.clone());
        let name: Arc<str> = "t".into();
        let put = |value: u8, fails: bool| {
            let name = name.clone();
            writer.write(move |batch| {
                batch.put(&name, "p", "s", vec![value]);
                batch.put(&name, "p", &value.to_string(), vec![value]);
                if fails { Err(internal("no")) } else { Ok(()) }
            })
        };
        put(1, false).unwrap();
        put(2, true).unwrap_err();
        assert_eq!(table.get("t", "p", "s").unwrap(), Some(vec![1]));
        assert_eq!(table.get("t", "p", "2").unwrap(), None);
    }
}
