//! Wrong hosts, wrong input, wrong addresses.

use super::{change, door, get, json, request, send};
use crate::BODY_BYTES_MAX;
use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};

#[tokio::test]
async fn a_foreign_host_gets_nothing() {
    let (fake, router) = door();
    for path in ["/", "/api/v1/tenants", "/api/v1/live", "/metrics", "/no/such/path"] {
        let rebound = Request::get(path).header(header::HOST, "attacker.example:8080").body(Body::empty()).unwrap();
        let response = send(&router, rebound).await;
        assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST, "{path}");
        assert_eq!(json(response).await["error"], "wrong_host");
        let nameless = send(&router, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(nameless.status(), StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
    assert_eq!(fake.asked(), [] as [&str; 0]);
}

#[tokio::test]
async fn nothing_invites_other_origins() {
    let (_, router) = door();
    let foreign = request(Method::GET, "/api/v1/tenants").header(header::ORIGIN, "https://attacker.example");
    let response = send(&router, foreign.body(Body::empty()).unwrap()).await;
    assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri("/api/v1/tenants")
        .header(header::HOST, "localhost")
        .header(header::ORIGIN, "https://attacker.example")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST");
    let response = send(&router, preflight.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn bad_queries_and_addresses() {
    let (fake, router) = door();
    for bad in [
        "/api/v1/tenants?limit=1",
        "/api/v1/overview?x",
        "/healthz?x=1",
        "/api/v1/anomalies?tennant=tenant001",
        "/api/v1/anomalies?tenant=Tenant",
        "/api/v1/anomalies?limit=0",
        "/api/v1/anomalies?limit=10001",
        "/api/v1/anomalies?limit=-1",
        "/api/v1/anomalies?limit=1&limit=2",
        "/api/v1/alerts?thing=a%2Fb",
        "/api/v1/ledger?tenant=",
        "/api/v1/live?thing=pump-1",
        "/api/v1/tenants/T/things",
        "/api/v1/tenants/tenant001/records?limit=99999999999999999999",
        "/api/v1/tenants/tenant001/things/a%20b/readings",
        "/api/v1/tenants/tenant001/things/pump-1/readings?before=yesterday",
        "/api/v1/tenants/%FF/things",
    ] {
        let response = get(&router, bad).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{bad}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json", "{bad}");
        let problem: crate::ErrorBody = serde_json::from_value(json(response).await).unwrap();
        assert_eq!(problem.error, "invalid", "{bad}");
        assert!(problem.message.len() > 20, "{bad}: {}", problem.message);
    }
    assert_eq!(fake.asked(), [] as [&str; 0]);
}

#[tokio::test]
async fn bad_bodies() {
    let (fake, router) = door();
    let path = "/api/v1/tenants";
    for (body, expected) in [
        ("{", StatusCode::BAD_REQUEST),
        ("", StatusCode::BAD_REQUEST),
        (r#"{"tenant": "UPPER"}"#, StatusCode::UNPROCESSABLE_ENTITY),
        (r#"{"tenant": "tenant001", "surprise": 1}"#, StatusCode::UNPROCESSABLE_ENTITY),
        (r#"{"things": []}"#, StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let (status, answer) = change(&router, Method::POST, path, body).await;
        assert_eq!((status, &answer["error"]), (expected, &"bad_body".into()), "{body}");
    }
    let large = format!(r#"{{"tenant": "{}"}}"#, "x".repeat(BODY_BYTES_MAX));
    let (status, _) = change(&router, Method::POST, path, &large).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let untyped = send(&router, request(Method::POST, path).body(Body::from("{}")).unwrap()).await;
    assert_eq!(untyped.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(fake.asked(), [] as [&str; 0]);
}

#[tokio::test]
async fn unknown_addresses_and_methods() {
    let (_, router) = door();
    for missing in ["/api/v1/nothing", "/assets/missing.js", "/../Cargo.toml", "/index.html/", "/%2e%2e/Cargo.toml"] {
        assert_eq!(get(&router, missing).await.status(), StatusCode::NOT_FOUND, "{missing}");
    }
    let (status, answer) = change(&router, Method::PUT, "/api/v1/tenants", "{}").await;
    assert_eq!((status, &answer["error"]), (StatusCode::METHOD_NOT_ALLOWED, &"method_not_allowed".into()));
    let (status, _) = change(&router, Method::DELETE, "/", "").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}
