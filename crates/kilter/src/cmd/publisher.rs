//! A device of our own: what `replay`, `demo`, `tenant validate` and `bench` publish with.

use crate::{
    client::Client,
    error::{Code, Coded},
};
use anyhow::Context;
use kilter_core::{CertificateStatus, CertificateView, IssuedIdentity, TenantId, ThingName};
use kilter_door_console::{CertificateRequest, StatusRequest};
use kilter_door_mqtt::{MqttClient, Options, Version, client::ClientError};

/// QoS 1 messages that wait for their PUBACK: enough to keep the group commit busy.
const INFLIGHT_MAX: u16 = 500;
/// A borrowed certificate is revoked after use; this is for when we are killed before that.
const BORROWED_HOURS: u32 = 24;

/// Connects as a thing.
pub async fn connect(mqtt: &str, identity: &IssuedIdentity) -> anyhow::Result<MqttClient> {
    connect_as(mqtt, identity, identity.thing.as_str()).await
}

/// Connects with a thing's certificate under a client id of the caller's choice.
pub async fn connect_as(mqtt: &str, identity: &IssuedIdentity, client_id: &str) -> anyhow::Result<MqttClient> {
    let client = MqttClient::connect(Options {
        addr: reachable(mqtt),
        ca_pem: identity.ca_pem.clone(),
        cert_pem: identity.certificate_pem.clone(),
        key_pem: identity.private_key_pem.clone(),
        client_id: client_id.to_owned(),
        version: Version::V5,
        inflight_max: INFLIGHT_MAX,
        keep_alive: 30,
        will: None,
    });
    match client.await {
        Err(ClientError::Refused(reason)) => {
            let message = format!("the server refused {client_id}: {reason}; its log says which check failed");
            Err(Coded::new(Code::CertificateRefused, message).into())
        }
        other => other.with_context(|| format!("{client_id} cannot connect to {mqtt}")),
    }
}

/// The address to connect to where the server listens on every address.
fn reachable(mqtt: &str) -> String {
    mqtt.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")
}

/// A certificate for a thing that exists, to be given back with [`give_back`].
pub async fn borrow_certificate(
    client: &Client,
    tenant: &TenantId,
    thing: &ThingName,
) -> anyhow::Result<IssuedIdentity> {
    let path = format!("/api/v1/tenants/{tenant}/things/{thing}/certificates");
    client.post(&path, &CertificateRequest { valid_hours: BORROWED_HOURS }).await
}

pub async fn give_back(client: &Client, identity: &IssuedIdentity) -> anyhow::Result<()> {
    let path = format!("/api/v1/certificates/{}", identity.certificate.id);
    let body = StatusRequest { status: CertificateStatus::Revoked };
    let _: CertificateView = client.call(axum::http::Method::PUT, &path, Some(&body)).await?;
    Ok(())
}
