//! IoT SiteWise: asset models, assets in hierarchies, and the values of their properties.

mod assets;
mod compute;
mod fault;
mod formula;
mod model;
mod models;
mod store;
mod values;

#[cfg(test)]
mod tests;

pub use formula::Formula;

use crate::{
    Access, Answer, AwsError, Call, Service,
    rest::route,
    tagging::{Tagged, Tags},
};
use axum::http::StatusCode;
use fault::{internal, invalid};
use futures::{FutureExt, future::BoxFuture};
use kilter_core::ports::{
    action::{ActionCall, ActionError, ActionTarget},
    clock::Clock,
    table::Table,
};
use serde_json::{Map, Value as Json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::Store;
use values::Asked;

#[derive(Clone)]
pub struct Sitewise {
    store: Arc<Store>,
}

type Operation = fn(&Sitewise, &Call, &[String]) -> Result<Answer, AwsError>;

/// Method, path, operation; of paths that both fit the first counts.
const ROUTES: [(&str, &str, &str, Operation); 26] = [
    ("POST", "/asset-models", "CreateAssetModel", |s, c, _| models::create(s, c)),
    ("GET", "/asset-models", "ListAssetModels", |s, c, _| models::list(s, c)),
    ("GET", "/asset-models/{id}", "DescribeAssetModel", |s, c, p| models::describe(s, c, &p[0])),
    ("PUT", "/asset-models/{id}", "UpdateAssetModel", |s, c, p| models::update(s, c, &p[0])),
    ("DELETE", "/asset-models/{id}", "DeleteAssetModel", |s, c, p| models::delete(s, c, &p[0])),
    ("GET", "/asset-models/{id}/properties", "ListAssetModelProperties", |s, c, p| models::properties(s, c, &p[0])),
    ("POST", "/assets", "CreateAsset", |s, c, _| assets::create(s, c)),
    ("GET", "/assets", "ListAssets", |s, c, _| assets::list(s, c)),
    ("GET", "/assets/{id}", "DescribeAsset", |s, c, p| assets::describe(s, c, &p[0])),
    ("PUT", "/assets/{id}", "UpdateAsset", |s, c, p| assets::update(s, c, &p[0])),
    ("DELETE", "/assets/{id}", "DeleteAsset", |s, c, p| assets::delete(s, c, &p[0])),
    ("POST", "/assets/{id}/associate", "AssociateAssets", |s, c, p| assets::associate(s, c, &p[0], true)),
    ("POST", "/assets/{id}/disassociate", "DisassociateAssets", |s, c, p| assets::associate(s, c, &p[0], false)),
    ("GET", "/assets/{id}/hierarchies", "ListAssociatedAssets", |s, c, p| assets::associated(s, c, &p[0])),
    ("PUT", "/assets/{id}/properties/{property}", "UpdateAssetProperty", |s, c, p| {
        assets::update_property(s, c, &p[0], &p[1])
    }),
    ("GET", "/assets/{id}/properties/{property}", "DescribeAssetProperty", |s, c, p| {
        assets::describe_property(s, c, &p[0], &p[1])
    }),
    ("POST", "/properties", "BatchPutAssetPropertyValue", |s, c, _| values::put(s, c)),
    ("GET", "/properties/latest", "GetAssetPropertyValue", |s, c, _| single(s, c, values::latest)),
    ("GET", "/properties/history", "GetAssetPropertyValueHistory", |s, c, _| single(s, c, values::history)),
    ("GET", "/properties/aggregates", "GetAssetPropertyAggregates", |s, c, _| single(s, c, values::aggregates)),
    ("POST", "/properties/batch/latest", "BatchGetAssetPropertyValue", |s, c, _| values::batch(s, c, values::latest)),
    ("POST", "/properties/batch/history", "BatchGetAssetPropertyValueHistory", |s, c, _| {
        values::batch(s, c, values::history)
    }),
    ("POST", "/properties/batch/aggregates", "BatchGetAssetPropertyAggregates", |s, c, _| {
        values::batch(s, c, values::aggregates)
    }),
    ("GET", "/tags", "ListTagsForResource", |s, c, _| tags(s, c)),
    ("POST", "/tags", "TagResource", |s, c, _| tags(s, c)),
    ("DELETE", "/tags", "UntagResource", |s, c, _| tags(s, c)),
];

fn single(
    service: &Sitewise,
    call: &Call,
    one: fn(&Sitewise, &Asked) -> Result<Json, AwsError>,
) -> Result<Answer, AwsError> {
    one(service, &Asked::of_query(call)).map(|answer| Answer::json(&answer))
}

fn found(call: &Call) -> Option<(&'static str, Operation, Vec<String>)> {
    ROUTES
        .iter()
        .find_map(|(method, pattern, name, operation)| Some((*name, *operation, route(call, method, pattern)?)))
}

fn arn(call: &Call, resource: &str) -> String {
    call.arn("iotsitewise", resource)
}

/// A page of what is listed by id: `maxResults` and `nextToken` of the query.
fn paged<T>(
    call: &Call,
    all: Vec<T>,
    id: impl Fn(&T) -> &str,
    most: usize,
) -> Result<(Vec<T>, Option<String>), AwsError> {
    let limit = match call.query("maxResults").map(str::parse) {
        None => 50,
        Some(Ok(limit)) if (1..=most).contains(&limit) => limit,
        Some(_) => return Err(invalid(format!("maxResults must lie between 1 and {most}"))),
    };
    let after = call.query("nextToken").unwrap_or_default();
    // Ids are random, so their order is as good as any, but for what is listed in an order of its own.
    let from = all.iter().position(|one| id(one) == after).map_or(0, |at| at + 1);
    let mut rest: Vec<T> = all.into_iter().skip(from).collect();
    let more = rest.len() > limit;
    rest.truncate(limit);
    let token = rest.last().filter(|_| more).map(|last| id(last).to_owned());
    Ok((rest, token))
}

/// Of a model or an asset, by its ARN.
fn tags(service: &Sitewise, call: &Call) -> Result<Answer, AwsError> {
    let of = call.query("resourceArn").ok_or_else(|| invalid("resourceArn must not be null"))?;
    let given = crate::json::object(call)?;
    let gone = |key: &String| call.method == "DELETE" && call.query.contains(&("tagKeys".to_owned(), key.clone()));
    let changed = retag(service, call, of, |tags| {
        tags.extend(model::tags(&given));
        tags.retain(|key, _| !gone(key));
    })?;
    Ok(Answer::json(&serde_json::json!({ "tags": changed })))
}

/// Changes the tags of what an ARN names; answers them.
fn retag(service: &Sitewise, call: &Call, of: &str, change: impl Fn(&mut Tags)) -> Result<Tags, AwsError> {
    let place = of.strip_prefix(&arn(call, "")).and_then(|resource| resource.split_once('/'));
    let _alone = service.changes();
    Ok(match place {
        Some(("asset-model", id)) => {
            let mut model = service.store.model(id)?;
            change(&mut model.tags);
            service.store.commit(vec![Store::write(store::MODELS, id, Some(&model))?])?;
            model.tags
        }
        Some(("asset", id)) => {
            let before = service.store.asset(id)?;
            let mut after = before.clone();
            change(&mut after.tags);
            service.store.commit(Store::asset_writes(Some(&before), Some(&after))?)?;
            after.tags
        }
        _ => return Err(fault::not_found("Resource", of)),
    })
}

impl Tagged for Sitewise {
    fn service(&self) -> &'static str {
        "iotsitewise"
    }

    fn tagged(&self, call: &Call) -> Result<Vec<(String, Tags)>, AwsError> {
        let models: Vec<model::Model> = self.store.all(store::MODELS)?;
        let assets: Vec<model::Asset> = self.store.all(store::ASSETS)?;
        let models = models.into_iter().map(|model| (arn(call, &format!("asset-model/{}", model.id)), model.tags));
        let assets = assets.into_iter().map(|asset| (arn(call, &format!("asset/{}", asset.id)), asset.tags));
        Ok(models.chain(assets).collect())
    }

    fn retag(&self, call: &Call, arn: &str, set: &Tags, remove: &[String]) -> Result<(), AwsError> {
        let change = |tags: &mut Tags| {
            tags.extend(set.clone());
            tags.retain(|key, _| !remove.contains(key));
        };
        retag(self, call, arn, change).map(drop)
    }
}

impl Sitewise {
    pub fn new(table: Arc<dyn Table>, clock: Arc<dyn Clock>) -> Self {
        Self { store: Arc::new(Store { table, clock, changes: Mutex::default() }) }
    }

    fn changes(&self) -> MutexGuard<'_, ()> {
        self.store.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request. Blocking.
    pub fn answer(&self, call: &Call) -> Result<Answer, AwsError> {
        match found(call) {
            Some((_, operation, parts)) => operation(self, call, &parts),
            None => Err(AwsError::new(
                "UnknownOperationException",
                format!(
                    "{} {:.200} is no operation that is carried out here; the guide lists those that are",
                    call.method, call.path
                ),
            )
            .with_status(StatusCode::NOT_FOUND)),
        }
    }
}

impl Service for Sitewise {
    fn name(&self) -> &'static str {
        "iotsitewise"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, AwsError>> {
        let (service, call) = (self.clone(), call.clone());
        async move {
            let answered = tokio::task::spawn_blocking(move || service.answer(&call)).await;
            answered.map_err(|_| internal("the operation has failed; the log says why"))?
        }
        .boxed()
    }

    fn access(&self, call: &Call) -> Access {
        let (name, parts) = found(call).map_or(("*", Vec::new()), |(name, _, parts)| (name, parts));
        let kind = if call.path.starts_with("/asset-models") { "asset-model" } else { "asset" };
        let resource = parts.first().map_or_else(|| "*".to_owned(), |id| arn(call, &format!("{kind}/{id}")));
        Access { action: format!("iotsitewise:{name}"), resources: vec![resource] }
    }
}

/// Rule actions that put values: `iotSiteWise`.
impl ActionTarget for Sitewise {
    fn kinds(&self) -> &[&'static str] {
        &["iotSiteWise"]
    }

    fn check(&self, _kind: &str, parameters: &Json) -> Result<(), String> {
        match parameters.get("putAssetPropertyValueEntries") {
            Some(Json::Array(entries)) if !entries.is_empty() && entries.iter().all(Json::is_object) => Ok(()),
            _ => Err("iotSiteWise needs putAssetPropertyValueEntries, a list of entries".to_owned()),
        }
    }

    fn perform(&self, call: ActionCall) -> BoxFuture<'static, Result<(), ActionError>> {
        let service = self.clone();
        async move {
            let entries = call.parameters.get("putAssetPropertyValueEntries").cloned().unwrap_or_default();
            let done = tokio::task::spawn_blocking(move || {
                let entries: Vec<Map<String, Json>> =
                    entries.as_array().into_iter().flatten().filter_map(Json::as_object).map(typed).collect();
                values::put_entries(&service, &entries.iter().collect::<Vec<_>>())
            });
            let failed = |message: String, retryable: bool| ActionError {
                resource: "asset properties".to_owned(),
                message: format!("values were not put: {message}"),
                retryable,
            };
            match done.await {
                Ok(Ok(errors)) if errors.is_empty() => Ok(()),
                Ok(Ok(errors)) => Err(failed(Json::Array(errors).to_string(), false)),
                Ok(Err(error)) => Err(failed(error.message, error.status.is_server_error())),
                Err(_) => Err(failed("the write has failed".to_owned(), true)),
            }
        }
        .boxed()
    }
}

/// Numbers and truths of an action are text, as its templates filled them in.
fn typed(entry: &Map<String, Json>) -> Map<String, Json> {
    let mut entry = entry.clone();
    let values = entry.get_mut("propertyValues").and_then(Json::as_array_mut).into_iter().flatten();
    for value in values.filter_map(|value| value.get_mut("value")?.as_object_mut()) {
        for (kind, given) in value.iter_mut() {
            let Some(text) = given.as_str() else { continue };
            let read: Option<Json> = match kind.as_str() {
                "doubleValue" => text.parse::<f64>().ok().map(Json::from),
                "integerValue" => text.parse::<i64>().ok().map(Json::from),
                "booleanValue" => text.parse::<bool>().ok().map(Json::from),
                _ => None,
            };
            if let Some(read) = read {
                *given = read;
            }
        }
    }
    entry
}
