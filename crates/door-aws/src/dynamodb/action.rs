//! Rule actions that put items: `dynamoDBv2` (the payload's members are the attributes) and `dynamoDB` (keys from the
//! action, the payload in one attribute).

use super::{
    DynamoDb,
    fault::{invalid, no_table},
    items::{Deed, Written},
    number::Number,
    store::Store,
    value::{AttributeValue, Item, from_plain_json},
};
use crate::AwsError;
use futures::{FutureExt, future::BoxFuture};
use kilter_core::ports::action::{ActionCall, ActionError, ActionTarget};
use serde_json::Value as Json;
use std::sync::Arc;

/// Where `dynamoDB` puts the payload unless it says otherwise.
const PAYLOAD_FIELD: &str = "payload";

fn text<'a>(parameters: &'a Json, name: &str) -> Option<&'a str> {
    parameters.get(name).and_then(Json::as_str)
}

fn table_of<'a>(kind: &str, parameters: &'a Json) -> Option<&'a str> {
    match kind {
        "dynamoDBv2" => text(parameters.get("putItem")?, "tableName"),
        _ => text(parameters, "tableName"),
    }
}

fn key_value(kind: Option<&str>, value: &str) -> Result<AttributeValue, AwsError> {
    Ok(match kind {
        Some("NUMBER") => AttributeValue::N(Number::parse(value)?),
        _ => AttributeValue::S(value.to_owned()),
    })
}

/// What is to be done, and in which table.
fn written(call: &ActionCall) -> Result<Written, AwsError> {
    let table = table_of(&call.kind, &call.parameters).ok_or_else(|| invalid("the action names no table"))?.to_owned();
    let payload: Option<AttributeValue> = serde_json::from_slice(&call.payload).ok().map(|json| from_plain_json(&json));
    let deed = match (call.kind.as_str(), payload) {
        ("dynamoDBv2", Some(AttributeValue::M(item))) => Deed::Put(item),
        ("dynamoDBv2", _) => return Err(invalid("the payload is not a JSON object, so it has no attributes")),
        (_, payload) => {
            let text = |name: &str| text(&call.parameters, name);
            let mut item = Item::new();
            for part in ["hash", "range"] {
                let member = |what: &str| text(&format!("{part}Key{what}"));
                if let (Some(field), Some(value)) = (member("Field"), member("Value")) {
                    item.insert(field.to_owned(), key_value(member("Type"), value)?);
                }
            }
            match text("operation").map(str::to_ascii_uppercase).as_deref() {
                Some("DELETE") => Deed::Delete(item),
                None | Some("INSERT" | "UPDATE") => {
                    let raw = || AttributeValue::B(call.payload.to_vec());
                    let field = text("payloadField").unwrap_or(PAYLOAD_FIELD);
                    item.insert(field.to_owned(), payload.unwrap_or_else(raw));
                    Deed::Put(item)
                }
                Some(other) => return Err(invalid(format!("the operation {other} is none of INSERT, UPDATE, DELETE"))),
            }
        }
    };
    Ok(Written { table, deed, condition: None, old_on_failure: false })
}

fn carry_out(store: &Arc<Store>, call: &ActionCall) -> Result<(), AwsError> {
    let written = written(call)?;
    let job = store.clone();
    store.writer.write(move |batch| {
        let table = job.usable_in(batch, &written.table)?;
        written.carry_out(&job, batch, &table).map(drop)
    })
}

impl ActionTarget for DynamoDb {
    fn kinds(&self) -> &[&'static str] {
        &["dynamoDB", "dynamoDBv2"]
    }

    fn check(&self, kind: &str, parameters: &Json) -> Result<(), String> {
        match table_of(kind, parameters) {
            Some(table) if !table.is_empty() => Ok(()),
            _ => Err(format!("{kind} needs the name of a table")),
        }
    }

    fn perform(&self, call: ActionCall) -> BoxFuture<'static, Result<(), ActionError>> {
        let store = self.0.clone();
        async move {
            let resource = table_of(&call.kind, &call.parameters).unwrap_or_default().to_owned();
            let done = tokio::task::spawn_blocking(move || carry_out(&store, &call)).await;
            let outcome = done.unwrap_or_else(|_| Err(super::fault::internal("the write has failed")));
            outcome.map_err(|error| ActionError {
                retryable: error.status.is_server_error(),
                message: match error == no_table() {
                    true => format!("there is no table {resource}: make it with `aws dynamodb create-table`"),
                    false => format!("the item was not put into {resource}: {}", error.message),
                },
                resource,
            })
        }
        .boxed()
    }
}
