//! The devices that publish: things of a bench tenant, each with the readings of a healthy pump of the demo's plant.

use super::server::Server;
use crate::plant::{Plant, THINGS};
use anyhow::Context;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use kilter_core::{IssuedIdentity, TenantId, ThingName, Timestamp};
use kilter_door_mqtt::{MqttClient, Options, Version};
use std::{fmt::Write as _, sync::Arc};

/// Signals in one reading of the plant.
pub const SIGNALS: usize = 8;
/// Readings made beforehand, per pump: ten of the plant's days, so that the last is followed by the first without a
/// jump. Making them while measuring would measure the plant.
const STEPS: usize = 2_000;
const STEP_SECONDS: f64 = 0.2;
const SEED: u64 = 7;
/// Devices that connect or leave at a time.
const CONNECTING_MAX: usize = 32;
const KEEP_ALIVE_SECONDS: u16 = 60;
const NANOS_PER_MILLISECOND: i64 = 1_000_000;

/// What the plant's pumps measured: everything of a payload behind its time.
pub struct Readings(Vec<Vec<String>>);

impl Readings {
    pub fn make() -> Self {
        let mut plant = Plant::new(SEED, Timestamp::from_seconds(0));
        let mut pumps = vec![Vec::with_capacity(STEPS); THINGS.len()];
        for _ in 0..STEPS {
            for reading in plant.step(STEP_SECONDS).readings {
                let json = reading.json();
                let (_, signals) = json.split_once(',').expect("a pump's reading is its time and eight signals");
                pumps[reading.thing].push(signals.to_owned());
            }
        }
        Self(pumps)
    }

    fn at(&self, device: usize, count: u64) -> &str {
        let pump = &self.0[device % self.0.len()];
        // Devices at the same pump are apart by a step each.
        &pump[(device / self.0.len() + count as usize) % pump.len()]
    }
}

/// A thing that publishes, and where it stands in its own time.
#[derive(Clone)]
pub struct Device {
    pub thing: ThingName,
    pub topic: Arc<str>,
    identity: Arc<IssuedIdentity>,
    readings: Arc<Readings>,
    number: usize,
    count: u64,
    pub event_time: Timestamp,
}

impl Device {
    /// `count` new things of a tenant; the first reading of each has the time after `start`.
    pub async fn onboard(
        server: &Server,
        tenant: &TenantId,
        count: usize,
        readings: &Arc<Readings>,
        start: Timestamp,
    ) -> anyhow::Result<Vec<Self>> {
        let names: Result<Vec<_>, _> =
            (0..count).map(|number| ThingName::new(&format!("{tenant}-device{number:05}"))).collect();
        let identities = server.onboard(tenant, &names?).await?;
        let device = |(number, identity): (usize, IssuedIdentity)| Self {
            thing: identity.thing.clone(),
            topic: tenant.telemetry_topic(&identity.thing).into(),
            identity: Arc::new(identity),
            readings: readings.clone(),
            number,
            count: 0,
            event_time: start,
        };
        Ok(identities.into_iter().enumerate().map(device).collect())
    }

    /// The next reading, one second after the last.
    pub fn payload(&mut self) -> Bytes {
        let mut payload = String::with_capacity(256);
        self.write_next(&mut payload);
        payload.into()
    }

    /// The next reading, measured now.
    pub fn payload_at(&mut self, now: Timestamp) -> Bytes {
        self.event_time = now.plus_seconds(-1);
        self.payload()
    }

    /// The next `count` readings as one batch.
    pub fn batch(&mut self, count: usize) -> Bytes {
        let mut payload = String::with_capacity(256 * count);
        for index in 0..count {
            payload.push(if index == 0 { '[' } else { ',' });
            self.write_next(&mut payload);
        }
        payload.push(']');
        payload.into()
    }

    fn write_next(&mut self, payload: &mut String) {
        let milliseconds = self.event_time.plus_seconds(1).as_nanos() / NANOS_PER_MILLISECOND;
        // As the server will understand it.
        self.event_time = Timestamp::from_nanos(milliseconds * NANOS_PER_MILLISECOND);
        self.count += 1;
        let signals = self.readings.at(self.number, self.count);
        // Writing to a String cannot fail.
        let _ = write!(payload, "{{\"ts\":{milliseconds},{signals}");
    }

    /// Bytes of a typical reading.
    pub fn payload_bytes(&self) -> usize {
        self.clone().payload().len()
    }

    pub async fn connect(&self, address: &str, inflight: u16) -> anyhow::Result<MqttClient> {
        let client = MqttClient::connect(Options {
            addr: address.to_owned(),
            ca_pem: self.identity.ca_pem.clone(),
            cert_pem: self.identity.certificate_pem.clone(),
            key_pem: self.identity.private_key_pem.clone(),
            client_id: self.thing.to_string(),
            version: Version::V5,
            inflight_max: inflight,
            keep_alive: KEEP_ALIVE_SECONDS,
            will: None,
        });
        client.await.with_context(|| format!("{} cannot connect to {address}", self.thing))
    }
}

/// Connects all, in their order.
pub async fn connect_all(devices: &[Device], address: &str, inflight: u16) -> anyhow::Result<Vec<MqttClient>> {
    stream::iter(devices).map(|device| device.connect(address, inflight)).buffered(CONNECTING_MAX).try_collect().await
}

/// Says goodbye for all.
pub async fn disconnect_all(clients: Vec<MqttClient>) -> anyhow::Result<()> {
    let leaving = stream::iter(clients).map(Ok).try_for_each_concurrent(CONNECTING_MAX, MqttClient::disconnect);
    Ok(leaving.await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_core::CertificateStatus;

    fn device(number: usize, readings: &Arc<Readings>) -> Device {
        let thing = ThingName::new("bench-device").unwrap();
        let start = Timestamp::from_seconds(1_700_000_000);
        let identity = IssuedIdentity {
            thing: thing.clone(),
            certificate: kilter_core::CertificateView {
                id: kilter_core::CertificateId::new("ab").unwrap(),
                arn: String::new(),
                status: CertificateStatus::Active,
                created: start,
                not_after: start,
                policies: Vec::new(),
            },
            certificate_pem: String::new(),
            private_key_pem: String::new(),
            public_key_pem: String::new(),
            ca_pem: String::new(),
        };
        let (identity, readings) = (Arc::new(identity), readings.clone());
        Device { thing, topic: "t".into(), identity, readings, number, count: 0, event_time: start }
    }

    #[test]
    fn payloads_are_readings_a_second_apart_and_devices_differ() {
        let readings = Arc::new(Readings::make());
        let (mut a, mut b) = (device(0, &readings), device(THINGS.len(), &readings));
        let (first, second) = (a.payload(), a.payload());
        let parsed: serde_json::Value = serde_json::from_slice(&first).unwrap();
        assert_eq!(parsed.as_object().unwrap().len(), 1 + SIGNALS);
        assert_eq!(parsed["ts"], 1_700_000_001_000_u64);
        assert!(second.starts_with(b"{\"ts\":1700000002000,"));
        assert_ne!(first, b.payload());
        let batch: Vec<serde_json::Value> = serde_json::from_slice(&a.batch(3)).unwrap();
        assert_eq!(batch[2]["ts"], 1_700_000_005_000_u64);
        assert!(a.payload_at(Timestamp::from_nanos(1_800_000_000_123_456_789)).starts_with(b"{\"ts\":1800000000123,"));
        assert_eq!(a.event_time, Timestamp::from_nanos(1_800_000_000_123_000_000));
    }
}
