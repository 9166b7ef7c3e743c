//! One action of a rule, ready to be carried out.

use super::{
    kinds,
    sql::{EvalError, Evaluation, SqlError},
    template::{Template, is_template},
};
use bytes::Bytes;
use kilter_core::{
    StreamName,
    ports::{
        action::{ActionCall, ActionError},
        rules::{RuleAction, RuleError, RuleErrorKind},
    },
};
use serde_json::Value;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub struct CompiledAction {
    pub kind: String,
    /// The role that it is carried out under.
    pub role: Option<String>,
    /// Where its records go, for `kinesis`.
    pub stream: Option<StreamName>,
    parameters: Template,
    /// As given: what an error message names.
    given: Value,
}

impl CompiledAction {
    /// The partition key is the same for every message: records of one thing stay in order.
    pub fn has_constant_key(&self) -> bool {
        !is_template(kinds::text(&self.given, "partitionKey"))
    }

    pub fn compile(action: &RuleAction, variables: &[String]) -> Result<Self, RuleError> {
        let invalid = |why: String| RuleError::new(RuleErrorKind::Invalid, why);
        let Some((kind, given)) = action.parts() else {
            let kinds: Vec<&str> = action.0.keys().map(String::as_str).collect();
            return Err(invalid(format!(
                "an action has exactly one member, its kind, and not {} ({}): give each an object of its own",
                kinds.len(),
                kinds.join(", ")
            )));
        };
        kinds::check(kind, given).map_err(invalid)?;
        let parameters = Template::read(given, variables).map_err(|error: SqlError| {
            RuleError::new(RuleErrorKind::Sql, format!("a template of the action {kind} cannot be read: {error}"))
        })?;
        let stream = match kind {
            "kinesis" => Some(StreamName::new(kinds::text(given, "streamName")).map_err(|e| invalid(e.to_string()))?),
            _ => None,
        };
        let role = Some(kinds::text(given, "roleArn")).filter(|role| !role.is_empty()).map(str::to_owned);
        Ok(Self { kind: kind.to_owned(), role, stream, parameters, given: given.clone() })
    }

    /// With its templates filled in for one message.
    pub fn call(
        &self,
        rule: &Arc<str>,
        topic: &Arc<str>,
        evaluation: &Evaluation<'_>,
        payload: Bytes,
    ) -> Result<ActionCall, ActionError> {
        let parameters = self.parameters.fill(evaluation).map_err(|error| self.failed(&error))?;
        Ok(ActionCall { rule: rule.clone(), kind: self.kind.clone(), parameters, payload, topic: topic.clone() })
    }

    /// The action could not even be tried.
    pub fn failed(&self, why: &EvalError) -> ActionError {
        self.refused(why.to_string())
    }

    pub fn refused(&self, message: String) -> ActionError {
        ActionError { resource: kinds::resource(&self.kind, &self.given), message, retryable: false }
    }

    /// The IAM action and resource that its role must allow, before templates are filled in.
    pub fn permission(&self, region: &str, account: &str) -> (&'static str, String) {
        kinds::permission(&self.kind, &self.given, region, account)
    }

    pub fn given(&self) -> &Value {
        &self.given
    }
}
