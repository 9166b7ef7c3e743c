//! One connection from CONNECT to its end: one task that reads, decides, writes and waits for the disk.

mod admission;
mod delivering;
mod ending;
mod exactly;
mod publishing;
mod throttle;

use crate::{
    batch::Waiting,
    config::MqttConfig,
    fan_out::Context,
    hub::Hub,
    kept::{Kept, Kick, KickReason},
    meters::{Meters, Open},
    refusals::{Kind, Refusals, Subject},
    socket::{Progress, Socket},
};
use ending::End;
use exactly::Steps;
use kilter_core::{
    Action,
    ports::ingest::{Client, Ingest, Principal},
};
use kilter_mqtt::{
    Decoder, QoS,
    session::{Closing, Session, Todo},
};
use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use throttle::Throttle;
pub use throttle::{TenantShare, Tenants};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
    sync::{Notify, OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Bytes written but not taken by the client beyond which nothing more is read or delivered: a client that
/// does not read its acknowledgements gets no more of them.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// The timer does not ring more often than this.
const TIMER_PAUSE: Duration = Duration::from_millis(100);

/// What all connections of a door share.
pub struct Shared {
    pub config: MqttConfig,
    pub ingest: Arc<dyn Ingest>,
    pub hub: Hub,
    pub meters: Meters,
    pub refusals: Refusals,
    pub tenants: Tenants,
    pub shutdown: CancellationToken,
    /// Sessions count time from here.
    pub epoch: Instant,
}

impl Shared {
    pub fn context(&self) -> Context<'_> {
        Context { ingest: &*self.ingest, meters: &self.meters, refusals: &self.refusals }
    }
}

/// Who is at the other end, as far as the handshake tells.
pub struct Peer {
    pub address: SocketAddr,
    pub certificate_der: Vec<u8>,
    pub principal: Principal,
    /// Taken before `principal` was looked up, so that no change of the registry is missed.
    pub revision: watch::Receiver<u64>,
}

/// A client that was let in, and its session.
struct Member {
    client: Client,
    kept: Arc<Kept>,
    /// The session outlives the connection: what is promised about it is on disk first.
    stored: bool,
}

pub struct Connection<S> {
    shared: Arc<Shared>,
    socket: Socket<S>,
    decoder: Decoder,
    session: Session,
    waiting: Waiting,
    /// What waits for the sessions' store.
    steps: Steps,
    throttle: Throttle,
    peer: Peer,
    /// As CONNECT gave it, or as it was assigned; empty before.
    client_id: String,
    member: Option<Member>,
    kick: Arc<Kick>,
    half_open: Option<OwnedSemaphorePermit>,
    _open: Open,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// `half_open` is given back when the client is let in.
    pub fn new(shared: Arc<Shared>, stream: S, peer: Peer, half_open: Option<OwnedSemaphorePermit>) -> Self {
        let limits = shared.config.limits();
        Self {
            socket: Socket::new(stream),
            decoder: Decoder::server(shared.config.packet_bytes_max()),
            session: Session::new(limits, shared.epoch.elapsed()),
            waiting: Waiting::default(),
            steps: Steps::default(),
            throttle: Throttle::new(&shared.config),
            peer,
            client_id: String::new(),
            member: None,
            kick: Arc::default(),
            half_open,
            _open: Open::new(&shared.meters.connections),
            shared,
        }
    }

    /// What does not last as long as the connection is boxed: an idle one holds no room for it.
    pub async fn run(mut self) {
        let end = self.serve().await;
        Box::pin(self.finish(end)).await;
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
        let mut wake: Arc<Notify> = Arc::default();
        let mut revision = self.peer.revision.clone();
        let mut stop = pin!(shared.shutdown.cancelled());
        let mut kicked = pin!(kick.kicked());
        let mut armed = self.session.deadline();
        let mut timer = pin!(sleep_until(shared.epoch + armed));
        let mut pause = pin!(sleep_until(shared.epoch));
        loop {
            match self.take_packets() {
                Taken::All => {}
                Taken::Ended(end) => return end,
                Taken::Connect(request) => match Box::pin(self.connect(request)).await {
                    None => {
                        wake = self.member.as_ref().map_or(wake, |member| Arc::clone(&member.kept.wake));
                        continue;
                    }
                    Some(end) => return end,
                },
            }
            if let Some(end) = self.take_steps() {
                return end;
            }
            self.deliver();
            // The deadline mostly moves away: the timer is set anew only when it must ring sooner.
            if self.session.deadline() < armed {
                armed = self.session.deadline();
                timer.as_mut().reset(shared.epoch + armed);
            }
            let throttled = self.throttled();
            if let Some(until) = throttled {
                pause.as_mut().reset(shared.epoch + until);
            }
            let reading = self.session.outbox().len() < OUTBOX_BYTES_MAX && self.has_room() && throttled.is_none();
            let ended = select! {
                biased;
                () = &mut stop => return Box::pin(self.drain()).await,
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
                () = wake.notified() => None,
                () = &mut pause, if throttled.is_some() => None,
                progress = self.socket.progress(self.session.outbox(), reading) => self.progressed(progress),
            };
            if let Some(end) = ended {
                return end;
            }
        }
    }

    /// Whether the client's next packet may be looked at.
    fn may_take(&mut self) -> bool {
        self.has_room() && self.throttled().is_none()
    }

    fn has_room(&self) -> bool {
        self.session.has_room() && self.waiting.has_room() && self.steps.has_room()
    }

    /// Until when what has come in must wait, because it comes too fast.
    fn throttled(&mut self) -> Option<Duration> {
        let now = self.now();
        if self.socket.inbound.is_empty() { None } else { self.throttle.until(now) }
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
    fn take_packets(&mut self) -> Taken {
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
                    return Taken::Ended(ended.unwrap_or_else(|| self.closed(closing)));
                }
            };
            if let Todo::Publish(inbound) = todo {
                self.throttle.took_one(now, &self.shared.meters.slowed);
                batch.push(inbound);
                continue;
            }
            if let Some(end) = self.publish(std::mem::take(&mut batch)) {
                return Taken::Ended(end);
            }
            match self.act(todo) {
                Taken::All => {}
                other => return other,
            }
        }
        self.publish(batch).map_or(Taken::All, Taken::Ended)
    }

    fn act(&mut self, todo: Todo) -> Taken {
        match todo {
            Todo::Nothing => {}
            Todo::Connect(request) => return Taken::Connect(request),
            Todo::Publish(inbound) => {
                if let Some(end) = self.publish(vec![inbound]) {
                    return Taken::Ended(end);
                }
            }
            Todo::Refused { topic, why } => {
                self.report(Kind::Publish, &format!("{} on {topic:?}: {why}", Action::Publish.name()));
            }
            Todo::Complete(packet_id) => self.complete(packet_id),
            Todo::Acknowledged(acknowledged) => self.acknowledged(acknowledged),
            Todo::Subscribe(request) => self.subscribe(request),
            Todo::Unsubscribe { packet_id, filters, codes } => self.unsubscribe(packet_id, &filters, codes),
            Todo::Close(closing) => return Taken::Ended(self.closed(closing)),
        }
        Taken::All
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
        ending::kicked(&mut self.session, reason)
    }
}

/// What came of the packets that were there.
enum Taken {
    All,
    /// To be decided, which takes time.
    Connect(kilter_mqtt::session::ConnectRequest),
    Ended(End),
}

/// Whether a message waits for the sessions' store before it is handed on.
fn goes_by_steps(member: &Member, qos: QoS) -> bool {
    member.stored && qos == QoS::ExactlyOnce
}
