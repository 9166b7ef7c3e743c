//! One connection from CONNECT to its end: one task that reads, decides, writes and waits for the disk.

mod admission;
mod publishing;

use crate::{
    batch::Waiting,
    config::MqttConfig,
    hub::{Delivery, Hub, Kick, KickReason},
    meters::{Meters, Open},
    refusals::{Kind, Refusals, Subject},
    socket::{Progress, Socket},
};
use kilter_core::{
    Action,
    ports::ingest::{Client, Ingest, Principal},
};
use kilter_mqtt::{
    Decoder, ReasonCode,
    session::{Closing, Delivered, Limits, Session, Todo},
    subscriptions::SubscriberId,
};
use publishing::log_storage;
use std::{borrow::Cow, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Bytes written but not taken by the client beyond which nothing more is read or delivered: a client that
/// does not read its acknowledgements gets no more of them.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// The timer does not ring more often than this.
const TIMER_PAUSE: Duration = Duration::from_millis(100);

/// How long an ended connection may take to read what it is told.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);

/// What all connections of a door share.
pub struct Shared {
    pub config: MqttConfig,
    pub ingest: Arc<dyn Ingest>,
    pub hub: Hub,
    pub meters: Meters,
    pub refusals: Refusals,
    pub shutdown: CancellationToken,
    /// Sessions count time from here.
    pub epoch: Instant,
}

/// Who is at the other end, as far as the handshake tells.
pub struct Peer {
    pub address: SocketAddr,
    pub certificate_der: Vec<u8>,
    pub principal: Principal,
    /// Taken before `principal` was looked up, so that no change of the registry is missed.
    pub revision: watch::Receiver<u64>,
}

struct Member {
    id: SubscriberId,
    client: Client,
    /// There once the client has subscribed: most devices only publish.
    mailbox: Option<mpsc::Receiver<Delivery>>,
}

/// How a connection ended.
struct End {
    why: Cow<'static, str>,
    /// Where it was a refusal.
    refusal: Option<Kind>,
    /// Where there is one.
    send_will: bool,
}

impl End {
    fn refused(kind: Kind, closing: Closing) -> Self {
        Self { why: closing.why, refusal: Some(kind), send_will: true }
    }

    /// The identity is gone: what it left behind is not sent either.
    fn disowned(kind: Kind, closing: Closing) -> Self {
        Self { send_will: false, ..Self::refused(kind, closing) }
    }

    /// Nothing was refused.
    fn parted(why: impl Into<Cow<'static, str>>) -> Self {
        Self { why: why.into(), refusal: None, send_will: true }
    }
}

pub struct Connection<S> {
    shared: Arc<Shared>,
    socket: Socket<S>,
    decoder: Decoder,
    session: Session,
    waiting: Waiting,
    peer: Peer,
    /// As CONNECT gave it; empty before.
    client_id: String,
    member: Option<Member>,
    kick: Arc<Kick>,
    half_open: Option<OwnedSemaphorePermit>,
    _open: Open,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// `half_open` is given back when the client is let in.
    pub fn new(shared: Arc<Shared>, stream: S, peer: Peer, half_open: Option<OwnedSemaphorePermit>) -> Self {
        let config = &shared.config;
        let packet_bytes_max = config.packet_bytes_max();
        let limits = Limits {
            payload_bytes_max: config.payload_bytes_max,
            packet_bytes_max: u32::try_from(packet_bytes_max).unwrap_or(u32::MAX),
            connect_time_max: config.connect_time_max,
        };
        Self {
            socket: Socket::new(stream),
            decoder: Decoder::server(packet_bytes_max),
            session: Session::new(limits, shared.epoch.elapsed()),
            waiting: Waiting::default(),
            peer,
            client_id: String::new(),
            member: None,
            kick: Arc::default(),
            half_open,
            _open: Open::new(&shared.meters.connections),
            shared,
        }
    }

    pub async fn run(mut self) {
        let end = self.serve().await;
        self.finish(end).await;
    }

    fn now(&self) -> Duration {
        self.shared.epoch.elapsed()
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            peer: self.peer.address,
            client_id: &self.client_id,
            certificate: Some(&self.peer.principal.certificate),
        }
    }

    fn report(&self, kind: Kind, reason: &str) {
        self.shared.refusals.report(kind, self.subject(), reason);
    }

    async fn serve(&mut self) -> End {
        let shared = Arc::clone(&self.shared);
        let kick = Arc::clone(&self.kick);
        let mut revision = self.peer.revision.clone();
        let mut stop = pin!(shared.shutdown.cancelled());
        let mut kicked = pin!(kick.kicked());
        let mut armed = self.session.deadline();
        let mut timer = pin!(sleep_until(shared.epoch + armed));
        loop {
            if let Some(end) = self.take_packets() {
                return end;
            }
            // The deadline mostly moves away: the timer is set anew only when it must ring sooner.
            if self.session.deadline() < armed {
                armed = self.session.deadline();
                timer.as_mut().reset(shared.epoch + armed);
            }
            let outbox_has_room = self.session.outbox().len() < OUTBOX_BYTES_MAX;
            let reading = outbox_has_room && self.may_take();
            let delivering = outbox_has_room && self.session.can_deliver();
            let ended = select! {
                biased;
                () = &mut stop => return self.drain().await,
                reason = &mut kicked => Some(self.kicked(reason)),
                outcome = self.waiting.next() => self.settle(outcome),
                Ok(()) = revision.changed() => self.identify_again(),
                () = &mut timer => {
                    let now = shared.epoch.elapsed();
                    let ended = self.ring(now);
                    armed = self.session.deadline().max(now + TIMER_PAUSE);
                    timer.as_mut().reset(shared.epoch + armed);
                    ended
                }
                progress = self.socket.progress(self.session.outbox(), reading) => self.progressed(progress),
                delivery = next_delivery(&mut self.member), if delivering => {
                    self.deliver(delivery);
                    None
                }
            };
            if let Some(end) = ended {
                return end;
            }
        }
    }

    /// Whether the client's next packet may be looked at.
    fn may_take(&self) -> bool {
        self.session.has_room() && self.waiting.has_room()
    }

    fn ring(&mut self, now: Duration) -> Option<End> {
        // A client is not silent while it is we who do not read, because the disk is slow.
        if self.session.is_open() && !self.may_take() {
            return None;
        }
        self.session.tick(now).map(|closing| End::refused(Kind::Timeout, closing))
    }

    fn progressed(&self, progress: io::Result<Progress>) -> Option<End> {
        match progress {
            Ok(Progress::Read(0)) => Some(End::parted("the client closed the connection without a goodbye")),
            Ok(_) => None,
            Err(error) => Some(End::parted(format!("the connection broke: {error}"))),
        }
    }

    /// Everything that is complete in the read buffer; consecutive messages go to the pipeline as one.
    fn take_packets(&mut self) -> Option<End> {
        let now = self.now();
        let mut batch = Vec::new();
        while self.may_take() {
            let todo = match self.decoder.decode(&mut self.socket.inbound) {
                Ok(None) => break,
                Ok(Some(packet)) => self.session.receive(packet, now),
                Err(error) => {
                    // What came before it stands.
                    let ended = self.publish(std::mem::take(&mut batch));
                    let closing = self.session.undecodable(&error);
                    return ended.or_else(|| Some(self.closed(closing)));
                }
            };
            if let Todo::Publish(inbound) = todo {
                batch.push(inbound);
                continue;
            }
            let ended = self.publish(std::mem::take(&mut batch)).or_else(|| self.act(todo));
            if ended.is_some() {
                return ended;
            }
        }
        self.publish(batch)
    }

    fn act(&mut self, todo: Todo) -> Option<End> {
        match todo {
            Todo::Nothing => None,
            Todo::Connect(request) => self.connect(request),
            Todo::Publish(inbound) => self.publish(vec![inbound]),
            Todo::Refused { topic, why } => {
                self.report(Kind::Publish, &format!("{} on {topic:?}: {why}", Action::Publish.name()));
                None
            }
            Todo::Subscribe(request) => {
                self.subscribe(request);
                None
            }
            Todo::Unsubscribe(filters) => {
                if let Some(member) = &self.member {
                    self.shared.hub.unsubscribe(member.id, &filters);
                }
                None
            }
            Todo::Close(closing) => Some(self.closed(closing)),
        }
    }

    fn closed(&self, closing: Closing) -> End {
        if closing.by_client {
            return End::parted(closing.why);
        }
        if self.member.is_none() {
            self.shared.meters.connects_refused.increment(1);
        }
        End::refused(Kind::Protocol, closing)
    }

    fn kicked(&mut self, reason: KickReason) -> End {
        let (kind, code, why) = match reason {
            KickReason::TakenOver => {
                (Kind::TakenOver, ReasonCode::SESSION_TAKEN_OVER, "another connection came with the same client id")
            }
            KickReason::Slow => (
                Kind::Slow,
                ReasonCode::QUOTA_EXCEEDED,
                "the subscriber is too slow: its queue is full and a message of QoS 1 may not be left out",
            ),
        };
        End::refused(kind, self.session.close(code, why))
    }

    fn deliver(&mut self, first: Delivery) {
        let mut next = Some(first);
        while let Some(Delivery { message, qos }) = next {
            match self.session.deliver(&message, qos) {
                Delivered::Sent => self.shared.meters.delivered.increment(1),
                Delivered::TooLarge => self.shared.meters.dropped_too_large.increment(1),
            }
            let room = self.session.can_deliver() && self.session.outbox().len() < OUTBOX_BYTES_MAX;
            let mailbox = self.member.as_mut().and_then(|member| member.mailbox.as_mut());
            next = mailbox.filter(|_| room).and_then(|mailbox| mailbox.try_recv().ok());
        }
    }
}

/// The end.
impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// The server stops: acknowledgements that are owed leave, then the client is told.
    async fn drain(&mut self) -> End {
        let drain_time_max = self.shared.config.drain_time_max;
        let settled = async {
            while !self.waiting.is_empty() {
                let outcome = self.waiting.next().await;
                if let Some(end) = self.settle(outcome) {
                    return Some(end);
                }
                if self.socket.drain(self.session.outbox()).await.is_err() {
                    break;
                }
            }
            None
        };
        let ended = match timeout(drain_time_max, settled).await {
            Ok(ended) => ended,
            Err(_) => {
                warn!(client_id = %self.client_id, "MQTT: stopped before all messages were kept; they are not acknowledged");
                self.waiting = Waiting::default();
                None
            }
        };
        let closing = self.session.close(ReasonCode::SERVER_SHUTTING_DOWN, "the server is shutting down");
        // A device is not dead because the server goes: wills stay unsent.
        End { send_will: false, ..ended.unwrap_or_else(|| End::parted(closing.why)) }
    }

    async fn finish(mut self, end: End) {
        match end.refusal {
            Some(kind) => self.report(kind, &end.why),
            None => info!(peer = %self.peer.address, client_id = %self.client_id, why = %end.why, "MQTT: disconnected"),
        }
        self.half_open = None;
        if let Some(member) = self.member.take() {
            self.shared.hub.leave(member.id, &self.client_id, self.session.filters());
            if let Some(will) = self.session.take_will().filter(|_| end.send_will) {
                self.send_will(&member, will);
            }
        }
        let farewell = async {
            self.socket.drain(self.session.outbox()).await?;
            self.socket.shutdown().await
        };
        // Nothing can be done for a peer that no longer listens.
        let _ = timeout(FAREWELL_TIME_MAX, farewell).await;
        let drain_time_max = self.shared.config.drain_time_max;
        let kept = async {
            while !self.waiting.is_empty() {
                if let Err(error) = self.waiting.next().await {
                    log_storage(&self.client_id, &error);
                    break;
                }
            }
        };
        if timeout(drain_time_max, kept).await.is_err() {
            warn!(client_id = %self.client_id, "MQTT: gave up waiting for a closed connection's messages to be kept");
        }
    }
}

/// Pending for ever without a mailbox, so that it can stand in a `select!`.
async fn next_delivery(member: &mut Option<Member>) -> Delivery {
    match member.as_mut().and_then(|member| member.mailbox.as_mut()) {
        Some(mailbox) => match mailbox.recv().await {
            Some(delivery) => delivery,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
