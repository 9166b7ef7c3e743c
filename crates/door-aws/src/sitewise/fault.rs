//! The service's errors.

use crate::AwsError;
use axum::http::StatusCode;
use kilter_core::ports::table::TableError;
use serde_json::json;

pub fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("InvalidRequestException", message)
}

pub fn not_found(kind: &str, id: &str) -> AwsError {
    AwsError::new("ResourceNotFoundException", format!("{kind} {id:.200} does not exist"))
        .with_status(StatusCode::NOT_FOUND)
}

pub fn exists(kind: &str, name: &str, id: &str, arn: &str) -> AwsError {
    AwsError::new("ResourceAlreadyExistsException", format!("{kind} {name} already exists"))
        .with_status(StatusCode::CONFLICT)
        .with("resourceId", json!(id))
        .with("resourceArn", json!(arn))
}

pub fn conflict(message: impl Into<String>) -> AwsError {
    AwsError::new("ConflictingOperationException", message).with_status(StatusCode::CONFLICT)
}

pub fn internal(why: impl std::fmt::Display) -> AwsError {
    AwsError::new("InternalFailureException", format!("The request could not be carried out: {why}"))
        .with_status(StatusCode::INTERNAL_SERVER_ERROR)
}

pub fn of_table(error: TableError) -> AwsError {
    tracing::error!(%error, "iotsitewise: the table cannot be used");
    internal(error)
}
