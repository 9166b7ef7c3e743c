//! Messages out, and what the client says about them.

use super::{Connection, OUTBOX_BYTES_MAX, exactly::Step};
use kilter_mqtt::{
    ReasonCode,
    outflow::Receipted,
    session::{Acknowledged, Delivered},
};
use tokio::io::{AsyncRead, AsyncWrite};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Sends what may be sent, as long as the client takes it.
    pub(super) fn deliver(&mut self) {
        let Some(member) = self.member.as_ref().filter(|_| self.session.is_open()) else { return };
        let hub = &self.shared.hub;
        let mut state = member.kept.lock();
        if state.outflow.is_idle() {
            return;
        }
        let (now, durable) = (hub.clock.now(), hub.store.durable());
        let mut gone = Vec::new();
        while self.session.outbox().len() < OUTBOX_BYTES_MAX {
            let Some(delivery) = state.outflow.next(now, durable, &mut gone) else { break };
            match self.session.deliver(&delivery) {
                Delivered::Sent => self.shared.meters.delivered.increment(1),
                Delivered::TooLarge => {
                    self.shared.meters.dropped_too_large.increment(1);
                    gone.extend(delivery.packet_id.and_then(|id| state.outflow.discard(id)));
                }
            }
        }
        for seq in gone {
            member.kept.forget(&state, &hub.store, seq);
        }
    }

    pub(super) fn acknowledged(&mut self, acknowledged: Acknowledged) {
        let Some(member) = &self.member else { return };
        let (kept, store) = (&member.kept, &self.shared.hub.store);
        let mut state = kept.lock();
        let (done, step) = match acknowledged {
            Acknowledged::Ack(id) => (state.outflow.acknowledge(id), None),
            Acknowledged::Complete(id) => (state.outflow.complete(id), None),
            Acknowledged::Received(id, code) => match state.outflow.received(id, code) {
                // Once the client was asked to let go, it must never get the message again.
                Receipted::Release(seq) => {
                    let ticket = kept.released(&state, store, (id, seq));
                    (None, Some((ticket, Step::Release(id, ReasonCode::SUCCESS))))
                }
                Receipted::Done(seq) => (Some(seq), None),
                Receipted::Again if self.steps.releases(id) => (None, None),
                Receipted::Again => (None, Some((0, Step::Release(id, ReasonCode::SUCCESS)))),
                Receipted::Unknown => (None, Some((0, Step::Release(id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND)))),
            },
        };
        if let Some(seq) = done {
            kept.forget(&state, store, seq);
        }
        drop(state);
        if let Some((ticket, step)) = step {
            self.step(ticket, step);
        }
    }
}
