//! The control packets of MQTT 3.1.1 and 5 as one set of types: what 3.1.1 lacks is `None`, empty or 0,
//! and result codes are always those of MQTT 5 (the codec translates).

use crate::ReasonCode;
use bytes::Bytes;
pub use kilter_core::MessageProperties;
use std::{num::NonZeroU16, sync::Arc};

/// Never 0 (MQTT §2.2.1).
pub type PacketId = NonZeroU16;

/// Protocol level 4 and 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V311,
    V5,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

impl QoS {
    pub const fn level(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }

    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    Connect(Box<Connect>),
    ConnAck(Box<ConnAck>),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe),
    SubAck(Codes),
    Unsubscribe(Unsubscribe),
    UnsubAck(Codes),
    PingReq,
    PingResp,
    Disconnect(Disconnect),
    Auth(ReasonCode),
}

impl Packet {
    /// The packet's name in the specification.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "CONNECT",
            Self::ConnAck(_) => "CONNACK",
            Self::Publish(_) => "PUBLISH",
            Self::PubAck(_) => "PUBACK",
            Self::PubRec(_) => "PUBREC",
            Self::PubRel(_) => "PUBREL",
            Self::PubComp(_) => "PUBCOMP",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::SubAck(_) => "SUBACK",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::UnsubAck(_) => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect(_) => "DISCONNECT",
            Self::Auth(_) => "AUTH",
        }
    }
}

/// §3.1. User properties of CONNECT are checked and dropped: nobody reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    pub version: Version,
    pub client_id: String,
    /// Clean session in 3.1.1, clean start in 5.
    pub clean: bool,
    /// Seconds; 0 asks for none.
    pub keep_alive: u16,
    pub will: Option<Will>,
    pub user_name: Option<String>,
    pub password: Option<Bytes>,
    /// Seconds.
    pub session_expiry: Option<u32>,
    pub receive_max: Option<NonZeroU16>,
    /// Bytes, of a whole packet.
    pub packet_bytes_max: Option<u32>,
    pub topic_alias_max: Option<u16>,
    pub auth_method: Option<String>,
    /// The client asks where it may have answers sent.
    pub response_information: bool,
    /// `false`: the server must keep reason strings and user properties to itself, but for PUBLISH.
    pub problem_information: bool,
}

impl Connect {
    /// Asks for a clean session and for nothing that it need not ask for.
    pub fn new(version: Version, client_id: impl Into<String>, keep_alive: u16) -> Self {
        Self {
            version,
            client_id: client_id.into(),
            clean: true,
            keep_alive,
            will: None,
            user_name: None,
            password: None,
            session_expiry: None,
            receive_max: None,
            packet_bytes_max: None,
            topic_alias_max: None,
            auth_method: None,
            response_information: false,
            problem_information: true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub qos: QoS,
    pub retain: bool,
    /// Seconds.
    pub delay: Option<u32>,
    pub properties: Option<Box<MessageProperties>>,
}

/// §3.2. What of CONNACK the client half acts on, and what the server announces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnAck {
    pub session_present: bool,
    pub code: ReasonCode,
    pub session_expiry: Option<u32>,
    pub receive_max: Option<NonZeroU16>,
    /// 0 or 1; absent means 2.
    pub qos_max: Option<u8>,
    pub retain_available: Option<bool>,
    pub packet_bytes_max: Option<u32>,
    pub assigned_client_id: Option<String>,
    pub topic_alias_max: Option<u16>,
    pub reason_string: Option<String>,
    pub wildcards_available: Option<bool>,
    pub subscription_ids_available: Option<bool>,
    pub shared_available: Option<bool>,
    /// Seconds.
    pub server_keep_alive: Option<u16>,
    pub response_information: Option<String>,
}

impl Default for ReasonCode {
    fn default() -> Self {
        Self::SUCCESS
    }
}

/// §3.3. `packet_id` is there exactly when `qos` is not 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub qos: QoS,
    pub packet_id: Option<PacketId>,
    pub dup: bool,
    pub retain: bool,
    pub topic_alias: Option<NonZeroU16>,
    /// Of the subscriptions that it matched; from server to client only.
    pub subscription_ids: Vec<u32>,
    /// `None` where the message has none.
    pub properties: Option<Box<MessageProperties>>,
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    pub packet_id: PacketId,
    /// `SUCCESS` in 3.1.1, which has no codes here.
    pub code: ReasonCode,
    pub reason_string: Option<String>,
}

impl Ack {
    pub const fn new(packet_id: PacketId, code: ReasonCode) -> Self {
        Self { packet_id, code, reason_string: None }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    pub packet_id: PacketId,
    pub subscription_id: Option<u32>,
    /// At least one.
    pub filters: Vec<Subscription>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub filter: String,
    pub qos: QoS,
    /// Do not send me what I published myself.
    pub no_local: bool,
    pub retain_as_published: bool,
    /// 0 to 2.
    pub retain_handling: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    pub packet_id: PacketId,
    /// At least one.
    pub filters: Vec<String>,
}

/// SUBACK and UNSUBACK: one code per filter, in the request's order (none in an UNSUBACK of 3.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codes {
    pub packet_id: PacketId,
    pub codes: Vec<ReasonCode>,
    pub reason_string: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disconnect {
    pub code: ReasonCode,
    /// Seconds.
    pub session_expiry: Option<u32>,
    pub reason_string: Option<String>,
}
