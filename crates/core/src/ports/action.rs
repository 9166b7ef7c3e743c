//! Where a rule's actions go when they do not go into a stream.

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::Value;
use std::sync::Arc;

/// Carries out one kind of action, or several: `dynamoDBv2`, `s3`, `sns`, …
pub trait ActionTarget: Send + Sync {
    /// The kinds that it carries out, by their names in a rule's payload.
    fn kinds(&self) -> &[&'static str];

    /// Whether a rule may have this action: what is wrong with its parameters, in words. Templates are not filled in
    /// yet. Quick, asks nobody.
    fn check(&self, kind: &str, parameters: &Value) -> Result<(), String>;

    /// `Ok` only when the target has it, for good. May be called again with the same message, after a crash or a
    /// failure. Does not block.
    fn perform(&self, call: ActionCall) -> BoxFuture<'static, Result<(), ActionError>>;
}

/// One action on one message.
#[derive(Debug, Clone)]
pub struct ActionCall {
    pub rule: Arc<str>,
    pub kind: String,
    /// With every `${…}` in its texts filled in.
    pub parameters: Value,
    /// What the rule's SELECT made of the message.
    pub payload: Bytes,
    /// The message's own topic.
    pub topic: Arc<str>,
}

/// What happened, why, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ActionError {
    /// What could not be reached or written: a bucket, a table, a topic.
    pub resource: String,
    pub message: String,
    /// Trying the same again later may help.
    pub retryable: bool,
}

/// Whether a rule may take on the role that its action names.
pub trait RuleRoles: Send + Sync {
    /// `Err`: why not, in words. `action` as in `kinesis:PutRecord`, `resource` an ARN. Quick, asks nobody.
    fn may(&self, role_arn: &str, action: &str, resource: &str) -> Result<(), String>;

    /// Makes the role for the rules of tenants where there is none; answers its name if it did. Blocking, durable on
    /// return. `Err`: why not, in words.
    fn provide(&self) -> Result<Option<String>, String> {
        Ok(None)
    }
}
