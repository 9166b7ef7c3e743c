//! The server's end of one connection: packets in, *what to do* out, bytes to send in the outbox.
//!
//! Time is a parameter: a span since any fixed moment that never runs backwards. What outlives the connection (the
//! messages on their way to the client, the identifiers of its QoS 2 messages) is handed in and out: see
//! [`crate::outflow`] and [`Admission`].

mod acks;
mod connect;
mod inbound;
mod limits;
mod outbound;

pub use acks::Receipt;
pub use connect::{Admission, ConnectRequest, WillRequest};
pub use limits::{
    CLIENT_ID_BYTES_MAX, INBOUND_INFLIGHT_MAX, KEEP_ALIVE_SECONDS_MAX, Limits, SESSION_EXPIRY_SECONDS_MAX,
    SUBSCRIPTIONS_MAX, TOPIC_ALIASES_MAX,
};
pub use outbound::{Delivered, SubscribeRequest};

use crate::{
    DecodeError, Packet, PacketId, QoS, ReasonCode, Version, encode,
    packet::{Ack, Disconnect, MessageProperties, Will},
    topics::InvalidTopic,
};
use acks::OwedAcks;
use bytes::{Bytes, BytesMut};
use inbound::Inflow;
use outbound::AliasesOut;
use std::{borrow::Cow, sync::Arc, time::Duration};

/// What the door must do with the packet just received.
#[derive(Debug)]
pub enum Todo {
    /// The session has done all there is.
    Nothing,
    /// Decide, then call [`Session::accept`] or [`Session::refuse`].
    Connect(ConnectRequest),
    /// Authorise, take in, fan out; [`Session::settle`] its receipt once it is durable.
    Publish(Inbound),
    /// A message was refused by the protocol's own rules and the connection goes on; log it.
    Refused { topic: Arc<str>, why: InvalidTopic },
    /// The client has released a QoS 2 message: forget its identifier, durably, then call [`Session::completed`].
    Complete(PacketId),
    /// The client has acknowledged a message: tell the [`crate::outflow::Outflow`].
    Acknowledged(Acknowledged),
    /// Decide per filter, then call [`Session::subscribed`].
    Subscribe(SubscribeRequest),
    /// Forget these filters, durably, then call [`Session::unsubscribed`] with the codes.
    Unsubscribe { packet_id: PacketId, filters: Vec<String>, codes: Vec<ReasonCode> },
    /// Send what is in the outbox, then close the connection.
    Close(Closing),
}

/// A message from the client.
#[derive(Debug, Clone)]
pub struct Inbound {
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub qos: QoS,
    pub retain: bool,
    pub properties: Option<Arc<MessageProperties>>,
    /// There for QoS 2: names the message until the client has released it.
    pub packet_id: Option<PacketId>,
    /// There when an acknowledgement is owed.
    pub receipt: Option<Receipt>,
}

/// What the client says about a message that was sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// QoS 1: it is done.
    Ack(PacketId),
    /// QoS 2: it has the message, or (an error code) does not want it.
    Received(PacketId, ReasonCode),
    /// QoS 2: it is done.
    Complete(PacketId),
}

/// Why a connection ends. [`Session::take_will`] says what is to be published then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    pub code: ReasonCode,
    pub why: Cow<'static, str>,
    /// The client said goodbye: nothing was wrong.
    pub by_client: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has come yet.
    New,
    /// CONNECT has come, the door decides.
    Deciding,
    Open,
    Closed,
}

#[derive(Debug)]
pub struct Session {
    limits: Limits,
    state: State,
    version: Version,
    will: Option<Will>,
    /// How long the client may be silent: 1.5 times what it asked for.
    keep_alive: Duration,
    keep_alive_max_announced: Option<u16>,
    last_heard: Duration,
    session_expiry: u32,
    session_expiry_announced: bool,
    client_packet_bytes_max: u32,
    client_receive_max: u16,
    client_topic_aliases_max: u16,
    problem_information: bool,
    inflow: Inflow,
    aliases_out: AliasesOut,
    filters: Vec<String>,
    outbox: BytesMut,
}

impl Session {
    pub fn new(limits: Limits, now: Duration) -> Self {
        Self {
            limits,
            state: State::New,
            version: Version::V311,
            will: None,
            keep_alive: Duration::ZERO,
            keep_alive_max_announced: None,
            last_heard: now,
            session_expiry: 0,
            session_expiry_announced: false,
            client_packet_bytes_max: u32::MAX,
            client_receive_max: u16::MAX,
            client_topic_aliases_max: 0,
            problem_information: true,
            inflow: Inflow::default(),
            aliases_out: AliasesOut::default(),
            filters: Vec::new(),
            outbox: BytesMut::new(),
        }
    }

    /// Encoded packets to send, in order. Whoever writes them to the socket takes them out.
    pub fn outbox(&mut self) -> &mut BytesMut {
        &mut self.outbox
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Seconds that the session outlives its connection; `u32::MAX` is for ever. 0: it ends with it.
    pub fn session_expiry(&self) -> u32 {
        self.session_expiry
    }

    /// QoS 1 and 2 messages that the client takes at a time.
    pub fn receive_max(&self) -> u16 {
        self.client_receive_max
    }

    /// The next moment at which [`Session::tick`] has something to say.
    pub fn deadline(&self) -> Duration {
        let span = match self.state {
            State::New | State::Deciding | State::Closed => self.limits.connect_time_max,
            State::Open => self.keep_alive,
        };
        self.last_heard.saturating_add(span)
    }

    pub fn tick(&mut self, now: Duration) -> Option<Closing> {
        if self.state == State::Closed || now < self.deadline() {
            return None;
        }
        if self.state == State::Open {
            return Some(self.close(ReasonCode::KEEP_ALIVE_TIMEOUT, "nothing was heard for 1.5 times the keep-alive"));
        }
        self.state = State::Closed;
        Some(closing(ReasonCode::MAXIMUM_CONNECT_TIME, "CONNECT did not come in time"))
    }

    pub fn receive(&mut self, packet: Packet, now: Duration) -> Todo {
        match self.state {
            State::Closed => return Todo::Nothing,
            State::New => {
                return match packet {
                    Packet::Connect(connect) => self.connect(*connect, now),
                    other => self.violation(format!("{} came before CONNECT", other.name())),
                };
            }
            State::Deciding => return self.violation(format!("{} came before CONNACK", packet.name())),
            State::Open => self.last_heard = now,
        }
        match packet {
            Packet::Publish(message) => self.publish(message),
            Packet::PubAck(ack) => Todo::Acknowledged(Acknowledged::Ack(ack.packet_id)),
            Packet::PubRec(ack) => Todo::Acknowledged(Acknowledged::Received(ack.packet_id, ack.code)),
            Packet::PubComp(ack) => Todo::Acknowledged(Acknowledged::Complete(ack.packet_id)),
            Packet::PubRel(ack) => self.released(ack.packet_id),
            Packet::Subscribe(request) => self.subscribe(request),
            Packet::Unsubscribe(request) => self.unsubscribe(request),
            Packet::PingReq => {
                self.send(Packet::PingResp);
                Todo::Nothing
            }
            Packet::Disconnect(farewell) => self.farewell(&farewell),
            other => self.violation(format!("{} has no place here", other.name())),
        }
    }

    /// What came is not MQTT: says so where the version has a way to.
    pub fn undecodable(&mut self, error: &DecodeError) -> Closing {
        if self.state == State::New {
            return self.undecodable_connect(error);
        }
        self.end(error.reason(), error.to_string().into(), true)
    }

    /// Ends the connection. In MQTT 5 the client is told the code; 3.1.1 has no words for it. `why` stays here.
    pub fn close(&mut self, code: ReasonCode, why: impl Into<Cow<'static, str>>) -> Closing {
        self.end(code, why.into(), false)
    }

    /// `tell`: `why` is about the client's own packets, and it may know.
    fn end(&mut self, code: ReasonCode, why: Cow<'static, str>, tell: bool) -> Closing {
        if self.state == State::Open && self.version == Version::V5 {
            let reason_string = tell.then(|| why.to_string());
            self.send(Packet::Disconnect(Disconnect { code, session_expiry: None, reason_string }));
        }
        self.state = State::Closed;
        closing(code, why)
    }

    pub fn will(&self) -> Option<&Will> {
        self.will.as_ref()
    }

    /// What is to be published because the connection has ended; asked once, at the end. None after a goodbye.
    pub fn take_will(&mut self) -> Option<Will> {
        self.will.take()
    }

    fn violation(&mut self, why: String) -> Todo {
        Todo::Close(self.end(ReasonCode::PROTOCOL_ERROR, why.into(), true))
    }

    /// A packet over the client's maximum is sent without its reason string, or not at all (MQTT 5 §3.1.2.11.4).
    fn send(&mut self, mut packet: Packet) {
        let before = self.outbox.len();
        encode(&packet, self.version, &mut self.outbox);
        if self.outbox.len() - before <= self.client_packet_bytes_max as usize {
            return;
        }
        self.outbox.truncate(before);
        if take_reason(&mut packet) {
            self.send(packet);
        }
    }

    /// Reason strings of acknowledgements, where the client wants to be told.
    fn reason(&self, code: ReasonCode) -> Option<String> {
        let told = self.version == Version::V5 && self.problem_information && code.is_error();
        told.then(|| code.words().to_owned())
    }

    fn ack(&self, packet_id: PacketId, code: ReasonCode) -> Ack {
        Ack { packet_id, code, reason_string: self.reason(code) }
    }

    fn farewell(&mut self, farewell: &Disconnect) -> Todo {
        match farewell.session_expiry {
            Some(seconds) if self.session_expiry == 0 && seconds > 0 => {
                return self.violation("DISCONNECT raises a session expiry that CONNECT set to 0".into());
            }
            Some(seconds) => self.session_expiry = seconds.min(self.limits.session_expiry_max),
            None => {}
        }
        self.state = State::Closed;
        // MQTT 5 §3.14.4: any other code asks for the will.
        if farewell.code == ReasonCode::SUCCESS {
            self.will = None;
        }
        Todo::Close(Closing { code: farewell.code, why: "the client disconnected".into(), by_client: true })
    }
}

fn take_reason(packet: &mut Packet) -> bool {
    match packet {
        Packet::ConnAck(ack) => ack.reason_string.take().is_some(),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.reason_string.take().is_some()
        }
        Packet::SubAck(answer) | Packet::UnsubAck(answer) => answer.reason_string.take().is_some(),
        Packet::Disconnect(farewell) => farewell.reason_string.take().is_some(),
        _ => false,
    }
}

fn closing(code: ReasonCode, why: impl Into<Cow<'static, str>>) -> Closing {
    Closing { code, why: why.into(), by_client: false }
}
