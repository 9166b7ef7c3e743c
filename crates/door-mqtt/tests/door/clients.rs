//! Debian's mosquitto clients against the door: an independent reading of the specification.

use crate::fixtures::House;
use kilter_door_mqtt::Version;
use std::{path::Path, process::Stdio};
use tokio::process::Command;

fn command(program: &str, house: &House, dir: &Path, id: &str, version: &str) -> Command {
    let port = house.addr.port().to_string();
    let mut command = Command::new(program);
    command.current_dir(dir).args(["-h", "localhost", "-p", &port, "-i", id, "-V", version]);
    command.args(["--cafile", "ca.pem", "--cert", "cert.pem", "--key", "key.pem", "-q", "1"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_clients_are_understood() {
    if Command::new("mosquitto_pub").arg("--help").output().await.is_err() {
        eprintln!("SKIPPED: mosquitto_pub is not installed (Debian package mosquitto-clients)");
        assert!(std::env::var_os("KILTER_REQUIRE_TOOLS").is_none(), "KILTER_REQUIRE_TOOLS is set");
        return;
    }
    let house = House::open().await;
    let dir = tempfile::tempdir().unwrap();
    let credentials = house.authority.client();
    for (name, text) in
        [("ca.pem", house.authority.pem()), ("cert.pem", credentials.cert_pem), ("key.pem", credentials.key_pem)]
    {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    for version in ["311", "5"] {
        let subscriber_id = format!("dev-sub-{version}");
        let mut subscriber = command("mosquitto_sub", &house, dir.path(), &subscriber_id, version);
        let subscriber = subscriber.args(["-t", "t/+/mosquitto", "-C", "1", "-W", "20", "-d"]).spawn().unwrap();
        // It listens once a message of ours reaches it; until then we repeat ourselves.
        let topic = format!("t/{version}/mosquitto");
        let publisher = async {
            loop {
                let mut publisher = command("mosquitto_pub", &house, dir.path(), "dev-pub", version);
                let output = publisher.args(["-t", &topic, "-m", "hello"]).output().await.unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
        };
        let output = tokio::select! {
            output = subscriber.wait_with_output() => output.unwrap(),
            () = publisher => unreachable!("it publishes for ever"),
        };
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && words.lines().any(|line| line == "hello"), "{words}");
        let mut refused = command("mosquitto_pub", &house, dir.path(), "intruder", version);
        let output = refused.args(["-t", &topic, "-m", "hello"]).output().await.unwrap();
        assert!(!output.status.success(), "a client id that is not allowed got in");
    }
    assert!(house.ingest.received("dev-pub").len() >= 2);
    let ours = house.client("dev-ours", Version::V5).await;
    ours.disconnect().await.unwrap();
}
