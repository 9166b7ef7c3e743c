//! CONNECT and CONNACK (MQTT 5 §3.1, §3.2): what is refused by rule, what the door decides, what is announced.

use super::{Closing, INBOUND_INFLIGHT_MAX, Session, State, Todo, closing};
use crate::{
    DecodeError, Packet, QoS, ReasonCode, Version,
    packet::{ConnAck, Connect, Will},
    topics,
};
use std::{borrow::Cow, num::NonZeroU16, sync::Arc, time::Duration};

/// AWS IoT's limit, in bytes.
pub const CLIENT_ID_BYTES_MAX: usize = 128;

/// AWS IoT's longest keep-alive, in seconds; also what a client gets that asks for none, because a peer that
/// vanished without a word must not hold its connection for ever.
pub const KEEP_ALIVE_SECONDS_MAX: u16 = 1200;

/// Who asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    pub client_id: String,
    /// Must be authorised as a publish before the client is accepted.
    pub will_topic: Option<Arc<str>>,
}

impl Session {
    pub(super) fn connect(&mut self, connect: Connect, now: Duration) -> Todo {
        self.version = connect.version;
        self.state = State::Deciding;
        if let Err((code, why)) = self.check(&connect) {
            return Todo::Close(self.refuse(code, why));
        }
        let asked = connect.keep_alive;
        let seconds = if asked == 0 { KEEP_ALIVE_SECONDS_MAX } else { asked.min(KEEP_ALIVE_SECONDS_MAX) };
        self.keep_alive_max_announced = (seconds != asked).then_some(seconds);
        self.keep_alive = Duration::from_millis(u64::from(seconds) * 1500);
        self.last_heard = now;
        self.session_expiry = connect.session_expiry.unwrap_or(0);
        self.client_packet_bytes_max = connect.packet_bytes_max.unwrap_or(u32::MAX);
        if let Some(receive_max) = connect.receive_max {
            self.window.limit(receive_max);
        }
        self.will = connect.will;
        let will_topic = self.will.as_ref().map(|will| will.topic.clone());
        Todo::Connect(ConnectRequest { client_id: connect.client_id, will_topic })
    }

    fn check(&self, connect: &Connect) -> Result<(), (ReasonCode, Cow<'static, str>)> {
        // An identifier assigned by the server could not be what a policy allows.
        if connect.client_id.is_empty() {
            return Err((ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, "the client identifier is empty".into()));
        }
        if connect.client_id.len() > CLIENT_ID_BYTES_MAX {
            let why = format!("the client identifier has more than {CLIENT_ID_BYTES_MAX} bytes");
            return Err((ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, why.into()));
        }
        if connect.auth_method.is_some() {
            let why = "CONNECT asks for enhanced authentication; the certificate is the identity here";
            return Err((ReasonCode::BAD_AUTHENTICATION_METHOD, why.into()));
        }
        connect.will.as_ref().map_or(Ok(()), |will| self.check_will(will))
    }

    fn check_will(&self, will: &Will) -> Result<(), (ReasonCode, Cow<'static, str>)> {
        if let Err(why) = topics::check_name(&will.topic) {
            let code = match why {
                topics::InvalidTopic::Reserved => ReasonCode::NOT_AUTHORIZED,
                _ => ReasonCode::TOPIC_NAME_INVALID,
            };
            return Err((code, format!("the will's topic {:?} is refused: {why}", will.topic).into()));
        }
        if will.qos == QoS::ExactlyOnce {
            return Err((ReasonCode::QOS_NOT_SUPPORTED, "the will has QoS 2; use 0 or 1".into()));
        }
        if will.retain && self.version == Version::V5 {
            let why = "the will asks to be retained; retained messages are not available";
            return Err((ReasonCode::RETAIN_NOT_SUPPORTED, why.into()));
        }
        if will.payload.len() > self.limits.payload_bytes_max {
            return Err((ReasonCode::PACKET_TOO_LARGE, "the will's payload is over the limit".into()));
        }
        Ok(())
    }

    /// Lets the client in. Answers [`Todo::Connect`].
    pub fn accept(&mut self) {
        if self.state != State::Deciding {
            return;
        }
        self.state = State::Open;
        let ack = match self.version {
            Version::V311 => ConnAck::default(),
            Version::V5 => ConnAck {
                session_expiry: (self.session_expiry > 0).then_some(0),
                receive_max: NonZeroU16::new(INBOUND_INFLIGHT_MAX),
                qos_max: Some(1),
                retain_available: Some(false),
                packet_bytes_max: Some(self.limits.packet_bytes_max),
                topic_alias_max: Some(0),
                subscription_ids_available: Some(false),
                shared_available: Some(false),
                server_keep_alive: self.keep_alive_max_announced,
                ..ConnAck::default()
            },
        };
        self.send(&Packet::ConnAck(Box::new(ack)));
    }

    /// Refuses the client. Answers [`Todo::Connect`]; tell the device only the code.
    pub fn refuse(&mut self, code: ReasonCode, why: impl Into<Cow<'static, str>>) -> Closing {
        if self.state == State::Deciding {
            self.send(&Packet::ConnAck(Box::new(ConnAck { code, ..ConnAck::default() })));
        }
        self.state = State::Closed;
        self.will = None;
        closing(code, why)
    }

    /// A first packet that is no CONNECT gets no answer (3.1.1 §3.1.4); one of another version gets the code
    /// that says so, in the form of 3.1.1, which every client reads.
    pub(super) fn undecodable_connect(&mut self, error: &DecodeError) -> Closing {
        if let DecodeError::UnsupportedVersion(level) = error {
            self.state = State::Deciding;
            self.version = if *level > 5 { Version::V5 } else { Version::V311 };
            return self.refuse(error.reason(), error.to_string());
        }
        self.state = State::Closed;
        closing(error.reason(), error.to_string())
    }
}
