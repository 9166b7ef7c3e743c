//! What was measured: one JSON object for scripts, a table for people.

use super::{
    load::{Acknowledged, Percentiles},
    peer,
};
use crate::output;
use anyhow::Context;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Report {
    pub kilter: Throughput,
    /// `null` where mosquitto is not installed.
    pub mosquitto: Option<Throughput>,
    /// Kilter's rate, on disk, over mosquitto's, in memory.
    pub ratio: Option<f64>,
    pub score: Scoring,
    pub memory: Memory,
}

#[derive(Debug, Serialize)]
pub struct Throughput {
    pub version: String,
    pub clients: usize,
    pub inflight: u16,
    pub payload_bytes: usize,
    pub seconds: f64,
    pub messages: u64,
    pub messages_per_second: f64,
    /// Of each round, in their order.
    pub rounds_per_second: Vec<f64>,
    /// From the call that publishes to its PUBACK.
    pub acknowledged_milliseconds: Percentiles,
    /// Of the server alone.
    pub cpu_microseconds_per_message: f64,
}

impl Throughput {
    pub fn new(
        version: String,
        clients: usize,
        inflight: u16,
        payload_bytes: usize,
        sum: Acknowledged,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            version,
            clients,
            inflight,
            payload_bytes,
            seconds: sum.seconds,
            messages: sum.messages,
            messages_per_second: sum.per_second(),
            cpu_microseconds_per_message: sum.cpu_seconds * 1e6 / sum.published as f64,
            rounds_per_second: sum.rounds,
            acknowledged_milliseconds: Percentiles::of(sum.latencies).context("no message was acknowledged")?,
        })
    }
}

#[derive(Debug, Serialize)]
pub struct Scoring {
    pub backlog: Backlog,
    pub delay: Delay,
    pub capacity: Capacity,
}

/// Working off what the throughput test has left.
#[derive(Debug, Default, Serialize)]
pub struct Backlog {
    /// From the end of the load, over all rounds.
    pub catch_up_seconds: f64,
    /// While the load ran and after it, until all was scored.
    pub messages_per_second: f64,
    pub readings_per_second: f64,
}

#[derive(Debug, Serialize)]
pub struct Delay {
    pub messages_per_second: u32,
    /// From publishing to the committed score.
    pub milliseconds: Percentiles,
}

#[derive(Debug, Serialize)]
pub struct Capacity {
    pub things: usize,
    pub signals: usize,
    pub seconds: u64,
    /// Taking in and scoring the backlog that warms the detectors up.
    pub warm_up_readings_per_second: f64,
    pub messages_per_second: u64,
    pub waiting_max: u64,
    pub waiting_end: u64,
    /// The most that waited, in seconds of the load.
    pub behind_seconds_max: f64,
    pub keeps_up: bool,
    /// Of the server alone: ingest, scoring, lake.
    pub cpu_cores: f64,
    pub resident_bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct Memory {
    /// From the start of the process to the first 200 of `/readyz`, on an empty directory.
    pub start_seconds: f64,
    /// Resident right after the start, without a tenant.
    pub idle_bytes: u64,
    pub connections: usize,
    pub bytes_per_connection: u64,
    pub signals: u64,
    pub bytes_per_signal: u64,
}

const MIB: f64 = 1_048_576.0;

pub fn people(report: &Report) -> String {
    let mut text = throughput(report);
    text.push_str(&scoring(&report.score));
    let m = &report.memory;
    text.push_str(&format!(
        "\nMemory: {:.1} MiB right after the start ({:.0} ms), {:.1} KiB per idle connection ({}), {} bytes per signal ({}).",
        m.idle_bytes as f64 / MIB,
        m.start_seconds * 1e3,
        m.bytes_per_connection as f64 / 1024.0,
        m.connections,
        m.bytes_per_signal,
        m.signals,
    ));
    text
}

fn throughput(report: &Report) -> String {
    let k = &report.kilter;
    let sides: Vec<&Throughput> = std::iter::once(k).chain(&report.mosquitto).collect();
    let row = |of: &Throughput| {
        let ms = &of.acknowledged_milliseconds;
        let rounds: Vec<String> = of.rounds_per_second.iter().map(|rate| format!("{rate:.0}")).collect();
        let numbers = [ms.p50, ms.p90, ms.p99, ms.max].map(|value| format!("{value:.1}"));
        let first = [of.version.clone(), format!("{:.0}", of.messages_per_second), rounds.join(", ")];
        first.into_iter().chain(numbers).chain([format!("{:.1}", of.cpu_microseconds_per_message)]).collect()
    };
    let head = ["acknowledged", "msg/s", "rounds", "p50 ms", "p90 ms", "p99 ms", "max ms", "cpu us/msg"];
    let table = output::table(&head, sides.into_iter().map(row).collect(), "");
    let verdict = match report.ratio {
        Some(ratio) => {
            format!("Kilter, on disk, acknowledges {ratio:.2} times as many messages as mosquitto, in memory.")
        }
        None => format!("NO PEER: mosquitto is not installed, so there is nothing to compare with; {}.", peer::INSTALL),
    };
    format!(
        "{} clients with {} messages of {} bytes in flight each, QoS 1, mutual TLS:\n{table}\n{verdict}\n",
        k.clients, k.inflight, k.payload_bytes
    )
}

fn scoring(score: &Scoring) -> String {
    let (b, d, c) = (&score.backlog, &score.delay, &score.capacity);
    let ms = &d.milliseconds;
    format!(
        "\nScoring: {:.0} messages/s of that load were scored; the rest was caught up with in {:.1} s.\n\
         From publishing to the committed score at {} msg/s: p50 {:.0} ms, p90 {:.0} ms, p99 {:.0} ms, max {:.0} ms.\n\
         {} signals of {} things at 1 Hz for {} s: {}, at most {:.1} s behind, {:.2} cores, {:.0} MiB resident; \
         warm-up {:.0} readings/s.\n",
        b.messages_per_second,
        b.catch_up_seconds,
        d.messages_per_second,
        ms.p50,
        ms.p90,
        ms.p99,
        ms.max,
        c.signals,
        c.things,
        c.seconds,
        if c.keeps_up { "kept up" } else { "DID NOT KEEP UP" },
        c.behind_seconds_max,
        c.cpu_cores,
        c.resident_bytes as f64 / MIB,
        c.warm_up_readings_per_second,
    )
}
