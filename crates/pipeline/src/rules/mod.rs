//! Rules: which messages go where, and what becomes of them on the way. A rule is AWS IoT's topic rule; it is compiled
//! once, found by its topic filter in a tree, and evaluated without I/O.

mod action;
mod admin;
mod builtin;
mod carry;
mod engine;
mod functions;
mod kinds;
mod rule;
mod sql;
mod template;
#[cfg(test)]
mod tests;

pub use admin::RuleAdmin;
pub(crate) use functions::uuid;

pub use engine::{Engine, Origin, Routed};
pub use rule::{CompiledRule, Rule};

/// For fuzzing: reads a statement and runs it on a payload.
pub fn try_statement(sql: &str, payload: &bytes::Bytes) -> bool {
    let Ok(statement) = sql::parse_statement(sql) else { return false };
    let message = sql::Message {
        topic: "a/b/c",
        payload,
        client_id: Some("client"),
        principal: Some("principal"),
        source_ip: None,
        properties: None,
        arrival: kilter_core::Timestamp::from_seconds(1_700_000_000),
        account: "123456789012",
        seed: 1,
    };
    let outcome = sql::Evaluation::new(&message).run(&statement);
    if let Ok(sql::Outcome::Payload(made)) = outcome {
        let raw = made == *payload;
        assert!(raw || serde_json::from_slice::<serde::de::IgnoredAny>(&made).is_ok(), "what is selected is JSON");
    }
    true
}
