//! Rules as operators make them: the port `Rules` over the registry.

use super::{CompiledRule, Engine, Rule};
use crate::registry::{Change, Registry, RegistryError, State};
use kilter_core::ports::{
    clock::Clock,
    rules::{RuleError, RuleErrorKind, RulePayload, Rules, TopicRule},
};
use std::sync::Arc;

/// Rules of one installation: each is kept in memory, compiled.
pub const RULES_MAX: usize = 10_000;

pub struct RuleAdmin {
    pub registry: Arc<Registry>,
    pub engine: Arc<Engine>,
    pub clock: Arc<dyn Clock>,
}

/// Lets `?` turn the registry's errors into a rule's.
struct Failure(RuleError);

impl From<RuleError> for Failure {
    fn from(error: RuleError) -> Self {
        Self(error)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Rule(error) => Self(error),
            other => {
                let source: &dyn std::error::Error = &other;
                tracing::error!(error = source, "a rule could not be kept");
                Self(RuleError::new(RuleErrorKind::Internal, other.to_string()))
            }
        }
    }
}

fn not_found(name: &str) -> RuleError {
    RuleError::new(RuleErrorKind::NotFound, format!("there is no rule {name:?}"))
}

fn known<'s>(state: &'s State, name: &str) -> Result<&'s Arc<CompiledRule>, RuleError> {
    state.rules.get(name).ok_or_else(|| not_found(name))
}

impl RuleAdmin {
    /// Checks the rule whole, then puts it in force.
    fn put(
        &self,
        name: &str,
        payload: RulePayload,
        may: impl FnOnce(&State) -> Result<Option<Arc<CompiledRule>>, RuleError>,
    ) -> Result<TopicRule, RuleError> {
        let compiled = CompiledRule::compile(Rule::new(name, self.clock.now(), payload.clone()))?;
        self.engine.check(&compiled)?;
        let put = self.registry.change::<TopicRule, Failure>(|state| {
            let before = may(state)?;
            let created = before.map_or_else(|| self.clock.now(), |before| before.rule.created);
            let rule = Rule::new(name, created, payload);
            let answer = TopicRule { created, ..compiled.topic_rule() };
            Ok((vec![Change::Rule(rule)], answer))
        });
        put.map_err(|Failure(error)| error)
    }
}

impl Rules for RuleAdmin {
    fn list(&self) -> Vec<TopicRule> {
        self.registry.state().rules.values().map(|rule| rule.topic_rule()).collect()
    }

    fn get(&self, name: &str) -> Result<TopicRule, RuleError> {
        known(&self.registry.state(), name).map(|rule| rule.topic_rule())
    }

    fn create(&self, name: &str, payload: RulePayload) -> Result<TopicRule, RuleError> {
        let made = self.put(name, payload, |state| {
            if state.rules.contains_key(name) {
                let message = format!("a rule {name:?} exists already: replace it, or choose another name");
                return Err(RuleError::new(RuleErrorKind::Exists, message));
            }
            if state.rules.len() >= RULES_MAX {
                let message = format!("there are {RULES_MAX} rules, and no more are kept: delete some");
                return Err(RuleError::new(RuleErrorKind::Invalid, message));
            }
            Ok(None)
        })?;
        tracing::info!(rule = name, sql = %made.payload.sql, "rule created");
        Ok(made)
    }

    fn replace(&self, name: &str, payload: RulePayload) -> Result<TopicRule, RuleError> {
        let made = self.put(name, payload, |state| known(state, name).cloned().map(Some))?;
        tracing::info!(rule = name, sql = %made.payload.sql, "rule replaced");
        Ok(made)
    }

    fn set_disabled(&self, name: &str, disabled: bool) -> Result<(), RuleError> {
        let changed = self.registry.change::<(), Failure>(|state| {
            let mut rule = known(state, name)?.rule.clone();
            if std::mem::replace(&mut rule.payload.rule_disabled, disabled) == disabled {
                return Ok((Vec::new(), ()));
            }
            Ok((vec![Change::Rule(rule)], ()))
        });
        changed.map_err(|Failure(error)| error)?;
        tracing::info!(rule = name, disabled, "rule switched");
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<bool, RuleError> {
        let deleted = self.registry.change::<bool, Failure>(|state| {
            let there = state.rules.contains_key(name);
            let changes = if there { vec![Change::RemoveRule(name.to_owned())] } else { Vec::new() };
            Ok((changes, there))
        });
        let deleted = deleted.map_err(|Failure(error)| error)?;
        if deleted {
            tracing::info!(rule = name, "rule deleted");
        }
        Ok(deleted)
    }
}
