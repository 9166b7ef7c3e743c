//! Substitution templates: `${expression}` in the texts of an action's parameters.

use super::sql::{Evaluation, Expr, SqlError, parse_expression};
use serde_json::{Map, Value};

/// Parameters of an action, their templates read.
#[derive(Debug, Clone)]
pub enum Template {
    Plain(Value),
    Text(Vec<Piece>),
    List(Vec<Template>),
    Members(Vec<(String, Template)>),
}

#[derive(Debug, Clone)]
pub enum Piece {
    Text(String),
    Expr(Expr),
}

impl Template {
    /// `variables` are those that the rule's statement sets.
    pub fn read(parameters: &Value, variables: &[String]) -> Result<Self, SqlError> {
        Ok(match parameters {
            Value::String(text) => match pieces(text, variables)? {
                pieces if pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) => Self::Plain(parameters.clone()),
                pieces => Self::Text(pieces),
            },
            Value::Array(items) => {
                Self::List(items.iter().map(|item| Self::read(item, variables)).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let read = |(name, value): (&String, _)| Ok((name.clone(), Self::read(value, variables)?));
                Self::Members(members.iter().map(read).collect::<Result<_, SqlError>>()?)
            }
            other => Self::Plain(other.clone()),
        })
    }

    /// With the expressions' values in their places. Undefined and Null are empty, as AWS has it.
    pub fn fill(&self, evaluation: &Evaluation<'_>) -> Result<Value, super::sql::EvalError> {
        Ok(match self {
            Self::Plain(value) => value.clone(),
            Self::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(part) => text.push_str(part),
                        Piece::Expr(expr) => text.push_str(&evaluation.value(expr)?.to_text().unwrap_or_default()),
                    }
                }
                Value::String(text)
            }
            Self::List(items) => {
                Value::Array(items.iter().map(|item| item.fill(evaluation)).collect::<Result<_, _>>()?)
            }
            Self::Members(members) => {
                let fill = |(name, item): &(String, Self)| Ok((name.clone(), item.fill(evaluation)?));
                Value::Object(members.iter().map(fill).collect::<Result<Map<_, _>, _>>()?)
            }
        })
    }
}

/// Whether a text has templates at all.
pub fn is_template(text: &str) -> bool {
    text.contains("${")
}

fn pieces(text: &str, variables: &[String]) -> Result<Vec<Piece>, SqlError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some(end) = closing_brace(after) else { break };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Expr(parse_expression(&after[..end], variables)?));
        rest = &after[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// Where the expression ends: the first `}` outside of quotes and of inner braces.
fn closing_brace(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') if depth == 0 => return Some(at),
            (None, '}') => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::sql::Message;
    use bytes::Bytes;
    use serde_json::json;

    fn fill(parameters: Value, payload: &str) -> Value {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let message = Message {
            topic: "a/b",
            payload: &payload,
            client_id: None,
            principal: None,
            source_ip: None,
            properties: None,
            arrival: kilter_core::Timestamp::from_seconds(1_700_000_000),
            account: "1",
            seed: 0,
        };
        Template::read(&parameters, &[]).unwrap().fill(&Evaluation::new(&message)).unwrap()
    }

    #[test]
    fn expressions_stand_for_their_values() {
        let parameters = json!({
            "key": "iot/${topic()}/${timestamp()}.json",
            "plain": "no $ template { here }",
            "list": [{"deep": "${get({'a': '}'}, 'a')}"}, 5],
            "absent": "x${missing}y",
            "open": "${topic()",
        });
        let filled = json!({
            "key": "iot/a/b/1700000000000.json",
            "plain": "no $ template { here }",
            "list": [{"deep": "}"}, 5],
            "absent": "xy",
            "open": "${topic()",
        });
        assert_eq!(fill(parameters, "{}"), filled);
        assert_eq!(fill(json!("${o.n}/${o}"), r#"{"o":{"n":1.50}}"#), json!(r#"1.5/{"n":1.5}"#));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert!(Template::read(&json!({"a": ["${1 +}"]}), &[]).is_err());
    }
}
