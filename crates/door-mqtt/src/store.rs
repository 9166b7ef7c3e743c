//! What outlives a connection, on disk: many connections' writes become one commit of the table (group commit).
//!
//! Writes are made in the order in which they were submitted; each gets the number of the commit that will hold it, its
//! *ticket*. Whoever must wait waits for the ticket.

use futures::{FutureExt, future::BoxFuture};
use kilter_core::ports::{
    stream::{StreamError, StreamErrorKind},
    table::{Table, Write},
};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};
use tokio::sync::{Notify, watch};
use tracing::error;

/// The commit that holds a write; 0 is none.
pub type Ticket = u64;

/// Bytes of values that may wait for their commit; beyond it messages for kept sessions are refused as *busy*.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Default)]
struct Pending {
    ticket: Ticket,
    writes: Vec<Write>,
    bytes: usize,
    wake: Vec<Arc<Notify>>,
    closed: bool,
}

#[derive(Default)]
struct Progress {
    durable: Ticket,
    failed: Option<StreamError>,
}

struct Inner {
    pending: Mutex<Pending>,
    work: Condvar,
    /// Held for reading while several writes must land in one commit.
    group: RwLock<()>,
    durable: AtomicU64,
    progress: watch::Sender<Progress>,
}

pub struct Store {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    pub fn start(table: Arc<dyn Table>) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            pending: Mutex::new(Pending { ticket: 1, ..Pending::default() }),
            work: Condvar::new(),
            group: RwLock::new(()),
            durable: AtomicU64::new(0),
            progress: watch::Sender::new(Progress::default()),
        });
        let of_thread = Arc::clone(&inner);
        let thread = std::thread::Builder::new().name("sessions".into()).spawn(move || of_thread.run(&*table))?;
        Ok(Self { inner, thread: Mutex::new(Some(thread)) })
    }

    /// Queues writes, in order after all that were queued before; `wake` is notified once they are durable.
    pub fn submit(&self, writes: impl IntoIterator<Item = Write>, wake: Option<&Arc<Notify>>) -> Ticket {
        let mut pending = self.inner.lock();
        for write in writes {
            pending.bytes += write.value.as_ref().map_or(0, Vec::len);
            pending.writes.push(write);
        }
        pending.wake.extend(wake.cloned());
        let ticket = pending.ticket;
        drop(pending);
        self.inner.work.notify_one();
        ticket
    }

    /// While this is held, all that is submitted lands in one commit.
    pub fn group(&self) -> RwLockReadGuard<'_, ()> {
        self.inner.group.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn has_room(&self) -> bool {
        self.inner.lock().bytes < WAITING_BYTES_MAX
    }

    /// Up to which ticket everything is durable.
    pub fn durable(&self) -> Ticket {
        self.inner.durable.load(Ordering::Acquire)
    }

    /// Why nothing becomes durable any more.
    pub fn failure(&self) -> Option<StreamError> {
        self.inner.progress.borrow().failed.clone()
    }

    /// Resolves once the ticket is durable.
    pub fn wait(&self, ticket: Ticket) -> BoxFuture<'static, Result<(), StreamError>> {
        let mut progress = self.inner.progress.subscribe();
        async move {
            match progress.wait_for(|now| now.durable >= ticket || now.failed.is_some()).await {
                Ok(now) if now.durable >= ticket => Ok(()),
                Ok(now) => Err(now.failed.clone().unwrap_or_else(closed)),
                Err(_) => Err(closed()),
            }
        }
        .boxed()
    }

    /// Commits what waits and stops. Blocking.
    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.inner.work.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            error!("MQTT: the thread that keeps sessions panicked");
        }
    }
}

fn closed() -> StreamError {
    StreamError::new(StreamErrorKind::Closed, "keep session", "the server is stopping")
}

/// What is refused while [`Store::has_room`] is `false`.
pub fn busy() -> StreamError {
    StreamError::new(StreamErrorKind::Busy, "keep session", "too much waits for the disk; try again shortly")
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, table: &dyn Table) {
        while let Some((ticket, writes, wake)) = self.cut() {
            let outcome = table.commit(coalesce(writes));
            if let Err(failure) = &outcome {
                error!(error = %failure, "MQTT: sessions cannot be kept any more; fix the disk and restart kilter");
            }
            self.progress.send_modify(|progress| match &outcome {
                Ok(()) => progress.durable = ticket,
                Err(failure) => {
                    let message = format!("{failure}; nothing that must be kept is taken in until kilter is restarted");
                    progress.failed = Some(StreamError::new(StreamErrorKind::Io, "keep session", message));
                }
            });
            if outcome.is_ok() {
                self.durable.store(ticket, Ordering::Release);
            }
            wake.iter().for_each(|waiting| waiting.notify_one());
            if outcome.is_err() {
                return;
            }
        }
    }

    /// Waits for writes and takes them all; `None` at the end.
    fn cut(&self) -> Option<(Ticket, Vec<Write>, Vec<Arc<Notify>>)> {
        let idle = |pending: &mut Pending| pending.writes.is_empty() && !pending.closed;
        drop(self.work.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner));
        let _all = self.group.write().unwrap_or_else(PoisonError::into_inner);
        let mut pending = self.lock();
        if pending.writes.is_empty() {
            return None;
        }
        let ticket = pending.ticket;
        pending.ticket += 1;
        pending.bytes = 0;
        Some((ticket, std::mem::take(&mut pending.writes), std::mem::take(&mut pending.wake)))
    }
}

/// The last write of each key is what counts: a message that came and went costs one deletion.
fn coalesce(writes: Vec<Write>) -> Vec<Write> {
    let mut last: HashMap<(Arc<str>, String, String), usize> = HashMap::with_capacity(writes.len());
    let mut kept: Vec<Write> = Vec::with_capacity(writes.len());
    for write in writes {
        let key = (Arc::clone(&write.table), write.pk.clone(), write.sk.clone());
        match last.get(&key) {
            Some(index) => kept[*index] = write,
            None => {
                last.insert(key, kept.len());
                kept.push(write);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_testkit::MemoryTable;

    #[tokio::test]
    async fn writes_become_durable_in_order_and_the_last_of_a_key_counts() {
        let table = Arc::new(MemoryTable::new());
        let store = Store::start(table.clone()).unwrap();
        let name: Arc<str> = "t".into();
        let group = store.group();
        let first = store.submit([Write::put(&name, "a", "1", b"old".to_vec())], None);
        let woken = Arc::new(Notify::new());
        let second =
            store.submit([Write::put(&name, "a", "1", b"new".to_vec()), Write::delete(&name, "a", "2")], Some(&woken));
        assert_eq!(first, second, "one group, one commit");
        drop(group);
        store.wait(second).await.unwrap();
        woken.notified().await;
        assert!(store.durable() >= second);
        assert_eq!(table.get("t", "a", "1").unwrap().unwrap(), b"new");
        let last = store.submit([Write::delete(&name, "a", "1")], None);
        store.close();
        assert!(store.durable() >= last, "closing commits what waits");
        assert_eq!(table.get("t", "a", "1").unwrap(), None);
    }

    #[tokio::test]
    async fn a_failed_disk_is_said_to_everybody() {
        let store = Store::start(Arc::new(MemoryTable::new())).unwrap();
        let too_long = "x".repeat(MemoryTable::KEY_BYTES_MAX + 1);
        let ticket = store.submit([Write::put(&"t".into(), too_long, "1", Vec::new())], None);
        assert_eq!(store.wait(ticket).await.unwrap_err().kind, StreamErrorKind::Io);
        assert!(store.failure().is_some());
        let later = store.submit([Write::delete(&"t".into(), "a", "1")], None);
        assert!(store.wait(later).await.is_err());
    }
}
