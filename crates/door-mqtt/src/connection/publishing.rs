//! Messages in: to the pipeline, to subscribers, and their acknowledgements.

use super::{Connection, End, Member, Shared, admission::code_of};
use crate::{batch::Settled, refusals::Kind};
use futures::future::BoxFuture;
use kilter_core::{
    Action,
    ports::{
        ingest::{InboundMessage, Refusal, RefusalKind},
        stream::{StreamError, StreamErrorKind},
    },
};
use kilter_mqtt::{ReasonCode, packet::Will, session::Inbound};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{error, warn};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn publish(&mut self, mut batch: Vec<Inbound>) -> Option<End> {
        while !batch.is_empty() {
            let client = self.member.as_ref().map(|member| member.client.clone())?;
            let messages = batch.iter().map(|inbound| InboundMessage {
                topic: inbound.topic.clone(),
                payload: inbound.payload.clone(),
                retain: false,
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
        let first = receipts.next();
        let receipts = first.map(|first| (first, receipts.next_back().unwrap_or(first)));
        self.waiting.push(durable, receipts, batch.iter().map(|inbound| inbound.payload.len()).sum());
        let Shared { hub, ingest, meters, refusals, .. } = &*self.shared;
        meters.received.increment(batch.len() as u64);
        if let Some(member) = &self.member {
            for inbound in batch {
                hub.fan_out(Some(member.id), inbound, &**ingest, meters, refusals);
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
        let why = format!("{} on {:?}: {refusal}", Action::Publish.name(), inbound.topic);
        match self.session.publish_refused(inbound.receipt, code_of(refusal.kind), why.clone()) {
            Some(closing) => Some(End::refused(Kind::Publish, closing)),
            None => {
                self.report(Kind::Publish, &why);
                None
            }
        }
    }

    pub(super) fn settle(&mut self, outcome: Result<Settled, StreamError>) -> Option<End> {
        match outcome {
            Ok(settled) => {
                if let Some((first, last)) = settled.receipts {
                    self.session.settle(first, last);
                }
                None
            }
            Err(error) => {
                log_storage(&self.client_id, &error);
                let code = match error.kind {
                    StreamErrorKind::Busy | StreamErrorKind::TooLarge => ReasonCode::QUOTA_EXCEEDED,
                    _ => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
                };
                let why = format!("messages could not be kept and were not acknowledged: {error}");
                Some(End::refused(Kind::Storage, self.session.close(code, why)))
            }
        }
    }

    pub(super) fn send_will(&mut self, member: &Member, will: Will) {
        let message = InboundMessage {
            topic: Arc::clone(&will.topic),
            payload: will.payload.clone(),
            retain: false,
            properties: None,
            arrival: None,
        };
        let accepted = self.shared.ingest.publish(&member.client, vec![message]);
        if let Some(refusal) = accepted.refusal {
            self.report(Kind::Will, &format!("will, {} on {:?}: {refusal}", Action::Publish.name(), will.topic));
            return;
        }
        let Shared { hub, ingest, meters, refusals, .. } = &*self.shared;
        meters.received.increment(1);
        self.waiting.push(accepted.durable, None, will.payload.len());
        let inbound = Inbound {
            topic: will.topic,
            payload: will.payload,
            qos: will.qos,
            properties: will.properties.map(Arc::from),
            receipt: None,
        };
        hub.fan_out(Some(member.id), &inbound, &**ingest, meters, refusals);
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
