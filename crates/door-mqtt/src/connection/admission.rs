//! Who is let in, stays in, and listens to what: every question goes to the pipeline's live registry.

use super::{Connection, End, Member};
use crate::refusals::{Kind, Subject};
use kilter_core::{
    Action,
    ports::ingest::{Client, ConnectAttributes, Refusal, RefusalKind},
};
use kilter_mqtt::{
    QoS, ReasonCode,
    session::{ConnectRequest, Session, SubscribeRequest},
    subscriptions::Grant,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::info;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn connect(&mut self, request: ConnectRequest) -> Option<End> {
        self.client_id = request.client_id;
        let client = match self.admit(request.will_topic.as_deref()) {
            Ok(client) => client,
            Err((kind, code, why)) => {
                self.shared.meters.connects_refused.increment(1);
                return Some(End::disowned(kind, self.session.refuse(code, why)));
            }
        };
        let id = self.shared.hub.enter(&self.client_id, &self.kick);
        self.member = Some(Member { id, client, mailbox: None });
        self.session.accept();
        self.half_open = None;
        self.shared.meters.connects_accepted.increment(1);
        info!(peer = %self.peer.address, client_id = %self.client_id, version = ?self.session.version(), "MQTT: connected");
        None
    }

    fn admit(&self, will_topic: Option<&str>) -> Result<Client, (Kind, ReasonCode, String)> {
        let ingest = &self.shared.ingest;
        let source = self.peer.address.ip().to_string();
        let attributes =
            ConnectAttributes { client_id: &self.client_id, persistent: false, will_topic, source: &source };
        let client = ingest.connect(&self.peer.principal, &attributes).map_err(|refusal| {
            let kind = match refusal.kind {
                RefusalKind::ClientIdNotAllowed => Kind::ClientId,
                RefusalKind::UnknownCertificate | RefusalKind::CertificateNotActive => Kind::Certificate,
                RefusalKind::NotAllowed | RefusalKind::InvalidTopic => Kind::Connect,
            };
            (kind, code_of(refusal.kind), format!("{}: {refusal}", Action::Connect.name()))
        })?;
        if let Some(topic) = will_topic {
            ingest.authorize(&client, Action::Publish, topic).map_err(|refusal| {
                let why = format!("will, {} on {topic:?}: {refusal}", Action::Publish.name());
                (Kind::Will, code_of(refusal.kind), why)
            })?;
        }
        Ok(client)
    }

    /// The registry has changed.
    pub(super) fn identify_again(&mut self) -> Option<End> {
        let ingest = &self.shared.ingest;
        let looked_up = ingest.identify(&self.peer.certificate_der).and_then(|principal| match &mut self.member {
            Some(member) => {
                let source = self.peer.address.ip().to_string();
                let attributes =
                    ConnectAttributes { client_id: &self.client_id, source: &source, ..Default::default() };
                member.client = ingest.connect(&principal, &attributes)?;
                if member.mailbox.is_some() {
                    self.shared.hub.renew(member.id, &member.client);
                }
                Ok(())
            }
            None => Ok(()),
        });
        looked_up.err().map(|refusal| self.disown(&refusal))
    }

    pub(super) fn disown(&mut self, refusal: &Refusal) -> End {
        let why = format!("closed while connected: {refusal}");
        End::disowned(Kind::Certificate, self.session.close(ReasonCode::NOT_AUTHORIZED, why))
    }

    pub(super) fn subscribe(&mut self, request: SubscribeRequest) {
        let mut outcomes = Vec::with_capacity(request.filters.len());
        for filter in request.filters {
            outcomes.push(match filter {
                Ok(subscription) => self.subscribe_one(&subscription.filter, subscription.qos, subscription.no_local),
                Err((subscription, code)) => {
                    let (verb, filter) = (Action::Subscribe.name(), &subscription.filter);
                    self.report(Kind::Subscribe, &format!("{verb} to {filter:?}: {}", code.words()));
                    Err(code)
                }
            });
        }
        self.session.subscribed(request.packet_id, outcomes);
    }

    fn subscribe_one(&mut self, filter: &str, asked: QoS, no_local: bool) -> Result<(String, QoS), ReasonCode> {
        let subject = Subject {
            peer: self.peer.address,
            client_id: &self.client_id,
            certificate: Some(&self.peer.principal.certificate),
        };
        let shared = &self.shared;
        let member = self.member.as_mut().ok_or(ReasonCode::UNSPECIFIED_ERROR)?;
        if let Err(refusal) = shared.ingest.authorize(&member.client, Action::Subscribe, filter) {
            let why = format!("{} to {filter:?}: {refusal}", Action::Subscribe.name());
            shared.refusals.report(Kind::Subscribe, subject, &why);
            return Err(code_of(refusal.kind));
        }
        if member.mailbox.is_none() {
            let client = member.client.clone();
            member.mailbox = Some(shared.hub.open_mailbox(member.id, client, self.peer.address, &self.kick));
        }
        let qos = Session::granted(asked);
        shared.hub.subscribe(member.id, filter, Grant { qos, no_local });
        Ok((filter.to_owned(), qos))
    }
}

/// Tells the device the kind and no more.
pub(super) fn code_of(kind: RefusalKind) -> ReasonCode {
    match kind {
        RefusalKind::ClientIdNotAllowed => ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
        RefusalKind::InvalidTopic => ReasonCode::TOPIC_NAME_INVALID,
        RefusalKind::UnknownCertificate | RefusalKind::CertificateNotActive | RefusalKind::NotAllowed => {
            ReasonCode::NOT_AUTHORIZED
        }
    }
}
