//! The kill test of kept sessions: devices that keep to the specification to the letter publish to themselves with QoS 1
//! and 2 at full speed while the server is killed under them. Nothing that was acknowledged may be missing, and nothing
//! of QoS 2 may be there twice, at the subscriber and in the stream.

use crate::{
    device,
    exact::{Exact, is_exactly_once},
    harness::{Installation, tell},
    kill::{free_ports, kill_again_and_again, stream_records},
};
use bytes::BytesMut;
use kilter_door_mqtt::{Options, QoS, Version, client::connect_tls};
use kilter_mqtt::{
    Decoder, Packet, PacketId, encode,
    packet::{Connect, Disconnect, Subscribe, Subscription},
};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::timeout,
};

/// `KILTER_SESSION_KILLS` asks for more.
const KILLS: u64 = 50;
/// A life lasts this long after `/readyz`, in milliseconds: from the first reconnection to many messages.
const LIFE_MS: (u64, u64) = (20, 300);
const TENANT: &str = "kept";
const THINGS: [(Version, &str); 2] = [(Version::V311, "kept-three"), (Version::V5, "kept-five")];
const IN_FLIGHT: usize = 20;
/// For the last life, in which everything must come.
const PATIENCE: Duration = Duration::from_secs(120);
const PACKET_BYTES_MAX: usize = 1 << 20;
const RETRY: Duration = Duration::from_millis(5);

/// One connection, packet by packet.
struct Wire<S> {
    stream: S,
    version: Version,
    decoder: Decoder,
    buffer: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Answers whether the session was there.
    async fn open(stream: S, options: &Options) -> io::Result<(Self, bool)> {
        let version = options.version;
        let decoder = Decoder::with_version(version, PACKET_BYTES_MAX);
        let mut wire = Self { stream, version, decoder, buffer: BytesMut::new() };
        let session_expiry = (version == Version::V5).then_some(3600);
        let ours = Connect::new(version, options.client_id.clone(), options.keep_alive);
        let connect = Connect { clean: false, session_expiry, ..ours };
        wire.send([Packet::Connect(Box::new(connect))]).await?;
        match wire.next().await? {
            Packet::ConnAck(answer) if !answer.code.is_error() => Ok((wire, answer.session_present)),
            other => panic!("no CONNACK that lets in but {other:?}"),
        }
    }

    async fn send(&mut self, packets: impl IntoIterator<Item = Packet>) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        packets.into_iter().for_each(|packet| encode(&packet, self.version, &mut bytes));
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    /// May be dropped at any point without loss.
    async fn next(&mut self) -> io::Result<Packet> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.buffer).expect("the server speaks MQTT") {
                return Ok(packet);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn subscribe(&mut self, topic: &str) -> io::Result<()> {
        let own = Subscription {
            filter: topic.to_owned(),
            qos: QoS::ExactlyOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
        };
        let packet_id = PacketId::new(u16::MAX).unwrap();
        self.send([Packet::Subscribe(Subscribe { packet_id, subscription_id: None, filters: vec![own] })]).await?;
        match self.next().await? {
            Packet::SubAck(answer) if answer.codes.iter().all(|code| !code.is_error()) => Ok(()),
            other => panic!("no SUBACK that grants but {other:?}"),
        }
    }

    /// Publishes and receives until the connection breaks, or it is to stop and everything has come.
    async fn converse(&mut self, device: &Mutex<Exact>, stop: &mut watch::Receiver<bool>) -> io::Result<()> {
        let mut packets = device.lock().unwrap().resume();
        let mut pings = 0;
        loop {
            {
                let mut device = device.lock().unwrap();
                let stopping = *stop.borrow();
                while !stopping && device.in_flight() < IN_FLIGHT {
                    packets.push(device.publish());
                }
                // What is doubled comes before the answer to the second ping.
                if stopping && device.is_done() {
                    packets.push(if pings < 2 { Packet::PingReq } else { Packet::Disconnect(Disconnect::default()) });
                    pings += 1;
                }
            }
            self.send(packets.drain(..)).await?;
            if pings > 2 {
                return Ok(());
            }
            tokio::select! {
                packet = self.next() => packets.extend(device.lock().unwrap().receive(packet?)),
                _ = stop.changed() => {}
            }
        }
    }
}

/// Connects again and again until it is stopped and done. Answers how often the session was found.
async fn live(options: Options, device: Arc<Mutex<Exact>>, mut stop: watch::Receiver<bool>) -> u64 {
    let topic = device::topic(TENANT, &options.client_id);
    let (mut known, mut subscribed, mut resumed) = (false, false, 0);
    loop {
        let tls = connect_tls(&options.addr, &options.ca_pem, &options.cert_pem, &options.key_pem).await;
        let Ok(stream) = tls else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let Ok((mut wire, present)) = Wire::open(stream, &options).await else { continue };
        assert!(present || !known, "{}: the session is gone", options.client_id);
        known = true;
        resumed += u64::from(present);
        if !subscribed && wire.subscribe(&topic).await.is_err() {
            continue;
        }
        subscribed = true;
        if wire.converse(&device, &mut stop).await.is_ok() {
            return resumed;
        }
    }
}

#[test]
fn fifty_kills_lose_no_message_and_double_none_of_qos_2() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as u64;
    let (seed, kills) =
        (number("KILTER_KILL_SEED").unwrap_or_else(now), number("KILTER_SESSION_KILLS").unwrap_or(KILLS));
    tell(&format!("session kill test: KILTER_KILL_SEED={seed}"));
    let installation = Installation::new("");
    installation.onboard(TENANT, &THINGS.map(|(_, thing)| thing));
    let (mqtt, http) = free_ports(seed ^ 0x5e55);
    let runtime = device::runtime();
    let (stopping, stop) = watch::channel(false);
    let devices = THINGS.map(|(version, thing)| {
        let options = Options { version, ..device::options(&installation, &mqtt, thing) };
        let device = Arc::new(Mutex::new(Exact::new(device::topic(TENANT, thing))));
        (thing, device.clone(), runtime.spawn(live(options, device, stop.clone())))
    });
    kill_again_and_again(&installation, (&mqtt, &http), seed, kills, LIFE_MS);
    let server = installation.start_on(&mqtt, &http);
    stopping.send_replace(true);
    let mut published = BTreeMap::new();
    for (thing, device, task) in devices {
        let resumed = runtime.block_on(async { timeout(PATIENCE, task).await });
        let device = device.lock().unwrap();
        let again = device.judge();
        let resumed = resumed.expect("it has come to its end").unwrap();
        published.insert(thing, device.published());
        tell(&format!(
            "session kill test: {thing}: {kills} kills, {resumed} resumptions, {} messages, {again} of QoS 1 came again",
            device.published()
        ));
        assert!(resumed >= kills / 3, "{resumed} resumptions: the test tests little");
    }
    server.settled_ledger(TENANT, published.values().sum());
    assert!(server.stop().success());
    check_stream(&installation, &published);
}

/// Every message is in the stream, one of QoS 2 once.
fn check_stream(installation: &Installation, published: &BTreeMap<&str, u64>) {
    let mut times: BTreeMap<(String, u64), u32> = BTreeMap::new();
    for record in stream_records(&installation.data(), TENANT) {
        let text = String::from_utf8(record.record.data.to_vec()).unwrap();
        let number = text.strip_prefix("number ").unwrap().parse().unwrap();
        *times.entry((record.record.thing.to_string(), number)).or_default() += 1;
    }
    for (thing, count) in published {
        for number in 0..*count {
            let found = times.get(&((*thing).to_owned(), number)).copied().unwrap_or(0);
            let right = found == 1 || found > 1 && !is_exactly_once(number);
            assert!(right, "{thing}: number {number} is in the stream {found} times");
        }
    }
}
