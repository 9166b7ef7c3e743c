//! Models: what a container's archive holds, by name.

use super::{
    Inner, Result, exists,
    input::{Input, constraint, missing, only, text},
    limit, listing, model_arn, not_found,
    store::{Kept, Model},
};
use crate::{AwsError, json::seconds};
use serde_json::{Map, Value, json};

const URL_CHARS_MAX: usize = 1_024;
const ENVIRONMENT_MAX: usize = 100;
const ENVIRONMENT_CHARS_MAX: usize = 1_024;
const CONTAINER: [&str; 5] = ["Image", "ContainerHostname", "ModelDataUrl", "Environment", "Mode"];

/// The container as it was given, once it is one that can be served here.
fn container(input: &Input<'_>) -> Result<Map<String, Value>> {
    let given = input.object("PrimaryContainer")?.ok_or_else(|| missing("PrimaryContainer"))?;
    only(given, "PrimaryContainer", &CONTAINER)?;
    for name in ["Image", "ContainerHostname", "ModelDataUrl"] {
        if let Some(value) = text(given, name)?.filter(|value| value.len() > URL_CHARS_MAX) {
            let rule = format!("have length less than or equal to {URL_CHARS_MAX}");
            return Err(constraint(value, &format!("primaryContainer.{name}"), &rule));
        }
    }
    if let Some(url) =
        text(given, "ModelDataUrl")?.filter(|url| !url.starts_with("s3://") && !url.starts_with("https://"))
    {
        let rule = "satisfy regular expression pattern: ^(https|s3)://([^/]+)/?(.*)$";
        return Err(constraint(url, "primaryContainer.modelDataUrl", rule));
    }
    if let Some(mode) = text(given, "Mode")?.filter(|mode| *mode != "SingleModel") {
        return Err(constraint(mode, "primaryContainer.mode", "satisfy enum value set: [SingleModel]"));
    }
    let environment = given.get("Environment").and_then(Value::as_object);
    let bounded = |value: &Value| value.as_str().is_some_and(|text| text.len() <= ENVIRONMENT_CHARS_MAX);
    if let Some(environment) = environment.filter(|all| all.len() > ENVIRONMENT_MAX || !all.values().all(bounded)) {
        let rule = format!("have at most {ENVIRONMENT_MAX} texts of at most {ENVIRONMENT_CHARS_MAX} characters");
        return Err(constraint(&format!("{} entries", environment.len()), "primaryContainer.environment", &rule));
    }
    let mut kept: Map<String, Value> = given.clone().into_iter().filter(|(_, value)| !value.is_null()).collect();
    kept.entry("Mode").or_insert_with(|| "SingleModel".into());
    Ok(kept)
}

pub fn create(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    input.only(&["ModelName", "PrimaryContainer", "ExecutionRoleArn", "EnableNetworkIsolation", "Tags"])?;
    let model = Model {
        name: input.name("ModelName")?.to_owned(),
        container: container(input)?,
        role: input.role("ExecutionRoleArn")?.to_owned(),
        network_isolation: input.members.get("EnableNetworkIsolation").and_then(Value::as_bool).unwrap_or(false),
        created: inner.clock.now(),
        tags: input.tags()?,
    };
    let arn = model_arn(input.call, &model.name);
    let _alone = inner.changes();
    let all: Vec<Model> = inner.store.all().map_err(AwsError::internal)?;
    if all.iter().any(|known| known.name == model.name) {
        return Err(exists(Model::WORDS, &arn));
    }
    if all.len() >= Model::MOST {
        return Err(limit("models", Model::MOST));
    }
    inner.store.save(&model)?;
    Ok(json!({ "ModelArn": arn }))
}

pub fn find(inner: &Inner, input: &Input<'_>, name: &str) -> Result<Model> {
    inner.store.get(name)?.ok_or_else(|| not_found(Model::WORDS, &model_arn(input.call, name)))
}

pub fn describe(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    let model = find(inner, input, input.name("ModelName")?)?;
    Ok(json!({
        "ModelName": model.name,
        "ModelArn": model_arn(input.call, &model.name),
        "PrimaryContainer": model.container,
        "ExecutionRoleArn": model.role,
        "EnableNetworkIsolation": model.network_isolation,
        "CreationTime": seconds(model.created),
    }))
}

pub fn list(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    let all: Vec<Model> = inner.store.all().map_err(AwsError::internal)?;
    let (page, token) = listing::page(input, all, &["CreationTime", "Name"])?;
    let shown = page.iter().map(|model| {
        json!({
            "ModelName": model.name,
            "ModelArn": model_arn(input.call, &model.name),
            "CreationTime": seconds(model.created),
        })
    });
    let mut answer = json!({ "Models": shown.collect::<Vec<_>>() });
    if let Some(token) = token {
        answer["NextToken"] = token.into();
    }
    Ok(answer)
}

/// Endpoints that serve it go on: they have what they serve.
pub fn delete(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    let _alone = inner.changes();
    let model = find(inner, input, input.name("ModelName")?)?;
    inner.store.remove::<Model>(&model.name)?;
    Ok(Value::Null)
}
