//! Tenants from the first command to the last, and the server's own life: start, refuse to start, stop, start again.

use crate::{
    device,
    harness::{Installation, bare, eventually},
};
use kilter_door_mqtt::MqttClient;
use serde_json::Value;
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Every file below a folder whose path holds `word`.
fn traces(folder: &Path, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().contains(word) {
            found.push(path.display().to_string());
        }
        if path.is_dir() {
            found.extend(traces(&path, word));
        }
    }
    found
}

#[test]
fn onboarding_without_a_server() {
    let installation = Installation::new("");
    let first = installation.onboard("tenant001", &["tenant001-device1", "tenant001-device2"]);
    let created = first["created"].as_array().unwrap();
    for what in [
        "stream anomaly-stream-tenant001",
        "table anomaly-results-tenant001",
        "lake prefix iot-data-lake-tenant001",
        "alert topic alerts-tenant001",
        "policy ",
        "role iot-rule-actions-role",
        "rule telemetry_to_kinesis_tenant001",
        "thing tenant001-device1",
        "thing tenant001-device2",
    ] {
        assert!(created.iter().any(|c| c.as_str().unwrap().starts_with(what)), "{what} is not in {created:?}");
    }
    assert!(first["checks"].is_null(), "nothing can be validated without a server: {first}");
    let files = ["device1", "device2"].map(|d| {
        [format!("cert-tenant001-{d}.pem"), format!("private-tenant001-{d}.key"), format!("public-tenant001-{d}.key")]
    });
    let mut expected: BTreeSet<String> = files.into_iter().flatten().collect();
    expected.extend(["AmazonRootCA1.pem".to_owned(), "onboarding-tenant001.md".to_owned()]);
    let out = installation.certificates();
    assert_eq!(names(&out), expected);
    for name in names(&out).iter().filter(|name| !name.ends_with(".md")) {
        assert_eq!(mode(&out.join(name)), 0o600, "{name}");
    }
    assert!(
        fs::read_to_string(out.join("private-tenant001-device1.key")).unwrap().starts_with("-----BEGIN PRIVATE KEY")
    );
    for name in ["ca.key", "server.key", "token"] {
        assert_eq!(mode(&installation.data().join("identity").join(name)), 0o600, "{name}");
    }
    let ticket = fs::read_to_string(out.join("onboarding-tenant001.md")).unwrap();
    for words in [
        "# Onboarding ticket: tenant001",
        "tenant001-device1",
        "telemetry_to_kinesis_tenant001",
        "anomaly-stream-tenant001",
        "iot:Publish",
        "Not validated",
    ] {
        assert!(ticket.contains(words), "{words:?} is not in\n{ticket}");
    }
    assert!(!ticket.contains("PRIVATE KEY"));

    let key = fs::read(out.join("private-tenant001-device1.key")).unwrap();
    let second = installation.onboard("tenant001", &["tenant001-device1", "tenant001-device2"]);
    assert_eq!(second["created"], Value::Array(Vec::new()), "a second run changes nothing");
    assert_eq!(second["tenant"], first["tenant"]);
    assert_eq!(fs::read(out.join("private-tenant001-device1.key")).unwrap(), key);
    let things = installation.kilter(&["thing", "list"]).json();
    assert!(things.as_array().unwrap().iter().all(|t| t["certificates"].as_array().unwrap().len() == 1), "{things}");

    // A thing belongs to one tenant; a name that is taken is refused, and nothing is left of the attempt's thing.
    let out = out.to_str().unwrap();
    let refused = installation.kilter(&["tenant", "onboard", "other", "--thing", "tenant001-device1", "--out", out]);
    assert!(refused.refused().contains("exists already, in tenant tenant001"));
    let refused = installation.kilter(&["tenant", "onboard", "Not-A-Tenant", "--out", out]);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.err);
    let refused = installation.kilter(&["tenant", "validate", "tenant001"]).refused();
    assert!(refused.contains("[KLT006]") && refused.contains("kilter serve"), "{refused}");
}

#[test]
fn offline_and_online_commands_say_the_same() {
    let installation = Installation::new("[lake]\nflush_seconds = 1\n");
    installation.onboard("same", &["same-1"]);
    let server = installation.start();
    let reading = |i: u64| format!("{{\"ts\":{},\"a\":{}}}", 1_700_000_000 + 60 * i, i % 7);
    let sent = device::publish(&installation, &server, ("same", "same-1"), (0..300).map(reading));
    device::runtime().block_on(sent).unwrap();
    server.settled_ledger("same", 300);
    let commands: [&[&str]; 8] = [
        &["tenant", "list"],
        &["tenant", "show", "same"],
        &["thing", "list", "--tenant", "same"],
        &["thing", "show", "same-1"],
        &["anomalies", "list", "--tenant", "same"],
        &["alerts", "list"],
        &["ledger"],
        &["check"],
    ];
    let online = commands.map(|command| installation.kilter(command).json());
    assert!(server.stop().success());
    let offline = commands.map(|command| installation.kilter(command).json());
    for ((command, online), offline) in commands.iter().zip(&online).zip(&offline) {
        assert_eq!(online, offline, "kilter {}", command.join(" "));
    }
    let ledger = &offline[6][0];
    assert_eq!((&ledger["received"], &ledger["scored"]), (&Value::from(300), &Value::from(300)), "{ledger}");

    // Made without a server, known to the next one; and a rotated certificate beside the old one.
    let out = installation.certificates();
    installation.kilter(&["thing", "create", "same-2", "--tenant", "same", "--out", out.to_str().unwrap()]).succeeded();
    let rotated = installation.root().join("rotated");
    installation.kilter(&["thing", "rotate", "same-1", "--out", rotated.to_str().unwrap()]).succeeded();
    let server = installation.start();
    let runtime = device::runtime();
    runtime.block_on(device::publish(&installation, &server, ("same", "same-2"), [reading(0)])).unwrap();
    runtime.block_on(device::publish(&installation, &server, ("same", "same-1"), [reading(300)])).unwrap();
    let ledger = server.settled_ledger("same", 302);
    assert_eq!(ledger.iter().map(|line| line["received"].as_u64().unwrap()).collect::<Vec<_>>(), [301, 1]);
    let thing = installation.kilter(&["thing", "show", "same-1"]).json();
    assert_eq!(thing["certificates"].as_array().unwrap().len(), 2);
}

#[test]
fn a_tenant_is_validated_and_offboarded_while_the_server_runs() {
    let installation = Installation::new("[lake]\nflush_seconds = 1\n");
    let server = installation.start();
    let onboarded = installation.onboard("tenant001", &["tenant001-device1"]);
    installation.onboard("stays", &["stays-1"]);
    let checks = onboarded["checks"].as_array().unwrap();
    assert!(checks.len() >= 7 && checks.iter().all(|check| check["passed"] == true), "{checks:#?}");
    let ticket = fs::read_to_string(installation.certificates().join("onboarding-tenant001.md")).unwrap();
    assert!(ticket.contains("- [x]") && !ticket.contains("- [ ]"), "{ticket}");
    let checks = installation.kilter(&["tenant", "validate", "tenant001"]).json();
    let checks = checks.as_array().unwrap();
    assert!(checks.len() >= 8 && checks.iter().all(|check| check["passed"] == true), "{checks:#?}");
    for what in
        ["mutual TLS", "acknowledged", "stream", "table", "lake", "client id", "another tenant", "across tenants"]
    {
        assert!(checks.iter().any(|check| check["what"].as_str().unwrap().contains(what)), "{what}: {checks:#?}");
    }

    let runtime = device::runtime();
    let open = MqttClient::connect(device::options(&installation, &server.mqtt, "tenant001-device1"));
    let open = runtime.block_on(open).unwrap();
    let asked = installation.kilter(&["tenant", "offboard", "tenant001"]).refused();
    assert!(asked.contains("cannot be undone") && asked.contains("--yes"), "{asked}");
    assert!(!traces(&installation.data().join("objects"), "tenant001").is_empty());
    let removed = installation.kilter(&["tenant", "offboard", "tenant001", "--yes"]).json();
    assert!(removed["things"].as_array().unwrap().contains(&Value::from("tenant001-device1")), "{removed}");
    for count in ["stream_records", "table_items", "lake_objects"] {
        assert!(removed[count].as_u64().unwrap() > 0, "{count}: {removed}");
    }
    runtime
        .block_on(async { tokio::time::timeout(crate::harness::PATIENCE, open.ended()).await })
        .expect("the session ends");
    server.log_says("certificate", "tenant001-device1", &["closed while connected", "not registered"]);
    let again = MqttClient::connect(device::options(&installation, &server.mqtt, "tenant001-device1"));
    assert!(runtime.block_on(again).is_err(), "a removed thing was let in");

    let left = installation.kilter(&["tenant", "list"]).json();
    assert_eq!(left.as_array().unwrap().iter().map(|t| &t["tenant"]).collect::<Vec<_>>(), ["stays"]);
    for command in [
        &["tenant", "show", "tenant001"][..],
        &["ledger", "--tenant", "tenant001"],
        &["thing", "show", "tenant001-device1"],
    ] {
        assert!(!installation.kilter(command).status.success(), "{command:?}");
    }
    assert_eq!(traces(&installation.data().join("objects"), "tenant001"), Vec::<String>::new());
    assert_eq!(traces(&installation.data().join("streams"), "tenant001"), Vec::<String>::new());
    // The name is free again, and begins with nothing.
    installation.onboard("tenant001", &["tenant001-device1"]);
    let ledger = server.settled_ledger("tenant001", 1);
    assert!(ledger.iter().all(|line| line["thing"] == "tenant001-validation" && line["received"] == 1), "{ledger:?}");
    assert!(server.stop().success());
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let installation = Installation::new("");
    let server = installation.start();
    let second = installation
        .kilter(&["serve", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--aws", "127.0.0.1:0"])
        .refused();
    assert!(second.contains("[KLT001]"), "{second}");
    let taken = Installation::new("")
        .kilter(&["serve", "--mqtt", &server.mqtt, "--http", "127.0.0.1:0", "--aws", "127.0.0.1:0"])
        .refused();
    assert!(taken.contains("[KLT004]") && taken.contains(&server.mqtt), "{taken}");
    let http = server.url.trim_start_matches("http://");
    let taken = Installation::new("")
        .kilter(&["serve", "--mqtt", "127.0.0.1:0", "--http", http, "--aws", "127.0.0.1:0"])
        .refused();
    assert!(taken.contains("[KLT004]") && taken.contains(http), "{taken}");

    let refuse = |configuration: &str, arguments: &[&str], words: &str| {
        let installation = Installation::new(configuration);
        for command in ["serve", "check"] {
            let error = installation.kilter(&[&[command], arguments].concat()).refused();
            assert!(error.contains("[KLT005]") && error.contains(words), "{command}: {error}");
        }
        // Nothing was made.
        assert_eq!(names(&installation.data()).into_iter().collect::<Vec<_>>(), ["kilter.toml"]);
    };
    refuse("", &["--http", "0.0.0.0:0"], "loopback");
    refuse("", &["--http", "192.0.2.1:8080"], "loopback");
    refuse("mqt = \"127.0.0.1:0\"\n", &[], "mqt");
    refuse("[lake]\nflush_second = 1\n", &[], "flush_second");
    refuse(
        "[[webhook]]\nname = \"x\"\nurl = \"https://example.com\"\nsecret_file = \"x\"\nretries = 1\n",
        &[],
        "retries",
    );
    let missing = bare(&["ledger", "--data-dir", "no/such/directory"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("kilter serve"));
    assert_eq!(bare(&["no-such-command"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn sigterm_drains_and_everything_is_there_after_a_restart() {
    // The lake is written by the stop, not before.
    let installation = Installation::new("[lake]\nflush_seconds = 3600\n");
    installation.onboard("kept", &["kept-1"]);
    let reading = |i: u64| format!("{{\"ts\":{},\"a\":{},\"b\":{}}}", 1_700_000_000 + 60 * i, i % 7, (i * i) % 13);
    let runtime = device::runtime();
    let server = installation.start();
    let token = fs::read(installation.data().join("identity/token")).unwrap();
    runtime.block_on(device::publish(&installation, &server, ("kept", "kept-1"), (0..500).map(reading))).unwrap();
    let idle = MqttClient::connect(device::options(&installation, &server.mqtt, "kept-1"));
    let idle = runtime.block_on(idle).unwrap();
    assert_eq!(crate::lake::archived_rows(&installation.data(), "kept", "raw"), 0);
    assert_eq!(server.stop().code(), Some(0));
    runtime
        .block_on(async { tokio::time::timeout(crate::harness::PATIENCE, idle.ended()).await })
        .expect("the session ends");
    assert!(!installation.data().join("run/server.json").exists());
    assert_eq!(crate::lake::archived_rows(&installation.data(), "kept", "raw"), 500);

    let server = installation.start();
    let rows = |server: &crate::harness::Server| server.list("/api/v1/tenants/kept/things/kept-1/readings?limit=10000");
    eventually("all is scored", || (rows(&server).len() == 500).then_some(()));
    runtime.block_on(device::publish(&installation, &server, ("kept", "kept-1"), (500..600).map(reading))).unwrap();
    let ledger = server.settled_ledger("kept", 600);
    assert_eq!((&ledger[0]["received"], &ledger[0]["scored"]), (&Value::from(600), &Value::from(600)));
    // It went on where it was: no second warming.
    let rows = rows(&server);
    assert!(rows[500..].iter().all(|row| row["verdict"]["state"] != "warming"), "{}", rows[500]);
    assert_eq!(fs::read(installation.data().join("identity/token")).unwrap(), token);
    assert_eq!(server.stop().code(), Some(0));
}
