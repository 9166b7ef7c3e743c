//! One request as a service sees it, and what it answers.

use crate::{AwsError, payload::Payload, signer::Signer};
use axum::{
    http::{HeaderMap, Method, StatusCode},
    response::Response,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use kilter_core::Timestamp;
use std::sync::Arc;

/// An authenticated request.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    /// As it came, percent-encoded, with its leading slash.
    pub path: String,
    /// Decoded, in order.
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    /// Empty for a [`StreamService`], which is handed a [`Payload`] instead.
    pub body: Bytes,
    /// The region and account that the request is answered for.
    pub region: String,
    pub account: String,
    /// The access key that signed it; empty where nobody did (see [`Service::anonymous`]).
    pub access_key: String,
    /// With their rights; `None` where nobody signed it.
    pub signer: Option<Arc<Signer>>,
    pub request_id: String,
    pub now: Timestamp,
}

impl Call {
    /// A `POST /` without a body that nobody has signed.
    pub fn new(region: &str, account: &str, now: Timestamp) -> Self {
        Self {
            method: Method::POST,
            path: "/".to_owned(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            region: region.to_owned(),
            account: account.to_owned(),
            access_key: String::new(),
            signer: None,
            request_id: String::new(),
            now,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first query parameter of this name.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The operation that `X-Amz-Target` names, without the service's prefix: `PutRecord`.
    pub fn target(&self) -> Option<&str> {
        let target = self.header("x-amz-target")?;
        Some(target.rsplit_once('.').map_or(target, |(_, operation)| operation))
    }

    /// `arn:aws:<service>:<region>:<account>:<resource>`.
    pub fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.region, self.account)
    }
}

/// Does what may block on a thread that is there for it.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AwsError> + Send + 'static,
) -> Result<T, AwsError> {
    tokio::task::spawn_blocking(work).await.map_err(AwsError::internal)?
}

/// What a call asks for, in the words of policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// `kinesis:PutRecord`. `kinesis:*` where it is not known: then only who may do all of it may do it.
    pub action: String,
    /// ARNs, every one of which must be allowed. `*`: only who may do it everywhere may do it.
    pub resources: Vec<String>,
}

/// What goes back; the door adds the request id and, unless it is set, the protocol's content type.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Answer {
    pub fn json(body: &serde_json::Value) -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), body: body.to_string().into() }
    }

    pub fn empty() -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), body: Bytes::new() }
    }

    /// An XML document, already written.
    pub fn xml(body: String) -> Self {
        Self { status: StatusCode::OK, headers: vec![("content-type", "text/xml".to_owned())], body: body.into() }
    }

    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One AWS service.
pub trait Service: Send + Sync {
    /// The name in a signature's scope: `kinesis`, `dynamodb`, `iot`, …; `sagemaker-runtime` for what is signed as
    /// `sagemaker` and names no target.
    fn name(&self) -> &'static str;

    /// Answers one request. Futures must not block: what does goes to [`blocking`].
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, AwsError>>;

    /// What access keys' policies are asked. The default knows the operations of `X-Amz-Target` and of forms, and no
    /// resource: a service whose keys may be narrower says which.
    fn access(&self, call: &Call) -> Access {
        default_access(self.name(), call)
    }

    /// What the call needs beside [`Service::access`].
    fn further_access(&self, _call: &Call) -> Option<Access> {
        None
    }

    /// Whether the request may come without a signature (a confirmation's token stands for it).
    fn anonymous(&self, _call: &Call) -> bool {
        false
    }
}

/// A service whose bodies are too large to be held: S3.
pub trait StreamService: Send + Sync {
    fn name(&self) -> &'static str;

    /// Answers one request. What `body` gives counts only once it has ended without an error: its signature or
    /// checksum is known only then. Futures must not block.
    fn call(self: Arc<Self>, call: Call, body: Payload) -> BoxFuture<'static, Result<Response, AwsError>>;

    fn access(&self, call: &Call) -> Access {
        default_access(self.name(), call)
    }

    /// What the call needs beside [`StreamService::access`]: the source of a copy.
    fn further_access(&self, _call: &Call) -> Option<Access> {
        None
    }
}

fn default_access(service: &str, call: &Call) -> Access {
    let form = || crate::form::Form::parse(call).ok().and_then(|form| form.get("Action").map(str::to_owned));
    let operation = call.target().map(str::to_owned).or_else(form).unwrap_or_else(|| "*".to_owned());
    Access { action: format!("{}:{operation}", policy_prefix(service)), resources: vec!["*".to_owned()] }
}

/// How policies call a service.
pub fn policy_prefix(service: &str) -> &str {
    match service {
        "iotdata" => "iot",
        "tagging" => "tag",
        "sagemaker-runtime" => "sagemaker",
        other => other,
    }
}
