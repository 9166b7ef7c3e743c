//! The service over memory ports, request by request.

use super::*;
use axum::http::HeaderMap;
use kilter_core::{
    Timestamp,
    ports::{objects::Buckets, table::Write},
};
use kilter_testkit::{FakeClock, MemoryObjects, MemoryTable};
use serde_json::json;
use std::{sync::Mutex, time::Duration};

#[derive(Default)]
struct Results(Mutex<Vec<String>>);

impl ResultTables for Results {
    fn is_result_table(&self, name: &str) -> bool {
        name.starts_with("anomaly-results-")
    }
    fn tables(&self) -> Vec<(String, Timestamp)> {
        self.0.lock().unwrap().iter().map(|name| (name.clone(), Timestamp::from_seconds(1))).collect()
    }
    fn create(&self, name: &str) -> Result<(), String> {
        self.0.lock().unwrap().push(name.to_owned());
        Ok(())
    }
    fn delete(&self, name: &str) -> Result<(), String> {
        self.0.lock().unwrap().retain(|known| known != name);
        Ok(())
    }
}

struct House {
    service: DynamoDb,
    table: Arc<MemoryTable>,
    objects: Arc<MemoryObjects>,
    clock: FakeClock,
}

fn house() -> House {
    let (table, objects) = (Arc::new(MemoryTable::new()), Arc::new(MemoryObjects::default()));
    let clock = FakeClock::at(Timestamp::from_seconds(1_800_000_000));
    let results = Arc::new(Results(Mutex::new(vec!["anomaly-results-t1".to_owned()])));
    let service = DynamoDb::new(DynamoDbPorts {
        table: table.clone(),
        objects: objects.clone(),
        clock: Arc::new(clock.clone()),
        results,
    });
    House { service, table, objects, clock }
}

impl House {
    fn ask(&self, operation: &str, body: Json) -> Result<Json, AwsError> {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-target", format!("DynamoDB_20120810.{operation}").parse().unwrap());
        let unsigned = Call::new("us-east-1", "000000000000", self.service.0.clock.now());
        let call = Call { headers, body: body.to_string().into(), ..unsigned };
        self.service.answer(&call)
    }

    fn ok(&self, operation: &str, body: Json) -> Json {
        self.ask(operation, body).unwrap_or_else(|error| panic!("{operation}: {error}"))
    }

    fn refused(&self, operation: &str, body: Json) -> (String, String) {
        let error = self.ask(operation, body).expect_err(operation);
        (error.code, error.message)
    }

    fn upkeep(&self) {
        upkeep::round(&self.service.0).unwrap();
    }

    fn create(&self, name: &str) {
        self.ok("CreateTable", shape(name));
    }

    fn put(&self, table: &str, item: Json) {
        self.ok("PutItem", json!({"TableName": table, "Item": item}));
    }

    fn count(&self, table: &str) -> u64 {
        self.ok("Scan", json!({"TableName": table, "Select": "COUNT"}))["Count"].as_u64().unwrap()
    }
}

fn shape(name: &str) -> Json {
    json!({
        "TableName": name,
        "AttributeDefinitions": [
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "N"},
            {"AttributeName": "g", "AttributeType": "S"},
        ],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        "BillingMode": "PAY_PER_REQUEST",
        "GlobalSecondaryIndexes": [{
            "IndexName": "by-g",
            "KeySchema": [{"AttributeName": "g", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["v"]},
        }],
    })
}

fn item(pk: &str, sk: i64) -> Json {
    json!({"pk": {"S": pk}, "sk": {"N": sk.to_string()}, "g": {"S": format!("g{}", sk.rem_euclid(2))}, "v": {"S": "x"}, "w": {"S": "y"}})
}

#[test]
fn tables_come_and_go() {
    let house = house();
    house.create("t01");
    assert_eq!(house.refused("CreateTable", shape("t01")).0, "ResourceInUseException");
    let described = house.ok("DescribeTable", json!({"TableName": "t01"}));
    assert_eq!(described["Table"]["TableStatus"], "ACTIVE");
    assert_eq!(described["Table"]["GlobalSecondaryIndexes"][0]["IndexStatus"], "ACTIVE");
    assert_eq!(house.ok("ListTables", json!({"Limit": 1}))["LastEvaluatedTableName"], "anomaly-results-t1");
    house.put("t01", item("a", 1));
    house.ok("DeleteTable", json!({"TableName": "t01"}));
    assert_eq!(
        house.refused("PutItem", json!({"TableName": "t01", "Item": item("a", 1)})).0,
        "ResourceNotFoundException"
    );
    house.upkeep();
    assert_eq!(
        house.refused("DescribeTable", json!({"TableName": "t01"})).1,
        "Requested resource not found: Table: t01 not found"
    );
    house.create("t01");
    assert_eq!(house.count("t01"), 0);
    let bad = |change: fn(&mut Json)| {
        let mut shape = shape("t02");
        change(&mut shape);
        house.refused("CreateTable", shape)
    };
    assert!(bad(|shape| shape["TableName"] = json!("x")).1.contains("greater than or equal to 3"));
    assert!(
        bad(|shape| shape["KeySchema"][0]["AttributeName"] = json!("q"))
            .1
            .contains("not defined in AttributeDefinitions")
    );
    assert!(
        bad(|shape| shape["GlobalSecondaryIndexes"] = json!([]))
            .1
            .contains("does not exactly match number of attributes")
    );
    assert!(bad(|shape| shape["BillingMode"] = json!("FREE")).1.contains("enum value set"));
    assert!(bad(|shape| shape["StreamSpecification"] = json!({"StreamEnabled": true})).1.contains("not supported"));
}

#[test]
fn sort_keys_are_in_order_and_pages_are_whole() {
    let house = house();
    house.create("t01");
    for sk in [-10, 9, 100, -2, 0, 11] {
        house.put("t01", item("a", sk));
        house.put("t01", item("b", sk));
    }
    let walk = |condition: &str, values: Json, forward: bool, index: Option<&str>| -> Vec<String> {
        let mut found = Vec::new();
        let mut start = Json::Null;
        loop {
            let mut body = json!({
                "TableName": "t01", "KeyConditionExpression": condition, "ExpressionAttributeValues": values,
                "ScanIndexForward": forward, "Limit": 2, "ExclusiveStartKey": start,
            });
            if let Some(index) = index {
                body["IndexName"] = json!(index);
            }
            let page = house.ok("Query", body);
            found.extend(
                page["Items"].as_array().unwrap().iter().map(|item| item["sk"]["N"].as_str().unwrap().to_owned()),
            );
            match page.get("LastEvaluatedKey") {
                Some(last) => start = last.clone(),
                None => return found,
            }
        }
    };
    let a = || json!({":p": {"S": "a"}});
    assert_eq!(walk("pk = :p", a(), true, None), ["-10", "-2", "0", "9", "11", "100"]);
    assert_eq!(walk("pk = :p", a(), false, None), ["100", "11", "9", "0", "-2", "-10"]);
    let with = |n: &str| json!({":p": {"S": "a"}, ":n": {"N": n}});
    assert_eq!(walk("pk = :p AND sk > :n", with("0"), true, None), ["9", "11", "100"]);
    assert_eq!(walk("pk = :p AND sk >= :n", with("0"), false, None), ["100", "11", "9", "0"]);
    assert_eq!(walk("pk = :p AND sk < :n", with("0"), true, None), ["-10", "-2"]);
    assert_eq!(walk("pk = :p AND sk <= :n", with("0"), true, None), ["-10", "-2", "0"]);
    let g = || json!({":p": {"S": "g0"}});
    assert_eq!(walk("g = :p", g(), true, Some("by-g")), ["-10", "-10", "-2", "-2", "0", "0", "100", "100"]);
    let between = json!({":p": {"S": "g0"}, ":a": {"N": "-2"}, ":b": {"N": "0"}});
    assert_eq!(walk("g = :p AND sk BETWEEN :a AND :b", between, false, Some("by-g")), ["0", "0", "-2", "-2"]);
    // The index holds what it projects, and follows every change.
    let one = house.ok(
        "Query",
        json!({
            "TableName": "t01", "IndexName": "by-g", "KeyConditionExpression": "g = :p AND sk = :n",
            "ExpressionAttributeValues": {":p": {"S": "g0"}, ":n": {"N": "100"}},
        }),
    );
    let projected = &one["Items"].as_array().unwrap().iter().find(|item| item["pk"]["S"] == "a").unwrap();
    assert_eq!(**projected, json!({"pk": {"S": "a"}, "sk": {"N": "100"}, "g": {"S": "g0"}, "v": {"S": "x"}}));
    house.ok(
        "UpdateItem",
        json!({
            "TableName": "t01", "Key": {"pk": {"S": "a"}, "sk": {"N": "100"}}, "UpdateExpression": "REMOVE g",
        }),
    );
    assert_eq!(walk("g = :p", g(), true, Some("by-g")).len(), 7);
    let segments: u64 = (0..3)
        .map(|segment| {
            let body = json!({"TableName": "t01", "Segment": segment, "TotalSegments": 3});
            house.ok("Scan", body)["Count"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(segments, 12);
}

#[test]
fn conditions_decide_writes() {
    let house = house();
    house.create("t01");
    let put = json!({"TableName": "t01", "Item": item("a", 1), "ConditionExpression": "attribute_not_exists(pk)"});
    house.ok("PutItem", put.clone());
    assert_eq!(
        house.refused("PutItem", put),
        ("ConditionalCheckFailedException".into(), "The conditional request failed".into())
    );
    let key = json!({"pk": {"S": "a"}, "sk": {"N": "1.0"}});
    let updated = house.ok(
        "UpdateItem",
        json!({
            "TableName": "t01", "Key": key, "UpdateExpression": "SET n = if_not_exists(n, :z) + :one, v = :v",
            "ExpressionAttributeValues": {":z": {"N": "0"}, ":one": {"N": "0.1"}, ":v": {"S": "new"}},
            "ReturnValues": "UPDATED_NEW", "ReturnConsumedCapacity": "INDEXES",
        }),
    );
    assert_eq!(updated["Attributes"], json!({"n": {"N": "0.1"}, "v": {"S": "new"}}));
    assert_eq!(updated["ConsumedCapacity"]["CapacityUnits"], 2.0);
    let old = house.ok("DeleteItem", json!({"TableName": "t01", "Key": key, "ReturnValues": "ALL_OLD"}));
    assert_eq!(old["Attributes"]["v"]["S"], "new");
    assert_eq!(house.ok("GetItem", json!({"TableName": "t01", "Key": key})), json!({}));
    for (body, words) in [
        (json!({"TableName": "t01", "Item": {"pk": {"S": "a"}}}), "Missing the key sk in the item"),
        (
            json!({"TableName": "t01", "Item": {"pk": {"N": "1"}, "sk": {"N": "1"}}}),
            "Type mismatch for key pk expected: S actual: N",
        ),
        (
            json!({"TableName": "t01", "Item": {"pk": {"S": ""}, "sk": {"N": "1"}}}),
            "cannot contain an empty string value. Key: pk",
        ),
        (
            json!({"TableName": "t01", "Item": {"pk": {"S": "a"}, "sk": {"N": "1"}, "g": {"N": "1"}}}),
            "Type mismatch for Index Key g",
        ),
        (
            json!({"TableName": "t01", "Item": {"pk": {"S": "a"}, "sk": {"N": "1"}, "x": {"S": "x".repeat(410_000)}}}),
            "Item size has exceeded",
        ),
        (json!({"TableName": "t01", "Item": item("a", 1), "Expected": {}}), "use ConditionExpression"),
        (
            json!({"TableName": "t01", "Item": item("a", 1), "ReturnValues": "ALL_NEW"}),
            "Return values set to invalid value",
        ),
        (json!({"TableName": "t01"}), "Value null at 'item'"),
    ] {
        let (code, message) = house.refused("PutItem", body);
        assert!(code == "ValidationException" && message.contains(words), "{code} {message}");
    }
    let (_, message) = house.refused("UpdateItem", json!({
        "TableName": "t01", "Key": key, "UpdateExpression": "SET sk = :one", "ExpressionAttributeValues": {":one": {"N": "1"}},
    }));
    assert!(message.contains("Cannot update attribute sk. This attribute is part of the key"), "{message}");
    assert_eq!(house.refused("Nonsense", json!({})).0, "UnknownOperationException");
}

#[test]
fn transactions_are_all_or_nothing() {
    let house = house();
    house.create("t01");
    house.put("t01", item("a", 1));
    let key = |sk: i64| json!({"pk": {"S": "a"}, "sk": {"N": sk.to_string()}});
    let set = json!({
        "TableName": "t01", "Key": key(1), "UpdateExpression": "ADD n :one", "ExpressionAttributeValues": {":one": {"N": "1"}},
    });
    let failing = json!({"TransactItems": [
        {"Update": set}, {"Put": {"TableName": "t01", "Item": item("a", 2)}},
        {"ConditionCheck": {"TableName": "t01", "Key": key(3), "ConditionExpression": "attribute_exists(pk)"}},
    ]});
    let error = house.ask("TransactWriteItems", failing).unwrap_err();
    assert_eq!(
        error.message,
        "Transaction cancelled, please refer cancellation reasons for specific reasons [None, None, ConditionalCheckFailed]"
    );
    assert_eq!(error.members[0].1[2]["Code"], "ConditionalCheckFailed");
    assert_eq!(house.count("t01"), 1);
    let counted = json!({"TransactItems": [{"Update": set}], "ClientRequestToken": "once"});
    house.ok("TransactWriteItems", counted.clone());
    house.ok("TransactWriteItems", counted);
    let read = house.ok(
        "TransactGetItems",
        json!({"TransactItems": [
            {"Get": {"TableName": "t01", "Key": key(1)}}, {"Get": {"TableName": "t01", "Key": key(9)}},
        ]}),
    );
    assert_eq!(read["Responses"][0]["Item"]["n"]["N"], "1", "the token makes it once");
    assert_eq!(read["Responses"][1], json!({}));
    let other =
        json!({"TransactItems": [{"Delete": {"TableName": "t01", "Key": key(1)}}], "ClientRequestToken": "once"});
    assert_eq!(house.refused("TransactWriteItems", other).0, "IdempotentParameterMismatchException");
    let twice = json!({"TransactItems": [{"Update": set}, {"Delete": {"TableName": "t01", "Key": key(1)}}]});
    assert!(house.refused("TransactWriteItems", twice).1.contains("multiple operations on one item"));
}

#[test]
fn a_tenants_results_stand_beside_a_users_items() {
    let house = house();
    let name: Arc<str> = "anomaly-results-t1".into();
    let row = |sk: &str| {
        let json =
            json!({"thing": "pump", "event_time": sk, "score": 1.5, "causes": [], "verdict": {"state": "normal"}});
        Write::put(&name, "pump", sk, json.to_string().into_bytes())
    };
    house.table.commit(vec![row("2026-01-01"), row("2026-01-03")]).unwrap();
    let table = "anomaly-results-t1";
    let own = json!({"pk": {"S": "pump"}, "sk": {"S": "2026-01-02"}, "note": {"S": "mine"}});
    house.put(table, own);
    let all = house.ok(
        "Query",
        json!({
            "TableName": table, "KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": {"S": "pump"}},
            "ScanIndexForward": false,
        }),
    );
    let keys: Vec<&str> =
        all["Items"].as_array().unwrap().iter().map(|item| item["sk"]["S"].as_str().unwrap()).collect();
    assert_eq!(keys, ["2026-01-03", "2026-01-02", "2026-01-01"]);
    assert_eq!(all["Items"][0]["score"]["N"], "1.5");
    assert_eq!(all["Items"][0]["verdict"]["M"]["state"]["S"], "normal");
    assert_eq!(house.count(table), 3);
    let key = json!({"pk": {"S": "pump"}, "sk": {"S": "2026-01-03"}});
    let change = json!({"TableName": table, "Key": key, "UpdateExpression": "SET a = :v", "ExpressionAttributeValues": {":v": {"N": "1"}}});
    assert_eq!(house.refused("UpdateItem", change).0, "AccessDeniedException");
    house.ok("DeleteItem", json!({"TableName": table, "Key": key}));
    assert_eq!(house.count(table), 2);
    house.ok("DeleteTable", json!({"TableName": table}));
    house.upkeep();
    assert_eq!(house.refused("DescribeTable", json!({"TableName": table})).0, "ResourceNotFoundException");
}

#[test]
fn indexes_are_filled_and_items_expire() {
    let house = house();
    house.create("t01");
    for sk in 0..100 {
        let mut item = item("a", sk);
        item["until"] = json!({"N": (1_800_000_000 + sk * 10).to_string()});
        house.put("t01", item);
    }
    house.ok("UpdateTable", json!({
        "TableName": "t01", "AttributeDefinitions": [{"AttributeName": "w", "AttributeType": "S"}],
        "GlobalSecondaryIndexUpdates": [{"Create": {
            "IndexName": "by-w", "KeySchema": [{"AttributeName": "w", "KeyType": "HASH"}], "Projection": {"ProjectionType": "ALL"},
        }}],
    }));
    let by_w = json!({
        "TableName": "t01", "IndexName": "by-w", "KeyConditionExpression": "w = :w",
        "ExpressionAttributeValues": {":w": {"S": "y"}}, "Select": "COUNT",
    });
    assert!(house.refused("Query", by_w.clone()).1.contains("does not have the specified index"));
    house.upkeep();
    assert_eq!(house.ok("Query", by_w.clone())["Count"], 100);
    let ttl = json!({"TableName": "t01", "TimeToLiveSpecification": {"Enabled": true, "AttributeName": "until"}});
    house.ok("UpdateTimeToLive", ttl.clone());
    assert!(house.refused("UpdateTimeToLive", ttl).1.contains("already enabled"));
    house.upkeep();
    house.clock.advance(Duration::from_secs(495));
    house.upkeep();
    assert_eq!(house.count("t01"), 50);
    assert_eq!(house.ok("Query", by_w)["Count"], 50);
    let described = house.ok("DescribeTable", json!({"TableName": "t01"}));
    assert_eq!(described["Table"]["ItemCount"], 50);
    assert_eq!(described["Table"]["GlobalSecondaryIndexes"][1]["ItemCount"], 50);
}

#[test]
fn a_table_is_exported_restored_and_imported_as_it_was() {
    let house = house();
    house.create("t01");
    let arn = "arn:aws:dynamodb:us-east-1:000000000000:table/t01";
    let export = json!({"TableArn": arn, "S3Bucket": "backup"});
    assert_eq!(house.refused("ExportTableToPointInTime", export.clone()).0, "PointInTimeRecoveryUnavailableException");
    house.put("t01", item("before", 1));
    house.ok(
        "UpdateContinuousBackups",
        json!({
            "TableName": "t01", "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": true},
        }),
    );
    for sk in 0..150 {
        house.put("t01", item("a", sk));
    }
    house.clock.advance(Duration::from_secs(10));
    let then = house.service.0.clock.now().as_nanos() as f64 / 1e9;
    house.clock.advance(Duration::from_secs(10));
    for sk in 0..50 {
        house.ok("DeleteItem", json!({"TableName": "t01", "Key": {"pk": {"S": "a"}, "sk": {"N": sk.to_string()}}}));
        house.put("t01", item("later", sk));
        house.ok("UpdateItem", json!({
            "TableName": "t01", "Key": {"pk": {"S": "a"}, "sk": {"N": (sk + 50).to_string()}}, "UpdateExpression": "REMOVE v",
        }));
    }
    house.ok(
        "RestoreTableToPointInTime",
        json!({"SourceTableName": "t01", "TargetTableName": "t02", "RestoreDateTime": then}),
    );
    house.upkeep();
    assert_eq!(house.count("t02"), 151);
    let with_v = json!({"TableName": "t02", "FilterExpression": "attribute_exists(v)", "Select": "COUNT"});
    assert_eq!(house.ok("Scan", with_v)["Count"], 151);
    assert_eq!(house.count("t01"), 151, "the source stays as it is");
    // No bucket, then one.
    let failed = house.ok("ExportTableToPointInTime", export.clone());
    house.upkeep();
    let arn_of = |answer: &Json| answer["ExportDescription"]["ExportArn"].clone();
    let described = house.ok("DescribeExport", json!({"ExportArn": arn_of(&failed)}));
    assert_eq!(described["ExportDescription"]["FailureCode"], "S3NoSuchBucket");
    house.objects.create_bucket("backup", "us-east-1").unwrap();
    let started = house.ok("ExportTableToPointInTime", export);
    house.upkeep();
    let done = &house.ok("DescribeExport", json!({"ExportArn": arn_of(&started)}))["ExportDescription"];
    assert_eq!((&done["ExportStatus"], &done["ItemCount"]), (&json!("COMPLETED"), &json!(151)));
    let manifest = done["ExportManifest"].as_str().unwrap();
    let folder = manifest.strip_suffix("manifest-summary.json").unwrap();
    house.ok(
        "ImportTable",
        json!({
            "S3BucketSource": {"S3Bucket": "backup", "S3KeyPrefix": format!("{folder}data/")},
            "InputFormat": "DYNAMODB_JSON", "InputCompressionType": "GZIP", "TableCreationParameters": shape("t03"),
        }),
    );
    house.upkeep();
    assert_eq!(house.count("t03"), 151);
    let imports = house.ok("ListImports", json!({}));
    assert_eq!(imports["ImportSummaryList"][0]["ImportStatus"], "COMPLETED");
}

#[tokio::test]
async fn rules_put_items() {
    use kilter_core::ports::action::{ActionCall, ActionTarget};
    let house = house();
    house.create("t01");
    let call = |kind: &str, parameters: Json, payload: &str| ActionCall {
        rule: "rule".into(),
        kind: kind.to_owned(),
        parameters,
        payload: payload.to_owned().into(),
        topic: "t".into(),
    };
    let v2 = json!({"roleArn": "r", "putItem": {"tableName": "t01"}});
    house
        .service
        .perform(call("dynamoDBv2", v2.clone(), r#"{"pk": "a", "sk": 1, "deep": {"x": [true]}}"#))
        .await
        .unwrap();
    let v1 = json!({
        "tableName": "t01", "hashKeyField": "pk", "hashKeyValue": "b", "rangeKeyField": "sk", "rangeKeyType": "NUMBER",
        "rangeKeyValue": "2", "payloadField": "data",
    });
    house.service.perform(call("dynamoDB", v1, r#"{"t": 1.5}"#)).await.unwrap();
    let key = json!({"pk": {"S": "b"}, "sk": {"N": "2"}});
    let item = house.ok("GetItem", json!({"TableName": "t01", "Key": key}));
    assert_eq!(item["Item"]["data"]["M"]["t"]["N"], "1.5");
    let error = house.service.perform(call("dynamoDBv2", v2, r#"{"sk": 1}"#)).await.unwrap_err();
    assert!(error.message.contains("Missing the key pk"), "{error}");
    let nowhere = json!({"putItem": {"tableName": "nowhere"}});
    let error = house.service.perform(call("dynamoDBv2", nowhere, "{}")).await.unwrap_err();
    assert!(error.message.contains("there is no table nowhere") && !error.retryable, "{error}");
}
