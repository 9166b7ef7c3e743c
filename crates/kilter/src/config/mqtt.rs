//! `[mqtt_limits]`: the bounds of the devices' door.

use kilter_door_mqtt::MqttConfig;
use serde::Deserialize;
use std::{net::SocketAddr, time::Duration};

/// As it is written; see docs/guide/limits.md.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttLimits {
    payload_bytes_max: usize,
    connections_max: usize,
    half_open_max: usize,
    handshake_seconds_max: u64,
    connect_seconds_max: u64,
    sessions_max: usize,
    session_expiry_seconds_max: u32,
    topic_levels_max: usize,
    subscriptions_max: usize,
    inflight_max: u16,
    queue_messages_max: usize,
    queue_bytes_max: usize,
    all_queues_messages_max: usize,
    all_queues_bytes_max: usize,
    retained_max: usize,
    retained_bytes_max: usize,
    connection_rate_max: u32,
    tenant_rate_max: u32,
    tenant_waiting_bytes_max: usize,
}

/// The largest payload: the stream takes records of a mebibyte.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The trie is walked as deep as a topic has levels.
const TOPIC_LEVELS_MAX: usize = 8;
/// Packet identifiers are given out when a message is queued.
const QUEUE_MESSAGES_MAX: usize = 60_000;

impl MqttLimits {
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: usize, max: usize| match value {
            _ if (1..=max).contains(&value) => Ok(()),
            _ => Err(format!("mqtt_limits.{name} = {value} is not between 1 and {max}")),
        };
        within("payload_bytes_max", self.payload_bytes_max, PAYLOAD_BYTES_MAX)?;
        within("topic_levels_max", self.topic_levels_max, TOPIC_LEVELS_MAX)?;
        within("queue_messages_max", self.queue_messages_max, QUEUE_MESSAGES_MAX)?;
        within("inflight_max", usize::from(self.inflight_max), usize::from(u16::MAX))?;
        within("connections_max", self.connections_max, usize::MAX)?;
        within("half_open_max", self.half_open_max, usize::MAX)?;
        within("sessions_max", self.sessions_max, usize::MAX)?;
        within("queue_bytes_max", self.queue_bytes_max, usize::MAX)?;
        within("all_queues_messages_max", self.all_queues_messages_max, usize::MAX)?;
        within("all_queues_bytes_max", self.all_queues_bytes_max, usize::MAX)?;
        within("tenant_waiting_bytes_max", self.tenant_waiting_bytes_max, usize::MAX)?;
        within("handshake_seconds_max", usize::try_from(self.handshake_seconds_max).unwrap_or(0), 600)?;
        within("connect_seconds_max", usize::try_from(self.connect_seconds_max).unwrap_or(0), 600)
    }

    pub fn door(&self, listen: SocketAddr, listen_ws: Option<SocketAddr>) -> MqttConfig {
        MqttConfig {
            listen_ws,
            payload_bytes_max: self.payload_bytes_max,
            connections_max: self.connections_max,
            half_open_max: self.half_open_max,
            handshake_time_max: Duration::from_secs(self.handshake_seconds_max),
            connect_time_max: Duration::from_secs(self.connect_seconds_max),
            sessions_max: self.sessions_max,
            session_expiry_seconds_max: self.session_expiry_seconds_max,
            topic_levels_max: self.topic_levels_max,
            subscriptions_max: self.subscriptions_max,
            inflight_max: self.inflight_max,
            queue_messages_max: self.queue_messages_max,
            queue_bytes_max: self.queue_bytes_max,
            all_queues_messages_max: self.all_queues_messages_max,
            all_queues_bytes_max: self.all_queues_bytes_max,
            retained_max: self.retained_max,
            retained_bytes_max: self.retained_bytes_max,
            connection_rate_max: self.connection_rate_max,
            tenant_rate_max: self.tenant_rate_max,
            tenant_waiting_bytes_max: self.tenant_waiting_bytes_max,
            ..MqttConfig::new(listen)
        }
    }
}
