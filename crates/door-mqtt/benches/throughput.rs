//! `cargo bench -p kilter-door-mqtt`: QoS 1 messages per second through TLS, door and back, with a pipeline
//! that keeps nothing (20 clients, 100 in flight, 200 bytes), both ends in this process on as many threads as
//! the first argument says (1 unless given).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and fails by panicking")]

#[path = "../tests/door/fixtures.rs"]
mod fixtures;

use bytes::Bytes;
use fixtures::House;
use kilter_door_mqtt::{MqttClient, QoS, Version};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const CLIENTS: usize = 20;
const MESSAGES: u64 = 20_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let threads = args.first().map_or(1, |threads| threads.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::spawn(throughput(threads)).await.unwrap();
    });
}

async fn throughput(threads: usize) {
    for version in [Version::V311, Version::V5] {
        let house = House::open().await;
        house.ingest.forget();
        let mut clients = Vec::new();
        for i in 0..CLIENTS {
            clients.push(house.client(&format!("dev-{i}"), version).await);
        }
        let cpu = cpu_time();
        let start = Instant::now();
        let mut tasks = Vec::new();
        for client in clients {
            tasks.push(tokio::spawn(publish(client)));
        }
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await.unwrap());
        }
        let (took, cpu) = (start.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
        latencies.sort_unstable();
        let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize];
        let total = (CLIENTS as u64 * MESSAGES) as f64;
        println!(
            "{version:?}, {threads} threads: {:.0} messages/s, {:.1} us of CPU each (client and door), \
             publish to PUBACK p50 {:?} p99 {:?}",
            total / took,
            cpu / total * 1e6,
            at(0.5),
            at(0.99),
        );
    }
}

async fn publish(client: MqttClient) -> Vec<Duration> {
    client.record_ack_latencies();
    let topic: Arc<str> = "t/tenant001/devices/pump-1/telemetry".into();
    let payload = Bytes::from(vec![b'x'; 200]);
    for _ in 0..MESSAGES {
        client.publish(&topic, payload.clone(), QoS::AtLeastOnce).await.unwrap();
    }
    client.flush().await.unwrap();
    client.take_ack_latencies()
}

/// User and system time of this process, in ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
