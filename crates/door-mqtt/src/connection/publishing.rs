//! Messages in: to the pipeline, to subscribers, and their acknowledgements.

use super::{Connection, admission::code_of, ending::End, goes_by_steps};
use crate::{batch::After, refusals::Kind, store::busy};
use futures::{FutureExt, future::BoxFuture};
use kilter_core::{
    Action,
    ports::{
        ingest::{InboundMessage, Refusal, RefusalKind},
        stream::{StreamError, StreamErrorKind},
    },
};
use kilter_mqtt::{ReasonCode, session::Inbound};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{error, warn};

/// Why a message was not taken in.
pub(super) enum NotTaken {
    /// `None`: no reason was given.
    Refused(Option<Refusal>),
    RetainedFull,
}

impl From<Refusal> for NotTaken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Some(refusal))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// In their order; those that must be on disk first go their own way. Messages are acknowledged from the first to the
    /// last of a batch: what goes its own way must not stand between them.
    pub(super) fn publish(&mut self, batch: Vec<Inbound>) -> Option<End> {
        let member = self.member.as_ref()?;
        if !batch.iter().any(|inbound| inbound.retain || goes_by_steps(member, inbound.qos)) {
            return self.take_in(batch);
        }
        let mut plain = Vec::new();
        for inbound in batch {
            if goes_by_steps(self.member.as_ref()?, inbound.qos) {
                let ended = self.take_in(std::mem::take(&mut plain));
                if ended.is_some() {
                    return ended;
                }
                self.intend(inbound);
            } else if let Err(why) = self.check_retained(&inbound) {
                let ended = self.take_in(std::mem::take(&mut plain)).or_else(|| self.not_taken(inbound, why));
                if ended.is_some() {
                    return ended;
                }
            } else {
                plain.push(inbound);
            }
        }
        self.take_in(plain)
    }

    fn take_in(&mut self, mut batch: Vec<Inbound>) -> Option<End> {
        while !batch.is_empty() {
            let client = self.member.as_ref().map(|member| member.client.clone())?;
            let messages = batch.iter().map(|inbound| InboundMessage {
                topic: inbound.topic.clone(),
                payload: inbound.payload.clone(),
                retain: inbound.retain,
                properties: inbound.properties.clone(),
                arrival: None,
            });
            let accepted = self.shared.ingest.publish(&client, messages.collect());
            let mut rest = batch.split_off(accepted.count.min(batch.len())).into_iter();
            if !batch.is_empty() {
                self.accepted(&batch, accepted.durable);
            }
            let refused = rest.next()?;
            if let Some(end) = self.refused(refused, accepted.refusal) {
                return Some(end);
            }
            batch = rest.collect();
        }
        None
    }

    fn accepted(&mut self, batch: &[Inbound], durable: BoxFuture<'static, Result<(), StreamError>>) {
        let mut receipts = batch.iter().filter_map(|inbound| inbound.receipt);
        let after = match receipts.next() {
            Some(first) => After::Acknowledge(first, receipts.next_back().unwrap_or(first)),
            None => After::Nothing,
        };
        let hub = &self.shared.hub;
        self.shared.meters.received.increment(batch.len() as u64);
        let mut ticket = 0;
        if let Some(member) = &self.member {
            let context = self.shared.context();
            let tickets = batch.iter().map(|inbound| hub.fan_out(Some(member.kept.id), inbound, &context));
            ticket = tickets.max().unwrap_or(0);
        }
        let durable = match ticket {
            0 => durable,
            _ if !hub.store.has_room() => futures::future::ready(Err(busy())).boxed(),
            _ => {
                let kept = hub.store.wait(ticket);
                async move { futures::try_join!(durable, kept).map(drop) }.boxed()
            }
        };
        self.waiting.push(durable, after, batch.iter().map(|inbound| inbound.payload.len()).sum());
    }

    /// Whether a message that asks to be retained may be.
    pub(super) fn check_retained(&self, inbound: &Inbound) -> Result<(), NotTaken> {
        let Some(member) = self.member.as_ref().filter(|_| inbound.retain) else { return Ok(()) };
        self.shared.ingest.authorize(&member.client, Action::RetainPublish, &inbound.topic)?;
        match self.shared.hub.retained.has_room(&inbound.topic, inbound.payload.len()) {
            true => Ok(()),
            false => Err(NotTaken::RetainedFull),
        }
    }

    pub(super) fn not_taken(&mut self, inbound: Inbound, why: NotTaken) -> Option<End> {
        match why {
            NotTaken::Refused(refusal) => self.refused(inbound, refusal),
            NotTaken::RetainedFull => {
                let why = "as many messages are retained as may be (mqtt.retained_max, mqtt.retained_bytes_max)";
                self.refused_with(&inbound, ReasonCode::QUOTA_EXCEEDED, why)
            }
        }
    }

    fn refused(&mut self, inbound: Inbound, refusal: Option<Refusal>) -> Option<End> {
        let refusal = refusal.unwrap_or_else(|| Refusal {
            kind: RefusalKind::NotAllowed,
            reason: "the pipeline did not take it and gave no reason".into(),
        });
        if matches!(refusal.kind, RefusalKind::UnknownCertificate | RefusalKind::CertificateNotActive) {
            return Some(self.disown(&refusal));
        }
        self.refused_with(&inbound, code_of(refusal.kind), &refusal.to_string())
    }

    fn refused_with(&mut self, inbound: &Inbound, code: ReasonCode, why: &str) -> Option<End> {
        let why = format!("{} on {:?}: {why}", Action::Publish.name(), inbound.topic);
        match self.session.publish_refused(inbound.receipt, code, why.clone()) {
            Some(closing) => Some(End::refused(Kind::Publish, closing)),
            None => {
                self.report(Kind::Publish, &why);
                None
            }
        }
    }

    pub(super) fn settle(&mut self, (after, outcome): (After, Result<(), StreamError>)) -> Option<End> {
        match (after, outcome) {
            (After::Nothing, Ok(())) => None,
            (After::Acknowledge(first, last), Ok(())) => {
                self.session.settle(first, last);
                None
            }
            (After::HandOn(inbound), Ok(())) => {
                self.handed_on(&inbound);
                None
            }
            (after, Err(error)) => {
                if let After::HandOn(inbound) = after {
                    self.not_handed_on(&inbound);
                }
                Some(self.not_kept(&error))
            }
        }
    }

    fn not_kept(&mut self, error: &StreamError) -> End {
        log_storage(&self.client_id, error);
        let code = match error.kind {
            StreamErrorKind::Busy | StreamErrorKind::TooLarge => ReasonCode::QUOTA_EXCEEDED,
            _ => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        };
        let why = format!("messages could not be kept and were not acknowledged: {error}");
        End::refused(Kind::Storage, self.session.close(code, why))
    }
}

/// The disk is the operator's business at once; a full queue is tomorrow's.
pub(super) fn log_storage(client_id: &str, failure: &StreamError) {
    if failure.retryable() {
        warn!(client_id, error = %failure, "MQTT: messages were not kept; the client will send them again");
    } else {
        error!(client_id, error = %failure, "MQTT: messages were not kept; the client will send them again");
    }
}
