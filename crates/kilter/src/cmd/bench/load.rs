//! Load that only acknowledgements hold back: as many messages in flight as allowed, for a given time. The same code,
//! the same devices and the same certificates for every server that is compared.

use super::{
    device::{Device, connect_all},
    process::Process,
};
use anyhow::Context;
use kilter_door_mqtt::{MqttClient, QoS};
use serde::Serialize;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Barrier, task::JoinSet, time::timeout};

/// What is in flight when the time is over has this long to be acknowledged.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub inflight: u16,
    pub duration: Duration,
}

/// Milliseconds below which a share of the observations lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Percentiles {
    /// `None` without observations.
    pub fn of(mut observed: Vec<Duration>) -> Option<Self> {
        observed.sort_unstable();
        let last = observed.len().checked_sub(1)?;
        let at = |share: f64| observed[((share * observed.len() as f64).ceil() as usize).saturating_sub(1).min(last)];
        let ms = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
        Some(Self { p50: ms(at(0.5)), p90: ms(at(0.9)), p99: ms(at(0.99)), max: ms(observed[last]) })
    }
}

/// What one or several rounds brought.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Within the time.
    pub messages: u64,
    /// Altogether: with those that were in flight when the time was over.
    pub published: u64,
    pub seconds: f64,
    /// Of each round, messages a second.
    pub rounds: Vec<f64>,
    pub latencies: Vec<Duration>,
    /// Of the server, while the load ran.
    pub cpu_seconds: f64,
}

impl Acknowledged {
    pub fn per_second(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    pub fn add(&mut self, round: Self) {
        self.messages += round.messages;
        self.published += round.published;
        self.seconds += round.seconds;
        self.rounds.extend(round.rounds);
        self.latencies.extend(round.latencies);
        self.cpu_seconds += round.cpu_seconds;
    }
}

/// What one device did.
struct Part {
    messages: u64,
    published: u64,
    elapsed: Duration,
    latencies: Vec<Duration>,
}

/// One round against the server at `address`. The devices' times go on from where they are.
pub async fn saturate(
    server: &Process,
    address: &str,
    devices: &mut Vec<Device>,
    load: Load,
) -> anyhow::Result<Acknowledged> {
    let clients = connect_all(devices, address, load.inflight).await?;
    let start = Arc::new(Barrier::new(clients.len()));
    let mut running = JoinSet::new();
    let cpu_before = server.cpu_seconds()?;
    for (index, (device, client)) in std::mem::take(devices).into_iter().zip(clients).enumerate() {
        let start = start.clone();
        running.spawn(async move {
            start.wait().await;
            (index, publish_for(device, client, load.duration).await)
        });
    }
    let mut finished = Vec::new();
    while let Some(done) = running.join_next().await {
        let (index, outcome) = done?;
        let (device, part) = outcome?;
        finished.push((index, device, part));
    }
    let cpu_seconds = server.cpu_seconds()? - cpu_before;
    finished.sort_unstable_by_key(|(index, ..)| *index);
    let mut sum = Acknowledged { cpu_seconds, ..Acknowledged::default() };
    let mut rate = 0.0;
    for (_, device, part) in finished {
        rate += part.messages as f64 / part.elapsed.as_secs_f64();
        sum.messages += part.messages;
        sum.published += part.published;
        sum.latencies.extend(part.latencies);
        devices.push(device);
    }
    sum.seconds = sum.messages as f64 / rate;
    sum.rounds = vec![rate];
    Ok(sum)
}

async fn publish_for(mut device: Device, client: MqttClient, duration: Duration) -> anyhow::Result<(Device, Part)> {
    client.record_ack_latencies();
    let began = Instant::now();
    let mut published = 0;
    while began.elapsed() < duration {
        let payload = device.payload();
        let sent = client.publish(&device.topic, payload, QoS::AtLeastOnce).await;
        sent.with_context(|| format!("{} cannot publish", device.thing))?;
        published += 1;
    }
    let (messages, elapsed) = (client.acked(), began.elapsed());
    timeout(FLUSH_TIME_MAX, client.flush())
        .await
        .with_context(|| format!("{} waits for acknowledgements in vain", device.thing))??;
    let latencies = client.take_ack_latencies();
    client.disconnect().await?;
    Ok((device, Part { messages, published, elapsed, latencies }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_observations() {
        let ms = |n: u64| Duration::from_millis(n);
        assert_eq!(Percentiles::of(Vec::new()), None);
        let one = Percentiles::of(vec![ms(7)]).unwrap();
        assert_eq!((one.p50, one.p99, one.max), (7.0, 7.0, 7.0));
        let hundred = Percentiles::of((1..=100).rev().map(ms).collect()).unwrap();
        assert_eq!(hundred, Percentiles { p50: 50.0, p90: 90.0, p99: 99.0, max: 100.0 });
    }

    #[test]
    fn rounds_are_added_up() {
        let round = |messages, seconds| Acknowledged { messages, seconds, ..Acknowledged::default() };
        let mut sum = round(100, 1.0);
        sum.add(round(300, 1.0));
        assert_eq!(sum.per_second(), 200.0);
    }
}
