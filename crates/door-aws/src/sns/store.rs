//! Topics, their subscriptions, and messages that wait for subscribers: in memory and in a table.

use kilter_core::{
    Timestamp,
    ports::table::{SkRange, Table, TableError, Write},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

const TABLE: &str = "sns";
const TOPICS: &str = "topics";
const WAITING: &str = "waiting";
/// Tenants whose alert topic was made: it is made once, and not again after somebody deleted it.
const SEEN: &str = "tenants";
pub const TOPICS_MAX: usize = 10_000;
/// Of one topic: they are kept in one item.
pub const SUBSCRIPTIONS_MAX: usize = 500;
/// Messages that wait for some subscriber; with more, nobody publishes.
pub const WAITING_MAX: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Topic {
    pub name: String,
    pub display_name: String,
    pub tags: BTreeMap<String, String>,
    pub subscriptions: Vec<Subscription>,
    /// Of subscriptions that are gone.
    pub deleted: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// The last part of its ARN.
    pub id: String,
    pub protocol: String,
    pub endpoint: String,
    pub confirmed: bool,
    /// What a confirmation must say, and until when.
    pub token: String,
    pub token_until: Timestamp,
    pub raw: bool,
    /// As given; parsed each time it is used, which is once per message.
    pub filter: Option<String>,
    pub filter_on_body: bool,
}

impl Subscription {
    pub fn is_pending(&self, now: Timestamp) -> bool {
        !self.confirmed && now < self.token_until
    }
}

/// A message for one subscriber, until it has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    pub key: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub since: Timestamp,
    pub attempts: u32,
    pub next: Timestamp,
}

pub struct Store {
    table: Arc<dyn Table>,
    name: Arc<str>,
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub topics: BTreeMap<String, Topic>,
    pub waiting: BTreeMap<String, Waiting>,
    pub seen: BTreeMap<String, ()>,
    next: u64,
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("topics have string keys, so they are JSON")
}

fn damaged(error: serde_json::Error) -> TableError {
    let kind = kilter_core::ports::table::TableErrorKind::Damaged;
    TableError::new(kind, "read", format!("an item of the table {TABLE} cannot be read: {error}"))
}

/// What changes together.
pub enum Change<'a> {
    Topic(&'a str),
    Wait(Waiting),
    Done(&'a str),
    Seen(&'a str),
    Unseen(&'a str),
}

impl Store {
    pub fn open(table: Arc<dyn Table>, now: Timestamp) -> Result<Self, TableError> {
        let mut state = State { next: now.as_nanos().max(0) as u64, ..State::default() };
        for item in table.range(TABLE, TOPICS, SkRange::ALL, TOPICS_MAX)? {
            state.topics.insert(item.sk, serde_json::from_slice(&item.value).map_err(damaged)?);
        }
        for item in table.range(TABLE, WAITING, SkRange::ALL, usize::MAX)? {
            state.waiting.insert(item.sk, serde_json::from_slice(&item.value).map_err(damaged)?);
        }
        for item in table.range(TABLE, SEEN, SkRange::ALL, usize::MAX)? {
            state.seen.insert(item.sk, ());
        }
        Ok(Self { table, name: TABLE.into(), state: Mutex::new(state) })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the topics' lock panics")
    }

    /// Makes changes durable. The state has the topics as they shall be; messages and marks are put there now.
    pub fn commit(&self, state: &mut State, changes: Vec<Change<'_>>) -> Result<(), TableError> {
        let writes = changes.iter().map(|change| match change {
            Change::Topic(name) => match state.topics.get(*name) {
                Some(topic) => Write::put(&self.name, TOPICS, *name, json(topic)),
                None => Write::delete(&self.name, TOPICS, *name),
            },
            Change::Wait(waiting) => Write::put(&self.name, WAITING, waiting.key.as_str(), json(waiting)),
            Change::Done(key) => Write::delete(&self.name, WAITING, *key),
            Change::Seen(tenant) => Write::put(&self.name, SEEN, *tenant, b"{}".to_vec()),
            Change::Unseen(tenant) => Write::delete(&self.name, SEEN, *tenant),
        });
        self.table.commit(writes.collect())?;
        for change in changes {
            match change {
                Change::Topic(_) => {}
                Change::Wait(waiting) => drop(state.waiting.insert(waiting.key.clone(), waiting)),
                Change::Done(key) => drop(state.waiting.remove(key)),
                Change::Seen(tenant) => drop(state.seen.insert(tenant.to_owned(), ())),
                Change::Unseen(tenant) => drop(state.seen.remove(tenant)),
            }
        }
        Ok(())
    }
}

impl State {
    /// Keys are in the order in which messages came.
    pub fn next_key(&mut self) -> String {
        self.next += 1;
        format!("{:020}", self.next)
    }
}
