//! BatchGetItem and BatchWriteItem.

use super::{
    capacity::{Wanted, answer, read_units},
    change::Spent,
    fault::invalid,
    items::{Deed, ItemRequest, Written, projection},
    request::{object, read, table_name},
    rows::Source,
    store::Store,
    value::{item_from_json, item_to_json},
};
use crate::{AwsError, Call};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The service's limits.
const KEYS_MAX: usize = 100;
const WRITES_MAX: usize = 25;
/// Bytes of one answer; what is left over comes back as unprocessed.
const ANSWER_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    request_items: Map<String, Json>,
    return_consumed_capacity: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Keys {
    keys: Vec<Map<String, Json>>,
    projection_expression: Option<String>,
    expression_attribute_names: Option<Map<String, Json>>,
    consistent_read: Option<bool>,
}

fn no_items() -> AwsError {
    invalid(
        "1 validation error detected: Value '{}' at 'requestItems' failed to satisfy constraint: Member must have length greater than or equal to 1",
    )
}

fn members<T: serde::de::DeserializeOwned>(json: &Json) -> Result<T, AwsError> {
    serde_json::from_value(json.clone())
        .map_err(|error| AwsError::new("SerializationException", format!("The request cannot be read: {error}")))
}

pub fn batch_get_item(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let wanted = Wanted::read(request.return_consumed_capacity.as_deref())?;
    if request.request_items.is_empty() {
        return Err(no_items());
    }
    let mut all: Vec<(&String, &Json, Keys)> = Vec::new();
    for (given, json) in &request.request_items {
        let object = json.as_object().cloned().unwrap_or_default();
        all.push((given, json, read(object)?));
    }
    if all.iter().map(|(_, _, keys)| keys.keys.len()).sum::<usize>() > KEYS_MAX {
        return Err(invalid("Too many items requested for the BatchGetItem call"));
    }
    let (mut responses, mut unprocessed) = (Map::new(), Map::new());
    let mut spent: BTreeMap<String, Spent> = BTreeMap::new();
    let mut bytes = 0;
    for (given, json, keys) in all {
        let table = store.usable(&table_name(call, Some(given), "tableName")?)?;
        let projection = projection(keys.projection_expression.as_deref(), keys.expression_attribute_names.as_ref())?;
        let mut positions = Vec::new();
        for key in &keys.keys {
            positions.push(table.key.of_key(&item_from_json(key)?)?);
        }
        if positions.iter().collect::<BTreeSet<_>>().len() < positions.len() {
            return Err(invalid("Provided list of item keys contains duplicates"));
        }
        let source = Source::of_table(&*store.table, &table);
        let (mut items, mut left) = (Vec::new(), Vec::new());
        for (position, key) in positions.iter().zip(&keys.keys) {
            if bytes > ANSWER_BYTES_MAX {
                left.push(Json::Object(key.clone()));
                continue;
            }
            let row = source.get(position)?;
            let size = row.as_ref().map_or(0, |row| row.size());
            bytes += size;
            let units = read_units(size, keys.consistent_read.unwrap_or(false));
            spent.entry(table.name.clone()).or_default().add(Spent { table: units, indexes: Vec::new() });
            if let Some(row) = row {
                let item = row.item()?;
                items.push(item_to_json(&projection.as_ref().map_or_else(|| item.clone(), |cut| cut.cut(&item))));
            }
        }
        responses.insert(given.clone(), Json::Array(items));
        if !left.is_empty() {
            let mut rest = json.clone();
            rest["Keys"] = Json::Array(left);
            unprocessed.insert(given.clone(), rest);
        }
    }
    Ok(answer([
        ("Responses", Some(Json::Object(responses))),
        ("UnprocessedKeys", Some(Json::Object(unprocessed))),
        ("ConsumedCapacity", wanted.describe_all(&spent)),
    ]))
}

fn one_write(call: &Call, table: &str, request: &Map<String, Json>) -> Result<Written, AwsError> {
    let mut kinds = request.iter().filter(|(_, value)| !value.is_null());
    let (Some((kind, body)), None) = (kinds.next(), kinds.next()) else {
        return Err(invalid(
            "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes",
        ));
    };
    let mut item: ItemRequest = members(body)?;
    item.table_name = Some(table.to_owned());
    match kind.as_str() {
        "PutRequest" => item.written(call, "Put"),
        "DeleteRequest" => item.written(call, "Delete"),
        other => Err(invalid(format!("{other} is no request of BatchWriteItem: use PutRequest or DeleteRequest"))),
    }
}

pub fn batch_write_item(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let wanted = Wanted::read(request.return_consumed_capacity.as_deref())?;
    if request.request_items.is_empty() {
        return Err(no_items());
    }
    let mut writes = Vec::new();
    for (table, list) in &request.request_items {
        let list =
            list.as_array().ok_or_else(|| AwsError::new("SerializationException", "RequestItems holds lists"))?;
        if list.is_empty() || list.len() > WRITES_MAX {
            return Err(invalid(format!(
                "1 validation error detected: Value at 'requestItems.{table}.member' failed to satisfy constraint: Member must have length less than or equal to {WRITES_MAX}, Member must have length greater than or equal to 1"
            )));
        }
        for write in list {
            let write: Map<String, Json> = members(write)?;
            writes.push(one_write(call, table, &write)?);
        }
    }
    if writes.len() > WRITES_MAX {
        return Err(invalid("Too many items requested for the BatchWriteItem call"));
    }
    let job = store.clone();
    // All of them in one commit; the service promises less.
    let spent = store.writer.write(move |batch| {
        let mut spent: BTreeMap<String, Spent> = BTreeMap::new();
        let mut places = BTreeSet::new();
        for write in &writes {
            let table = job.usable_in(batch, &write.table)?;
            if !places.insert((write.table.clone(), write.position(&table)?)) {
                return Err(invalid("Provided list of item keys contains duplicates"));
            }
            debug_assert!(matches!(write.deed, Deed::Put(_) | Deed::Delete(_)));
            let outcome = write.carry_out(&job, batch, &table)?;
            spent.entry(write.table.clone()).or_default().add(outcome.spent);
        }
        Ok(spent)
    })?;
    Ok(answer([("UnprocessedItems", Some(json!({}))), ("ConsumedCapacity", wanted.describe_all(&spent))]))
}
