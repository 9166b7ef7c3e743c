//! The listener: accepts, shakes hands, identifies, watches the registry, and drains at the end.

use crate::{
    config::MqttConfig,
    connection::{Connection, Peer, Shared, Tenants},
    deliver::DoorDeliver,
    hub::Hub,
    meters::Meters,
    recover::{RecoverError, recover},
    refusals::{Kind, Refusals, Subject},
    store::Store,
    tls::{self, TlsIdentity, TlsSetupError},
    websocket, wills,
};
use futures::{FutureExt, future::BoxFuture};
use kilter_core::ports::{
    clock::Clock,
    deliver::Deliver,
    ingest::{Ingest, Principal, Refusal, RefusalKind},
    table::Table,
};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::spawn_blocking,
    time::{Instant, interval, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// How often the registry is asked whether it has changed: a revoked certificate's session must end within a
/// second.
const REVISION_EVERY: Duration = Duration::from_millis(200);

/// How often kept sessions are looked at: expiry and will delay are whole seconds.
const UPKEEP_EVERY: Duration = Duration::from_millis(500);

/// How long to wait when the system has no file descriptor or memory for one more connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the last connections get beyond the drain itself, before the door gives up on them.
const STOP_MARGIN: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error("cannot listen for MQTT on {address}: {source}; free the port or choose another with --mqtt or --mqtt-ws")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot set up TLS for MQTT: {0}")]
    Tls(#[from] TlsSetupError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error("cannot start the door for MQTT: {0}")]
    Start(#[source] io::Error),
}

/// A bound listener: connections queue up, and are served once [`MqttDoor::run`] runs.
pub struct MqttDoor {
    listener: TcpListener,
    address: SocketAddr,
    /// The second listener.
    websocket: Option<TcpListener>,
    tls: TlsReload,
    shared: Arc<Shared>,
}

/// What new connections are greeted with: certificates that change while sessions stay.
#[derive(Clone)]
pub struct TlsReload {
    acceptors: Arc<RwLock<Acceptors>>,
    ingest: Arc<dyn Ingest>,
    clock: Arc<dyn Clock>,
}

impl TlsReload {
    /// Takes other certificates for connections from now on; where they cannot be used, the old ones stay.
    pub fn reload(&self, identity: &TlsIdentity) -> Result<(), TlsSetupError> {
        let acceptors = Acceptors::new(identity, Arc::clone(&self.clock), Arc::clone(&self.ingest))?;
        *self.acceptors.write().unwrap_or_else(PoisonError::into_inner) = acceptors;
        Ok(())
    }

    fn acceptor(&self, speaks: Speaks) -> TlsAcceptor {
        let acceptors = self.acceptors.read().unwrap_or_else(PoisonError::into_inner);
        match speaks {
            Speaks::Mqtt => acceptors.mqtt.clone(),
            Speaks::ByAlpn => acceptors.by_alpn.clone(),
        }
    }
}

/// One for each listener: they differ in the protocols that a client may name.
struct Acceptors {
    mqtt: TlsAcceptor,
    by_alpn: TlsAcceptor,
}

impl Acceptors {
    fn new(identity: &TlsIdentity, clock: Arc<dyn Clock>, ingest: Arc<dyn Ingest>) -> Result<Self, TlsSetupError> {
        let config = tls::server_config(identity, clock, ingest)?;
        Ok(Self { by_alpn: TlsAcceptor::from(tls::with_websocket(&config)), mqtt: TlsAcceptor::from(config) })
    }
}

/// Reads the certificates, takes the port and takes up the sessions that were kept; serves nobody yet.
pub async fn bind(
    config: MqttConfig,
    identity: TlsIdentity,
    ingest: Arc<dyn Ingest>,
    clock: Arc<dyn Clock>,
    sessions: Arc<dyn Table>,
) -> Result<MqttDoor, DoorError> {
    let acceptors = Acceptors::new(&identity, clock.clone(), Arc::clone(&ingest))?;
    let tls =
        TlsReload { acceptors: Arc::new(RwLock::new(acceptors)), ingest: Arc::clone(&ingest), clock: clock.clone() };
    let (listener, address) = listen(config.listen).await?;
    let websocket = match config.listen_ws {
        None => None,
        Some(address) => Some(listen(address).await?.0),
    };
    let store = Store::start(Arc::clone(&sessions)).map_err(DoorError::Start)?;
    let shared = Arc::new(Shared {
        hub: Hub::new(&config, store, clock.clone()),
        config,
        ingest,
        meters: Meters::new(),
        refusals: Refusals::new(clock),
        tenants: Tenants::default(),
        shutdown: CancellationToken::new(),
        epoch: Instant::now(),
    });
    let recovering = Arc::clone(&shared);
    let recovered = spawn_blocking(move || recover(&recovering, &*sessions)).await;
    recovered.map_err(|panic| DoorError::Start(io::Error::other(panic)))??;
    Ok(MqttDoor { listener, address, websocket, tls, shared })
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), DoorError> {
    let failed = |source| DoorError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let real = listener.local_addr().map_err(failed)?;
    Ok((listener, real))
}

struct Accepting {
    shared: Arc<Shared>,
    tls: TlsReload,
    revision: watch::Receiver<u64>,
    connections: Arc<Semaphore>,
    half_open: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl MqttDoor {
    /// Where it listens; the port is the real one when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The way to change the server's certificate and the CA that is trusted while it runs.
    pub fn tls(&self) -> TlsReload {
        self.tls.clone()
    }

    /// The way back to devices.
    pub fn deliver(&self) -> Arc<dyn Deliver> {
        Arc::new(DoorDeliver(Arc::clone(&self.shared)))
    }

    /// Where MQTT over WebSocket is served, if it is.
    pub fn websocket_addr(&self) -> Option<SocketAddr> {
        self.websocket.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `shutdown`; then stops accepting, lets owed acknowledgements leave, says goodbye to all
    /// and returns, within the configured drain time and a few seconds.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, websocket, tls, shared, .. } = self;
        let drain_time_max = shared.config.drain_time_max;
        let (revision_changed, revision) = watch::channel(shared.ingest.revision());
        let accepting = Accepting {
            connections: Arc::new(Semaphore::new(shared.config.connections_max)),
            half_open: Arc::new(Semaphore::new(shared.config.half_open_max)),
            shared: Arc::clone(&shared),
            tls,
            revision,
            tasks: TaskTracker::new(),
        };
        select! {
            () = shutdown.cancelled() => {}
            () = accepting.accept_all(&listener, Speaks::Mqtt) => {}
            () = async {
                match &websocket {
                    Some(listener) => accepting.accept_all(listener, Speaks::ByAlpn).await,
                    None => std::future::pending().await,
                }
            } => {}
            () = watch_revision(&*shared.ingest, &revision_changed) => {}
            () = keep_up(&shared) => {}
        }
        shared.shutdown.cancel();
        drop((listener, websocket));
        accepting.tasks.close();
        info!(connections = accepting.tasks.len(), "MQTT: draining");
        if timeout(drain_time_max + STOP_MARGIN, accepting.tasks.wait()).await.is_err() {
            warn!(connections = accepting.tasks.len(), "MQTT: gave up on connections that would not end");
        }
        if let Err(panic) = spawn_blocking(move || shared.hub.store.close()).await {
            warn!(%panic, "MQTT: sessions were not closed");
        }
    }
}

/// Ends sessions that have expired and sends wills that are due. Never returns.
async fn keep_up(shared: &Shared) {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let mut every = interval(UPKEEP_EVERY);
    loop {
        every.tick().await;
        for (client, will) in shared.hub.upkeep() {
            if let Some(durable) = wills::send(shared, &client, will, nowhere)
                && let Err(error) = durable.await
            {
                warn!(client_id = %client.0.client_id, %error, "MQTT: a will was not kept");
            }
        }
    }
}

/// Never returns.
async fn watch_revision(ingest: &dyn Ingest, changed: &watch::Sender<u64>) {
    let mut every = interval(REVISION_EVERY);
    loop {
        every.tick().await;
        let now = ingest.revision();
        changed.send_if_modified(|known| std::mem::replace(known, now) != now);
    }
}

impl Accepting {
    /// Never returns.
    async fn accept_all(&self, listener: &TcpListener, speaks: Speaks) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.accepted(stream, peer, speaks),
                Err(error) => {
                    warn!(%error, "MQTT: cannot accept a connection; raise the limit of open files if this persists");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn accepted(&self, stream: TcpStream, peer: SocketAddr, speaks: Speaks) {
        let subject = Subject { peer, client_id: "", certificate: None };
        let refuse = |why: &str| self.shared.refusals.report(Kind::Capacity, subject, why);
        let Ok(connection) = Arc::clone(&self.connections).try_acquire_owned() else {
            return refuse("as many connections are open as may be (connections_max)");
        };
        let Ok(half_open) = Arc::clone(&self.half_open).try_acquire_owned() else {
            return refuse("as many connections wait for their CONNECT as may (half_open_max)");
        };
        // Acknowledgements are small and must not wait for each other.
        if let Err(error) = stream.set_nodelay(true) {
            warn!(%peer, %error, "MQTT: cannot turn off delayed sending");
        }
        let shared = Arc::clone(&self.shared);
        let (acceptor, revision) = (self.tls.acceptor(speaks), self.revision.clone());
        self.tasks.spawn(async move {
            let _connection = connection;
            let begun = Box::pin(async move {
                let (stream, peer) = greet(&shared, acceptor, stream, peer, revision).await?;
                begin(shared, stream, peer, half_open, speaks).await
            });
            // An idle connection holds no room for its greeting.
            if let Some(serving) = begun.await {
                serving.await;
            }
        });
    }
}

/// What serves the client from now on; `None` when what it speaks is not MQTT.
async fn begin(
    shared: Arc<Shared>,
    stream: TlsStream<TcpStream>,
    peer: Peer,
    half_open: OwnedSemaphorePermit,
    speaks: Speaks,
) -> Option<BoxFuture<'static, ()>> {
    if speaks == Speaks::Mqtt || tls::speaks_mqtt(stream.get_ref().1.alpn_protocol()) {
        return Some(Connection::new(shared, stream, peer, Some(half_open)).run().boxed());
    }
    let handshake = timeout(shared.config.connect_time_max, websocket::accept(stream)).await;
    match handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => Some(Connection::new(shared, stream, peer, Some(half_open)).run().boxed()),
        Err(error) => {
            let certificate = Some(&peer.principal.certificate);
            let subject = Subject { peer: peer.address, client_id: "", certificate };
            let why = format!("what came is not MQTT over WebSocket: {error}");
            shared.refusals.report(Kind::Protocol, subject, &why);
            None
        }
    }
}

/// What a listener expects after the TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Mqtt,
    /// MQTT where the client has named it in the handshake, WebSocket otherwise: AWS IoT's port 443.
    ByAlpn,
}

/// The TLS handshake and the first look-up; `None` when that was it.
async fn greet(
    shared: &Shared,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    mut revision: watch::Receiver<u64>,
) -> Option<(TlsStream<TcpStream>, Peer)> {
    let subject = Subject { peer: address, client_id: "", certificate: None };
    let refuse = |why: &str| shared.refusals.report(Kind::Handshake, subject, why);
    let handshake = select! {
        () = shared.shutdown.cancelled() => return None,
        handshake = timeout(shared.config.handshake_time_max, acceptor.accept(stream)) => handshake,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            refuse(&tls::handshake_failure(&error));
            return None;
        }
        Err(_) => {
            refuse("the TLS handshake did not end in time");
            return None;
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let Some(certificate_der) = certificate.map(|certificate| certificate.to_vec()) else {
        refuse("the client presented no certificate");
        return None;
    };
    // Whatever changes from here on is seen by the connection.
    revision.mark_unchanged();
    match identify(shared, &certificate_der).await {
        Ok(principal) => {
            let peer = Peer { address, certificate_der, principal, revision };
            Some((stream, peer))
        }
        Err(refusal) => {
            let certificate = tls::certificate_id(&certificate_der);
            let subject = Subject { certificate: certificate.as_ref(), ..subject };
            shared.refusals.report(Kind::Certificate, subject, &refusal.reason);
            None
        }
    }
}

/// Looks the certificate up; one that is unknown may register itself.
async fn identify(shared: &Shared, certificate_der: &[u8]) -> Result<Principal, Refusal> {
    match shared.ingest.identify(certificate_der) {
        Err(refusal) if refusal.kind == RefusalKind::UnknownCertificate => {
            let (ingest, der) = (Arc::clone(&shared.ingest), certificate_der.to_vec());
            let registered = spawn_blocking(move || ingest.register(&der)).await;
            registered.unwrap_or(Err(refusal))
        }
        looked_up => looked_up,
    }
}
