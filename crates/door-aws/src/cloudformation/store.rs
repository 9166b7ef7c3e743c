//! What is kept of stacks: themselves, their names, and what happened to them.

use super::{Result, kinds::Kind};
use crate::AwsError;
use kilter_core::{
    Timestamp,
    ports::table::{SkRange, Table, TableError, Write},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

const TABLE: &str = "cloudformation";
const STACKS: &str = "stack";
const NAMES: &str = "name";
/// Stacks that are there. Each holds its template, and all of them are read for a listing.
pub const STACKS_MAX: usize = 200;
/// Of those that are gone, which may still be asked for by their ids.
const DELETED_MAX: usize = 100;
/// Of one stack; the oldest go.
const EVENTS_MAX: u64 = 2_000;

pub type Texts = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    CreateInProgress,
    CreateComplete,
    CreateFailed,
    RollbackInProgress,
    RollbackComplete,
    RollbackFailed,
    UpdateInProgress,
    UpdateCompleteCleanupInProgress,
    UpdateComplete,
    UpdateFailed,
    UpdateRollbackInProgress,
    UpdateRollbackComplete,
    UpdateRollbackFailed,
    DeleteInProgress,
    DeleteComplete,
    DeleteFailed,
    /// Of resources that their stack leaves behind.
    DeleteSkipped,
}

impl Status {
    pub fn word(self) -> &'static str {
        match self {
            Self::CreateInProgress => "CREATE_IN_PROGRESS",
            Self::CreateComplete => "CREATE_COMPLETE",
            Self::CreateFailed => "CREATE_FAILED",
            Self::RollbackInProgress => "ROLLBACK_IN_PROGRESS",
            Self::RollbackComplete => "ROLLBACK_COMPLETE",
            Self::RollbackFailed => "ROLLBACK_FAILED",
            Self::UpdateInProgress => "UPDATE_IN_PROGRESS",
            Self::UpdateCompleteCleanupInProgress => "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
            Self::UpdateComplete => "UPDATE_COMPLETE",
            Self::UpdateFailed => "UPDATE_FAILED",
            Self::UpdateRollbackInProgress => "UPDATE_ROLLBACK_IN_PROGRESS",
            Self::UpdateRollbackComplete => "UPDATE_ROLLBACK_COMPLETE",
            Self::UpdateRollbackFailed => "UPDATE_ROLLBACK_FAILED",
            Self::DeleteInProgress => "DELETE_IN_PROGRESS",
            Self::DeleteComplete => "DELETE_COMPLETE",
            Self::DeleteFailed => "DELETE_FAILED",
            Self::DeleteSkipped => "DELETE_SKIPPED",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stack {
    /// The last part of its ARN.
    pub uuid: String,
    pub name: String,
    pub created: Timestamp,
    pub updated: Option<Timestamp>,
    pub deleted: Option<Timestamp>,
    pub status: Status,
    pub reason: Option<String>,
    pub disable_rollback: bool,
    pub capabilities: Vec<String>,
    /// Of the request that made or changed it last: sent again, it is answered and not done again.
    pub token: Option<String>,
    pub desired: Desired,
    /// In the order in which they were made.
    pub resources: Vec<Resource>,
    /// What an update that does not succeed goes back to.
    pub previous: Option<Box<(Desired, Vec<Resource>)>>,
    /// What an update has yet to delete.
    pub leaving: Vec<Resource>,
    /// Given out so far.
    pub events: u64,
}

/// What was asked for, and what follows from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    pub template: String,
    pub parameters: Texts,
    pub tags: Texts,
    pub outputs: Vec<Output>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    pub key: String,
    pub value: String,
    pub description: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    pub logical: String,
    pub kind: Kind,
    /// `None` where it was not made.
    pub physical: Option<String>,
    pub status: Status,
    pub reason: Option<String>,
    pub updated: Timestamp,
    /// As they were evaluated.
    pub properties: Value,
    /// What Fn::GetAtt answers.
    pub attributes: Texts,
    /// Left behind when its stack goes.
    pub retain: bool,
}

impl Resource {
    /// Whether both are the same thing, whatever its properties.
    pub fn is(&self, other: &Self) -> bool {
        self.logical == other.logical && self.kind == other.kind && self.physical == other.physical
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    pub number: u64,
    pub at: Timestamp,
    pub logical: String,
    pub physical: String,
    pub resource_type: String,
    pub status: Status,
    pub reason: Option<String>,
    pub token: Option<String>,
}

#[derive(Clone)]
pub struct Store(pub Arc<dyn Table>);

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("stacks have string keys, so they are JSON")
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(AwsError::internal)
}

fn events_of(uuid: &str) -> String {
    format!("events/{uuid}")
}

fn key(number: u64) -> String {
    format!("{number:010}")
}

impl Store {
    pub fn by_uuid(&self, uuid: &str) -> Result<Option<Stack>> {
        let kept = self.0.get(TABLE, STACKS, uuid).map_err(AwsError::internal)?;
        kept.map(|bytes| read(&bytes)).transpose()
    }

    /// The stack of this name, unless it was deleted.
    pub fn by_name(&self, name: &str) -> Result<Option<Stack>> {
        let uuid = self.0.get(TABLE, NAMES, name).map_err(AwsError::internal)?;
        uuid.map_or(Ok(None), |uuid| self.by_uuid(&String::from_utf8_lossy(&uuid)))
    }

    /// All, also those that were deleted, in order of their ids.
    pub fn all(&self) -> Result<Vec<Stack>> {
        let items = self.0.range(TABLE, STACKS, SkRange::ALL, usize::MAX).map_err(AwsError::internal)?;
        items.iter().map(|item| read(&item.value)).collect()
    }

    /// The stack as it is now, with what happened.
    pub fn save(&self, stack: &mut Stack, events: Vec<Event>) -> Result<()> {
        let table: Arc<str> = TABLE.into();
        let name = match stack.status {
            Status::DeleteComplete => Write::delete(&table, NAMES, stack.name.as_str()),
            _ => Write::put(&table, NAMES, stack.name.as_str(), stack.uuid.clone().into_bytes()),
        };
        let partition = events_of(&stack.uuid);
        let mut writes = vec![name];
        for mut event in events {
            event.number = stack.events;
            stack.events += 1;
            if let Some(oldest) = event.number.checked_sub(EVENTS_MAX) {
                writes.push(Write::delete(&table, partition.as_str(), key(oldest)));
            }
            writes.push(Write::put(&table, partition.as_str(), key(event.number), json(&event)));
        }
        writes.push(Write::put(&table, STACKS, stack.uuid.as_str(), json(stack)));
        self.0.commit(writes).map_err(AwsError::internal)
    }

    /// The newest first; those before this number.
    pub fn events(&self, uuid: &str, before: Option<u64>, most: usize) -> Result<Vec<Event>> {
        let to = before.map(key);
        let range = SkRange { from: "", to: to.as_deref(), descending: true };
        let items = self.0.range(TABLE, &events_of(uuid), range, most).map_err(AwsError::internal)?;
        items.iter().map(|item| read(&item.value)).collect()
    }

    /// Forgets the oldest of those that are gone.
    pub fn forget(&self) -> Result<()> {
        let mut gone: Vec<Stack> =
            self.all()?.into_iter().filter(|stack| stack.status == Status::DeleteComplete).collect();
        gone.sort_by_key(|stack| std::cmp::Reverse(stack.deleted));
        gone.into_iter().skip(DELETED_MAX).try_for_each(|stack| self.drop(&stack.uuid)).map_err(AwsError::internal)
    }

    fn drop(&self, uuid: &str) -> std::result::Result<(), TableError> {
        let (table, partition): (Arc<str>, _) = (TABLE.into(), events_of(uuid));
        let events = self.0.range(TABLE, &partition, SkRange::ALL, usize::MAX)?;
        let mut writes: Vec<Write> =
            events.into_iter().map(|event| Write::delete(&table, partition.as_str(), event.sk)).collect();
        writes.push(Write::delete(&table, STACKS, uuid));
        self.0.commit(writes)
    }
}
