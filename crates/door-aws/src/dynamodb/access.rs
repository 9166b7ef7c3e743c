//! Which tables a request touches, for the policies of access keys.

use super::schema::table_arn;
use crate::{Access, Call};
use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;

/// Members that name a table, or something of one by its ARN.
const NAMES: [&str; 8] = [
    "TableName",
    "TableArn",
    "ResourceArn",
    "SourceTableName",
    "SourceTableArn",
    "TargetTableName",
    "ExportArn",
    "ImportArn",
];

pub fn of(call: &Call) -> Access {
    let action = format!("dynamodb:{}", call.target().unwrap_or("*"));
    let body: Map<String, Json> = serde_json::from_slice(&call.body).unwrap_or_default();
    let mut tables = BTreeSet::new();
    named(&body, &mut tables);
    for member in ["RequestItems", "TableCreationParameters"] {
        match (member, body.get(member)) {
            ("RequestItems", Some(Json::Object(items))) => tables.extend(items.keys().cloned()),
            (_, Some(Json::Object(parameters))) => named(parameters, &mut tables),
            _ => {}
        }
    }
    let actions = body.get("TransactItems").and_then(Json::as_array).into_iter().flatten();
    for action in actions.filter_map(Json::as_object).flat_map(Map::values).filter_map(Json::as_object) {
        named(action, &mut tables);
    }
    let arn = |name: &String| match name.starts_with("arn:") {
        true => name.clone(),
        false => table_arn(&call.region, &call.account, name),
    };
    let mut resources: Vec<String> = tables.iter().map(arn).collect();
    if resources.is_empty() {
        resources.push("*".to_owned());
    }
    // An index is asked for beside its table.
    if let (Some(Json::String(index)), Some(table)) = (body.get("IndexName"), tables.first()) {
        resources = vec![format!("{}/index/{index}", arn(table))];
    }
    Access { action, resources }
}

fn named(members: &Map<String, Json>, tables: &mut BTreeSet<String>) {
    tables.extend(NAMES.iter().filter_map(|name| members.get(*name)?.as_str().map(str::to_owned)));
}
