//! The checks of cookbook §8 and §17.2: a real message, published by a real client, followed wherever it must go.

use super::publisher;
use crate::{client::Client, output};
use indicatif::ProgressBar;
use kilter_core::{
    IssuedIdentity, ScoredReading, TenantId, TenantView, ThingName, ThingView,
    ports::{
        clock::{Clock, SystemClock},
        control::{OnboardRequest, Onboarded},
        query::{ObjectView, RecordView},
    },
};
use kilter_door_mqtt::{MqttClient, QoS};
use serde::Serialize;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const POLL: Duration = Duration::from_millis(200);
/// Stream and table follow within a second; this is for a machine under load.
const PATIENCE: Duration = Duration::from_secs(30);
/// The lake is flushed by age; see `lake.flush_seconds`.
const LAKE_PATIENCE: Duration = Duration::from_secs(120);
/// Newest records and readings that are searched for the test message.
const SEARCH: usize = 1_000;

/// How far the message is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    Table,
    /// Also into the lake, which takes as long as its flush does.
    Lake,
}

#[derive(Debug, Serialize)]
pub struct Check {
    pub what: String,
    pub passed: bool,
    pub evidence: String,
}

impl Check {
    fn new(what: &str, passed: bool, evidence: impl Into<String>) -> Self {
        Self { what: what.to_owned(), passed, evidence: evidence.into() }
    }
}

pub fn people(checks: &[Check]) -> String {
    let rows = checks.iter().map(|check| {
        vec![if check.passed { "ok" } else { "FAILED" }.to_owned(), check.what.clone(), check.evidence.clone()]
    });
    output::table(&["", "check", "evidence"], rows.collect(), "")
}

/// Runs the checks with a thing of their own, so that a device that is connected stays connected.
pub async fn run(client: &Client, tenant: &TenantId, depth: Depth) -> anyhow::Result<Vec<Check>> {
    let view: TenantView = client.get(&format!("/api/v1/tenants/{tenant}")).await?;
    let thing = ThingName::new(&format!("{tenant}-validation"))?;
    let request = OnboardRequest { tenant: tenant.clone(), things: vec![thing.clone()], budget: None, shards: None };
    let mut onboarded: Onboarded = client.post("/api/v1/tenants", &request).await?;
    let identity = match onboarded.identities.pop() {
        Some(new) => new,
        None => publisher::borrow_certificate(client, tenant, &thing).await?,
    };
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(POLL);
    let checks = all(client, &view, &thing, &identity, depth, &bar).await;
    publisher::give_back(client, &identity).await?;
    bar.finish_and_clear();
    checks
}

async fn all(
    client: &Client,
    tenant: &TenantView,
    thing: &ThingName,
    identity: &IssuedIdentity,
    depth: Depth,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Check>> {
    let mut checks = vec![inventory(client, tenant).await?];
    let mqtt = client.mqtt_address()?;
    bar.set_message("connecting");
    let mut device = match publisher::connect(mqtt, identity).await {
        Ok(device) => device,
        Err(error) => {
            checks.push(Check::new("a device connects with mutual TLS", false, format!("{error:#}")));
            return Ok(checks);
        }
    };
    checks.push(Check::new("a device connects with mutual TLS", true, format!("{thing} at {mqtt}")));
    let message = Message::new(tenant, thing);
    bar.set_message("publishing");
    checks.push(message.publish(&mut device).await);
    bar.set_message("looking into the stream");
    checks.push(message.in_stream(client).await?);
    bar.set_message("looking into the table");
    checks.push(message.in_table(client).await?);
    if depth == Depth::Lake {
        bar.set_message("waiting for the lake's next flush");
        checks.push(message.in_lake(client).await?);
    }
    bar.set_message("trying what must be refused");
    checks.extend(refusals(mqtt, identity, &device, &tenant.tenant).await);
    let _ = device.disconnect().await;
    Ok(checks)
}

/// §17.2.1.
async fn inventory(client: &Client, tenant: &TenantView) -> anyhow::Result<Check> {
    let things: Vec<ThingView> = client.get(&format!("/api/v1/tenants/{}/things", tenant.tenant)).await?;
    let bare: Vec<&str> = things.iter().filter(|t| t.certificates.is_empty()).map(|t| t.thing.as_str()).collect();
    let evidence = match bare.as_slice() {
        [] => format!("{} things, rule {} into {}", things.len(), tenant.rule.name, tenant.rule.stream),
        bare => format!("no certificate: {}", bare.join(", ")),
    };
    Ok(Check::new("every thing has a certificate", bare.is_empty(), evidence))
}

/// The test message, recognisable by its time.
struct Message {
    tenant: TenantView,
    thing: ThingName,
    topic: String,
    time: kilter_core::Timestamp,
    payload: String,
}

impl Message {
    fn new(tenant: &TenantView, thing: &ThingName) -> Self {
        let time = SystemClock.now();
        let payload = serde_json::json!({
            "ts": time.sortable(), "temperature": 91.7, "vibration": 0.25, "tenant": tenant.tenant,
        });
        Self {
            tenant: tenant.clone(),
            thing: thing.clone(),
            topic: tenant.tenant.telemetry_topic(thing),
            time,
            payload: payload.to_string(),
        }
    }

    /// §17.2.2: publishes with QoS 1 and receives it on the own topic.
    async fn publish(&self, device: &mut MqttClient) -> Check {
        const WHAT: &str = "a message is acknowledged, and received by its subscriber";
        let topic: Arc<str> = self.topic.as_str().into();
        let result = async {
            device.subscribe(&topic, QoS::AtLeastOnce).await?;
            let acked = device.publish(&topic, self.payload.clone().into(), QoS::AtLeastOnce).await?;
            acked.acked().await?;
            device.next_message().await
        };
        match tokio::time::timeout(PATIENCE, result).await {
            Ok(Ok(received)) => {
                Check::new(WHAT, received.payload == self.payload.as_bytes(), format!("PUBACK for {}", self.topic))
            }
            Ok(Err(error)) => Check::new(WHAT, false, error.to_string()),
            Err(_) => Check::new(WHAT, false, format!("nothing within {} s", PATIENCE.as_secs())),
        }
    }

    async fn in_stream(&self, client: &Client) -> anyhow::Result<Check> {
        let path = format!("/api/v1/tenants/{}/records?limit={SEARCH}", self.tenant.tenant);
        let found = poll(PATIENCE, async || {
            let records: Vec<RecordView> = client.get(&path).await?;
            Ok(records.into_iter().find(|r| r.data == self.payload && r.rejected.is_none()))
        });
        let evidence =
            found.await?.map(|r| format!("{} shard {} sequence {}", self.tenant.stream, r.shard.0, r.offset.0));
        Ok(self.check("the record is in the stream as it was sent", evidence))
    }

    async fn in_table(&self, client: &Client) -> anyhow::Result<Check> {
        let path = format!("/api/v1/tenants/{}/things/{}/readings?limit={SEARCH}", self.tenant.tenant, self.thing);
        let found = poll(PATIENCE, async || {
            let rows: Vec<ScoredReading> = client.get(&path).await?;
            Ok(rows.into_iter().find(|row| row.event_time == self.time))
        });
        let evidence = found.await?.map(|row| format!("{} has it: {:?}", self.tenant.table, row.verdict));
        Ok(self.check("its score is in the table", evidence))
    }

    async fn in_lake(&self, client: &Client) -> anyhow::Result<Check> {
        let path = format!("/api/v1/tenants/{}/objects", self.tenant.tenant);
        let new = |objects: &[ObjectView], folder: &str| {
            let prefix = format!("{}{folder}/", self.tenant.lake_prefix);
            objects.iter().find(|o| o.key.starts_with(&prefix) && o.modified >= self.time).map(|o| o.key.clone())
        };
        let found = poll(LAKE_PATIENCE, async || {
            let objects: Vec<ObjectView> = client.get(&path).await?;
            Ok(new(&objects, "raw").zip(new(&objects, "scored")))
        });
        let evidence = found.await?.map(|(raw, scored)| format!("s3://{}/{raw} and {scored}", self.tenant.bucket));
        Ok(self.check("raw and scored objects are new in the lake", evidence))
    }

    fn check(&self, what: &str, evidence: Option<String>) -> Check {
        let passed = evidence.is_some();
        Check::new(what, passed, evidence.unwrap_or_else(|| "not found in time; see the server's log".to_owned()))
    }
}

/// The guardrails of §17.2: each of these must be refused.
async fn refusals(mqtt: &str, identity: &IssuedIdentity, device: &MqttClient, tenant: &TenantId) -> Vec<Check> {
    let stranger = publisher::connect_as(mqtt, identity, "somebody-else").await;
    let foreign: Arc<str> = format!("tenants/not{tenant}/devices/{}/telemetry", identity.thing).into();
    let publish = async { device.publish(&foreign, "{}".into(), QoS::AtLeastOnce).await?.acked().await };
    let published = publish.await;
    let subscribed = device.subscribe("tenants/+/devices/+/telemetry", QoS::AtLeastOnce).await;
    let refused = |what: &str, refused: bool| {
        Check::new(what, refused, if refused { "refused" } else { "WAS ALLOWED: look at the tenant's policies" })
    };
    vec![
        refused("another client id is refused", stranger.is_err()),
        refused("another tenant's topic is refused", published.is_err()),
        refused("a subscription across tenants is refused", subscribed.is_err()),
    ]
}

async fn poll<T>(patience: Duration, look: impl AsyncFn() -> anyhow::Result<Option<T>>) -> anyhow::Result<Option<T>> {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(Some(found));
        }
        if began.elapsed() > patience {
            return Ok(None);
        }
        tokio::time::sleep(POLL).await;
    }
}
