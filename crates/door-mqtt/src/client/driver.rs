//! The client's background task and its TLS connection.

use super::{ANSWER_TIME_MAX, ClientError, Message, Shared};
use crate::{
    socket::{Progress, Socket},
    tls,
};
use bytes::BytesMut;
use kilter_mqtt::{Decoder, Version, client::Event, packet::Publish};
use rustls::pki_types::ServerName;
use std::{io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    select,
    sync::mpsc,
    time::{sleep_until, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The largest packet that is taken from a server.
const PACKET_BYTES_MAX: usize = 1024 * 1024;
/// Without a keep-alive there is nothing to watch: far away, and still within what a timer can hold.
const IDLE_TICK: Duration = Duration::from_secs(365 * 24 * 3600);
/// The timer never rings more often than this.
const IDLE_TICK_MIN: Duration = Duration::from_millis(10);

/// Resolves a `host:port` and shakes hands.
pub async fn connect_tls(
    addr: &str,
    ca_pem: &str,
    cert_pem: &str,
    key_pem: &str,
) -> Result<TlsStream<TcpStream>, ClientError> {
    let bad_address = || ClientError::Address(addr.to_owned());
    let (host, _) = addr.rsplit_once(':').ok_or_else(bad_address)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let server_name = ServerName::try_from(host).map_err(|_| bad_address())?;
    let config = tls::client_config(ca_pem, cert_pem, key_pem).map_err(|error| ClientError::Tls(Arc::new(error)))?;
    let failed = |source: io::Error| ClientError::Connect { addr: addr.to_owned(), source: Arc::new(source) };
    let stream = TcpStream::connect(addr).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    TlsConnector::from(config).connect(server_name, stream).await.map_err(failed)
}

/// The background task: the only one that touches the socket.
pub(super) struct Driver {
    shared: Arc<Shared>,
    socket: Socket<TlsStream<TcpStream>>,
    decoder: Decoder,
    outgoing: BytesMut,
    messages: mpsc::Sender<Message>,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        stream: TlsStream<TcpStream>,
        version: Version,
        messages: mpsc::Sender<Message>,
    ) -> Self {
        let decoder = Decoder::with_version(version, PACKET_BYTES_MAX);
        Self { shared, socket: Socket::new(stream), decoder, outgoing: BytesMut::new(), messages }
    }

    pub(super) async fn run(mut self) {
        let error = self.drive().await;
        {
            let mut inner = self.shared.lock();
            inner.ended = Some(error);
            // Whoever publishes from now on is told so.
            inner.session.disconnect(self.shared.epoch.elapsed());
        }
        self.shared.happened.notify_waiters();
        let _ = timeout(ANSWER_TIME_MAX, self.socket.shutdown()).await;
    }

    async fn drive(&mut self) -> ClientError {
        let shared = Arc::clone(&self.shared);
        let mut armed = Duration::ZERO;
        let mut timer = pin!(sleep_until(shared.epoch));
        loop {
            let (closing, deadline) = {
                let mut inner = shared.lock();
                if self.outgoing.is_empty() {
                    std::mem::swap(inner.session.outbox(), &mut self.outgoing);
                    inner.sending = !self.outgoing.is_empty();
                }
                (inner.session.is_closed(), inner.session.deadline().unwrap_or(IDLE_TICK))
            };
            if closing && self.outgoing.is_empty() {
                return ClientError::Disconnected;
            }
            // The deadline mostly moves away: the timer is set anew only when it must ring sooner.
            if deadline < armed {
                armed = deadline;
                timer.as_mut().reset(shared.epoch + armed);
            }
            select! {
                biased;
                progress = self.socket.progress(&mut self.outgoing, true) => match progress {
                    Ok(Progress::Read(0)) => {
                        return ClientError::Lost(Arc::new(io::ErrorKind::UnexpectedEof.into()));
                    }
                    Ok(Progress::Read(_)) => {
                        if let Err(error) = self.take_packets().await {
                            return error;
                        }
                    }
                    Ok(Progress::Written) => {
                        shared.lock().sending = false;
                        shared.happened.notify_waiters();
                    }
                    Err(error) => return ClientError::Lost(Arc::new(error)),
                },
                () = shared.to_send.notified() => {}
                () = &mut timer => {
                    let now = shared.epoch.elapsed();
                    if shared.lock().session.tick(now) {
                        return ClientError::Lost(Arc::new(io::ErrorKind::TimedOut.into()));
                    }
                    armed = deadline.max(now + IDLE_TICK_MIN);
                    timer.as_mut().reset(shared.epoch + armed);
                }
            }
        }
    }

    async fn take_packets(&mut self) -> Result<(), ClientError> {
        let mut messages = Vec::new();
        let outcome = self.take_complete(&mut messages);
        self.shared.happened.notify_waiters();
        for message in messages {
            // Nobody listens any more: the rest is let go.
            if self.messages.send(message).await.is_err() {
                break;
            }
        }
        outcome
    }

    fn take_complete(&mut self, messages: &mut Vec<Message>) -> Result<(), ClientError> {
        let now = self.shared.epoch.elapsed();
        let mut inner = self.shared.lock();
        while let Some(packet) = self.decoder.decode(&mut self.socket.inbound)? {
            match inner.session.receive(packet, now) {
                Event::Nothing | Event::Connected => {}
                Event::Settled => inner.settled(),
                Event::Answered(codes) => inner.answers.push(codes),
                Event::Message(Publish { topic, payload, qos, .. }) => messages.push(Message { topic, payload, qos }),
                Event::Refused(code) => return Err(ClientError::Refused(code)),
                Event::Closed(code) => return Err(ClientError::Closed(code)),
                Event::Violation(what) => return Err(ClientError::Violation(what)),
            }
        }
        Ok(())
    }
}
