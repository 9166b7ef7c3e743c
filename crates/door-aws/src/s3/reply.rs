//! Answers, and the forms of times and entity tags in them.

use crate::{AwsError, Call, protocol::Protocol, xml::Xml};
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode},
};
use kilter_core::Timestamp;

/// An answer in the making. A header whose value no header can hold is left out.
pub(crate) struct Reply {
    response: Response<Body>,
}

impl Reply {
    pub fn new(status: StatusCode) -> Self {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        Self { response }
    }

    pub fn xml(document: Xml) -> Self {
        let mut reply = Self::new(StatusCode::OK).with("content-type", "application/xml");
        *reply.response.body_mut() = Body::from(document.finish());
        reply
    }

    pub fn with(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(value.as_ref().as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            self.response.headers_mut().insert(name, value);
        }
        self
    }

    pub fn with_some(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub fn body(mut self, body: Body) -> Self {
        *self.response.body_mut() = body;
        self
    }

    pub fn done(self) -> Result<Response<Body>, AwsError> {
        Ok(self.response)
    }
}

/// An error that has headers too.
pub(crate) fn error(call: &Call, error: &AwsError) -> Reply {
    let resource = call.path.as_str();
    let body = Protocol::RestXml.error_body(error, &call.method, resource, &call.request_id);
    Reply::new(error.status).with("content-type", "application/xml").body(Body::from(body))
}

/// In documents.
pub(crate) fn iso(at: Timestamp) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ")
}

/// In headers.
pub(crate) fn http_date(at: Timestamp) -> String {
    at.format("%a, %d %b %Y %H:%M:%S GMT")
}

pub(crate) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}
