//! Rules: which messages go into which stream. In this release a rule is `SELECT * FROM '<topic filter>'` with one
//! stream as its target; anything else is refused when the rule is made, never misread.

use kilter_core::{RuleView, StreamName, TenantId, topics};
use serde::{Deserialize, Serialize};

/// A rule as it is kept in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub name: String,
    pub tenant: TenantId,
    pub sql: String,
    pub stream: StreamName,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rule's SQL {sql:?} cannot be run: {why}; write SELECT * FROM 'topic/filter'")]
pub struct RuleError {
    sql: String,
    why: &'static str,
}

impl Rule {
    pub fn view(&self) -> RuleView {
        RuleView { name: self.name.clone(), sql: self.sql.clone(), stream: self.stream.to_string() }
    }

    /// The topic filter in the FROM clause.
    pub fn filter(&self) -> Result<&str, RuleError> {
        let refuse = |why| RuleError { sql: self.sql.clone(), why };
        let mut rest = self.sql.trim();
        for (word, why) in [
            ("SELECT", "it does not begin with SELECT"),
            ("*", "only SELECT * is supported"),
            ("FROM", "FROM must follow SELECT *"),
        ] {
            let head = rest.get(..word.len()).filter(|head| head.eq_ignore_ascii_case(word)).ok_or(refuse(why))?;
            rest = rest[head.len()..].trim_start();
        }
        let filter = rest.strip_prefix('\'').and_then(|r| r.strip_suffix('\''));
        let filter = filter.ok_or(refuse("the topic filter must be the last word, in single quotes"))?;
        if filter.is_empty() || filter.contains('\'') || topics::check_filter(filter).is_err() {
            return Err(refuse("the topic filter is not valid"));
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(sql: &str) -> Rule {
        let tenant = TenantId::new("t1").unwrap();
        Rule { name: tenant.rule(), stream: tenant.stream(), sql: sql.into(), tenant }
    }

    #[test]
    fn the_supported_form_is_read() {
        for sql in
            ["SELECT * FROM 'tenants/t1/devices/+/telemetry'", " select  *  from 'tenants/t1/devices/+/telemetry' "]
        {
            assert_eq!(rule(sql).filter().unwrap(), "tenants/t1/devices/+/telemetry");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for sql in [
            "",
            "SELECT",
            "SELECT temperature FROM 'a'",
            "SELECT * FROM a",
            "SELECT * FROM ''",
            "SELECT * FROM 'a' WHERE x > 1",
            "SELECT * FROM 'a' WHERE b = 'c'",
            "SELECT * FROM 'a/#/b'",
            "SELECT * FROM 'a+/b'",
            "é",
        ] {
            assert!(rule(sql).filter().is_err(), "{sql}");
        }
    }
}
