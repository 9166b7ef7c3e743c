//! The door's socket: bounded connections, time limits, TLS on request, and a drain at shutdown.

use crate::door::Door;
use axum::body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Connections at a time; the next one waits in the system's queue. An SDK holds up to fifty.
const CONNECTIONS_MAX: usize = 512;
/// A request's head must arrive within this; an idle connection is closed after it.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
/// Bytes of a request's head: a presigned address with a token, and 2 KiB of an object's own headers.
const HEAD_BYTES_MAX: usize = 32 * 1024;
const HEADERS_MAX: usize = 128;
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long requests under way may take after shutdown began.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// Pause after a failed accept: out of file descriptors, trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "the AWS endpoint cannot listen on {0} without TLS: requests are signed, but everybody on the way could read \
         them. Switch TLS on (aws_tls = true, or --aws-tls), or use 127.0.0.1 with --aws"
    )]
    NotLoopback(SocketAddr),
    #[error(
        "the AWS endpoint cannot listen on {address}: is another program using the port? Choose another with --aws"
    )]
    Io {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the AWS endpoint cannot use the server's certificate: {0}")]
    Tls(String),
}

/// A socket that listens, not serving yet.
pub struct AwsListener {
    socket: TcpListener,
    tls: Option<AwsTls>,
}

impl AwsListener {
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The way to change the certificate while it serves; `None`: it serves without TLS.
    pub fn tls(&self) -> Option<AwsTls> {
        self.tls.clone()
    }
}

/// What new connections are greeted with.
#[derive(Clone)]
pub struct AwsTls(Arc<RwLock<TlsAcceptor>>);

impl AwsTls {
    /// Takes another certificate for connections from now on; where it cannot be used, the old one stays.
    pub fn reload(&self, tls: &ServerTls<'_>) -> Result<(), BindError> {
        let acceptor = server_config(tls)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
        Ok(())
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// PEM of the server's own certificate and key.
pub struct ServerTls<'a> {
    pub certificate_pem: &'a str,
    pub key_pem: &'a str,
}

/// Opens the listener; beyond loopback only with TLS.
pub async fn bind(listen: SocketAddr, tls: Option<ServerTls<'_>>) -> Result<AwsListener, BindError> {
    if tls.is_none() && !listen.ip().is_loopback() {
        return Err(BindError::NotLoopback(listen));
    }
    let tls = tls.map(|tls| server_config(&tls)).transpose()?.map(|acceptor| AwsTls(Arc::new(RwLock::new(acceptor))));
    let socket = TcpListener::bind(listen).await.map_err(|source| BindError::Io { address: listen, source })?;
    Ok(AwsListener { socket, tls })
}

fn server_config(tls: &ServerTls<'_>) -> Result<TlsAcceptor, BindError> {
    let bad = |error: &dyn std::fmt::Display| BindError::Tls(error.to_string());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(tls.certificate_pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes()).map_err(|e| bad(&e))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| bad(&e))?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(|e| bad(&e))?, key)
        .map_err(|e| bad(&e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `shutdown`, then lets requests under way finish, for at most five seconds.
pub async fn run(listener: AwsListener, door: Arc<Door>, shutdown: CancellationToken) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    while let Some(Some((socket, peer, seat))) = shutdown.run_until_cancelled(accept(&listener.socket, &seats)).await {
        // Small answers must not wait for the peer's delayed acknowledgement.
        let _ = socket.set_nodelay(true);
        let (door, tls, watcher) = (door.clone(), listener.tls.as_ref().map(AwsTls::acceptor), graceful.watcher());
        tokio::spawn(async move {
            match tls {
                None => connection(socket, peer, door, watcher).await,
                Some(tls) => match time::timeout(HANDSHAKE_TIME_MAX, tls.accept(socket)).await {
                    Ok(Ok(stream)) => connection(stream, peer, door, watcher).await,
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake with the AWS endpoint failed"),
                    Err(_) => tracing::debug!(%peer, "a TLS handshake with the AWS endpoint took too long"),
                },
            }
            drop(seat);
        });
    }
    drop(listener);
    if time::timeout(DRAIN_TIME_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("AWS requests were cut off: they were not done {} s after shutdown", DRAIN_TIME_MAX.as_secs());
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    door: Arc<Door>,
    watcher: Watcher,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let door = door.clone();
        async move { Ok::<_, Infallible>(door.answer(request.map(Body::new), peer).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    if let Err(error) = watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await {
        tracing::debug!(%peer, %error, "a connection to the AWS endpoint ended early");
    }
}

/// The next connection, once there is room for it.
async fn accept(socket: &TcpListener, seats: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let seat = Arc::clone(seats).acquire_owned().await.ok()?;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => return Some((stream, peer, seat)),
            Err(error) => {
                tracing::warn!(%error, "the AWS endpoint could not take a connection; it will go on trying");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
