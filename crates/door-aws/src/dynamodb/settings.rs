//! Time to live, tags and point-in-time recovery: what a table's owner sets beside its shape.

use super::{
    DynamoDb,
    definition::{self, Tag},
    fault::{invalid, missing, table_not_found},
    request::{bounded, object, read, table_name},
    schema::{Recovery, TableDescriptor, TimeToLive, seconds},
    store::Store,
};
use crate::{
    AwsError, Call,
    tagging::{Tagged, Tags},
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::sync::Arc;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    table_name: Option<String>,
    time_to_live_specification: Option<TimeToLiveSpecification>,
    point_in_time_recovery_specification: Option<RecoverySpecification>,
    resource_arn: Option<String>,
    tags: Vec<Tag>,
    tag_keys: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TimeToLiveSpecification {
    attribute_name: String,
    enabled: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RecoverySpecification {
    point_in_time_recovery_enabled: bool,
    recovery_period_in_days: Option<i64>,
}

pub fn update_time_to_live(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let name = table_name(call, request.table_name.as_deref(), "tableName")?;
    let wanted = request.time_to_live_specification.ok_or_else(|| missing("timeToLiveSpecification"))?;
    if wanted.attribute_name.is_empty() || wanted.attribute_name.len() > 255 {
        return Err(invalid(
            "1 validation error detected: Value at 'timeToLiveSpecification.attributeName' failed to satisfy constraint: Member must have length between 1 and 255",
        ));
    }
    let answer = json!({ "TimeToLiveSpecification": {
        "Enabled": wanted.enabled,
        "AttributeName": wanted.attribute_name,
    }});
    store.amend(&name, move |table| {
        match (&table.ttl, wanted.enabled) {
            (Some(_), true) => return Err(invalid("TimeToLive is already enabled")),
            (None, false) => return Err(invalid("TimeToLive is already disabled")),
            (Some(ttl), false) if ttl.attribute != wanted.attribute_name => {
                return Err(invalid(format!(
                    "TimeToLive is active on a different AttributeName: current AttributeName is {}",
                    ttl.attribute
                )));
            }
            _ => {}
        }
        let attribute = wanted.attribute_name;
        table.ttl = wanted.enabled.then_some(TimeToLive { attribute, filled: false });
        Ok(())
    })?;
    store.wake.wake();
    Ok(answer)
}

pub fn describe_time_to_live(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let table = named(store, call)?.1;
    Ok(json!({ "TimeToLiveDescription": match &table.ttl {
        None => json!({ "TimeToLiveStatus": "DISABLED" }),
        Some(ttl) => json!({ "TimeToLiveStatus": "ENABLED", "AttributeName": ttl.attribute }),
    }}))
}

fn named(store: &Store, call: &Call) -> Result<(Request, TableDescriptor), AwsError> {
    let request: Request = read(object(call)?)?;
    let name = table_name(call, request.table_name.as_deref(), "tableName")?;
    let table = store.descriptor(&name)?.ok_or_else(|| table_not_found(&name))?;
    Ok((request, table))
}

fn of_arn(call: &Call, request: &Request) -> Result<String, AwsError> {
    let arn = request.resource_arn.as_deref().ok_or_else(|| missing("resourceArn"))?;
    if !arn.starts_with("arn:") {
        return Err(invalid(format!("Invalid TableArn: {arn}")));
    }
    table_name(call, Some(arn), "resourceArn")
}

/// Tags answer with the ARN, where operations on tables answer with the name.
fn no_resource(call: &Call, name: &str) -> AwsError {
    let arn = super::schema::table_arn(&call.region, &call.account, name);
    AwsError::new("ResourceNotFoundException", format!("Requested resource not found: ResourceArn: {arn} not found"))
}

pub fn tag_resource(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let name = of_arn(call, &request)?;
    store.descriptor(&name)?.ok_or_else(|| no_resource(call, &name))?;
    store.amend(&name, move |table| definition::tags(&request.tags, &mut table.tags))?;
    Ok(json!({}))
}

pub fn untag_resource(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let name = of_arn(call, &request)?;
    store.descriptor(&name)?.ok_or_else(|| no_resource(call, &name))?;
    store.amend(&name, move |table| {
        table.tags.retain(|key, _| !request.tag_keys.contains(key));
        Ok(())
    })?;
    Ok(json!({}))
}

pub fn list_tags_of_resource(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let name = of_arn(call, &request)?;
    let table = store.descriptor(&name)?.ok_or_else(|| no_resource(call, &name))?;
    let tags = table.tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value }));
    Ok(json!({ "Tags": tags.collect::<Vec<_>>() }))
}

fn describe_backups(store: &Store, table: &TableDescriptor) -> Json {
    let recovery = match &table.recovery {
        None => json!({ "PointInTimeRecoveryStatus": "DISABLED" }),
        Some(recovery) => {
            let now = store.clock.now();
            json!({
                "PointInTimeRecoveryStatus": "ENABLED",
                "RecoveryPeriodInDays": recovery.days,
                "EarliestRestorableDateTime": seconds(recovery.earliest(now)),
                "LatestRestorableDateTime": seconds(now),
            })
        }
    };
    json!({ "ContinuousBackupsDescription": {
        "ContinuousBackupsStatus": "ENABLED",
        "PointInTimeRecoveryDescription": recovery,
    }})
}

fn no_table(error: AwsError) -> AwsError {
    match error.code.as_str() {
        "ResourceNotFoundException" => AwsError::new("TableNotFoundException", error.message),
        _ => error,
    }
}

pub fn describe_continuous_backups(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let (_, table) = named(store, call).map_err(no_table)?;
    Ok(describe_backups(store, &table))
}

pub fn update_continuous_backups(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let (request, table) = named(store, call).map_err(no_table)?;
    let wanted = request.point_in_time_recovery_specification;
    let wanted = wanted.ok_or_else(|| missing("pointInTimeRecoverySpecification"))?;
    let member = "pointInTimeRecoverySpecification.recoveryPeriodInDays";
    let days = bounded(wanted.recovery_period_in_days, member, 1, i64::from(Recovery::DAYS_MAX))?;
    let days = days.map_or(Recovery::DAYS_MAX, |days| days as u32);
    let now = store.clock.now();
    let table = store.amend(&table.name, move |table| {
        table.recovery = match (wanted.point_in_time_recovery_enabled, &table.recovery) {
            (true, Some(known)) => Some(Recovery { since: known.since, days }),
            (true, None) => Some(Recovery { since: now, days }),
            (false, _) => None,
        };
        Ok(())
    })?;
    store.wake.wake();
    Ok(describe_backups(store, &table))
}

impl Tagged for DynamoDb {
    fn service(&self) -> &'static str {
        "dynamodb"
    }

    fn tagged(&self, call: &Call) -> Result<Vec<(String, Tags)>, AwsError> {
        let tables = self.0.descriptors()?.into_iter();
        Ok(tables.map(|table| (table.arn(&call.region, &call.account), table.tags)).collect())
    }

    fn retag(&self, call: &Call, arn: &str, set: &Tags, remove: &[String]) -> Result<(), AwsError> {
        let name = of_arn(call, &Request { resource_arn: Some(arn.to_owned()), ..Request::default() })?;
        self.0.descriptor(&name)?.ok_or_else(|| no_resource(call, &name))?;
        let tag = |(key, value): (&String, &String)| Tag { key: key.clone(), value: value.clone() };
        let (set, remove): (Vec<Tag>, _) = (set.iter().map(tag).collect(), remove.to_vec());
        let change = move |table: &mut TableDescriptor| {
            table.tags.retain(|key, _| !remove.contains(key));
            definition::tags(&set, &mut table.tags)
        };
        self.0.amend(&name, change).map(drop)
    }
}
