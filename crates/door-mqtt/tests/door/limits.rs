//! Slow, greedy and broken clients: each has its bound.

use crate::fixtures::{House, logged};
use bytes::Bytes;
use kilter_door_mqtt::{MqttClient, QoS, Version, client::ClientError};
use kilter_mqtt::{Decoder, Packet, PacketId, ReasonCode, encode, packet::Publish};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const CONNECT_3: &[u8] = b"\x10\x10\0\x04MQTT\x04\x02\0\x02\0\x04dev1";
const CONNECT_5: &[u8] = b"\x10\x11\0\x04MQTT\x05\x02\0\x02\0\0\x04dev1";

/// All packets until the server closes.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin), version: Version) -> Vec<Packet> {
    let mut bytes = Vec::new();
    // The server may close without the TLS goodbye.
    let _ = stream.read_to_end(&mut bytes).await;
    let mut decoder = Decoder::with_version(version, 1 << 20);
    let mut buffer = bytes::BytesMut::from(&bytes[..]);
    std::iter::from_fn(|| decoder.decode(&mut buffer).unwrap()).collect()
}

fn farewell(packets: &[Packet]) -> Option<ReasonCode> {
    match packets.last() {
        Some(Packet::Disconnect(farewell)) => Some(farewell.code),
        _ => None,
    }
}

#[tokio::test]
async fn a_silent_handshake_and_a_missing_connect_time_out() {
    let house = House::open().await;
    let mut silent = TcpStream::connect(house.addr).await.unwrap();
    let mut no_connect = house.raw().await;
    tokio::time::pause();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(until_closed(&mut no_connect, Version::V5).await.is_empty());
    tokio::time::resume();
    logged(&["the TLS handshake did not end in time"]).await;
    logged(&["CONNECT did not come in time"]).await;
}

#[tokio::test]
async fn a_silent_client_is_closed_after_one_and_a_half_keep_alives() {
    let house = House::open().await;
    for (version, connect) in [(Version::V311, CONNECT_3), (Version::V5, CONNECT_5)] {
        let mut stream = house.raw().await;
        stream.write_all(connect).await.unwrap();
        stream.read_u8().await.unwrap();
        tokio::time::pause();
        let start = tokio::time::Instant::now();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        let silence = start.elapsed();
        tokio::time::resume();
        assert!((2900..3200).contains(&silence.as_millis()), "{silence:?}");
        let says_why = rest.ends_with(&[0xe0, 2, ReasonCode::KEEP_ALIVE_TIMEOUT.0, 0]);
        assert_eq!(says_why, version == Version::V5);
    }
    logged(&["dev1", "1.5 times the keep-alive"]).await;
}

#[tokio::test]
async fn a_client_that_pings_stays() {
    let house = House::open().await;
    let mut options = house.options("dev-ping", Version::V311);
    options.keep_alive = 2;
    let client = MqttClient::connect(options).await.unwrap();
    tokio::time::pause();
    let ended = tokio::time::timeout(Duration::from_secs(60), client.ended()).await;
    tokio::time::resume();
    assert!(ended.is_err(), "the connection ended: {ended:?}");
}

#[tokio::test]
async fn what_breaks_the_protocol_is_closed_with_its_reason() {
    let house = House::open().await;
    let too_large = {
        let mut packet = vec![0x32];
        packet.extend_from_slice(b"\xff\xff\x7f");
        packet
    };
    let second_connect = CONNECT_5.to_vec();
    for (bytes, code) in [
        (&b"\x00\x00"[..], ReasonCode::MALFORMED_PACKET),
        (b"\x40\x80\x80\x80\x80\x01", ReasonCode::MALFORMED_PACKET),
        (b"\x30\x05\0\x01\xff\0x", ReasonCode::MALFORMED_PACKET),
        (b"\x34\x07\0\x03t/x\0\x01", ReasonCode::MALFORMED_PACKET),
        (b"\x30\x07\0\0\x03\x23\0\x01x", ReasonCode::PROTOCOL_ERROR),
        (b"\x30\x07\0\0\x03\x23\0\x09x", ReasonCode::TOPIC_ALIAS_INVALID),
        (b"\xd0\0", ReasonCode::PROTOCOL_ERROR),
        (&second_connect, ReasonCode::PROTOCOL_ERROR),
        (&too_large, ReasonCode::PACKET_TOO_LARGE),
    ] {
        let mut stream = house.raw().await;
        stream.write_all(CONNECT_5).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let packets = until_closed(&mut stream, Version::V5).await;
        assert!(matches!(packets.first(), Some(Packet::ConnAck(_))));
        assert_eq!(farewell(&packets), Some(code), "{bytes:x?}");
    }
    logged(&["dev1", "protocol", "is not UTF-8"]).await;
    for bytes in [&b"\xc0\0"[..], b"\x10\x0c\0\x04MQTT\x03\x02\0\x3c\0\0", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = house.raw().await;
        stream.write_all(bytes).await.unwrap();
        let packets = until_closed(&mut stream, Version::V311).await;
        assert!(packets.iter().all(|packet| matches!(packet, Packet::ConnAck(ack) if ack.code.is_error())));
    }
}

#[tokio::test]
async fn a_payload_may_be_as_large_as_the_limit_and_no_larger() {
    let house = House::open_with(|config| config.payload_bytes_max = 10_000).await;
    for version in [Version::V311, Version::V5] {
        let client = house.client("dev-large", version).await;
        let topic: Arc<str> = "t/x".into();
        client.publish(&topic, Bytes::from(vec![1; 10_000]), QoS::AtLeastOnce).await.unwrap();
        client.flush().await.unwrap();
        client.publish(&topic, Bytes::from(vec![1; 10_001]), QoS::AtLeastOnce).await.unwrap();
        let error = client.ended().await;
        match version {
            Version::V5 => assert!(matches!(error, ClientError::Closed(ReasonCode::PACKET_TOO_LARGE)), "{error}"),
            Version::V311 => assert!(matches!(error, ClientError::Lost(_)), "{error}"),
        }
    }
    logged(&["dev-large", "over the limit"]).await;
}

#[tokio::test]
async fn more_in_flight_than_announced_is_closed_in_5_and_waits_in_3() {
    let house = House::open().await;
    house.ingest.set_disk(crate::fixtures::Disk::Held);
    for (version, connect) in [(Version::V5, CONNECT_5), (Version::V311, CONNECT_3)] {
        let mut stream = house.raw().await;
        let mut bytes = bytes::BytesMut::from(connect);
        for id in 1..=1500u16 {
            let message = Publish {
                topic: "t/x".into(),
                payload: Bytes::new(),
                qos: QoS::AtLeastOnce,
                packet_id: PacketId::new(id),
                dup: false,
                retain: false,
                topic_alias: None,
                subscription_ids: Vec::new(),
                properties: None,
            };
            encode(&Packet::Publish(message), version, &mut bytes);
        }
        stream.write_all(&bytes).await.unwrap();
        if version == Version::V5 {
            let packets = until_closed(&mut stream, version).await;
            assert_eq!(farewell(&packets), Some(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED));
        } else {
            let before = house.ingest.received("dev1").len();
            assert!(before >= 1000);
            house.ingest.set_disk(crate::fixtures::Disk::Good);
            // CONNACK and all 1500 acknowledgements.
            let mut answers = vec![0; 4 + 1500 * 4];
            stream.read_exact(&mut answers).await.unwrap();
            assert_eq!(&answers[4 + 1499 * 4..], b"\x40\x02\x05\xdc");
        }
    }
}

#[tokio::test]
async fn connections_are_counted_and_bounded() {
    let house = House::open_with(|config| config.connections_max = 2).await;
    let first = house.client("dev-1", Version::V5).await;
    let _second = house.client("dev-2", Version::V5).await;
    assert!(MqttClient::connect(house.options("dev-3", Version::V5)).await.is_err());
    logged(&["connections_max"]).await;
    first.disconnect().await.unwrap();
    let again = async {
        while MqttClient::connect(house.options("dev-3", Version::V5)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("the place is free again");
}

#[tokio::test]
async fn half_open_connections_do_not_take_all_places() {
    let house = House::open_with(|config| config.half_open_max = 2).await;
    let _silent = [TcpStream::connect(house.addr).await.unwrap(), TcpStream::connect(house.addr).await.unwrap()];
    assert!(MqttClient::connect(house.options("dev-1", Version::V5)).await.is_err());
    logged(&["half_open_max"]).await;
}

/// A subscriber that does not read: QoS 0 is left out, the first QoS 1 that does not fit ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_holds_up_nobody() {
    let house = House::open().await;
    let topic: Arc<str> = "t/fast".into();
    let publisher = house.client("dev-publisher", Version::V5).await;
    for (qos, id) in [(QoS::AtMostOnce, "dev-slow0"), (QoS::AtLeastOnce, "dev-slow1")] {
        let mut slow = house.raw().await;
        let mut bytes = bytes::BytesMut::new();
        bytes.extend_from_slice(b"\x10\x16\0\x04MQTT\x05\x02\0\0\0\0\x09");
        bytes.extend_from_slice(id.as_bytes());
        bytes.extend_from_slice(b"\x82\x0c\0\x01\0\0\x06t/fast");
        bytes.extend_from_slice(&[qos.level()]);
        slow.write_all(&bytes).await.unwrap();
        // CONNACK and SUBACK have come when the last byte of SUBACK has.
        let mut seen = Vec::new();
        while !seen.ends_with(&[0x90, 4, 0, 1, 0, qos.level()]) {
            seen.push(slow.read_u8().await.unwrap());
        }
        for _ in 0..400 {
            publisher.publish(&topic, Bytes::from(vec![7; 50_000]), qos).await.unwrap();
        }
        publisher.flush().await.unwrap();
        if qos == QoS::AtLeastOnce {
            logged(&[id, "too slow"]).await;
            let packets = until_closed(&mut slow, Version::V5).await;
            assert!(packets.len() < 300, "{} packets", packets.len());
        }
    }
}
