//! What is done now and then while the doors serve.

use super::Node;
use crate::reload::Reload;
use kilter_backend_embedded::EmbeddedStream;
use kilter_core::ports::{clock::Clock, objects::Uploads};
use kilter_door_aws::{
    s3::lifecycle::{self, Lifecycle},
    sns::SnsService,
};
use kilter_pipeline::rotation::Rotations;
use metrics_exporter_prometheus::PrometheusHandle;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;

/// How often retention looks for segments to delete.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
const METRICS_INTERVAL: Duration = Duration::from_secs(5);

impl Node {
    /// To be aborted once the doors have closed.
    pub(super) fn start_recurring(
        &self,
        reload: Reload,
        metrics: PrometheusHandle,
        sns: SnsService,
    ) -> [JoinHandle<()>; 6] {
        let rotations = Rotations::new(self.control.registry.clone(), self.ingest.clone(), self.clock.clone());
        [
            tokio::spawn(enforce_retention(self.stream.clone())),
            tokio::spawn(keep_metrics(metrics)),
            tokio::spawn(follow_lifecycle_rules(self.objects.clone(), self.clock.clone())),
            tokio::spawn(reload.on_hangup()),
            tokio::spawn(sns.0.run()),
            tokio::spawn(rotations.run()),
        ]
    }
}

async fn enforce_retention(stream: Arc<EmbeddedStream>) {
    loop {
        tokio::time::sleep(RETENTION_INTERVAL).await;
        let stream = stream.clone();
        if let Err(panic) = tokio::task::spawn_blocking(move || stream.enforce_retention()).await {
            tracing::error!(%panic, "retention failed");
        }
    }
}

/// Does what buckets' lifecycle rules say, once after a start and then every hour.
async fn follow_lifecycle_rules(objects: Arc<dyn Uploads>, clock: Arc<dyn Clock>) {
    let rules = Arc::new(Lifecycle { objects, clock });
    loop {
        let run = rules.clone();
        match tokio::task::spawn_blocking(move || run.run()).await {
            Ok(Ok(done)) if done == lifecycle::Done::default() => {}
            Ok(Ok(done)) => tracing::info!(
                done.expired,
                done.noncurrent,
                done.markers,
                done.aborted,
                "lifecycle rules removed objects"
            ),
            Ok(Err(error)) => tracing::warn!(%error, "lifecycle rules could not be followed; they are tried again"),
            Err(panic) => tracing::error!(%panic, "following lifecycle rules failed"),
        }
        tokio::time::sleep(lifecycle::INTERVAL).await;
    }
}

/// Histograms gather samples until they are summed up.
async fn keep_metrics(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(METRICS_INTERVAL).await;
        metrics.run_upkeep();
    }
}
