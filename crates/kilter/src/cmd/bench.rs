//! `kilter bench`: how fast and how large the platform is on this machine, measured from outside, on the real thing.

mod device;
mod ingest;
mod load;
mod peer;
mod process;
mod report;
mod scoring;
mod server;

use crate::config::Shared;

/// Measure this machine: throughput, latency, memory
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Ingest(ingest::Args),
}

pub async fn run(shared: &Shared, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Ingest(args) => ingest::run(shared, args).await,
    }
}
