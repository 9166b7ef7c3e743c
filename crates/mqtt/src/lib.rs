#![doc = include_str!("../README.md")]

pub mod client;
pub mod codec;
pub mod outflow;
pub mod packet;
pub mod rate;
pub mod reason;
pub mod session;
pub mod subscriptions;

pub use codec::{DecodeError, Decoder, encode};
pub use kilter_core::topics;
pub use packet::{Packet, PacketId, QoS, Version};
pub use reason::ReasonCode;
