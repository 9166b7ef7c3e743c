//! The whole door over fakes, without a socket; then with one.

mod changes;
mod document;
mod fakes;
mod reading;
mod refusals;
mod streams;

use crate::{ConsoleState, router};
use axum::{
    Router,
    body::Body,
    http::{Method, Request, Response, StatusCode, header},
};
use fakes::Fake;
use serde_json::Value;
use std::sync::Arc;
use tower::ServiceExt;

const TOKEN: &str = "a-token-for-tests";

fn state(fake: &Arc<Fake>) -> ConsoleState {
    let ready = Arc::clone(fake);
    ConsoleState {
        control: fake.clone(),
        fleet: fake.clone(),
        inventory: fake.clone(),
        results: fake.clone(),
        clock: fake.clone(),
        token: TOKEN.to_owned(),
        ca_pem: Arc::new(|| "-----BEGIN CERTIFICATE-----\nfake\n-----END CERTIFICATE-----\n".to_owned()),
        metrics: metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle(),
        ready: Arc::new(move || ready.ready_items()),
        refusals: Arc::new(|| vec![fakes::refusal()]),
        version: "0.0.0-test",
    }
}

fn door() -> (Arc<Fake>, Router) {
    let fake = Arc::new(Fake::default());
    let router = router(state(&fake));
    (fake, router)
}

/// A request as the command line makes it: right host, right token.
fn request(method: Method, path: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "127.0.0.1:8080")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
}

async fn send(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.unwrap()
}

async fn json(response: Response<Body>) -> Value {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&bytes)))
}

async fn get(router: &Router, path: &str) -> Response<Body> {
    send(router, request(Method::GET, path).body(Body::empty()).unwrap()).await
}

async fn get_json(router: &Router, path: &str) -> Value {
    let response = get(router, path).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json", "{path}");
    json(response).await
}

async fn change(router: &Router, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
    let built = request(method, path).header(header::CONTENT_TYPE, "application/json");
    let response = send(router, built.body(Body::from(body.to_owned())).unwrap()).await;
    (response.status(), json(response).await)
}
