//! Clients that drip, that send nonsense, that do not read: each ends at its bound, and nobody else notices.

use crate::{
    device,
    harness::{Installation, PATIENCE, Server},
    kill::Chance,
};
use bytes::BytesMut;
use kilter_door_mqtt::{Options, QoS, Version, client::connect_tls};
use kilter_mqtt::{
    Packet, PacketId, encode,
    packet::{Connect, Publish, Subscribe, Subscription},
};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Far more than a decent client needs on a busy machine, and less than a test may take.
const SHORT: &str = "[mqtt_limits]\nhandshake_seconds_max = 5\nconnect_seconds_max = 5\n";
const TENANT: &str = "hostile";
const DRIP: Duration = Duration::from_millis(50);
/// Of connections that send nonsense, half of them before CONNECT.
const NONSENSE: u64 = 60;
/// A client is not read any more when it could write nothing for this long.
const STUCK: Duration = Duration::from_millis(500);
/// What one client that does not read may cost, with all that a debug build and its allocator add.
const MEMORY_MAX: u64 = 64 << 20;

fn encoded(packet: Packet, version: Version) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode(&packet, version, &mut bytes);
    bytes.to_vec()
}

fn connect(client_id: &str, keep_alive: u16) -> Vec<u8> {
    // Nobody asks for the user name; byte by byte it takes longer than the limit.
    let user_name = Some("x".repeat(400));
    let connect = Connect { user_name, ..Connect::new(Version::V311, client_id, keep_alive) };
    encoded(Packet::Connect(Box::new(connect)), Version::V311)
}

fn message(topic: &str, bytes: usize) -> Vec<u8> {
    let publish = Publish {
        topic: topic.into(),
        payload: vec![b'x'; bytes].into(),
        qos: QoS::AtLeastOnce,
        packet_id: PacketId::new(1),
        dup: false,
        retain: false,
        topic_alias: None,
        subscription_ids: Vec::new(),
        properties: None,
    };
    encoded(Packet::Publish(publish), Version::V311)
}

async fn tls(options: &Options) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
    connect_tls(&options.addr, &options.ca_pem, &options.cert_pem, &options.key_pem).await.unwrap()
}

/// Byte by byte until the server has had enough.
async fn drip(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) {
    let dripping = async {
        for byte in bytes {
            let written = async {
                stream.write_all(&[*byte]).await?;
                stream.flush().await
            };
            if written.await.is_err() || matches!(timeout(DRIP, stream.read(&mut [0; 64])).await, Ok(Ok(0) | Err(_))) {
                return;
            }
        }
        panic!("the server took all {} bytes", bytes.len());
    };
    timeout(PATIENCE, dripping).await.expect("the connection ends");
}

struct Hostility {
    installation: Installation,
    server: Server,
    bad: Options,
}

impl Hostility {
    fn new(configuration: &str) -> Self {
        let installation = Installation::new(configuration);
        installation.onboard(TENANT, &["good", "bad"]);
        let server = installation.start();
        let bad = device::options(&installation, &server.mqtt, "bad");
        Self { installation, server, bad }
    }

    /// Somebody decent is served.
    async fn nobody_else_notices(&self) {
        let payloads = (0..50).map(|number| format!("{{\"n\":{number}}}"));
        device::publish(&self.installation, &self.server, (TENANT, "good"), payloads).await.unwrap();
        assert_eq!(self.server.answer("/readyz").status, 200);
        let panicked = self.server.log().iter().any(|line| line.to_string().contains("panicked"));
        assert!(!panicked, "{}", self.server.log_tail());
    }
}

#[test]
fn clients_that_drip_are_closed_in_time() {
    let hostility = Hostility::new(SHORT);
    let bad = &hostility.bad;
    device::runtime().block_on(async {
        let mut hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
        hello.resize(500, 0);
        let in_handshake = async { drip(TcpStream::connect(&bad.addr).await.unwrap(), &hello).await };
        let in_connect = async { drip(tls(bad).await, &connect("bad", 60)).await };
        let in_publish = async {
            let mut stream = tls(bad).await;
            stream.write_all(&connect("bad", 1)).await.unwrap();
            drip(stream, &message("tenants/hostile/devices/bad/telemetry", 10_000)).await;
        };
        tokio::join!(in_handshake, in_connect, in_publish, hostility.nobody_else_notices());
    });
    hostility.server.log_says("handshake", "", &["did not end in time"]);
    hostility.server.log_says("timeout", "", &["CONNECT did not come in time"]);
    hostility.server.log_says("timeout", "bad", &["1.5 times the keep-alive"]);
}

#[test]
fn nonsense_ends_its_own_connection_only() {
    let hostility = Hostility::new("");
    let mut chance = Chance::new(u64::from(std::process::id()));
    device::runtime().block_on(async {
        for round in 0..NONSENSE {
            let mut stream = tls(&hostility.bad).await;
            let mut bytes = if round % 2 == 0 { Vec::new() } else { connect("bad", 60) };
            let length = chance.next() % 200 + 1;
            bytes.extend((0..length).map(|_| chance.next() as u8));
            // The server may have closed already.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let ended = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
            assert!(ended.is_ok(), "not closed after {bytes:x?}");
        }
        hostility.nobody_else_notices().await;
    });
}

#[test]
fn a_client_that_does_not_read_is_not_read_either() {
    let hostility = Hostility::new("");
    let before = hostility.server.memory();
    device::runtime().block_on(async {
        let topic = "tenants/hostile/devices/bad/telemetry";
        let own = Subscription {
            filter: topic.to_owned(),
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
        };
        let packet_id = PacketId::new(1).unwrap();
        let subscribe = Packet::Subscribe(Subscribe { packet_id, subscription_id: None, filters: vec![own] });
        let mut stream = tls(&hostility.bad).await;
        stream.write_all(&connect("bad", 60)).await.unwrap();
        stream.write_all(&encoded(subscribe, Version::V311)).await.unwrap();
        let message = message(topic, 50_000);
        // Or it is closed, because its queue is full.
        while let Ok(Ok(())) = timeout(STUCK, stream.write_all(&message)).await {}
        hostility.nobody_else_notices().await;
        let grown = hostility.server.memory().saturating_sub(before);
        assert!(grown < MEMORY_MAX, "the server has grown by {grown} bytes");
    });
}
