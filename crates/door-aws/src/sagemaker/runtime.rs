//! SageMaker's runtime: InvokeEndpoint.

use super::{
    Inner, Result, Sagemaker,
    body::{self, Format},
    endpoint_arn,
    store::Endpoint,
};
use crate::{Access, Answer, AwsError, Call, Service, call::blocking, rest::route};
use axum::http::StatusCode;
use futures::{FutureExt, future::BoxFuture};
use kilter_core::ports::function::Model;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Of a request's body, as the service has it: 6 MiB.
const BODY_BYTES_MAX: usize = 6 << 20;
/// Requests that are scored at a time: each takes a thread, and many times its body.
const INVOCATIONS_MAX: usize = 4;
/// A container has to answer within this.
const SCORING_MAX: Duration = Duration::from_secs(60);
/// Points between two looks at the clock.
const LOOK_AFTER: usize = 256;

pub struct SagemakerRuntime {
    service: Sagemaker,
    invocations: Semaphore,
}

impl SagemakerRuntime {
    pub fn new(service: Sagemaker) -> Self {
        Self { service, invocations: Semaphore::new(INVOCATIONS_MAX) }
    }
}

/// The endpoint that is to be invoked.
fn invoked(call: &Call) -> Option<String> {
    route(call, "POST", "/endpoints/{name}/invocations").and_then(|mut values| values.pop())
}

fn invalid(message: String) -> AwsError {
    AwsError::new("ValidationError", message)
}

/// What the container, and not the service, refuses.
fn model_error(status: u16, variant: &str, why: &str) -> AwsError {
    let whose = if status >= 500 { "server" } else { "client" };
    AwsError::new("ModelError", format!("Received {whose} error ({status}) from {variant} with message \"{why}\""))
        .with_status(StatusCode::FAILED_DEPENDENCY)
        .with("OriginalStatusCode", status.into())
        .with("OriginalMessage", why.into())
}

fn invoke(inner: &Inner, call: &Call, name: &str) -> Result<Answer> {
    if call.body.len() > BODY_BYTES_MAX {
        return Err(invalid(format!(
            "1 validation error detected: Value at 'body' failed to satisfy constraint: Member must have length less than \
             or equal to {BODY_BYTES_MAX}; it has {}",
            call.body.len()
        )));
    }
    let endpoint: Option<Endpoint> = inner.store.get(name)?;
    let none = || invalid(format!("Endpoint {name:.128} of account {} not found.", call.account));
    let endpoint = endpoint.ok_or_else(none)?;
    let Some(served) = &endpoint.served else {
        let status = endpoint.status.word();
        let why = endpoint.failure.as_deref().unwrap_or("ask again once it is InService");
        return Err(invalid(format!("Endpoint {name} of account {} is {status}: {why}", call.account)));
    };
    let variant = &served.variant.name;
    if let Some(other) = call.header("x-amzn-sagemaker-target-variant").filter(|asked| asked != variant) {
        return Err(invalid(format!("Variant {other:.64} not found for Request: the endpoint has {variant}")));
    }
    if call.header("x-amzn-sagemaker-target-model").is_some() {
        return Err(invalid(format!("TargetModel is for endpoints with many models; {name} has one: leave it out")));
    }
    let given = call.header("content-type").unwrap_or_default();
    let format = Format::of(given).ok_or_else(|| {
        let why = format!(
            "Content-type '{given:.64}' not supported; expected is text/csv, application/json or application/jsonlines"
        );
        model_error(415, variant, &why)
    })?;
    let accept = call.header("accept");
    let answer = Format::accepted(accept).ok_or_else(|| {
        let accept = accept.unwrap_or_default();
        let why = format!(
            "Accept '{accept:.64}' not supported; offered are application/json, application/jsonlines and text/csv"
        );
        model_error(406, variant, &why)
    })?;
    let model = inner.model(name, &served.archive)?;
    let points = body::points(format, &call.body, model.features()).map_err(|why| model_error(400, variant, &why))?;
    let scores = score(&*model, &points).ok_or_else(|| {
        let why = format!("the points were not scored within {} s: send fewer at a time", SCORING_MAX.as_secs());
        model_error(500, variant, &why)
    })?;
    let mut answered = Answer::json(&serde_json::Value::Null)
        .with_header("content-type", answer.media_type())
        .with_header("x-amzn-invoked-production-variant", variant.as_str());
    answered.body = body::scores(answer, &scores).into();
    Ok(answered)
}

/// `None` where it takes too long.
fn score(model: &dyn Model, points: &[f64]) -> Option<Vec<f64>> {
    let (begun, width) = (Instant::now(), model.features());
    let mut scores = Vec::with_capacity(points.len() / width);
    for some in points.chunks(LOOK_AFTER * width) {
        if begun.elapsed() > SCORING_MAX {
            return None;
        }
        scores.extend(some.chunks_exact(width).map(|point| model.score(point)));
    }
    Some(scores)
}

impl Service for SagemakerRuntime {
    fn name(&self) -> &'static str {
        "sagemaker-runtime"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer>> {
        async move {
            let name = invoked(call)
                .ok_or_else(|| AwsError::unknown_operation(&format!("{} {:.200}", call.method, call.path)))?;
            let _one = self.invocations.acquire().await.map_err(AwsError::internal)?;
            let (service, call) = (self.service.clone(), call.clone());
            blocking(move || invoke(&service.0, &call, &name)).await
        }
        .boxed()
    }

    fn access(&self, call: &Call) -> Access {
        let (action, resource) = match invoked(call) {
            Some(name) => ("InvokeEndpoint", endpoint_arn(call, &name)),
            None => ("*", "*".to_owned()),
        };
        Access { action: format!("sagemaker:{action}"), resources: vec![resource] }
    }
}
