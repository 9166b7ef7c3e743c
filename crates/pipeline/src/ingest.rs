//! The way in: who speaks, may they, what do the rules say, and onto the stream. Nothing is acknowledged here; the
//! door does that once the future that `publish` answers has resolved.

use crate::{
    decode,
    fleet::{CertificateFacts, facts_of},
    policy::{Decision, Request, decide, resource_arn},
    registration,
    registry::{Registry, State},
    sequence::Sequences,
};
use futures::{FutureExt, future::BoxFuture};
use kilter_core::{
    Action, Certificate, CertificateStatus, NewRecord, Offset, RecordKind, ShardId, StreamName, TenantId, Thing,
    ThingName, Timestamp,
    ports::{
        clock::Clock,
        deliver::{Deliver, Outgoing},
        fleet::{FleetError, FleetErrorKind},
        ingest::{
            Accepted, Client, ClientIdentity, ConnectAttributes, InboundMessage, Ingest, Principal, PublishAgainError,
            Refusal, RefusalKind,
        },
        stream::{AppendFuture, Stream, StreamError},
        table::Table,
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock, Weak},
};

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

/// The streams that a topic's messages go to, each with its tenant.
type Routes = Vec<(TenantId, StreamName)>;

pub struct PipelineIngest {
    registry: Arc<Registry>,
    stream: Arc<dyn Stream>,
    clock: Arc<dyn Clock>,
    site: Site,
    /// By stream. Held while a batch is numbered and queued, so that numbers and log have one order.
    sequences: Mutex<HashMap<StreamName, Sequences>>,
    /// The devices' door is made after the pipeline, and holds it.
    deliver: OnceLock<Weak<dyn Deliver>>,
}

impl PipelineIngest {
    /// Names the way back to devices; the first call counts.
    pub fn deliver_through(&self, door: &Arc<dyn Deliver>) {
        let _ = self.deliver.set(Arc::downgrade(door));
    }

    /// The way back to devices: `None` before the door is made and after it is gone.
    pub fn deliver(&self) -> Option<Arc<dyn Deliver>> {
        self.deliver.get().and_then(Weak::upgrade)
    }

    /// Reads every stream's tail to take up the things' counts: blocking.
    pub fn open(
        registry: Arc<Registry>,
        stream: Arc<dyn Stream>,
        table: &dyn Table,
        clock: Arc<dyn Clock>,
        site: Site,
    ) -> Result<Self, crate::checkpoint::CheckpointError> {
        let mut sequences = HashMap::new();
        for (name, shards) in stream.list()? {
            sequences.insert(name.clone(), Sequences::recover(&*stream, table, &name, shards)?);
        }
        Ok(Self { registry, stream, clock, site, sequences: Mutex::new(sequences), deliver: OnceLock::new() })
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
        let policies = state.policies_of(certificate);
        let resource = resource_arn(&self.site.region, &self.site.account, action, subject);
        let thing = attached_thing(state, client).map(|thing| thing.thing.as_str());
        let request = Request { action, resource: &resource, client_id: &client.client_id, thing };
        let why = match decide(&policies, &request) {
            Decision::Allowed { .. } => return Ok(()),
            Decision::DeniedExplicitly { policy, statement } => {
                let name = certificate.policies.get(policy).map_or("", |n| n.as_str());
                format!("statement {} of policy {name:?} denies it", statement + 1)
            }
            Decision::NotAllowed if policies.is_empty() => "no policy is attached to the certificate".to_owned(),
            Decision::NotAllowed => format!("no attached policy allows it ({})", certificate.policies.join(", ")),
        };
        let kind = if action == Action::Connect { RefusalKind::ClientIdNotAllowed } else { RefusalKind::NotAllowed };
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

    /// Numbers and queues a stream's records in one step.
    fn append(&self, name: StreamName, mut records: Vec<NewRecord>) -> AppendFuture {
        let mut all = self.sequences.lock().expect("no holder of the sequence lock panics");
        let sequences = all.entry(name.clone()).or_default();
        for record in &mut records {
            record.thing_sequence = sequences.next(&record.thing);
        }
        let things: Vec<ThingName> = records.iter().map(|r| r.thing.clone()).collect();
        let mut durable = self.stream.append(&name, records);
        match (&mut durable).now_or_never() {
            Some(Err(refused)) => {
                sequences.take_back(things.iter());
                futures::future::ready(Err(refused)).boxed()
            }
            Some(done) => futures::future::ready(done).boxed(),
            None => durable,
        }
    }

    /// Whether a record of the same thing, topic and arrival is there already.
    fn has_record<'p>(
        &self,
        wanted: &NewRecord,
        since: impl Iterator<Item = &'p (StreamName, ShardId, Offset)>,
    ) -> Result<bool, StreamError> {
        for (name, shard, from) in since {
            let mut next = (*from).max(self.stream.bounds(name, *shard)?.first);
            loop {
                let records = self.stream.read(name, *shard, next, crate::sequence::SCAN)?;
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

    /// Forgets a stream that was deleted.
    pub fn forget(&self, name: &StreamName) {
        self.sequences.lock().expect("no holder of the sequence lock panics").remove(name);
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
        Some(c) if c.not_after < now => refuse(
            RefusalKind::CertificateNotActive,
            format!("certificate {id} expired at {}, {:.0} s ago", c.not_after, now.seconds_since(c.not_after)),
        ),
        Some(c) => Ok(c),
    }
}

/// The thing that a client's certificate is attached to and that is named like the client id.
fn attached_thing<'s>(state: &'s State, client: &ClientIdentity) -> Option<&'s Arc<Thing>> {
    let name = ThingName::new(&client.client_id).ok()?;
    state.fleet.things.get(&name).filter(|thing| thing.certificates.contains(&client.certificate))
}

/// The thing that a telemetry topic names: `tenants/<tenant>/devices/<thing>/…`.
fn thing_of(topic: &str) -> Option<ThingName> {
    topic.split('/').nth(3).and_then(|name| ThingName::new(name).ok())
}

impl Ingest for PipelineIngest {
    fn identify(&self, certificate_der: &[u8]) -> Result<Principal, Refusal> {
        let id = crate::authority::certificate_id(certificate_der);
        let state = self.registry.state();
        usable(state.fleet.certificates.get(&id).map(Arc::as_ref), &id, self.clock.now())?;
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

    fn authorize(&self, client: &Client, action: Action, topic: &str) -> Result<(), Refusal> {
        self.allowed(&self.registry.state(), &client.0, action, topic)
    }

    fn publish(&self, client: &Client, messages: Vec<InboundMessage>) -> Accepted {
        let state = self.registry.state();
        let arrival = self.clock.now();
        let mut batches: BTreeMap<StreamName, Vec<NewRecord>> = BTreeMap::new();
        let mut refusal = None;
        let mut count = 0;
        let mut last: Option<(Arc<str>, Routes)> = None;
        for message in messages {
            let known = last.as_ref().is_some_and(|(topic, _)| *topic == message.topic);
            if !known {
                if let Err(no) = self.allowed(&state, &client.0, Action::Publish, &message.topic) {
                    refusal = Some(no);
                    break;
                }
                last = Some((message.topic.clone(), state.routes(&message.topic)));
            }
            let routes = last.as_ref().map_or(&[][..], |(_, routes)| routes);
            // A nanosecond apart: without times of their own, messages of one batch would be duplicates of each other.
            let arrival =
                message.arrival.unwrap_or(Timestamp::from_nanos(arrival.as_nanos().saturating_add(count as i64)));
            match record(&message, routes, arrival) {
                Ok(records) => {
                    for (stream, record) in records {
                        batches.entry(stream).or_default().push(record);
                    }
                }
                Err(no) => {
                    refusal = Some(no);
                    break;
                }
            }
            count += 1;
        }
        let pending: Vec<AppendFuture> =
            batches.into_iter().map(|(stream, records)| self.append(stream, records)).collect();
        Accepted { count, refusal, durable: all_durable(pending) }
    }

    fn positions(&self, topic: &str) -> Vec<(StreamName, ShardId, Offset)> {
        let mut positions = Vec::new();
        for (_, name) in self.registry.state().routes(topic) {
            let mut shard = ShardId(0);
            while let Ok(bounds) = self.stream.bounds(&name, shard) {
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
        let records = record(&message, &state.routes(&message.topic), arrival)?;
        for (name, record) in records {
            if !self.has_record(&record, since.iter().filter(|(stream, ..)| *stream == name))? {
                futures::executor::block_on(self.append(name, vec![record]))?;
            }
        }
        Ok(())
    }

    fn revision(&self) -> u64 {
        self.registry.revision()
    }
}

/// The records that a message becomes: one per stream that it is routed to.
fn record(
    message: &InboundMessage,
    routes: &[(TenantId, StreamName)],
    arrival: Timestamp,
) -> Result<Vec<(StreamName, NewRecord)>, Refusal> {
    if routes.is_empty() {
        return Ok(Vec::new());
    }
    let thing = thing_of(&message.topic).ok_or_else(|| Refusal {
        kind: RefusalKind::InvalidTopic,
        reason: format!("topic {:?} names no thing in its fourth level", message.topic),
    })?;
    let kind = match decode::decode(&message.payload, arrival) {
        Ok(_) => RecordKind::Telemetry,
        Err(reason) => {
            metrics::counter!("kilter_ingest_rejected_total").increment(1);
            tracing::debug!(%thing, %reason, "message kept as rejected");
            RecordKind::Rejected(reason)
        }
    };
    metrics::counter!("kilter_ingest_received_total").increment(1);
    let record = NewRecord {
        kind,
        partition_key: thing.as_str().into(),
        thing,
        thing_sequence: 0,
        arrival,
        topic: message.topic.as_ref().into(),
        data: message.payload.clone(),
    };
    Ok(routes.iter().map(|(_, stream)| (stream.clone(), record.clone())).collect())
}

fn all_durable(mut pending: Vec<AppendFuture>) -> BoxFuture<'static, Result<(), StreamError>> {
    match (pending.pop(), pending.is_empty()) {
        (None, _) => futures::future::ready(Ok(())).boxed(),
        (Some(only), true) => only.map(|done| done.map(drop)).boxed(),
        (Some(last), false) => {
            pending.push(last);
            futures::future::try_join_all(pending).map(|done| done.map(drop)).boxed()
        }
    }
}
