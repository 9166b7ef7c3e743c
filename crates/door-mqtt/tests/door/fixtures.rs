//! A door on a free port with certificates minted for this run, and a pipeline that remembers and obeys.
#![allow(dead_code, reason = "tests and the benchmark use it, each its part")]

use bytes::Bytes;
use futures::FutureExt;
use kilter_core::{
    Action, CertificateId, Offset, ShardId, StreamName, TenantId, ThingName,
    ports::{
        clock::SystemClock,
        deliver::Deliver,
        ingest::{
            Accepted, Client, ClientIdentity, ConnectAttributes, InboundMessage, Ingest, Principal, PublishAgainError,
            Refusal, RefusalKind,
        },
        stream::{StreamError, StreamErrorKind},
        table::{Item, SkRange, Table, TableError, TableErrorKind, Write as TableWrite},
    },
};
use kilter_door_mqtt::{MqttClient, MqttConfig, Options, TlsIdentity, Version, bind, client::connect_tls};
use kilter_testkit::MemoryTable;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::{
    collections::{HashMap, HashSet},
    io::Write,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, OnceLock},
    time::Duration,
};
use tokio::{net::TcpStream, sync::watch, task::JoinHandle};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// The name of the door's CA.
pub const CA_NAME: &str = "house CA";

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

#[derive(Clone)]
pub struct Credentials {
    pub cert_pem: String,
    pub key_pem: String,
    pub der: Vec<u8>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, purpose: ExtendedKeyUsagePurpose, change: impl FnOnce(&mut CertificateParams)) -> Credentials {
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a leaf");
        params.extended_key_usages = vec![purpose];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Credentials { cert_pem: certificate.pem(), key_pem: key.serialize_pem(), der: certificate.der().to_vec() }
    }

    pub fn client(&self) -> Credentials {
        self.issue(ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }
}

/// Every certificate is known until it is revoked. Client ids that begin with "dev" may connect, topics below
/// `t/` are free, those below `t/secret/` may be published on but not received. "dev-of-a-1" is a thing of tenant "a".
pub struct FakeIngest {
    state: Mutex<State>,
    /// Whether appends become durable.
    disk: watch::Sender<Disk>,
}

#[derive(Default)]
struct State {
    revoked: HashSet<Vec<u8>>,
    /// Client ids that begin like this may connect as well.
    also: Option<String>,
    /// Nothing may be published.
    silenced: bool,
    revision: u64,
    forgetful: bool,
    received: Vec<(String, String, Bytes)>,
    batches: Vec<usize>,
    seen: HashMap<Vec<u8>, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Disk {
    Good,
    Held,
    Broken(StreamErrorKind),
}

impl FakeIngest {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), disk: watch::Sender::new(Disk::Good) })
    }

    pub fn set_disk(&self, disk: Disk) {
        self.disk.send_replace(disk);
    }

    pub fn revoke(&self, credentials: &Credentials) {
        let mut state = self.state.lock().unwrap();
        state.revoked.insert(credentials.der.clone());
        state.revision += 1;
    }

    pub fn allow(&self, client_ids: &str) {
        self.state.lock().unwrap().also = Some(client_ids.to_owned());
    }

    /// Nobody may publish any more.
    pub fn silence(&self) {
        self.state.lock().unwrap().silenced = true;
    }

    /// Keeps nothing from now on: for benchmarks.
    pub fn forget(&self) {
        self.state.lock().unwrap().forgetful = true;
    }

    pub fn change_nothing(&self) {
        self.state.lock().unwrap().revision += 1;
    }

    pub fn looked_up(&self, credentials: &Credentials) -> u64 {
        self.state.lock().unwrap().seen.get(&credentials.der).copied().unwrap_or(0)
    }

    /// Topics and payloads, in order, of one client.
    pub fn received(&self, client_id: &str) -> Vec<(String, Bytes)> {
        let state = self.state.lock().unwrap();
        let of_client = state.received.iter().filter(|(id, ..)| id == client_id);
        of_client.map(|(_, topic, payload)| (topic.clone(), payload.clone())).collect()
    }

    pub fn batches(&self) -> Vec<usize> {
        self.state.lock().unwrap().batches.clone()
    }
}

fn refusal(kind: RefusalKind, reason: &str) -> Refusal {
    Refusal { kind, reason: reason.into() }
}

impl Ingest for FakeIngest {
    fn identify(&self, certificate_der: &[u8]) -> Result<Principal, Refusal> {
        let mut state = self.state.lock().unwrap();
        *state.seen.entry(certificate_der.to_vec()).or_default() += 1;
        if state.revoked.contains(certificate_der) {
            return Err(refusal(RefusalKind::CertificateNotActive, "the certificate is REVOKED"));
        }
        Ok(Principal { certificate: CertificateId::new(&"ab".repeat(32)).unwrap() })
    }

    fn register(&self, certificate_der: &[u8]) -> Result<Principal, Refusal> {
        self.identify(certificate_der)
    }

    fn authorities(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn positions(&self, _: &str) -> Vec<(StreamName, ShardId, Offset)> {
        Vec::new()
    }

    fn publish_again(
        &self,
        client: &Client,
        message: InboundMessage,
        _: &[(StreamName, ShardId, Offset)],
    ) -> Result<(), PublishAgainError> {
        match self.publish(client, vec![message]).refusal {
            Some(refusal) => Err(refusal.into()),
            None => Ok(()),
        }
    }

    fn connect(&self, principal: &Principal, attributes: &ConnectAttributes<'_>) -> Result<Client, Refusal> {
        let client_id = attributes.client_id;
        let also = self.state.lock().unwrap().also.clone();
        if !client_id.starts_with("dev") && also.is_none_or(|prefix| !client_id.starts_with(&prefix)) {
            return Err(refusal(RefusalKind::ClientIdNotAllowed, "no policy allows this client id"));
        }
        let certificate = principal.certificate.clone();
        let tenant = client_id.strip_prefix("dev-of-").and_then(|of| of.split_once('-')).map(|(tenant, _)| tenant);
        let thing = tenant.map(|tenant| (TenantId::new(tenant).unwrap(), ThingName::new(client_id).unwrap()));
        Ok(Client(Arc::new(ClientIdentity { certificate, client_id: client_id.into(), thing, source: String::new() })))
    }

    fn authorize(&self, _: &Client, action: Action, topic: &str) -> Result<(), Refusal> {
        let secret = action == Action::Receive && topic.starts_with("t/secret/");
        let silenced = action == Action::Publish && self.state.lock().unwrap().silenced;
        if topic.starts_with("t/") && !secret && !silenced {
            return Ok(());
        }
        Err(refusal(RefusalKind::NotAllowed, "no policy allows it"))
    }

    fn publish(&self, client: &Client, messages: Vec<InboundMessage>) -> Accepted {
        let mut count = 0;
        let mut refused = None;
        for message in &messages {
            if let Err(refusal) = self.authorize(client, Action::Publish, &message.topic) {
                refused = Some(refusal);
                break;
            }
            count += 1;
        }
        let mut state = self.state.lock().unwrap();
        if state.forgetful {
            return Accepted { count, refusal: refused, durable: futures::future::ready(Ok(())).boxed() };
        }
        state.batches.push(count);
        let taken = messages.into_iter().take(count);
        let id = &client.0.client_id;
        state.received.extend(taken.map(|message| (id.clone(), message.topic.to_string(), message.payload)));
        let mut disk = self.disk.subscribe();
        let durable = async move {
            match *disk.wait_for(|disk| *disk != Disk::Held).await.unwrap() {
                Disk::Broken(kind) => Err(StreamError::new(kind, "append", "the disk is full")),
                _ => Ok(()),
            }
        };
        Accepted { count, refusal: refused, durable: durable.boxed() }
    }

    fn revision(&self) -> u64 {
        self.state.lock().unwrap().revision
    }
}

/// A table whose commits a test may hold back, to see what is said before them and to end the server between two.
pub struct Gate {
    table: MemoryTable,
    state: Mutex<GateState>,
    changed: Condvar,
}

struct GateState {
    /// Commits that may still be made.
    commits: usize,
    /// One waits.
    holding: bool,
    ended: bool,
}

impl Gate {
    pub fn open() -> Arc<Self> {
        let state = GateState { commits: usize::MAX, holding: false, ended: false };
        Arc::new(Self { table: MemoryTable::new(), state: Mutex::new(state), changed: Condvar::new() })
    }

    /// As many commits are made from now on, and no more.
    pub fn allow(&self, commits: usize) {
        self.state.lock().unwrap().commits = commits;
        self.changed.notify_all();
    }

    pub fn is_holding(&self) -> bool {
        self.state.lock().unwrap().holding
    }

    /// Lets go of a server that has crashed: what waits is never made.
    pub fn end(&self) {
        self.state.lock().unwrap().ended = true;
        self.changed.notify_all();
    }
}

impl Table for Gate {
    fn commit(&self, writes: Vec<TableWrite>) -> Result<(), TableError> {
        let mut state = self.state.lock().unwrap();
        while state.commits == 0 && !state.ended {
            state.holding = true;
            state = self.changed.wait(state).unwrap();
        }
        state.holding = false;
        if state.ended {
            return Err(TableError::new(TableErrorKind::Io, "commit", "the server has crashed"));
        }
        state.commits = state.commits.saturating_sub(1);
        self.table.commit(writes)
    }

    fn get(&self, table: &str, pk: &str, sk: &str) -> Result<Option<Vec<u8>>, TableError> {
        self.table.get(table, pk, sk)
    }

    fn range(&self, table: &str, pk: &str, range: SkRange<'_>, limit: usize) -> Result<Vec<Item>, TableError> {
        self.table.range(table, pk, range, limit)
    }

    fn scan(&self, table: &str, after: Option<(&str, &str)>, limit: usize) -> Result<Vec<Item>, TableError> {
        self.table.scan(table, after, limit)
    }

    fn drop_table(&self, table: &str) -> Result<u64, TableError> {
        self.table.drop_table(table)
    }
}

pub struct House {
    pub addr: SocketAddr,
    pub authority: Authority,
    pub ingest: Arc<FakeIngest>,
    pub sessions: Arc<dyn Table>,
    pub deliver: Arc<dyn Deliver>,
    pub shutdown: CancellationToken,
    pub server: JoinHandle<()>,
}

impl House {
    pub async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    pub async fn open_with(change: impl FnOnce(&mut MqttConfig)) -> Self {
        Self::build(Authority::new(CA_NAME), FakeIngest::new(), Arc::new(MemoryTable::new()), change).await
    }

    pub async fn open_on(sessions: Arc<dyn Table>) -> Self {
        Self::build(Authority::new(CA_NAME), FakeIngest::new(), sessions, |_| {}).await
    }

    /// Ends this one and starts another with the same sessions, as a restart does.
    pub async fn reopen(self) -> Self {
        self.reopen_with(|_| {}).await
    }

    pub async fn reopen_with(self, change: impl FnOnce(&mut MqttConfig)) -> Self {
        self.shutdown.cancel();
        self.server.await.unwrap();
        Self::build(self.authority, self.ingest, self.sessions, change).await
    }

    /// As a crash does: what is not on disk yet is lost.
    pub async fn crash(self) -> Self {
        let as_it_is = Arc::new(MemoryTable::new());
        for table in ["mqtt_sessions", "mqtt_queues", "mqtt_received", "mqtt_retained"] {
            let name: Arc<str> = table.into();
            let items = self.sessions.scan(table, None, usize::MAX).unwrap();
            as_it_is
                .commit(items.into_iter().map(|item| TableWrite::put(&name, item.pk, item.sk, item.value)).collect())
                .unwrap();
        }
        self.server.abort();
        Self::build(self.authority, self.ingest, as_it_is, |_| {}).await
    }

    async fn build(
        authority: Authority,
        ingest: Arc<FakeIngest>,
        sessions: Arc<dyn Table>,
        change: impl FnOnce(&mut MqttConfig),
    ) -> Self {
        log();
        let server = authority.issue(ExtendedKeyUsagePurpose::ServerAuth, |_| {});
        let identity =
            TlsIdentity { ca_pem: authority.pem(), server_cert_pem: server.cert_pem, server_key_pem: server.key_pem };
        let mut config = MqttConfig::new("127.0.0.1:0".parse().unwrap());
        change(&mut config);
        let door = bind(config, identity, ingest.clone(), Arc::new(SystemClock), sessions.clone()).await.unwrap();
        let deliver = door.deliver();
        let (addr, shutdown) = (door.local_addr(), CancellationToken::new());
        let server = tokio::spawn(door.run(shutdown.clone()));
        Self { addr, authority, ingest, sessions, deliver, shutdown, server }
    }

    pub fn options(&self, client_id: &str, version: Version) -> Options {
        self.options_as(client_id, version, &self.authority.client())
    }

    pub fn options_as(&self, client_id: &str, version: Version, credentials: &Credentials) -> Options {
        Options {
            addr: self.addr.to_string(),
            ca_pem: self.authority.pem(),
            cert_pem: credentials.cert_pem.clone(),
            key_pem: credentials.key_pem.clone(),
            client_id: client_id.into(),
            version,
            inflight_max: 100,
            keep_alive: 60,
            will: None,
        }
    }

    pub async fn client(&self, client_id: &str, version: Version) -> MqttClient {
        MqttClient::connect(self.options(client_id, version)).await.unwrap()
    }

    /// TLS without MQTT, for what a decent client would not send.
    pub async fn raw(&self) -> TlsStream<TcpStream> {
        let credentials = self.authority.client();
        connect_tls(&self.addr.to_string(), &self.authority.pem(), &credentials.cert_pem, &credentials.key_pem)
            .await
            .unwrap()
    }
}

type Lines = Arc<Mutex<Vec<u8>>>;

/// Collects the log of all tests of this process.
fn log() -> &'static Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    LINES.get_or_init(|| {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_env_filter("info")
            .with_writer(move || LineWriter(writer.clone()))
            .init();
        lines
    })
}

struct LineWriter(Lines);

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Waits for a log line that has all of these in it.
pub async fn logged(words: &[&str]) {
    eventually(&format!("a log line with {words:?}"), || {
        let lines = String::from_utf8(log().lock().unwrap().clone()).unwrap();
        lines.lines().any(|line| words.iter().all(|word| line.contains(word)))
    })
    .await;
}

/// Waits until it holds; panics after a while. Not a sleep: it returns as soon as it holds.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not happen: {what}\n{}", String::from_utf8_lossy(&log().lock().unwrap()));
}
