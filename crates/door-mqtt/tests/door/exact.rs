//! A device that keeps to the specification to the letter (MQTT 5 §4.3, §4.4): publishes numbered messages of QoS 1 and 2
//! and takes in its own, over any number of connections. No clock, no socket: packets in, packets out.

#![allow(dead_code, reason = "two test binaries use it, each its part")]

use bytes::Bytes;
use kilter_mqtt::{
    Packet, PacketId, QoS, ReasonCode,
    packet::{Ack, Publish},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Few, so that each is used again and again.
const IDS: u16 = 50;

pub struct Exact {
    topic: Arc<str>,
    /// What was published and has no outcome, in order: identifier, number, whether PUBREC has come.
    out: VecDeque<(u16, u64, bool)>,
    last_id: u16,
    published: u64,
    /// QoS 2 messages that were received and not released.
    held: BTreeMap<u16, u64>,
    /// How often each number was received.
    received: BTreeMap<u64, u32>,
    connection: u32,
    /// What happened to each number, by connection: for whoever looks into a failure.
    trace: Vec<(u64, u32, &'static str)>,
}

/// Odd numbers go with QoS 2.
pub fn is_exactly_once(number: u64) -> bool {
    !number.is_multiple_of(2)
}

impl Exact {
    pub fn new(topic: Arc<str>) -> Self {
        Self {
            topic,
            out: VecDeque::new(),
            last_id: 0,
            published: 0,
            held: BTreeMap::new(),
            received: BTreeMap::new(),
            connection: 0,
            trace: Vec::new(),
        }
    }

    pub fn published(&self) -> u64 {
        self.published
    }

    pub fn in_flight(&self) -> usize {
        self.out.len()
    }

    /// Everything was acknowledged, has come, and was released.
    pub fn is_done(&self) -> bool {
        self.out.is_empty() && self.held.is_empty() && self.received.len() as u64 == self.published
    }

    /// The next message.
    pub fn publish(&mut self) -> Packet {
        assert!(self.out.len() < usize::from(IDS), "no identifier is free");
        while self.last_id == 0 || self.out.iter().any(|(id, ..)| *id == self.last_id) {
            self.last_id = self.last_id % IDS + 1;
        }
        let (id, number) = (self.last_id, self.published);
        self.last_id = self.last_id % IDS + 1;
        self.published += 1;
        self.out.push_back((id, number, false));
        self.note(number, "published");
        self.message(id, number, false)
    }

    fn message(&self, id: u16, number: u64, dup: bool) -> Packet {
        Packet::Publish(Publish {
            topic: Arc::clone(&self.topic),
            payload: Bytes::from(format!("number {number}")),
            qos: if is_exactly_once(number) { QoS::ExactlyOnce } else { QoS::AtLeastOnce },
            packet_id: PacketId::new(id),
            dup,
            retain: false,
            topic_alias: None,
            subscription_ids: Vec::new(),
            properties: None,
        })
    }

    /// A connection with the same session begins: what is sent again.
    pub fn resume(&mut self) -> Vec<Packet> {
        self.connection += 1;
        let again = self.out.iter().map(|(id, number, received)| match received {
            true => Packet::PubRel(ack(*id)),
            false => self.message(*id, *number, true),
        });
        again.collect()
    }

    /// A packet of the server's; answers what is to be said to it.
    pub fn receive(&mut self, packet: Packet) -> Option<Packet> {
        match packet {
            Packet::Publish(message) => self.take(&message),
            Packet::PubAck(ack) => {
                let (number, _) = self.done(&ack);
                assert!(!is_exactly_once(number), "PUBACK for QoS 2");
                self.note(number, "PUBACK");
                None
            }
            Packet::PubRec(ack) => {
                let place = self.out.iter_mut().find(|(id, ..)| *id == ack.packet_id.get());
                let (id, number, received) = place.expect("PUBREC for what is in flight");
                assert!(is_exactly_once(*number) && ack.code == ReasonCode::SUCCESS, "{number}: {ack:?}");
                *received = true;
                let (id, number) = (*id, *number);
                self.note(number, "PUBREC");
                Some(Packet::PubRel(self::ack(id)))
            }
            Packet::PubComp(ack) => {
                let (number, received) = self.done(&ack);
                assert!(received, "PUBCOMP before PUBREC");
                self.note(number, "PUBCOMP");
                None
            }
            Packet::PubRel(release) => {
                let id = release.packet_id.get();
                if let Some(number) = self.held.remove(&id) {
                    self.note(number, "PUBREL");
                }
                Some(Packet::PubComp(ack(id)))
            }
            Packet::PingResp => None,
            other => panic!("{other:?} is not for this device"),
        }
    }

    /// Takes a message that has its outcome off the row.
    fn done(&mut self, ack: &Ack) -> (u64, bool) {
        let index = self.out.iter().position(|(id, ..)| *id == ack.packet_id.get());
        let (_, number, received) = self.out.remove(index.expect("an outcome of what is in flight")).expect("found");
        // A release that is repeated finds nothing where the first one was heard.
        let heard = [ReasonCode::SUCCESS, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND];
        assert!(heard.contains(&ack.code), "{number}: {ack:?}");
        (number, received)
    }

    fn take(&mut self, message: &Publish) -> Option<Packet> {
        let text = std::str::from_utf8(&message.payload).expect("text");
        let number: u64 = text.strip_prefix("number ").expect("one of ours").parse().expect("a number");
        let id = message.packet_id?.get();
        if message.qos == QoS::AtLeastOnce {
            *self.received.entry(number).or_default() += 1;
            self.note(number, "came with QoS 1");
            return Some(Packet::PubAck(ack(id)));
        }
        match self.held.insert(id, number) {
            Some(known) => assert_eq!(known, number, "identifier {id} is used twice\n{}", self.story(number)),
            None => *self.received.entry(number).or_default() += 1,
        }
        self.note(number, "came with QoS 2");
        Some(Packet::PubRec(ack(id)))
    }

    fn note(&mut self, number: u64, what: &'static str) {
        self.trace.push((number, self.connection, what));
    }

    fn story(&self, number: u64) -> String {
        let own = self.trace.iter().filter(|(of, ..)| *of == number);
        own.map(|(_, connection, what)| format!("{number}: {what} on connection {connection}\n")).collect()
    }

    /// Nothing is lost, and nothing of QoS 2 is doubled; answers how many of QoS 1 came again.
    pub fn judge(&self) -> u64 {
        let times = |number: u64| self.received.get(&number).copied().unwrap_or(0);
        let wrong = (0..self.published).filter(|n| times(*n) == 0 || (is_exactly_once(*n) && times(*n) > 1));
        let stories: String = wrong.map(|n| format!("{n} came {} times\n{}", times(n), self.story(n))).collect();
        assert!(stories.is_empty() && self.out.is_empty(), "{} are not acknowledged\n{stories}", self.out.len());
        self.received.values().map(|times| u64::from(times - 1)).sum()
    }
}

fn ack(id: u16) -> Ack {
    Ack::new(PacketId::new(id).expect("identifiers begin at 1"), ReasonCode::SUCCESS)
}
