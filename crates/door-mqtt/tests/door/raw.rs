//! A client that says exactly what a test tells it, packet by packet.

use crate::fixtures::{Credentials, House};
use bytes::{Bytes, BytesMut};
use kilter_door_mqtt::{QoS, Version, client::connect_tls};
use kilter_mqtt::{
    Decoder, Packet, PacketId, ReasonCode, encode,
    packet::{Ack, ConnAck, Connect, Publish, Subscribe, Subscription},
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

/// Until something has certainly not come.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Raw {
    stream: TlsStream<TcpStream>,
    decoder: Decoder,
    buffer: BytesMut,
    version: Version,
}

pub fn connect(client_id: &str, version: Version) -> Connect {
    let session_expiry = (version == Version::V5).then_some(3600);
    Connect { clean: false, session_expiry, ..Connect::new(version, client_id, 60) }
}

pub fn message(topic: &str, payload: &str, qos: QoS, id: u16) -> Publish {
    Publish {
        topic: topic.into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos,
        packet_id: PacketId::new(id),
        dup: false,
        retain: false,
        topic_alias: None,
        subscription_ids: Vec::new(),
        properties: None,
    }
}

pub fn subscription(filter: &str, qos: QoS) -> Subscription {
    Subscription { filter: filter.into(), qos, no_local: false, retain_as_published: false, retain_handling: 0 }
}

pub fn ack(id: u16) -> Ack {
    Ack::new(PacketId::new(id).unwrap(), ReasonCode::SUCCESS)
}

impl Raw {
    pub async fn open(house: &House, connect: Connect) -> (Self, ConnAck) {
        Self::open_as(house, connect, &house.authority.client()).await
    }

    pub async fn open_as(house: &House, connect: Connect, who: &Credentials) -> (Self, ConnAck) {
        let address = house.addr.to_string();
        let stream = connect_tls(&address, &house.authority.pem(), &who.cert_pem, &who.key_pem).await.unwrap();
        let version = connect.version;
        let decoder = Decoder::with_version(version, 1 << 20);
        let mut raw = Self { stream, decoder, buffer: BytesMut::new(), version };
        raw.send(Packet::Connect(Box::new(connect))).await;
        match raw.next().await {
            Some(Packet::ConnAck(ack)) => (raw, *ack),
            other => panic!("no CONNACK but {other:?}"),
        }
    }

    pub async fn send(&mut self, packet: Packet) {
        self.send_together([packet]).await;
    }

    /// In one piece: the server reads them in one turn.
    pub async fn send_together(&mut self, packets: impl IntoIterator<Item = Packet>) {
        let mut bytes = BytesMut::new();
        packets.into_iter().for_each(|packet| encode(&packet, self.version, &mut bytes));
        self.stream.write_all(&bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next packet; `None` at the end.
    pub async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.buffer).unwrap() {
                return Some(packet);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("nothing comes");
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub async fn publish(&mut self) -> Publish {
        match self.next().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("no message but {other:?}"),
        }
    }

    /// What came before the answer to a second ping: what the first found waiting has been sent by then.
    pub async fn until_quiet(&mut self) -> Vec<Packet> {
        let mut before = Vec::new();
        for _ in 0..2 {
            self.send(Packet::PingReq).await;
            loop {
                match self.next().await.expect("the connection goes on") {
                    Packet::PingResp => break,
                    packet => before.push(packet),
                }
            }
        }
        before
    }

    pub async fn subscribe(&mut self, id: Option<u32>, filters: Vec<Subscription>) -> Vec<ReasonCode> {
        let packet_id = PacketId::new(60_000).unwrap();
        self.send(Packet::Subscribe(Subscribe { packet_id, subscription_id: id, filters })).await;
        match self.next().await {
            Some(Packet::SubAck(answer)) => answer.codes,
            other => panic!("no SUBACK but {other:?}"),
        }
    }

    /// Without a goodbye.
    pub async fn vanish(mut self) {
        let _ = self.stream.shutdown().await;
    }
}
