//! Operations on assets, their places in hierarchies, and their properties' aliases.

use super::{
    Sitewise, arn,
    fault::{conflict, exists, invalid, not_found},
    model::{Asset, Model, Property, name, tags, text},
    paged,
    store::{ASSETS, Store, partition},
};
use crate::{Answer, AwsError, Call, json::object};
use axum::http::StatusCode;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// The service's limit of an alias, in bytes.
const ALIAS_BYTES_MAX: usize = 1000;

fn asset_arn(call: &Call, id: &str) -> String {
    arn(call, &format!("asset/{id}"))
}

fn accepted(body: &Json) -> Answer {
    Answer::json(body).with_status(StatusCode::ACCEPTED)
}

/// Names differ among those of one model that are at the top.
fn check_name(service: &Sitewise, call: &Call, asset: &Asset) -> Result<(), AwsError> {
    let same = |other: &Asset| {
        (&other.name, &other.model, &other.parent) == (&asset.name, &asset.model, &asset.parent) && other.id != asset.id
    };
    match service.store.all::<Asset>(ASSETS)?.into_iter().find(same) {
        Some(other) => Err(exists("Asset", &other.name, &other.id, &asset_arn(call, &other.id))),
        None => Ok(()),
    }
}

pub fn create(service: &Sitewise, call: &Call) -> Result<Answer, AwsError> {
    let _alone = service.changes();
    let body = object(call)?;
    let model = service.store.model(&name(&body, "assetModelId")?)?;
    let now = service.store.clock.now();
    let asset = Asset {
        id: crate::dynamodb::new_id()?,
        name: name(&body, "assetName")?,
        description: text(&body, "assetDescription").map(str::to_owned),
        model: model.id,
        created: now,
        updated: now,
        aliases: BTreeMap::new(),
        parent: None,
        tags: tags(&body),
    };
    check_name(service, call, &asset)?;
    service.store.commit(Store::asset_writes(None, Some(&asset))?)?;
    Ok(accepted(&json!({
        "assetId": asset.id,
        "assetArn": asset_arn(call, &asset.id),
        "assetStatus": { "state": "CREATING" },
    })))
}

fn summary(call: &Call, asset: &Asset, model: &Model) -> Json {
    json!({
        "id": asset.id,
        "arn": asset_arn(call, &asset.id),
        "name": asset.name,
        "description": asset.description.clone().unwrap_or_default(),
        "assetModelId": asset.model,
        "creationDate": crate::json::seconds(asset.created),
        "lastUpdateDate": crate::json::seconds(asset.updated),
        "status": { "state": "ACTIVE" },
        "hierarchies": hierarchies(model),
    })
}

fn hierarchies(model: &Model) -> Vec<Json> {
    model.hierarchies.iter().map(|hierarchy| json!({ "id": hierarchy.id, "name": hierarchy.name })).collect()
}

fn listed(service: &Sitewise, call: &Call, all: Vec<Asset>) -> Result<Answer, AwsError> {
    let (page, next) = paged(call, all, |asset| &asset.id, 250)?;
    let mut summaries = Vec::new();
    for asset in &page {
        summaries.push(summary(call, asset, &service.store.model(&asset.model)?));
    }
    let mut answer = json!({ "assetSummaries": summaries });
    if let Some(next) = next {
        answer["nextToken"] = json!(next);
    }
    Ok(Answer::json(&answer))
}

pub fn list(service: &Sitewise, call: &Call) -> Result<Answer, AwsError> {
    let mut all = service.store.all::<Asset>(ASSETS)?;
    match (call.query("assetModelId"), call.query("filter").unwrap_or("ALL")) {
        (_, "TOP_LEVEL") => all.retain(|asset| asset.parent.is_none()),
        (Some(model), "ALL") => {
            service.store.model(model)?;
            all.retain(|asset| asset.model == model);
        }
        (None, "ALL") => return Err(invalid("assetModelId is required when filter is ALL")),
        (_, other) => return Err(invalid(format!("the filter {other} is none of ALL, TOP_LEVEL"))),
    }
    listed(service, call, all)
}

pub fn associated(service: &Sitewise, call: &Call, id: &str) -> Result<Answer, AwsError> {
    let asset = service.store.asset(id)?;
    let mut all = service.store.all::<Asset>(ASSETS)?;
    match (call.query("traversalDirection").unwrap_or("CHILD"), call.query("hierarchyId")) {
        ("PARENT", _) => all.retain(|other| asset.parent.as_ref().is_some_and(|(above, _)| *above == other.id)),
        ("CHILD", Some(hierarchy)) => {
            let place = Some((id.to_owned(), hierarchy.to_owned()));
            all.retain(|other| other.parent == place);
        }
        _ => return Err(invalid("hierarchyId is required when traversalDirection is CHILD")),
    }
    listed(service, call, all)
}

pub fn describe(service: &Sitewise, call: &Call, id: &str) -> Result<Answer, AwsError> {
    let asset = service.store.asset(id)?;
    let model = service.store.model(&asset.model)?;
    let property = |property: &Property| {
        let mut described = property.describe();
        if let Json::Object(members) = &mut described {
            members.remove("type");
            if let Some(alias) = asset.aliases.get(&property.id) {
                members.insert("alias".to_owned(), json!(alias));
            }
        }
        described
    };
    Ok(Answer::json(&json!({
        "assetId": asset.id,
        "assetArn": asset_arn(call, id),
        "assetName": asset.name,
        "assetDescription": asset.description.clone().unwrap_or_default(),
        "assetModelId": asset.model,
        "assetProperties": model.properties.iter().map(property).collect::<Vec<_>>(),
        "assetHierarchies": hierarchies(&model),
        "assetCreationDate": crate::json::seconds(asset.created),
        "assetLastUpdateDate": crate::json::seconds(asset.updated),
        "assetStatus": { "state": "ACTIVE" },
    })))
}

pub fn update(service: &Sitewise, call: &Call, id: &str) -> Result<Answer, AwsError> {
    let _alone = service.changes();
    let before = service.store.asset(id)?;
    let body = object(call)?;
    let after = Asset {
        name: name(&body, "assetName")?,
        description: text(&body, "assetDescription").map(str::to_owned),
        updated: service.store.clock.now(),
        ..before.clone()
    };
    check_name(service, call, &after)?;
    service.store.commit(Store::asset_writes(Some(&before), Some(&after))?)?;
    Ok(accepted(&json!({ "assetStatus": { "state": "UPDATING" } })))
}

pub fn delete(service: &Sitewise, _call: &Call, id: &str) -> Result<Answer, AwsError> {
    let _alone = service.changes();
    let asset = service.store.asset(id)?;
    let below = |other: &Asset| other.parent.as_ref().is_some_and(|(above, _)| above == id);
    if asset.parent.is_some() || service.store.all::<Asset>(ASSETS)?.iter().any(below) {
        return Err(conflict(format!("asset {id} is associated with another: disassociate it first")));
    }
    let model = service.store.model(&asset.model)?;
    for property in &model.properties {
        service.store.drop_values(&partition(id, &property.id))?;
    }
    service.store.commit(Store::asset_writes(Some(&asset), None)?)?;
    Ok(accepted(&json!({ "assetStatus": { "state": "DELETING" } })))
}

/// `attach`: puts the child below the asset; otherwise takes it away from there.
pub fn associate(service: &Sitewise, call: &Call, id: &str, attach: bool) -> Result<Answer, AwsError> {
    let _alone = service.changes();
    let body = object(call)?;
    let (hierarchy, child) = (name(&body, "hierarchyId")?, name(&body, "childAssetId")?);
    let asset = service.store.asset(id)?;
    let model = service.store.model(&asset.model)?;
    let hierarchy = model.hierarchies.iter().find(|known| known.id == hierarchy || known.name == hierarchy);
    let hierarchy = hierarchy.ok_or_else(|| invalid("hierarchyId names no hierarchy of the asset's model"))?;
    let before = service.store.asset(&child)?;
    let place = (asset.id.clone(), hierarchy.id.clone());
    let mut after = before.clone();
    if attach {
        if before.model != hierarchy.child_model {
            return Err(invalid(format!("asset {child} is not of the model that the hierarchy leads to")));
        }
        if before.parent.as_ref().is_some_and(|there| *there != place) {
            return Err(conflict(format!("asset {child} is below another asset: disassociate it first")));
        }
        after.parent = Some(place);
    } else {
        if before.parent != Some(place) {
            return Err(invalid(format!("asset {child} is not below this asset")));
        }
        after.parent = None;
    }
    service.store.commit(Store::asset_writes(Some(&before), Some(&after))?)?;
    Ok(Answer::empty())
}

/// Of an asset by id, or by the name that the asset's model gives it.
pub fn property_of<'a>(model: &'a Model, id: &str) -> Result<&'a Property, AwsError> {
    model.property(id).ok_or_else(|| not_found("Asset property", id))
}

pub fn update_property(service: &Sitewise, call: &Call, id: &str, property: &str) -> Result<Answer, AwsError> {
    let _alone = service.changes();
    let before = service.store.asset(id)?;
    let model = service.store.model(&before.model)?;
    let property = property_of(&model, property)?;
    let body: Map<String, Json> = object(call)?;
    let mut after = before.clone();
    match text(&body, "propertyAlias") {
        None => drop(after.aliases.remove(&property.id)),
        Some(alias) if alias.is_empty() || alias.len() > ALIAS_BYTES_MAX => {
            return Err(invalid(format!("propertyAlias must have 1 to {ALIAS_BYTES_MAX} bytes")));
        }
        Some(alias) => {
            let own = (id.to_owned(), property.id.clone());
            if let Some(other) = service.store.alias(alias)?.filter(|other| *other != own) {
                return Err(exists("The alias", alias, &other.0, &asset_arn(call, &other.0)));
            }
            after.aliases.insert(property.id.clone(), alias.to_owned());
        }
    }
    service.store.commit(Store::asset_writes(Some(&before), Some(&after))?)?;
    Ok(Answer::empty())
}

pub fn describe_property(service: &Sitewise, call: &Call, id: &str, property: &str) -> Result<Answer, AwsError> {
    let asset = service.store.asset(id)?;
    let model = service.store.model(&asset.model)?;
    let property = property_of(&model, property)?;
    let mut described = property.describe();
    if let Some(alias) = asset.aliases.get(&property.id) {
        described["alias"] = json!(alias);
    }
    Ok(Answer::json(&json!({
        "assetId": asset.id,
        "assetName": asset.name,
        "assetModelId": asset.model,
        "assetProperty": described,
        "assetArn": asset_arn(call, id),
    })))
}
