//! `kilter bench`: how fast and how large the platform is on this machine, measured from outside, on the real thing.

mod detect;
mod device;
mod handshake;
mod ingest;
mod load;
mod mqtt;
mod pace;
mod peer;
mod process;
mod report;
mod scoring;
mod scratch;
mod server;

use crate::config::Shared;

/// Measure: throughput, latency, memory of this machine; what the detectors find
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Ingest(ingest::Args),
    Mqtt(mqtt::Args),
    Detect(detect::Args),
}

pub async fn run(shared: &Shared, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Ingest(args) => ingest::run(shared, args).await,
        Command::Mqtt(args) => mqtt::run(shared, args).await,
        Command::Detect(args) => detect::run(shared, args).await,
    }
}
