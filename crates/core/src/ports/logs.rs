//! Log events that operators read: of rules and of the scoring function (CloudWatch Logs' shape).

use crate::Timestamp;
use serde::{Deserialize, Serialize};

/// Makes and removes log groups and their streams. Blocking, durable on return.
pub trait LogAdmin: Send + Sync {
    /// A group that is there: [`LogErrorKind::Exists`].
    fn create_group(&self, group: &str) -> Result<(), LogError>;
    /// With all its streams and events.
    fn delete_group(&self, group: &str) -> Result<(), LogError>;
    fn create_stream(&self, group: &str, stream: &str) -> Result<(), LogError>;
    fn delete_stream(&self, group: &str, stream: &str) -> Result<(), LogError>;
    /// `None`: as long as the store's own bound allows.
    fn set_retention(&self, group: &str, days: Option<u32>) -> Result<(), LogError>;
}

/// Events, kept by group and stream in order of time, within the store's named bounds: the oldest go first.
/// Blocking, durable on return.
pub trait Logs: LogAdmin {
    /// Appends events. Group and stream must be there, unless `make`: then they are made.
    fn put(&self, group: &str, stream: &str, events: Vec<LogEvent>, make: bool) -> Result<(), LogError>;
    /// Sorted by name.
    fn groups(&self) -> Result<Vec<LogGroup>, LogError>;
    /// Of one group, sorted by name.
    fn streams(&self, group: &str) -> Result<Vec<LogStream>, LogError>;
    /// Events of one group strictly after `after` (or before it, where descending), at most `limit`, in order of
    /// their keys: by time, then as they came.
    fn events(&self, group: &str, query: &LogQuery<'_>) -> Result<Vec<StoredEvent>, LogError>;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEvent {
    pub time: Timestamp,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Names the event within its group, in order of time.
    pub key: String,
    pub stream: String,
    pub ingested: Timestamp,
    pub event: LogEvent,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct LogQuery<'a> {
    /// `None`: every stream of the group.
    pub stream: Option<&'a str>,
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
    pub after: Option<&'a str>,
    pub descending: bool,
    pub limit: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogGroup {
    pub name: String,
    pub created: Timestamp,
    pub retention_days: Option<u32>,
    /// Of the messages kept.
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStream {
    pub name: String,
    pub created: Timestamp,
    pub first_event: Option<Timestamp>,
    pub last_event: Option<Timestamp>,
    pub last_ingestion: Option<Timestamp>,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogErrorKind {
    NotFound,
    Exists,
    Invalid,
    /// The store's bound on groups or streams is reached.
    Limit,
    /// The table below failed.
    Internal,
}

/// What happened, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LogError {
    pub kind: LogErrorKind,
    pub message: String,
}

impl LogError {
    pub fn new(kind: LogErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
