//! Kept sessions with real clients: over kills of the server, with the AWS IoT device SDK, over WebSocket.

use crate::{harness::Installation, kill::free_ports, tools};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    time::Duration,
};

const KILLS: u64 = 4;
const LIFE: Duration = Duration::from_millis(400);
const TENANT: &str = "kept";
const THINGS: [(&str, &str); 2] = [("311", "kept-three"), ("5", "kept-five")];

struct Device(Child, BufReader<std::process::ChildStdout>);

fn device(python: &std::path::Path, arguments: &[&str]) -> Device {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox/python/sessions.py");
    let mut command = Command::new(python);
    command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    Device(child, output)
}

impl Device {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut error = String::new();
            self.0.stderr.take().unwrap().read_to_string(&mut error).unwrap();
            panic!("the device has ended: {error}");
        }
        line
    }

    fn stop(mut self) -> Value {
        self.0.stdin.take().unwrap().write_all(b"stop\n").unwrap();
        let told = serde_json::from_str(&self.line()).unwrap();
        self.0.wait().unwrap();
        told
    }
}

/// A few kills under a client that people use; [`crate::session_kills`] judges to the letter.
#[test]
fn paho_finds_its_session_again_over_kills() {
    let Some(python) = tools::python("kept sessions over kills") else { return };
    let installation = Installation::new("");
    installation.onboard(TENANT, &THINGS.map(|(_, thing)| thing));
    let certificates = installation.certificates();
    let (mqtt, http) = free_ports(u64::from(std::process::id()) * 37);
    let mut server = installation.start_on(&mqtt, &http);
    let mut devices = THINGS.map(|(version, thing)| {
        device(&python, &[version, server.port(), certificates.to_str().unwrap(), TENANT, thing])
    });
    for device in &mut devices {
        assert_eq!(device.line().trim(), "connected");
    }
    for _ in 0..KILLS {
        std::thread::sleep(LIFE);
        server.kill();
        server = installation.start_on(&mqtt, &http);
    }
    let mut published = 0;
    for (device, (_, thing)) in devices.into_iter().zip(THINGS) {
        let told = device.stop();
        assert_eq!(told["acknowledged"], told["published"], "{thing}: {told}");
        assert_eq!((&told["lost"], &told["doubled"]), (&json!([]), &json!([])), "{thing}: {told}");
        assert_eq!(told["fresh"], 1, "{thing}: {told}");
        published += told["published"].as_u64().unwrap();
    }
    server.settled_ledger(TENANT, published);
}

#[test]
fn the_aws_iot_device_sdk_finds_its_session_again() {
    let Some(python) = tools::python("AWS IoT device SDK") else { return };
    let installation = Installation::new("");
    let things = ["sdk-three", "sdk-five"];
    installation.onboard("sdk", &things);
    let server = installation.start();
    let certificates = installation.certificates();
    let arguments = [server.port(), certificates.to_str().unwrap(), "sdk", things[0], things[1]];
    let seen: Value = serde_json::from_str(&tools::script(&python, "aws_iot.py", &arguments)).unwrap();
    let three = json!({"came": [[0, 1, true], [1, 1, false], [2, 1, false]], "granted": 1, "present": [false, true]});
    assert_eq!(seen["three"], three);
    let five =
        json!({"came": [[5, 1, "application/json"]], "granted": [1], "acknowledged": 0, "present": [false, true]});
    assert_eq!(seen["five"], five);
}

#[test]
fn port_443_speaks_websocket_and_mqtt_by_alpn() {
    let Some(python) = tools::python("WebSocket and ALPN") else { return };
    let (websocket, _) = free_ports(u64::from(std::process::id()) * 31);
    let installation = Installation::new(&format!("mqtt_ws = \"{websocket}\"\n"));
    installation.onboard("web", &["web-1"]);
    let server = installation.start();
    let certificates = installation.certificates();
    let port = websocket.rsplit(':').next().unwrap();
    let arguments = [port, certificates.to_str().unwrap(), "web", "web-1"];
    let seen: Value = serde_json::from_str(&tools::script(&python, "port443.py", &arguments)).unwrap();
    for way in ["websocket", "websocket_5", "alpn", "alpn_5"] {
        assert_eq!(seen[way], json!([2, 100_000]), "{way}: {seen}");
    }
    assert_eq!(server.settled_ledger("web", 8)[0]["received"], 8);
}
