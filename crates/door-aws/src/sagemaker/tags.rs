//! Tags of models, endpoint configurations and endpoints, by their ARNs.

use super::{
    Inner, Result, Sagemaker,
    input::{Input, Tags, constraint, missing, within_limit},
    not_found,
    store::{Config, Endpoint, Kept, Model},
};
use crate::{AwsError, Call, tagging::Tagged};
use serde_json::{Value, json};

const PAGE_MIN: usize = 50;

fn changed<T: Kept>(inner: &Inner, arn: &str, name: &str, change: impl FnOnce(&mut Tags) -> bool) -> Result<Tags> {
    let _alone = inner.changes();
    let mut kept: T = inner.store.get(name)?.ok_or_else(|| not_found(T::WORDS, arn))?;
    let changed = change(kept.tags());
    within_limit(kept.tags())?;
    if changed {
        inner.store.save(&kept)?;
    }
    Ok(std::mem::take(kept.tags()))
}

/// Changes the tags of what an ARN names; `change` says whether it did. Answers them.
fn change(inner: &Inner, call: &Call, arn: &str, change: impl FnOnce(&mut Tags) -> bool) -> Result<Tags> {
    let own = call.arn("sagemaker", "");
    match arn.strip_prefix(&own).and_then(|resource| resource.split_once('/')) {
        Some((Model::KIND, name)) => changed::<Model>(inner, arn, name, change),
        Some((Config::KIND, name)) => changed::<Config>(inner, arn, name, change),
        Some((Endpoint::KIND, name)) => changed::<Endpoint>(inner, arn, name, change),
        _ => {
            let rule = format!("be an ARN that begins with {own} and names a model, an endpoint-config or an endpoint");
            Err(constraint(arn, "ResourceArn", &rule))
        }
    }
}

fn arn<'i>(input: &'i Input<'_>) -> Result<&'i str> {
    input.text("ResourceArn")?.ok_or_else(|| missing("ResourceArn"))
}

fn shown<'t>(tags: impl Iterator<Item = (&'t String, &'t String)>) -> Vec<Value> {
    tags.map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}

pub fn add(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    let given = input.tags()?;
    if given.is_empty() {
        return Err(missing("Tags"));
    }
    let tags = change(inner, input.call, arn(input)?, |tags| {
        tags.extend(given);
        true
    })?;
    Ok(json!({ "Tags": shown(tags.iter()) }))
}

pub fn delete(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    let keys = input.list("TagKeys")?;
    if keys.is_empty() {
        return Err(missing("TagKeys"));
    }
    change(inner, input.call, arn(input)?, |tags| {
        tags.retain(|key, _| !keys.iter().any(|gone| gone == key.as_str()));
        true
    })?;
    Ok(json!({}))
}

pub fn list(inner: &Inner, input: &Input<'_>) -> Result<Value> {
    let most = input.whole("MaxResults", PAGE_MIN, usize::from(u16::MAX), PAGE_MIN)?;
    let after = input.text("NextToken")?.unwrap_or_default();
    let tags = change(inner, input.call, arn(input)?, |_| false)?;
    let rest: Vec<(&String, &String)> = tags.iter().filter(|(key, _)| key.as_str() > after).collect();
    let mut answer = json!({ "Tags": shown(rest.iter().copied().take(most)) });
    if let Some((last, _)) = rest.get(most - 1).filter(|_| rest.len() > most) {
        answer["NextToken"] = last.as_str().into();
    }
    Ok(answer)
}

fn all<T: Kept>(inner: &Inner, call: &Call) -> Result<Vec<(String, Tags)>> {
    let all: Vec<T> = inner.store.all().map_err(AwsError::internal)?;
    let one = |mut kept: T| {
        let arn = call.arn("sagemaker", &format!("{}/{}", T::KIND, kept.name()));
        (arn, std::mem::take(kept.tags()))
    };
    Ok(all.into_iter().map(one).collect())
}

impl Tagged for Sagemaker {
    fn service(&self) -> &'static str {
        "sagemaker"
    }

    fn tagged(&self, call: &Call) -> Result<Vec<(String, Tags)>> {
        let inner = &self.0;
        Ok([all::<Model>(inner, call)?, all::<Config>(inner, call)?, all::<Endpoint>(inner, call)?].concat())
    }

    fn retag(&self, call: &Call, arn: &str, set: &Tags, remove: &[String]) -> Result<()> {
        let changed = change(&self.0, call, arn, |tags| {
            tags.extend(set.clone());
            tags.retain(|key, _| !remove.contains(key));
            true
        });
        changed.map(drop)
    }
}
