//! What can be read without a token.

use super::{door, fakes, get, get_json, json};
use axum::http::{StatusCode, header};
use std::sync::atomic::Ordering;

#[tokio::test]
async fn the_overview_counts() {
    let (_, router) = door();
    let overview = get_json(&router, "/api/v1/overview").await;
    assert_eq!(overview["version"], "0.0.0-test");
    assert_eq!(overview["ready"], true);
    let tenant = &overview["tenants"][0];
    assert_eq!(tenant["things"], 1);
    assert_eq!(tenant["open_anomalies"]["count"], 1);
    assert_eq!(tenant["alerts_last_week"]["count"], 1, "the alert of eight days ago does not count");
    assert_eq!(tenant["ledger"]["received"], 10);
    assert_eq!(overview["ledger"]["adds_up"], false);
}

#[tokio::test]
async fn tenants_things_records_objects() {
    let (fake, router) = door();
    assert_eq!(get_json(&router, "/api/v1/tenants").await[0]["stream"], "anomaly-stream-tenant001");
    assert_eq!(get_json(&router, "/api/v1/tenants/tenant001").await["alert_topic"], "alerts-tenant001");
    assert_eq!(get_json(&router, "/api/v1/tenants/tenant001/things").await[0]["certificates"][0]["status"], "ACTIVE");
    assert_eq!(get_json(&router, "/api/v1/tenants/tenant001/objects").await[0]["key"], "k");
    fake.asked();
    assert_eq!(get_json(&router, "/api/v1/tenants/tenant001/records?limit=5").await[0]["thing"], "pump-1");
    assert_eq!(fake.asked(), ["records 5"]);
    for missing in ["/api/v1/tenants/nobody", "/api/v1/tenants/nobody/things", "/api/v1/tenants/nobody/objects"] {
        let response = get(&router, missing).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{missing}");
        assert_eq!(json(response).await["error"], "not_found");
    }
}

#[tokio::test]
async fn readings_page_backwards() {
    let (fake, router) = door();
    let readings = get_json(&router, "/api/v1/tenants/tenant001/things/pump-1/readings").await;
    assert_eq!(readings[0]["verdict"], serde_json::json!({"state": "warming", "seen": 1, "needed": 2}));
    assert_eq!(readings[0]["score"], serde_json::Value::Null);
    assert_eq!(readings[1]["values"]["pressure"], 4.0);
    let path = "/api/v1/tenants/tenant001/things/pump-1/readings?before=2023-11-14T22:13:20.5Z&limit=2";
    get_json(&router, path).await;
    assert_eq!(
        fake.asked(),
        ["readings tenant001 pump-1 None 600", "readings tenant001 pump-1 Some(2023-11-14T22:13:20.500Z) 2"]
    );
}

#[tokio::test]
async fn anomalies_and_alerts_are_filtered() {
    let (fake, router) = door();
    let found = get_json(&router, "/api/v1/anomalies?tenant=tenant001&thing=pump-1&limit=7").await;
    assert_eq!(found[1]["severity"], "high");
    assert_eq!(found[1]["end"], serde_json::Value::Null);
    assert_eq!(found[1]["causes"][0]["expected"], serde_json::json!([3.8, 4.4]));
    assert_eq!(get_json(&router, "/api/v1/alerts").await[0]["event"], "opened");
    assert_eq!(
        fake.asked(),
        [
            r#"anomalies Filter { tenant: Some("tenant001"), thing: Some("pump-1"), limit: 7 }"#,
            "alerts Filter { tenant: None, thing: None, limit: 600 }"
        ]
    );
}

#[tokio::test]
async fn the_ledger_says_what_does_not_add_up() {
    let (fake, router) = door();
    let lines = get_json(&router, "/api/v1/ledger?tenant=tenant001").await;
    assert_eq!(lines[0]["received"], 10);
    assert_eq!(lines[0]["discrepancy"], "received 10 but stored + rejected = 9");
    assert_eq!(fake.asked(), [r#"ledger Some("tenant001")"#]);
    let entry: crate::LedgerEntry = serde_json::from_value(lines[0].clone()).unwrap();
    assert_eq!(entry.line.thing, fakes::pump());
}

#[tokio::test]
async fn machines_get_what_they_ask() {
    let (fake, router) = door();
    assert_eq!(get(&router, "/healthz").await.status(), StatusCode::OK);
    let ready = get(&router, "/readyz").await;
    assert_eq!(ready.status(), StatusCode::OK);
    fake.not_ready.store(true, Ordering::SeqCst);
    let waiting = get(&router, "/readyz").await;
    assert_eq!(waiting.status(), StatusCode::SERVICE_UNAVAILABLE);
    let waiting = json(waiting).await;
    assert_eq!(waiting["items"][0]["detail"], "opening the stream");
    assert_eq!(get_json(&router, "/api/v1/overview").await["ready"], false);
    let metrics = get(&router, "/metrics").await;
    assert!(metrics.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let ca = get(&router, "/AmazonRootCA1.pem").await;
    let ca = axum::body::to_bytes(ca.into_body(), 4096).await.unwrap();
    assert!(ca.starts_with(b"-----BEGIN CERTIFICATE-----"));
}

#[tokio::test]
async fn the_page_is_guarded_and_cached() {
    let (_, router) = door();
    let page = get(&router, "/").await;
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert_eq!(page.headers()[header::CACHE_CONTROL], "no-cache");
    assert_eq!(page.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(page.headers()[header::REFERRER_POLICY], "no-referrer");
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("script-src 'self'") && policy.contains("frame-ancestors 'none'"));
    assert!(!policy.contains("unsafe"));
    let tag = page.headers()[header::ETAG].clone();
    let again = super::request(axum::http::Method::GET, "/").header(header::IF_NONE_MATCH, tag);
    let again = super::send(&router, again.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(get_json(&router, "/openapi.json").await["openapi"], "3.1.0");
    assert_eq!(get(&router, "/api/v1/overview").await.headers()[header::CACHE_CONTROL], "no-store");
}

/// Every file that the page asks for is there, under a name that may be kept for ever.
#[tokio::test]
async fn the_page_finds_its_files() {
    let (_, router) = door();
    let page = axum::body::to_bytes(get(&router, "/").await.into_body(), 1 << 20).await.unwrap();
    let page = String::from_utf8(page.to_vec()).unwrap();
    let named: Vec<&str> = page.split('"').filter(|text| text.contains("assets/")).collect();
    assert!(named.iter().any(|name| name.ends_with(".js")) && named.iter().any(|name| name.ends_with(".css")));
    for name in named {
        let file = get(&router, &format!("/{}", name.trim_start_matches(['.', '/']))).await;
        assert_eq!(file.status(), StatusCode::OK, "{name}");
        assert_eq!(file.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable", "{name}");
    }
}
