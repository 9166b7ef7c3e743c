//! CreateTable, DescribeTable, UpdateTable, DeleteTable, ListTables, DescribeLimits, DescribeEndpoints.

use super::{
    definition::{self, AttributeDefinition, Definition, IndexDefinition, Throughput},
    fault::{internal, invalid, not_supported, table_not_found},
    request::{bounded, choice, object, read, table_name},
    schema::{Billing, Index, State, TableDescriptor},
    store::Store,
};
use crate::{AwsError, Call};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

const NAMES_MAX: i64 = 100;

pub fn describe(store: &Store, call: &Call, table: &TableDescriptor) -> Result<Json, AwsError> {
    Ok(table.describe(&call.region, &call.account, &store.counts(table)?))
}

/// What stands in the way of making a table of this name.
pub fn taken(name: &str) -> AwsError {
    AwsError::new("ResourceInUseException", format!("Table already exists: {name}"))
}

/// Makes a table known. A results table is made where the pipeline looks first: should the second step fail, asking
/// for it again makes it whole.
pub fn add(store: &Arc<Store>, table: TableDescriptor) -> Result<(), AwsError> {
    let job = store.clone();
    if table.results && store.descriptor(&table.name)?.is_none() {
        store.results.create(&table.name).map_err(invalid)?;
        return store.writer.write(move |batch| Store::keep(batch, &table));
    }
    store.writer.write(move |batch| match job.descriptor_in(batch, &table.name)? {
        Some(_) => Err(taken(&table.name)),
        None => Store::keep(batch, &table),
    })
}

pub fn create_table(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let definition: Definition = read(object(call)?)?;
    let table = definition.table(store.clock.now(), &*store.results)?;
    add(store, table.clone())?;
    let mut described = describe(store, call, &table)?;
    described["TableStatus"] = json!("CREATING");
    Ok(json!({ "TableDescription": described }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Named {
    table_name: Option<String>,
}

pub fn describe_table(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Named = read(object(call)?)?;
    let name = table_name(call, request.table_name.as_deref(), "tableName")?;
    let table = store.descriptor(&name)?.ok_or_else(|| table_not_found(&name))?;
    Ok(json!({ "Table": describe(store, call, &table)? }))
}

pub fn delete_table(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Named = read(object(call)?)?;
    let name = table_name(call, request.table_name.as_deref(), "tableName")?;
    let table = store.amend(&name, |table| {
        if table.deletion_protected {
            return Err(invalid(format!(
                "Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first. Table: {}",
                table.name
            )));
        }
        table.state = State::Deleting;
        Ok(())
    })?;
    if table.results {
        store.results.delete(&name).map_err(internal)?;
    }
    store.wake.wake();
    Ok(json!({ "TableDescription": describe(store, call, &table)? }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Listing {
    exclusive_start_table_name: Option<String>,
    limit: Option<i64>,
}

pub fn list_tables(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Listing = read(object(call)?)?;
    let limit = bounded(request.limit, "limit", 1, NAMES_MAX)?.unwrap_or(NAMES_MAX as usize);
    let after = request.exclusive_start_table_name.unwrap_or_default();
    let mut names: Vec<String> = store.names()?.into_iter().filter(|name| *name > after).collect();
    let more = names.len() > limit;
    names.truncate(limit);
    let mut answer = json!({ "TableNames": names });
    if more {
        answer["LastEvaluatedTableName"] = json!(names.last());
    }
    Ok(answer)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Changes {
    table_name: Option<String>,
    attribute_definitions: Vec<AttributeDefinition>,
    billing_mode: Option<String>,
    provisioned_throughput: Option<Throughput>,
    global_secondary_index_updates: Option<Vec<Map<String, Json>>>,
    deletion_protection_enabled: Option<bool>,
    table_class: Option<String>,
    stream_specification: Option<Map<String, Json>>,
    #[serde(rename = "SSESpecification")]
    sse_specification: Option<Map<String, Json>>,
    replica_updates: Option<Vec<Map<String, Json>>>,
}

/// There is no second site to hold a replica.
fn refuse_replicas(updates: &[Map<String, Json>]) -> AwsError {
    let region = |change: &Map<String, Json>| change.get("RegionName").and_then(Json::as_str).unwrap_or("").to_owned();
    let Some((kind, change)) = updates.iter().flatten().next() else {
        return invalid("ReplicaUpdates names no action");
    };
    let region = change.as_object().map(region).unwrap_or_default();
    invalid(match kind.as_str() {
        "Delete" => format!(
            "Replica specified in the Replica Update or Replica Delete action of the request was not found: this table has no replica in {region}"
        ),
        _ => format!(
            "Failed to create a replica in {region}: this installation has joined no other site, so there is nowhere to keep one"
        ),
    })
}

pub fn update_table(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let changes: Changes = read(object(call)?)?;
    let name = table_name(call, changes.table_name.as_deref(), "tableName")?;
    if let Some(replicas) = &changes.replica_updates {
        store.descriptor(&name)?.ok_or_else(|| table_not_found(&name))?;
        return Err(refuse_replicas(replicas));
    }
    definition::check_stream(changes.stream_specification.as_ref())?;
    definition::check_encryption(changes.sse_specification.as_ref())?;
    let table = store.amend(&name, move |table| changes.make(table))?;
    store.wake.wake();
    Ok(json!({ "TableDescription": describe(store, call, &table)? }))
}

impl Changes {
    fn make(&self, table: &mut TableDescriptor) -> Result<(), AwsError> {
        if table.status() != "ACTIVE" {
            return Err(AwsError::new(
                "ResourceInUseException",
                format!("Attempt to change a resource which is still in use: Table is being updated: {}", table.name),
            ));
        }
        let before = table.clone();
        if self.billing_mode.is_some() || self.provisioned_throughput.is_some() {
            let mode = self.billing_mode.as_deref().or(match table.billing {
                Billing::OnDemand => Some("PAY_PER_REQUEST"),
                Billing::Provisioned { .. } => None,
            });
            table.billing = definition::billing(mode, self.provisioned_throughput.as_ref())?;
        }
        if let Some(protected) = self.deletion_protection_enabled {
            table.deletion_protected = protected;
        }
        if let Some(class) = &self.table_class {
            let class = choice(Some(class), "", "tableClass", &["STANDARD", "STANDARD_INFREQUENT_ACCESS"])?;
            table.class = Some(class.to_owned());
        }
        if !self.attribute_definitions.is_empty() {
            for part in definition::attributes(&self.attribute_definitions)? {
                if !table.attributes.iter().any(|known| known.name == part.name) {
                    table.attributes.push(part);
                }
            }
        }
        for update in self.global_secondary_index_updates.iter().flatten() {
            change_index(table, update)?;
        }
        // Definitions that no key uses any more go, as nothing else could use them.
        let keys: Vec<String> = std::iter::once(&table.key)
            .chain(table.indexes.iter().map(|index| &index.key))
            .flat_map(|key| key.parts().map(|part| part.name.clone()))
            .collect();
        table.attributes.retain(|part| keys.contains(&part.name));
        definition::check_index_numbers(&table.indexes)?;
        definition::check_results(table)?;
        if *table == before && self.stream_specification.is_none() && self.sse_specification.is_none() {
            return Err(invalid(
                "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates or SSESpecification or ReplicaUpdates is required",
            ));
        }
        Ok(())
    }
}

fn change_index(table: &mut TableDescriptor, update: &Map<String, Json>) -> Result<(), AwsError> {
    let mut changes = update.iter().filter(|(_, change)| !change.is_null());
    let (Some((kind, change)), None) = (changes.next(), changes.next()) else {
        return Err(invalid(
            "One or more parameter values were invalid: Only one global secondary index update per index is allowed simultaneously",
        ));
    };
    let change: IndexDefinition = serde_json::from_value(change.clone())
        .map_err(|error| AwsError::new("SerializationException", format!("The request cannot be read: {error}")))?;
    let name = change.index_name.clone().unwrap_or_default();
    if kind == "Create" {
        let mut index = definition::index(&change, false, &table.key, &table.attributes, table.billing)?;
        if table.indexes.iter().any(|known| known.name == index.name) {
            return Err(invalid(format!("Attempting to create an index which already exists: {}", index.name)));
        }
        index.filled = false;
        table.indexes.push(index);
        return Ok(());
    }
    let global = |index: &&mut Index| index.name == name && !index.local;
    let Some(index) = table.indexes.iter_mut().find(global) else {
        return Err(AwsError::new(
            "ResourceNotFoundException",
            format!("Requested resource not found: The table does not have the specified index: {name}"),
        ));
    };
    match kind.as_str() {
        "Delete" => index.deleting = true,
        "Update" => match definition::throughput(change.provisioned_throughput.as_ref())? {
            Some(units) => index.throughput = Some(units),
            None => return Err(not_supported("This update of an index", "only its ProvisionedThroughput can change")),
        },
        other => return Err(not_supported(&format!("The index update {other}"), "use Create, Update or Delete")),
    }
    Ok(())
}

/// Kilter throttles nobody; these are the service's own numbers, which clients plan with.
pub fn describe_limits(_store: &Arc<Store>, _call: &Call) -> Result<Json, AwsError> {
    Ok(json!({
        "AccountMaxReadCapacityUnits": 80_000,
        "AccountMaxWriteCapacityUnits": 80_000,
        "TableMaxReadCapacityUnits": 40_000,
        "TableMaxWriteCapacityUnits": 40_000,
    }))
}

/// The endpoint that was asked.
pub fn describe_endpoints(_store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let address = call.header("host").unwrap_or("localhost");
    Ok(json!({ "Endpoints": [{ "Address": address, "CachePeriodInMinutes": 1440 }] }))
}
