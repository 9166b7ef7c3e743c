//! The server's end of a connection, step by step: what is answered, announced, refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{Bytes, BytesMut};
use kilter_mqtt::{
    DecodeError, Decoder, Packet, PacketId, QoS, ReasonCode, Version,
    outflow::{Delivery, Outbound},
    packet::{
        Ack, ConnAck, Connect, Disconnect, MessageProperties, Publish, Subscribe, Subscription, Unsubscribe, Will,
    },
    session::{Admission, Delivered, Limits, SESSION_EXPIRY_SECONDS_MAX, SUBSCRIPTIONS_MAX, Session, Todo},
};
use std::{num::NonZeroU16, sync::Arc, time::Duration};

const LIMITS: Limits = Limits { payload_bytes_max: 1000, packet_bytes_max: 2000, ..Limits::DEFAULT };
const START: Duration = Duration::from_secs(1000);
const BOTH: [Version; 2] = [Version::V311, Version::V5];

fn connect(version: Version) -> Connect {
    Connect::new(version, "c", 60)
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
        subscription_ids: Vec::new(),
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
    session.accept(Admission::default());
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
fn what_is_granted_is_announced() {
    let asked = Connect { session_expiry: Some(u32::MAX), keep_alive: 3000, ..connect(Version::V5) };
    let (session, ack) = open(asked);
    assert_eq!(ack.session_expiry, Some(SESSION_EXPIRY_SECONDS_MAX));
    assert_eq!(session.session_expiry(), SESSION_EXPIRY_SECONDS_MAX);
    assert_eq!(ack.server_keep_alive, Some(1200));
    assert_eq!(ack.receive_max, NonZeroU16::new(1000));
    assert_eq!(ack.packet_bytes_max, Some(2000));
    assert_eq!((ack.qos_max, ack.topic_alias_max), (None, Some(8)));
    assert_eq!((ack.retain_available, ack.wildcards_available), (None, None));
    assert_eq!((ack.subscription_ids_available, ack.shared_available), (None, None));
    let (session, ack) = open(Connect { session_expiry: Some(300), ..connect(Version::V5) });
    assert_eq!((session.session_expiry(), ack.session_expiry), (300, None), "as asked: nothing to say");
    let (session, ack) = open(connect(Version::V311));
    assert_eq!((session.session_expiry(), ack), (0, ConnAck::default()));
    let (session, _) = open(Connect { clean: false, ..connect(Version::V311) });
    assert_eq!(session.session_expiry(), SESSION_EXPIRY_SECONDS_MAX);
}

#[test]
fn connects_that_break_a_rule_are_refused_with_their_code() {
    let long = "x".repeat(129);
    for version in BOTH {
        let base = || connect(version);
        let no = Some(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        assert_eq!(refused(Connect { client_id: long.clone(), ..base() }), no);
        let reserved = Will { topic: "$SYS/x".into(), ..will() };
        assert_eq!(refused(Connect { will: Some(reserved), ..base() }), Some(ReasonCode::NOT_AUTHORIZED));
        let large = Will { payload: Bytes::from(vec![0; 1001]), ..will() };
        assert!(refused(Connect { will: Some(large), ..base() }).is_some());
    }
    let nameless = Connect { client_id: String::new(), clean: false, ..connect(Version::V311) };
    assert_eq!(refused(nameless), Some(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID));
    let v5 = || connect(Version::V5);
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
    let ack = |id, code: ReasonCode| {
        let reason_string = code.is_error().then(|| code.words().to_owned());
        Packet::PubAck(Ack { packet_id: PacketId::new(id).unwrap(), code, reason_string })
    };
    let (yes, no) = (ReasonCode::SUCCESS, ReasonCode::NOT_AUTHORIZED);
    assert_eq!(sent(&mut session), [ack(1, yes), ack(2, no), ack(3, yes)]);

    let (mut session, _) = open(connect(Version::V311));
    let closing = session.publish_refused(None, ReasonCode::NOT_AUTHORIZED, "no").unwrap();
    assert_eq!(closing.code, ReasonCode::NOT_AUTHORIZED);
    assert!(session.outbox().is_empty(), "3.1.1 has no words for it");
}

fn delivery(size: usize, qos: QoS, id: Option<u16>) -> Delivery {
    let properties = MessageProperties { content_type: Some("text".into()), ..MessageProperties::default() };
    let message = Outbound {
        topic: "t".into(),
        payload: Bytes::from(vec![0; size]),
        properties: Some(Arc::new(properties)),
        expires: None,
    };
    Delivery {
        seq: 1,
        packet_id: id.and_then(PacketId::new),
        message: Arc::new(message),
        qos,
        retain: false,
        dup: false,
        subscription_ids: vec![5, 6],
        expires_in: None,
    }
}

#[test]
fn deliveries_keep_to_the_clients_size_and_version() {
    let limits = Connect { packet_bytes_max: Some(34), ..connect(Version::V5) };
    let (mut session, _) = open(limits);
    assert_eq!(session.deliver(&delivery(30, QoS::AtLeastOnce, Some(1))), Delivered::TooLarge);
    assert_eq!(session.deliver(&delivery(1, QoS::AtLeastOnce, Some(1))), Delivered::Sent);
    let Some(Packet::Publish(first)) = sent(&mut session).into_iter().next() else { panic!("no message") };
    assert_eq!(first.properties.unwrap().content_type.as_deref(), Some("text"));
    assert_eq!(first.subscription_ids, [5, 6]);

    let (mut session, _) = open(connect(Version::V311));
    session.deliver(&delivery(1, QoS::AtMostOnce, None));
    let Some(Packet::Publish(only)) = sent(&mut session).pop() else { panic!("no message") };
    assert_eq!((only.properties, only.packet_id, only.subscription_ids), (None, None, Vec::new()));
}

#[test]
fn what_is_left_of_the_expiry_travels_along() {
    let (mut session, _) = open(connect(Version::V5));
    session.deliver(&Delivery { expires_in: Some(7), ..delivery(1, QoS::AtMostOnce, None) });
    let Some(Packet::Publish(only)) = sent(&mut session).pop() else { panic!("no message") };
    assert_eq!(only.properties.unwrap().expiry, Some(7));
}

#[test]
fn topic_aliases_work_both_ways() {
    let (mut session, _) = open(Connect { topic_alias_max: Some(1), ..connect(Version::V5) });
    let other = Outbound { topic: "u".into(), payload: Bytes::new(), properties: None, expires: None };
    let other = Delivery { message: Arc::new(other), ..delivery(1, QoS::AtMostOnce, None) };
    for out in [&delivery(1, QoS::AtMostOnce, None), &delivery(1, QoS::AtMostOnce, None), &other] {
        session.deliver(out);
    }
    let out: Vec<_> = sent(&mut session)
        .into_iter()
        .map(|packet| match packet {
            Packet::Publish(publish) => (publish.topic.to_string(), publish.topic_alias.map(NonZeroU16::get)),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(out, [("t".into(), Some(1)), (String::new(), Some(1)), ("u".into(), None)]);

    let aliased = |topic: &str, alias| Publish {
        topic: topic.into(),
        topic_alias: NonZeroU16::new(alias),
        ..message(QoS::AtMostOnce)
    };
    for (topic, alias, found) in [("a", 8, "a"), ("", 8, "a"), ("b", 8, "b"), ("", 8, "b")] {
        let todo = session.receive(Packet::Publish(aliased(topic, alias)), START);
        let Todo::Publish(inbound) = todo else { panic!("{todo:?}") };
        assert_eq!(&*inbound.topic, found);
    }
    for (topic, alias, code) in [("", 3, ReasonCode::PROTOCOL_ERROR), ("a", 9, ReasonCode::TOPIC_ALIAS_INVALID)] {
        let (mut session, _) = open(connect(Version::V5));
        let Todo::Close(closing) = session.receive(Packet::Publish(aliased(topic, alias)), START) else {
            panic!("it goes on")
        };
        assert_eq!(closing.code, code);
    }
}

fn exactly(id: u16, dup: bool) -> Packet {
    Packet::Publish(Publish { packet_id: PacketId::new(id), dup, ..message(QoS::ExactlyOnce) })
}

fn release(id: u16) -> Packet {
    Packet::PubRel(Ack::new(PacketId::new(id).unwrap(), ReasonCode::SUCCESS))
}

#[test]
fn a_qos_2_message_is_handed_on_once_until_it_is_released() {
    for version in BOTH {
        let (mut session, _) = open(connect(version));
        let Todo::Publish(first) = session.receive(exactly(7, false), START) else { panic!("not taken") };
        assert_eq!((first.qos, first.packet_id), (QoS::ExactlyOnce, PacketId::new(7)));
        let again = session.receive(exactly(7, true), START);
        assert!(matches!(again, Todo::Nothing), "{again:?}");
        assert!(session.outbox().is_empty(), "it is not durable yet");
        session.settle(first.receipt.unwrap(), first.receipt.unwrap());
        let received = Packet::PubRec(Ack::new(PacketId::new(7).unwrap(), ReasonCode::SUCCESS));
        assert_eq!(sent(&mut session), std::slice::from_ref(&received));
        assert!(matches!(session.receive(exactly(7, true), START), Todo::Nothing));
        assert_eq!(sent(&mut session), [received], "acknowledged again, not handed on again");
        let Todo::Complete(id) = session.receive(release(7), START) else { panic!("not released") };
        assert!(session.outbox().is_empty(), "the identifier is not forgotten yet");
        session.completed(id);
        let complete = |code| Packet::PubComp(Ack::new(PacketId::new(7).unwrap(), code));
        assert_eq!(sent(&mut session), [complete(ReasonCode::SUCCESS)]);
        // A release that came too late is answered; and the identifier is free for another message.
        assert!(matches!(session.receive(release(7), START), Todo::Nothing));
        let Some(Packet::PubComp(answer)) = sent(&mut session).pop() else { panic!("no PUBCOMP") };
        let unknown = version == Version::V5;
        assert_eq!(answer.code == ReasonCode::PACKET_IDENTIFIER_NOT_FOUND, unknown);
        assert!(matches!(session.receive(exactly(7, false), START), Todo::Publish(_)));
    }
}

#[test]
fn a_refused_qos_2_message_frees_its_identifier() {
    let (mut session, _) = open(connect(Version::V5));
    let Todo::Publish(first) = session.receive(exactly(7, false), START) else { panic!("not taken") };
    assert_eq!(session.publish_refused(first.receipt, ReasonCode::NOT_AUTHORIZED, "no"), None);
    let Some(Packet::PubRec(answer)) = sent(&mut session).pop() else { panic!("no PUBREC") };
    assert_eq!(answer.code, ReasonCode::NOT_AUTHORIZED);
    assert!(matches!(session.receive(exactly(7, false), START), Todo::Publish(_)));
}

#[test]
fn a_resumed_session_knows_what_it_has_received() {
    let mut session = Session::new(LIMITS, START);
    session.receive(Packet::Connect(Box::new(Connect { clean: false, ..connect(Version::V5) })), START);
    session.accept(Admission {
        session_present: true,
        received: vec![PacketId::new(7).unwrap()],
        filters: vec!["a".into()],
        ..Admission::default()
    });
    let Some(Packet::ConnAck(ack)) = sent(&mut session).pop() else { panic!("no CONNACK") };
    assert!(ack.session_present);
    assert!(matches!(session.receive(exactly(7, true), START), Todo::Nothing));
    assert!(matches!(sent(&mut session).pop(), Some(Packet::PubRec(_))));
    assert!(matches!(session.receive(release(7), START), Todo::Complete(_)));
    let unsubscribe = Packet::Unsubscribe(Unsubscribe { packet_id: PacketId::MIN, filters: vec!["a".into()] });
    let Todo::Unsubscribe { filters, codes, .. } = session.receive(unsubscribe, START) else { panic!("not asked") };
    assert_eq!((filters, codes), (vec!["a".to_owned()], vec![ReasonCode::SUCCESS]));
}

#[test]
fn inflight_is_bounded_at_the_edge_and_one_past() {
    let limits = Limits { inflight_max: 2, ..LIMITS };
    let mut session = Session::new(limits, START);
    session.receive(Packet::Connect(Box::new(connect(Version::V5))), START);
    session.accept(Admission::default());
    sent(&mut session);
    let Todo::Publish(first) = session.receive(exactly(1, false), START) else { panic!("not taken") };
    // A QoS 2 message is in flight until it is complete.
    session.settle(first.receipt.unwrap(), first.receipt.unwrap());
    assert!(matches!(session.receive(exactly(2, false), START), Todo::Publish(_)));
    let Todo::Close(closing) = session.receive(exactly(3, false), START) else { panic!("it goes on") };
    assert_eq!(closing.code, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED);
}

#[test]
fn topic_depth_is_bounded_at_the_edge_and_one_past() {
    let limits = Limits { topic_slashes_max: 2, ..LIMITS };
    let mut session = Session::new(limits, START);
    session.receive(Packet::Connect(Box::new(connect(Version::V5))), START);
    session.accept(Admission::default());
    let on = |topic: &str| Packet::Publish(Publish { topic: topic.into(), ..message(QoS::AtMostOnce) });
    assert!(matches!(session.receive(on("a/b/c"), START), Todo::Publish(_)));
    assert!(matches!(session.receive(on("a/b/c/d"), START), Todo::Refused { .. }));
    assert!(matches!(session.receive(on("$aws/rules/r/a/b/c"), START), Todo::Publish(_)));
    assert!(matches!(session.receive(on("$SYS/x"), START), Todo::Refused { .. }));
    let asks = |filter: &str| Subscription {
        filter: filter.into(),
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    };
    let filters = ["a/b/#", "a/b/c/#", "$share/g/a/b/#", "$share/g/a/b/c/#", "$share/g", "a#"].map(asks).to_vec();
    let request = Subscribe { packet_id: PacketId::MIN, subscription_id: None, filters };
    let Todo::Subscribe(request) = session.receive(Packet::Subscribe(request), START) else { panic!("not asked") };
    let fine: Vec<bool> = request.filters.iter().map(Result::is_ok).collect();
    assert_eq!(fine, [true, false, true, false, false, false]);
}

#[test]
fn reason_strings_are_for_those_who_want_and_can_take_them() {
    let long = |connect: Connect| {
        let (mut session, _) = open(connect);
        let Todo::Publish(inbound) = session.receive(exactly(1, false), START) else { panic!("not taken") };
        session.publish_refused(inbound.receipt, ReasonCode::NOT_AUTHORIZED, "not told");
        let Some(Packet::PubRec(answer)) = sent(&mut session).pop() else { panic!("no PUBREC") };
        answer.reason_string
    };
    assert_eq!(long(connect(Version::V5)).as_deref(), Some("not authorized"));
    assert_eq!(long(Connect { problem_information: false, ..connect(Version::V5) }), None);
    assert_eq!(long(Connect { packet_bytes_max: Some(20), ..connect(Version::V5) }), None);
}

#[test]
fn shared_subscriptions_are_not_without_local_messages() {
    let (mut session, _) = open(connect(Version::V5));
    let subscription = Subscription {
        filter: "$share/g/a".into(),
        qos: QoS::AtLeastOnce,
        no_local: true,
        retain_as_published: false,
        retain_handling: 0,
    };
    let request = Subscribe { packet_id: PacketId::MIN, subscription_id: None, filters: vec![subscription] };
    let Todo::Close(closing) = session.receive(Packet::Subscribe(request), START) else { panic!("it goes on") };
    assert_eq!(closing.code, ReasonCode::PROTOCOL_ERROR);
}

#[test]
fn a_client_does_not_send_what_only_servers_do() {
    let wild = MessageProperties { response_topic: Some("a/+".into()), ..MessageProperties::default() };
    for publish in [
        Publish { subscription_ids: vec![1], ..message(QoS::AtMostOnce) },
        Publish { properties: Some(Box::new(wild)), ..message(QoS::AtMostOnce) },
    ] {
        let (mut session, _) = open(connect(Version::V5));
        let Todo::Close(closing) = session.receive(Packet::Publish(publish), START) else { panic!("it goes on") };
        assert_eq!(closing.code, ReasonCode::PROTOCOL_ERROR);
    }
    for packet in [Packet::PingResp, Packet::Auth(ReasonCode::SUCCESS)] {
        let (mut session, _) = open(connect(Version::V5));
        let Todo::Close(closing) = session.receive(packet, START) else { panic!("it goes on") };
        assert_eq!(closing.code, ReasonCode::PROTOCOL_ERROR);
    }
}

#[test]
fn an_answer_may_be_asked_for_and_an_identifier_assigned() {
    let mut session = Session::new(LIMITS, START);
    let nameless = Connect { client_id: String::new(), response_information: true, ..connect(Version::V5) };
    let todo = session.receive(Packet::Connect(Box::new(nameless)), START);
    let Todo::Connect(request) = todo else { panic!("{todo:?}") };
    assert!(request.client_id.is_empty() && request.response_information);
    session.accept(Admission {
        assigned_client_id: Some("auto-1".into()),
        response_information: Some("answers/".into()),
        ..Admission::default()
    });
    let Some(Packet::ConnAck(ack)) = sent(&mut session).pop() else { panic!("no CONNACK") };
    assert_eq!(ack.assigned_client_id.as_deref(), Some("auto-1"));
    assert_eq!(ack.response_information.as_deref(), Some("answers/"));
}

#[test]
fn a_goodbye_may_change_how_long_the_session_is_kept() {
    let (mut session, _) = open(Connect { session_expiry: Some(300), ..connect(Version::V5) });
    let farewell = Disconnect { session_expiry: Some(10), ..Disconnect::default() };
    session.receive(Packet::Disconnect(farewell), START);
    assert_eq!(session.session_expiry(), 10);
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
        Ok(subscription) => Ok((subscription.filter, subscription.qos)),
        Err((_, code)) => Err(code),
    });
    session.subscribed(request.packet_id, outcomes.collect());
    let Some(Packet::SubAck(answer)) = sent(&mut session).pop() else { panic!("no SUBACK") };
    assert_eq!(answer.codes.len(), SUBSCRIPTIONS_MAX + 1);
    assert_eq!(answer.codes[0], ReasonCode::GRANTED_QOS_2);
    assert_eq!(answer.codes[SUBSCRIPTIONS_MAX], ReasonCode::QUOTA_EXCEEDED);
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
