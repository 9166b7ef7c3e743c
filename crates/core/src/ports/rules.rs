//! Rules as operators make them: AWS IoT's topic rules.

use crate::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Makes, changes and shows rules. Blocking; durable and in force on return. A payload is checked whole before
/// anything of it is kept.
pub trait Rules: Send + Sync {
    /// Sorted by name.
    fn list(&self) -> Vec<TopicRule>;
    fn get(&self, name: &str) -> Result<TopicRule, RuleError>;
    /// A name that is taken: [`RuleErrorKind::Exists`].
    fn create(&self, name: &str, payload: RulePayload) -> Result<TopicRule, RuleError>;
    fn replace(&self, name: &str, payload: RulePayload) -> Result<TopicRule, RuleError>;
    fn set_disabled(&self, name: &str, disabled: bool) -> Result<(), RuleError>;
    /// Says whether it was there.
    fn delete(&self, name: &str) -> Result<bool, RuleError>;
}

#[derive(Debug, Clone, PartialEq)]
pub struct TopicRule {
    pub name: String,
    /// Whose pipeline it feeds, where it feeds one.
    pub tenant: Option<TenantId>,
    pub created: Timestamp,
    /// The filter in its FROM clause; empty where only Basic Ingest runs it.
    pub topic_pattern: String,
    pub payload: RulePayload,
}

/// `topicRulePayload` of the AWS API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RulePayload {
    pub sql: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default)]
    pub actions: Vec<RuleAction>,
    #[serde(default)]
    pub rule_disabled: bool,
    #[serde(default = "sql_version_default")]
    pub aws_iot_sql_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_action: Option<RuleAction>,
}

/// The version that AWS takes where none is given is 2015-10-08; Kilter speaks the newer one, which reads the same
/// statements.
fn sql_version_default() -> String {
    "2016-03-23".to_owned()
}

/// One action: an object with one member, whose name is the action's kind (`kinesis`, `republish`, …) and whose
/// value holds its parameters, as given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleAction(pub Map<String, Value>);

impl RuleAction {
    pub fn new(kind: &str, parameters: Value) -> Self {
        Self(Map::from_iter([(kind.to_owned(), parameters)]))
    }

    /// Kind and parameters, where it has exactly one member.
    pub fn parts(&self) -> Option<(&str, &Value)> {
        let mut members = self.0.iter();
        match (members.next(), members.next()) {
            (Some((kind, parameters)), None) => Some((kind, parameters)),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleErrorKind {
    NotFound,
    Exists,
    /// The statement cannot be read: AWS's `SqlParseException`.
    Sql,
    /// Something else of the payload: AWS's `InvalidRequestException`.
    Invalid,
    /// Something below failed; the log says more.
    Internal,
}

/// What happened, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuleError {
    pub kind: RuleErrorKind,
    pub message: String,
}

impl RuleError {
    pub fn new(kind: RuleErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
