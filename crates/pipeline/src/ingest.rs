//! The way in: who speaks, may they, what do the rules say, and onto the stream. Nothing is acknowledged here; the
//! door does that once the future that `publish` answers has resolved.

use crate::{
    append::Appender,
    authorize::{Asked, attached_thing, verdict},
    fleet::{CertificateFacts, facts_of},
    policy::Decision,
    registration,
    registry::{Registry, State},
    rules::{CompiledRule, Engine, Origin, Routed},
};
use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use kilter_core::{
    Action, Certificate, CertificateStatus, NewRecord, Offset, ShardId, StreamName, ThingName, Timestamp,
    ports::{
        clock::Clock,
        deliver::{Deliver, Outgoing},
        fleet::{FleetError, FleetErrorKind},
        ingest::{
            Accepted, Client, ClientIdentity, ConnectAttributes, InboundMessage, Ingest, Inject, Principal,
            PublishAgainError, Refusal, RefusalKind,
        },
        stream::{Stream, StreamError},
        table::Table,
    },
    time_in_words,
};
use std::{collections::BTreeSet, sync::Arc};

/// The parts of an ARN that are the installation's own.
#[derive(Debug, Clone)]
pub struct Site {
    pub region: String,
    pub account: String,
}

impl Site {
    pub fn arn(&self, kind: &str, name: &str) -> String {
        format!("arn:aws:iot:{}:{}:{kind}/{name}", self.region, self.account)
    }
}

/// The rules that messages on a topic meet.
struct Met {
    topic: Arc<str>,
    /// The topic as the rules see it.
    seen: Arc<str>,
    rules: Vec<Arc<CompiledRule>>,
}

pub struct PipelineIngest {
    registry: Arc<Registry>,
    /// Shared with everybody else who appends records of things.
    pub append: Arc<Appender>,
    pub rules: Arc<Engine>,
    clock: Arc<dyn Clock>,
    site: Site,
}

impl PipelineIngest {
    /// Names the way back to devices; the first call counts.
    pub fn deliver_through(&self, door: &Arc<dyn Deliver>) {
        self.rules.deliver_through(door);
    }

    /// The way back to devices: `None` before the door is made and after it is gone.
    pub fn deliver(&self) -> Option<Arc<dyn Deliver>> {
        self.rules.deliver()
    }

    /// Reads every stream's tail to take up the things' counts: blocking.
    pub fn open(
        registry: Arc<Registry>,
        stream: Arc<dyn Stream>,
        table: &dyn Table,
        clock: Arc<dyn Clock>,
        site: Site,
    ) -> Result<Self, crate::checkpoint::CheckpointError> {
        let append = Arc::new(Appender::open(stream, table)?);
        let rules = Arc::new(Engine::new(registry.clone(), append.clone(), clock.clone(), site.clone()));
        Ok(Self { registry, append, rules, clock, site })
    }

    fn meet(&self, topic: &Arc<str>) -> Met {
        let (rules, seen) = self.rules.rules_for(topic);
        let seen = if seen.len() == topic.len() { topic.clone() } else { seen.into() };
        Met { topic: topic.clone(), seen, rules }
    }

    fn route(
        &self,
        met: &Met,
        message: &InboundMessage,
        origin: &Origin,
        arrival: Timestamp,
    ) -> Result<Routed, Refusal> {
        self.rules.route(&met.rules, &met.seen, &message.payload, message.properties.as_deref(), origin, arrival)
    }

    fn certificate<'s>(&self, state: &'s State, client: &ClientIdentity) -> Result<&'s Certificate, Refusal> {
        usable(
            state.fleet.certificates.get(&client.certificate).map(Arc::as_ref),
            &client.certificate,
            self.clock.now(),
        )
    }

    fn allowed(&self, state: &State, client: &ClientIdentity, action: Action, subject: &str) -> Result<(), Refusal> {
        let certificate = self.certificate(state, client)?;
        let asked = Asked {
            certificate,
            client_id: &client.client_id,
            source: client.source.parse().ok(),
            action,
            subject,
            now: self.clock.now(),
        };
        let verdict = verdict(state, &self.site, asked);
        if matches!(verdict.decision, Decision::Allowed { .. }) {
            return Ok(());
        }
        let (resource, mut why) = (&verdict.resource, verdict.reason());
        let mut kind = RefusalKind::NotAllowed;
        if action == Action::Connect && attached_thing(state, certificate, &client.client_id).is_none() {
            let things: Vec<&str> = certificate.things.iter().map(ThingName::as_str).collect();
            if things.is_empty() {
                why.push_str("; the certificate is attached to no thing");
            } else {
                kind = RefusalKind::ClientIdNotAllowed;
                why.push_str(&format!("; the certificate is that of {}, not of the client id", things.join(", ")));
            }
        }
        Err(Refusal { kind, reason: format!("{} on {resource} is not allowed: {why}", action.name()) })
    }

    /// Says that a certificate has registered itself, in the log and to whoever subscribes to such events.
    fn tell_registered(&self, certificate: &Certificate, now: Timestamp) {
        tracing::info!(certificate = %certificate.id, status = %certificate.status, "certificate registered itself");
        let fleet = self.registry.state().fleet.clone();
        let ca = certificate.authority.as_ref().and_then(|ca| fleet.authorities.get(ca));
        let (Some(ca), Some(door)) = (ca, self.deliver()) else { return };
        let (topic, body) = registration::event(certificate, ca, &self.site.account, now);
        let payload = body.to_string().into();
        let event = Outgoing { topic: topic.into(), payload, qos: 1, retain: false, properties: None };
        // Whoever misses the event finds the certificate in the registry.
        drop(door.deliver(event));
    }

    /// Whether a record of the same thing, topic and arrival is there already.
    fn has_record<'p>(
        &self,
        wanted: &NewRecord,
        since: impl Iterator<Item = &'p (StreamName, ShardId, Offset)>,
    ) -> Result<bool, StreamError> {
        for (name, shard, from) in since {
            let mut next = (*from).max(self.append.stream.bounds(name, *shard)?.first);
            loop {
                let records = self.append.stream.read(name, *shard, next, crate::sequence::SCAN)?;
                let Some(last) = records.last() else { break };
                next = last.offset.next();
                let same =
                    |r: &NewRecord| r.thing == wanted.thing && r.arrival == wanted.arrival && r.topic == wanted.topic;
                if records.iter().any(|known| same(&known.record)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// With the positions, those of shards that have come since.
    fn with_children(&self, since: &[(StreamName, ShardId, Offset)]) -> Vec<(StreamName, ShardId, Offset)> {
        let mut all = since.to_vec();
        for name in since.iter().map(|(name, ..)| name).collect::<BTreeSet<_>>() {
            let known = since.iter().filter(|(stream, ..)| stream == name).map(|(_, shard, _)| shard.0 + 1).max();
            let mut shard = ShardId(known.unwrap_or_default());
            while let Ok(bounds) = self.append.stream.bounds(name, shard) {
                all.push((name.clone(), shard, bounds.first));
                shard = ShardId(shard.0 + 1);
            }
        }
        all
    }

    /// Forgets a stream that was deleted.
    pub fn forget(&self, name: &StreamName) {
        self.append.forget(name);
    }
}

fn usable<'s>(
    certificate: Option<&'s Certificate>,
    id: &kilter_core::CertificateId,
    now: Timestamp,
) -> Result<&'s Certificate, Refusal> {
    let refuse = |kind, reason| Err(Refusal { kind, reason });
    match certificate {
        None => refuse(
            RefusalKind::UnknownCertificate,
            format!("certificate {id} is not registered here: it was removed, or issued by another installation"),
        ),
        Some(c) if c.status != CertificateStatus::Active => {
            refuse(RefusalKind::CertificateNotActive, format!("certificate {id} is {}, not ACTIVE", c.status))
        }
        Some(c) if c.not_after < now => {
            let ago = time_in_words(now.seconds_since(c.not_after) as u64);
            let reason =
                format!("certificate {id} expired at {}, {ago} ago by this server's clock ({now})", c.not_after);
            refuse(RefusalKind::CertificateNotActive, reason)
        }
        Some(Certificate { not_before: Some(from), .. }) if *from > now => {
            let ahead = time_in_words(from.seconds_since(now) as u64);
            let reason = format!(
                "certificate {id} is not valid before {from}, for {ahead} by this server's clock ({now}): check both clocks"
            );
            refuse(RefusalKind::CertificateNotActive, reason)
        }
        Some(c) => Ok(c),
    }
}

impl Ingest for PipelineIngest {
    fn identify(&self, certificate_der: &[u8]) -> Result<Principal, Refusal> {
        let id = crate::authority::certificate_id(certificate_der);
        let state = self.registry.state();
        let certificate = usable(state.fleet.certificates.get(&id).map(Arc::as_ref), &id, self.clock.now())?;
        if certificate.pem.is_none() {
            state.learn(&id, certificate_der);
        }
        Ok(Principal { certificate: id })
    }

    fn register(&self, certificate_der: &[u8]) -> Result<Principal, Refusal> {
        let id = crate::authority::certificate_id(certificate_der);
        let unknown = |why: &str| Refusal {
            kind: RefusalKind::UnknownCertificate,
            reason: format!("certificate {id} cannot register itself: {why}"),
        };
        let facts = CertificateFacts::of_der(certificate_der).map_err(unknown)?;
        let now = self.clock.now();
        let made = self.registry.change::<Option<Certificate>, FleetError>(|state| {
            if state.fleet.certificates.contains_key(&id) {
                return Ok((Vec::new(), None));
            }
            let made = registration::decide(state, now, &facts)
                .map_err(|why| FleetError::new(FleetErrorKind::CertificateValidation, why))?;
            Ok((made.changes, Some(made.certificate)))
        });
        if let Some(certificate) = made.map_err(|error| unknown(&error.message))? {
            self.tell_registered(&certificate, now);
        }
        self.identify(certificate_der)
    }

    fn authorities(&self) -> Vec<Vec<u8>> {
        let fleet = self.registry.state().fleet.clone();
        fleet.authorities.values().filter_map(|ca| facts_of(&ca.pem).ok()).map(|facts| facts.der).collect()
    }

    fn vouches_for(&self, certificate_der: &[u8]) -> bool {
        let id = crate::authority::certificate_id(certificate_der);
        self.registry.state().fleet.certificates.contains_key(&id)
    }

    fn connect(&self, principal: &Principal, attributes: &ConnectAttributes<'_>) -> Result<Client, Refusal> {
        let client_id = attributes.client_id;
        let state = self.registry.state();
        let thing = ThingName::new(client_id)
            .ok()
            .and_then(|name| state.fleet.things.get(&name))
            .filter(|thing| thing.certificates.contains(&principal.certificate))
            .and_then(|thing| Some((thing.tenant.clone()?, thing.thing.clone())));
        let identity = ClientIdentity {
            certificate: principal.certificate.clone(),
            client_id: client_id.to_owned(),
            thing,
            source: attributes.source.to_owned(),
        };
        self.allowed(&state, &identity, Action::Connect, client_id)?;
        Ok(Client(Arc::new(identity)))
    }

    fn connected(&self, client: &Client) {
        self.registry.uses.saw(&client.0.certificate, self.clock.now());
    }

    fn authorize(&self, client: &Client, action: Action, topic: &str) -> Result<(), Refusal> {
        self.allowed(&self.registry.state(), &client.0, action, topic)
    }

    fn publish(&self, client: &Client, messages: Vec<InboundMessage>) -> Accepted {
        let state = self.registry.state();
        let arrival = self.clock.now();
        let origin = Origin { client: Some(client.clone()), hops: 0 };
        let mut all = Routed::default();
        let mut refusal = None;
        let mut count = 0;
        let mut last: Option<Met> = None;
        for message in messages {
            let known = last.as_ref().is_some_and(|met| met.topic == message.topic);
            if !known {
                if let Err(no) = self.allowed(&state, &client.0, Action::Publish, &message.topic) {
                    refusal = Some(no);
                    break;
                }
                last = Some(self.meet(&message.topic));
            }
            // A nanosecond apart: without times of their own, messages of one batch would be duplicates of each other.
            let arrival =
                message.arrival.unwrap_or(Timestamp::from_nanos(arrival.as_nanos().saturating_add(count as i64)));
            match last.as_ref().map(|met| self.route(met, &message, &origin, arrival)) {
                Some(Ok(routed)) => all.add(routed),
                Some(Err(no)) => {
                    refusal = Some(no);
                    break;
                }
                None => {}
            }
            count += 1;
        }
        Accepted { count, refusal, durable: self.rules.keep(all) }
    }

    fn positions(&self, topic: &str) -> Vec<(StreamName, ShardId, Offset)> {
        let mut positions = Vec::new();
        let (rules, _) = self.rules.rules_for(topic);
        for name in rules.iter().filter(|rule| rule.is_enabled()).flat_map(|rule| rule.streams()) {
            let mut shard = ShardId(0);
            while let Ok(bounds) = self.append.stream.bounds(name, shard) {
                positions.push((name.clone(), shard, bounds.next));
                shard = ShardId(shard.0 + 1);
            }
        }
        positions
    }

    fn publish_again(
        &self,
        client: &Client,
        message: InboundMessage,
        since: &[(StreamName, ShardId, Offset)],
    ) -> Result<(), PublishAgainError> {
        let arrival = message.arrival.unwrap_or_else(|| self.clock.now());
        let state = self.registry.state();
        self.allowed(&state, &client.0, Action::Publish, &message.topic)?;
        let origin = Origin { client: Some(client.clone()), hops: 0 };
        let mut routed = self.route(&self.meet(&message.topic), &message, &origin, arrival)?;
        let mut missing = Vec::new();
        let since = self.with_children(since);
        for (name, record) in std::mem::take(&mut routed.records) {
            if !self.has_record(&record, since.iter().filter(|(stream, ..)| *stream == name))? {
                missing.push((name, record));
            }
        }
        // Other actions are carried out again: nobody knows whether they were.
        routed.records = missing;
        futures::executor::block_on(self.rules.keep(routed))?;
        Ok(())
    }

    fn revision(&self) -> u64 {
        self.registry.revision()
    }
}

impl Inject for PipelineIngest {
    fn inject(&self, message: InboundMessage) -> BoxFuture<'static, Result<(), PublishAgainError>> {
        let arrival = message.arrival.unwrap_or_else(|| self.clock.now());
        let origin = Origin { client: None, hops: 0 };
        match self.route(&self.meet(&message.topic), &message, &origin, arrival) {
            Ok(routed) => self.rules.keep(routed).map_err(PublishAgainError::from).boxed(),
            Err(refusal) => futures::future::ready(Err(refusal.into())).boxed(),
        }
    }
}
