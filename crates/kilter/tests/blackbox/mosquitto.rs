//! Debian's mosquitto clients: mutual TLS in both versions of either protocol, one message followed everywhere, and
//! every refusal with the log line that says why.

use crate::{
    device,
    harness::{Installation, Server, eventually, within},
    lake::archived_rows,
    tools,
};
use serde_json::Value;
use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const TENANT: &str = "debian";
const VERSIONS: [(&str, &str); 4] = [("311", "tlsv1.2"), ("311", "tlsv1.3"), ("5", "tlsv1.2"), ("5", "tlsv1.3")];
/// The contract's second, and what a busy machine adds to it.
const REVOKED_WITHIN: Duration = Duration::from_secs(3);

/// A mosquitto client as a thing, with the files that `tenant onboard` wrote.
pub fn client(tool: &str, certificates: &Path, server: &Server, thing: &str) -> Command {
    let mut command = Command::new(tool);
    command.args(["-h", "127.0.0.1", "-p", server.port(), "-q", "1", "-i", thing]);
    command.arg("--cafile").arg(certificates.join("AmazonRootCA1.pem"));
    command.arg("--cert").arg(certificates.join(format!("cert-{thing}.pem")));
    command.arg("--key").arg(certificates.join(format!("private-{thing}.key")));
    command.stdin(Stdio::null());
    command
}

pub fn publish(certificates: &Path, server: &Server, thing: &str, arguments: &[&str]) -> Output {
    client("mosquitto_pub", certificates, server, thing).args(arguments).output().unwrap()
}

pub fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

#[test]
fn one_message_is_followed_everywhere() {
    if !tools::mosquitto("mosquitto: one_message_is_followed_everywhere") {
        return;
    }
    let installation = Installation::new("[lake]\nflush_seconds = 1\n");
    installation.onboard(TENANT, &["pump-1"]);
    let (server, certificates) = (installation.start(), installation.certificates());
    let topic = device::topic(TENANT, "pump-1");
    for (i, (version, tls)) in VERSIONS.into_iter().enumerate() {
        let payload = format!("{{\"ts\":\"2024-05-01T12:00:0{i}Z\",\"temperature\":91.7,\"by\":\"{version} {tls}\"}}");
        let output = publish(
            &certificates,
            &server,
            "pump-1",
            &["-V", version, "--tls-version", tls, "-t", &topic, "-m", &payload],
        );
        assert!(output.status.success(), "{version} {tls}: {}", words(&output));
        // Acknowledged means kept: it is in the stream already, not soon.
        let records = server.list(&format!("/api/v1/tenants/{TENANT}/records?limit=10"));
        let kept = records.last().unwrap_or_else(|| panic!("{version} {tls}: nothing in the stream"));
        assert_eq!((&kept["data"], &kept["topic"]), (&Value::from(payload), &Value::from(&*topic)));
        let time = format!("2024-05-01T12:00:0{i}Z");
        let row = eventually("the score is in the table", || {
            let rows = server.list(&format!("/api/v1/tenants/{TENANT}/things/pump-1/readings?limit=10"));
            rows.into_iter().find(|row| row["event_time"] == time.as_str())
        });
        assert_eq!(row["values"]["temperature"], 91.7);
        assert_eq!(row["verdict"]["state"], "warming");
    }
    for dataset in ["raw", "scored"] {
        eventually("the rows are in the lake", || {
            (archived_rows(&installation.data(), TENANT, dataset) == VERSIONS.len() as u64).then_some(())
        });
        let objects = server.list(&format!("/api/v1/tenants/{TENANT}/objects"));
        let prefix = format!("{TENANT}/{dataset}/date=");
        assert!(objects.iter().any(|o| o["key"].as_str().unwrap().starts_with(&prefix)), "{objects:?}");
    }
    receives_its_own(&certificates, &server, &topic);
}

/// A thing's client id is its name, so that only one of its connections is open at a time: `mosquitto_rr` subscribes
/// and publishes over one. `mosquitto_sub` shows that its own topics are granted.
fn receives_its_own(certificates: &Path, server: &Server, topic: &str) {
    let payload = "{\"ts\":\"2024-05-01T13:00:00Z\",\"temperature\":20}";
    let arguments = ["-V", "5", "-W", "30", "-t", topic, "-e", topic, "-m", payload];
    let output = client("mosquitto_rr", certificates, server, "pump-1").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), payload);
    for version in ["311", "5"] {
        let mut command = client("mosquitto_sub", certificates, server, "pump-1");
        let output = command.args(["-V", version, "-d", "-E", "-W", "30", "-t", topic]).output().unwrap();
        assert!(output.status.success() && words(&output).contains("Subscribed (mid: 1): 1"), "{}", words(&output));
    }
}

#[test]
fn what_is_not_allowed_is_refused_and_the_log_says_why() {
    if !tools::mosquitto("mosquitto: what_is_not_allowed_is_refused_and_the_log_says_why") {
        return;
    }
    let installation = Installation::new("");
    let things = ["imposter", "naked", "thief", "crosser-311", "crosser-5", "listener", "heir", "revoked"];
    installation.onboard(TENANT, &things);
    let server = installation.start();
    let own = installation.certificates();
    let foreign = "tenants/other/devices/pump-1/telemetry";

    // A certificate of another installation's authority, for a thing of the same name.
    let other = Installation::new("");
    other.onboard(TENANT, &["imposter"]);
    std::fs::copy(own.join("AmazonRootCA1.pem"), other.certificates().join("AmazonRootCA1.pem")).unwrap();
    let topic = device::topic(TENANT, "imposter");
    for tls in ["tlsv1.2", "tlsv1.3"] {
        let output = publish(
            &other.certificates(),
            &server,
            "imposter",
            &["--tls-version", tls, "-t", &topic, "-m", "{\"a\":1}"],
        );
        assert!(!output.status.success(), "{tls}: {}", words(&output));
    }
    server.log_says("handshake", "", &["certificate is not valid", "CA"]);

    let mut bare = Command::new("mosquitto_pub");
    bare.args(["-h", "127.0.0.1", "-p", server.port(), "-q", "1", "-i", "naked", "-t", "t", "-m", "{}"]);
    let output = bare.arg("--cafile").arg(own.join("AmazonRootCA1.pem")).output().unwrap();
    assert!(!output.status.success(), "{}", words(&output));
    server.log_says("handshake", "", &["no certificate"]);

    // A good certificate under the name of another thing, and under a name that nobody has.
    for id in ["listener", "nobody"] {
        let output = publish(&own, &server, "thief", &["-i", id, "-t", &topic, "-m", "{\"a\":1}"]);
        assert!(!output.status.success(), "{id}: {}", words(&output));
        server.log_says("client_id", id, &["iot:Connect", &format!("client/{id}"), "not allowed"]);
    }

    for (version, thing) in [("311", "crosser-311"), ("5", "crosser-5")] {
        let output = publish(&own, &server, thing, &["-V", version, "-t", foreign, "-m", "{\"a\":1}"]);
        // With 5 the PUBACK says no, which mosquitto_pub prints; with 3.1.1 the connection is closed.
        let said_no = !output.status.success() || words(&output).contains("Not authorized");
        assert!(said_no, "{version}: {}", words(&output));
        server.log_says("publish", thing, &["iot:Publish", foreign, "not allowed"]);
    }

    for filter in ["tenants/+/devices/+/telemetry", "#", foreign] {
        let mut command = client("mosquitto_sub", &own, &server, "listener");
        let output = command.args(["-d", "-W", "30", "-t", filter]).output().unwrap();
        assert!(words(&output).contains("All subscription requests were denied"), "{filter}: {}", words(&output));
        server.log_says("subscribe", "listener", &["iot:Subscribe", filter, "not allowed"]);
    }

    let will = ["--will-topic", foreign, "--will-payload", "{\"a\":1}", "--will-qos", "1"];
    let output =
        publish(&own, &server, "heir", &[&will[..], &["-t", &device::topic(TENANT, "heir"), "-m", "{}"]].concat());
    assert!(!output.status.success(), "{}", words(&output));
    server.log_says("will", "heir", &["will", foreign, "not allowed"]);

    revocation(&installation, &server);
    let ledger = server.list(&format!("/api/v1/ledger?tenant={TENANT}"));
    assert!(ledger.is_empty(), "nothing of all this was taken in: {ledger:?}");
}

/// Ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An open session ends at once, and no new one begins.
fn revocation(installation: &Installation, server: &Server) {
    let own = installation.certificates();
    let topic = device::topic(TENANT, "revoked");
    let mut command = client("mosquitto_sub", &own, server, "revoked");
    command.args(["-t", &topic]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut session = Running(command.spawn().unwrap());
    let connected = |line: &serde_json::Value| line["message"] == "MQTT: connected" && line["client_id"] == "revoked";
    eventually("the session is open", || server.log().iter().any(connected).then_some(()));
    let began = Instant::now();
    let revoked = installation.kilter(&["thing", "revoke", "revoked"]).json();
    assert_eq!(revoked[0]["status"], "REVOKED", "{revoked}");
    let took = began.elapsed();
    within(REVOKED_WITHIN, "the revoked session ends", || {
        (server.metric("kilter_mqtt_connections") == Some(0.0)).then_some(())
    });
    server.log_says("certificate", "revoked", &["closed while connected", "REVOKED"]);
    // It tries again by itself, and is told no.
    eventually("mosquitto_sub gives up", || session.0.try_wait().unwrap());
    let output = publish(&own, server, "revoked", &["-t", &topic, "-m", "{\"a\":1}"]);
    assert!(!output.status.success(), "revoked {took:?} ago: {}", words(&output));
    server.log_says("certificate", "", &["REVOKED, not ACTIVE"]);
}
