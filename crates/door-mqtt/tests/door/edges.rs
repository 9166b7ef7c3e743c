//! What `[mqtt_limits]` bounds, at the edge and one past it. Rates are in `rates.rs`, what a slow disk holds up in
//! `limits.rs`.

use crate::{
    fixtures::{House, eventually, logged},
    raw::{Raw, ack, connect, message, subscription},
    still::{stop_time, until},
};
use bytes::{Bytes, BytesMut};
use kilter_door_mqtt::{QoS, Version};
use kilter_mqtt::{
    Packet, ReasonCode, encode,
    outflow::MESSAGE_OVERHEAD_BYTES,
    packet::{MessageProperties, Publish},
};
use std::time::Duration;
use tokio::{io::AsyncReadExt, net::TcpStream};

/// Beside the payload, in a packet.
const PACKET_OVERHEAD_BYTES_MAX: usize = 16 * 1024;

async fn open(house: &House, client_id: &str) -> Raw {
    Raw::open(house, connect(client_id, Version::V5)).await.0
}

/// What the server says to a message of QoS 1.
async fn answer(client: &mut Raw, publish: Publish) -> Option<ReasonCode> {
    client.send(Packet::Publish(publish)).await;
    match client.next().await {
        Some(Packet::PubAck(ack)) => Some(ack.code),
        Some(Packet::Disconnect(farewell)) => Some(farewell.code),
        other => panic!("{other:?}"),
    }
}

/// A message whose packet has exactly so many bytes.
fn padded(packet_bytes: usize) -> Publish {
    let of = |padding: usize| Publish {
        properties: Some(Box::new(MessageProperties {
            user: vec![("k".into(), "x".repeat(padding))],
            ..MessageProperties::default()
        })),
        ..message("t/x", "x", QoS::AtLeastOnce, 1)
    };
    let bytes_of = |publish: Publish| {
        let mut bytes = BytesMut::new();
        encode(&Packet::Publish(publish), Version::V5, &mut bytes);
        bytes.len()
    };
    // Near the result, so that the lengths have as many bytes as there.
    let near = packet_bytes - 100;
    let padding = near + packet_bytes - bytes_of(of(near));
    assert_eq!(bytes_of(of(padding)), packet_bytes);
    of(padding)
}

#[tokio::test]
async fn a_packet_has_room_for_16_kib_around_the_largest_payload() {
    let house = House::open_with(|config| config.payload_bytes_max = 10_000).await;
    let (mut client, answered) = Raw::open(&house, connect("dev-1", Version::V5)).await;
    let most = 10_000 + PACKET_OVERHEAD_BYTES_MAX;
    assert_eq!(answered.packet_bytes_max, Some(u32::try_from(most).unwrap()));
    assert_eq!(answer(&mut client, padded(most)).await, Some(ReasonCode::SUCCESS));
    assert_eq!(answer(&mut client, padded(most + 1)).await, Some(ReasonCode::PACKET_TOO_LARGE));
}

#[tokio::test]
async fn topics_and_filters_have_as_many_levels_as_may_be() {
    let house = House::open_with(|config| config.topic_levels_max = 3).await;
    let mut client = open(&house, "dev-1").await;
    for (topic, code) in [("t/2/3", ReasonCode::SUCCESS), ("t/2/3/4", ReasonCode::TOPIC_NAME_INVALID)] {
        assert_eq!(answer(&mut client, message(topic, "x", QoS::AtLeastOnce, 1)).await, Some(code));
        let filter = vec![subscription(topic, QoS::AtLeastOnce)];
        let granted = client.subscribe(None, filter).await;
        assert_eq!(granted[0].is_error(), code.is_error(), "{granted:?}");
    }
}

#[tokio::test]
async fn a_session_has_as_many_subscriptions_as_may_be() {
    let house = House::open_with(|config| config.subscriptions_max = 2).await;
    let mut client = open(&house, "dev-1").await;
    for (filter, code) in [
        ("t/1", ReasonCode::GRANTED_QOS_1),
        ("t/2", ReasonCode::GRANTED_QOS_1),
        ("t/3", ReasonCode::QUOTA_EXCEEDED),
        ("t/2", ReasonCode::GRANTED_QOS_1),
    ] {
        assert_eq!(client.subscribe(None, vec![subscription(filter, QoS::AtLeastOnce)]).await, [code], "{filter}");
    }
}

#[tokio::test]
async fn a_queue_holds_as_many_bytes_as_may_be() {
    const BYTES: usize = 1_000;
    let fits = BYTES - MESSAGE_OVERHEAD_BYTES - "t/x".len();
    let house = House::open_with(|config| config.queue_bytes_max = BYTES).await;
    for (id, bytes, kept) in [("dev-edge", fits, true), ("dev-past", fits + 1, false)] {
        let mut listener = open(&house, id).await;
        listener.subscribe(None, vec![subscription("t/x", QoS::AtLeastOnce)]).await;
        listener.vanish().await;
        eventually("it is gone", || house.deliver.sessions().iter().all(|session| session.peer.is_none())).await;
        let mut publisher = open(&house, "dev-publisher").await;
        let payload = "x".repeat(bytes);
        let said = answer(&mut publisher, message("t/x", &payload, QoS::AtLeastOnce, 1)).await;
        assert_eq!(said, Some(ReasonCode::SUCCESS), "the publisher is not told of one subscriber's queue");
        publisher.vanish().await;
        let mut listener = open(&house, id).await;
        match kept {
            true => assert_eq!(listener.publish().await.payload.len(), bytes),
            false => assert!(listener.until_quiet().await.is_empty()),
        }
        listener.send(Packet::PubAck(ack(1))).await;
        listener.vanish().await;
    }
    logged(&["dev-past", "its queue is full while it is away"]).await;
}

#[tokio::test]
async fn retained_messages_have_as_many_bytes_as_may_be() {
    const BYTES: usize = 1_000;
    let fits = BYTES - MESSAGE_OVERHEAD_BYTES - "t/x".len();
    let house = House::open_with(|config| config.retained_bytes_max = BYTES).await;
    let mut client = open(&house, "dev-1").await;
    for (bytes, code) in [(fits + 1, ReasonCode::QUOTA_EXCEEDED), (fits, ReasonCode::SUCCESS)] {
        let payload = Bytes::from("x".repeat(bytes));
        let publish = Publish { retain: true, payload, ..message("t/x", "", QoS::AtLeastOnce, 1) };
        assert_eq!(answer(&mut client, publish).await, Some(code));
    }
}

#[tokio::test]
async fn as_many_as_may_be_half_open_leave_no_place_for_one_more() {
    let house = House::open_with(|config| config.half_open_max = 2).await;
    let _silent = TcpStream::connect(house.addr).await.unwrap();
    // The edge: the second place is used and given back with CONNACK.
    let (_first, _second) = (open(&house, "dev-1").await, open(&house, "dev-2").await);
    let _silent_too = TcpStream::connect(house.addr).await.unwrap();
    let mut past = TcpStream::connect(house.addr).await.unwrap();
    assert_eq!(past.read(&mut [0; 1]).await.unwrap_or(0), 0);
    logged(&["half_open_max"]).await;
}

#[tokio::test]
async fn handshake_and_connect_have_the_time_that_is_set() {
    let house = House::open_with(|config| {
        config.handshake_time_max = Duration::from_secs(3);
        config.connect_time_max = Duration::from_secs(7);
    })
    .await;
    let mut other = open(&house, "dev-other").await;
    stop_time();
    let silent = TcpStream::connect(house.addr).await.unwrap();
    let no_connect = house.raw().await;
    // Whoever comes later is served after those two.
    let mut later = open(&house, "dev-later").await;
    let margin = Duration::from_millis(50);
    let mut passed = Duration::ZERO;
    for (limit, stream) in [(Duration::from_secs(3), &silent), (Duration::from_secs(7), no_connect.get_ref().0)] {
        tokio::time::advance(limit - margin - passed).await;
        assert!(other.until_quiet().await.is_empty() && later.until_quiet().await.is_empty());
        assert!(is_open(stream), "{limit:?} are not over");
        tokio::time::advance(2 * margin).await;
        until("it is closed", || !is_open(stream)).await;
        passed = limit + margin;
    }
}

/// Whatever was sent before the end does not matter.
fn is_open(stream: &TcpStream) -> bool {
    loop {
        match stream.try_read(&mut [0; 1024]) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}
