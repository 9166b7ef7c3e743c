//! SageMaker: models, endpoint configurations and endpoints; and what asks an endpoint for scores.
//!
//! A model names an archive that an operator uploaded. An endpoint reads it once, keeps it, and serves it, whatever
//! becomes of the object afterwards.

mod body;
mod configs;
mod deploy;
mod endpoints;
mod input;
mod listing;
mod models;
mod runtime;
mod store;
mod tags;

pub use runtime::SagemakerRuntime;

use crate::{Access, Answer, AwsError, Call, Service, call::blocking, json};
use deploy::Serving;
use futures::{FutureExt, future::BoxFuture};
use input::Input;
use kilter_core::ports::{
    clock::Clock,
    function::Models,
    objects::Objects,
    table::{Table, TableError},
};
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::Store;

type Result<T> = std::result::Result<T, AwsError>;

/// What the service works with.
pub struct SagemakerPorts {
    pub table: Arc<dyn Table>,
    pub objects: Arc<dyn Objects>,
    pub models: Arc<dyn Models>,
    pub clock: Arc<dyn Clock>,
}

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Sagemaker(Arc<Inner>);

struct Inner {
    store: Store,
    objects: Arc<dyn Objects>,
    models: Arc<dyn Models>,
    clock: Arc<dyn Clock>,
    /// Held while something is looked at and then changed.
    changes: Mutex<()>,
    /// Held while an archive is read: one at a time, for each may take much memory.
    reading: Mutex<()>,
    serving: Mutex<Serving>,
}

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("ValidationException", message)
}

fn not_found(what: &str, arn: &str) -> AwsError {
    invalid(format!("Could not find {what} \"{arn}\"."))
}

fn exists(what: &str, arn: &str) -> AwsError {
    invalid(format!("Cannot create already existing {what} \"{arn}\"."))
}

fn limit(what: &str, most: usize) -> AwsError {
    let message = format!(
        "The account-level service limit 'Number of {what}' is {most}, with current utilization of {most} and a request \
         delta of 1. Delete some that are not needed any more."
    );
    AwsError::new("ResourceLimitExceeded", message)
}

fn model_arn(call: &Call, name: &str) -> String {
    call.arn("sagemaker", &format!("model/{name}"))
}

fn config_arn(call: &Call, name: &str) -> String {
    call.arn("sagemaker", &format!("endpoint-config/{name}"))
}

fn endpoint_arn(call: &Call, name: &str) -> String {
    call.arn("sagemaker", &format!("endpoint/{name}"))
}

impl Sagemaker {
    /// Blocking: goes on with what a stop interrupted.
    pub fn open(ports: SagemakerPorts) -> std::result::Result<Self, TableError> {
        let SagemakerPorts { table, objects, models, clock } = ports;
        let (changes, reading, serving) = (Mutex::default(), Mutex::default(), Mutex::default());
        let store = Store::new(table);
        let opened = Self(Arc::new(Inner { store, objects, models, clock, changes, reading, serving }));
        opened.0.resume()?;
        Ok(opened)
    }

    /// Answers one request. Blocking.
    pub(crate) fn answer(&self, call: &Call) -> Result<Answer> {
        let operation = call.target().unwrap_or_default();
        let input = Input::read(call, operation)?;
        let answer = match operation {
            "CreateModel" => models::create(&self.0, &input),
            "DescribeModel" => models::describe(&self.0, &input),
            "ListModels" => models::list(&self.0, &input),
            "DeleteModel" => models::delete(&self.0, &input),
            "CreateEndpointConfig" => configs::create(&self.0, &input),
            "DescribeEndpointConfig" => configs::describe(&self.0, &input),
            "ListEndpointConfigs" => configs::list(&self.0, &input),
            "DeleteEndpointConfig" => configs::delete(&self.0, &input),
            "CreateEndpoint" => endpoints::create(&self.0, &input),
            "DescribeEndpoint" => endpoints::describe(&self.0, &input),
            "ListEndpoints" => endpoints::list(&self.0, &input),
            "UpdateEndpoint" => endpoints::update(&self.0, &input),
            "DeleteEndpoint" => endpoints::delete(&self.0, &input),
            "AddTags" => tags::add(&self.0, &input),
            "ListTags" => tags::list(&self.0, &input),
            "DeleteTags" => tags::delete(&self.0, &input),
            other => Err(AwsError::unknown_operation(other)),
        }?;
        Ok(if answer.is_null() { Answer::empty() } else { Answer::json(&answer) })
    }
}

impl Inner {
    fn changes(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for Sagemaker {
    fn name(&self) -> &'static str {
        "sagemaker"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer>> {
        let (service, call) = (self.clone(), call.clone());
        blocking(move || service.answer(&call)).boxed()
    }

    fn access(&self, call: &Call) -> Access {
        let input = json::object(call).unwrap_or_default();
        let named = |member: &str, arn: fn(&Call, &str) -> String| {
            input.get(member).and_then(Value::as_str).map(|name| arn(call, name))
        };
        let own = |member: &str| input.get(member).and_then(Value::as_str).map(str::to_owned);
        let resources = [
            named("ModelName", model_arn),
            named("EndpointName", endpoint_arn),
            named("EndpointConfigName", config_arn),
            own("ResourceArn"),
        ];
        let operation = call.target().unwrap_or("*");
        let mut resources: Vec<String> = resources.into_iter().flatten().collect();
        if resources.is_empty() || operation.starts_with("List") && operation != "ListTags" {
            resources = vec!["*".to_owned()];
        }
        Access { action: format!("sagemaker:{operation}"), resources }
    }

    /// An endpoint tells what a model's archive holds: who names one must be allowed to read it.
    fn further_access(&self, call: &Call) -> Option<Access> {
        let input = json::object(call).ok()?;
        let url = input.get("PrimaryContainer")?.get("ModelDataUrl")?.as_str()?;
        let place = url.strip_prefix("s3://")?;
        Some(Access { action: "s3:GetObject".to_owned(), resources: vec![format!("arn:aws:s3:::{place}")] })
    }
}

#[cfg(test)]
mod tests;
