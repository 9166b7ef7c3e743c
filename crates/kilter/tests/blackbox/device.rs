//! A device of our own, for the tests that need no outside tool: reads the certificate files as any device would.

use crate::harness::{Installation, Server};
use bytes::Bytes;
use kilter_door_mqtt::{MqttClient, Options, QoS, Version, client::ClientError};
use std::sync::Arc;

/// More than one group commit takes.
const INFLIGHT_MAX: u16 = 200;

pub fn topic(tenant: &str, thing: &str) -> Arc<str> {
    format!("tenants/{tenant}/devices/{thing}/telemetry").into()
}

/// The connection's parameters for a thing whose files are in the installation's certificate directory.
pub fn options(installation: &Installation, mqtt: &str, thing: &str) -> Options {
    let read = |name: String| std::fs::read_to_string(installation.certificates().join(name)).unwrap();
    Options {
        addr: mqtt.to_owned(),
        ca_pem: read("AmazonRootCA1.pem".to_owned()),
        cert_pem: read(format!("cert-{thing}.pem")),
        key_pem: read(format!("private-{thing}.key")),
        client_id: thing.to_owned(),
        version: Version::V5,
        inflight_max: INFLIGHT_MAX,
        keep_alive: 30,
        will: None,
    }
}

/// A runtime for one test.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Publishes all of it with QoS 1 and waits until all is acknowledged.
pub async fn publish(
    installation: &Installation,
    server: &Server,
    (tenant, thing): (&str, &str),
    payloads: impl IntoIterator<Item = impl Into<Bytes>>,
) -> Result<(), ClientError> {
    let client = MqttClient::connect(options(installation, &server.mqtt, thing)).await?;
    let topic = topic(tenant, thing);
    for payload in payloads {
        client.publish(&topic, payload.into(), QoS::AtLeastOnce).await?;
    }
    client.flush().await?;
    client.disconnect().await
}
