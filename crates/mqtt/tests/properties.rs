//! Properties of codec, trie and session: what must hold for any input.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{Bytes, BytesMut};
use kilter_core::Timestamp;
use kilter_mqtt::{
    Decoder, Packet, PacketId, QoS, ReasonCode, Version, encode,
    outflow::{Outbound, Outflow, QueueLimits, Receipted},
    packet::{
        Ack, Codes, ConnAck, Connect, Disconnect, MessageProperties, Publish, Subscribe, Subscription, Unsubscribe,
        Will,
    },
    session::{Acknowledged, Admission, INBOUND_INFLIGHT_MAX, Inbound, Limits, Receipt, Session, Todo},
    subscriptions::{Grant, Match, Subscriptions},
    topics,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::{collections::VecDeque, num::NonZeroU16, time::Duration};

fn text() -> impl Strategy<Value = String> {
    vec(select(vec!['a', 'ß', '/', '+', '#', '$', ' ', '\u{1f600}']), 0..12).prop_map(String::from_iter)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn code() -> impl Strategy<Value = ReasonCode> {
    any::<u8>().prop_map(ReasonCode)
}

fn properties() -> impl Strategy<Value = Box<MessageProperties>> {
    let fields = (
        option::of(0..=1u8),
        option::of(any::<u32>()),
        option::of(text()),
        option::of(text()),
        option::of(bytes()),
        vec((text(), text()), 0..4),
    );
    fields
        .prop_filter("a block of none is no block", |f| {
            f.0.is_some() || f.1.is_some() || f.2.is_some() || f.3.is_some() || f.4.is_some() || !f.5.is_empty()
        })
        .prop_map(|(payload_format, expiry, content_type, response_topic, correlation_data, user)| {
            Box::new(MessageProperties { payload_format, expiry, content_type, response_topic, correlation_data, user })
        })
}

fn connect(version: Version) -> impl Strategy<Value = Packet> {
    let v5 = version == Version::V5;
    let will = (text(), bytes(), qos(), any::<bool>(), option::of(any::<u32>()), option::of(properties()));
    let will = will.prop_map(move |(topic, payload, qos, retain, delay, properties)| Will {
        topic: topic.into(),
        payload,
        qos,
        retain,
        delay: delay.filter(|_| v5),
        properties: properties.filter(|_| v5),
    });
    let limits = (option::of(any::<u32>()), option::of(id()), option::of(1..u32::MAX), option::of(any::<u16>()));
    let names = (text(), option::of(text()), option::of(bytes()), option::of(text()));
    (names, any::<bool>(), any::<u16>(), option::of(will), limits, any::<bool>()).prop_map(
        move |((client_id, user_name, password, auth), clean, keep_alive, will, limits, problem)| {
            Packet::Connect(Box::new(Connect {
                version,
                client_id,
                clean,
                keep_alive,
                will,
                password: password.filter(|_| v5 || user_name.is_some()),
                user_name,
                session_expiry: limits.0.filter(|_| v5),
                receive_max: limits.1.filter(|_| v5),
                packet_bytes_max: limits.2.filter(|_| v5),
                topic_alias_max: limits.3.filter(|_| v5),
                auth_method: auth.filter(|_| v5),
                response_information: !problem && v5,
                problem_information: problem || !v5,
            }))
        },
    )
}

fn conn_ack(version: Version) -> impl Strategy<Value = Packet> {
    let numbers = (option::of(any::<u32>()), option::of(id()), option::of(0..=1u8), option::of(1..u32::MAX));
    let flags = (option::of(any::<bool>()), option::of(any::<bool>()), option::of(any::<bool>()));
    let rest = (option::of(text()), option::of(any::<u16>()), option::of(text()), option::of(any::<u16>()));
    (any::<bool>(), code(), numbers, flags, rest).prop_map(move |(session_present, code, n, f, r)| {
        let ack = match version {
            Version::V311 => ConnAck { session_present, code: select_v3_code(code), ..ConnAck::default() },
            Version::V5 => ConnAck {
                session_present,
                code,
                session_expiry: n.0,
                receive_max: n.1,
                qos_max: n.2,
                retain_available: f.0,
                packet_bytes_max: n.3,
                assigned_client_id: r.0,
                topic_alias_max: r.1,
                reason_string: r.2,
                wildcards_available: f.1,
                subscription_ids_available: f.2,
                shared_available: f.0,
                server_keep_alive: r.3,
                response_information: f.0.map(|yes| yes.to_string()),
            },
        };
        Packet::ConnAck(Box::new(ack))
    })
}

/// One of the six that CONNACK of 3.1.1 can say.
fn select_v3_code(code: ReasonCode) -> ReasonCode {
    [
        ReasonCode::SUCCESS,
        ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
        ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
        ReasonCode::SERVER_UNAVAILABLE,
        ReasonCode::BAD_USER_NAME_OR_PASSWORD,
        ReasonCode::NOT_AUTHORIZED,
    ][usize::from(code.0) % 6]
}

fn publish(version: Version) -> impl Strategy<Value = Packet> {
    let v5 = version == Version::V5;
    let topic = text().prop_filter("a topic has a byte", |topic| !topic.is_empty());
    (topic, bytes(), qos(), id(), any::<bool>(), any::<bool>(), option::of(id()), option::of(properties())).prop_map(
        move |(topic, payload, qos, id, dup, retain, topic_alias, properties)| {
            let packet_id = (qos != QoS::AtMostOnce).then_some(id);
            Packet::Publish(Publish {
                topic: topic.into(),
                payload,
                qos,
                packet_id,
                dup: dup && packet_id.is_some(),
                retain,
                topic_alias: topic_alias.filter(|_| v5),
                subscription_ids: if v5 && retain { vec![1, 268_435_455] } else { Vec::new() },
                properties: properties.filter(|_| v5),
            })
        },
    )
}

fn packet(version: Version) -> impl Strategy<Value = Packet> {
    let v5 = version == Version::V5;
    let ack = move || {
        let code = code();
        (id(), code, option::of(text())).prop_map(move |(packet_id, code, reason)| Ack {
            packet_id,
            code: if v5 { code } else { ReasonCode(0) },
            reason_string: reason.filter(|_| v5),
        })
    };
    let subscription =
        (text(), qos(), any::<bool>(), any::<bool>(), 0..=2u8).prop_map(move |(filter, qos, a, b, c)| {
            let retain_handling = if v5 { c } else { 0 };
            Subscription { filter, qos, no_local: a && v5, retain_as_published: b && v5, retain_handling }
        });
    let subscribe =
        (id(), option::of(1..1000u32), vec(subscription, 1..8)).prop_map(move |(packet_id, sub, filters)| {
            Packet::Subscribe(Subscribe { packet_id, subscription_id: sub.filter(|_| v5), filters })
        });
    let v3_codes = || select(vec![ReasonCode(0), ReasonCode(1), ReasonCode(0x80)]).boxed();
    let codes = move || (id(), vec(if v5 { code().boxed() } else { v3_codes() }, 1..8));
    let farewell = (code(), option::of(any::<u32>()), option::of(text())).prop_map(move |(code, expiry, reason)| {
        let farewell = Disconnect { code, session_expiry: expiry, reason_string: reason };
        Packet::Disconnect(if v5 { farewell } else { Disconnect::default() })
    });
    prop_oneof![
        connect(version),
        conn_ack(version),
        publish(version),
        ack().prop_map(Packet::PubAck),
        ack().prop_map(Packet::PubRec),
        ack().prop_map(Packet::PubRel),
        ack().prop_map(Packet::PubComp),
        subscribe,
        codes().prop_map(|(packet_id, codes)| Packet::SubAck(Codes { packet_id, codes, reason_string: None })),
        codes().prop_map(move |(packet_id, mut codes)| {
            if !v5 {
                codes.clear();
            }
            Packet::UnsubAck(Codes { packet_id, codes, reason_string: v5.then(|| "why".to_owned()) })
        }),
        (id(), vec(text(), 1..8))
            .prop_map(|(packet_id, filters)| Packet::Unsubscribe(Unsubscribe { packet_id, filters })),
        Just(Packet::PingReq),
        Just(Packet::PingResp),
        farewell,
    ]
}

fn versioned_packet() -> impl Strategy<Value = (Version, Packet)> {
    prop_oneof![
        packet(Version::V311).prop_map(|packet| (Version::V311, packet)),
        packet(Version::V5).prop_map(|packet| (Version::V5, packet)),
    ]
}

const LIMITS: Limits = Limits { payload_bytes_max: 1000, packet_bytes_max: 2000, ..Limits::DEFAULT };

fn open_session(version: Version) -> Session {
    let mut session = Session::new(LIMITS, Duration::ZERO);
    let connect = Connect { receive_max: NonZeroU16::new(5), ..Connect::new(version, "c", 60) };
    let todo = session.receive(Packet::Connect(Box::new(connect)), Duration::ZERO);
    assert!(matches!(todo, Todo::Connect(_)));
    session.accept(Admission::default());
    session.outbox().clear();
    session
}

fn decode_all(version: Version, buffer: &mut BytesMut) -> Vec<Packet> {
    let mut decoder = Decoder::with_version(version, usize::MAX);
    std::iter::from_fn(|| decoder.decode(buffer).expect("the session writes what can be decoded")).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Packet(Packet),
    Publish(QoS),
    /// The client sends a QoS 2 message again, or lets one go.
    Again(usize),
    Release(usize),
    SettleOne(usize),
    Deliver(QoS),
    /// The client acknowledges the message that is so far back.
    Acknowledge(usize),
    Tick(u64),
}

fn step(version: Version) -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => packet(version).prop_map(Step::Packet),
        6 => qos().prop_map(Step::Publish),
        1 => (0..5usize).prop_map(Step::Again),
        3 => (0..5usize).prop_map(Step::Release),
        6 => (0..20usize).prop_map(Step::SettleOne),
        4 => qos().prop_map(Step::Deliver),
        4 => (0..5usize).prop_map(Step::Acknowledge),
        1 => (0..40u64).prop_map(Step::Tick),
    ]
}

fn steps() -> impl Strategy<Value = (Version, Vec<Step>)> {
    prop_oneof![
        vec(step(Version::V311), 1..80).prop_map(|steps| (Version::V311, steps)),
        vec(step(Version::V5), 1..80).prop_map(|steps| (Version::V5, steps)),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same((version, packet) in versioned_packet(), cut in any::<prop::sample::Index>()) {
        let mut buffer = BytesMut::new();
        encode(&packet, version, &mut buffer);
        let mut decoder = Decoder::with_version(version, buffer.len());
        // Cut anywhere: nothing is taken before all is there.
        let mut part = buffer.clone();
        let rest = part.split_off(cut.index(buffer.len()));
        prop_assert_eq!(decoder.decode(&mut part).unwrap(), None);
        part.unsplit(rest);
        prop_assert_eq!(decoder.decode(&mut part).unwrap(), Some(packet));
        prop_assert!(part.is_empty());
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut input in vec(any::<u8>(), 0..400), v5 in any::<bool>(), kind in any::<u8>()) {
        // Half the time a plausible header, so that bodies are reached.
        if kind % 2 == 0 && input.len() > 2 && input.len() < 127 {
            input[0] = kind;
            input[1] = (input.len() - 2) as u8;
        }
        let version = if v5 { Version::V5 } else { Version::V311 };
        for mut decoder in [Decoder::with_version(version, 300), Decoder::server(300)] {
            let mut buffer = BytesMut::from(&input[..]);
            let mut session = open_session(version);
            while let Ok(Some(packet)) = decoder.decode(&mut buffer) {
                session.receive(packet, Duration::ZERO);
            }
            prop_assert!(buffer.len() <= input.len());
        }
    }

    #[test]
    fn damaged_packets_never_panic((version, packet) in versioned_packet(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut buffer = BytesMut::new();
        encode(&packet, version, &mut buffer);
        let index = at.index(buffer.len());
        buffer[index] = byte;
        let mut decoder = Decoder::with_version(version, 10_000);
        while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
    }

    /// Whatever comes: acknowledgements in the order of the publishes, each once and only for what was settled; a QoS 2
    /// message handed on once per release; never more in flight to the client than it allows; nothing after the end.
    #[test]
    fn a_session_keeps_its_invariants((version, steps) in steps()) {
        let mut world = World::new(version);
        for step in steps {
            world.take(step)?;
            world.check()?;
        }
    }

    #[test]
    fn the_trie_finds_what_a_naive_search_finds(
        operations in vec((any::<bool>(), 0..6u64, filter(), qos()), 0..60),
        name in name(),
    ) {
        let mut trie = Subscriptions::default();
        let mut naive: Vec<(String, u64, Grant)> = Vec::new();
        for (add, id, filter, qos) in operations {
            prop_assert_eq!(topics::check_filter(&filter), Ok(()));
            let shared = topics::split_share(&filter).unwrap();
            let known = naive.iter().position(|(known, owner, _)| *known == filter && *owner == id);
            let grant = Grant::of(qos);
            if add {
                prop_assert_eq!(trie.add(shared, id, grant), known.is_none());
                match known {
                    Some(index) => naive[index].2 = grant,
                    None => naive.push((filter, id, grant)),
                }
            } else {
                prop_assert_eq!(trie.remove(shared, id), known.is_some());
                if let Some(index) = known {
                    naive.swap_remove(index);
                }
            }
            prop_assert_eq!(trie.len(), naive.len());
        }
        let (mut found, mut groups) = (Vec::new(), Vec::new());
        trie.matching(&name, &mut found, &mut groups);
        prop_assert!(groups.is_empty());
        let found: Vec<(u64, QoS)> = found.into_iter().map(|Match { subscriber, qos, .. }| (subscriber, qos)).collect();
        let expected: Vec<(u64, QoS)> = (0..6u64)
            .filter_map(|id| {
                let matching = naive.iter().filter(|(filter, owner, _)| *owner == id && topics::matches(filter, &name));
                matching.map(|(_, _, grant)| grant.qos).max().map(|qos| (id, qos))
            })
            .collect();
        prop_assert_eq!(found, expected);
    }
}

/// A message that the session owes an acknowledgement for.
struct Owed {
    id: PacketId,
    qos: QoS,
    receipt: Option<Receipt>,
    settled: bool,
}

/// A session with its outflow as the door drives them, and what a client and the server's rest know.
struct World {
    version: Version,
    session: Session,
    flow: Outflow,
    now: Duration,
    next_id: u16,
    owed: VecDeque<Owed>,
    /// QoS 2 messages that the client may not use the identifier of, and whether PUBREC has come for them.
    unreleased: Vec<(PacketId, bool)>,
    in_flight: Vec<(PacketId, QoS)>,
    ended: bool,
}

impl World {
    fn new(version: Version) -> Self {
        let mut flow = Outflow::default();
        flow.resume(if version == Version::V5 { 5 } else { u16::MAX });
        Self {
            version,
            session: open_session(version),
            flow,
            now: Duration::ZERO,
            next_id: 0,
            owed: VecDeque::new(),
            unreleased: Vec::new(),
            in_flight: Vec::new(),
            ended: false,
        }
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Packet(packet) => self.receive(packet),
            Step::Publish(qos) => self.publish(qos)?,
            Step::Again(index) => {
                if let Some((id, _)) = self.unreleased.get(index).copied() {
                    let again = message(QoS::ExactlyOnce, Some(id), true);
                    let todo = self.session.receive(Packet::Publish(again), self.now);
                    prop_assert!(matches!(todo, Todo::Nothing), "handed on twice: {:?}", todo);
                    if !self.ended && self.unreleased[index].1 {
                        self.owed.push_back(Owed { id, qos: QoS::ExactlyOnce, receipt: None, settled: true });
                    }
                }
            }
            Step::Release(index) => {
                if let Some((id, true)) = self.unreleased.get(index).copied() {
                    self.receive(Packet::PubRel(Ack::new(id, ReasonCode::SUCCESS)));
                }
            }
            Step::SettleOne(index) => {
                if let Some(owed) = self.owed.get_mut(index)
                    && let Some(receipt) = owed.receipt
                {
                    self.session.settle(receipt, receipt);
                    owed.settled = true;
                }
            }
            Step::Deliver(qos) => {
                let message = Outbound { topic: "d".into(), payload: Bytes::new(), properties: None, expires: None };
                let limits = QueueLimits { messages_max: 100, bytes_max: 100_000 };
                let _ = self.flow.push(message.into(), (qos, false), Vec::new(), 0, Some(limits));
                while let Some(delivery) = self.flow.next(Timestamp::from_seconds(1), 0, &mut Vec::new()) {
                    self.session.deliver(&delivery);
                }
            }
            Step::Acknowledge(index) => {
                if let Some((id, qos)) = self.in_flight.get(index).copied() {
                    let ack = Ack::new(id, ReasonCode::SUCCESS);
                    match qos {
                        QoS::ExactlyOnce => {
                            self.receive(Packet::PubRec(ack.clone()));
                            self.receive(Packet::PubComp(ack));
                        }
                        _ => self.receive(Packet::PubAck(ack)),
                    }
                }
            }
            Step::Tick(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.ended |= self.session.tick(self.now).is_some();
            }
        }
        Ok(())
    }

    fn receive(&mut self, packet: Packet) {
        let of_message = match &packet {
            Packet::Publish(message) => message.packet_id.map(|id| (id, message.qos)),
            _ => None,
        };
        let known = |world: &Self, id| world.unreleased.iter().position(|(known, _)| *known == id);
        match (self.session.receive(packet, self.now), of_message) {
            (Todo::Publish(Inbound { receipt, .. }), Some((id, qos))) => self.owe(id, qos, receipt),
            (Todo::Refused { .. }, Some((id, qos))) => {
                self.owed.push_back(Owed { id, qos, receipt: None, settled: true });
            }
            (Todo::Nothing, Some((id, QoS::ExactlyOnce)))
                if !self.ended && known(self, id).is_some_and(|index| self.unreleased[index].1) =>
            {
                self.owed.push_back(Owed { id, qos: QoS::ExactlyOnce, receipt: None, settled: true });
            }
            (Todo::Complete(id), _) => {
                self.unreleased.retain(|(known, _)| *known != id);
                self.session.completed(id);
            }
            (Todo::Acknowledged(acknowledged), _) => self.acknowledged(acknowledged),
            (Todo::Close(_), _) => self.ended = true,
            _ => {}
        }
    }

    fn owe(&mut self, id: PacketId, qos: QoS, receipt: Option<Receipt>) {
        self.owed.push_back(Owed { id, qos, receipt, settled: false });
        if qos == QoS::ExactlyOnce {
            self.unreleased.push((id, false));
        }
    }

    fn acknowledged(&mut self, acknowledged: Acknowledged) {
        let done = match acknowledged {
            Acknowledged::Ack(id) => self.flow.acknowledge(id).map(|_| id),
            Acknowledged::Complete(id) => self.flow.complete(id).map(|_| id),
            Acknowledged::Received(id, code) => match self.flow.received(id, code) {
                Receipted::Done(_) => Some(id),
                Receipted::Release(_) | Receipted::Again => {
                    self.session.release(id, ReasonCode::SUCCESS);
                    None
                }
                Receipted::Unknown => {
                    self.session.release(id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
                    None
                }
            },
        };
        self.in_flight.retain(|(known, _)| Some(*known) != done);
    }

    fn publish(&mut self, qos: QoS) -> Result<(), TestCaseError> {
        self.next_id = self.next_id % 60_000 + 1;
        let packet_id = PacketId::new(self.next_id).filter(|_| qos != QoS::AtMostOnce);
        // The client keeps to the announced maximum, and to identifiers that are its own.
        let own = packet_id.is_none_or(|id| self.unreleased.iter().all(|(known, _)| *known != id));
        if !own || self.owed.len() + self.unreleased.len() >= usize::from(INBOUND_INFLIGHT_MAX) {
            return Ok(());
        }
        match self.session.receive(Packet::Publish(message(qos, packet_id, false)), self.now) {
            Todo::Publish(inbound) => {
                prop_assert!(!self.ended);
                prop_assert_eq!(inbound.receipt.is_some(), packet_id.is_some());
                if let Some(id) = packet_id {
                    self.owe(id, qos, inbound.receipt);
                }
            }
            Todo::Nothing => prop_assert!(self.ended),
            other => prop_assert!(false, "{:?}", other),
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        for packet in decode_all(self.version, self.session.outbox()) {
            match packet {
                Packet::PubAck(ack) => self.settled(QoS::AtLeastOnce, &ack)?,
                Packet::PubRec(ack) => {
                    self.settled(QoS::ExactlyOnce, &ack)?;
                    match ack.code.is_error() {
                        true => self.unreleased.retain(|(id, _)| *id != ack.packet_id),
                        false => {
                            for known in self.unreleased.iter_mut().filter(|known| known.0 == ack.packet_id) {
                                known.1 = true;
                            }
                        }
                    }
                }
                Packet::Publish(publish) => {
                    if let Some(id) = publish.packet_id {
                        prop_assert!(self.in_flight.iter().all(|(known, _)| *known != id));
                        self.in_flight.push((id, publish.qos));
                    }
                }
                Packet::PubRel(_) | Packet::PubComp(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                }
                Packet::Disconnect(_) => prop_assert!(self.ended && self.version == Version::V5),
                other => prop_assert!(false, "{:?}", other),
            }
        }
        let window = if self.version == Version::V5 { 5 } else { 100 };
        prop_assert!(self.in_flight.len() <= window);
        prop_assert!(self.ended || self.session.acks_owed() == self.owed.len());
        prop_assert!(self.session.acks_owed() <= usize::from(INBOUND_INFLIGHT_MAX));
        Ok(())
    }

    fn settled(&mut self, qos: QoS, ack: &Ack) -> Result<(), TestCaseError> {
        let owed = self.owed.pop_front().expect("an ack is owed");
        prop_assert!(owed.settled);
        prop_assert_eq!((owed.id, owed.qos), (ack.packet_id, qos));
        Ok(())
    }
}

fn message(qos: QoS, packet_id: Option<PacketId>, dup: bool) -> Publish {
    Publish {
        topic: "t".into(),
        payload: Bytes::new(),
        qos,
        packet_id,
        dup,
        retain: false,
        topic_alias: None,
        subscription_ids: Vec::new(),
        properties: None,
    }
}

fn name() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "", "$c"]), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a name", |n| !n.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let deep = (vec(select(vec!["a", "b", "", "$c", "+"]), 1..5), any::<bool>())
        .prop_map(|(levels, rest)| if rest { format!("{}/#", levels.join("/")) } else { levels.join("/") })
        .prop_filter("a filter", |filter| !filter.is_empty());
    prop_oneof![9 => deep, 1 => Just("#".to_owned())]
}

#[test]
fn the_decoder_holds_no_more_than_what_came() {
    // A header that announces a megabyte must not reserve it.
    let mut decoder = Decoder::with_version(Version::V311, 2 << 20);
    let mut buffer = BytesMut::from(&b"\x30\x80\x80\x40"[..]);
    assert_eq!(decoder.decode(&mut buffer).unwrap(), None);
    assert!(buffer.capacity() < 1024, "{} bytes were reserved", buffer.capacity());
}
