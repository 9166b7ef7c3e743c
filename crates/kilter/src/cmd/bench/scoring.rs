//! What follows the acknowledgement: how soon a reading is scored, and how many signals one server keeps up with.

use super::{
    device::{Device, SIGNALS, connect_all},
    load::Percentiles,
    report::{Capacity, Delay},
    server::Server,
};
use anyhow::{Context, ensure};
use futures::future::try_join_all;
use kilter_core::{
    TenantId, ThingName, Timestamp,
    ports::clock::{Clock, SystemClock},
};
use kilter_detect::WARM_UP_READINGS;
use kilter_door_mqtt::{MqttClient, QoS};
use serde::Deserialize;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

/// Load under which the delay to the score is measured: a plant of two hundred machines that speak once a second.
const PACED_PER_SECOND: u32 = 200;
/// What has been published must be heard of as scored within this time.
const HEARD_TIME_MAX: Duration = Duration::from_secs(10);
/// Readings of one warm-up message: some 20 KB.
const WARM_UP_BATCH: usize = 100;
/// Enough for one connection that sends one reading a second.
const INFLIGHT: u16 = 20;
const SAMPLE: Duration = Duration::from_millis(500);
/// Readings that wait for longer than this, in seconds of the load, count as not keeping up.
const BEHIND_SECONDS_MAX: f64 = 2.0;

/// A reading's name: who measured it, when.
type Key = (ThingName, Timestamp);
type Moments = HashMap<Key, Instant>;

/// From the moment at which a reading is due to be published to that at which its score, committed, has reached a
/// follower of `/api/v1/live`.
pub async fn delay(
    server: &Server,
    tenant: &TenantId,
    devices: &mut [Device],
    seconds: u64,
) -> anyhow::Result<(Delay, u64)> {
    let clients = connect_all(devices, &server.mqtt, INFLIGHT).await?;
    let published = u64::from(PACED_PER_SECOND) * seconds;
    let listener = listen(server.live(tenant).await?, published);
    let mut due: Moments = HashMap::new();
    let mut tick = interval(Duration::from_secs(1) / PACED_PER_SECOND);
    // A delay of ours is a delay of the reading too: what is late is not forgiven.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..published as usize {
        let at = tick.tick().await.into_std();
        let index = number % devices.len();
        let (device, client) = (&mut devices[index], &clients[index]);
        let payload = device.payload();
        due.insert((device.thing.clone(), device.event_time), at);
        client.publish(&device.topic, payload, QoS::AtLeastOnce).await?;
    }
    finish(clients).await?;
    let heard = timeout(HEARD_TIME_MAX, listener).await.context("scores of published readings did not appear")???;
    let delays = heard.iter().filter_map(|(key, at)| Some(at.saturating_duration_since(*due.get(key)?)));
    let delays: Vec<Duration> = delays.collect();
    ensure!(delays.len() as u64 == published, "{published} readings were published and {} heard of", delays.len());
    let milliseconds = Percentiles::of(delays).context("nothing was published")?;
    Ok((Delay { messages_per_second: PACED_PER_SECOND, milliseconds }, published))
}

/// Follows the live events until `count` readings were heard of.
fn listen(mut events: reqwest::Response, count: u64) -> JoinHandle<anyhow::Result<Moments>> {
    tokio::spawn(async move {
        let mut heard: Moments = HashMap::new();
        let mut rest = Vec::new();
        while (heard.len() as u64) < count {
            let chunk = events.chunk().await?.context("the live events have ended")?;
            let now = Instant::now();
            rest.extend_from_slice(&chunk);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if let Some(key) = reading_of(&line)? {
                    heard.insert(key, now);
                }
            }
        }
        Ok(heard)
    })
}

/// The reading that a line of Server-Sent Events tells of, if it does.
fn reading_of(line: &[u8]) -> anyhow::Result<Option<Key>> {
    #[derive(Deserialize)]
    #[serde(tag = "type", rename_all = "lowercase")]
    enum Event {
        Reading {
            reading: Told,
        },
        Missed {
            events: u64,
        },
        #[serde(other)]
        Other,
    }
    #[derive(Deserialize)]
    struct Told {
        thing: ThingName,
        event_time: Timestamp,
    }
    let Some(data) = line.strip_prefix(b"data:") else { return Ok(None) };
    match serde_json::from_slice(data).context("a live event is not understood")? {
        Event::Reading { reading } => Ok(Some((reading.thing, reading.event_time))),
        Event::Missed { events } => anyhow::bail!("{events} live events were missed: this machine is too slow"),
        Event::Other => Ok(None),
    }
}

/// Every device sends a reading a second, each over its own connection, after all have been warmed up. Answers also how
/// many messages that were.
pub async fn capacity(server: &mut Server, devices: &mut [Device], seconds: u64) -> anyhow::Result<(Capacity, u64)> {
    let clients = connect_all(devices, &server.mqtt, INFLIGHT).await?;
    let began = Instant::now();
    let warm_up_messages = warm_up(devices, &clients).await?;
    server.caught_up().await?;
    let warm_up_seconds = began.elapsed().as_secs_f64();
    server.quiet().await?;

    let cpu_before = server.process.cpu_seconds()?;
    let start = Instant::now() + Duration::from_millis(100);
    let count = devices.len();
    let steady = devices.iter_mut().zip(&clients).enumerate().map(|(index, (device, client))| {
        let first = start + Duration::from_secs(1).mul_f64(index as f64 / count as f64);
        once_a_second(device, client, first, seconds)
    });
    let mut waiting_max = 0;
    let sampling = async {
        loop {
            waiting_max = waiting_max.max(server.metrics().await?.waiting());
            sleep(SAMPLE).await;
        }
    };
    tokio::select! {
        sent = try_join_all(steady) => drop(sent?),
        stopped = sampling => return stopped,
    }
    let elapsed = start.elapsed().as_secs_f64();
    let cpu_cores = (server.process.cpu_seconds()? - cpu_before) / elapsed;
    let resident_bytes = server.process.resident_bytes()?;
    finish(clients).await?;
    let waiting_end = server.metrics().await?.waiting();
    server.caught_up().await?;
    let behind_seconds_max = waiting_max as f64 / count as f64;
    let warm_up_readings = warm_up_messages * WARM_UP_BATCH as u64;
    let capacity = Capacity {
        things: count,
        signals: count * SIGNALS,
        seconds,
        warm_up_readings_per_second: warm_up_readings as f64 / warm_up_seconds,
        messages_per_second: count as u64,
        waiting_max,
        waiting_end,
        behind_seconds_max,
        keeps_up: behind_seconds_max <= BEHIND_SECONDS_MAX,
        cpu_cores,
        resident_bytes,
    };
    Ok((capacity, warm_up_messages + count as u64 * seconds))
}

/// As many readings of the past as the detectors need, and more; answers the number of messages.
async fn warm_up(devices: &mut [Device], clients: &[MqttClient]) -> anyhow::Result<u64> {
    let batches = (WARM_UP_READINGS as usize).div_ceil(WARM_UP_BATCH);
    let now = SystemClock.now();
    for device in devices.iter_mut() {
        device.event_time = now.plus_seconds(-((batches * WARM_UP_BATCH) as i64) - 1);
    }
    for _ in 0..batches {
        for (device, client) in devices.iter_mut().zip(clients) {
            let payload = device.batch(WARM_UP_BATCH);
            client.publish(&device.topic, payload, QoS::AtLeastOnce).await?;
        }
    }
    try_join_all(clients.iter().map(MqttClient::flush)).await?;
    Ok((batches * devices.len()) as u64)
}

async fn once_a_second(device: &mut Device, client: &MqttClient, first: Instant, seconds: u64) -> anyhow::Result<()> {
    for second in 0..seconds {
        sleep_until((first + Duration::from_secs(second)).into()).await;
        let payload = device.payload_at(SystemClock.now());
        client.publish(&device.topic, payload, QoS::AtLeastOnce).await?;
    }
    Ok(())
}

async fn finish(clients: Vec<MqttClient>) -> anyhow::Result<()> {
    for client in clients {
        client.flush().await?;
        client.disconnect().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_events_are_understood() {
        let line = br#"data: {"type":"reading","tenant":"bench","reading":{"thing":"a","event_time":"2026-01-01T00:00:00Z","score":1.5}}"#;
        let (thing, time) = reading_of(line).unwrap().unwrap();
        assert_eq!((thing.as_str(), time.to_string().as_str()), ("a", "2026-01-01T00:00:00Z"));
        assert!(reading_of(br#"data: {"type":"anomaly","episode":{}}"#).unwrap().is_none());
        assert!(reading_of(b": keep-alive").unwrap().is_none());
        assert!(reading_of(br#"data: {"type":"missed","events":3}"#).is_err());
    }
}
