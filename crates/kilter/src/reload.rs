//! New certificates for a server that runs.

use crate::identity::read_tls;
use kilter_door_mqtt::TlsReload;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// SIGHUP: the devices' door takes the certificates that the data directory has now. Sessions stay as they are.
pub async fn on_hangup(tls: TlsReload, data_dir: PathBuf) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return tracing::warn!("SIGHUP cannot be listened to: a new server certificate needs a restart");
    };
    while hangup.recv().await.is_some() {
        let done = read_tls(&data_dir).and_then(|identity| Ok(tls.reload(&identity)?));
        match done {
            Ok(()) => tracing::info!("SIGHUP: the server's certificate and CA were read anew"),
            Err(error) => tracing::error!(%error, "SIGHUP: the certificates cannot be used; the old ones stay"),
        }
    }
}
