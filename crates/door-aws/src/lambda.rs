//! Lambda: the scoring functions as functions that can be listed, looked at and asked.

use crate::{Access, Answer, AwsError, Call, Service, rest::route};
use axum::http::StatusCode;
use futures::{FutureExt, future::BoxFuture};
use kilter_core::{
    TenantId,
    ports::function::{FunctionError, FunctionView, Functions},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Functions of one answer (Lambda's limit).
const PAGE_MAX: usize = 50;
/// What an operator can ask of a function.
const PREFIX: &str = "/2015-03-31/functions";

pub struct LambdaService {
    pub functions: Arc<dyn Functions>,
}

type Result<T> = std::result::Result<T, AwsError>;

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("InvalidParameterValueException", message).with("Type", "User".into())
}

fn not_found(call: &Call, name: &str) -> AwsError {
    let arn = call.arn("lambda", &format!("function:{name}"));
    AwsError::new("ResourceNotFoundException", format!("Function not found: {arn}"))
        .with_status(StatusCode::NOT_FOUND)
        .with("Type", "User".into())
}

/// What a request is for.
enum Operation {
    List,
    Get(String),
    Configuration(String),
    Invoke(String),
    Other,
}

fn operation(call: &Call) -> Operation {
    let one = |method: &str, rest: &str| {
        route(call, method, &format!("{PREFIX}/{{name}}{rest}")).and_then(|mut values| values.pop())
    };
    if route(call, "GET", PREFIX).is_some() {
        Operation::List
    } else if let Some(name) = one("GET", "") {
        Operation::Get(name)
    } else if let Some(name) = one("GET", "/configuration") {
        Operation::Configuration(name)
    } else if let Some(name) = one("POST", "/invocations") {
        Operation::Invoke(name)
    } else {
        Operation::Other
    }
}

/// The function's name in a name, a partial or a whole ARN, each with or without a qualifier.
fn plain_name(given: &str) -> &str {
    let rest =
        given.rsplit_once(":function:").or_else(|| given.split_once("function:")).map_or(given, |(_, rest)| rest);
    rest.split(':').next().unwrap_or(rest)
}

fn configuration(call: &Call, function: &FunctionView) -> Value {
    json!({
        "FunctionName": function.name,
        "FunctionArn": call.arn("lambda", &format!("function:{}", function.name)),
        "Runtime": "provided.al2023",
        "Role": format!("arn:aws:iam::{}:role/kilter", call.account),
        "Handler": "kilter",
        "CodeSize": 0,
        "Description": format!("Scores the telemetry of {} and is part of Kilter itself", function.tenant),
        "LastModified": function.created.format("%Y-%m-%dT%H:%M:%S%.3f+0000"),
        "Version": "$LATEST",
        "PackageType": "Zip",
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": format!("/aws/lambda/{}", function.name)},
    })
}

fn dispatch(functions: &dyn Functions, call: &Call) -> Result<Answer> {
    let find = |given: &str| {
        let name = plain_name(given);
        let found = functions.list().into_iter().find(|function| function.name == name);
        found.ok_or_else(|| not_found(call, name))
    };
    match operation(call) {
        Operation::List => list(functions, call),
        Operation::Get(name) => {
            let function = find(&name)?;
            let code = json!({"RepositoryType": "Kilter", "Location": ""});
            Ok(Answer::json(&json!({"Configuration": configuration(call, &function), "Code": code, "Tags": {}})))
        }
        Operation::Configuration(name) => Ok(Answer::json(&configuration(call, &find(&name)?))),
        Operation::Invoke(name) => invoke(functions, call, &find(&name)?.tenant),
        Operation::Other => Err(AwsError::unknown_operation(&format!("{} {}", call.method, call.path))),
    }
}

fn list(functions: &dyn Functions, call: &Call) -> Result<Answer> {
    let most = match call.query("MaxItems") {
        None => PAGE_MAX,
        Some(text) => text.parse().map_err(|_| invalid("MaxItems must be a number"))?,
    };
    let most = most.clamp(1, PAGE_MAX);
    let after = call.query("Marker").unwrap_or_default();
    let mut rest = functions.list().into_iter().filter(|function| function.name.as_str() > after);
    let page: Vec<FunctionView> = rest.by_ref().take(most).collect();
    let next = page.last().filter(|_| rest.next().is_some()).map(|last| last.name.clone());
    let shown: Vec<Value> = page.iter().map(|function| configuration(call, function)).collect();
    let mut answer = json!({"Functions": shown});
    if let Some(next) = next {
        answer["NextMarker"] = next.into();
    }
    Ok(Answer::json(&answer))
}

fn invoke(functions: &dyn Functions, call: &Call, tenant: &TenantId) -> Result<Answer> {
    match call.header("x-amz-invocation-type").unwrap_or("RequestResponse") {
        "RequestResponse" => {}
        "DryRun" => return Ok(Answer::empty().with_status(StatusCode::NO_CONTENT)),
        other => {
            let why = format!("InvocationType {other} is not offered: a result that nobody waits for is kept nowhere");
            return Err(invalid(why));
        }
    }
    let answered = |body: Value| Answer::json(&body).with_header("x-amz-executed-version", "$LATEST");
    match functions.invoke(tenant, &call.body) {
        Ok(rows) => Ok(answered(json!({"readings": rows}))),
        // As Lambda has it: the function was called, and failed.
        Err(FunctionError::Payload(why)) => {
            let body = json!({"errorMessage": why, "errorType": "InvalidPayload"});
            Ok(answered(body).with_header("x-amz-function-error", "Unhandled"))
        }
        Err(FunctionError::NotFound(tenant)) => Err(not_found(call, &format!("score-telemetry-{tenant}"))),
        Err(FunctionError::Internal(why)) => Err(AwsError::internal(why)),
    }
}

impl Service for LambdaService {
    fn name(&self) -> &'static str {
        "lambda"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer>> {
        let (functions, call) = (self.functions.clone(), call.clone());
        async move {
            let answered = tokio::task::spawn_blocking(move || dispatch(&*functions, &call)).await;
            answered.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
        }
        .boxed()
    }

    fn access(&self, call: &Call) -> Access {
        let arn = |name: &str| vec![call.arn("lambda", &format!("function:{}", plain_name(name)))];
        let (action, resources) = match operation(call) {
            Operation::List => ("ListFunctions", vec!["*".to_owned()]),
            Operation::Get(name) => ("GetFunction", arn(&name)),
            Operation::Configuration(name) => ("GetFunctionConfiguration", arn(&name)),
            Operation::Invoke(name) => ("InvokeFunction", arn(&name)),
            Operation::Other => ("*", vec!["*".to_owned()]),
        };
        Access { action: format!("lambda:{action}"), resources }
    }
}
