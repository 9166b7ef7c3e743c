//! The server's end of one connection: packets in, *what to do* out, bytes to send in the outbox.
//!
//! Time is a parameter: a span since any fixed moment that never runs backwards.

mod acks;
mod connect;
mod window;

pub use acks::Receipt;
pub use connect::ConnectRequest;

use crate::{
    DecodeError, Packet, PacketId, QoS, ReasonCode, Version, codec, encode,
    packet::{Ack, Codes, Disconnect, MessageProperties, Publish, Subscribe, Subscription, Unsubscribe, Will},
    topics::{self, InvalidTopic},
};
use acks::OwedAcks;
use bytes::{Bytes, BytesMut};
use std::{borrow::Cow, sync::Arc, time::Duration};
use window::Window;

/// Bounds that the door sets; everything else is a constant beside its use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub payload_bytes_max: usize,
    /// Of a whole packet; announced in CONNACK.
    pub packet_bytes_max: u32,
    /// From the end of the TLS handshake to CONNECT.
    pub connect_time_max: Duration,
}

/// QoS 1 messages of a client that wait for their PUBACK; announced as Receive Maximum. Ten times AWS IoT's
/// 100: a publisher at full speed must cover a group commit with what it has in flight.
pub const INBOUND_INFLIGHT_MAX: u16 = 1000;

/// Subscriptions of one connection (AWS IoT's limit): bounds what a client can pin in the trie.
pub const SUBSCRIPTIONS_MAX: usize = 50;

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
    /// Decide per filter, then call [`Session::subscribed`].
    Subscribe(SubscribeRequest),
    /// Forget these filters; the answer is in the outbox already.
    Unsubscribe(Vec<String>),
    /// Send what is in the outbox, then close the connection.
    Close(Closing),
}

/// A message from the client.
#[derive(Debug, Clone)]
pub struct Inbound {
    pub topic: Arc<str>,
    pub payload: Bytes,
    /// 0 or 1.
    pub qos: QoS,
    pub properties: Option<Arc<MessageProperties>>,
    /// There when an acknowledgement is owed.
    pub receipt: Option<Receipt>,
}

#[derive(Debug)]
pub struct SubscribeRequest {
    pub packet_id: PacketId,
    /// `Err`: refused by the protocol's own rules; pass the code on to [`Session::subscribed`].
    pub filters: Vec<Result<Subscription, (Subscription, ReasonCode)>>,
}

/// Why a connection ends. [`Session::take_will`] says what is to be published then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    pub code: ReasonCode,
    pub why: Cow<'static, str>,
    /// The client said goodbye: nothing was wrong.
    pub by_client: bool,
}

/// A message on its way to a subscriber.
#[derive(Debug)]
pub struct Outbound {
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub properties: Option<Arc<MessageProperties>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    Sent,
    /// Over the client's maximum packet size: discarded as if sent (MQTT 5 §3.1.2.11.4).
    TooLarge,
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
    client_packet_bytes_max: u32,
    owed: OwedAcks,
    window: Window,
    filters: Vec<String>,
    /// Topics are interned by the decoder: a topic checked once is known by its address.
    checked_topic: Option<Arc<str>>,
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
            client_packet_bytes_max: u32::MAX,
            owed: OwedAcks::default(),
            window: Window::default(),
            filters: Vec::new(),
            checked_topic: None,
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

    /// The filters that were granted, for the one who takes them out of the trie at the end.
    pub fn filters(&self) -> &[String] {
        &self.filters
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
            Packet::PubAck(ack) => {
                self.window.release(ack.packet_id);
                Todo::Nothing
            }
            Packet::Subscribe(request) => self.subscribe(request),
            Packet::Unsubscribe(request) => self.unsubscribe(request),
            Packet::PingReq => {
                self.send(&Packet::PingResp);
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
        self.close(error.reason(), error.to_string())
    }

    /// Ends the session. In MQTT 5 the client is told; 3.1.1 has no words for it.
    pub fn close(&mut self, code: ReasonCode, why: impl Into<Cow<'static, str>>) -> Closing {
        if self.state == State::Open && self.version == Version::V5 {
            self.send(&Packet::Disconnect(Disconnect { code, ..Disconnect::default() }));
        }
        self.state = State::Closed;
        closing(code, why)
    }

    /// What is to be published because the session has ended; asked once, at the end. None after a goodbye.
    pub fn take_will(&mut self) -> Option<Will> {
        self.will.take()
    }

    fn violation(&mut self, why: String) -> Todo {
        Todo::Close(self.close(ReasonCode::PROTOCOL_ERROR, why))
    }

    fn send(&mut self, packet: &Packet) {
        encode(packet, self.version, &mut self.outbox);
    }

    fn farewell(&mut self, farewell: &Disconnect) -> Todo {
        if self.session_expiry == 0 && farewell.session_expiry.is_some_and(|seconds| seconds > 0) {
            return self.violation("DISCONNECT raises a session expiry that CONNECT set to 0".into());
        }
        self.state = State::Closed;
        // MQTT 5 §3.14.4: any other code asks for the will.
        if farewell.code == ReasonCode::SUCCESS {
            self.will = None;
        }
        Todo::Close(Closing { code: farewell.code, why: "the client disconnected".into(), by_client: true })
    }
}

/// Messages in.
impl Session {
    fn publish(&mut self, message: Publish) -> Todo {
        let v5 = self.version == Version::V5;
        if message.qos == QoS::ExactlyOnce {
            return Todo::Close(self.close(ReasonCode::QOS_NOT_SUPPORTED, "a message has QoS 2; use 0 or 1"));
        }
        if message.retain && v5 {
            let why = "a message asks to be retained; retained messages are not available";
            return Todo::Close(self.close(ReasonCode::RETAIN_NOT_SUPPORTED, why));
        }
        if message.topic_alias.is_some() {
            return Todo::Close(self.close(ReasonCode::TOPIC_ALIAS_INVALID, "topic aliases are not available"));
        }
        if message.payload.len() > self.limits.payload_bytes_max {
            let why = format!("a payload has {} bytes, over the limit", message.payload.len());
            return Todo::Close(self.close(ReasonCode::PACKET_TOO_LARGE, why));
        }
        let answer_to = message.properties.as_ref().and_then(|properties| properties.response_topic.as_deref());
        if answer_to.is_some_and(|topic| topic.contains(['+', '#'])) {
            return self.violation("a response topic has wildcards".into());
        }
        if v5 && message.qos == QoS::AtLeastOnce && self.owed.len() >= usize::from(INBOUND_INFLIGHT_MAX) {
            let why = "more messages are in flight than the announced receive maximum";
            return Todo::Close(self.close(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, why));
        }
        if let Err(why) = self.check_topic(&message.topic) {
            return self.invalid_topic(message, why);
        }
        let receipt = message.packet_id.map(|id| self.owed.owe(id));
        Todo::Publish(Inbound {
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            properties: message.properties.map(Arc::from),
            receipt,
        })
    }

    fn check_topic(&mut self, topic: &Arc<str>) -> Result<(), InvalidTopic> {
        if self.checked_topic.as_ref().is_some_and(|known| Arc::ptr_eq(known, topic)) {
            return Ok(());
        }
        topics::check_name(topic)?;
        self.checked_topic = Some(Arc::clone(topic));
        Ok(())
    }

    fn invalid_topic(&mut self, message: Publish, why: InvalidTopic) -> Todo {
        let code = match why {
            InvalidTopic::Reserved => ReasonCode::NOT_AUTHORIZED,
            _ => ReasonCode::TOPIC_NAME_INVALID,
        };
        let receipt = message.packet_id.map(|id| self.owed.owe(id));
        match self.publish_refused(receipt, code, format!("topic {:?} is refused: {why}", message.topic)) {
            Some(closing) => Todo::Close(closing),
            None => Todo::Refused { topic: message.topic, why },
        }
    }

    /// For 3.1.1, which cannot be told a receive maximum: while this is `false`, read no more.
    pub fn has_room(&self) -> bool {
        self.version == Version::V5 || self.owed.len() < usize::from(INBOUND_INFLIGHT_MAX)
    }

    /// QoS 1 messages whose PUBACK has not left.
    pub fn acks_owed(&self) -> usize {
        self.owed.len()
    }

    /// These messages, from `first` to `last` but for those already refused, are durable. PUBACKs leave in
    /// the order of the messages, whatever the order of the calls.
    pub fn settle(&mut self, first: Receipt, last: Receipt) {
        self.settle_with(first, last, ReasonCode::SUCCESS);
    }

    /// The message was not taken in. MQTT 5: the client is told and goes on (nothing to say for QoS 0).
    /// 3.1.1 has no such answer: the connection must end, as at AWS IoT.
    pub fn publish_refused(
        &mut self,
        receipt: Option<Receipt>,
        code: ReasonCode,
        why: impl Into<Cow<'static, str>>,
    ) -> Option<Closing> {
        if self.version == Version::V311 {
            return Some(self.close(code, why));
        }
        if let Some(receipt) = receipt {
            self.settle_with(receipt, receipt, code);
        }
        None
    }

    fn settle_with(&mut self, first: Receipt, last: Receipt, code: ReasonCode) {
        self.owed.settle(first, last, code);
        while let Some((packet_id, code)) = self.owed.release() {
            // After DISCONNECT nothing may follow; the client sends again what it was not told of.
            if self.state == State::Open {
                encode(&Packet::PubAck(Ack { packet_id, code }), self.version, &mut self.outbox);
            }
        }
    }
}

/// Subscriptions, messages out.
impl Session {
    fn subscribe(&mut self, request: Subscribe) -> Todo {
        if request.subscription_id.is_some() {
            let why = "subscription identifiers are not available";
            return Todo::Close(self.close(ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, why));
        }
        let mut room = SUBSCRIPTIONS_MAX.saturating_sub(self.filters.len());
        let filters = request.filters.into_iter().map(|subscription| {
            let code = match topics::check_filter(&subscription.filter) {
                Err(InvalidTopic::Shared) => ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
                Err(_) => ReasonCode::TOPIC_FILTER_INVALID,
                Ok(()) if self.filters.contains(&subscription.filter) => return Ok(subscription),
                Ok(()) if room == 0 => ReasonCode::QUOTA_EXCEEDED,
                Ok(()) => {
                    room -= 1;
                    return Ok(subscription);
                }
            };
            Err((subscription, code))
        });
        Todo::Subscribe(SubscribeRequest { packet_id: request.packet_id, filters: filters.collect() })
    }

    /// The QoS that a subscription is granted when it is granted.
    pub fn granted(asked: QoS) -> QoS {
        asked.min(QoS::AtLeastOnce)
    }

    /// Answers a SUBSCRIBE: per filter, in the request's order, the filter that was granted or why it was not.
    pub fn subscribed(&mut self, packet_id: PacketId, outcomes: Vec<Result<(String, QoS), ReasonCode>>) {
        let mut codes = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            codes.push(match outcome {
                Ok((filter, qos)) => {
                    if !self.filters.contains(&filter) {
                        self.filters.push(filter);
                    }
                    ReasonCode(qos.level())
                }
                Err(code) => code,
            });
        }
        if self.state == State::Open {
            self.send(&Packet::SubAck(Codes { packet_id, codes }));
        }
    }

    fn unsubscribe(&mut self, request: Unsubscribe) -> Todo {
        let mut codes = Vec::with_capacity(request.filters.len());
        let mut gone = Vec::new();
        for filter in request.filters {
            match self.filters.iter().position(|known| *known == filter) {
                Some(index) => {
                    gone.push(self.filters.swap_remove(index));
                    codes.push(ReasonCode::SUCCESS);
                }
                None => codes.push(ReasonCode::NO_SUBSCRIPTION_EXISTED),
            }
        }
        self.send(&Packet::UnsubAck(Codes { packet_id: request.packet_id, codes }));
        Todo::Unsubscribe(gone)
    }

    /// Whether [`Session::deliver`] may be called: the client has room for one more QoS 1 message.
    pub fn can_deliver(&self) -> bool {
        self.state == State::Open && self.window.has_room()
    }

    /// QoS 1 messages that the client has not acknowledged; never above its receive maximum.
    pub fn unacknowledged(&self) -> usize {
        self.window.len()
    }

    /// Sends a message at the lower of its own and the granted QoS. Only while [`Session::can_deliver`].
    pub fn deliver(&mut self, message: &Outbound, qos: QoS) -> Delivered {
        debug_assert!(self.can_deliver(), "deliver was called without room");
        let v5 = self.version == Version::V5;
        let mut publish = Publish {
            topic: Arc::clone(&message.topic),
            payload: message.payload.clone(),
            qos,
            packet_id: (qos == QoS::AtLeastOnce).then_some(PacketId::MIN),
            dup: false,
            retain: false,
            topic_alias: None,
            properties: message.properties.as_deref().filter(|_| v5).map(|known| Box::new(known.clone())),
        };
        if codec::publish_len(&publish, self.version) > self.client_packet_bytes_max as usize {
            return Delivered::TooLarge;
        }
        if qos == QoS::AtLeastOnce {
            publish.packet_id = Some(self.window.take());
        }
        self.send(&Packet::Publish(publish));
        Delivered::Sent
    }
}

fn closing(code: ReasonCode, why: impl Into<Cow<'static, str>>) -> Closing {
    Closing { code, why: why.into(), by_client: false }
}
