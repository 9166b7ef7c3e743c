//! The server's end of a connection, step by step: what is answered, announced, refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{Bytes, BytesMut};
use kilter_mqtt::{
    DecodeError, Decoder, Packet, PacketId, QoS, ReasonCode, Version,
    packet::{Ack, ConnAck, Connect, Disconnect, MessageProperties, Publish, Subscribe, Subscription, Will},
    session::{Delivered, Limits, Outbound, SUBSCRIPTIONS_MAX, Session, Todo},
};
use std::{num::NonZeroU16, sync::Arc, time::Duration};

const LIMITS: Limits =
    Limits { payload_bytes_max: 1000, packet_bytes_max: 2000, connect_time_max: Duration::from_secs(10) };
const START: Duration = Duration::from_secs(1000);
const BOTH: [Version; 2] = [Version::V311, Version::V5];

fn connect(version: Version) -> Connect {
    Connect {
        version,
        client_id: "c".into(),
        clean: true,
        keep_alive: 60,
        will: None,
        user_name: None,
        password: None,
        session_expiry: None,
        receive_max: None,
        packet_bytes_max: None,
        topic_alias_max: None,
        auth_method: None,
        problem_information: true,
    }
}

fn will() -> Will {
    Will {
        topic: "w".into(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay: None,
        properties: None,
    }
}

fn message(qos: QoS) -> Publish {
    Publish {
        topic: "t".into(),
        payload: Bytes::new(),
        qos,
        packet_id: (qos != QoS::AtMostOnce).then_some(PacketId::MIN),
        dup: false,
        retain: false,
        topic_alias: None,
        properties: None,
    }
}

fn sent(session: &mut Session) -> Vec<Packet> {
    let mut decoder = Decoder::with_version(session.version(), usize::MAX);
    std::iter::from_fn(|| decoder.decode(session.outbox()).unwrap()).collect()
}

/// A session after CONNECT, and what CONNACK said.
fn open(connect: Connect) -> (Session, ConnAck) {
    let mut session = Session::new(LIMITS, START);
    let todo = session.receive(Packet::Connect(Box::new(connect)), START);
    assert!(matches!(todo, Todo::Connect(_)), "{todo:?}");
    session.accept();
    let Some(Packet::ConnAck(ack)) = sent(&mut session).pop() else { panic!("no CONNACK") };
    (session, *ack)
}

fn refused(connect: Connect) -> Option<ReasonCode> {
    let mut session = Session::new(LIMITS, START);
    let todo = session.receive(Packet::Connect(Box::new(connect)), START);
    assert!(matches!(todo, Todo::Close(_)), "{todo:?}");
    assert!(session.take_will().is_none(), "a client that never got in has no will");
    match sent(&mut session).pop() {
        Some(Packet::ConnAck(ack)) => Some(ack.code),
        _ => None,
    }
}

#[test]
fn what_is_not_available_is_announced() {
    let (_, ack) = open(Connect { session_expiry: Some(300), keep_alive: 3000, ..connect(Version::V5) });
    assert_eq!(ack.session_expiry, Some(0));
    assert_eq!(ack.server_keep_alive, Some(1200));
    assert_eq!(ack.receive_max, NonZeroU16::new(1000));
    assert_eq!(ack.packet_bytes_max, Some(2000));
    assert_eq!((ack.qos_max, ack.topic_alias_max), (Some(1), Some(0)));
    assert_eq!(ack.retain_available, Some(false));
    assert_eq!((ack.subscription_ids_available, ack.shared_available), (Some(false), Some(false)));
    let (_, ack) = open(connect(Version::V311));
    assert_eq!(ack, ConnAck::default());
}

#[test]
fn connects_that_break_a_rule_are_refused_with_their_code() {
    let long = "x".repeat(129);
    for version in BOTH {
        let base = || connect(version);
        let no = Some(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        assert_eq!(refused(Connect { client_id: String::new(), ..base() }), no);
        assert_eq!(refused(Connect { client_id: long.clone(), ..base() }), no);
        let reserved = Will { topic: "$SYS/x".into(), ..will() };
        assert_eq!(refused(Connect { will: Some(reserved), ..base() }), Some(ReasonCode::NOT_AUTHORIZED));
        let exactly_once = Will { qos: QoS::ExactlyOnce, ..will() };
        assert!(refused(Connect { will: Some(exactly_once), ..base() }).is_some());
        let large = Will { payload: Bytes::from(vec![0; 1001]), ..will() };
        assert!(refused(Connect { will: Some(large), ..base() }).is_some());
    }
    let v5 = || connect(Version::V5);
    let retained = Will { retain: true, ..will() };
    assert_eq!(refused(Connect { will: Some(retained), ..v5() }), Some(ReasonCode::RETAIN_NOT_SUPPORTED));
    let asks = Connect { auth_method: Some("SCRAM".into()), ..v5() };
    assert_eq!(refused(asks), Some(ReasonCode::BAD_AUTHENTICATION_METHOD));
}

#[test]
fn another_version_is_told_so() {
    let mut session = Session::new(LIMITS, START);
    let mut buffer = BytesMut::from(&b"\x10\x0c\0\x04MQTT\x03\x02\0\x3c\0\0"[..]);
    let error = Decoder::server(100).decode(&mut buffer).unwrap_err();
    assert_eq!(error, DecodeError::UnsupportedVersion(3));
    let closing = session.undecodable(&error);
    assert_eq!(closing.code, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
    assert_eq!(&session.outbox()[..], b"\x20\x02\0\x01");
}

#[test]
fn silence_ends_it_after_one_and_a_half_keep_alives() {
    for (asked, seconds) in [(60, 90), (0, 1800), (u16::MAX, 1800)] {
        let (mut session, _) = open(Connect { keep_alive: asked, ..connect(Version::V5) });
        let end = START + Duration::from_secs(seconds);
        assert_eq!(session.deadline(), end);
        assert_eq!(session.tick(end - Duration::from_millis(1)), None);
        session.receive(Packet::PingReq, START + Duration::from_secs(10));
        assert_eq!(session.tick(end), None);
        let closing = session.tick(end + Duration::from_secs(10)).unwrap();
        assert_eq!(closing.code, ReasonCode::KEEP_ALIVE_TIMEOUT);
        let farewell = Disconnect { code: ReasonCode::KEEP_ALIVE_TIMEOUT, ..Disconnect::default() };
        assert_eq!(sent(&mut session), [Packet::PingResp, Packet::Disconnect(farewell)]);
        assert_eq!(session.tick(end + Duration::from_secs(99_999)), None, "it ends once");
    }
}

#[test]
fn the_will_stays_after_everything_but_a_goodbye() {
    let goodbye = |code| Packet::Disconnect(Disconnect { code, ..Disconnect::default() });
    for (version, code, remains) in [
        (Version::V311, ReasonCode::SUCCESS, false),
        (Version::V5, ReasonCode::SUCCESS, false),
        (Version::V5, ReasonCode::DISCONNECT_WITH_WILL, true),
        (Version::V5, ReasonCode::UNSPECIFIED_ERROR, true),
    ] {
        let (mut session, _) = open(Connect { will: Some(will()), ..connect(version) });
        let Todo::Close(closing) = session.receive(goodbye(code), START) else { panic!("it goes on") };
        assert!(closing.by_client);
        assert_eq!(session.take_will().is_some(), remains, "{version:?} {code}");
        assert!(session.outbox().is_empty(), "a goodbye has no answer");
    }
    let (mut session, _) = open(Connect { will: Some(will()), ..connect(Version::V5) });
    session.close(ReasonCode::SESSION_TAKEN_OVER, "another came");
    assert!(session.take_will().is_some());
}

#[test]
fn a_session_that_was_to_end_cannot_be_prolonged() {
    let (mut session, _) = open(connect(Version::V5));
    let farewell = Disconnect { session_expiry: Some(60), ..Disconnect::default() };
    let Todo::Close(closing) = session.receive(Packet::Disconnect(farewell), START) else { panic!("it goes on") };
    assert_eq!(closing.code, ReasonCode::PROTOCOL_ERROR);
}

#[test]
fn retained_messages_are_refused_in_5_and_published_in_3() {
    let retained = Publish { retain: true, ..message(QoS::AtLeastOnce) };
    let (mut session, _) = open(connect(Version::V311));
    assert!(matches!(session.receive(Packet::Publish(retained.clone()), START), Todo::Publish(_)));
    let (mut session, _) = open(connect(Version::V5));
    let Todo::Close(closing) = session.receive(Packet::Publish(retained), START) else { panic!("it goes on") };
    assert_eq!(closing.code, ReasonCode::RETAIN_NOT_SUPPORTED);
}

#[test]
fn a_refused_message_is_acknowledged_in_its_turn() {
    let (mut session, _) = open(connect(Version::V5));
    let mut receipts = Vec::new();
    for id in 1..=3 {
        let publish = Publish { packet_id: PacketId::new(id), ..message(QoS::AtLeastOnce) };
        let Todo::Publish(inbound) = session.receive(Packet::Publish(publish), START) else { panic!("refused") };
        receipts.push(inbound.receipt.unwrap());
    }
    assert_eq!(session.publish_refused(Some(receipts[1]), ReasonCode::NOT_AUTHORIZED, "no"), None);
    session.settle(receipts[2], receipts[2]);
    assert!(session.outbox().is_empty(), "the first is not durable yet");
    session.settle(receipts[0], receipts[0]);
    let ack = |id, code| Packet::PubAck(Ack { packet_id: PacketId::new(id).unwrap(), code });
    let (yes, no) = (ReasonCode::SUCCESS, ReasonCode::NOT_AUTHORIZED);
    assert_eq!(sent(&mut session), [ack(1, yes), ack(2, no), ack(3, yes)]);

    let (mut session, _) = open(connect(Version::V311));
    let closing = session.publish_refused(None, ReasonCode::NOT_AUTHORIZED, "no").unwrap();
    assert_eq!(closing.code, ReasonCode::NOT_AUTHORIZED);
    assert!(session.outbox().is_empty(), "3.1.1 has no words for it");
}

#[test]
fn deliveries_keep_to_the_clients_window_and_size() {
    let limits = Connect { receive_max: NonZeroU16::new(2), packet_bytes_max: Some(30), ..connect(Version::V5) };
    let (mut session, _) = open(limits);
    let properties = MessageProperties { content_type: Some("text".into()), ..MessageProperties::default() };
    let outbound = |size| Outbound {
        topic: "t".into(),
        payload: Bytes::from(vec![0; size]),
        properties: Some(Arc::new(properties.clone())),
    };
    assert_eq!(session.deliver(&outbound(30), QoS::AtLeastOnce), Delivered::TooLarge);
    assert_eq!(session.deliver(&outbound(1), QoS::AtLeastOnce), Delivered::Sent);
    assert_eq!(session.deliver(&outbound(1), QoS::AtLeastOnce), Delivered::Sent);
    assert!(!session.can_deliver());
    let Some(Packet::Publish(first)) = sent(&mut session).into_iter().next() else { panic!("no message") };
    assert_eq!(first.properties.as_deref(), Some(&properties));
    let ack = Ack { packet_id: first.packet_id.unwrap(), code: ReasonCode::SUCCESS };
    session.receive(Packet::PubAck(ack), START);
    assert!(session.can_deliver());

    let (mut session, _) = open(connect(Version::V311));
    session.deliver(&outbound(1), QoS::AtMostOnce);
    let Some(Packet::Publish(only)) = sent(&mut session).pop() else { panic!("no message") };
    assert_eq!((only.properties, only.packet_id), (None, None));
}

#[test]
fn subscriptions_are_counted_and_answered_one_by_one() {
    let (mut session, _) = open(connect(Version::V5));
    let filters = (0..SUBSCRIPTIONS_MAX + 1).map(|i| Subscription {
        filter: format!("t/{i}"),
        qos: QoS::ExactlyOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    });
    let request = Subscribe { packet_id: PacketId::MIN, subscription_id: None, filters: filters.collect() };
    let Todo::Subscribe(request) = session.receive(Packet::Subscribe(request), START) else { panic!("not asked") };
    let outcomes = request.filters.into_iter().map(|filter| match filter {
        Ok(subscription) => Ok((subscription.filter, Session::granted(subscription.qos))),
        Err((_, code)) => Err(code),
    });
    session.subscribed(request.packet_id, outcomes.collect());
    let Some(Packet::SubAck(answer)) = sent(&mut session).pop() else { panic!("no SUBACK") };
    assert_eq!(answer.codes.len(), SUBSCRIPTIONS_MAX + 1);
    assert_eq!(answer.codes[0], ReasonCode::GRANTED_QOS_1);
    assert_eq!(answer.codes[SUBSCRIPTIONS_MAX], ReasonCode::QUOTA_EXCEEDED);
    assert_eq!(session.filters().len(), SUBSCRIPTIONS_MAX);
}

#[test]
fn nothing_comes_before_connect_and_nothing_after_the_end() {
    let mut session = Session::new(LIMITS, START);
    let Todo::Close(closing) = session.receive(Packet::PingReq, START) else { panic!("it goes on") };
    assert_eq!(closing.code, ReasonCode::PROTOCOL_ERROR);
    assert!(session.outbox().is_empty());
    assert!(matches!(session.receive(Packet::PingReq, START), Todo::Nothing));
    assert!(session.outbox().is_empty());
}
