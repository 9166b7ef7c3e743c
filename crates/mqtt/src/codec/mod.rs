//! Bytes to packets and back, for both versions; strict, bounded, without copying payloads.

mod decode;
mod encode;
mod property;
mod wire;

pub use decode::Decoder;
pub use encode::{encode, publish_len};
pub use wire::{TEXT_BYTES_MAX, VARIABLE_MAX};

use crate::ReasonCode;

/// Topic filters in one SUBSCRIBE or UNSUBSCRIBE. AWS IoT takes 8; 64 leaves room for tools, and bounds
/// what a packet of one-byte filters can blow up to in memory.
pub const FILTERS_PER_PACKET_MAX: usize = 64;

/// User properties of one packet: each costs five bytes on the wire and fifty in memory.
pub const USER_PROPERTIES_MAX: usize = 64;

/// Why bytes are not a packet. The connection cannot go on after any of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    #[error("a packet of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("{what}: one packet may have {count_max}")]
    TooMany { what: &'static str, count_max: usize },
    #[error("protocol version {0} is not supported: use MQTT 3.1.1 (4) or 5")]
    UnsupportedVersion(u8),
}

impl DecodeError {
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::Malformed(_) => ReasonCode::MALFORMED_PACKET,
            Self::Protocol(_) => ReasonCode::PROTOCOL_ERROR,
            Self::TooLarge { .. } => ReasonCode::PACKET_TOO_LARGE,
            Self::TooMany { .. } => ReasonCode::QUOTA_EXCEEDED,
            Self::UnsupportedVersion(_) => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
        }
    }
}
