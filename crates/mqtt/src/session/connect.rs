//! CONNECT and CONNACK (MQTT 5 §3.1, §3.2): what is refused by rule, what the door decides, what is announced.

use super::{CLIENT_ID_BYTES_MAX, Closing, KEEP_ALIVE_SECONDS_MAX, Session, State, Todo, closing};
use crate::{
    DecodeError, Packet, PacketId, ReasonCode, Version,
    packet::{ConnAck, Connect, Will},
    topics,
};
use std::{borrow::Cow, num::NonZeroU16, sync::Arc, time::Duration};

/// Who asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Empty: the door must think one up, and say so in [`Admission::assigned_client_id`].
    pub client_id: String,
    /// What is kept of an earlier session of this client is to be discarded.
    pub clean: bool,
    /// Seconds that the session is to outlive its connection.
    pub session_expiry: u32,
    /// Must be authorised as a publish before the client is accepted.
    pub will: Option<WillRequest>,
    /// The client asks where it may have answers sent.
    pub response_information: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WillRequest {
    pub topic: Arc<str>,
    pub retain: bool,
}

/// What the door knows about a client that it lets in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// An earlier session goes on.
    pub session_present: bool,
    /// Its subscriptions.
    pub filters: Vec<String>,
    /// Its QoS 2 messages that were taken in and not yet released.
    pub received: Vec<PacketId>,
    pub assigned_client_id: Option<String>,
    pub response_information: Option<String>,
}

impl Session {
    pub(super) fn connect(&mut self, connect: Connect, now: Duration) -> Todo {
        self.version = connect.version;
        self.state = State::Deciding;
        self.problem_information = connect.problem_information;
        self.client_packet_bytes_max = connect.packet_bytes_max.unwrap_or(u32::MAX);
        if let Err((code, why)) = self.check(&connect) {
            return Todo::Close(self.refuse(code, why));
        }
        let asked = connect.keep_alive;
        let seconds = if asked == 0 { KEEP_ALIVE_SECONDS_MAX } else { asked.min(KEEP_ALIVE_SECONDS_MAX) };
        self.keep_alive_max_announced = (seconds != asked).then_some(seconds);
        self.keep_alive = Duration::from_millis(u64::from(seconds) * 1500);
        self.last_heard = now;
        // A session of 3.1.1 that is not clean has no end of its own.
        let expiry = match connect.version {
            Version::V311 if connect.clean => 0,
            Version::V311 => u32::MAX,
            Version::V5 => connect.session_expiry.unwrap_or(0),
        };
        self.session_expiry = expiry.min(self.limits.session_expiry_max);
        self.session_expiry_announced = self.session_expiry != expiry;
        self.client_receive_max = connect.receive_max.map_or(u16::MAX, NonZeroU16::get);
        self.client_topic_aliases_max = connect.topic_alias_max.unwrap_or(0);
        self.will = connect.will;
        let will = self.will.as_ref().map(|will| WillRequest { topic: will.topic.clone(), retain: will.retain });
        Todo::Connect(ConnectRequest {
            client_id: connect.client_id,
            clean: connect.clean,
            session_expiry: self.session_expiry,
            will,
            response_information: connect.response_information,
        })
    }

    fn check(&self, connect: &Connect) -> Result<(), (ReasonCode, Cow<'static, str>)> {
        if connect.client_id.is_empty() && connect.version == Version::V311 && !connect.clean {
            let why = "the client identifier is empty and the session is to be kept";
            return Err((ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, why.into()));
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
        if will.payload.len() > self.limits.payload_bytes_max {
            return Err((ReasonCode::PACKET_TOO_LARGE, "the will's payload is over the limit".into()));
        }
        Ok(())
    }

    /// Lets the client in. Answers [`Todo::Connect`].
    pub fn accept(&mut self, admission: Admission) {
        if self.state != State::Deciding {
            return;
        }
        self.state = State::Open;
        self.filters = admission.filters;
        self.inflow.resume(admission.received);
        let limits = &self.limits;
        let ack = match self.version {
            Version::V311 => ConnAck { session_present: admission.session_present, ..ConnAck::default() },
            Version::V5 => ConnAck {
                session_present: admission.session_present,
                session_expiry: self.session_expiry_announced.then_some(self.session_expiry),
                receive_max: NonZeroU16::new(limits.inflight_max),
                packet_bytes_max: Some(limits.packet_bytes_max),
                topic_alias_max: Some(limits.topic_aliases_max),
                server_keep_alive: self.keep_alive_max_announced,
                assigned_client_id: admission.assigned_client_id,
                response_information: admission.response_information,
                ..ConnAck::default()
            },
        };
        self.send(Packet::ConnAck(Box::new(ack)));
    }

    /// Refuses the client. Answers [`Todo::Connect`]; the device is told only the code.
    pub fn refuse(&mut self, code: ReasonCode, why: impl Into<Cow<'static, str>>) -> Closing {
        if self.state == State::Deciding {
            let reason_string = self.reason(code);
            self.send(Packet::ConnAck(Box::new(ConnAck { code, reason_string, ..ConnAck::default() })));
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
