//! What an operator may set, and what it is when nobody does.

use kilter_mqtt::session::{INBOUND_INFLIGHT_MAX, Limits, SESSION_EXPIRY_SECONDS_MAX, SUBSCRIPTIONS_MAX};
use std::{net::SocketAddr, time::Duration};

/// AWS IoT's limit for a payload.
pub const PAYLOAD_BYTES_MAX: usize = 128 * 1024;

/// Open connections: at some 15 KB each, and 6 KB for its thing, this many idle ones fit into 300 MB.
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

/// Sessions, connected or kept: twice the connections, for fleets of which half is away.
pub const SESSIONS_MAX: usize = 2 * CONNECTIONS_MAX;

/// QoS 1 and 2 messages that wait for one client (mosquitto's number), in flight or not.
pub const QUEUE_MESSAGES_MAX: usize = 1_000;

/// Of their payloads and topics: half of [`QUEUE_MESSAGES_MAX`] at 16 KiB, or 64 of the largest payload.
pub const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Messages that wait for all clients together, of every QoS: 50 for each of [`SESSIONS_MAX`].
pub const ALL_QUEUES_MESSAGES_MAX: usize = 1_000_000;

/// Of their payloads and topics: what a small server can spare. A message for many clients counts for each.
pub const ALL_QUEUES_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Retained messages: a subscription to everything looks at each of them.
pub const RETAINED_MAX: usize = 50_000;

/// Of their payloads and topics; they are kept in memory as well as on disk.
pub const RETAINED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Messages a second of one connection: far above any device, below what would keep a core busy alone.
pub const CONNECTION_RATE_MAX: u32 = 50_000;

/// Messages a second of one tenant's connections together (AWS IoT's for an account): a fifth of what two cores have
/// taken in, so that one tenant alone cannot use them up.
pub const TENANT_RATE_MAX: u32 = 20_000;

/// Bytes of payload of one tenant that wait for the disk: a quarter of what the streams let wait altogether, so that one
/// tenant's flood does not have another's messages refused.
pub const TENANT_WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug, Clone)]
pub struct MqttConfig {
    pub listen: SocketAddr,
    /// Where MQTT over WebSocket and, by ALPN, plain MQTT is spoken as on AWS IoT's port 443.
    pub listen_ws: Option<SocketAddr>,
    pub payload_bytes_max: usize,
    pub connections_max: usize,
    pub half_open_max: usize,
    pub handshake_time_max: Duration,
    pub connect_time_max: Duration,
    pub drain_time_max: Duration,
    pub sessions_max: usize,
    /// Seconds; `u32::MAX` is for ever.
    pub session_expiry_seconds_max: u32,
    pub topic_levels_max: usize,
    pub subscriptions_max: usize,
    /// QoS 1 and 2 messages of a client that are not acknowledged.
    pub inflight_max: u16,
    pub queue_messages_max: usize,
    pub queue_bytes_max: usize,
    pub all_queues_messages_max: usize,
    pub all_queues_bytes_max: usize,
    pub retained_max: usize,
    pub retained_bytes_max: usize,
    pub connection_rate_max: u32,
    pub tenant_rate_max: u32,
    pub tenant_waiting_bytes_max: usize,
}

impl MqttConfig {
    /// Everything but the address as the constants of this file say.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            listen_ws: None,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            connections_max: CONNECTIONS_MAX,
            half_open_max: HALF_OPEN_MAX,
            handshake_time_max: HANDSHAKE_TIME_MAX,
            connect_time_max: CONNECT_TIME_MAX,
            drain_time_max: DRAIN_TIME_MAX,
            sessions_max: SESSIONS_MAX,
            session_expiry_seconds_max: SESSION_EXPIRY_SECONDS_MAX,
            topic_levels_max: Limits::DEFAULT.topic_slashes_max + 1,
            subscriptions_max: SUBSCRIPTIONS_MAX,
            inflight_max: INBOUND_INFLIGHT_MAX,
            queue_messages_max: QUEUE_MESSAGES_MAX,
            queue_bytes_max: QUEUE_BYTES_MAX,
            all_queues_messages_max: ALL_QUEUES_MESSAGES_MAX,
            all_queues_bytes_max: ALL_QUEUES_BYTES_MAX,
            retained_max: RETAINED_MAX,
            retained_bytes_max: RETAINED_BYTES_MAX,
            connection_rate_max: CONNECTION_RATE_MAX,
            tenant_rate_max: TENANT_RATE_MAX,
            tenant_waiting_bytes_max: TENANT_WAITING_BYTES_MAX,
        }
    }

    pub(crate) fn packet_bytes_max(&self) -> usize {
        self.payload_bytes_max + PACKET_OVERHEAD_BYTES_MAX
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            payload_bytes_max: self.payload_bytes_max,
            packet_bytes_max: u32::try_from(self.packet_bytes_max()).unwrap_or(u32::MAX),
            connect_time_max: self.connect_time_max,
            topic_slashes_max: self.topic_levels_max.saturating_sub(1),
            subscriptions_max: self.subscriptions_max,
            inflight_max: self.inflight_max,
            session_expiry_max: self.session_expiry_seconds_max,
            ..Limits::DEFAULT
        }
    }
}
