//! What machines ask: health, readiness, metrics, the CA, the API's description.

use crate::{
    App, ReadyItem,
    error::ApiError,
    extract::{InQuery, Nothing},
};
use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

pub(crate) const OPENAPI: &str = include_str!("../openapi.json");

/// The process serves. Says nothing about its parts.
pub(crate) async fn healthz(InQuery(Nothing {}): InQuery<Nothing>) -> &'static str {
    "ok\n"
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    items: Vec<ReadyItem>,
}

pub(crate) async fn readyz(State(app): State<App>, InQuery(Nothing {}): InQuery<Nothing>) -> Response {
    let items = (app.state.ready)();
    let ready = items.iter().all(|item| item.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, items })).into_response()
}

/// Prometheus text format 0.0.4.
pub(crate) async fn metrics(
    State(app): State<App>,
    InQuery(Nothing {}): InQuery<Nothing>,
) -> Result<Response, ApiError> {
    let text = crate::api::blocking(&app, |door| Ok(door.state.metrics.render())).await?;
    Ok(typed("text/plain; version=0.0.4; charset=utf-8", text))
}

/// Under the name that the cookbook downloads.
pub(crate) async fn ca(State(app): State<App>, InQuery(Nothing {}): InQuery<Nothing>) -> Response {
    typed("application/x-pem-file", (app.state.ca_pem)())
}

pub(crate) async fn openapi(InQuery(Nothing {}): InQuery<Nothing>) -> Response {
    typed("application/json", OPENAPI)
}

fn typed(media_type: &'static str, body: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))], body).into_response()
}
