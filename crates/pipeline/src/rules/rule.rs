//! A rule as the registry keeps it, and as it runs.

use super::{
    action::CompiledAction,
    sql::{Statement, parse_statement},
};
use crate::consumer::tenant_of;
use kilter_core::{
    RuleView, StreamName, TenantId, Timestamp,
    ports::rules::{RuleAction, RuleError, RuleErrorKind, RulePayload, TopicRule},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Actions of one rule (AWS's limit).
const ACTIONS_MAX: usize = 10;
/// Of a rule's name and description, in characters (AWS's limits).
const NAME_CHARS_MAX: usize = 128;
const DESCRIPTION_CHARS_MAX: usize = 2_048;
/// Of all actions as JSON: what is evaluated for each message should be small.
const ACTIONS_BYTES_MAX: usize = 64 << 10;
/// Actions of one rule that are carried out at once; further ones wait, and with them their messages'
/// acknowledgements: a target that hangs holds up nothing but the rules that name it.
const AT_ONCE_MAX: usize = 64;
const SQL_VERSIONS: [&str; 3] = ["2015-10-08", "2016-03-23", "beta"];

/// A rule as it is kept in the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Rule {
    pub name: String,
    /// Whose pipeline it feeds, where it feeds one; it goes when the tenant goes.
    pub tenant: Option<TenantId>,
    pub created: Timestamp,
    pub payload: RulePayload,
}

/// The forms in which rules were kept, newest first.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Full {
        name: String,
        tenant: Option<TenantId>,
        created: Timestamp,
        payload: RulePayload,
    },
    /// `SELECT * FROM '<filter>'` with one stream.
    Simple {
        name: String,
        tenant: TenantId,
        sql: String,
        stream: StreamName,
    },
}

impl From<Stored> for Rule {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Full { name, tenant, created, payload } => Self { name, tenant, created, payload },
            Stored::Simple { name, tenant, sql, stream } => {
                let payload = stream_payload(sql, &stream);
                Self { name, tenant: Some(tenant), created: Timestamp::default(), payload }
            }
        }
    }
}

/// A rule of the platform's own: it assumes no role.
fn stream_payload(sql: String, stream: &StreamName) -> RulePayload {
    let action = json!({"streamName": stream, "partitionKey": "${topic(4)}"});
    RulePayload {
        sql,
        description: None,
        actions: vec![RuleAction::new("kinesis", action)],
        rule_disabled: false,
        aws_iot_sql_version: "2016-03-23".to_owned(),
        error_action: None,
    }
}

impl Rule {
    pub fn new(name: &str, created: Timestamp, payload: RulePayload) -> Self {
        let streams = payload.actions.iter().filter_map(|action| match action.parts() {
            Some(("kinesis", parameters)) => StreamName::new(super::kinds::text(parameters, "streamName")).ok(),
            _ => None,
        });
        let named = || name.strip_prefix("telemetry_to_kinesis_").and_then(|tenant| TenantId::new(tenant).ok());
        let tenant = streams.filter_map(|stream| tenant_of(&stream)).next().or_else(named);
        Self { name: name.to_owned(), tenant, created, payload }
    }

    /// The rule that onboarding makes: a tenant's telemetry into its stream, byte for byte.
    pub fn telemetry(tenant: &TenantId, created: Timestamp) -> Self {
        let sql = format!("SELECT * FROM '{}'", tenant.telemetry_filter());
        let payload = stream_payload(sql, &tenant.stream());
        Self { name: tenant.rule(), tenant: Some(tenant.clone()), created, payload }
    }

    pub fn view(&self) -> RuleView {
        let stream = self.payload.actions.iter().find_map(|action| match action.parts() {
            Some(("kinesis", parameters)) => Some(super::kinds::text(parameters, "streamName").to_owned()),
            _ => None,
        });
        RuleView { name: self.name.clone(), sql: self.payload.sql.clone(), stream: stream.unwrap_or_default() }
    }
}

/// A rule, read and ready.
#[derive(Debug)]
pub struct CompiledRule {
    pub rule: Rule,
    pub name: Arc<str>,
    pub statement: Statement,
    pub actions: Vec<CompiledAction>,
    pub error_action: Option<CompiledAction>,
    /// One for each action under way.
    pub turns: Semaphore,
}

impl CompiledRule {
    /// Checks all of it: nothing that is kept fails to be read again.
    pub fn compile(rule: Rule) -> Result<Self, RuleError> {
        let invalid = |why: String| Err(RuleError::new(RuleErrorKind::Invalid, why));
        let Rule { name, payload, .. } = &rule;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(allowed) {
            return invalid(format!(
                "a rule cannot be named {name:?}: use 1 to {NAME_CHARS_MAX} letters, digits and '_'"
            ));
        }
        if payload.actions.len() > ACTIONS_MAX {
            return invalid(format!("a rule has at most {ACTIONS_MAX} actions, not {}", payload.actions.len()));
        }
        if payload.description.as_ref().is_some_and(|text| text.chars().count() > DESCRIPTION_CHARS_MAX) {
            return invalid(format!("a description has at most {DESCRIPTION_CHARS_MAX} characters"));
        }
        if !SQL_VERSIONS.contains(&payload.aws_iot_sql_version.as_str()) {
            return invalid(format!("awsIotSqlVersion {:?} is not known: use 2016-03-23", payload.aws_iot_sql_version));
        }
        let bytes =
            serde_json::to_vec(&(&payload.actions, &payload.error_action)).map_or(usize::MAX, |json| json.len());
        if bytes > ACTIONS_BYTES_MAX {
            return invalid(format!("the actions have {bytes} bytes as JSON, at most {ACTIONS_BYTES_MAX} are kept"));
        }
        let statement = parse_statement(&payload.sql).map_err(|why| {
            RuleError::new(RuleErrorKind::Sql, format!("the statement {:?} cannot be read: {why}", payload.sql))
        })?;
        let variables: Vec<String> = statement.variables.iter().map(|(name, _)| name.clone()).collect();
        let compile = |action: &RuleAction| CompiledAction::compile(action, &variables);
        let actions = payload.actions.iter().map(compile).collect::<Result<_, _>>()?;
        let error_action = payload.error_action.as_ref().map(compile).transpose()?;
        let turns = Semaphore::new(AT_ONCE_MAX);
        Ok(Self { name: name.as_str().into(), statement, actions, error_action, turns, rule })
    }

    pub fn topic_filter(&self) -> Option<&str> {
        self.statement.topic_filter.as_deref()
    }

    pub fn is_enabled(&self) -> bool {
        !self.rule.payload.rule_disabled
    }

    /// The streams that its actions write to.
    pub fn streams(&self) -> impl Iterator<Item = &StreamName> {
        self.actions.iter().filter_map(|action| action.stream.as_ref())
    }

    pub fn topic_rule(&self) -> TopicRule {
        TopicRule {
            name: self.rule.name.clone(),
            tenant: self.rule.tenant.clone(),
            created: self.rule.created,
            topic_pattern: self.topic_filter().unwrap_or_default().to_owned(),
            payload: self.rule.payload.clone(),
        }
    }
}
