//! Endpoints: made, looked at, pointed at another configuration, removed.

use super::{
    Inner, Result, configs, deploy, endpoint_arn, exists,
    input::Input,
    invalid, limit, listing, models, not_found,
    store::{Deployed, Endpoint, Kept, Status},
};
use crate::{AwsError, json::seconds, keys::random_letters};
use serde_json::{Value, json};

/// What the named configuration asks for, as it is now.
fn wanted(inner: &Inner, input: &Input<'_>) -> Result<Deployed> {
    let config = configs::find(inner, input, input.name("EndpointConfigName")?)?;
    let model = models::find(inner, input, &config.variant.model)?;
    let archive = random_letters(b"0123456789abcdef", 32).map_err(AwsError::internal)?;
    Ok(Deployed { config: config.name, variant: config.variant, model, since: inner.clock.now(), archive })
}

pub fn find(inner: &Inner, input: &Input<'_>, name: &str) -> Result<Endpoint> {
    inner.store.get(name)?.ok_or_else(|| not_found(Endpoint::WORDS, &endpoint_arn(input.call, name)))
}

pub fn create(inner: &std::sync::Arc<Inner>, input: &Input<'_>) -> Result<Value> {
    input.only(&["EndpointName", "EndpointConfigName", "Tags"])?;
    let name = input.name("EndpointName")?.to_owned();
    let arn = endpoint_arn(input.call, &name);
    let alone = inner.changes();
    let all: Vec<Endpoint> = inner.store.all().map_err(AwsError::internal)?;
    if all.iter().any(|known| known.name == name) {
        return Err(exists(Endpoint::WORDS, &arn));
    }
    if all.len() >= Endpoint::MOST {
        return Err(limit("endpoints", Endpoint::MOST));
    }
    let wanted = wanted(inner, input)?;
    let endpoint = Endpoint {
        name: name.clone(),
        status: Status::Creating,
        failure: None,
        created: wanted.since,
        modified: wanted.since,
        tags: input.tags()?,
        served: None,
        wanted: Some(wanted),
    };
    inner.store.save(&endpoint)?;
    drop(alone);
    deploy::begin(inner, name);
    Ok(json!({ "EndpointArn": arn }))
}

/// What it serves it serves on, until the other model is there; where that cannot be served, it stays.
pub fn update(inner: &std::sync::Arc<Inner>, input: &Input<'_>) -> Result<Value> {
    input.only(&["EndpointName", "EndpointConfigName", "RetainAllVariantProperties"])?;
    let name = input.name("EndpointName")?.to_owned();
    let arn = endpoint_arn(input.call, &name);
    let alone = inner.changes();
    let mut endpoint = find(inner, input, &name)?;
    settled(&endpoint, &arn)?;
    let wanted = wanted(inner, input)?;
    endpoint.status = if endpoint.served.is_some() { Status::Updating } else { Status::Creating };
    (endpoint.failure, endpoint.modified, endpoint.wanted) = (None, wanted.since, Some(wanted));
    inner.store.save(&endpoint)?;
    drop(alone);
    deploy::begin(inner, name);
    Ok(json!({ "EndpointArn": arn }))
}

/// Nothing is changed while a model is read.
fn settled(endpoint: &Endpoint, arn: &str) -> Result<()> {
    match endpoint.status {
        Status::InService | Status::Failed => Ok(()),
        Status::Creating | Status::Updating => Err(invalid(format!("Cannot update in-progress endpoint \"{arn}\"."))),
    }
}

pub fn describe(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    let endpoint = find(inner, input, input.name("EndpointName")?)?;
    let mut answer = json!({
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint_arn(input.call, &endpoint.name),
        "EndpointStatus": endpoint.status.word(),
        "CreationTime": seconds(endpoint.created),
        "LastModifiedTime": seconds(endpoint.modified),
    });
    if let Some(failure) = &endpoint.failure {
        answer["FailureReason"] = failure.as_str().into();
    }
    if let Some(deployed) = endpoint.deployed() {
        answer["EndpointConfigName"] = deployed.config.as_str().into();
    }
    if let Some(Deployed { variant, model, since, .. }) = &endpoint.served {
        let image = model.container.get("Image").and_then(Value::as_str).unwrap_or_default();
        answer["ProductionVariants"] = json!([{
            "VariantName": variant.name,
            "DeployedImages": [{"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": seconds(*since)}],
            "CurrentWeight": variant.weight,
            "DesiredWeight": variant.weight,
            "CurrentInstanceCount": variant.instances,
            "DesiredInstanceCount": variant.instances,
        }]);
    }
    Ok(answer)
}

pub fn list(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    let all: Vec<Endpoint> = inner.store.all().map_err(AwsError::internal)?;
    let (page, token) = listing::page(input, all, &["CreationTime", "Name", "Status"])?;
    let shown = page.iter().map(|endpoint| {
        json!({
            "EndpointName": endpoint.name,
            "EndpointArn": endpoint_arn(input.call, &endpoint.name),
            "EndpointStatus": endpoint.status.word(),
            "CreationTime": seconds(endpoint.created),
            "LastModifiedTime": seconds(endpoint.modified),
        })
    });
    let mut answer = json!({ "Endpoints": shown.collect::<Vec<_>>() });
    if let Some(token) = token {
        answer["NextToken"] = token.into();
    }
    Ok(answer)
}

pub fn delete(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    let _alone = inner.changes();
    let endpoint = find(inner, input, input.name("EndpointName")?)?;
    settled(&endpoint, &endpoint_arn(input.call, &endpoint.name))?;
    inner.store.remove::<Endpoint>(&endpoint.name)?;
    inner.stop_serving(&endpoint.name);
    if let Some(deployed) = &endpoint.served {
        inner.store.drop_archive(&deployed.archive).map_err(AwsError::internal)?;
    }
    Ok(Value::Null)
}
