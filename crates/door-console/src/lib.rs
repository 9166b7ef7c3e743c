#![doc = include_str!("../README.md")]

mod api;
mod error;
mod extract;
mod files;
mod guard;
mod live;
mod ops;
mod routes;
mod server;
#[cfg(test)]
mod tests;
mod views;

pub use error::ErrorBody;
pub use server::{BindError, bind, run};
pub use views::{CertificateRequest, EventCounts, LedgerEntry, LedgerTotals, Overview, StatusRequest};
pub use views::{RotationRequest, TenantOverview, ThingRequest};

use axum::{Router, extract::DefaultBodyLimit, middleware};
use kilter_core::ports::{
    clock::Clock,
    control::Control,
    deliver::RefusalView,
    fleet::Fleet,
    query::{Inventory, Results},
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Bytes of a request's body. The largest useful one names a few thousand things of a new tenant.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Rows that one answer may hold: about 10 MB of readings, a second of work.
pub const ROWS_MAX: usize = 10_000;
/// Rows where the request names no limit: ten minutes of a thing that sends once a second.
pub const ROWS_DEFAULT: usize = 600;
/// Readers of `/api/v1/live` at a time. Each open console holds one.
pub const LIVE_READERS_MAX: usize = 32;
/// Port calls at a time. They read the disk and fill memory with rows; more would only queue below.
pub const PORT_CALLS_MAX: usize = 8;

/// What the door shows and changes; the composition root fills it.
pub struct ConsoleState {
    pub control: Arc<dyn Control>,
    pub fleet: Arc<dyn Fleet>,
    pub inventory: Arc<dyn Inventory>,
    pub results: Arc<dyn Results>,
    /// Says what "the last week" is.
    pub clock: Arc<dyn Clock>,
    /// Bearer token that changes need. While it is empty every change is refused.
    pub token: String,
    /// The installation's own CA as it is now, served as `/AmazonRootCA1.pem`. Must answer at once.
    pub ca_pem: Arc<dyn Fn() -> String + Send + Sync>,
    pub metrics: PrometheusHandle,
    /// The parts of the installation and whether they serve. Must answer at once: it runs on an async thread.
    pub ready: Arc<dyn Fn() -> Vec<ReadyItem> + Send + Sync>,
    /// The latest refusals of devices, newest first; empty where no device can connect. Must answer at once.
    pub refusals: Arc<dyn Fn() -> Vec<RefusalView> + Send + Sync>,
    pub version: &'static str,
}

/// One part of the installation, as `/readyz` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyItem {
    pub name: String,
    pub ready: bool,
    /// What it waits for, or where it serves.
    pub detail: String,
}

/// What every handler shares.
struct Door {
    state: ConsoleState,
    port_calls: Arc<Semaphore>,
    live_readers: Arc<Semaphore>,
}

type App = Arc<Door>;

/// The door without its socket. Every request needs a `Host` of loopback (`localhost`, `127.0.0.0/8`,
/// `[::1]`), every change the bearer token, in process too.
pub fn router(state: ConsoleState) -> Router {
    let app: App = Arc::new(Door {
        state,
        port_calls: Arc::new(Semaphore::new(PORT_CALLS_MAX)),
        live_readers: Arc::new(Semaphore::new(LIVE_READERS_MAX)),
    });
    let mut router = Router::new();
    for route in routes::all() {
        router = router.route(route.path, route.handler);
    }
    router
        .fallback(files::serve)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(app.clone(), guard::check))
        .layer(middleware::from_fn(guard::measure))
        .with_state(app)
}
