//! Certificates in their life: replaced in stages, expired, withdrawn; and the server's own, renewed under way.

use crate::{
    aws::environment,
    device,
    harness::{Installation, Server, eventually},
    mosquitto::{Running, client, publish, words},
    tools,
};
use kilter_core::{
    NANOS_PER_SECOND, Timestamp,
    ports::clock::{Clock, SystemClock},
};
use kilter_door_mqtt::{MqttClient, QoS};
use kilter_pipeline::authority::{Authority, IssuedCertificate};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const TENANT: &str = "kept";

/// A telemetry message as a thing, with the files of a folder.
fn speaks(certificates: &Path, server: &Server, thing: &str) -> bool {
    let output = publish(certificates, server, thing, &["-t", &device::topic(TENANT, thing), "-m", "{\"a\":1}"]);
    output.status.success()
}

fn certificates(installation: &Installation, thing: &str) -> Vec<Value> {
    match installation.kilter(&["cert", "list", "--thing", thing]).json() {
        Value::Array(entries) => entries,
        other => panic!("{other}"),
    }
}

/// Waits until a thing's rotation has this state; answers the certificates' statuses, oldest first.
fn rotation(installation: &Installation, thing: &str, state: &str) -> Vec<String> {
    eventually(&format!("the rotation of {thing} is {state}"), || {
        let entries = certificates(installation, thing);
        let last = entries.last().unwrap();
        let status = |entry: &Value| entry["status"].as_str().unwrap().to_owned();
        (last["rotation"]["state"] == state).then(|| entries.iter().map(status).collect())
    })
}

fn rotate(installation: &Installation, thing: &str, arguments: &[&str]) -> (PathBuf, crate::harness::Ran) {
    let folder = installation.root().join(format!("new-{thing}"));
    let base = ["cert", "rotate", thing, "--tenant", TENANT, "--out", folder.to_str().unwrap()];
    let ran = installation.kilter(&[&base[..], arguments].concat());
    (folder, ran)
}

#[test]
fn a_rotation_ends_with_the_new_certificate_used_or_withdrawn() {
    if !tools::mosquitto("a_rotation_ends_with_the_new_certificate_used_or_withdrawn") {
        return;
    }
    let installation = Installation::new("");
    installation.onboard(TENANT, &["mover", "sleeper", "survivor"]);
    let (server, old) = (installation.start(), installation.certificates());

    // The device is connected with the old certificate all the while.
    let mut session = client("mosquitto_sub", &old, &server, "mover");
    session.args(["-t", &device::topic(TENANT, "mover")]).stdout(Stdio::null()).stderr(Stdio::null());
    let session = Running(session.spawn().unwrap());
    let connected = |line: &Value| line["message"] == "MQTT: connected" && line["client_id"] == "mover";
    eventually("the session is open", || server.log().iter().any(connected).then_some(()));
    let (new, began) = rotate(&installation, "mover", &["--within", "1h"]);
    assert_eq!(began.json()["rotation"]["state"], "WAITING");
    assert_eq!(rotation(&installation, "mover", "WAITING"), ["ACTIVE", "ACTIVE"]);
    let (_, again) = rotate(&installation, "mover", &[]);
    assert!(again.refused().contains("name another folder"));
    fs::rename(&new, installation.root().join("delivered")).unwrap();
    let (_, again) = rotate(&installation, "mover", &[]);
    assert!(again.refused().contains("a rotation of thing mover is under way"));
    let new = installation.root().join("delivered");
    // The two take the client id from each other until the old one is refused.
    eventually("the new certificate is used", || speaks(&new, &server, "mover").then_some(()));
    assert_eq!(rotation(&installation, "mover", "DONE"), ["INACTIVE", "ACTIVE"]);
    // It tries again and again, and is refused.
    server.log_says("certificate", "", &["INACTIVE, not ACTIVE"]);
    assert!(!speaks(&old, &server, "mover"));
    assert!(speaks(&new, &server, "mover"));
    assert!(certificates(&installation, "mover")[1]["last_used"].is_string());
    drop(session);

    let (new, gave_up) = rotate(&installation, "sleeper", &["--within", "1s", "--wait"]);
    assert!(gave_up.refused().contains("sleeper has not connected with the new certificate"));
    assert_eq!(rotation(&installation, "sleeper", "ROLLED_BACK"), ["ACTIVE", "INACTIVE"]);
    assert!(!speaks(&new, &server, "sleeper"));
    assert!(speaks(&old, &server, "sleeper"));
    let doctor = installation.kilter(&["doctor"]);
    assert!(doctor.refused_with_output().contains("its rotation was rolled back"));

    let (new, began) = rotate(&installation, "survivor", &["--within", "1h"]);
    began.succeeded();
    server.kill();
    let server = installation.start();
    assert_eq!(rotation(&installation, "survivor", "WAITING"), ["ACTIVE", "ACTIVE"]);
    assert!(speaks(&new, &server, "survivor"));
    assert_eq!(rotation(&installation, "survivor", "DONE"), ["INACTIVE", "ACTIVE"]);
    assert!(!speaks(&old, &server, "survivor"));
}

#[test]
fn a_rotation_that_makes_no_sense_is_refused() {
    let installation = Installation::new("");
    installation.onboard(TENANT, &["one"]);
    for (arguments, words) in [
        (&["nobody"][..], "there is no thing nobody"),
        (&["one", "--tenant", "other"], "thing one is not tenant other's"),
        (&["one", "--within", "91d"], "choose 1 s to 90 days"),
        (&["one", "--wait"], "--wait needs a server"),
        (&["one", "--out", installation.certificates().to_str().unwrap()], "name another folder"),
    ] {
        let refused = installation.kilter(&[&["cert", "rotate"][..], arguments].concat()).refused();
        assert!(refused.contains(words), "{refused}");
    }
    let nonsense = installation.kilter(&["cert", "rotate", "one", "--within", "soon"]);
    assert_eq!(nonsense.status.code(), Some(2), "{}", nonsense.err);
    assert_eq!(certificates(&installation, "one").len(), 1, "nothing was issued");
}

/// An AWS CLI that speaks to a server as `kilter env` says.
struct Aws {
    program: PathBuf,
    environment: Vec<(String, String)>,
}

impl Aws {
    fn of(installation: &Installation, python: &Path) -> Self {
        Self { program: python.with_file_name("aws"), environment: environment(installation) }
    }

    fn run(&self, arguments: &[&str]) -> Value {
        let mut command = Command::new(&self.program);
        let output = command.args(arguments).envs(self.environment.iter().cloned()).output().unwrap();
        assert!(output.status.success(), "aws {arguments:?}: {}", words(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }
}

/// What a server shows in a TLS handshake, as PEM.
fn shown(python: &Path, port: &str) -> String {
    let script = "import ssl, sys; print(ssl.get_server_certificate(('127.0.0.1', int(sys.argv[1]))))";
    let output = Command::new(python).args(["-c", script, port]).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn sighup_renews_certificate_and_authority_under_open_sessions() {
    const TEST: &str = "sighup_renews_certificate_and_authority_under_open_sessions";
    let Some(python) = tools::python(TEST).filter(|_| tools::mosquitto(TEST)) else { return };
    let installation = Installation::new("aws_tls = true\n");
    installation.onboard(TENANT, &["open", "later"]);
    let server = installation.start();
    let aws = Aws::of(&installation, &python);
    let endpoint = &aws.environment.iter().find(|(name, _)| name == "AWS_ENDPOINT_URL").unwrap().1;
    assert!(endpoint.starts_with("https://"), "{endpoint}");
    let ports = [server.port(), endpoint.rsplit(':').next().unwrap()];
    assert_eq!(aws.run(&["sts", "get-caller-identity"])["Account"], "123456789012");
    aws.run(&["s3api", "create-bucket", "--bucket", "over-tls"]);

    let identity = installation.data().join("identity");
    let read = |name: &str| fs::read_to_string(identity.join(name)).unwrap();
    let write = |name: &str, text: &str| fs::write(identity.join(name), text).unwrap();
    let (first, first_ca) = (read("server.pem"), read("ca.pem"));
    for port in ports {
        assert_eq!(shown(&python, port), first.trim());
    }
    let hang_up = |says: &str| {
        let told = |line: &Value| line["message"].as_str().is_some_and(|message| message.contains(says));
        let before = server.log().iter().filter(|line| told(line)).count();
        server.signal("HUP");
        eventually(says, || (server.log().iter().filter(|line| told(line)).count() > before).then_some(()));
    };

    device::runtime().block_on(async {
        let session = MqttClient::connect(device::options(&installation, &server.mqtt, "open")).await.unwrap();
        let topic = device::topic(TENANT, "open");
        session.publish(&topic, "{\"a\":1}".into(), QoS::AtLeastOnce).await.unwrap();
        session.flush().await.unwrap();

        // Another authority, of the same name; devices are to trust both for a while.
        let now = SystemClock.now();
        let (authority, key) = Authority::create("Kilter installation authority", now).unwrap();
        let issued = authority.issue_server(&["localhost".to_owned(), "127.0.0.1".to_owned()], now).unwrap();
        write("ca.pem", &authority.ca_pem());
        hang_up("the old ones stay");
        assert!(server.log_tail().contains("none of the CA certificates is that of the CA's key"));
        assert_eq!(server.answer("/AmazonRootCA1.pem").text(), first_ca);
        write("ca.pem", &(first_ca + &authority.ca_pem()));
        hang_up("read anew");
        assert_eq!(server.answer("/AmazonRootCA1.pem").text(), read("ca.pem"));
        write("ca.key", &key);
        write("server.pem", &issued.certificate_pem);
        hang_up("the old ones stay");
        for port in ports {
            assert_eq!(shown(&python, port), first.trim(), "the key is not the certificate's");
        }
        write("server.key", &issued.private_key_pem);
        hang_up("read anew");
        for port in ports {
            assert_eq!(shown(&python, port), issued.certificate_pem.trim());
        }
        write("server.pem", "not a certificate");
        hang_up("the old ones stay");
        assert_eq!(shown(&python, ports[0]), issued.certificate_pem.trim());

        session.publish(&topic, "{\"a\":2}".into(), QoS::AtLeastOnce).await.unwrap();
        session.flush().await.unwrap();
        session.disconnect().await.unwrap();
    });
    let opened = server.log().iter().filter(|line| line["message"] == "MQTT: connected").count();
    assert_eq!(opened, 1, "the session was open all the while");

    // Onboarding has made it.
    let role = aws.run(&["iam", "get-role", "--role-name", "iot-rule-actions-role"]);
    assert_eq!(role["Role"]["Arn"], "arn:aws:iam::123456789012:role/iot-rule-actions-role");
    let out = installation.certificates();
    fs::write(out.join("AmazonRootCA1.pem"), read("ca.pem")).unwrap();
    assert!(speaks(&out, &server, "later"), "a certificate of the authority before");
    installation.kilter(&["thing", "create", "newer", "--tenant", TENANT, "--out", out.to_str().unwrap()]).succeeded();
    assert!(speaks(&out, &server, "newer"), "a certificate of the new authority");
    assert_eq!(fs::read_to_string(out.join("AmazonRootCA1.pem")).unwrap(), read("ca.pem"));
}

/// A certificate as a thing's files, beside this installation's root.
fn files(installation: &Installation, folder: &str, thing: &str, issued: &IssuedCertificate) -> PathBuf {
    let folder = installation.root().join(folder);
    fs::create_dir_all(&folder).unwrap();
    let own = installation.certificates().join("AmazonRootCA1.pem");
    fs::copy(own, folder.join("AmazonRootCA1.pem")).unwrap();
    fs::write(folder.join(format!("cert-{thing}.pem")), &issued.certificate_pem).unwrap();
    fs::write(folder.join(format!("private-{thing}.key")), &issued.private_key_pem).unwrap();
    folder
}

#[test]
fn each_refused_connection_says_which_check_failed() {
    const TEST: &str = "each_refused_connection_says_which_check_failed";
    let Some(python) = tools::python(TEST).filter(|_| tools::mosquitto(TEST)) else { return };
    let installation = Installation::new("");
    installation.onboard(TENANT, &["foreign", "late", "off", "unruled", "named"]);
    let (server, own) = (installation.start(), installation.certificates());
    let aws = Aws::of(&installation, &python);
    let (now, day) = (SystemClock.now(), 86_400);
    // Whole seconds, as certificates have them.
    let now = Timestamp::from_seconds(now.as_nanos() / NANOS_PER_SECOND);

    let (stranger, _) = Authority::create("a stranger", now).unwrap();
    let issued = stranger.issue_client("foreign", now, now.plus_seconds(day)).unwrap();
    assert!(!speaks(&files(&installation, "foreign", "foreign", &issued), &server, "foreign"));
    server.log_says("handshake", "", &["its issuer is unknown", "nor a registered one"]);

    // Of a customer's authority, which is registered; the certificate ended ten days and a bit ago.
    let (customer, _) = Authority::create("a customer", now.plus_seconds(-100 * day)).unwrap();
    let code = aws.run(&["iot", "get-registration-code"])["registrationCode"].as_str().unwrap().to_owned();
    let proof = customer.issue_client(&code, now, now.plus_seconds(day)).unwrap();
    let (ca, proof) = (customer.ca_pem(), proof.certificate_pem);
    let register = ["iot", "register-ca-certificate", "--set-as-active", "--ca-certificate", &ca];
    aws.run(&[&register[..], &["--verification-certificate", &proof]].concat());
    let ended = now.plus_seconds(-10 * day - 3_600);
    let issued = customer.issue_client("late", now.plus_seconds(-20 * day), ended).unwrap();
    let late = files(&installation, "late", "late", &issued);
    assert!(!speaks(&late, &server, "late"));
    server.log_says("handshake", "", &["it has expired, 10 d 1 h ago by this server's clock (20"]);

    let id = |thing: &str| certificates(&installation, thing)[0]["id"].as_str().unwrap().to_owned();
    aws.run(&["iot", "update-certificate", "--certificate-id", &id("off"), "--new-status", "INACTIVE"]);
    assert!(!speaks(&own, &server, "off"));
    server.log_says("certificate", "", &[&id("off"), "is INACTIVE, not ACTIVE"]);

    let arn = certificates(&installation, "unruled")[0]["arn"].as_str().unwrap().to_owned();
    aws.run(&["iot", "detach-policy", "--policy-name", &format!("tenant_policy_{TENANT}"), "--target", &arn]);
    assert!(!speaks(&own, &server, "unruled"));
    server.log_says("connect", "unruled", &["iot:Connect", "no policy is attached to the certificate"]);

    let output = publish(&own, &server, "named", &["-i", "another", "-t", "t", "-m", "{}"]);
    assert!(!output.status.success(), "{}", words(&output));
    server.log_says("client_id", "another", &["the certificate is that of named, not of the client id"]);

    aws.run(&["iot", "create-thing", "--thing-name", "bare"]);
    let report = installation.kilter(&["doctor"]);
    assert_eq!(report.status.code(), Some(1), "{}", report.err);
    let report: Value = serde_json::from_str(&report.out).unwrap();
    let findings = report["findings"].as_array().unwrap();
    for (kind, words) in [
        ("(handshake)", "its issuer is unknown"),
        ("(handshake)", "it has expired, 10 d 1 h ago"),
        ("(certificate)", "is INACTIVE, not ACTIVE"),
        ("(connect)", "no policy is attached"),
        ("(client_id)", "the certificate is that of named"),
    ] {
        let has = |finding: &Value, field: &str, words: &str| finding[field].as_str().unwrap().contains(words);
        let found = findings.iter().any(|finding| has(finding, "symptom", kind) && has(finding, "cause", words));
        assert!(found, "{kind} {words}: {report:#}");
    }
    assert!(!report["findings"].to_string().contains("bare"), "{report:#}");
    assert_eq!(report["notes"].as_array().unwrap().len(), 1);
    assert!(report["notes"][0].as_str().unwrap().contains("bare"), "{report:#}");
}
