//! Resource Groups Tagging: the tags of all services in one place.

use crate::{Access, Answer, AwsError, Call, Service, call::blocking, json};
use futures::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc};

pub type Tags = BTreeMap<String, String>;
type Result<T> = std::result::Result<T, AwsError>;

/// Resources of one page, unless fewer are asked for.
const PAGE: usize = 50;
const PAGE_MAX: usize = 100;
/// Keys, or values, of one page.
const NAMES_PAGE: usize = 1_000;
/// Of one TagResources or UntagResources.
const ARNS_MAX: usize = 20;
const TAGS_MAX: usize = 50;
const FILTERS_MAX: usize = 50;

/// A service whose resources have tags. Blocking.
pub trait Tagged: Send + Sync {
    /// As ARNs name the service: `kinesis`.
    fn service(&self) -> &'static str;

    /// Its resources by ARN, each with its tags.
    fn tagged(&self, call: &Call) -> Result<Vec<(String, Tags)>>;

    /// Sets and removes tags of a resource. `Err`: the service's own, also where there is no such resource.
    fn retag(&self, call: &Call, arn: &str, set: &Tags, remove: &[String]) -> Result<()>;
}

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Tagging(pub Arc<Vec<Arc<dyn Tagged>>>);

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("InvalidParameterException", message)
}

/// Of `arn:aws:<service>:<region>:<account>:<resource>`: the service, and the resource's type.
fn kind_of(arn: &str) -> (&str, &str) {
    let mut parts = arn.splitn(6, ':').skip(2);
    let service = parts.next().unwrap_or_default();
    let resource = parts.nth(2).unwrap_or_default();
    match service {
        "s3" => (service, "bucket"),
        "sns" => (service, "topic"),
        _ => (service, resource.split(['/', ':']).next().unwrap_or_default()),
    }
}

/// `TagFilters`: a resource must have each key, with one of its values where there are any.
struct Filter {
    key: String,
    values: Vec<String>,
}

struct Request<'a> {
    tagging: &'a Tagging,
    call: &'a Call,
    input: Map<String, Value>,
}

fn texts(of: &Map<String, Value>, name: &str) -> Result<Vec<String>> {
    let wrong = || AwsError::new("SerializationException", format!("{name} must be a list of texts"));
    match of.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(all)) => all.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

impl Request<'_> {
    fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.input.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(AwsError::new("SerializationException", format!("{name} must be text"))),
        }
    }

    fn answer(&self, operation: &str) -> Result<Value> {
        match operation {
            "GetResources" => self.resources(),
            "GetTagKeys" => self.names("TagKeys", |tags| tags.keys().cloned().collect()),
            "GetTagValues" => {
                let key = self.text("Key")?.ok_or_else(|| invalid("Key must not be null"))?.to_owned();
                self.names("TagValues", move |tags| tags.get(&key).cloned().into_iter().collect())
            }
            "TagResources" => self.tag(),
            "UntagResources" => self.untag(),
            other => Err(AwsError::unknown_operation(other)),
        }
    }

    /// Every resource that has a tag, in order of ARNs.
    fn all(&self) -> Result<BTreeMap<String, Tags>> {
        let mut all = BTreeMap::new();
        for service in self.tagging.0.iter() {
            all.extend(service.tagged(self.call)?.into_iter().filter(|(_, tags)| !tags.is_empty()));
        }
        Ok(all)
    }

    fn filters(&self) -> Result<Vec<Filter>> {
        let wrong = || invalid("TagFilters must be a list of objects, each with a Key and Values");
        let given = match self.input.get("TagFilters") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(given) => given.as_array().ok_or_else(wrong)?,
        };
        if given.len() > FILTERS_MAX {
            return Err(invalid(format!("TagFilters has {} entries, at most {FILTERS_MAX} are allowed", given.len())));
        }
        let filter = |one: &Value| {
            let object = one.as_object().ok_or_else(wrong)?;
            let key = object.get("Key").and_then(Value::as_str).ok_or_else(wrong)?.to_owned();
            Ok(Filter { key, values: texts(object, "Values")? })
        };
        given.iter().map(filter).collect()
    }

    fn resources(&self) -> Result<Value> {
        let most = match self.input.get("ResourcesPerPage") {
            None | Some(Value::Null) => PAGE,
            Some(given) => {
                let given = given.as_u64().and_then(|most| usize::try_from(most).ok());
                let most = given.filter(|most| (1..=PAGE_MAX).contains(most));
                most.ok_or_else(|| invalid(format!("ResourcesPerPage must be a number from 1 to {PAGE_MAX}")))?
            }
        };
        let filters = self.filters()?;
        let kinds = texts(&self.input, "ResourceTypeFilters")?;
        let arns = texts(&self.input, "ResourceARNList")?;
        if !arns.is_empty() && (!filters.is_empty() || !kinds.is_empty() || self.text("PaginationToken")?.is_some()) {
            return Err(invalid("ResourceARNList cannot be combined with filters or a PaginationToken"));
        }
        let fits = |arn: &str, tags: &Tags| {
            let (service, kind) = kind_of(arn);
            let of_kind = |wanted: &String| match wanted.split_once(':') {
                Some((of, type_of)) => of == service && type_of == kind,
                None => wanted == service,
            };
            let has = |filter: &Filter| {
                let value = tags.get(&filter.key);
                value.is_some_and(|value| filter.values.is_empty() || filter.values.contains(value))
            };
            (kinds.is_empty() || kinds.iter().any(of_kind))
                && (arns.is_empty() || arns.iter().any(|wanted| wanted == arn))
                && filters.iter().all(has)
        };
        let after = self.text("PaginationToken")?.unwrap_or_default();
        let mut found: Vec<(String, Tags)> = self.all()?.into_iter().filter(|(arn, tags)| fits(arn, tags)).collect();
        found.retain(|(arn, _)| arn.as_str() > after);
        let more = found.len() > most;
        found.truncate(most);
        let token = found.last().filter(|_| more).map_or("", |(arn, _)| arn).to_owned();
        let shown = found.iter().map(|(arn, tags)| {
            let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
            json!({"ResourceARN": arn, "Tags": tags})
        });
        Ok(json!({"ResourceTagMappingList": shown.collect::<Vec<_>>(), "PaginationToken": token}))
    }

    /// Each name once, sorted.
    fn names(&self, member: &str, of: impl Fn(&Tags) -> Vec<String>) -> Result<Value> {
        let after = self.text("PaginationToken")?.unwrap_or_default();
        let all: BTreeSet<String> = self.all()?.values().flat_map(of).filter(|name| name.as_str() > after).collect();
        let page: Vec<&String> = all.iter().take(NAMES_PAGE).collect();
        let token = page.last().filter(|_| all.len() > NAMES_PAGE).map_or("", |last| last).to_owned();
        Ok(json!({ member: page, "PaginationToken": token }))
    }

    fn arns(&self) -> Result<Vec<String>> {
        let arns = texts(&self.input, "ResourceARNList")?;
        match arns.len() {
            1..=ARNS_MAX => Ok(arns),
            count => Err(invalid(format!("ResourceARNList has {count} entries: 1 to {ARNS_MAX} are allowed"))),
        }
    }

    fn tag(&self) -> Result<Value> {
        let wrong = || invalid(format!("Tags must be an object of 1 to {TAGS_MAX} texts"));
        let given = self.input.get("Tags").and_then(Value::as_object).ok_or_else(wrong)?;
        let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        let tags: Tags = given.iter().map(text).collect::<Option<_>>().ok_or_else(wrong)?;
        let key_fits = |key: &String| (1..=128).contains(&key.chars().count()) && !key.starts_with("aws:");
        if tags.is_empty() || tags.len() > TAGS_MAX {
            return Err(wrong());
        }
        if let Some((key, _)) = tags.iter().find(|(key, value)| !key_fits(key) || value.chars().count() > 256) {
            return Err(invalid(format!(
                "The tag {key:.64} is not valid: a key has 1 to 128 characters and does not begin with aws:, a value at \
                 most 256"
            )));
        }
        self.each(&tags, &[])
    }

    fn untag(&self) -> Result<Value> {
        let keys = texts(&self.input, "TagKeys")?;
        if keys.is_empty() || keys.len() > TAGS_MAX {
            return Err(invalid(format!("TagKeys has {} entries: 1 to {TAGS_MAX} are allowed", keys.len())));
        }
        self.each(&Tags::new(), &keys)
    }

    /// One resource after the other; what fails is told and keeps none of the others back.
    fn each(&self, set: &Tags, remove: &[String]) -> Result<Value> {
        let mut failed = Map::new();
        for arn in self.arns()? {
            let service = self.tagging.0.iter().find(|service| service.service() == kind_of(&arn).0);
            let done = match service {
                Some(service) => service.retag(self.call, &arn, set, remove),
                None => Err(invalid(format!("{arn:.256} is no resource that has tags here"))),
            };
            if let Err(error) = done {
                let code = if error.status.is_server_error() {
                    "InternalServiceException"
                } else {
                    "InvalidParameterException"
                };
                failed.insert(
                    arn,
                    json!({
                        "StatusCode": error.status.as_u16(),
                        "ErrorCode": code,
                        "ErrorMessage": error.message,
                    }),
                );
            }
        }
        Ok(json!({ "FailedResourcesMap": failed }))
    }
}

impl Service for Tagging {
    fn name(&self) -> &'static str {
        "tagging"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer>> {
        let (tagging, call) = (self.clone(), call.clone());
        let work = move || {
            let request = Request { tagging: &tagging, call: &call, input: json::object(&call)? };
            request.answer(call.target().unwrap_or_default()).map(|answer| Answer::json(&answer))
        };
        blocking(work).boxed()
    }

    fn access(&self, call: &Call) -> Access {
        Access { action: format!("tag:{}", call.target().unwrap_or("*")), resources: vec!["*".to_owned()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_say_what_they_name() {
        for (arn, kind) in [
            ("arn:aws:kinesis:us-east-1:1:stream/a", ("kinesis", "stream")),
            ("arn:aws:s3:::bucket", ("s3", "bucket")),
            ("arn:aws:sns:us-east-1:1:alerts", ("sns", "topic")),
            ("arn:aws:sagemaker:us-east-1:1:endpoint-config/a", ("sagemaker", "endpoint-config")),
            ("arn:aws:iot:us-east-1:1:policy/a", ("iot", "policy")),
            ("nothing", ("", "")),
        ] {
            assert_eq!(kind_of(arn), kind, "{arn}");
        }
    }
}
