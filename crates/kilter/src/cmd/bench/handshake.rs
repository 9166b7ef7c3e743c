//! New connections: how many a second from TCP to CONNACK, and what the arithmetic of their handshakes allows.

use super::{device::Device, process::Process};
use anyhow::Context;
use serde::Serialize;
use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Connections that are being made at a time.
const CONNECTING: usize = 32;

#[derive(Debug, Serialize)]
pub struct Handshakes {
    pub connections: u64,
    pub connections_per_second: f64,
    /// Of the server alone.
    pub cpu_microseconds_per_connection: f64,
}

/// Devices connect and leave, over and over, for `duration`.
pub async fn run(
    server: &Process,
    address: &str,
    devices: &[Device],
    duration: Duration,
) -> anyhow::Result<Handshakes> {
    let devices: Arc<[Device]> = devices.into();
    let cpu_before = server.cpu_seconds()?;
    let began = Instant::now();
    let mut running = JoinSet::new();
    for task in 0..CONNECTING.min(devices.len()) {
        let (devices, address) = (devices.clone(), address.to_owned());
        running.spawn(async move {
            let mut connections = 0;
            // A device of its own each: nobody takes another's session over.
            for device in devices.iter().skip(task).step_by(CONNECTING).cycle() {
                if began.elapsed() >= duration {
                    break;
                }
                device.connect(&address, 1).await?.disconnect().await?;
                connections += 1;
            }
            anyhow::Ok(connections)
        });
    }
    let mut connections = 0;
    while let Some(done) = running.join_next().await {
        connections += done??;
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu_seconds()? - cpu_before);
    Ok(Handshakes {
        connections,
        connections_per_second: connections as f64 / seconds,
        cpu_microseconds_per_connection: cpu * 1e6 / connections.max(1) as f64,
    })
}

/// What `openssl speed` says of one core.
#[derive(Debug, Serialize)]
pub struct Openssl {
    pub version: String,
    pub ecdsa_p256_signs_per_second: f64,
    pub ecdsa_p256_verifies_per_second: f64,
    pub x25519_operations_per_second: f64,
    /// One end's signature, two checks (the peer's signature, its certificate's) and two operations of the key
    /// exchange: TLS 1.3 with P-256 certificates on both sides.
    pub handshake_microseconds: f64,
}

impl Openssl {
    /// `None` where it is not installed.
    pub fn measure() -> anyhow::Result<Option<Self>> {
        let Ok(version) = Command::new("openssl").arg("version").output() else { return Ok(None) };
        let ecdsa = speed("ecdsap256", "ecdsa (nistp256)")?;
        let x25519 = speed("ecdhx25519", "ecdh (X25519)")?;
        let (&[.., signs, verifies], &[.., operations]) = (&ecdsa[..], &x25519[..]) else {
            anyhow::bail!("the output of `openssl speed` is not understood");
        };
        Ok(Some(Self {
            version: String::from_utf8_lossy(&version.stdout).trim().to_owned(),
            ecdsa_p256_signs_per_second: signs,
            ecdsa_p256_verifies_per_second: verifies,
            x25519_operations_per_second: operations,
            handshake_microseconds: 1e6 * (1.0 / signs + 2.0 / verifies + 2.0 / operations),
        }))
    }
}

/// The numbers of the line that holds `name`.
fn speed(algorithm: &str, name: &str) -> anyhow::Result<Vec<f64>> {
    let output = Command::new("openssl").args(["speed", "-seconds", "1", algorithm]).output()?;
    numbers(&String::from_utf8_lossy(&output.stdout), name)
        .with_context(|| format!("`openssl speed {algorithm}` says nothing of {name}"))
}

fn numbers(text: &str, name: &str) -> Option<Vec<f64>> {
    let (_, rest) = text.lines().find_map(|line| line.split_once(name))?;
    Some(rest.split_whitespace().filter_map(|word| word.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_openssl_speed_is_read() {
        let text = "                              sign    verify    sign/s verify/s\n 256 bits ecdsa (nistp256)   0.0000s   0.0001s  53343.3  16903.0\n";
        assert_eq!(numbers(text, "ecdsa (nistp256)").unwrap(), [53343.3, 16903.0]);
        assert_eq!(numbers(text, "ecdh (X25519)"), None);
    }
}
