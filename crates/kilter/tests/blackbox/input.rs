//! Every row of `docs/guide/input.md`: what becomes of late, odd and hostile input, as the ledger, the stream and the
//! lake tell it.

use crate::{
    device,
    harness::{Installation, Server, eventually},
    lake::archived_rows,
};
use kilter_door_mqtt::{MqttClient, Options, QoS, Version};
use serde_json::Value;
use std::time::SystemTime;

const TENANT: &str = "odd";
/// AWS IoT's limit for a payload.
const PAYLOAD_BYTES_MAX: usize = 128 * 1024;
const NEW_FIELDS: usize = 2_000;
/// What a server may grow by while a device invents 2,000 fields and another sends 10,000 at once: half as much again as
/// without a horizon, for states of the horizon and the allocator's slack.
const GROWTH_BYTES_MAX: u64 = 96 << 20;
const FIRST: u64 = 1_700_000_000;

/// What must become of a case's messages.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Outcome {
    rejected: u64,
    scored: u64,
    late: u64,
}

struct Case {
    thing: &'static str,
    payloads: Vec<Vec<u8>>,
    outcome: Outcome,
    /// Words of the reason, where something is rejected.
    reason: &'static str,
}

fn case(thing: &'static str, payloads: &[&str], outcome: Outcome, reason: &'static str) -> Case {
    Case { thing, payloads: payloads.iter().map(|p| p.as_bytes().to_vec()).collect(), outcome, reason }
}

fn rejected(thing: &'static str, payloads: &[&str], reason: &'static str) -> Case {
    case(thing, payloads, Outcome { rejected: payloads.len() as u64, ..Outcome::default() }, reason)
}

fn scored(thing: &'static str, payloads: &[&str]) -> Case {
    case(thing, payloads, Outcome { scored: payloads.len() as u64, ..Outcome::default() }, "")
}

fn nested(levels: usize) -> String {
    format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels))
}

fn batch(readings: usize) -> String {
    let all: Vec<String> = (0..readings as u64).map(|i| format!("{{\"ts\":{},\"a\":1}}", FIRST + i)).collect();
    format!("[{}]", all.join(","))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// The payload as a whole.
fn whole_payload() -> Vec<Case> {
    vec![
        rejected("empty", &[""], "empty"),
        rejected("empty-batch", &["[]"], "batch is empty"),
        rejected("not-json", &["not json", "{\"a\":1", "{'a':1}"], "not usable JSON"),
        rejected("text-after", &["{\"a\":1} and more"], "not usable JSON"),
        Case { payloads: vec![b"{\"a\":1,\"b\":\"\xff\"}".to_vec()], ..rejected("not-utf8", &["x"], "not UTF-8") },
        rejected("nan", &["{\"a\":NaN}", "{\"a\":Infinity}", "{\"a\":-Infinity}"], "not usable JSON"),
        rejected("beyond-f64", &["{\"a\":1e999}"], "out of range"),
        scored("depth-16", &[&nested(16)]),
        rejected("depth-17", &[&nested(17)], "16"),
        rejected("no-object", &["42", "\"text\"", "[1,2]", "null", "true"], "object"),
        rejected("no-number", &["{\"site\":\"north\",\"b\":null,\"c\":[1,2]}", "{}"], "no numeric field"),
        scored("batch-1000", &[&batch(1_000)]),
        rejected("batch-1001", &[&batch(1_001)], "1000"),
        rejected("batch-bad", &["[{\"a\":1},{\"a\":2},{\"b\":\"x\"}]"], "element 2"),
    ]
}

/// Time.
fn time() -> Vec<Case> {
    let ahead = |seconds: u64| format!("{{\"ts\":{},\"a\":1}}", now() + seconds);
    let late = |thing, payloads: &[&str], scored, late| {
        case(thing, payloads, Outcome { scored, late, ..Outcome::default() }, "")
    };
    vec![
        scored("no-time", &["{\"a\":1}", "{\"ts\":null,\"a\":1}"]),
        scored(
            "time-forms",
            &[
                "{\"ts\":1700000001,\"a\":1}",
                "{\"ts\":1700000002000,\"a\":1}",
                "{\"ts\":1700000003000000000,\"a\":1}",
                "{\"timestamp\":\"1700000004\",\"a\":1}",
                "{\"time\":\"2023-11-14T22:13:25.5+00:00\",\"a\":1}",
            ],
        ),
        rejected(
            "bad-time",
            &["{\"ts\":true,\"a\":1}", "{\"ts\":[1],\"a\":1}", "{\"ts\":\"yesterday\",\"a\":1}"],
            "time",
        ),
        rejected("far-future", &[&ahead(3_600), "{\"ts\":4102444800,\"a\":1}"], "clock"),
        scored("near-future", &[&ahead(300)]),
        rejected("ancient", &["{\"ts\":0,\"a\":1}", "{\"ts\":946684799,\"a\":1}", "{\"ts\":-5,\"a\":1}"], "2000-01-01"),
        scored("oldest", &["{\"ts\":946684800,\"a\":1}"]),
        late("duplicate", &["{\"ts\":1700000001,\"a\":1}", "{\"ts\":1700000001,\"a\":1}"], 1, 1),
        scored("out-of-order", &["{\"ts\":1700000009,\"a\":1}", "{\"ts\":1700000003,\"a\":2}"]),
        late("beyond-the-horizon", &["{\"ts\":1700000309,\"a\":1}", "{\"ts\":1700000009,\"a\":2}"], 1, 1),
        scored("first-of-its-signal", &["{\"ts\":1700000309,\"a\":1}", "{\"ts\":1700000009,\"b\":2}"]),
        scored("batch-in-any-order", &["[{\"ts\":1700000309,\"a\":1},{\"ts\":1700000009,\"a\":2}]"]),
        late(
            "late-signal",
            &["{\"ts\":1700000009,\"a\":1}", "{\"ts\":1700000009,\"a\":1,\"b\":2}", "{\"ts\":1700000009,\"b\":2}"],
            2,
            1,
        ),
        scored("pause", &["{\"ts\":1500000000,\"a\":1}", "{\"ts\":1700000000,\"a\":2}"]),
    ]
}

/// Values and signals.
fn values() -> Vec<Case> {
    let extreme = |i: u64| {
        let value = ["1e308", "-1e308", "5e-324", "0", "1.7976931348623157e308"][i as usize % 5];
        format!("{{\"ts\":{},\"a\":{value},\"b\":{}}}", FIRST + i, i % 7)
    };
    let extremes: Vec<String> = (0..600).map(extreme).collect();
    let fields: Vec<String> = (0..10_000).map(|i| format!("\"{i:04x}\":{}", i % 10)).collect();
    let fields = format!("{{{}}}", fields.join(","));
    let long = format!("{{\"{}\":1,\"a\":1}}", "n".repeat(257));
    let just_fits = format!("{{\"a\":1,\"text\":\"{}\"}}", "x".repeat(PAYLOAD_BYTES_MAX - 17));
    assert_eq!(just_fits.len(), PAYLOAD_BYTES_MAX);
    vec![
        scored("extreme", &extremes.iter().map(String::as_str).collect::<Vec<_>>()),
        scored(
            "kinds",
            &["{\"n\":1.5,\"on\":true,\"off\":false,\"m\":{\"i\":2},\"s\":\"x\",\"z\":null,\"l\":[3],\"n\":2.5}"],
        ),
        scored("fields-10000", &[&fields]),
        scored("long-name", &[&long]),
        scored("just-fits", &[&just_fits]),
    ]
}

#[test]
fn every_input_has_its_documented_outcome() {
    let installation = Installation::new("[lake]\nflush_seconds = 1\n");
    let cases: Vec<Case> = whole_payload().into_iter().chain(time()).chain(values()).collect();
    let mut things: Vec<&str> = cases.iter().map(|case| case.thing).collect();
    things.extend(["inventor", "too-large", "foreign"]);
    installation.onboard(TENANT, &things);
    let server = installation.start();
    let runtime = device::runtime();
    let before = server.memory();
    runtime.block_on(async {
        for case in &cases {
            let sent = device::publish(&installation, &server, (TENANT, case.thing), case.payloads.clone()).await;
            sent.unwrap_or_else(|error| panic!("{}: {error}", case.thing));
        }
        refusals(&installation, &server).await;
        let inventions =
            (0..NEW_FIELDS).map(|i| format!("{{\"ts\":{},\"regular\":{},\"new{i}\":{i}}}", FIRST + i as u64, i % 11));
        device::publish(&installation, &server, (TENANT, "inventor"), inventions).await.unwrap();
    });
    let sent: usize = cases.iter().map(|case| case.payloads.len()).sum();
    let ledger = server.settled_ledger(TENANT, (sent + NEW_FIELDS) as u64);
    let records = server.list(&format!("/api/v1/tenants/{TENANT}/records?limit=10000"));
    for case in &cases {
        check(case, &ledger, &records);
    }
    check_rows(&server);
    check_inventor(&server, &ledger);
    let grown = server.memory().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "the server grew by {} MiB", grown >> 20);
    let all_rejected = cases.iter().map(|case| case.outcome.rejected).sum::<u64>();
    assert_eq!(server.metric("kilter_ingest_rejected_total"), Some(all_rejected as f64));
    eventually("the rejected are in the lake", || {
        (archived_rows(&installation.data(), TENANT, "rejected") == all_rejected).then_some(())
    });
    assert!(server.stop().success());
    assert_eq!(archived_rows(&installation.data(), TENANT, "raw"), (sent + NEW_FIELDS) as u64 - all_rejected);
}

fn line<'l>(ledger: &'l [Value], thing: &str) -> &'l Value {
    ledger.iter().find(|line| line["thing"] == thing).unwrap_or_else(|| panic!("no ledger line of {thing}"))
}

fn check(case: &Case, ledger: &[Value], records: &[Value]) {
    let line = line(ledger, case.thing);
    let count = |of: &str| line[of].as_u64().unwrap();
    let found = Outcome { rejected: count("rejected"), scored: count("scored"), late: count("late") };
    let own: Vec<&Value> = records.iter().filter(|record| record["thing"] == case.thing).collect();
    assert_eq!(found, case.outcome, "{}: {own:#?}", case.thing);
    assert_eq!(count("received"), case.payloads.len() as u64, "{}", case.thing);
    // Kept whole, in order; bytes that are not text are shown as such.
    let kept: Vec<&str> = own.iter().map(|record| record["data"].as_str().unwrap()).collect();
    let sent: Vec<_> = case.payloads.iter().map(|payload| String::from_utf8_lossy(payload)).collect();
    assert_eq!(kept, sent, "{}", case.thing);
    for record in own {
        match record["rejected"].as_str() {
            Some(reason) => {
                assert!(reason.contains(case.reason) && !case.reason.is_empty(), "{}: {reason}", case.thing)
            }
            None => assert!(case.outcome.rejected == 0, "{}: {record}", case.thing),
        }
    }
}

fn rows(server: &Server, thing: &str) -> Vec<Value> {
    server.list(&format!("/api/v1/tenants/{TENANT}/things/{thing}/readings?limit=10000"))
}

/// What of a payload became signals, and that no score is beyond its scale.
fn check_rows(server: &Server) {
    assert_eq!(rows(server, "kinds")[0]["values"], serde_json::json!({"n": 2.5, "on": 1.0, "off": 0.0, "m.i": 2.0}));
    let depth = vec!["a"; 16].join(".");
    assert_eq!(rows(server, "depth-16")[0]["values"][depth.as_str()], 1.0);
    assert_eq!(rows(server, "batch-1000").len(), 1_000);
    assert_eq!(rows(server, "late-signal")[1]["values"], serde_json::json!({"b": 2.0}));
    let times: Vec<String> =
        rows(server, "time-forms").iter().map(|row| row["event_time"].as_str().unwrap().to_owned()).collect();
    let expected = ["21", "22", "23", "24", "25.500"].map(|second| format!("2023-11-14T22:13:{second}Z"));
    assert_eq!(times, expected);
    let extreme = rows(server, "extreme");
    assert_eq!(extreme.len(), 600);
    for row in &extreme {
        // JSON has no NaN: what is no number would be null.
        let state = row["verdict"]["state"].as_str().unwrap();
        assert!(state == "warming" || row["score"].as_f64().is_some_and(|s| (0.0..=20.0).contains(&s)), "{row}");
        for cause in row["causes"].as_array().unwrap() {
            let numbers = [&cause["share"], &cause["value"], &cause["expected"][0], &cause["expected"][1]];
            assert!(numbers.iter().all(|n| n.is_f64() || n.is_i64()), "{row}");
        }
    }
    assert!(extreme.last().unwrap()["score"].is_number());
}

/// A device that sends a new field in every message: its regular signal is scored as ever, the inventions are counted.
fn check_inventor(server: &Server, ledger: &[Value]) {
    let line = line(ledger, "inventor");
    assert_eq!(line["scored"], NEW_FIELDS, "{line}");
    let rows = rows(server, "inventor");
    assert_eq!(rows.len(), NEW_FIELDS);
    for row in &rows[1_000..] {
        assert!(row["score"].is_number() && row["values"]["regular"].is_number(), "{row}");
    }
    let unscored = server.metric("kilter_score_unscored_signals_total").unwrap();
    // 10,000 fields less 256, and most of what was invented.
    assert!(unscored >= 9_744.0 + 1_000.0, "{unscored}");
    let signals = eventually("signals are counted", || server.metric("kilter_score_signals"));
    let things = ledger.len() as f64;
    assert!(signals <= 256.0 * things, "{signals}");
}

/// What is not taken in: the device is told or disconnected, the log says why, and the ledger knows nothing of it.
async fn refusals(installation: &Installation, server: &Server) {
    // With 3.1.1 a client does not know how much the server takes.
    let options = Options { version: Version::V311, ..device::options(installation, &server.mqtt, "too-large") };
    let client = MqttClient::connect(options).await.unwrap();
    let topic = device::topic(TENANT, "too-large");
    let payload = format!("{{\"a\":1,\"text\":\"{}\"}}", "x".repeat(PAYLOAD_BYTES_MAX));
    let sent = client.publish(&topic, payload.into(), QoS::AtLeastOnce).await;
    assert!(sent.is_err() || client.flush().await.is_err(), "a payload over 128 KiB was acknowledged");
    server.log_says("protocol", "too-large", &["a payload has", "over the limit"]);

    let client = MqttClient::connect(device::options(installation, &server.mqtt, "foreign")).await.unwrap();
    let sent = client.publish(&device::topic("other", "foreign"), "{\"a\":1}".into(), QoS::AtLeastOnce).await.unwrap();
    assert!(sent.acked().await.is_err(), "another tenant's topic was acknowledged");
    server.log_says("publish", "foreign", &["iot:Publish", "not allowed"]);
    let ledger = server.list(&format!("/api/v1/ledger?tenant={TENANT}"));
    assert!(ledger.iter().all(|line| line["thing"] != "too-large" && line["thing"] != "foreign"), "{ledger:?}");
}
