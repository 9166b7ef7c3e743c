//! What must be on disk before the client is told: QoS 2 in both directions, subscriptions of kept sessions.
//!
//! A QoS 2 message of a kept session goes: *intent* on disk → handed to the streams → durable there → in the queues of
//! subscribers and marked as handed on, in one commit → PUBREC. A crash anywhere in between is mended at the next start
//! ([`crate::recover`]) from the intent, which says where the message's records would be.

use super::{
    Connection,
    ending::End,
    publishing::{NotTaken, log_storage},
};
use crate::{
    batch::After,
    records::{self, Intent, MessageRecord, RECEIVED, ReceivedRecord},
    refusals::Kind,
    store::Ticket,
};
use kilter_core::{
    Timestamp,
    ports::{ingest::InboundMessage, table::Write},
};
use kilter_mqtt::{
    PacketId, QoS, ReasonCode,
    session::{Inbound, Receipt},
};
use std::collections::VecDeque;
use tokio::io::{AsyncRead, AsyncWrite};

/// Steps that may wait on one connection: beyond it the socket is not read. As many as messages may be in flight.
const STEPS_MAX: usize = 2_000;

/// What is done once its ticket is durable.
pub(super) enum Step {
    /// The intent is on disk.
    HandOn(Box<Inbound>, Timestamp),
    /// The intent is no more on disk: the client is told that the message was not taken in.
    NotTaken(Box<Inbound>, NotTaken),
    /// The message was handed on.
    Settle(Receipt),
    /// PUBREL may leave.
    Release(PacketId, ReasonCode),
    /// PUBCOMP may leave.
    Complete(PacketId),
    Subscribed(PacketId, Vec<Result<(String, QoS), ReasonCode>>),
    Unsubscribed(PacketId, Vec<ReasonCode>),
}

/// In the order of their tickets.
#[derive(Default)]
pub(super) struct Steps {
    row: VecDeque<(Ticket, Step)>,
    last_arrival: Timestamp,
}

impl Steps {
    pub fn has_room(&self) -> bool {
        self.row.len() < STEPS_MAX
    }

    /// Whether messages wait to be handed on.
    pub fn hands_on(&self) -> bool {
        self.row.iter().any(|(_, step)| matches!(step, Step::HandOn(..)))
    }

    /// Whether a PUBREL for this identifier waits already.
    pub fn releases(&self, id: PacketId) -> bool {
        self.row.iter().any(|(_, step)| matches!(step, Step::Release(known, _) if *known == id))
    }

    /// A moment that no other message of the client has.
    fn arrival(&mut self, now: Timestamp) -> Timestamp {
        let next = Timestamp::from_nanos(self.last_arrival.as_nanos().saturating_add(1));
        self.last_arrival = now.max(next);
        self.last_arrival
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// To be done once the ticket is durable, after all steps before it.
    pub(super) fn step(&mut self, ticket: Ticket, step: Step) {
        self.steps.row.push_back((ticket, step));
    }

    /// Does the steps whose time has come.
    pub(super) fn take_steps(&mut self) -> Option<End> {
        if self.steps.row.is_empty() {
            return None;
        }
        let durable = self.shared.hub.store.durable();
        while self.steps.row.front().is_some_and(|(ticket, _)| *ticket <= durable) {
            let (_, step) = self.steps.row.pop_front()?;
            if let Some(end) = self.take_step(step) {
                return Some(end);
            }
        }
        let failure = self.shared.hub.store.failure().filter(|_| !self.steps.row.is_empty())?;
        // None of them will come to pass.
        self.steps.row.clear();
        log_storage(&self.client_id, &failure);
        let why = format!("what must be kept could not be: {failure}");
        Some(End::refused(Kind::Storage, self.session.close(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, why)))
    }

    fn take_step(&mut self, step: Step) -> Option<End> {
        match step {
            Step::HandOn(inbound, arrival) => self.hand_on(inbound, arrival),
            Step::NotTaken(inbound, why) => return self.not_taken(*inbound, why),
            Step::Settle(receipt) => self.session.settle(receipt, receipt),
            Step::Release(id, code) => self.session.release(id, code),
            Step::Complete(id) => self.session.completed(id),
            Step::Subscribed(id, outcomes) => self.session.subscribed(id, outcomes),
            Step::Unsubscribed(id, codes) => self.session.unsubscribed(id, codes),
        }
        None
    }

    /// A QoS 2 message of a kept session: what is about to be done goes to disk first.
    pub(super) fn intend(&mut self, inbound: Inbound) {
        let (Some(member), Some(id)) = (&self.member, inbound.packet_id) else { return };
        let hub = &self.shared.hub;
        let arrival = self.steps.arrival(hub.clock.now());
        let message = MessageRecord {
            topic: inbound.topic.to_string(),
            payload: inbound.payload.to_vec(),
            properties: inbound.properties.as_deref().cloned(),
            expires: None,
        };
        let since = self.shared.ingest.positions(&inbound.topic);
        let mut state = member.kept.lock();
        state.received.insert(id);
        let intent = Some(Intent { message, retain: inbound.retain, arrival, since });
        let record = ReceivedRecord { epoch: state.epoch, intent };
        let write = records::put(&RECEIVED, &self.client_id, records::id_key(id), &record);
        let ticket = hub.store.submit([write], Some(&member.kept.wake));
        drop(state);
        self.step(ticket, Step::HandOn(Box::new(inbound), arrival));
    }

    fn hand_on(&mut self, inbound: Box<Inbound>, arrival: Timestamp) {
        let (Some(member), Some(id)) = (&self.member, inbound.packet_id) else { return };
        let why = match self.check_retained(&inbound) {
            Err(why) => why,
            Ok(()) => {
                let message = InboundMessage {
                    topic: inbound.topic.clone(),
                    payload: inbound.payload.clone(),
                    retain: inbound.retain,
                    properties: inbound.properties.clone(),
                    arrival: Some(arrival),
                };
                let accepted = self.shared.ingest.publish(&member.client, vec![message]);
                if accepted.count == 1 {
                    let bytes = inbound.payload.len();
                    self.shared.meters.received.increment(1);
                    self.waiting.push(accepted.durable, After::HandOn(inbound), bytes);
                    return;
                }
                NotTaken::Refused(accepted.refusal)
            }
        };
        let ticket = self.forget_received(id);
        self.step(ticket, Step::NotTaken(inbound, why));
    }

    /// Answers when it is forgotten on disk as well.
    fn forget_received(&self, id: PacketId) -> Ticket {
        let Some(member) = self.member.as_ref().filter(|member| member.stored) else { return 0 };
        member.kept.lock().received.remove(&id);
        let write = Write::delete(&RECEIVED, self.client_id.as_str(), records::id_key(id));
        self.shared.hub.store.submit([write], Some(&member.kept.wake))
    }

    /// The streams did not take the message: it is new when the client sends it again. Where the client does not before
    /// the server's next start, the intent that is still on disk is carried out then.
    pub(super) fn not_handed_on(&self, inbound: &Inbound) {
        if let (Some(member), Some(id)) = (&self.member, inbound.packet_id) {
            member.kept.lock().received.remove(&id);
        }
    }

    /// The message is in its streams. Queues and mark are one commit: after a crash either all or nothing is there.
    pub(super) fn handed_on(&mut self, inbound: &Inbound) {
        let (Some(member), Some(id)) = (&self.member, inbound.packet_id) else { return };
        let hub = &self.shared.hub;
        let one_commit = hub.store.group();
        hub.fan_out(Some(member.kept.id), inbound, &self.shared.context());
        let record = ReceivedRecord { epoch: member.kept.lock().epoch, intent: None };
        let write = records::put(&RECEIVED, &self.client_id, records::id_key(id), &record);
        let ticket = hub.store.submit([write], Some(&member.kept.wake));
        drop(one_commit);
        if let Some(receipt) = inbound.receipt {
            self.step(ticket, Step::Settle(receipt));
        }
    }

    /// PUBREL came: the identifier is forgotten, on disk before the client may use it again.
    pub(super) fn complete(&mut self, id: PacketId) {
        let ticket = self.forget_received(id);
        self.step(ticket, Step::Complete(id));
    }
}
