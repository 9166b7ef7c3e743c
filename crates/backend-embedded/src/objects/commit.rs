//! Changes of the index: each is a closure over what the index says, many callers' closures become one durable
//! commit. While the disk works, the next round gathers.

use super::damaged;
use kilter_core::ports::{
    objects::{ObjectError, ObjectErrorKind},
    table::{SkRange, Table, TableError, TableErrorKind, Write},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};

/// Changes of one commit: a bound for the memory that a round takes.
const ROUND_MAX: usize = 256;

type Outcome = Result<(), TableError>;
/// Applies a change and answers how its caller is told what came of the commit.
type Change = Box<dyn FnOnce(&mut Draft) -> Box<dyn FnOnce(&Outcome) + Send> + Send>;

pub(super) struct Committer {
    table: Arc<dyn Table>,
    waiting: Mutex<Vec<Change>>,
    /// Held by who commits for all that wait.
    turn: Mutex<()>,
}

impl Committer {
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table, waiting: Mutex::default(), turn: Mutex::default() }
    }

    /// Runs `change` after all that were called before; durable on return. A change that answers an error must not
    /// have written anything.
    pub fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Draft) -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<(T, Vec<String>), ObjectError> {
        let (tell, told) = mpsc::channel();
        lock(&self.waiting).push(Box::new(move |draft| {
            let before = draft.freed.len();
            let done = change(draft);
            let freed = draft.freed.split_off(before);
            Box::new(move |outcome: &Outcome| {
                let answer = match outcome {
                    Ok(()) => done.map(|done| (done, freed)),
                    Err(error) => done.and(Err(from_table(error))),
                };
                // The caller waits for it; if it panicked, nobody does.
                let _ = tell.send(answer);
            })
        }));
        loop {
            let _turn = lock(&self.turn);
            if let Ok(answer) = told.try_recv() {
                return answer;
            }
            self.round();
        }
    }

    fn round(&self) {
        let changes: Vec<Change> = {
            let mut waiting = lock(&self.waiting);
            let count = waiting.len().min(ROUND_MAX);
            waiting.drain(..count).collect()
        };
        let mut draft = Draft { table: self.table.clone(), writes: BTreeMap::new(), freed: Vec::new() };
        let tellers: Vec<_> = changes.into_iter().map(|change| change(&mut draft)).collect();
        let writes = draft.writes.into_iter().map(|((table, pk, sk), value)| match value {
            Some(value) => Write::put(&table, pk, sk, value),
            None => Write::delete(&table, pk, sk),
        });
        let outcome = self.table.commit(writes.collect());
        for tell in tellers {
            tell(&outcome);
        }
    }
}

type Key = (Arc<str>, String, String);

/// The index as the next commit will leave it.
pub(super) struct Draft {
    table: Arc<dyn Table>,
    writes: BTreeMap<Key, Option<Vec<u8>>>,
    /// Files that nothing refers to once this is committed.
    pub freed: Vec<String>,
}

impl Draft {
    pub fn get<T: DeserializeOwned>(&self, table: &str, pk: &str, sk: &str) -> Result<Option<T>, ObjectError> {
        let key = (Arc::from(table), pk.to_owned(), sk.to_owned());
        match self.writes.get(&key) {
            Some(value) => value.as_deref().map(parse).transpose(),
            None => {
                self.table.get(table, pk, sk).map_err(|error| from_table(&error))?.as_deref().map(parse).transpose()
            }
        }
    }

    pub fn put<T: Serialize>(&mut self, table: &str, pk: &str, sk: &str, value: &T) -> Result<(), ObjectError> {
        let json = serde_json::to_vec(value)
            .map_err(|error| ObjectError::new(ObjectErrorKind::Invalid, "write", "not writable").with_source(error))?;
        self.writes.insert((table.into(), pk.to_owned(), sk.to_owned()), Some(json));
        Ok(())
    }

    pub fn delete(&mut self, table: &str, pk: &str, sk: &str) {
        self.writes.insert((table.into(), pk.to_owned(), sk.to_owned()), None);
    }

    /// A partition's items, all of them, in order.
    pub fn partition<T: DeserializeOwned>(&self, table: &str, pk: &str) -> Result<Vec<T>, ObjectError> {
        let stored = self.table.range(table, pk, SkRange::ALL, usize::MAX).map_err(|error| from_table(&error))?;
        let mut items: BTreeMap<String, Vec<u8>> = stored.into_iter().map(|item| (item.sk, item.value)).collect();
        let table: Arc<str> = table.into();
        let drafted = self.writes.range((table.clone(), pk.to_owned(), String::new())..);
        for ((_, _, sk), value) in drafted.take_while(|((of, at, _), _)| *of == table && at == pk) {
            match value {
                Some(value) => items.insert(sk.clone(), value.clone()),
                None => items.remove(sk),
            };
        }
        items.values().map(|value| parse(value)).collect()
    }

    /// Whether a table has no item at all.
    pub fn is_empty(&self, table: &str) -> Result<bool, ObjectError> {
        let of = Arc::<str>::from(table);
        let from = (of.clone(), String::new(), String::new());
        let drafted = || self.writes.range(from.clone()..).take_while(|((name, ..), _)| *name == of);
        if drafted().any(|(_, value)| value.is_some()) {
            return Ok(false);
        }
        let deleted = drafted().count();
        let stored = self.table.scan(table, None, deleted + 1).map_err(|error| from_table(&error))?;
        Ok(stored.iter().all(|item| self.writes.contains_key(&(of.clone(), item.pk.clone(), item.sk.clone()))))
    }
}

pub(super) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, ObjectError> {
    serde_json::from_slice(json)
        .map_err(|error| damaged("an entry of the index is not what was written").with_source(error))
}

pub(super) fn from_table(error: &TableError) -> ObjectError {
    let kind = match error.kind {
        TableErrorKind::Damaged => ObjectErrorKind::Damaged,
        TableErrorKind::TooLarge | TableErrorKind::ConditionFailed => ObjectErrorKind::Invalid,
        TableErrorKind::Io => ObjectErrorKind::Io,
    };
    ObjectError::new(kind, "index", error.message.clone()).with_source(error.clone())
}

/// What is behind a lock here is whole at any time.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
