//! The errors that several operations answer, in the service's words.

use super::number::NumberError;
use crate::AwsError;
use axum::http::StatusCode;
use kilter_core::ports::table::{TableError, TableErrorKind};

pub fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("ValidationException", message)
}

/// A constraint that a member of the request breaks, as the service's framework words it.
pub fn constraint(value: &str, member: &str, rule: &str) -> AwsError {
    invalid(format!("1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {rule}"))
}

/// A required member that is not there.
pub fn missing(member: &str) -> AwsError {
    invalid(format!(
        "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
    ))
}

/// A table that an operation on items names.
pub fn no_table() -> AwsError {
    AwsError::new("ResourceNotFoundException", "Requested resource not found")
}

/// A table that an operation on tables names.
pub fn table_not_found(name: &str) -> AwsError {
    AwsError::new("ResourceNotFoundException", format!("Requested resource not found: Table: {name} not found"))
}

/// A parameter of the service that Kilter does not have; never ignored in silence.
pub fn not_supported(what: &str, instead: &str) -> AwsError {
    invalid(format!("{what} is not supported by Kilter: {instead}"))
}

pub fn internal(why: impl std::fmt::Display) -> AwsError {
    AwsError::new("InternalServerError", format!("The request could not be carried out: {why}"))
        .with_status(StatusCode::INTERNAL_SERVER_ERROR)
}

impl From<NumberError> for AwsError {
    fn from(error: NumberError) -> Self {
        invalid(error.to_string())
    }
}

impl From<TableError> for AwsError {
    fn from(error: TableError) -> Self {
        match error.kind {
            TableErrorKind::TooLarge => invalid(format!("The item cannot be kept: {error}")),
            TableErrorKind::ConditionFailed | TableErrorKind::Io | TableErrorKind::Damaged => {
                tracing::error!(%error, "dynamodb: the table cannot be used");
                internal(error)
            }
        }
    }
}
