//! The client's end of one connection, for Kilter's own tools: connect, publish with many in flight,
//! subscribe, receive, ping, disconnect. Packets in, events out, bytes to send in the outbox.
//!
//! Time is a parameter: a span since any fixed moment that never runs backwards.

use crate::{
    Packet, PacketId, QoS, ReasonCode, Version, codec, encode,
    packet::{Ack, Codes, Connect, Disconnect, MessageProperties, Publish, Subscribe, Subscription, Unsubscribe, Will},
    topics::{self, InvalidTopic},
};
use bytes::{Bytes, BytesMut};
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// Publishes use the identifiers up to this one, requests those above: neither has to look at the other's.
const PUBLISH_IDS_MAX: u16 = 0x7fff;

/// What a client half is told once.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    pub version: Version,
    pub client_id: String,
    /// Seconds; 0 asks for none.
    pub keep_alive: u16,
    /// QoS 1 messages in flight; the server's receive maximum may lower it. At least 1.
    pub inflight_max: u16,
    pub will: Option<Will>,
}

/// What a packet from the server meant.
#[derive(Debug, PartialEq)]
pub enum Event {
    Nothing,
    /// The server let the client in; publishing may begin.
    Connected,
    /// The server did not let the client in.
    Refused(ReasonCode),
    /// A message on a subscription; it is acknowledged already.
    Message(Publish),
    /// The answer to a SUBSCRIBE or UNSUBSCRIBE.
    Answered(Codes),
    /// Publishes up to [`ClientSession::settled`] now have an outcome.
    Settled,
    /// The server ends the connection (MQTT 5).
    Closed(ReasonCode),
    /// The server broke the protocol.
    Violation(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Wait for [`Event::Settled`].
    #[error("as many messages are in flight as may be")]
    WindowFull,
    #[error("the connection is not open")]
    NotOpen,
    #[error("the topic is not valid: {0}")]
    Topic(#[from] InvalidTopic),
    #[error("the message is over the server's maximum packet size")]
    TooLarge,
    #[error("QoS 2 is not supported")]
    QosNotSupported,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Open,
    Closed,
}

#[derive(Debug)]
pub struct ClientSession {
    version: Version,
    state: State,
    inflight_max: usize,
    packet_bytes_max: u32,
    keep_alive: Duration,
    last_sent: Duration,
    /// A ping that has not been answered, and when it left.
    ping: Option<Duration>,
    /// Outcomes of publishes in flight, in order; their identifiers count up from `first_id`.
    row: VecDeque<Option<ReasonCode>>,
    first_id: u16,
    settled: u64,
    /// Publishes that the server did not take, by their number, until somebody asks.
    refused: Vec<(u64, ReasonCode)>,
    next_request: u16,
    outbox: BytesMut,
}

impl ClientSession {
    /// CONNECT is in the outbox at once.
    pub fn new(options: ClientOptions, now: Duration) -> Self {
        let mut outbox = BytesMut::new();
        let connect =
            Connect { will: options.will, ..Connect::new(options.version, options.client_id, options.keep_alive) };
        encode(&Packet::Connect(Box::new(connect)), options.version, &mut outbox);
        Self {
            version: options.version,
            state: State::Connecting,
            inflight_max: usize::from(options.inflight_max.clamp(1, PUBLISH_IDS_MAX)),
            packet_bytes_max: codec::VARIABLE_MAX,
            keep_alive: Duration::from_secs(u64::from(options.keep_alive)),
            last_sent: now,
            ping: None,
            row: VecDeque::new(),
            first_id: 1,
            settled: 0,
            refused: Vec::new(),
            next_request: PUBLISH_IDS_MAX,
            outbox,
        }
    }

    /// Encoded packets to send, in order. Whoever writes them to the socket takes them out.
    pub fn outbox(&mut self) -> &mut BytesMut {
        &mut self.outbox
    }

    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Refused, said goodbye, or was told goodbye.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// QoS 1 publishes so far.
    pub fn published(&self) -> u64 {
        self.settled + self.row.len() as u64
    }

    /// Of those, from the first on, how many have their outcome.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// The outcomes that were refusals since this was last asked, by the publish's number.
    pub fn take_refused(&mut self) -> Vec<(u64, ReasonCode)> {
        std::mem::take(&mut self.refused)
    }

    pub fn has_room(&self) -> bool {
        self.row.len() < self.inflight_max
    }

    /// Puts a message into the outbox. QoS 1: its number, the first being 0; it is settled once
    /// [`ClientSession::settled`] is above it.
    pub fn publish(
        &mut self,
        topic: &Arc<str>,
        payload: Bytes,
        qos: QoS,
        properties: Option<Box<MessageProperties>>,
        now: Duration,
    ) -> Result<Option<u64>, PublishError> {
        if self.state != State::Open {
            return Err(PublishError::NotOpen);
        }
        match topics::check_name(topic) {
            // Whether the server keeps `$…` to itself is for the server to say.
            Ok(()) | Err(InvalidTopic::Reserved) => {}
            Err(why) => return Err(why.into()),
        }
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce if !self.has_room() => return Err(PublishError::WindowFull),
            QoS::AtLeastOnce => Some(self.publish_id(self.row.len())),
            QoS::ExactlyOnce => return Err(PublishError::QosNotSupported),
        };
        let message = Publish {
            topic: Arc::clone(topic),
            payload,
            qos,
            packet_id,
            dup: false,
            retain: false,
            topic_alias: None,
            subscription_ids: Vec::new(),
            properties,
        };
        if codec::publish_len(&message, self.version) > self.packet_bytes_max as usize {
            return Err(PublishError::TooLarge);
        }
        self.send(&Packet::Publish(message), now);
        if packet_id.is_none() {
            return Ok(None);
        }
        self.row.push_back(None);
        Ok(Some(self.published() - 1))
    }

    /// Asks for messages; the answer comes as [`Event::Answered`] with this identifier.
    pub fn subscribe(&mut self, filters: &[(&str, QoS)], now: Duration) -> PacketId {
        let packet_id = self.request_id();
        let filters = filters.iter().map(|(filter, qos)| Subscription {
            filter: (*filter).into(),
            qos: *qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
        });
        let filters = filters.collect();
        self.send(&Packet::Subscribe(Subscribe { packet_id, subscription_id: None, filters }), now);
        packet_id
    }

    pub fn unsubscribe(&mut self, filters: &[&str], now: Duration) -> PacketId {
        let packet_id = self.request_id();
        let filters = filters.iter().map(|filter| (*filter).into()).collect();
        self.send(&Packet::Unsubscribe(Unsubscribe { packet_id, filters }), now);
        packet_id
    }

    /// Says goodbye: the server discards the will.
    pub fn disconnect(&mut self, now: Duration) {
        if self.state == State::Open {
            self.send(&Packet::Disconnect(Disconnect::default()), now);
        }
        self.state = State::Closed;
    }

    pub fn receive(&mut self, packet: Packet, now: Duration) -> Event {
        match (self.state, packet) {
            (State::Connecting, Packet::ConnAck(ack)) if ack.code.is_error() => {
                self.state = State::Closed;
                Event::Refused(ack.code)
            }
            (State::Connecting, Packet::ConnAck(ack)) => {
                self.state = State::Open;
                if let Some(receive_max) = ack.receive_max {
                    self.inflight_max = self.inflight_max.min(usize::from(receive_max.get()));
                }
                if let Some(seconds) = ack.server_keep_alive {
                    self.keep_alive = Duration::from_secs(u64::from(seconds));
                }
                self.packet_bytes_max = ack.packet_bytes_max.unwrap_or(codec::VARIABLE_MAX).min(codec::VARIABLE_MAX);
                Event::Connected
            }
            (State::Open, Packet::PubAck(ack)) => self.settle(ack),
            (State::Open, Packet::Publish(message)) => match (message.qos, message.packet_id) {
                (QoS::AtMostOnce, _) => Event::Message(message),
                (QoS::AtLeastOnce, Some(packet_id)) => {
                    self.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::SUCCESS)), now);
                    Event::Message(message)
                }
                _ => self.violation("a message has a QoS that was not asked for"),
            },
            (State::Open, Packet::SubAck(codes) | Packet::UnsubAck(codes)) => Event::Answered(codes),
            (State::Open, Packet::PingResp) => {
                self.ping = None;
                Event::Nothing
            }
            (State::Open, Packet::Disconnect(farewell)) => {
                self.state = State::Closed;
                Event::Closed(farewell.code)
            }
            (State::Closed, _) => Event::Nothing,
            _ => self.violation("a packet has no place here"),
        }
    }

    /// The next moment at which [`ClientSession::tick`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        if self.state != State::Open || self.keep_alive.is_zero() {
            return None;
        }
        Some(self.ping.unwrap_or(self.last_sent).saturating_add(self.keep_alive))
    }

    /// Pings when nothing was sent for a keep-alive; `true` when a ping has gone unanswered for as long.
    pub fn tick(&mut self, now: Duration) -> bool {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return false;
        }
        if self.ping.is_some() {
            self.state = State::Closed;
            return true;
        }
        self.send(&Packet::PingReq, now);
        self.ping = Some(now);
        false
    }

    fn send(&mut self, packet: &Packet, now: Duration) {
        self.last_sent = now;
        encode(packet, self.version, &mut self.outbox);
    }

    fn violation(&mut self, what: &'static str) -> Event {
        self.state = State::Closed;
        Event::Violation(what)
    }

    /// The identifier of the publish at this place of the row. The row is shorter than the range, so none is
    /// in use twice.
    fn publish_id(&self, index: usize) -> PacketId {
        let offset = (usize::from(self.first_id) - 1 + index) % usize::from(PUBLISH_IDS_MAX);
        PacketId::new(offset as u16 + 1).expect("one more than a remainder is not 0")
    }

    fn request_id(&mut self) -> PacketId {
        self.next_request = self.next_request.checked_add(1).unwrap_or(PUBLISH_IDS_MAX + 1);
        PacketId::new(self.next_request).expect("request identifiers lie above those of publishes")
    }

    fn settle(&mut self, ack: Ack) -> Event {
        let range = usize::from(PUBLISH_IDS_MAX);
        let id = usize::from(ack.packet_id.get());
        if id > range {
            return self.violation("PUBACK for what was never published");
        }
        let index = (id + range - usize::from(self.first_id)) % range;
        // A second PUBACK for the same message is of no account.
        let Some(outcome) = self.row.get_mut(index) else { return Event::Nothing };
        if outcome.replace(ack.code).is_none() && ack.code.is_error() {
            self.refused.push((self.settled + index as u64, ack.code));
        }
        let before = self.settled;
        while let Some(Some(_)) = self.row.front() {
            self.row.pop_front();
            self.first_id = self.first_id % PUBLISH_IDS_MAX + 1;
            self.settled += 1;
        }
        if self.settled > before { Event::Settled } else { Event::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::ConnAck;

    const NOW: Duration = Duration::ZERO;

    fn open(version: Version, inflight_max: u16, ack: ConnAck) -> ClientSession {
        let options = ClientOptions { version, client_id: "c".into(), keep_alive: 10, inflight_max, will: None };
        let mut client = ClientSession::new(options, NOW);
        assert_eq!(client.receive(Packet::ConnAck(Box::new(ack)), NOW), Event::Connected);
        client.outbox().clear();
        client
    }

    fn ack(id: u16, code: ReasonCode) -> Packet {
        Packet::PubAck(Ack::new(PacketId::new(id).unwrap(), code))
    }

    #[test]
    fn the_window_is_the_lower_of_both_and_identifiers_wrap() {
        let receive_max = std::num::NonZeroU16::new(3);
        let mut client = open(Version::V5, 100, ConnAck { receive_max, ..ConnAck::default() });
        let topic: Arc<str> = "a".into();
        let publish = |client: &mut ClientSession| client.publish(&topic, Bytes::new(), QoS::AtLeastOnce, None, NOW);
        for number in 0..3 {
            assert_eq!(publish(&mut client), Ok(Some(number)));
        }
        assert_eq!(publish(&mut client), Err(PublishError::WindowFull));
        // Out of order: nothing is settled before the first is.
        assert_eq!(client.receive(ack(2, ReasonCode::NOT_AUTHORIZED), NOW), Event::Nothing);
        assert_eq!(client.receive(ack(1, ReasonCode::SUCCESS), NOW), Event::Settled);
        assert_eq!(client.settled(), 2);
        assert_eq!(client.take_refused(), [(1, ReasonCode::NOT_AUTHORIZED)]);
        assert_eq!(client.receive(ack(2, ReasonCode::SUCCESS), NOW), Event::Nothing);
        assert_eq!(client.receive(ack(3, ReasonCode::SUCCESS), NOW), Event::Settled);
        for number in 3..100_000u64 {
            assert_eq!(publish(&mut client), Ok(Some(number)));
            let id = number % u64::from(PUBLISH_IDS_MAX) + 1;
            assert_eq!(client.receive(ack(id as u16, ReasonCode::SUCCESS), NOW), Event::Settled);
        }
        assert_eq!(client.settled(), client.published());
    }

    #[test]
    fn it_pings_when_silent_and_gives_up_without_an_answer() {
        let mut client = open(Version::V311, 1, ConnAck::default());
        let seconds = Duration::from_secs;
        assert!(!client.tick(seconds(9)));
        assert!(client.outbox().is_empty());
        assert!(!client.tick(seconds(10)));
        assert_eq!(&client.outbox()[..], b"\xc0\0");
        assert_eq!(client.receive(Packet::PingResp, seconds(11)), Event::Nothing);
        assert!(!client.tick(seconds(20)));
        assert!(client.tick(seconds(30)));
        assert!(!client.is_open());
    }

    #[test]
    fn what_is_refused_is_said() {
        let options =
            ClientOptions { version: Version::V311, client_id: "c".into(), keep_alive: 0, inflight_max: 1, will: None };
        let mut client = ClientSession::new(options, NOW);
        let topic: Arc<str> = "a".into();
        assert_eq!(client.publish(&topic, Bytes::new(), QoS::AtMostOnce, None, NOW), Err(PublishError::NotOpen));
        let refusal = ConnAck { code: ReasonCode::NOT_AUTHORIZED, ..ConnAck::default() };
        assert_eq!(client.receive(Packet::ConnAck(Box::new(refusal)), NOW), Event::Refused(ReasonCode::NOT_AUTHORIZED));
    }
}
