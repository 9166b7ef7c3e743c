//! `openapi.json` against the routes and against what is really sent.

use super::{change, door, get_json};
use axum::http::{Method, StatusCode};
use serde_json::Value;
use std::collections::BTreeSet;

fn document() -> Value {
    serde_json::from_str(crate::ops::OPENAPI).unwrap()
}

#[test]
fn describes_every_route_and_no_other() {
    let document = document();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            described.insert((method.clone(), path.clone()));
        }
    }
    let served = crate::routes::all().iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(described, served);
}

#[test]
fn every_reference_leads_somewhere_and_every_path_parameter_is_described() {
    let document = document();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        let described: BTreeSet<&str> = item["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|parameter| {
                let name = parameter["$ref"].as_str().unwrap();
                document.pointer(&format!("{}/name", &name[1..])).unwrap().as_str().unwrap()
            })
            .collect();
        let named: BTreeSet<&str> = path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        assert_eq!(described, named, "{path}");
    }
}

/// Compares the fields of a value, and of what is nested in it, with those of a schema.
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        return conforms(document, document.pointer(&reference[1..]).unwrap(), value, at);
    }
    if let Some([variant, null]) = schema["oneOf"].as_array().map(Vec::as_slice)
        && null["type"] == "null"
    {
        if !value.is_null() {
            conforms(document, variant, value, at);
        }
        return;
    }
    if let Some(variants) = schema["oneOf"].as_array() {
        let tag = schema["discriminator"]["propertyName"].as_str().unwrap();
        let chosen = variants.iter().find(|variant| {
            let told = &variant["properties"][tag];
            told["const"] == value[tag] || told["enum"].as_array().is_some_and(|all| all.contains(&value[tag]))
        });
        return conforms(document, chosen.unwrap_or_else(|| panic!("{at}: {value}")), value, at);
    }
    match value {
        Value::Object(fields) if schema.get("properties").is_some() => {
            let described = schema["properties"].as_object().unwrap();
            let sent: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
            let known: BTreeSet<&str> = described.keys().map(String::as_str).collect();
            let required = schema["required"]
                .as_array()
                .map_or(known.clone(), |names| names.iter().filter_map(Value::as_str).collect());
            assert!(required.is_subset(&sent) && sent.is_subset(&known), "{at}: {sent:?}, described are {known:?}");
            for (name, field) in fields {
                conforms(document, &described[name], field, &format!("{at}.{name}"));
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                conforms(document, &schema["additionalProperties"], field, &format!("{at}.{name}"));
            }
        }
        Value::Array(items) => {
            for item in items {
                conforms(document, &schema["items"], item, &format!("{at}[]"));
            }
        }
        scalar => {
            let kind = match scalar {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::String(_) => "string",
                _ => "number",
            };
            let allowed = match &schema["type"] {
                Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
                kind => Vec::from_iter(kind.as_str()),
            };
            let fits = allowed.iter().any(|allowed| *allowed == kind || (*allowed == "integer" && kind == "number"));
            let listed = schema["enum"].as_array().is_none_or(|all| all.contains(scalar));
            let same = schema.get("const").is_none_or(|only| only == scalar);
            assert!((fits || schema.get("const").is_some()) && listed && same, "{at}: {scalar} is not {schema}");
        }
    }
}

fn answer_schema<'a>(document: &'a Value, method: &str, path: &str, status: &str) -> &'a Value {
    let pointer = format!(
        "/paths/{}/{method}/responses/{status}/content/application~1json/schema",
        path.replace('~', "~0").replace('/', "~1")
    );
    document.pointer(&pointer).unwrap_or_else(|| panic!("{method} {path} {status}"))
}

#[tokio::test]
async fn describes_what_is_sent() {
    let document = document();
    let (_, router) = door();
    let mut compared = 0;
    for route in crate::routes::all().iter().filter(|route| route.method == "get" && route.path != "/openapi.json") {
        let path = route.path.replace("{tenant}", "tenant001").replace("{thing}", "pump-1");
        if path == "/api/v1/live" || !(path.starts_with("/api/") || path == "/readyz") {
            continue;
        }
        let value = get_json(&router, &path).await;
        conforms(&document, answer_schema(&document, "get", route.path, "200"), &value, route.path);
        compared += 1;
    }
    assert_eq!(compared, 15);
}

#[tokio::test]
async fn describes_what_changes_answer() {
    let document = document();
    let (_, router) = door();
    for (method, route, body, status) in [
        (Method::POST, "/api/v1/tenants", r#"{"tenant": "tenant001", "things": ["a"]}"#, StatusCode::OK),
        (Method::DELETE, "/api/v1/tenants/{tenant}", "", StatusCode::OK),
        (Method::POST, "/api/v1/tenants/{tenant}/things", r#"{"thing": "a"}"#, StatusCode::CREATED),
        (
            Method::POST,
            "/api/v1/tenants/{tenant}/things/{thing}/certificates",
            r#"{"valid_hours": 1}"#,
            StatusCode::CREATED,
        ),
        (
            Method::POST,
            "/api/v1/tenants/{tenant}/things/{thing}/rotation",
            r#"{"within_seconds": 60}"#,
            StatusCode::CREATED,
        ),
        (Method::PUT, "/api/v1/certificates/{certificate}", r#"{"status": "INACTIVE"}"#, StatusCode::OK),
        (
            Method::POST,
            "/api/v1/policies/simulate",
            r#"{"certificate": "ab12", "action": "iot:Publish", "subject": "a", "client_id": "pump-1"}"#,
            StatusCode::OK,
        ),
    ] {
        let path = route.replace("{tenant}", "tenant001").replace("{thing}", "a").replace("{certificate}", "ab12");
        let (sent, value) = change(&router, method.clone(), &path, body).await;
        assert_eq!(sent, status, "{route}");
        let method = method.as_str().to_lowercase();
        conforms(&document, answer_schema(&document, &method, route, status.as_str()), &value, route);
    }
}

#[tokio::test]
async fn describes_live_events() {
    let document = document();
    let (_, router) = door();
    let body = super::get(&router, "/api/v1/live").await.into_body();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let schema = document.pointer("/components/schemas/LiveEvent").unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let mut compared = 0;
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        conforms(&document, schema, &serde_json::from_str(data).unwrap(), "live");
        compared += 1;
    }
    assert_eq!(compared, 6);
}
