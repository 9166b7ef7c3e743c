//! Endpoint configurations: which model an endpoint is to serve, in one production variant.

use super::{
    Inner, Result, config_arn, exists,
    input::{Input, constraint, missing, name_in, number_in, only, text},
    invalid, limit, listing, models, not_found,
    store::{Config, Kept, Variant},
};
use crate::{AwsError, json::seconds};
use serde_json::{Value, json};

const INSTANCES_MAX: f64 = 10_000.0;

fn variant(inner: &Inner, input: &Input<'_>) -> Result<Variant> {
    let given = match input.list("ProductionVariants")? {
        [] => return Err(missing("ProductionVariants")),
        [one] => one.as_object().ok_or_else(|| invalid("ProductionVariants must be a list of objects"))?,
        more => {
            let rule = "have length less than or equal to 1: an endpoint serves one model here";
            return Err(constraint(&format!("{} variants", more.len()), "productionVariants", rule));
        }
    };
    let offered = ["VariantName", "ModelName", "InitialInstanceCount", "InstanceType", "InitialVariantWeight"];
    only(given, "ProductionVariants", &offered)?;
    let model = models::find(inner, input, name_in(given, "ModelName")?)?;
    Ok(Variant {
        name: name_in(given, "VariantName")?.to_owned(),
        model: model.name,
        instances: number_in(given, "InitialInstanceCount", (1.0, INSTANCES_MAX))?.unwrap_or(1.0) as u32,
        instance_type: text(given, "InstanceType")?.unwrap_or("ml.t2.medium").chars().take(64).collect(),
        weight: number_in(given, "InitialVariantWeight", (0.0, f64::MAX))?.unwrap_or(1.0),
    })
}

pub fn create(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    input.only(&["EndpointConfigName", "ProductionVariants", "Tags"])?;
    let name = input.name("EndpointConfigName")?.to_owned();
    let _alone = inner.changes();
    let all: Vec<Config> = inner.store.all().map_err(AwsError::internal)?;
    let arn = config_arn(input.call, &name);
    if all.iter().any(|known| known.name == name) {
        return Err(exists(Config::WORDS, &arn));
    }
    if all.len() >= Config::MOST {
        return Err(limit("endpoint configurations", Config::MOST));
    }
    let (variant, tags) = (variant(inner, input)?, input.tags()?);
    inner.store.save(&Config { name, variant, created: inner.clock.now(), tags })?;
    Ok(json!({ "EndpointConfigArn": arn }))
}

pub fn find(inner: &Inner, input: &Input<'_>, name: &str) -> Result<Config> {
    inner.store.get(name)?.ok_or_else(|| not_found(Config::WORDS, &config_arn(input.call, name)))
}

pub fn describe(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    let config = find(inner, input, input.name("EndpointConfigName")?)?;
    let variant = &config.variant;
    Ok(json!({
        "EndpointConfigName": config.name,
        "EndpointConfigArn": config_arn(input.call, &config.name),
        "ProductionVariants": [{
            "VariantName": variant.name,
            "ModelName": variant.model,
            "InitialInstanceCount": variant.instances,
            "InstanceType": variant.instance_type,
            "InitialVariantWeight": variant.weight,
        }],
        "CreationTime": seconds(config.created),
    }))
}

pub fn list(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    let all: Vec<Config> = inner.store.all().map_err(AwsError::internal)?;
    let (page, token) = listing::page(input, all, &["CreationTime", "Name"])?;
    let shown = page.iter().map(|config| {
        json!({
            "EndpointConfigName": config.name,
            "EndpointConfigArn": config_arn(input.call, &config.name),
            "CreationTime": seconds(config.created),
        })
    });
    let mut answer = json!({ "EndpointConfigs": shown.collect::<Vec<_>>() });
    if let Some(token) = token {
        answer["NextToken"] = token.into();
    }
    Ok(answer)
}

/// Endpoints made with it go on.
pub fn delete(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    let _alone = inner.changes();
    let config = find(inner, input, input.name("EndpointConfigName")?)?;
    inner.store.remove::<Config>(&config.name)?;
    Ok(Value::Null)
}
