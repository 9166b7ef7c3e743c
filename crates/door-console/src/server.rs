//! The door's socket: bounded connections, time limits, and a drain at shutdown.

use crate::live::Closing;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};
use tokio_util::sync::CancellationToken;

/// Connections at a time; the next one waits in the system's queue. A console holds two or three.
const CONNECTIONS_MAX: usize = 256;
/// A request's head must arrive within this; an idle connection is closed after it.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// Bytes of a request's head: addresses and a token fit many times over.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long requests under way may take after shutdown began.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// Pause after a failed accept: out of file descriptors, trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "the console cannot listen on {0}: that is not a loopback address, and everybody who reaches it could read \
         all results. Use 127.0.0.1 or [::1] with --http, and an SSH tunnel from elsewhere"
    )]
    NotLoopback(SocketAddr),
    #[error("the console cannot listen on {address}: is another program using the port? Choose another with --http")]
    Io {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

/// Opens the listener. Only on loopback: reading needs no login.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener, BindError> {
    if !listen.ip().is_loopback() {
        return Err(BindError::NotLoopback(listen));
    }
    TcpListener::bind(listen).await.map_err(|source| BindError::Io { address: listen, source })
}

/// Serves until `shutdown`, then lets requests under way finish, for at most five seconds.
pub async fn run(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let service = TowerToHyperService::new(router.layer(Extension(Closing(shutdown.clone()))));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(HEAD_BYTES_MAX);
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    while let Some(Some((socket, seat))) = shutdown.run_until_cancelled(accept(&listener, &seats)).await {
        let connection = http.serve_connection(TokioIo::new(socket), service.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a console connection ended early");
            }
            drop(seat);
        });
    }
    drop(listener);
    if time::timeout(DRAIN_TIME_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            "console requests were cut off: they were not done {} s after shutdown",
            DRAIN_TIME_MAX.as_secs()
        );
    }
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, seats: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let seat = Arc::clone(seats).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return Some((socket, seat)),
            Err(error) => {
                tracing::warn!(%error, "the console could not take a connection; it will go on trying");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
