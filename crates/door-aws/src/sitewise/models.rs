//! Operations on asset models.

use super::{
    Sitewise, arn,
    fault::{conflict, exists, invalid},
    model::{Asset, Model},
    paged,
    store::{ASSETS, MODELS, Store},
};
use crate::{Answer, AwsError, Call, json::object};
use axum::http::StatusCode;
use serde_json::{Value as Json, json};

fn describe_status(state: &str) -> Json {
    json!({ "state": state })
}

fn model_arn(call: &Call, id: &str) -> String {
    arn(call, &format!("asset-model/{id}"))
}

fn accepted(body: &Json) -> Answer {
    Answer::json(body).with_status(StatusCode::ACCEPTED)
}

pub fn create(service: &Sitewise, call: &Call) -> Result<Answer, AwsError> {
    let _alone = service.changes();
    let model = Model::read(&object(call)?, None, service.store.clock.now())?;
    check(service, call, &model)?;
    service.store.commit(vec![Store::write(MODELS, &model.id, Some(&model))?])?;
    Ok(accepted(&json!({
        "assetModelId": model.id,
        "assetModelArn": model_arn(call, &model.id),
        "assetModelStatus": describe_status("CREATING"),
    })))
}

/// Its name is its own, and its hierarchies lead to models that are there.
fn check(service: &Sitewise, call: &Call, model: &Model) -> Result<(), AwsError> {
    let same = |other: &Model| other.name == model.name && other.id != model.id;
    if let Some(other) = service.store.all::<Model>(MODELS)?.into_iter().find(same) {
        return Err(exists("Asset model", &other.name, &other.id, &model_arn(call, &other.id)));
    }
    for hierarchy in &model.hierarchies {
        let below = service.store.model(&hierarchy.child_model)?;
        if below.id == model.id {
            return Err(invalid("a model cannot be below itself"));
        }
    }
    Ok(())
}

pub fn list(service: &Sitewise, call: &Call) -> Result<Answer, AwsError> {
    let all = service.store.all::<Model>(MODELS)?;
    let (page, next) = paged(call, all, |model| &model.id, 250)?;
    let summary = |model: &Model| {
        let mut summary = json!({
            "id": model.id,
            "arn": model_arn(call, &model.id),
            "name": model.name,
            "assetModelType": "ASSET_MODEL",
            "description": model.description.clone().unwrap_or_default(),
            "status": describe_status("ACTIVE"),
        });
        summary["creationDate"] = crate::json::seconds(model.created);
        summary["lastUpdateDate"] = crate::json::seconds(model.updated);
        summary
    };
    let mut answer = json!({ "assetModelSummaries": page.iter().map(summary).collect::<Vec<_>>() });
    if let Some(next) = next {
        answer["nextToken"] = json!(next);
    }
    Ok(Answer::json(&answer))
}

pub fn describe(service: &Sitewise, call: &Call, id: &str) -> Result<Answer, AwsError> {
    let model = service.store.model(id)?;
    Ok(Answer::json(&json!({
        "assetModelId": model.id,
        "assetModelArn": model_arn(call, id),
        "assetModelName": model.name,
        "assetModelType": "ASSET_MODEL",
        "assetModelDescription": model.description.clone().unwrap_or_default(),
        "assetModelProperties": model.describe_properties(),
        "assetModelHierarchies": model.describe_hierarchies(),
        "assetModelCreationDate": crate::json::seconds(model.created),
        "assetModelLastUpdateDate": crate::json::seconds(model.updated),
        "assetModelStatus": describe_status("ACTIVE"),
    })))
}

pub fn properties(service: &Sitewise, call: &Call, id: &str) -> Result<Answer, AwsError> {
    let model = service.store.model(id)?;
    let (page, next) = paged(call, model.properties, |property| &property.id, 250)?;
    let mut answer =
        json!({ "assetModelPropertySummaries": page.iter().map(|property| property.describe()).collect::<Vec<_>>() });
    if let Some(next) = next {
        answer["nextToken"] = json!(next);
    }
    Ok(Answer::json(&answer))
}

/// Properties keep their ids by their names; one that is left out goes with its values.
pub fn update(service: &Sitewise, call: &Call, id: &str) -> Result<Answer, AwsError> {
    let _alone = service.changes();
    let before = service.store.model(id)?;
    let after = Model::read(&object(call)?, Some(&before), service.store.clock.now())?;
    check(service, call, &after)?;
    let gone: Vec<_> = before.properties.iter().filter(|property| after.property(&property.id).is_none()).collect();
    let assets = assets_of(service, id)?;
    for hierarchy in before.hierarchies.iter().filter(|known| !after.hierarchies.iter().any(|kept| kept.id == known.id))
    {
        let used = |asset: &Asset| asset.parent.as_ref().is_some_and(|(_, by)| *by == hierarchy.id);
        if service.store.all::<Asset>(ASSETS)?.iter().any(used) {
            return Err(conflict(format!("the hierarchy {} is in use: disassociate its assets first", hierarchy.name)));
        }
    }
    let mut writes = vec![Store::write(MODELS, id, Some(&after))?];
    for asset in &assets {
        let mut kept = asset.clone();
        kept.aliases.retain(|property, _| after.property(property).is_some());
        writes.extend(Store::asset_writes(Some(asset), Some(&kept))?);
    }
    service.store.commit(writes)?;
    for asset in &assets {
        for property in &gone {
            service.store.drop_values(&super::store::partition(&asset.id, &property.id))?;
        }
    }
    Ok(accepted(&json!({ "assetModelStatus": describe_status("UPDATING") })))
}

fn assets_of(service: &Sitewise, model: &str) -> Result<Vec<Asset>, AwsError> {
    let mut assets = service.store.all::<Asset>(ASSETS)?;
    assets.retain(|asset| asset.model == model);
    Ok(assets)
}

pub fn delete(service: &Sitewise, _call: &Call, id: &str) -> Result<Answer, AwsError> {
    let _alone = service.changes();
    let model = service.store.model(id)?;
    if let Some(asset) = assets_of(service, id)?.first() {
        return Err(conflict(format!("asset {} is of this model: delete it first", asset.id)));
    }
    let above = |other: &Model| other.hierarchies.iter().any(|hierarchy| hierarchy.child_model == id);
    if let Some(other) = service.store.all::<Model>(MODELS)?.into_iter().find(above) {
        return Err(conflict(format!("asset model {} has a hierarchy of it: change that first", other.id)));
    }
    service.store.commit(vec![Store::write::<Model>(MODELS, &model.id, None)?])?;
    Ok(accepted(&json!({ "assetModelStatus": describe_status("DELETING") })))
}
