//! What the scorer has committed: how far it has read each shard, each thing's counts and each thing's state.
//! All of it lives in the stream's own table, one partition per shard.

use kilter_core::{
    Offset, ShardId, StreamName, ThingName,
    ports::{
        stream::StreamError,
        table::{SkRange, Table, TableError, Write},
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, sync::Arc};

const CHECKPOINT: &str = "checkpoint";
/// Things of one shard read at a time.
const PAGE_ITEMS: usize = 1_000;

/// How far a shard is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Results of every record before it are committed; of none after it.
    pub next: Offset,
    /// From here on records must be learned again to bring every thing's state up to `next`.
    pub relearn_from: Offset,
}

/// A thing's counts of messages, up to the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// The number that the last record carried.
    pub received: u64,
    pub rejected: u64,
    pub scored: u64,
    pub late: u64,
}

/// A thing's state as of a record; older than the checkpoint by what happened since.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    /// The state has seen every record of the thing before this offset.
    pub as_of: Offset,
    pub state: Vec<u8>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(
        "the scorer's {what} of {partition} cannot be read ({why}): stop the server, remove results.redb and start it again to score the stream anew"
    )]
    Damaged { what: String, partition: String, why: String },
}

fn state_key(thing: &ThingName) -> String {
    format!("state/{thing}")
}

fn counts_key(thing: &ThingName) -> String {
    format!("counts/{thing}")
}

fn mark_key(thing: &ThingName, number: u64) -> String {
    format!("mark/{thing}/{number}")
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain data with known lengths always serialises")
}

/// Where one shard's progress is kept.
#[derive(Debug, Clone)]
pub struct Progress {
    table: Arc<str>,
    pk: String,
}

/// The table that [`Progress`] of a stream's shards is kept in; goes when the stream goes.
pub fn table_of(stream: &StreamName) -> String {
    format!("scoring-{stream}")
}

/// The partition key of a shard.
pub fn partition(shard: ShardId) -> String {
    format!("{:04}", shard.0)
}

impl Progress {
    pub fn of(stream: &StreamName, shard: ShardId) -> Self {
        Self { table: table_of(stream).into(), pk: partition(shard) }
    }

    /// The partition key of the shard.
    pub fn partition(&self) -> &str {
        &self.pk
    }

    fn get<T: DeserializeOwned>(&self, table: &dyn Table, sk: &str) -> Result<Option<T>, CheckpointError> {
        table.get(&self.table, &self.pk, sk)?.map(|bytes| self.decode(&bytes, sk)).transpose()
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8], sk: &str) -> Result<T, CheckpointError> {
        postcard::from_bytes(bytes).map_err(|e| self.damaged(sk, e.to_string()))
    }

    fn damaged(&self, sk: &str, why: String) -> CheckpointError {
        CheckpointError::Damaged { what: sk.to_owned(), partition: format!("{} {}", self.table, self.pk), why }
    }

    pub fn checkpoint(&self, table: &dyn Table) -> Result<Checkpoint, CheckpointError> {
        Ok(self.get(table, CHECKPOINT)?.unwrap_or_default())
    }

    pub fn counts(&self, table: &dyn Table, thing: &ThingName) -> Result<Option<Counts>, CheckpointError> {
        self.get(table, &counts_key(thing))
    }

    pub fn snapshot(&self, table: &dyn Table, thing: &ThingName) -> Result<Option<Snapshot>, CheckpointError> {
        self.get(table, &state_key(thing))
    }

    /// A state from which readings that come late are judged again, as the thing's snapshot numbers it.
    pub fn mark(&self, table: &dyn Table, thing: &ThingName, number: u64) -> Result<Option<Vec<u8>>, TableError> {
        table.get(&self.table, &self.pk, &mark_key(thing, number))
    }

    /// The counts of every thing that the shard ever held a record of.
    pub fn all_counts(&self, table: &dyn Table) -> Result<BTreeMap<ThingName, Counts>, CheckpointError> {
        let mut all = BTreeMap::new();
        let mut from = "counts/".to_owned();
        loop {
            // '0' follows '/': the end of the prefix.
            let range = SkRange { from: &from, to: Some("counts0"), descending: false };
            let items = table.range(&self.table, &self.pk, range, PAGE_ITEMS)?;
            for item in &items {
                let name = item.sk.trim_start_matches("counts/");
                let thing = ThingName::new(name).map_err(|e| self.damaged(&item.sk, e.to_string()))?;
                all.insert(thing, self.decode(&item.value, &item.sk)?);
            }
            match items.last() {
                Some(last) if items.len() == PAGE_ITEMS => from = format!("{}\0", last.sk),
                _ => return Ok(all),
            }
        }
    }

    pub fn write_checkpoint(&self, checkpoint: &Checkpoint) -> Write {
        Write::put(&self.table, &self.pk, CHECKPOINT, encode(checkpoint))
    }

    pub fn write_counts(&self, thing: &ThingName, counts: &Counts) -> Write {
        Write::put(&self.table, &self.pk, counts_key(thing), encode(counts))
    }

    pub fn write_mark(&self, thing: &ThingName, number: u64, bytes: Vec<u8>) -> Write {
        Write::put(&self.table, &self.pk, mark_key(thing, number), bytes)
    }

    pub fn delete_mark(&self, thing: &ThingName, number: u64) -> Write {
        Write::delete(&self.table, &self.pk, mark_key(thing, number))
    }

    pub fn write_snapshot(&self, thing: &ThingName, snapshot: &Snapshot) -> Write {
        Write::put(&self.table, &self.pk, state_key(thing), encode(snapshot))
    }
}
