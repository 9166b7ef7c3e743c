//! Errors in S3's words.

use crate::AwsError;
use axum::http::StatusCode;
use kilter_core::ports::objects::{ObjectError, ObjectErrorKind};

pub(crate) fn failure(status: StatusCode, code: &str, message: impl Into<String>) -> AwsError {
    AwsError::new(code, message).with_status(status)
}

pub(crate) fn bad(code: &str, message: impl Into<String>) -> AwsError {
    failure(StatusCode::BAD_REQUEST, code, message)
}

pub(crate) fn missing(code: &str, message: impl Into<String>) -> AwsError {
    failure(StatusCode::NOT_FOUND, code, message)
}

/// What Kilter does not do, named.
pub(crate) fn not_implemented(what: &str) -> AwsError {
    let message = format!("A header or operation you provided implies functionality that Kilter does not have: {what}");
    failure(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
}

pub(crate) fn no_bucket(bucket: &str) -> AwsError {
    missing("NoSuchBucket", "The specified bucket does not exist").with("BucketName", bucket.into())
}

pub(crate) fn no_key(key: &str) -> AwsError {
    missing("NoSuchKey", "The specified key does not exist.").with("Key", key.into())
}

pub(crate) fn no_upload(id: &str) -> AwsError {
    let message = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.";
    missing("NoSuchUpload", message).with("UploadId", id.into())
}

pub(crate) fn precondition(condition: &'static str) -> AwsError {
    let message = "At least one of the pre-conditions you specified did not hold";
    failure(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message).with("Condition", condition.into())
}

pub(crate) fn from_objects(error: ObjectError) -> AwsError {
    match error.kind {
        ObjectErrorKind::NoBucket => missing("NoSuchBucket", "The specified bucket does not exist"),
        ObjectErrorKind::NoKey => missing("NoSuchKey", "The specified key does not exist."),
        ObjectErrorKind::NoUpload => no_upload(""),
        ObjectErrorKind::NotEmpty => {
            let message = "The bucket you tried to delete is not empty. You must delete all versions in the bucket.";
            failure(StatusCode::CONFLICT, "BucketNotEmpty", message)
        }
        ObjectErrorKind::ConditionFailed => precondition("If-Match or If-None-Match"),
        ObjectErrorKind::Invalid => bad("InvalidArgument", error.message),
        ObjectErrorKind::Io | ObjectErrorKind::Damaged => {
            tracing::error!(error = &error as &dyn std::error::Error, "an object cannot be stored or read");
            let message = "We encountered an internal error. Please try again.";
            failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
        }
    }
}
