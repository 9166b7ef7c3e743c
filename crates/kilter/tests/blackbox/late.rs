//! Messages that come out of order over MQTT: rows are corrected, an alert is withdrawn, and the answer is that of the
//! right order.

use crate::{
    device,
    harness::{Installation, Server, eventually},
    kill::Chance,
    lake::archived_rows,
};
use serde_json::Value;
use std::collections::BTreeSet;

const TENANT: &str = "late1";
const THING: &str = "well-1";
/// One reading a minute: the thing is not silent within the test's time.
const INTERVAL_SECONDS: u64 = 60;
const CONFIGURATION: &str = "[late]\nhorizon_seconds = 14400\n[lake]\nflush_seconds = 1\n";
const READINGS: u64 = 720;
/// They take another way, and are there last.
const MISSING: std::ops::Range<u64> = 600..660;

fn payload(number: u64) -> String {
    format!("{{\"ts\":{},\"level_m\":{}}}", 1_700_000_000 + number * INTERVAL_SECONDS, (number * number) % 11)
}

fn readings(server: &Server) -> Vec<Value> {
    server.list(&format!("/api/v1/tenants/{TENANT}/things/{THING}/readings?limit=10000"))
}

fn anomalies(server: &Server) -> Vec<Value> {
    server.list(&format!("/api/v1/anomalies?tenant={TENANT}"))
}

/// What was found, without where and when it became known.
fn answer(server: &Server) -> Vec<Value> {
    let there = anomalies(server).into_iter().filter(|anomaly| anomaly["withdrawn"].is_null());
    let mut all: Vec<Value> = readings(server).into_iter().chain(there).collect();
    for found in &mut all {
        let found = found.as_object_mut().unwrap();
        ["position", "arrival", "id", "known", "corrected"].iter().for_each(|name| drop(found.remove(*name)));
    }
    all
}

fn publish(installation: &Installation, server: &Server, numbers: impl IntoIterator<Item = u64>) {
    let payloads: Vec<String> = numbers.into_iter().map(payload).collect();
    let published = device::publish(installation, server, (TENANT, THING), payloads);
    device::runtime().block_on(published).unwrap();
}

fn events(server: &Server) -> Vec<String> {
    let alerts = server.list(&format!("/api/v1/alerts?tenant={TENANT}"));
    alerts.iter().rev().map(|alert| alert["event"].as_str().unwrap().to_owned()).collect()
}

/// The same readings in their order, scored by another installation.
fn in_order() -> Vec<Value> {
    let installation = Installation::new(CONFIGURATION);
    installation.onboard(TENANT, &[THING]);
    let server = installation.start();
    publish(&installation, &server, 0..READINGS);
    server.settled_ledger(TENANT, READINGS);
    answer(&server)
}

#[test]
fn what_comes_late_is_put_in_order_and_a_false_alert_withdrawn() {
    let installation = Installation::new(CONFIGURATION);
    installation.onboard(TENANT, &[THING]);
    let server = installation.start();
    publish(&installation, &server, (0..READINGS).filter(|number| !MISSING.contains(number)));
    server.settled_ledger(TENANT, READINGS - 60);
    assert_eq!(events(&server)[0], "opened", "an hour is missing");
    let told = anomalies(&server).remove(0);
    let mut said = server.list(&format!("/api/v1/alerts?tenant={TENANT}"));
    said.retain(|alert| alert["event"] == "opened");
    let said = said.remove(0);
    let summary = said["summary"].as_str().unwrap();
    assert!(summary.contains("once in") && summary.contains("readings of normal running"), "{summary}");
    assert_eq!((&told["corrected"], &told["withdrawn"]), (&Value::Null, &Value::Null));

    let mut missing: Vec<u64> = MISSING.collect();
    let mut chance = Chance::new(7);
    missing.sort_by_cached_key(|_| chance.next());
    publish(&installation, &server, missing);
    // A double, and one from beyond the horizon.
    publish(&installation, &server, [630, 1]);
    let ledger = server.settled_ledger(TENANT, READINGS + 2);
    let count = |of: &str| ledger[0][of].as_u64().unwrap();
    assert_eq!((count("stored"), count("scored"), count("late"), count("waiting")), (READINGS + 2, READINGS, 2, 0));

    assert_eq!(answer(&server), in_order());
    let rows = readings(&server);
    let revisions =
        |rows: &[Value]| rows.iter().map(|row| row["corrected"]["revision"].as_u64().unwrap_or(0)).sum::<u64>();
    let (before, behind) = rows.split_at(MISSING.start as usize);
    assert_eq!(revisions(before), 0);
    let of_the_last = behind.last().unwrap();
    assert_eq!(of_the_last["corrected"]["revision"], 60, "each of sixty records has corrected it");
    assert!(of_the_last["corrected"]["known"].as_str() > of_the_last["arrival"].as_str());

    // People are told of each change once, and see both times.
    let alerts = server.list(&format!("/api/v1/alerts?tenant={TENANT}"));
    let keys: BTreeSet<&str> = alerts.iter().map(|alert| alert["key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), alerts.len(), "{keys:?}");
    let of_the_gap = |alert: &&Value| alert["episode"]["id"] == told["id"];
    assert_eq!(alerts.iter().find(of_the_gap).unwrap()["event"], "withdrawn", "{keys:?}");
    let withdrawn = anomalies(&server).into_iter().find(|anomaly| anomaly["id"] == told["id"]).unwrap();
    assert_eq!((&withdrawn["withdrawn"], &withdrawn["known"]), (&withdrawn["corrected"]["known"], &told["known"]));
    let id = told["id"].as_str().unwrap();
    let shown = installation.command(&["anomalies", "show", id]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("known 20") && shown.contains("withdrawn 20"), "{shown}");
    assert!(shown.contains("readings of normal running"), "{shown}");
    let alert = alerts.iter().find(of_the_gap).unwrap();
    let by_command = installation.kilter(&["alerts", "show", alert["key"].as_str().unwrap()]).json();
    assert_eq!(by_command["raised"], withdrawn["withdrawn"]);

    // The lake has every revision.
    let all = READINGS + revisions(&rows);
    eventually("every revision is in the lake", || {
        (archived_rows(&installation.data(), TENANT, "scored") == all).then_some(())
    });
    assert_eq!(server.metric("kilter_score_corrected_readings_total"), Some(revisions(&rows) as f64));
    assert!(server.stop().success());
}
