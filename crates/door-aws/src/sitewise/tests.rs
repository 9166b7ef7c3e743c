//! The service over memory ports, request by request.

use super::*;
use axum::http::Method;
use kilter_core::Timestamp;
use kilter_testkit::{FakeClock, MemoryTable};
use serde_json::json;

const NOW: i64 = 1_800_000_000;

fn service() -> (Sitewise, FakeClock) {
    let clock = FakeClock::at(Timestamp::from_seconds(NOW));
    (Sitewise::new(Arc::new(MemoryTable::new()), Arc::new(clock.clone())), clock)
}

fn ask(service: &Sitewise, method: &str, path: &str, body: Json) -> Result<Json, AwsError> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let call = Call {
        method: method.parse::<Method>().unwrap(),
        path: path.to_owned(),
        query: crate::uri::pairs(query),
        body: if body.is_null() { Default::default() } else { body.to_string().into() },
        ..Call::new("us-east-1", "000000000000", service.store.clock.now())
    };
    let answer = service.answer(&call)?;
    Ok(if answer.body.is_empty() { Json::Null } else { serde_json::from_slice(&answer.body).unwrap() })
}

fn ok(service: &Sitewise, method: &str, path: &str, body: Json) -> Json {
    ask(service, method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// A pump with two measurements, what follows from them, and a model of a station above it.
fn station(service: &Sitewise) -> (String, String, Vec<String>) {
    let variable = |name: &str, property: &str| json!({"name": name, "value": {"propertyId": property}});
    let pump = ok(
        service,
        "POST",
        "/asset-models",
        json!({
            "assetModelName": "Pump",
            "assetModelProperties": [
                {"name": "Inlet", "dataType": "DOUBLE", "type": {"measurement": {}}},
                {"name": "Outlet", "dataType": "DOUBLE", "type": {"measurement": {}}},
                {"name": "Factor", "dataType": "DOUBLE", "type": {"attribute": {"defaultValue": "10"}}},
                {"name": "Lift", "dataType": "DOUBLE", "unit": "m", "type": {"transform": {
                    "expression": "(out - in) * f", "variables": [variable("in", "Inlet"), variable("out", "Outlet"), variable("f", "Factor")]}}},
                {"name": "MeanLift", "dataType": "DOUBLE", "type": {"metric": {
                    "expression": "avg(l)", "variables": [variable("l", "Lift")], "window": {"tumbling": {"interval": "1m"}}}}},
            ],
        }),
    );
    let pump = pump["assetModelId"].as_str().unwrap().to_owned();
    let described = ok(service, "GET", &format!("/asset-models/{pump}"), Json::Null);
    assert_eq!(described["assetModelStatus"]["state"], "ACTIVE");
    let ids = |described: &Json| -> Vec<String> {
        let properties = described["assetModelProperties"].as_array().unwrap();
        properties.iter().map(|property| property["id"].as_str().unwrap().to_owned()).collect()
    };
    let station = ok(
        service,
        "POST",
        "/asset-models",
        json!({
            "assetModelName": "Station",
            "assetModelHierarchies": [{"name": "pumps", "childAssetModelId": pump}],
            "assetModelProperties": [{"name": "Highest", "dataType": "DOUBLE", "type": {"metric": {
                "expression": "max(l)", "window": {"tumbling": {"interval": "1m"}},
                "variables": [{"name": "l", "value": {"propertyId": "Lift", "hierarchyId": "pumps"}}]}}}],
        }),
    );
    (pump, station["assetModelId"].as_str().unwrap().to_owned(), ids(&described))
}

fn put(service: &Sitewise, asset: &str, property: &str, second: i64, value: f64) {
    let answer = ok(
        service,
        "POST",
        "/properties",
        json!({"entries": [{"entryId": "1", "assetId": asset, "propertyId": property,
        "propertyValues": [{"value": {"doubleValue": value}, "timestamp": {"timeInSeconds": second}}]}]}),
    );
    assert_eq!(answer["errorEntries"], json!([]));
}

#[test]
fn values_go_in_and_what_follows_from_them_comes_out() {
    let (service, clock) = service();
    let (pump, station_model, ids) = station(&service);
    let make = |name: &str, model: &str| {
        let made = ok(&service, "POST", "/assets", json!({"assetName": name, "assetModelId": model}));
        made["assetId"].as_str().unwrap().to_owned()
    };
    let (one, two, station) = (make("one", &pump), make("two", &pump), make("station", &station_model));
    let hierarchies = ok(&service, "GET", &format!("/assets/{station}"), Json::Null);
    let hierarchy = hierarchies["assetHierarchies"][0]["id"].as_str().unwrap().to_owned();
    for pump in [&one, &two] {
        ok(
            &service,
            "POST",
            &format!("/assets/{station}/associate"),
            json!({"hierarchyId": hierarchy, "childAssetId": pump}),
        );
    }
    ok(&service, "PUT", &format!("/assets/{one}/properties/{}", ids[0]), json!({"propertyAlias": "/plant/one/in"}));
    let start = NOW + 60;
    clock.advance(std::time::Duration::from_secs(200));
    for (pump, lift) in [(&one, 1.0), (&two, 3.0)] {
        put(&service, pump, &ids[0], start, 1.0);
        put(&service, pump, &ids[1], start, 1.0 + lift);
        put(&service, pump, &ids[1], start + 10, 1.0 + lift * 2.0);
    }
    let latest = ok(&service, "GET", &format!("/properties/latest?assetId={one}&propertyId={}", ids[3]), Json::Null);
    assert_eq!(latest["propertyValue"]["value"]["doubleValue"], 20.0);
    assert_eq!(latest["propertyValue"]["timestamp"]["timeInSeconds"], start + 10);
    let mean = ok(&service, "GET", &format!("/properties/latest?assetId={one}&propertyId={}", ids[4]), Json::Null);
    assert_eq!(mean["propertyValue"]["value"]["doubleValue"], 15.0);
    assert_eq!(mean["propertyValue"]["timestamp"]["timeInSeconds"], start + 60, "a metric stands at its window's end");
    let model = ok(&service, "GET", &format!("/asset-models/{station_model}"), Json::Null);
    let highest = model["assetModelProperties"][0]["id"].as_str().unwrap();
    let highest =
        ok(&service, "GET", &format!("/properties/latest?assetId={station}&propertyId={highest}"), Json::Null);
    assert_eq!(highest["propertyValue"]["value"]["doubleValue"], 60.0, "over all that are below");
    // A value that comes late counts.
    put(&service, &one, &ids[1], start + 20, 101.0);
    let mean = ok(&service, "GET", &format!("/properties/latest?assetId={one}&propertyId={}", ids[4]), Json::Null);
    assert_eq!(mean["propertyValue"]["value"]["doubleValue"], 1030.0 / 3.0);
    let history = ok(
        &service,
        "GET",
        &format!("/properties/history?assetId={one}&propertyId={}&timeOrdering=DESCENDING&maxResults=2", ids[3]),
        Json::Null,
    );
    assert_eq!(history["assetPropertyValueHistory"][0]["value"]["doubleValue"], 1000.0);
    let token = history["nextToken"].as_str().unwrap();
    let rest = ok(
        &service,
        "GET",
        &format!(
            "/properties/history?assetId={one}&propertyId={}&timeOrdering=DESCENDING&maxResults=2&nextToken={token}",
            ids[3]
        ),
        Json::Null,
    );
    assert_eq!(rest["assetPropertyValueHistory"].as_array().unwrap().len(), 1);
    let sums = ok(
        &service,
        "POST",
        "/properties/batch/aggregates",
        json!({"entries": [
            {"entryId": "a", "propertyAlias": "/plant/one/in", "aggregateTypes": ["AVERAGE", "COUNT"], "resolution": "1m",
             "startDate": start - 60, "endDate": start + 120},
            {"entryId": "b", "propertyAlias": "/nowhere", "aggregateTypes": ["AVERAGE"], "resolution": "1m", "startDate": 1, "endDate": 2},
        ]}),
    );
    assert_eq!(sums["successEntries"][0]["aggregatedValues"][0]["value"], json!({"average": 1.0, "count": 1.0}));
    assert_eq!(sums["errorEntries"][0]["errorCode"], "ResourceNotFoundException");
    // What is in use stays.
    assert_eq!(
        ask(&service, "DELETE", &format!("/assets/{one}"), Json::Null).unwrap_err().code,
        "ConflictingOperationException"
    );
    assert_eq!(
        ask(&service, "DELETE", &format!("/asset-models/{pump}"), Json::Null).unwrap_err().code,
        "ConflictingOperationException"
    );
    for pump in [&one, &two] {
        ok(
            &service,
            "POST",
            &format!("/assets/{station}/disassociate"),
            json!({"hierarchyId": hierarchy, "childAssetId": pump}),
        );
        ok(&service, "DELETE", &format!("/assets/{pump}"), Json::Null);
    }
    let gone =
        ask(&service, "GET", &format!("/properties/latest?propertyAlias={}", "/plant/one/in"), Json::Null).unwrap_err();
    assert_eq!((gone.code.as_str(), gone.status.as_u16()), ("ResourceNotFoundException", 404));
}

#[test]
fn wrong_input_is_refused() {
    let (service, _) = service();
    let (pump, _, ids) = station(&service);
    let again = ask(&service, "POST", "/asset-models", json!({"assetModelName": "Pump"})).unwrap_err();
    assert_eq!((again.code.as_str(), again.status.as_u16()), ("ResourceAlreadyExistsException", 409));
    let model = |properties: Json| {
        ask(&service, "POST", "/asset-models", json!({"assetModelName": "New", "assetModelProperties": properties}))
    };
    let transform = |expression: &str, property: &str| {
        model(json!([{"name": "T", "dataType": "DOUBLE", "type": {"transform": {"expression": expression,
            "variables": [{"name": "x", "value": {"propertyId": property}}]}}}]))
    };
    for (answer, words) in [
        (model(json!([{"name": "x", "dataType": "STRUCT", "type": {"measurement": {}}}])), "not supported by Kilter"),
        (model(json!([{"name": "x", "dataType": "DOUBLE"}])), "exactly one type"),
        (transform("x +", "T"), "ends too early"),
        (transform("x", "T"), "depends on itself"),
        (transform("x", "nothing"), "names no property"),
        (transform("avg(x)", "T"), "no function avg"),
    ] {
        let error = answer.unwrap_err();
        assert!(error.code == "InvalidRequestException" && error.message.contains(words), "{error}");
    }
    let asset = ok(&service, "POST", "/assets", json!({"assetName": "one", "assetModelId": pump}));
    let asset = asset["assetId"].as_str().unwrap();
    let entry = |property: &str, value: Json, second: i64| {
        let answer = ok(
            &service,
            "POST",
            "/properties",
            json!({"entries": [{"entryId": "1", "assetId": asset, "propertyId": property,
            "propertyValues": [{"value": value, "timestamp": {"timeInSeconds": second}}]}]}),
        );
        answer["errorEntries"][0]["errors"][0]["errorCode"].as_str().unwrap().to_owned()
    };
    assert_eq!(entry(&ids[0], json!({"stringValue": "x"}), NOW), "InvalidRequestException");
    assert_eq!(entry(&ids[0], json!({"doubleValue": 1.0}), NOW - 8 * 86_400), "TimestampOutOfRangeException");
    assert_eq!(entry(&ids[3], json!({"doubleValue": 1.0}), NOW), "InvalidRequestException");
    assert_eq!(entry("nothing", json!({"doubleValue": 1.0}), NOW), "ResourceNotFoundException");
    assert_eq!(ask(&service, "GET", "/portals", Json::Null).unwrap_err().code, "UnknownOperationException");
}

#[tokio::test]
async fn rules_put_values() {
    let (service, _) = service();
    let (pump, _, ids) = station(&service);
    let asset = ok(&service, "POST", "/assets", json!({"assetName": "one", "assetModelId": pump}));
    let call = ActionCall {
        rule: "rule".into(),
        kind: "iotSiteWise".to_owned(),
        parameters: json!({"putAssetPropertyValueEntries": [{"assetId": asset["assetId"], "propertyId": ids[0], "propertyValues": [
            {"value": {"doubleValue": "4.5"}, "timestamp": {"timeInSeconds": NOW.to_string(), "offsetInNanos": "5"}}]}]}),
        payload: Default::default(),
        topic: "t".into(),
    };
    service.perform(call).await.unwrap();
    let path = format!("/properties/latest?assetId={}&propertyId={}", asset["assetId"].as_str().unwrap(), ids[0]);
    let latest = ok(&service, "GET", &path, Json::Null);
    assert_eq!(latest["propertyValue"]["value"]["doubleValue"], 4.5);
    assert_eq!(latest["propertyValue"]["timestamp"]["offsetInNanos"], 5);
}
