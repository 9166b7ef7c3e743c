//! What needs the token, and what comes back.

use super::{TOKEN, change, door, request, send};
use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};

#[tokio::test]
async fn onboard_and_offboard() {
    let (fake, router) = door();
    let body = r#"{"tenant": "tenant001", "things": ["pump-1", "pump-2"]}"#;
    let (status, answer) = change(&router, Method::POST, "/api/v1/tenants", body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["tenant"]["tenant"], "tenant001");
    assert_eq!(answer["identities"][1]["thing"], "pump-2");
    assert_eq!(answer["created"][0], "stream");
    let (status, answer) = change(&router, Method::DELETE, "/api/v1/tenants/tenant001", "").await;
    assert_eq!((status, &answer["stream_records"]), (StatusCode::OK, &7.into()));
    assert_eq!(fake.asked(), [r#"onboard tenant001 ["pump-1", "pump-2"]"#, "offboard tenant001"]);
}

#[tokio::test]
async fn things_and_certificates() {
    let (fake, router) = door();
    let things = "/api/v1/tenants/tenant001/things";
    let (status, answer) = change(&router, Method::POST, things, r#"{"thing": "pump-2"}"#).await;
    assert_eq!((status, &answer["private_key_pem"]), (StatusCode::CREATED, &"private".into()));
    let (status, answer) = change(&router, Method::POST, things, r#"{"thing": "pump-1"}"#).await;
    assert_eq!((status, &answer["error"]), (StatusCode::CONFLICT, &"conflict".into()));
    let certificates = format!("{things}/pump-1/certificates");
    let (status, _) = change(&router, Method::POST, &certificates, r#"{"valid_hours": 24}"#).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, answer) = change(&router, Method::POST, &certificates, r#"{"valid_hours": 0}"#).await;
    assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &"invalid".into()));
    let rotation = format!("{things}/pump-1/rotation");
    let (status, answer) = change(&router, Method::POST, &rotation, r#"{"within_seconds": 60}"#).await;
    assert_eq!((status, &answer["private_key_pem"]), (StatusCode::CREATED, &"private".into()));
    let (status, answer) = change(&router, Method::PUT, "/api/v1/certificates/ab12", r#"{"status": "REVOKED"}"#).await;
    assert_eq!((status, &answer["status"]), (StatusCode::OK, &"REVOKED".into()));
    assert_eq!(
        fake.asked(),
        ["create tenant001 pump-2", "issue tenant001 pump-1 24", "rotate tenant001 pump-1 60", "status ab12 Revoked"]
    );
}

#[tokio::test]
async fn without_the_token_nothing_changes() {
    let (fake, router) = door();
    let changes = crate::routes::all().into_iter().filter(|route| route.method != "get");
    let mut tried = 0;
    for route in changes {
        let path = route.path.replace("{tenant}", "tenant001").replace("{thing}", "x").replace("{certificate}", "ab12");
        for sent in [None, Some("Bearer wrong".to_owned()), Some(format!("Basic {TOKEN}")), Some("Bearer ".to_owned())]
        {
            let mut built = Request::builder()
                .method(route.method.to_uppercase().as_str())
                .uri(&path)
                .header(header::HOST, "localhost:8080")
                .header(header::CONTENT_TYPE, "application/json");
            if let Some(value) = &sent {
                built = built.header(header::AUTHORIZATION, value);
            }
            let body = r#"{"tenant": "tenant001", "thing": "pump-9", "valid_hours": 1, "within_seconds": 60, "status": "REVOKED"}"#;
            let response = send(&router, built.body(Body::from(body)).unwrap()).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{} {path} {sent:?}", route.method);
            assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
            tried += 1;
        }
    }
    assert_eq!(tried, 7 * 4);
    assert_eq!(fake.asked(), [] as [&str; 0]);
}

#[tokio::test]
async fn a_door_without_a_token_changes_nothing() {
    let fake = std::sync::Arc::new(super::fakes::Fake::default());
    let router = crate::router(crate::ConsoleState { token: String::new(), ..super::state(&fake) });
    let delete = Request::delete("/api/v1/tenants/tenant001").header(header::HOST, "localhost");
    let delete = delete.header(header::AUTHORIZATION, "Bearer ").body(Body::empty()).unwrap();
    assert_eq!(send(&router, delete).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(fake.asked(), [] as [&str; 0]);
}

#[tokio::test]
async fn a_panic_below_is_an_error_above() {
    let (_, router) = door();
    let (status, answer) = change(&router, Method::PUT, "/api/v1/certificates/dead", r#"{"status": "REVOKED"}"#).await;
    assert_eq!((status, &answer["error"]), (StatusCode::INTERNAL_SERVER_ERROR, &"internal".into()));
    let health = send(&router, request(Method::GET, "/healthz").body(Body::empty()).unwrap()).await;
    assert_eq!(health.status(), StatusCode::OK);
}
