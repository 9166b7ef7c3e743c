//! Bytes from the network → decoder (both versions) → session machine, as the door drives them.
#![no_main]

use bytes::BytesMut;
use kilter_core::Timestamp;
use kilter_mqtt::{
    Decoder, Packet, QoS, ReasonCode, Version,
    client::{ClientOptions, ClientSession},
    encode,
    outflow::{Outbound, Outflow, QueueLimits, Receipted},
    session::{Acknowledged, Admission, Limits, Session, Todo},
};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

const LIMITS: Limits = Limits { payload_bytes_max: 512, packet_bytes_max: 1024, ..Limits::DEFAULT };
const QUEUE: QueueLimits = QueueLimits { messages_max: 20, bytes_max: 10_000 };

// The first byte chooses the way, the second where the input is cut into two reads.
fuzz_target!(|input: &[u8]| {
    let [way, cut, rest @ ..] = input else { return };
    let reads = rest.split_at(rest.len() * usize::from(*cut) / 256);
    match way % 4 {
        0 => serve(Decoder::server(1024), Session::new(LIMITS, Duration::ZERO), reads),
        1 => serve_open(Version::V311, reads),
        2 => serve_open(Version::V5, reads),
        _ => follow(if way & 4 == 0 { Version::V311 } else { Version::V5 }, reads),
    }
});

/// After a CONNECT that was accepted.
fn serve_open(version: Version, reads: (&[u8], &[u8])) {
    let options = ClientOptions { version, client_id: "c".into(), keep_alive: 60, inflight_max: 1, will: None };
    let mut client = ClientSession::new(options, Duration::ZERO);
    let mut decoder = Decoder::server(1024);
    let mut session = Session::new(LIMITS, Duration::ZERO);
    let connect = decoder.decode(client.outbox()).expect("our own CONNECT decodes").expect("it is whole");
    assert!(matches!(session.receive(connect, Duration::ZERO), Todo::Connect(_)));
    session.accept(Admission::default());
    serve(decoder, session, reads);
}

fn serve(mut decoder: Decoder, mut session: Session, reads: (&[u8], &[u8])) {
    let mut now = Duration::ZERO;
    let mut buffer = BytesMut::new();
    let mut receipts = Vec::new();
    let mut flow = Outflow::default();
    for read in [reads.0, reads.1] {
        buffer.extend_from_slice(read);
        loop {
            let packet = match decoder.decode(&mut buffer) {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(error) => {
                    session.undecodable(&error);
                    check_outbox(&mut session);
                    return;
                }
            };
            check_round_trip(&packet, &session);
            now += Duration::from_millis(100);
            let todo = session.receive(packet, now);
            receipts.extend(act(&mut session, &mut flow, todo));
        }
        if let (Some(first), Some(last)) = (receipts.first(), receipts.last()) {
            session.settle(*first, *last);
        }
        if session.is_open() {
            assert_eq!(session.acks_owed(), 0, "all receipts are settled");
        }
        assert!(flow.unacknowledged() <= QUEUE.messages_max);
        check_outbox(&mut session);
    }
    session.tick(now + Duration::from_secs(10_000));
    session.close(ReasonCode::SERVER_SHUTTING_DOWN, "done");
    check_outbox(&mut session);
}

/// What the door does, with a disk that is at once: what comes in goes back to the client.
fn act(session: &mut Session, flow: &mut Outflow, todo: Todo) -> Option<kilter_mqtt::session::Receipt> {
    match todo {
        Todo::Connect(_) => {
            session.accept(Admission::default());
            flow.resume(session.receive_max());
        }
        Todo::Publish(inbound) => {
            let message =
                Outbound { topic: inbound.topic, payload: inbound.payload, properties: inbound.properties, expires: None };
            let _ = flow.push(message.into(), (inbound.qos, inbound.retain), vec![1], 0, Some(QUEUE));
            while let Some(delivery) = flow.next(Timestamp::from_seconds(1), 0, &mut Vec::new()) {
                session.deliver(&delivery);
            }
            return inbound.receipt;
        }
        Todo::Complete(id) => session.completed(id),
        Todo::Acknowledged(Acknowledged::Ack(id)) => drop(flow.acknowledge(id)),
        Todo::Acknowledged(Acknowledged::Complete(id)) => drop(flow.complete(id)),
        Todo::Acknowledged(Acknowledged::Received(id, code)) => match flow.received(id, code) {
            Receipted::Release(_) | Receipted::Again => session.release(id, ReasonCode::SUCCESS),
            Receipted::Unknown => session.release(id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND),
            Receipted::Done(_) => {}
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
            session.take_will();
            assert!(!session.is_open());
        }
        Todo::Nothing | Todo::Refused { .. } => {}
    }
    None
}

/// What was decoded encodes to what decodes to the same.
fn check_round_trip(packet: &Packet, session: &Session) {
    let version = match packet {
        Packet::Connect(connect) => connect.version,
        Packet::Auth(_) => return,
        _ => session.version(),
    };
    let mut bytes = BytesMut::new();
    encode(packet, version, &mut bytes);
    let again = Decoder::with_version(version, usize::MAX).decode(&mut bytes);
    assert_eq!(again.as_ref(), Ok(&Some(packet.clone())));
}

/// What the session writes, a client can read.
fn check_outbox(session: &mut Session) {
    let mut decoder = Decoder::with_version(session.version(), usize::MAX);
    while decoder.decode(session.outbox()).expect("the session writes whole packets").is_some() {}
    assert!(session.outbox().is_empty());
}

/// The client's end, fed by a hostile server.
fn follow(version: Version, reads: (&[u8], &[u8])) {
    let options = ClientOptions { version, client_id: "c".into(), keep_alive: 60, inflight_max: 3, will: None };
    let mut client = ClientSession::new(options, Duration::ZERO);
    let mut decoder = Decoder::with_version(version, 1024);
    let mut buffer = BytesMut::new();
    for read in [reads.0, reads.1] {
        buffer.extend_from_slice(read);
        while let Ok(Some(packet)) = decoder.decode(&mut buffer) {
            client.receive(packet, Duration::ZERO);
            let _ = client.publish(&"t".into(), Default::default(), QoS::AtLeastOnce, None, Duration::ZERO);
            assert!(client.settled() <= client.published());
        }
    }
}
