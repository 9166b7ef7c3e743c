//! Rules at work: what is kept, what is carried out, what is said when something fails.

mod changing;
mod failing;

use super::{Engine, Origin, Rule, RuleAdmin};
use crate::{
    append::Appender,
    ingest::Site,
    logs::{LogWriter, TableLogs},
    registry::{Change, Registry, RegistryError, Tenant},
};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use kilter_core::{
    AlertBudget, NewRecord, Offset, RecordKind, ShardId, StreamName, TenantId, Timestamp,
    ports::{
        action::{ActionCall, ActionError, ActionTarget, RuleRoles},
        deliver::{Deliver, Outgoing, RefusalView, SessionView},
        ingest::{Client, ClientIdentity},
        logs::{LogQuery, Logs},
        rules::{RuleErrorKind, RulePayload, Rules},
        stream::{ReadLimit, Stream, StreamAdmin, StreamError},
        table::{Table, Write},
    },
};
use kilter_testkit::{FakeClock, MemoryStream, MemoryTable};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Door(Mutex<Vec<Outgoing>>);

impl Deliver for Door {
    fn deliver(&self, message: Outgoing) -> BoxFuture<'static, Result<(), StreamError>> {
        self.0.lock().unwrap().push(message);
        futures::future::ready(Ok(())).boxed()
    }
    fn refusals(&self) -> Vec<RefusalView> {
        Vec::new()
    }
    fn sessions(&self) -> Vec<SessionView> {
        Vec::new()
    }
    fn retained(&self, _: &str) -> Option<Outgoing> {
        None
    }
    fn retained_topics(&self, _: Option<&str>, _: usize) -> Vec<String> {
        Vec::new()
    }
}

#[derive(Default)]
struct Target {
    calls: Mutex<Vec<ActionCall>>,
}

impl ActionTarget for Target {
    fn kinds(&self) -> &[&'static str] {
        &["s3", "dynamoDBv2"]
    }
    fn check(&self, _: &str, parameters: &Value) -> Result<(), String> {
        if parameters["bucketName"] == "UPPER" { Err("a bucket's name is lower case".into()) } else { Ok(()) }
    }
    fn perform(&self, call: ActionCall) -> BoxFuture<'static, Result<(), ActionError>> {
        let missing = call.parameters["bucketName"] == "missing";
        self.calls.lock().unwrap().push(call);
        let result = match missing {
            true => Err(ActionError { resource: "missing".into(), message: "no such bucket".into(), retryable: false }),
            false => Ok(()),
        };
        futures::future::ready(result).boxed()
    }
}

struct NoRoles;

impl RuleRoles for NoRoles {
    fn may(&self, role_arn: &str, action: &str, resource: &str) -> Result<(), String> {
        if role_arn.ends_with("good") { Ok(()) } else { Err(format!("{role_arn} may not {action} on {resource}")) }
    }
}

struct House {
    clock: FakeClock,
    table: Arc<MemoryTable>,
    stream: Arc<MemoryStream>,
    engine: Arc<Engine>,
    admin: RuleAdmin,
    logs: Arc<TableLogs>,
    door: Arc<dyn Deliver>,
    outbox: Arc<Door>,
    target: Arc<Target>,
}

fn tenant() -> TenantId {
    TenantId::new("t1").unwrap()
}

fn house() -> House {
    let house = house_without_log();
    house.engine.log_to(LogWriter::start(house.logs.clone()).unwrap());
    house
}

fn house_without_log() -> House {
    let table = Arc::new(MemoryTable::new());
    let stream = Arc::new(MemoryStream::new());
    let fake = FakeClock::default();
    let clock = Arc::new(fake.clone());
    let registry = Arc::new(Registry::open(table.clone()).unwrap());
    for name in ["anomaly-stream-t1", "other"] {
        stream.create(&StreamName::new(name).unwrap(), 1).unwrap();
    }
    let known = Tenant { tenant: tenant(), created: Timestamp::default(), budget: AlertBudget::default(), shards: 1 };
    registry.change::<(), RegistryError>(|_| Ok((vec![Change::Tenant(known)], ()))).unwrap();
    let append = Arc::new(Appender::open(stream.clone(), &*table).unwrap());
    let site = Site { region: "us-east-1".into(), account: "123456789012".into() };
    let mut engine = Engine::new(registry.clone(), append, clock.clone(), site);
    let paused = fake.clone();
    engine.pause = Box::new(move |wait| {
        paused.advance(wait);
        futures::future::ready(()).boxed()
    });
    let engine = Arc::new(engine);
    let logs = Arc::new(TableLogs::open(table.clone(), clock.clone()).unwrap());
    let outbox = Arc::new(Door::default());
    let door: Arc<dyn Deliver> = outbox.clone();
    engine.deliver_through(&door);
    let target = Arc::new(Target::default());
    engine.add_target(target.clone());
    let admin = RuleAdmin { registry, engine: engine.clone(), clock };
    House { clock: fake, table, stream, engine, admin, logs, door, outbox, target }
}

fn payload(sql: &str, actions: Value) -> RulePayload {
    serde_json::from_value(json!({"sql": sql, "actions": actions})).unwrap()
}

fn device() -> Origin {
    let identity = ClientIdentity {
        certificate: kilter_core::CertificateId::new(&"ab".repeat(32)).unwrap(),
        client_id: "device-1".into(),
        thing: None,
        source: "192.0.2.7".into(),
    };
    Origin { client: Some(Client(Arc::new(identity))), hops: 0 }
}

impl House {
    fn rule(&self, name: &str, sql: &str, actions: Value) {
        self.admin.create(name, payload(sql, actions)).unwrap();
    }

    async fn publish(&self, topic: &str, body: &str) {
        self.try_publish(topic, body).await.unwrap();
    }

    /// Resolves as the acknowledgement would.
    async fn try_publish(&self, topic: &str, body: &str) -> Result<(), StreamError> {
        let (rules, seen) = self.engine.rules_for(topic);
        let body = Bytes::copy_from_slice(body.as_bytes());
        let now = Timestamp::from_nanos(1_767_225_600_123_456_789);
        let routed = self.engine.route(&rules, &seen.into(), &body, None, &device(), now).unwrap();
        self.engine.keep(routed).await
    }

    /// A rule with an error action that publishes on `errors`.
    fn rule_with_errors(&self, name: &str, sql: &str, actions: Value) {
        let mut rule = payload(sql, actions);
        rule.error_action = serde_json::from_value(json!({"republish": {"topic": "errors"}})).unwrap();
        self.admin.create(name, rule).unwrap();
    }

    /// What error actions have published.
    fn errors(&self) -> Vec<Value> {
        let told = std::mem::take(&mut *self.outbox.0.lock().unwrap());
        told.iter().map(|message| serde_json::from_slice(&message.payload).unwrap()).collect()
    }

    fn records(&self, stream: &str) -> Vec<NewRecord> {
        let limit = ReadLimit { records: 100, bytes: 1 << 20 };
        let read = self.stream.read(&StreamName::new(stream).unwrap(), ShardId(0), Offset(0), limit).unwrap();
        read.into_iter().map(|record| record.record).collect()
    }

    fn log(&self, rule: &str) -> Vec<Value> {
        let query = LogQuery { limit: 100, ..LogQuery::default() };
        let events = self.logs.events(&format!("/aws/iot/rules/{rule}"), &query).unwrap_or_default();
        events.iter().map(|event| serde_json::from_str(&event.event.message).unwrap()).collect()
    }
}

const TELEMETRY: &str = "tenants/t1/devices/pump-1/telemetry";

#[tokio::test]
async fn the_cookbooks_rule_puts_the_selected_json_into_the_stream() {
    let house = house();
    let kinesis = json!([{"kinesis": {"roleArn": "arn:aws:iam::123456789012:role/good",
        "streamName": "anomaly-stream-t1", "partitionKey": "t1"}},
        {"lambda": {"functionArn": "arn:aws:lambda:us-east-1:123456789012:function:score-telemetry-t1"}}]);
    let sql = "SELECT topic() as topic, timestamp() as ts, * FROM 'tenants/t1/devices/+/telemetry'";
    house.rule("telemetry_to_kinesis_t1", sql, kinesis);
    house.publish(TELEMETRY, r#"{"temperature":20.5}"#).await;
    house.publish(TELEMETRY, r#"{"ts":"1767225000","temperature":21.5}"#).await;
    house.publish(TELEMETRY, "not json").await;
    house.publish("tenants/t2/devices/pump-1/telemetry", r#"{"temperature":1}"#).await;
    let records = house.records("anomaly-stream-t1");
    let texts: Vec<_> = records.iter().map(|r| String::from_utf8_lossy(&r.data).into_owned()).collect();
    assert_eq!(texts[0], format!(r#"{{"topic":"{TELEMETRY}","ts":1767225600123,"temperature":20.5}}"#));
    assert_eq!(texts[1], format!(r#"{{"topic":"{TELEMETRY}","ts":"1767225000","temperature":21.5}}"#));
    assert_eq!(texts[2], "not json");
    assert_eq!(records.len(), 3);
    assert!(matches!(&records[2].kind, RecordKind::Rejected(why) if why.contains("not JSON")), "{:?}", records[2].kind);
    let numbers: Vec<u64> = records.iter().map(|r| r.thing_sequence).collect();
    assert_eq!((numbers, &*records[0].partition_key), (vec![1, 2, 3], "t1"));
    // The stream has the message that is not JSON; the other action says that it could do nothing with it.
    let log = house.log("telemetry_to_kinesis_t1");
    assert_eq!((log.len(), &log[0]["failures"][0]["failedAction"]), (1, &json!("LambdaAction")));
    assert!(log[0].get("base64OriginalPayload").is_none());
}

#[tokio::test]
async fn templates_choose_keys_and_other_streams_keep_theirs() {
    let house = house();
    let actions = json!([
        {"kinesis": {"streamName": "other", "partitionKey": "${topic(1)}-${clientid()}"}},
        {"s3": {"bucketName": "b", "key": "${topic()}/${timestamp()}.json"}},
    ]);
    house.rule("r", "SELECT a FROM 'plant/#' WHERE a > 1", actions);
    house.publish("plant/x", r#"{"a":2,"b":3}"#).await;
    house.publish("plant/x", r#"{"a":1}"#).await;
    let records = house.records("other");
    assert_eq!(
        (records.len(), &*records[0].partition_key, records[0].thing.as_str()),
        (1, "plant-device-1", "device-1")
    );
    let calls = house.target.calls.lock().unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].parameters, json!({"bucketName": "b", "key": "plant/x/1767225600123.json"}));
    assert_eq!(&calls[0].payload[..], br#"{"a":2}"#);
}

#[tokio::test]
async fn a_failing_action_says_so_and_the_message_is_not_lost() {
    let house = house();
    house.rule("plain", "SELECT * FROM 'a/1'", json!([{"s3": {"bucketName": "missing", "key": "k"}}]));
    house.publish("a/1", "raw").await;
    let log = house.log("plain");
    assert_eq!(log[0]["failures"][0]["failedAction"], "S3Action");
    assert_eq!(log[0]["failures"][0]["errorMessage"], "no such bucket");
    assert_eq!(log[0]["base64OriginalPayload"], "cmF3");

    let mut handled = payload(
        "SELECT * FROM 'a/2'",
        json!([{"s3": {"bucketName": "missing", "key": "k"}}, {"http": {"url": "https://example.com"}}]),
    );
    handled.error_action = serde_json::from_value(json!({"republish": {"topic": "errors/${topic()}"}})).unwrap();
    house.admin.create("handled", handled).unwrap();
    house.publish("a/2", "raw").await;
    let told = house.outbox.0.lock().unwrap().pop().unwrap();
    let error: Value = serde_json::from_slice(&told.payload).unwrap();
    assert_eq!(&*told.topic, "errors/a/2");
    assert_eq!((&error["ruleName"], &error["base64OriginalPayload"]), (&json!("handled"), &json!("cmF3")));
    assert_eq!((&error["clientId"], error["failures"].as_array().unwrap().len()), (&json!("device-1"), 2));
    assert!(error["failures"][1]["errorMessage"].as_str().unwrap().contains("nothing here carries out http"));
    assert!(house.log("handled")[0].get("base64OriginalPayload").is_none());
}

#[tokio::test]
async fn republishing_meets_rules_again_and_loops_end() {
    let house = house();
    house.rule("first", "SELECT v + 1 AS v FROM 'in'", json!([{"republish": {"topic": "out/${topic()}", "qos": 1}}]));
    house.rule("second", "SELECT * FROM 'out/#'", json!([{"kinesis": {"streamName": "other"}}]));
    house.publish("in", r#"{"v":1}"#).await;
    let delivered = house.outbox.0.lock().unwrap().pop().unwrap();
    assert_eq!((&*delivered.topic, &delivered.payload[..], delivered.qos), ("out/in", &br#"{"v":2}"#[..], 1));
    assert_eq!(&house.records("other")[0].data[..], br#"{"v":2}"#);

    house.rule("loop", "SELECT * FROM 'round'", json!([{"republish": {"topic": "round"}}]));
    house.publish("round", "x").await;
    assert_eq!(house.outbox.0.lock().unwrap().len(), usize::from(super::builtin::HOPS_MAX));
    assert!(house.log("loop")[0]["failures"][0]["errorMessage"].as_str().unwrap().contains("loop"));
}

#[tokio::test]
async fn basic_ingest_meets_its_rule_alone_and_disabled_rules_do_nothing() {
    let house = house();
    let kinesis = || json!([{"kinesis": {"streamName": "other"}}]);
    house.rule("direct", "SELECT topic() AS t", kinesis());
    house.rule("by_topic", "SELECT * FROM 'plant/x'", kinesis());
    house.publish("$aws/rules/direct/plant/x", "{}").await;
    assert_eq!(&house.records("other")[0].data[..], br#"{"t":"plant/x"}"#);
    assert_eq!(house.records("other").len(), 1);
    house.publish("$aws/rules/nobody/plant/x", "{}").await;
    house.admin.set_disabled("direct", true).unwrap();
    house.publish("$aws/rules/direct/plant/x", "{}").await;
    assert_eq!(house.records("other").len(), 1);
    house.admin.set_disabled("direct", false).unwrap();
    house.publish("$aws/rules/direct/plant/x", "{}").await;
    assert_eq!(house.records("other").len(), 2);
}

#[tokio::test]
async fn a_role_that_may_not_stops_its_action_only() {
    let house = house();
    house.engine.ask_roles(Arc::new(NoRoles));
    let kinesis = |role: &str| json!({"kinesis": {"streamName": "other", "roleArn": format!("arn:role/{role}")}});
    house.rule("r", "SELECT * FROM 'a'", json!([kinesis("bad"), kinesis("good")]));
    house.publish("a", "{}").await;
    assert_eq!(house.records("other").len(), 1);
    let why = &house.log("r")[0]["failures"][0];
    assert_eq!(why["failedAction"], "KinesisAction");
    assert!(house.log("r")[0].get("base64OriginalPayload").is_none());
    // Where no stream has it, the log does.
    house.rule("alone", "SELECT * FROM 'b'", json!([kinesis("bad")]));
    house.publish("b", "raw").await;
    assert_eq!((house.records("other").len(), &house.log("alone")[0]["base64OriginalPayload"]), (1, &json!("cmF3")));
    assert_eq!(
        why["errorMessage"],
        "arn:role/bad may not kinesis:PutRecord on arn:aws:kinesis:us-east-1:123456789012:stream/other"
    );
}

#[tokio::test]
async fn actions_without_services_work_here() {
    let house = house();
    let actions = json!([
        {"cloudwatchLogs": {"logGroupName": "plant"}},
        {"cloudwatchMetric": {"metricNamespace": "n", "metricName": "m", "metricUnit": "None", "metricValue": "${v}"}},
        {"lambda": {"functionArn": "arn:aws:lambda:us-east-1:1:function:score-telemetry-nobody"}},
    ]);
    house.rule("r", "SELECT * FROM 'a'", actions);
    house.publish("a", r#"{"v":"x"}"#).await;
    let query = LogQuery { limit: 10, ..LogQuery::default() };
    assert_eq!(house.logs.events("plant", &query).unwrap()[0].event.message, r#"{"v":"x"}"#);
    let failures = house.log("r")[0]["failures"].clone();
    assert_eq!(failures[0]["errorMessage"], r#"metricValue "x" is not a number"#);
    assert!(failures[1]["errorMessage"].as_str().unwrap().contains("no such function"));
}

#[test]
fn rules_are_made_changed_and_removed() {
    let house = house();
    let admin = &house.admin;
    let ok = |sql: &str| payload(sql, json!([{"kinesis": {"streamName": "anomaly-stream-t1"}}]));
    let made = admin.create("r_1", ok("SELECT * FROM 'a/+'")).unwrap();
    assert_eq!((made.tenant, made.topic_pattern.as_str()), (Some(tenant()), "a/+"));
    assert_eq!(admin.create("r_1", ok("SELECT *")).unwrap_err().kind, RuleErrorKind::Exists);
    assert_eq!(admin.replace("r_2", ok("SELECT *")).unwrap_err().kind, RuleErrorKind::NotFound);
    assert_eq!(admin.get("r_2").unwrap_err().kind, RuleErrorKind::NotFound);
    assert_eq!(admin.set_disabled("r_2", true).unwrap_err().kind, RuleErrorKind::NotFound);
    admin.replace("r_1", ok("SELECT b FROM 'b'")).unwrap();
    assert!(house.engine.rules_for("a/x").0.is_empty());
    assert_eq!(house.engine.rules_for("b").0.len(), 1);
    // As kept, not only as remembered.
    let again = Registry::open(house.table.clone()).unwrap();
    assert_eq!(again.state().rules["r_1"].topic_rule(), admin.get("r_1").unwrap());
    assert_eq!((admin.delete("r_1"), admin.delete("r_1")), (Ok(true), Ok(false)));
    assert!(admin.list().is_empty() && house.engine.rules_for("b").0.is_empty());
    let _ = &house.door;
}

#[test]
fn what_is_wrong_is_refused_with_its_reason() {
    let house = house();
    let sql = "SELECT * FROM 'a'";
    for (name, sql, actions, kind, why) in [
        ("r-1", sql, json!([]), RuleErrorKind::Invalid, "cannot be named"),
        ("r", "SELECT", json!([]), RuleErrorKind::Sql, "cannot be read"),
        ("r", sql, json!([{}]), RuleErrorKind::Invalid, "exactly one member"),
        ("r", sql, json!([{"kinesis": {}, "s3": {}}]), RuleErrorKind::Invalid, "exactly one member"),
        ("r", sql, json!([{"kafka": {}}]), RuleErrorKind::Invalid, "not carried out here"),
        ("r", sql, json!([{"kinesis": {}}]), RuleErrorKind::Invalid, "needs streamName"),
        ("r", sql, json!([{"kinesis": {"streamName": "a b"}}]), RuleErrorKind::Invalid, "not valid"),
        ("r", sql, json!([{"kinesis": {"streamName": "${a}"}}]), RuleErrorKind::Invalid, "template"),
        ("r", sql, json!([{"republish": {"topic": "${a +}"}}]), RuleErrorKind::Sql, "template"),
        ("r", sql, json!([{"republish": {"topic": "a", "qos": 2}}]), RuleErrorKind::Invalid, "0 or 1"),
        ("r", sql, json!([{"s3": {"bucketName": "UPPER", "key": "k"}}]), RuleErrorKind::Invalid, "lower case"),
        ("r", sql, json!(vec![json!({"sns": {"targetArn": "a"}}); 11]), RuleErrorKind::Invalid, "at most 10"),
    ] {
        let error = house.admin.create(name, payload(sql, actions.clone())).unwrap_err();
        assert!(error.kind == kind && error.message.contains(why), "{actions}: {error:?}");
    }
    assert!(house.admin.list().is_empty());
}

#[test]
fn rules_of_earlier_versions_are_read() {
    let house = house();
    let old = br#"{"name":"old","tenant":"t1","sql":"SELECT * FROM 'tenants/t1/devices/+/telemetry'","stream":"anomaly-stream-t1"}"#;
    house.table.commit(vec![Write::put(&"registry".into(), "rule", "old", old.to_vec())]).unwrap();
    let state = Registry::open(house.table.clone()).unwrap().state();
    let rule = &state.rules_matching(TELEMETRY)[0];
    assert_eq!(rule.streams().next().unwrap(), &tenant().stream());
    assert_eq!(rule.rule.payload.actions, Rule::telemetry(&tenant(), Timestamp::default()).payload.actions);
}

#[test]
fn of_thousands_of_rules_only_those_that_match_are_met() {
    let house = house();
    let rules = (0..2_000).map(|i| {
        let kinesis = json!([{"kinesis": {"streamName": "other"}}]);
        Change::Rule(Rule::new(
            &format!("r{i}"),
            Timestamp::default(),
            payload(&format!("SELECT * FROM 'p/{i}/+'"), kinesis),
        ))
    });
    house.admin.registry.change::<(), RegistryError>(|_| Ok((rules.collect(), ()))).unwrap();
    let state = house.admin.registry.state();
    assert_eq!(state.rules_matching("p/1234/x").iter().map(|rule| &*rule.name).collect::<Vec<_>>(), ["r1234"]);
}
