//! Who is let in, stays in, and listens to what: every question goes to the pipeline's live registry.

use super::{Connection, Member, ending::End, exactly::Step};
use crate::{
    hub::{Arrival, Attached, Attachment, Hub},
    refusals::Kind,
    wills,
};
use kilter_core::{
    Action,
    ports::ingest::{Client, ConnectAttributes, Refusal, RefusalKind},
};
use kilter_mqtt::{
    PacketId, QoS, ReasonCode,
    packet::Subscription,
    session::{Admission, ConnectRequest, SubscribeRequest},
    subscriptions::Grant,
    topics,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tracing::info;

/// How long a client may have to wait until the connection before it has let go of its session.
const TAKE_OVER_TIME_MAX: Duration = Duration::from_secs(10);
/// A release that was missed is noticed after this long.
const TAKE_OVER_PAUSE: Duration = Duration::from_millis(20);

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) async fn connect(&mut self, request: ConnectRequest) -> Option<End> {
        let assigned = request.client_id.is_empty().then(assigned_client_id);
        self.client_id = assigned.clone().unwrap_or_else(|| request.client_id.clone());
        let client = match self.admit(&request) {
            Ok(client) => client,
            Err((kind, code, why)) => return Some(self.turn_away(kind, code, why)),
        };
        let arrival = Arrival {
            client_id: &self.client_id,
            client: &client,
            version: self.session.version(),
            peer: self.peer.address,
            kick: &self.kick,
            clean: request.clean,
            expiry: request.session_expiry,
            receive_max: self.session.receive_max(),
            will: self.session.will(),
        };
        let Some(attachment) = attach(&self.shared.hub, &arrival).await else {
            let why =
                "as many sessions are kept as may be (sessions_max), or the session's other connection does not end";
            return Some(self.turn_away(Kind::Capacity, ReasonCode::QUOTA_EXCEEDED, why.to_owned()));
        };
        let Attachment { kept, present, filters, received, releases, ticket, will } = attachment;
        if let Some((client, will)) = will
            && let Some(durable) = wills::send(&self.shared, &client, will, self.peer.address)
        {
            self.waiting.push(durable, crate::batch::After::Nothing, 0);
        }
        let stored = kept.lock().stored;
        if let Some((tenant, _)) = &client.0.thing {
            let share = self.shared.tenants.share(tenant, &self.shared.config);
            self.throttle.belongs_to(Arc::clone(&share));
            self.waiting.belongs_to(share);
        }
        let response_information = client
            .0
            .thing
            .as_ref()
            .filter(|_| request.response_information)
            .map(|(tenant, thing)| format!("tenants/{tenant}/devices/{thing}/"));
        let accepted = client.clone();
        self.member = Some(Member { client, kept, stored });
        // A discarded session must not come back after a crash, nor a new one be missed.
        if ticket > 0 && self.shared.hub.store.wait(ticket).await.is_err() {
            let why = "its session cannot be kept: the disk has failed".to_owned();
            return Some(self.turn_away(Kind::Storage, ReasonCode::SERVER_UNAVAILABLE, why));
        }
        self.session.accept(Admission {
            session_present: present,
            filters,
            received,
            assigned_client_id: assigned,
            response_information,
        });
        for id in releases {
            self.session.release(id, ReasonCode::SUCCESS);
        }
        self.half_open = None;
        self.shared.ingest.connected(&accepted);
        self.shared.meters.connects_accepted.increment(1);
        info!(peer = %self.peer.address, client_id = %self.client_id, version = ?self.session.version(), present, "MQTT: connected");
        None
    }

    fn turn_away(&mut self, kind: Kind, code: ReasonCode, why: String) -> End {
        self.shared.meters.connects_refused.increment(1);
        End::disowned(kind, self.session.refuse(code, why))
    }

    fn admit(&self, request: &ConnectRequest) -> Result<Client, (Kind, ReasonCode, String)> {
        let ingest = &self.shared.ingest;
        let source = self.peer.address.ip().to_string();
        let will_topic = request.will.as_ref().map(|will| &*will.topic);
        let persistent = request.session_expiry > 0;
        let attributes = ConnectAttributes { client_id: &self.client_id, persistent, will_topic, source: &source };
        let client = ingest.connect(&self.peer.principal, &attributes).map_err(|refusal| {
            let kind = match refusal.kind {
                RefusalKind::ClientIdNotAllowed => Kind::ClientId,
                RefusalKind::UnknownCertificate | RefusalKind::CertificateNotActive => Kind::Certificate,
                RefusalKind::NotAllowed | RefusalKind::InvalidTopic => Kind::Connect,
            };
            (kind, code_of(refusal.kind), format!("{}: {refusal}", Action::Connect.name()))
        })?;
        let Some(will) = &request.will else { return Ok(client) };
        let retained = will.retain.then_some(Action::RetainPublish);
        for action in [Action::Publish].into_iter().chain(retained) {
            ingest.authorize(&client, action, &will.topic).map_err(|refusal| {
                let why = format!("will, {} on {:?}: {refusal}", action.name(), will.topic);
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
                let attributes = ConnectAttributes {
                    client_id: &self.client_id,
                    persistent: member.stored,
                    source: &source,
                    ..Default::default()
                };
                member.client = ingest.connect(&principal, &attributes)?;
                member.kept.lock().client = member.client.clone();
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
        let mut ticket = 0;
        for filter in request.filters {
            outcomes.push(match filter {
                Ok(subscription) => self.subscribe_one(&subscription, request.subscription_id).map(|(qos, durable)| {
                    ticket = durable.max(ticket);
                    (subscription.filter, qos)
                }),
                Err((subscription, code)) => {
                    let (verb, filter) = (Action::Subscribe.name(), &subscription.filter);
                    self.report(Kind::Subscribe, &format!("{verb} to {filter:?}: {}", code.words()));
                    Err(code)
                }
            });
        }
        self.step(ticket, Step::Subscribed(request.packet_id, outcomes));
    }

    fn subscribe_one(
        &mut self,
        subscription: &Subscription,
        subscription_id: Option<u32>,
    ) -> Result<(QoS, u64), ReasonCode> {
        let filter = &subscription.filter;
        let shared = &self.shared;
        let member = self.member.as_ref().ok_or(ReasonCode::UNSPECIFIED_ERROR)?;
        // A group changes nothing about what its members may see.
        let asked = topics::split_share(filter).map_or(filter.as_str(), |shared| shared.filter);
        if let Err(refusal) = shared.ingest.authorize(&member.client, Action::Subscribe, asked) {
            let why = format!("{} to {filter:?}: {refusal}", Action::Subscribe.name());
            self.report(Kind::Subscribe, &why);
            return Err(code_of(refusal.kind));
        }
        let grant = Grant {
            qos: subscription.qos,
            no_local: subscription.no_local,
            retain_as_published: subscription.retain_as_published,
            subscription_id,
        };
        let ticket = shared.hub.subscribe(&member.kept, subscription, grant, &shared.context());
        Ok((subscription.qos, if member.stored { ticket } else { 0 }))
    }

    pub(super) fn unsubscribe(&mut self, packet_id: PacketId, filters: &[String], codes: Vec<ReasonCode>) {
        let hub = &self.shared.hub;
        let ticket = self.member.as_ref().map_or(0, |member| hub.unsubscribe(&member.kept, filters));
        self.step(ticket, Step::Unsubscribed(packet_id, codes));
    }
}

/// Waits until the session's connection before this one has let go of it.
async fn attach(hub: &Hub, arrival: &Arrival<'_>) -> Option<Attachment> {
    let began = Instant::now();
    loop {
        match hub.attach(arrival) {
            Attached::In(attachment) => return Some(*attachment),
            Attached::Full => return None,
            Attached::Wait(_) if began.elapsed() >= TAKE_OVER_TIME_MAX => return None,
            Attached::Wait(kept) => {
                let _ = timeout(TAKE_OVER_PAUSE, kept.freed.notified()).await;
            }
        }
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

/// For a client that brings none: nobody can guess it, so nobody can take its session over.
fn assigned_client_id() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's source of randomness works, or TLS would not");
    bytes.iter().fold("auto-".to_owned(), |id, byte| id + &format!("{byte:02x}"))
}
