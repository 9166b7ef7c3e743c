//! `kilter serve`: runs the platform until it is told to stop.

use crate::{
    app::{Node, ServerFile},
    config::{Config, ServeOptions, Shared},
    output,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Bounds of latency histograms, in seconds: from a fast sync to a stalled disk.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// Run the platform: broker, rules, stream, scoring, results, lake, alerts, console
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kilter serve --data-dir /var/lib/kilter --mqtt 0.0.0.0:8883")]
pub struct Args {
    #[command(flatten)]
    pub options: ServeOptions,
}

pub async fn run(shared: &Shared, args: Args) -> anyhow::Result<()> {
    let config = Config::load(shared, &args.options)?;
    let metrics = install_metrics()?;
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    let (to_open, data_dir) = (config.clone(), shared.data_dir.display().to_string());
    let node = tokio::task::spawn_blocking(move || Node::open(&to_open)).await??;
    node.serve(config, metrics, shutdown, |file| announce(file, &data_dir)).await?;
    tracing::info!("stopped");
    Ok(())
}

fn announce(file: &ServerFile, data_dir: &str) {
    tracing::info!(mqtt = %file.mqtt, http = %file.url, aws = %file.aws, %data_dir, "ready");
    // Standard output is for people and alerts; a closed one is no reason to stop.
    let _ = output::line(&format!(
        "Kilter serves. Console: {}  MQTT (mutual TLS): {}  AWS endpoint: {}  Data: {data_dir}",
        file.url, file.mqtt, file.aws
    ));
}

pub fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?;
    Ok(builder.install_recorder()?)
}

/// SIGTERM and SIGINT drain; a second one ends the process at once.
pub fn stop_on_signal(shutdown: CancellationToken) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            if !first {
                std::process::exit(1);
            }
            tracing::info!("stopping: finishing what was accepted");
            shutdown.cancel();
        }
    });
    Ok(())
}
