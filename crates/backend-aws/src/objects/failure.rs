//! S3's errors in the port's words.

use crate::words;
use aws_sdk_s3::error::{BuildError, ProvideErrorMetadata, SdkError};
use kilter_core::ports::objects::{ObjectError, ObjectErrorKind};
use std::error::Error;

pub fn failed<E, R>(operation: &'static str, error: SdkError<E, R>) -> ObjectError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    use ObjectErrorKind as K;
    let kind = match error.code() {
        Some("NoSuchBucket") => K::NoBucket,
        // A delete marker has no metadata that could be changed.
        Some("NoSuchKey" | "NoSuchVersion" | "MethodNotAllowed") => K::NoKey,
        Some("NoSuchUpload") => K::NoUpload,
        Some("BucketNotEmpty") => K::NotEmpty,
        Some("PreconditionFailed" | "ConditionalRequestConflict" | "InvalidPart") => K::ConditionFailed,
        Some("InvalidBucketName" | "KeyTooLongError") => K::Invalid,
        _ if matches!(error, SdkError::ConstructionFailure(_)) => K::Invalid,
        _ => K::Io,
    };
    ObjectError::new(kind, operation, format!("S3: {}", words(&error))).with_source(error)
}

pub fn construction(operation: &'static str, error: BuildError) -> ObjectError {
    ObjectError::new(ObjectErrorKind::Invalid, operation, "S3 takes no such request").with_source(error)
}

pub fn invalid(operation: &'static str, message: impl Into<String>) -> ObjectError {
    ObjectError::new(ObjectErrorKind::Invalid, operation, message)
}

pub fn no_key(operation: &'static str, key: &str) -> ObjectError {
    ObjectError::new(ObjectErrorKind::NoKey, operation, format!("there is no such version of the object {key:?}"))
}
