//! The end of a connection: what is still owed, what is kept, what is said.

use super::{Connection, Session};
use crate::{
    batch::{After, Waiting},
    hub::Departure,
    kept::{Bound, KickReason},
    refusals::Kind,
    wills,
};
use kilter_mqtt::{ReasonCode, session::Closing};
use std::{borrow::Cow, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::publishing::log_storage;

/// How long an ended connection may take to read what it is told.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);
/// A commit that was missed is noticed after this long.
const STORE_PAUSE: Duration = Duration::from_millis(20);

/// How a connection ended.
pub(super) struct End {
    why: Cow<'static, str>,
    /// Where it was a refusal.
    refusal: Option<Kind>,
    /// Where there is one.
    send_will: bool,
    /// The server stops.
    stopping: bool,
}

impl End {
    pub fn refused(kind: Kind, closing: Closing) -> Self {
        Self { why: closing.why, refusal: Some(kind), send_will: true, stopping: false }
    }

    /// The identity is gone: what it left behind is not sent either.
    pub fn disowned(kind: Kind, closing: Closing) -> Self {
        Self { send_will: false, ..Self::refused(kind, closing) }
    }

    /// Nothing was refused.
    pub fn parted(why: impl Into<Cow<'static, str>>) -> Self {
        Self { why: why.into(), refusal: None, send_will: true, stopping: false }
    }
}

pub(super) fn kicked(session: &mut Session, reason: KickReason) -> End {
    let (kind, code, why) = match reason {
        KickReason::TakenOver => {
            (Kind::TakenOver, ReasonCode::SESSION_TAKEN_OVER, "another connection came with the same client id")
        }
        KickReason::Full(Bound::All) => (
            Kind::Slow,
            ReasonCode::QUOTA_EXCEEDED,
            "as much waits for all clients as may (all_queues_messages_max, all_queues_bytes_max) and a message of QoS 1 \
             or 2 may not be left out",
        ),
        KickReason::Full(Bound::Own) => (
            Kind::Slow,
            ReasonCode::QUOTA_EXCEEDED,
            "the subscriber is too slow: its queue is full and a message of QoS 1 or 2 may not be left out",
        ),
    };
    End::refused(kind, session.close(code, why))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// The server stops: acknowledgements that are owed leave, then the client is told.
    pub(super) async fn drain(&mut self) -> End {
        let drain_time_max = self.shared.config.drain_time_max;
        let ended = match timeout(drain_time_max, self.settle_all(true)).await {
            Ok(ended) => ended,
            Err(_) => {
                warn!(client_id = %self.client_id, "MQTT: stopped before all messages were kept; they are not acknowledged");
                self.waiting = Waiting::default();
                None
            }
        };
        let closing = self.session.close(ReasonCode::SERVER_SHUTTING_DOWN, "the server is shutting down");
        // A device is not dead because the server goes: wills stay unsent.
        End { stopping: true, ..ended.unwrap_or_else(|| End::parted(closing.why)) }
    }

    /// Until nothing waits for the disk any more, whatever becomes of one message or another.
    async fn settle_all(&mut self, telling: bool) -> Option<End> {
        let mut first = None;
        while !self.waiting.is_empty() || self.steps.hands_on() {
            let outcome = select! {
                outcome = self.waiting.next() => Some(outcome),
                () = sleep(STORE_PAUSE), if self.steps.hands_on() => None,
            };
            let ended = outcome.and_then(|outcome| self.settle(outcome)).or_else(|| self.take_steps());
            first = first.or(ended);
            if telling && self.socket.drain(self.session.outbox()).await.is_err() {
                break;
            }
        }
        first
    }

    pub(super) async fn finish(&mut self, end: End) {
        match end.refusal {
            Some(kind) => self.report(kind, &end.why),
            None => info!(peer = %self.peer.address, client_id = %self.client_id, why = %end.why, "MQTT: disconnected"),
        }
        self.half_open = None;
        let drain_time_max = self.shared.config.drain_time_max;
        // QoS 2: what was begun is brought to its end before the client's next connection may go on with it, however long
        // the disk takes. Where the server stops, its next start does it.
        if self.member.as_ref().is_some_and(|member| member.stored) {
            let shutdown = self.shared.shutdown.clone();
            select! {
                _ = self.settle_all(false) => {}
                () = async { shutdown.cancelled().await; sleep(drain_time_max).await } => {}
            }
        }
        if let Some(member) = &self.member {
            let departure = Departure {
                expiry: self.session.session_expiry(),
                will: self.session.take_will().filter(|_| end.send_will),
                stopping: end.stopping,
            };
            if let Some((client, will)) = self.shared.hub.detach(&member.kept, departure)
                && let Some(durable) = wills::send(&self.shared, &client, will, self.peer.address)
            {
                self.waiting.push(durable, After::Nothing, 0);
            }
        }
        let farewell = async {
            self.socket.drain(self.session.outbox()).await?;
            self.socket.shutdown().await
        };
        // Nothing can be done for a peer that no longer listens.
        let _ = timeout(FAREWELL_TIME_MAX, farewell).await;
        let kept = async {
            while !self.waiting.is_empty() {
                if let (_, Err(error)) = self.waiting.next().await {
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
