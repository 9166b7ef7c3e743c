//! Errors as AWS services answer them.

use axum::http::StatusCode;

/// `code` is the service's own (`ResourceNotFoundException`); the door writes it in the service's protocol.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct AwsError {
    pub code: String,
    pub message: String,
    pub status: StatusCode,
    /// Further members of the error's shape (`resourceArn`, `CancellationReasons`, …).
    pub members: Vec<(&'static str, serde_json::Value)>,
}

impl AwsError {
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), status: StatusCode::BAD_REQUEST, members: Vec::new() }
    }

    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub fn with(mut self, name: &'static str, value: serde_json::Value) -> Self {
        self.members.push((name, value));
        self
    }

    /// Something of Kilter's own failed: the caller may try again, the operator reads the log.
    pub fn internal(what: impl std::fmt::Display) -> Self {
        tracing::error!(%what, "an AWS request failed");
        let message = format!("Kilter could not do it: {what}");
        Self::new("InternalFailure", message).with_status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What Kilter does not do, named.
    pub fn unknown_operation(operation: &str) -> Self {
        Self::new("UnknownOperationException", format!("Kilter does not offer the operation {operation}"))
    }
}
