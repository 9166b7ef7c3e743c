//! Bounds of one connection, with what they are when nobody sets them.

use crate::topics::TOPIC_SLASHES_MAX;
use std::time::Duration;

/// AWS IoT's limit, in bytes.
pub const CLIENT_ID_BYTES_MAX: usize = 128;

/// AWS IoT's longest keep-alive, in seconds; also what a client gets that asks for none, because a peer that
/// vanished without a word must not hold its connection for ever.
pub const KEEP_ALIVE_SECONDS_MAX: u16 = 1200;

/// QoS 1 and 2 messages of a client that are not acknowledged; announced as Receive Maximum. Ten times AWS IoT's
/// 100: a publisher at full speed must cover a group commit with what it has in flight.
pub const INBOUND_INFLIGHT_MAX: u16 = 1000;

/// Subscriptions of one session (AWS IoT's limit): bounds what a client can pin in the trie.
pub const SUBSCRIPTIONS_MAX: usize = 50;

/// Topic aliases of one connection (AWS IoT's limit), each way.
pub const TOPIC_ALIASES_MAX: u16 = 8;

/// AWS IoT's longest persistent session: seven days, in seconds.
pub const SESSION_EXPIRY_SECONDS_MAX: u32 = 7 * 86_400;

/// Bounds that the door sets.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub payload_bytes_max: usize,
    /// Of a whole packet; announced in CONNACK.
    pub packet_bytes_max: u32,
    /// From the end of the TLS handshake to CONNECT.
    pub connect_time_max: Duration,
    /// At most [`TOPIC_SLASHES_MAX`].
    pub topic_slashes_max: usize,
    pub subscriptions_max: usize,
    /// At least 1.
    pub inflight_max: u16,
    pub topic_aliases_max: u16,
    /// Seconds; `u32::MAX` is for ever.
    pub session_expiry_max: u32,
}

impl Limits {
    /// AWS IoT's payload (128 KiB) with 16 KiB for topic, properties and headers; all else as the constants say.
    pub const DEFAULT: Self = Self {
        payload_bytes_max: 128 * 1024,
        packet_bytes_max: (128 + 16) * 1024,
        connect_time_max: Duration::from_secs(10),
        topic_slashes_max: TOPIC_SLASHES_MAX,
        subscriptions_max: SUBSCRIPTIONS_MAX,
        inflight_max: INBOUND_INFLIGHT_MAX,
        topic_aliases_max: TOPIC_ALIASES_MAX,
        session_expiry_max: SESSION_EXPIRY_SECONDS_MAX,
    };
}
