//! One request as a service sees it, and what it answers.

use crate::AwsError;
use axum::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;
use futures::future::BoxFuture;
use kilter_core::Timestamp;

/// An authenticated request.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    /// As it came, percent-encoded, with its leading slash.
    pub path: String,
    /// Decoded, in order.
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The region and account that the request is answered for.
    pub region: String,
    pub account: String,
    /// The access key that signed it.
    pub access_key: String,
    pub request_id: String,
    pub now: Timestamp,
}

impl Call {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first query parameter of this name.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What goes back; the door adds the request id.
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
}

/// One AWS service.
pub trait Service: Send + Sync {
    /// The name in a signature's scope: `kinesis`, `dynamodb`, `iot`, …
    fn name(&self) -> &'static str;

    /// Answers one request. Futures must not block: what does goes to `spawn_blocking`.
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, AwsError>>;
}
