//! What a request says, checked: path, query and body, each refused in our own words.

use crate::{ROWS_MAX, error::ApiError};
use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{StatusCode, request::Parts},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::time::Duration;

/// A body of 64 KiB that takes longer than this comes from a client that hangs or holds on purpose.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// The parameters in the path.
pub(crate) struct InPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::invalid(format!("The address is not valid: {}.", rejection.body_text()))),
        }
    }
}

/// The query string. `T` denies unknown fields, so that a misspelled parameter is not silently ignored.
pub(crate) struct InQuery<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::invalid(format!("The query is not valid: {}.", rejection.body_text()))),
        }
    }
}

/// For addresses that take no parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// A JSON body.
pub(crate) struct InBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for InBody<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let read = axum::Json::<T>::from_request(request, state);
        match tokio::time::timeout(BODY_TIME_MAX, read).await {
            Ok(Ok(axum::Json(value))) => Ok(Self(value)),
            Ok(Err(rejection)) => Err(ApiError::body(
                rejection.status(),
                format!("The body was refused: {}. /openapi.json shows what it must hold.", rejection.body_text()),
            )),
            Err(_) => Err(ApiError::body(
                StatusCode::REQUEST_TIMEOUT,
                format!("The body did not arrive within {} s.", BODY_TIME_MAX.as_secs()),
            )),
        }
    }
}

/// `limit`, checked: 1 to [`ROWS_MAX`].
pub(crate) fn rows(limit: Option<usize>, default: usize) -> Result<usize, ApiError> {
    match limit.unwrap_or(default) {
        n @ 1..=ROWS_MAX => Ok(n),
        n => Err(ApiError::invalid(format!("limit={n} is outside 1 to {ROWS_MAX}. Ask for several pages instead."))),
    }
}
