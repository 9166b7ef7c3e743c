//! TransactWriteItems and TransactGetItems: all or nothing, decided at one moment.

use super::{
    capacity::{Wanted, answer, read_units},
    change::{Spent, current},
    fault::{internal, invalid},
    items::{Deed, ItemRequest, Written, projection},
    key::hex,
    request::{object, read, table_name},
    store::Store,
    value::{Item, item_from_json, item_size, item_to_json},
    writer::Batch,
};
use crate::{AwsError, Call};
use kilter_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The service's limits.
const ACTIONS_MAX: usize = 100;
const BYTES_MAX: usize = 4 << 20;
const TOKEN_CHARACTERS_MAX: usize = 36;
/// How long a token is known.
pub const TOKEN_SECONDS: i64 = 600;
/// Partition of the service's own table.
pub const TOKENS: &str = "tokens";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    transact_items: Vec<Map<String, Json>>,
    return_consumed_capacity: Option<String>,
    client_request_token: Option<String>,
}

/// A transaction that was carried out under a token.
#[derive(Debug, Serialize, Deserialize)]
pub struct Token {
    pub time: Timestamp,
    request: String,
    spent: BTreeMap<String, f64>,
}

fn check_number(actions: usize) -> Result<(), AwsError> {
    if actions == 0 || actions > ACTIONS_MAX {
        return Err(invalid(format!(
            "1 validation error detected: Value at 'transactItems' failed to satisfy constraint: Member must have length less than or equal to {ACTIONS_MAX}, Member must have length greater than or equal to 1"
        )));
    }
    Ok(())
}

fn only(action: &Map<String, Json>) -> Result<(&str, ItemRequest), AwsError> {
    let mut kinds = action.iter().filter(|(_, value)| !value.is_null());
    let (Some((kind, body)), None) = (kinds.next(), kinds.next()) else {
        return Err(invalid("TransactItems can only contain one of Check, Put, Update or Delete"));
    };
    Ok((kind, read(body.as_object().cloned().unwrap_or_default())?))
}

/// `reasons`: one for each action, `None` where it would have gone through.
fn cancelled(reasons: Vec<Option<AwsError>>) -> AwsError {
    let code = |reason: &Option<AwsError>| match reason {
        None => "None",
        Some(error) if error.code == "ConditionalCheckFailedException" => "ConditionalCheckFailed",
        Some(_) => "ValidationError",
    };
    let codes: Vec<&str> = reasons.iter().map(code).collect();
    let message =
        format!("Transaction cancelled, please refer cancellation reasons for specific reasons [{}]", codes.join(", "));
    let described: Vec<Json> = reasons
        .iter()
        .map(|reason| {
            let mut described = json!({ "Code": code(reason) });
            if let Some(error) = reason {
                described["Message"] = json!(error.message);
                if let Some((_, item)) = error.members.iter().find(|(name, _)| *name == "Item") {
                    described["Item"] = item.clone();
                }
            }
            described
        })
        .collect();
    AwsError::new("TransactionCanceledException", message).with("CancellationReasons", Json::Array(described))
}

/// Whether an error is about an action, and not about the request or the machine.
fn is_reason(error: &AwsError) -> bool {
    matches!(error.code.as_str(), "ConditionalCheckFailedException" | "ValidationException")
}

fn carry_out(store: &Store, batch: &mut Batch<'_>, writes: &[Written]) -> Result<BTreeMap<String, Spent>, AwsError> {
    let mut places = BTreeSet::new();
    let mut spent: BTreeMap<String, Spent> = BTreeMap::new();
    let mut bytes = 0;
    for write in writes {
        let table = store.usable_in(batch, &write.table)?;
        if !places.insert((write.table.clone(), write.position(&table)?)) {
            return Err(invalid("Transaction request cannot include multiple operations on one item"));
        }
    }
    let mut reasons = Vec::new();
    for write in writes {
        let table = store.usable_in(batch, &write.table)?;
        match write.carry_out(store, batch, &table) {
            Ok(outcome) => {
                bytes += outcome.new.as_ref().map_or(0, item_size);
                spent.entry(write.table.clone()).or_default().add(outcome.spent.twice());
                reasons.push(None);
            }
            Err(error) if is_reason(&error) => reasons.push(Some(error)),
            Err(error) => return Err(error),
        }
    }
    if reasons.iter().any(Option::is_some) {
        return Err(cancelled(reasons));
    }
    if bytes > BYTES_MAX {
        return Err(invalid("Collection size exceeded: a transaction cannot write more than 4 MB"));
    }
    Ok(spent)
}

pub fn transact_write_items(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let members = object(call)?;
    let digest = |what: &[u8]| hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, what).as_ref());
    let asked = digest(members.get("TransactItems").map(Json::to_string).unwrap_or_default().as_bytes());
    let request: Request = read(members)?;
    let wanted = Wanted::read(request.return_consumed_capacity.as_deref())?;
    check_number(request.transact_items.len())?;
    let mut writes = Vec::new();
    for action in &request.transact_items {
        let (kind, item) = only(action)?;
        if !matches!(kind, "Put" | "Update" | "Delete" | "ConditionCheck") {
            return Err(invalid(format!(
                "{kind} is no action of a transaction: use ConditionCheck, Put, Update or Delete"
            )));
        }
        let write = item.written(call, kind)?;
        debug_assert!(kind != "ConditionCheck" || matches!(write.deed, Deed::Check(_)));
        writes.push(write);
    }
    let token = request.client_request_token;
    if token.as_ref().is_some_and(|token| token.is_empty() || token.chars().count() > TOKEN_CHARACTERS_MAX) {
        return Err(invalid(format!(
            "1 validation error detected: Value at 'clientRequestToken' failed to satisfy constraint: Member must have length less than or equal to {TOKEN_CHARACTERS_MAX}, Member must have length greater than or equal to 1"
        )));
    }
    let job = store.clone();
    let spent = store.writer.write(move |batch| {
        let now = job.clock.now();
        let own = Store::own();
        if let Some(token) = &token
            && let Some(bytes) = batch.get(&own, TOKENS, token)?
        {
            let known: Token = serde_json::from_slice(&bytes).map_err(internal)?;
            if known.time.plus_seconds(TOKEN_SECONDS) > now {
                return known.again(&asked);
            }
        }
        let spent = carry_out(&job, batch, &writes)?;
        if let Some(token) = &token {
            let units = spent.iter().map(|(table, spent)| (table.clone(), spent.table)).collect();
            let known = Token { time: now, request: asked, spent: units };
            batch.put(&own, TOKENS, token, serde_json::to_vec(&known).map_err(internal)?);
        }
        Ok(spent)
    })?;
    Ok(answer([("ConsumedCapacity", wanted.describe_all(&spent))]))
}

impl Token {
    /// The answer to the same request once more.
    fn again(self, asked: &str) -> Result<BTreeMap<String, Spent>, AwsError> {
        if self.request != asked {
            return Err(AwsError::new(
                "IdempotentParameterMismatchException",
                "Request token was used before with other parameters",
            ));
        }
        let spent = |units| Spent { table: units, indexes: Vec::new() };
        Ok(self.spent.into_iter().map(|(table, units)| (table, spent(units))).collect())
    }
}

pub fn transact_get_items(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let wanted = Wanted::read(request.return_consumed_capacity.as_deref())?;
    check_number(request.transact_items.len())?;
    let mut reads = Vec::new();
    for action in &request.transact_items {
        let (kind, item) = only(action)?;
        if kind != "Get" {
            return Err(invalid(format!("{kind} is no action of TransactGetItems: use Get")));
        }
        let table = table_name(call, item.table_name.as_deref(), "tableName")?;
        let cut = projection(item.projection_expression.as_deref(), item.expression_attribute_names.as_ref())?;
        let key = item_from_json(&item.key.unwrap_or_default())?;
        reads.push((table, key, cut));
    }
    let job = store.clone();
    // With the writer, so that no write falls in between.
    let (found, spent) = store.writer.write(move |batch| {
        let mut spent: BTreeMap<String, Spent> = BTreeMap::new();
        let mut found: Vec<Option<Item>> = Vec::new();
        for (name, key, cut) in reads {
            let table = job.usable_in(batch, &name)?;
            let (item, _) = current(batch, &table, &table.key.of_key(&key)?)?;
            let units = read_units(item.as_ref().map_or(0, item_size), true);
            spent.entry(name).or_default().add(Spent { table: units, indexes: Vec::new() }.twice());
            found.push(item.map(|item| cut.map_or_else(|| item.clone(), |cut| cut.cut(&item))));
        }
        Ok((found, spent))
    })?;
    let one = |item: Option<Item>| answer([("Item", item.map(|item| item_to_json(&item)))]);
    Ok(answer([
        ("Responses", Some(Json::Array(found.into_iter().map(one).collect()))),
        ("ConsumedCapacity", wanted.describe_all(&spent)),
    ]))
}
