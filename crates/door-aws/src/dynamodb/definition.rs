//! What a request says a table or an index shall be, checked.

use super::{
    fault::{constraint, invalid, missing, not_supported},
    key::{KeyPart, KeySchema, KeyType},
    request::{check_name, choice},
    schema::{Billing, Index, Projected, State, TableDescriptor},
    store::{ResultTables, new_id},
};
use crate::AwsError;
use kilter_core::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

/// The service's limits.
const GLOBAL_INDEXES_MAX: usize = 20;
const LOCAL_INDEXES_MAX: usize = 5;
const TAGS_MAX: usize = 50;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Definition {
    pub table_name: Option<String>,
    pub attribute_definitions: Vec<AttributeDefinition>,
    pub key_schema: Vec<KeyElement>,
    pub billing_mode: Option<String>,
    pub provisioned_throughput: Option<Throughput>,
    pub global_secondary_indexes: Option<Vec<IndexDefinition>>,
    pub local_secondary_indexes: Option<Vec<IndexDefinition>>,
    pub tags: Option<Vec<Tag>>,
    pub deletion_protection_enabled: Option<bool>,
    pub table_class: Option<String>,
    pub stream_specification: Option<Map<String, Json>>,
    #[serde(rename = "SSESpecification")]
    pub sse_specification: Option<Map<String, Json>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttributeDefinition {
    pub attribute_name: String,
    pub attribute_type: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct KeyElement {
    pub attribute_name: String,
    pub key_type: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Throughput {
    pub read_capacity_units: i64,
    pub write_capacity_units: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IndexDefinition {
    pub index_name: Option<String>,
    pub key_schema: Vec<KeyElement>,
    pub projection: Option<ProjectionDefinition>,
    pub provisioned_throughput: Option<Throughput>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ProjectionDefinition {
    pub projection_type: Option<String>,
    pub non_key_attributes: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Tag {
    pub key: String,
    pub value: String,
}

fn rule(what: impl std::fmt::Display) -> AwsError {
    invalid(format!("One or more parameter values were invalid: {what}"))
}

pub fn attributes(definitions: &[AttributeDefinition]) -> Result<Vec<KeyPart>, AwsError> {
    let mut seen = BTreeSet::new();
    let mut parts = Vec::new();
    for definition in definitions {
        let kind = match definition.attribute_type.as_str() {
            "S" => KeyType::S,
            "N" => KeyType::N,
            "B" => KeyType::B,
            other => {
                let member = "attributeDefinitions.1.member.attributeType";
                return Err(constraint(other, member, "Member must satisfy enum value set: [B, N, S]"));
            }
        };
        if !seen.insert(&definition.attribute_name) {
            return Err(rule(format_args!(
                "Duplicate AttributeName in AttributeDefinitions: {}",
                definition.attribute_name
            )));
        }
        parts.push(KeyPart { name: definition.attribute_name.clone(), kind });
    }
    Ok(parts)
}

pub fn key_schema(elements: &[KeyElement], attributes: &[KeyPart]) -> Result<KeySchema, AwsError> {
    let part = |element: &KeyElement| {
        attributes.iter().find(|part| part.name == element.attribute_name).cloned().ok_or_else(|| {
            let listed = |names: Vec<&str>| names.join(", ");
            rule(format_args!(
                "Some index key attributes are not defined in AttributeDefinitions. Keys: [{}], AttributeDefinitions: [{}]",
                listed(elements.iter().map(|element| element.attribute_name.as_str()).collect()),
                listed(attributes.iter().map(|part| part.name.as_str()).collect())
            ))
        })
    };
    match elements {
        [] => Err(invalid(
            "1 validation error detected: Value '[]' at 'keySchema' failed to satisfy constraint: Member must have length greater than or equal to 1",
        )),
        [hash] if hash.key_type == "HASH" => Ok(KeySchema { hash: part(hash)?, range: None }),
        [hash, range] if hash.key_type == "HASH" && range.key_type == "RANGE" => {
            if hash.attribute_name == range.attribute_name {
                return Err(invalid("Both the Hash Key and the Range Key element in the KeySchema have the same name"));
            }
            Ok(KeySchema { hash: part(hash)?, range: Some(part(range)?) })
        }
        [first, ..] if first.key_type != "HASH" => {
            Err(invalid("Invalid KeySchema: The first KeySchemaElement is not a HASH key type"))
        }
        [_, second] if second.key_type != "RANGE" => {
            Err(invalid("Invalid KeySchema: The second KeySchemaElement is not a RANGE key type"))
        }
        _ => Err(invalid(
            "1 validation error detected: Value at 'keySchema' failed to satisfy constraint: Member must have length less than or equal to 2",
        )),
    }
}

pub fn throughput(given: Option<&Throughput>) -> Result<Option<(u64, u64)>, AwsError> {
    let Some(given) = given else { return Ok(None) };
    let units = |value: i64, member: &str| {
        u64::try_from(value).ok().filter(|units| *units > 0).ok_or_else(|| {
            let member = format!("provisionedThroughput.{member}");
            constraint(&value.to_string(), &member, "Member must have value greater than or equal to 1")
        })
    };
    let read = units(given.read_capacity_units, "readCapacityUnits")?;
    Ok(Some((read, units(given.write_capacity_units, "writeCapacityUnits")?)))
}

pub fn billing(mode: Option<&str>, given: Option<&Throughput>) -> Result<Billing, AwsError> {
    let mode = choice(mode, "PROVISIONED", "billingMode", &["PROVISIONED", "PAY_PER_REQUEST"])?;
    match (mode, throughput(given)?) {
        ("PROVISIONED", Some((read, write))) => Ok(Billing::Provisioned { read, write }),
        ("PROVISIONED", None) => {
            Err(rule("ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED"))
        }
        (_, Some(_)) => Err(rule(
            "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST",
        )),
        (_, None) => Ok(Billing::OnDemand),
    }
}

pub fn index(
    definition: &IndexDefinition,
    local: bool,
    table: &KeySchema,
    attributes: &[KeyPart],
    billing: Billing,
) -> Result<Index, AwsError> {
    let name = definition.index_name.as_deref().ok_or_else(|| missing("indexName"))?;
    check_name(name, "indexName")?;
    let key = key_schema(&definition.key_schema, attributes)?;
    if local && key.hash != table.hash {
        return Err(rule(format_args!(
            "Index KeySchema does not have the same leading hash key as table KeySchema for index: {name}. index hash key: {}, table hash key: {}",
            key.hash.name, table.hash.name
        )));
    }
    if local && key.range.is_none() {
        return Err(rule(format_args!("Index KeySchema does not have a range key for index: {name}")));
    }
    if local && table.range.is_none() {
        return Err(rule(
            "Table KeySchema does not have a range key, which is required when specifying a LocalSecondaryIndex",
        ));
    }
    let projection = definition.projection.as_ref().ok_or_else(|| rule("Unknown ProjectionType: null"))?;
    let names = projection.non_key_attributes.clone();
    let projected = match (projection.projection_type.as_deref(), names) {
        (Some("ALL"), None) => Projected::All,
        (Some("KEYS_ONLY"), None) => Projected::KeysOnly,
        (Some("INCLUDE"), Some(names)) if !names.is_empty() => Projected::Include(names),
        (Some("INCLUDE"), _) => {
            return Err(rule("ProjectionType is INCLUDE, but NonKeyAttributes is not specified"));
        }
        (Some(kind @ ("ALL" | "KEYS_ONLY")), Some(_)) => {
            return Err(rule(format_args!("ProjectionType is {kind}, but NonKeyAttributes is specified")));
        }
        (other, _) => return Err(rule(format_args!("Unknown ProjectionType: {}", other.unwrap_or("null")))),
    };
    let units = throughput(definition.provisioned_throughput.as_ref())?;
    match (local, billing, units) {
        (true, _, Some(_)) => Err(rule("ProvisionedThroughput cannot be specified for a local index")),
        (false, Billing::OnDemand, Some(_)) => Err(rule(format_args!(
            "ProvisionedThroughput should not be specified for index: {name} when BillingMode is PAY_PER_REQUEST"
        ))),
        (false, Billing::Provisioned { .. }, None) => {
            Err(rule(format_args!("ProvisionedThroughput is not specified for index: {name}")))
        }
        _ => {
            Ok(Index { name: name.to_owned(), key, projected, local, throughput: units, filled: true, deleting: false })
        }
    }
}

pub fn tags(given: &[Tag], there: &mut BTreeMap<String, String>) -> Result<(), AwsError> {
    for tag in given {
        if tag.key.is_empty() || tag.key.chars().count() > 128 || tag.value.chars().count() > 256 {
            return Err(rule("A tag's key has 1 to 128 characters and its value at most 256"));
        }
        if tag.key.to_ascii_lowercase().starts_with("aws:") {
            return Err(rule("Tag keys cannot begin with aws:"));
        }
        there.insert(tag.key.clone(), tag.value.clone());
    }
    if there.len() > TAGS_MAX {
        return Err(rule(format_args!("A table cannot have more than {TAGS_MAX} tags")));
    }
    Ok(())
}

/// Every attribute that is defined must be a key of something.
pub fn check_attributes(table: &TableDescriptor) -> Result<(), AwsError> {
    let keys: BTreeSet<&str> = std::iter::once(&table.key)
        .chain(table.indexes.iter().map(|index| &index.key))
        .flat_map(|key| key.parts().map(|part| part.name.as_str()))
        .collect();
    if keys.len() == table.attributes.len() {
        return Ok(());
    }
    Err(rule(
        "Number of attributes in KeySchema does not exactly match number of attributes defined in AttributeDefinitions",
    ))
}

pub fn check_encryption(given: Option<&Map<String, Json>>) -> Result<(), AwsError> {
    match given.and_then(|given| given.get("SSEType")).and_then(Json::as_str) {
        Some("KMS") => {
            Err(not_supported("SSEType KMS", "there is no key management service; leave SSESpecification out"))
        }
        _ => Ok(()),
    }
}

pub fn check_stream(given: Option<&Map<String, Json>>) -> Result<(), AwsError> {
    match given.and_then(|given| given.get("StreamEnabled")).and_then(Json::as_bool) {
        Some(true) => Err(not_supported(
            "StreamSpecification",
            "a tenant's results can be followed on the console's live events; leave it out",
        )),
        _ => Ok(()),
    }
}

impl Definition {
    pub fn table(&self, now: Timestamp, results: &dyn ResultTables) -> Result<TableDescriptor, AwsError> {
        let name = self.table_name.clone().ok_or_else(|| missing("tableName"))?;
        check_name(&name, "tableName")?;
        check_stream(self.stream_specification.as_ref())?;
        check_encryption(self.sse_specification.as_ref())?;
        let attributes = attributes(&self.attribute_definitions)?;
        let key = key_schema(&self.key_schema, &attributes)?;
        let billing = billing(self.billing_mode.as_deref(), self.provisioned_throughput.as_ref())?;
        let class = self.table_class.as_deref().map(|class| {
            choice(Some(class), "", "tableClass", &["STANDARD", "STANDARD_INFREQUENT_ACCESS"]).map(str::to_owned)
        });
        let mut indexes: Vec<Index> = Vec::new();
        for (definitions, local) in [(&self.local_secondary_indexes, true), (&self.global_secondary_indexes, false)] {
            for definition in definitions.iter().flatten() {
                let index = index(definition, local, &key, &attributes, billing)?;
                if indexes.iter().any(|known| known.name == index.name) {
                    return Err(rule(format_args!("Duplicate index name: {}", index.name)));
                }
                indexes.push(index);
            }
        }
        check_index_numbers(&indexes)?;
        let mut table = TableDescriptor {
            results: results.is_result_table(&name),
            name,
            id: new_id()?,
            created: now,
            key,
            attributes,
            billing,
            indexes,
            state: State::Active,
            ttl: None,
            tags: BTreeMap::new(),
            recovery: None,
            deletion_protected: self.deletion_protection_enabled.unwrap_or(false),
            class: class.transpose()?,
            restored: None,
        };
        tags(self.tags.as_deref().unwrap_or_default(), &mut table.tags)?;
        check_attributes(&table)?;
        check_results(&table)?;
        Ok(table)
    }
}

pub fn check_index_numbers(indexes: &[Index]) -> Result<(), AwsError> {
    for (local, most, kind) in [(true, LOCAL_INDEXES_MAX, "Local"), (false, GLOBAL_INDEXES_MAX, "Global")] {
        if indexes.iter().filter(|index| index.local == local).count() > most {
            return Err(rule(format_args!("{kind}SecondaryIndex count exceeds the per-table limit of {most}")));
        }
    }
    Ok(())
}

/// The pipeline writes rows under two texts, and into no index.
pub fn check_results(table: &TableDescriptor) -> Result<(), AwsError> {
    if !table.results {
        return Ok(());
    }
    let text = |part: &KeyPart, name: &str| part.name == name && part.kind == KeyType::S;
    if !text(&table.key.hash, "pk") || !table.key.range.as_ref().is_some_and(|range| text(range, "sk")) {
        return Err(rule(format_args!(
            "{} is where a tenant's results are kept: its keys are pk (HASH, S) and sk (RANGE, S)",
            table.name
        )));
    }
    if !table.indexes.is_empty() {
        return Err(not_supported(
            "A secondary index on a tenant's results table",
            "query it by thing (pk) and time (sk), or export it",
        ));
    }
    Ok(())
}
