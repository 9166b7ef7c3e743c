//! Sequences of packets, connections and crashes → session machine and outflow: each byte of the input is a step of a client
//! that keeps to the protocol or does not; what must hold holds after each.
#![no_main]

use bytes::{Bytes, BytesMut};
use kilter_core::Timestamp;
use kilter_mqtt::{
    Decoder, Packet, PacketId, QoS, ReasonCode, Version,
    outflow::{Outbound, Outflow, QueueLimits, Receipted},
    packet::{Ack, Connect, Disconnect, Publish, Subscribe, Subscription, Unsubscribe},
    session::{Acknowledged, Admission, Limits, Receipt, Session, Todo},
};
use libfuzzer_sys::fuzz_target;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const LIMITS: Limits = Limits { inflight_max: 8, subscriptions_max: 3, ..Limits::DEFAULT };
const QUEUE: QueueLimits = QueueLimits { messages_max: 12, bytes_max: 4_000 };
const RECEIVE_MAX: u16 = 3;

fuzz_target!(|input: &[u8]| {
    let [first, steps @ ..] = input else { return };
    let version = if first & 1 == 0 { Version::V311 } else { Version::V5 };
    let mut world = World { version, session: None, flow: Outflow::default(), ..World::new(version) };
    world.connect();
    for pair in steps.chunks_exact(2) {
        world.step(pair[0], pair[1]);
        world.check();
    }
});

struct World {
    version: Version,
    session: Option<Session>,
    flow: Outflow,
    /// Handed on and not released, over connections.
    received: BTreeSet<PacketId>,
    /// Times that each QoS 2 message was handed on since its identifier was free.
    handed_on: BTreeMap<PacketId, u32>,
    receipts: Vec<Receipt>,
    /// QoS 1 and 2 messages that the client holds.
    held: BTreeMap<PacketId, QoS>,
    now: Duration,
}

impl World {
    fn new(version: Version) -> Self {
        Self {
            version,
            session: None,
            flow: Outflow::default(),
            received: BTreeSet::new(),
            handed_on: BTreeMap::new(),
            receipts: Vec::new(),
            held: BTreeMap::new(),
            now: Duration::ZERO,
        }
    }

    fn connect(&mut self) {
        let mut session = Session::new(LIMITS, self.now);
        let connect = Connect {
            clean: false,
            session_expiry: Some(100),
            receive_max: PacketId::new(RECEIVE_MAX),
            topic_alias_max: Some(2),
            ..Connect::new(self.version, "c", 10)
        };
        assert!(matches!(session.receive(Packet::Connect(Box::new(connect)), self.now), Todo::Connect(_)));
        let received = self.received.iter().copied().collect();
        session.accept(Admission { session_present: true, received, ..Admission::default() });
        self.flow.suspend();
        self.held.clear();
        self.receipts.clear();
        for id in self.flow.resume(RECEIVE_MAX) {
            session.release(id, ReasonCode::SUCCESS);
        }
        self.session = Some(session);
    }

    fn step(&mut self, what: u8, byte: u8) {
        let id = PacketId::new(u16::from(byte % 12) + 1).expect("one more is not 0");
        let ack = Ack::new(id, if byte > 200 { ReasonCode::QUOTA_EXCEEDED } else { ReasonCode::SUCCESS });
        let packet = match what % 16 {
            0..=3 => {
                let qos = QoS::from_level(what % 4 % 3).unwrap_or(QoS::ExactlyOnce);
                Packet::Publish(Publish {
                    topic: if byte & 64 == 0 { "t" } else { "$x" }.into(),
                    payload: Bytes::from(vec![byte; usize::from(byte)]),
                    qos,
                    packet_id: (qos != QoS::AtMostOnce).then_some(id),
                    dup: byte & 128 != 0,
                    retain: byte & 32 != 0,
                    topic_alias: None,
                    subscription_ids: Vec::new(),
                    properties: None,
                })
            }
            4 => Packet::PubRel(ack),
            5 => Packet::PubAck(ack),
            6 => Packet::PubRec(ack),
            7 => Packet::PubComp(ack),
            8 => {
                let filter = ["a/#", "a/+", "$share/g/a", "b", "a#"][usize::from(byte) % 5].to_owned();
                let qos = QoS::ExactlyOnce;
                let one = Subscription { filter, qos, no_local: false, retain_as_published: false, retain_handling: 0 };
                Packet::Subscribe(Subscribe { packet_id: id, subscription_id: None, filters: vec![one] })
            }
            9 => Packet::Unsubscribe(Unsubscribe { packet_id: id, filters: vec!["a/#".into()] }),
            10 => {
                let message =
                    Outbound { topic: "out".into(), payload: Bytes::new(), properties: None, expires: None };
                let qos = QoS::from_level(byte % 3).unwrap_or(QoS::AtMostOnce);
                let _ = self.flow.push(message.into(), (qos, false), Vec::new(), 0, Some(QUEUE));
                return;
            }
            11 => return self.settle(byte),
            12 => return self.connect(),
            13 => {
                self.now += Duration::from_secs(u64::from(byte));
                let ended = self.session.as_mut().and_then(|session| session.tick(self.now)).is_some();
                return if ended { self.connect() };
            }
            14 => Packet::PingReq,
            _ => Packet::Disconnect(Disconnect::default()),
        };
        self.receive(packet);
    }

    fn settle(&mut self, byte: u8) {
        let Some(receipt) = self.receipts.get(usize::from(byte) % self.receipts.len().max(1)).copied() else { return };
        if let Some(session) = &mut self.session {
            session.settle(receipt, receipt);
        }
    }

    fn receive(&mut self, packet: Packet) {
        let Some(session) = &mut self.session else { return };
        match session.receive(packet, self.now) {
            Todo::Publish(inbound) => {
                self.receipts.extend(inbound.receipt);
                if let Some(id) = inbound.packet_id {
                    self.received.insert(id);
                    *self.handed_on.entry(id).or_default() += 1;
                }
            }
            Todo::Complete(id) => {
                self.received.remove(&id);
                self.handed_on.remove(&id);
                session.completed(id);
            }
            Todo::Acknowledged(acknowledged) => match acknowledged {
                Acknowledged::Ack(id) => {
                    if self.flow.acknowledge(id).is_some() {
                        assert_eq!(self.held.remove(&id), Some(QoS::AtLeastOnce));
                    }
                }
                Acknowledged::Complete(id) => drop(self.flow.complete(id)),
                Acknowledged::Received(id, code) => match self.flow.received(id, code) {
                    Receipted::Release(_) | Receipted::Done(_) => {
                        assert_eq!(self.held.remove(&id), Some(QoS::ExactlyOnce));
                        session.release(id, ReasonCode::SUCCESS);
                    }
                    Receipted::Again => session.release(id, ReasonCode::SUCCESS),
                    Receipted::Unknown => session.release(id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND),
                },
            },
            Todo::Subscribe(request) => {
                let outcomes = request.filters.into_iter().map(|filter| match filter {
                    Ok(subscription) => Ok((subscription.filter, subscription.qos)),
                    Err((_, code)) => Err(code),
                });
                session.subscribed(request.packet_id, outcomes.collect());
            }
            Todo::Unsubscribe { packet_id, codes, .. } => session.unsubscribed(packet_id, codes),
            Todo::Close(_) => {
                self.check();
                self.connect();
            }
            Todo::Nothing | Todo::Refused { .. } | Todo::Connect(_) => {}
        }
    }

    fn check(&mut self) {
        let Some(session) = &mut self.session else { return };
        while session.is_open()
            && let Some(delivery) = self.flow.next(Timestamp::from_seconds(1), 0, &mut Vec::new())
        {
            session.deliver(&delivery);
            if let Some(id) = delivery.packet_id {
                assert!(self.held.insert(id, delivery.qos).is_none(), "an identifier is in use twice");
            }
        }
        assert!(self.held.len() <= usize::from(RECEIVE_MAX), "more in flight than the client takes");
        assert!(self.flow.unacknowledged() <= QUEUE.messages_max && self.flow.bytes() <= QUEUE.bytes_max);
        assert!(session.acks_owed() <= 255, "what is owed is bounded");
        assert!(self.handed_on.values().all(|times| *times == 1), "a QoS 2 message was handed on twice");
        // Refusals free an identifier.
        let mut decoder = Decoder::with_version(self.version, usize::MAX);
        let mut sent = BytesMut::new();
        std::mem::swap(session.outbox(), &mut sent);
        while let Some(packet) = decoder.decode(&mut sent).expect("the session writes whole packets") {
            if let Packet::PubRec(ack) = packet
                && ack.code.is_error()
            {
                self.received.remove(&ack.packet_id);
                self.handed_on.remove(&ack.packet_id);
            }
        }
        assert!(sent.is_empty());
    }
}
