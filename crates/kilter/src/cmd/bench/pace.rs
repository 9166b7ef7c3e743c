//! Load at a given rate, whatever the acknowledgements do: how long a PUBACK takes while the server is not saturated.

use super::device::{Device, connect_all};
use anyhow::Context;
use kilter_door_mqtt::{MqttClient, QoS};
use std::time::Duration;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

/// Messages that are due are sent this often.
const TICK: Duration = Duration::from_millis(2);
/// Never reached while the server keeps up with the rate: the sender must not wait for acknowledgements.
const INFLIGHT: u16 = 1_000;

/// All devices together publish `rate` messages a second for `duration`; answers how long each PUBACK took. The devices'
/// times go on from where they are.
pub async fn run(
    address: &str,
    devices: &mut Vec<Device>,
    rate: f64,
    duration: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let clients = connect_all(devices, address, INFLIGHT).await?;
    let each = rate / clients.len() as f64;
    let mut running = JoinSet::new();
    for (index, (device, client)) in std::mem::take(devices).into_iter().zip(clients).enumerate() {
        running.spawn(async move { (index, publish(device, client, each, duration).await) });
    }
    let (mut finished, mut latencies) = (Vec::new(), Vec::new());
    while let Some(done) = running.join_next().await {
        let (index, outcome) = done?;
        let (device, observed) = outcome?;
        latencies.extend(observed);
        finished.push((index, device));
    }
    finished.sort_unstable_by_key(|(index, _)| *index);
    devices.extend(finished.into_iter().map(|(_, device)| device));
    Ok(latencies)
}

async fn publish(
    mut device: Device,
    client: MqttClient,
    rate: f64,
    duration: Duration,
) -> anyhow::Result<(Device, Vec<Duration>)> {
    client.record_ack_latencies();
    let began = Instant::now();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent = 0u64;
    while began.elapsed() < duration {
        tick.tick().await;
        while (sent as f64) < began.elapsed().as_secs_f64() * rate {
            let payload = device.payload();
            let published = client.publish(&device.topic, payload, QoS::AtLeastOnce).await;
            published.with_context(|| format!("{} cannot publish", device.thing))?;
            sent += 1;
        }
    }
    client.flush().await?;
    let latencies = client.take_ack_latencies();
    client.disconnect().await?;
    Ok((device, latencies))
}
