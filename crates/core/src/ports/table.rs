//! Items under two string keys, in named tables (DynamoDB's shape).

use std::sync::Arc;

/// Blocking: never call it from an async thread. A table exists from its first item on.
///
/// - **Durable**: what `commit` wrote survives a power cut when it returns `Ok`.
/// - **Atomic**: all writes of a `commit` or none, across tables and partitions.
/// - **Ordered**: commits are serial; a read sees every commit that returned before it began.
/// - **Never assume** anything about an `Err` of kind `Io`: the commit may or may not be there.
pub trait Table: Send + Sync {
    fn get(&self, table: &str, pk: &str, sk: &str) -> Result<Option<Vec<u8>>, TableError>;

    /// Writes in their order; a later write to the same key wins. A condition that fails: nothing is
    /// written, [`TableErrorKind::ConditionFailed`].
    fn commit(&self, writes: Vec<Write>) -> Result<(), TableError>;

    /// Items of one partition with `from <= sk < to`, at most `limit`, in order of `sk` (bytewise).
    fn range(&self, table: &str, pk: &str, range: SkRange<'_>, limit: usize) -> Result<Vec<Item>, TableError>;

    /// Items of a table in order of `(pk, sk)` strictly after `after`, at most `limit`.
    fn scan(&self, table: &str, after: Option<(&str, &str)>, limit: usize) -> Result<Vec<Item>, TableError>;

    /// Deletes a table's items, durable on return; says how many. 0 where there is no such table.
    fn drop_table(&self, table: &str) -> Result<u64, TableError>;
}

#[derive(Debug, Clone, Copy)]
pub struct SkRange<'a> {
    pub from: &'a str,
    /// `None`: to the partition's end.
    pub to: Option<&'a str>,
    /// Highest `sk` first.
    pub descending: bool,
}

impl SkRange<'_> {
    pub const ALL: SkRange<'static> = SkRange { from: "", to: None, descending: false };
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub pk: String,
    pub sk: String,
    pub value: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Write {
    pub table: Arc<str>,
    pub pk: String,
    pub sk: String,
    /// `None` deletes.
    pub value: Option<Vec<u8>>,
    pub condition: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    #[default]
    Always,
    /// Only if no item is there, as of before this commit.
    Absent,
    /// Only if an item is there, as of before this commit.
    Present,
}

impl Write {
    pub fn put(table: &Arc<str>, pk: impl Into<String>, sk: impl Into<String>, value: Vec<u8>) -> Self {
        Self { table: table.clone(), pk: pk.into(), sk: sk.into(), value: Some(value), condition: Condition::Always }
    }
    pub fn delete(table: &Arc<str>, pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self { table: table.clone(), pk: pk.into(), sk: sk.into(), value: None, condition: Condition::Always }
    }
    pub fn only_if(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableErrorKind {
    ConditionFailed,
    /// A key or value beyond the backend's named bound.
    TooLarge,
    Io,
    Damaged,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("table {operation} failed: {message}")]
pub struct TableError {
    pub kind: TableErrorKind,
    pub operation: &'static str,
    pub message: String,
    #[source]
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl TableError {
    pub fn new(kind: TableErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self { kind, operation, message: message.into(), source: None }
    }
}
