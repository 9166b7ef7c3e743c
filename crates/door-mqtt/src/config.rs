//! What an operator may set, and what it is when nobody does.

use std::{net::SocketAddr, time::Duration};

/// AWS IoT's limit for a payload.
pub const PAYLOAD_BYTES_MAX: usize = 128 * 1024;

/// Open connections: at some 25 KB each, this many idle ones fit into 300 MB.
pub const CONNECTIONS_MAX: usize = 10_000;

/// Connections that have not got as far as CONNACK. A fleet that comes back at once must fit, and a flood of
/// handshakes must not take all of [`CONNECTIONS_MAX`].
pub const HALF_OPEN_MAX: usize = 1_000;

/// From accept to the end of the TLS handshake: slow radio links need seconds, never more.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// From the end of the handshake to CONNECT: clients send it at once.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// What a stop waits for acknowledgements that are still owed: far longer than an fsync takes.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Topic, properties and headers around a payload: AWS IoT allows 8 KiB of user properties.
pub const PACKET_OVERHEAD_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Clone)]
pub struct MqttConfig {
    pub listen: SocketAddr,
    pub payload_bytes_max: usize,
    pub connections_max: usize,
    pub half_open_max: usize,
    pub handshake_time_max: Duration,
    pub connect_time_max: Duration,
    pub drain_time_max: Duration,
}

impl MqttConfig {
    /// Everything but the address as the constants of this file say.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            connections_max: CONNECTIONS_MAX,
            half_open_max: HALF_OPEN_MAX,
            handshake_time_max: HANDSHAKE_TIME_MAX,
            connect_time_max: CONNECT_TIME_MAX,
            drain_time_max: DRAIN_TIME_MAX,
        }
    }

    pub(crate) fn packet_bytes_max(&self) -> usize {
        self.payload_bytes_max + PACKET_OVERHEAD_BYTES_MAX
    }
}
