//! `kilter demo`: the platform with a simulated pump station that falls ill now and then.

use super::{publisher, serve};
use crate::{
    app::{Node, ServerFile},
    client::Client,
    config::{Config, ServeOptions, Shared},
    output,
    plant::{Plant, Step, THINGS},
};
use anyhow::Context;
use kilter_core::{
    AlertBudget, TenantId, ThingName,
    ports::{
        clock::{Clock, SystemClock},
        control::{OnboardRequest, Onboarded},
    },
};
use kilter_door_mqtt::{MqttClient, QoS};
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Between two readings of each device.
const READING_SECONDS: f64 = 0.2;
/// Past that is published at the start, so that the detectors have learned what is ordinary when the first fault comes.
const HISTORY_SECONDS: i64 = 400;
/// The station falls ill about once a minute; a real plant's budget would be used up after that many.
const ALERTS_PER_WEEK: f64 = 100.0;
const SEED: u64 = 7;

/// Run the platform with a simulated pump station that falls ill now and then
#[derive(Debug, clap::Args)]
#[command(after_help = "The data directory is kept, and used again by the next run.\n\nExample:\n  kilter demo")]
pub struct Args {
    #[command(flatten)]
    options: ServeOptions,
}

pub async fn run(shared: &Shared, args: Args) -> anyhow::Result<()> {
    let config = Config::load(shared, &args.options)?;
    let metrics = serve::install_metrics()?;
    let shutdown = CancellationToken::new();
    serve::stop_on_signal(shutdown.clone())?;
    let to_open = config.clone();
    let node = tokio::task::spawn_blocking(move || Node::open(&to_open)).await??;
    let (started, ready) = tokio::sync::oneshot::channel();
    let serving = node.serve(config, metrics, shutdown.clone(), |file| {
        // The receiver is gone only when the demo has failed, and then the server stops anyway.
        let _ = started.send(file.clone());
    });
    let plant = async {
        let Ok(file) = ready.await else { return Ok(()) };
        let ran = shutdown.run_until_cancelled(run_plant(shared, &file)).await.unwrap_or(Ok(()));
        // A pump may see the server go before the plant is told to stop: that is no failure.
        let stopped = shutdown.is_cancelled();
        shutdown.cancel();
        if stopped { Ok(()) } else { ran }
    };
    let (served, ran) = tokio::join!(serving, plant);
    served.and(ran)
}

async fn run_plant(shared: &Shared, file: &ServerFile) -> anyhow::Result<()> {
    let client = Client::running(shared).await?;
    let station = Station::connect(&client, file).await?;
    let start = SystemClock.now().plus_seconds(-HISTORY_SECONDS);
    let mut plant = Plant::new(SEED, start);
    let steps = (HISTORY_SECONDS as f64 / READING_SECONDS) as u64;
    for _ in 0..steps {
        station.publish(&plant.step(READING_SECONDS)).await?;
    }
    station.flush().await?;
    output::line(&format!(
        "\n  Kilter demo: a pump station with {} pumps, eight signals each, over MQTT with mutual TLS.\n  Console:  {}\n  Data:     {}\n  Faults come about once a minute; each alert below says why. Ctrl-C stops.\n",
        THINGS.len(),
        file.url,
        shared.data_dir.display()
    ))?;
    plant.schedule();
    let mut tick = interval(Duration::from_secs_f64(READING_SECONDS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        // More than one step where publishing the past has taken a while.
        while plant.now() < SystemClock.now() {
            let step = plant.step(READING_SECONDS);
            for event in &step.events {
                output::line(&format!("  [plant] {event}"))?;
            }
            station.publish(&step).await?;
        }
    }
}

/// The six devices, connected.
struct Station {
    devices: Vec<(Arc<str>, MqttClient)>,
}

impl Station {
    /// Onboards the tenant where that is not done yet. Each run gets certificates of its own: the keys of the run
    /// before are nowhere.
    async fn connect(client: &Client, file: &ServerFile) -> anyhow::Result<Self> {
        let tenant = TenantId::new("tenant001")?;
        let things: Vec<ThingName> = THINGS.iter().map(|name| ThingName::new(name)).collect::<Result<_, _>>()?;
        let request = OnboardRequest {
            tenant: tenant.clone(),
            things: things.clone(),
            budget: Some(AlertBudget { per_asset_and_week: ALERTS_PER_WEEK }),
            shards: None,
        };
        let mut onboarded: Onboarded = client.post("/api/v1/tenants", &request).await?;
        let mut devices = Vec::new();
        for thing in things {
            let new = onboarded.identities.iter().position(|identity| identity.thing == thing);
            let identity = match new {
                Some(index) => onboarded.identities.swap_remove(index),
                None => publisher::borrow_certificate(client, &tenant, &thing).await?,
            };
            let device = publisher::connect(&file.mqtt, &identity).await?;
            devices.push((tenant.telemetry_topic(&thing).into(), device));
        }
        Ok(Self { devices })
    }

    async fn publish(&self, step: &Step) -> anyhow::Result<()> {
        for reading in &step.readings {
            let (topic, device) = &self.devices[reading.thing];
            device
                .publish(topic, reading.json().into(), QoS::AtLeastOnce)
                .await
                .context("a pump lost its connection")?;
        }
        Ok(())
    }

    async fn flush(&self) -> anyhow::Result<()> {
        for (_, device) in &self.devices {
            device.flush().await?;
        }
        Ok(())
    }
}
