//! Kinesis's errors in the port's words.

use crate::words;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use kilter_core::{
    StreamName,
    ports::stream::{StreamError, StreamErrorKind},
};
use std::{error::Error, sync::Arc};

pub fn error(kind: StreamErrorKind, operation: &'static str, message: impl Into<String>) -> StreamError {
    StreamError::new(kind, operation, message)
}

pub fn failed<E, R>(operation: &'static str, stream: &StreamName, cause: SdkError<E, R>) -> StreamError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    use StreamErrorKind as K;
    let kind = match cause.code() {
        Some("ResourceNotFoundException") => K::NotFound,
        Some("ResourceInUseException" | "LimitExceededException" | "InvalidArgumentException") => K::Conflict,
        Some("ProvisionedThroughputExceededException" | "KMSThrottlingException") => K::Busy,
        _ => K::Io,
    };
    let message = format!("Kinesis, stream {stream}: {}", words(&cause));
    StreamError { source: Some(Arc::new(cause)), ..error(kind, operation, message) }
}

/// Whether the service has said that it did not do what was asked.
pub fn refused<E, R>(cause: &SdkError<E, R>) -> bool
where
    E: ProvideErrorMetadata + Error,
{
    matches!(cause, SdkError::ServiceError(_)) && !matches!(cause.code(), None | Some("InternalFailureException"))
}
