//! New certificates for a server that runs.

use crate::identity::read_anew;
use kilter_door_aws::{AwsTls, ServerTls};
use kilter_door_mqtt::TlsReload;
use kilter_pipeline::authority::Authority;
use std::{path::PathBuf, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};

/// Whatever shows or trusts certificates.
pub struct Reload {
    pub data_dir: PathBuf,
    pub mqtt: TlsReload,
    pub aws: Option<AwsTls>,
    pub authority: Arc<Authority>,
}

impl Reload {
    /// SIGHUP: the certificates that the data directory has now are taken. Sessions stay as they are.
    pub async fn on_hangup(self) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            return tracing::warn!("SIGHUP cannot be listened to: a new server certificate needs a restart");
        };
        while hangup.recv().await.is_some() {
            match self.reload() {
                Ok(()) => tracing::info!("SIGHUP: the server's certificate and CA were read anew"),
                Err(error) => {
                    let why = format!("{error:#}");
                    tracing::error!(why, "SIGHUP: the certificates cannot be used; the old ones stay");
                }
            }
        }
    }

    /// All or nothing: both listeners show the same certificate, so what the first takes the second does.
    fn reload(&self) -> anyhow::Result<()> {
        let (authority, tls) = read_anew(&self.data_dir)?;
        self.mqtt.reload(&tls)?;
        if let Some(aws) = &self.aws {
            aws.reload(&ServerTls { certificate_pem: &tls.server_cert_pem, key_pem: &tls.server_key_pem })?;
        }
        self.authority.become_other(authority);
        Ok(())
    }
}
