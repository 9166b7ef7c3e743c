//! Rules: which messages go into which stream. In this release a rule is `SELECT * FROM '<topic filter>'` with one
//! stream as its target; anything else is refused when the rule is made, never misread.

use kilter_core::{RuleView, StreamName, TenantId};
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
        if filter.is_empty() || filter.contains('\'') || !is_filter(filter) {
            return Err(refuse("the topic filter is not valid"));
        }
        Ok(filter)
    }
}

/// `+` and `#` stand alone in their level, `#` only in the last one (MQTT 5, 4.7.1).
fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wild = level.contains(['+', '#']);
        if wild && (level.len() > 1 || (level == "#" && levels.peek().is_some())) {
            return false;
        }
    }
    true
}

/// Whether a topic filter matches a topic name (MQTT 5, 4.7): `$`-topics only where the filter names the `$`.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
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

    #[test]
    fn filters_match_as_the_specification_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("+/+", "/a", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("a", "a/b", false),
            ("a/b", "a", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }
}
