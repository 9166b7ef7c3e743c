//! Evaluates rules. What goes into streams is appended with the message's batch; other actions are left to `carry.rs`.

use super::{
    CompiledRule,
    action::CompiledAction,
    builtin::Gauges,
    carry::{Original, Pause, Pending},
    kinds,
    sql::{EvalError, Evaluation, Message, Outcome},
};
use crate::{
    append::Appender, consumer::tenant_of, decode, ingest::Site, logs::LogWriter, put::thing_named, registry::Registry,
};
use bytes::Bytes;
use futures::FutureExt;
use kilter_core::{
    MessageProperties, NewRecord, RecordKind, ShardId, StreamName, ThingName, Timestamp,
    ports::{
        action::{ActionCall, ActionError, ActionTarget, RuleRoles},
        clock::Clock,
        deliver::Deliver,
        ingest::{Client, Refusal, RefusalKind},
        rules::{RuleError, RuleErrorKind},
        stream::StreamErrorKind,
    },
    topics::basic_ingest,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

/// Characters of a partition key (Kinesis' limit).
const KEY_CHARS_MAX: usize = 256;

/// Where a message came from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// `None`: an operator, or the platform itself.
    pub client: Option<Client>,
    /// How many times rules have published it again.
    pub hops: u8,
}

/// What the rules make of messages: records to append, and actions to carry out.
#[derive(Default)]
pub struct Routed {
    pub records: Vec<(StreamName, NewRecord)>,
    pub(super) pending: Vec<Pending>,
}

impl Routed {
    pub fn add(&mut self, other: Self) {
        self.records.extend(other.records);
        self.pending.extend(other.pending);
    }
}

pub struct Engine {
    pub(super) registry: Arc<Registry>,
    pub(super) append: Arc<Appender>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) site: Site,
    /// The devices' door is made after the pipeline, and holds it.
    deliver: OnceLock<Weak<dyn Deliver>>,
    /// By kind; those that carry them out come and go with the services.
    targets: RwLock<HashMap<&'static str, Arc<dyn ActionTarget>>>,
    /// Whether a rule's role may do what the action does; before it is set every role may.
    roles: OnceLock<Arc<dyn RuleRoles>>,
    pub(super) logs: OnceLock<LogWriter>,
    pub(super) gauges: Gauges,
    /// Before an action is tried again.
    pub(super) pause: Pause,
    /// Secret; each message's random bits follow from it and the message's number.
    seed: u64,
    messages: AtomicU64,
}

impl Engine {
    pub fn new(registry: Arc<Registry>, append: Arc<Appender>, clock: Arc<dyn Clock>, site: Site) -> Self {
        let mut seed = [0; 8];
        aws_lc_rs::rand::fill(&mut seed).expect("the system's random source answers");
        Self {
            registry,
            append,
            clock,
            site,
            deliver: OnceLock::new(),
            targets: RwLock::default(),
            roles: OnceLock::new(),
            logs: OnceLock::new(),
            gauges: Gauges::default(),
            pause: Box::new(|wait| tokio::time::sleep(wait).boxed()),
            seed: u64::from_be_bytes(seed),
            messages: AtomicU64::new(0),
        }
    }

    /// Names the way back to devices; the first call counts.
    pub fn deliver_through(&self, door: &Arc<dyn Deliver>) {
        let _ = self.deliver.set(Arc::downgrade(door));
    }

    /// The way back to devices: `None` before the door is made and after it is gone.
    pub fn deliver(&self) -> Option<Arc<dyn Deliver>> {
        self.deliver.get().and_then(Weak::upgrade)
    }

    /// Where failures are written for operators; the first call counts.
    pub fn log_to(&self, logs: LogWriter) {
        let _ = self.logs.set(logs);
    }

    /// Who knows the roles; the first call counts.
    pub fn ask_roles(&self, roles: Arc<dyn RuleRoles>) {
        let _ = self.roles.set(roles);
    }

    /// Names who carries out some kinds of actions.
    pub fn add_target(&self, target: Arc<dyn ActionTarget>) {
        let mut targets = self.targets.write().expect("no holder of the targets' lock panics");
        for kind in target.kinds() {
            targets.insert(kind, target.clone());
        }
    }

    pub(super) fn target(&self, kind: &str) -> Option<Arc<dyn ActionTarget>> {
        self.targets.read().expect("no holder of the targets' lock panics").get(kind).cloned()
    }

    /// What those who would carry out a rule's actions say of their parameters.
    pub fn check(&self, rule: &CompiledRule) -> Result<(), RuleError> {
        for action in rule.actions.iter().chain(&rule.error_action) {
            if let Some(target) = self.target(&action.kind) {
                let checked = target.check(&action.kind, action.given());
                checked.map_err(|why| RuleError::new(RuleErrorKind::Invalid, why))?;
            }
        }
        Ok(())
    }

    /// The rules that a message on this topic meets, and the topic as they see it.
    pub fn rules_for<'t>(&self, topic: &'t str) -> (Vec<Arc<CompiledRule>>, &'t str) {
        let state = self.registry.state();
        match basic_ingest(topic) {
            Some((name, rest)) => {
                let rule = state.rules.get(name).cloned();
                if rule.is_none() {
                    // As AWS does, which has a metric for it: the device may not know which rules there are.
                    metrics::counter!("kilter_rule_not_found_total").increment(1);
                    tracing::debug!(rule = name, "a message of Basic Ingest names no rule");
                }
                (rule.into_iter().collect(), rest)
            }
            None => (state.rules_matching(topic), topic),
        }
    }

    /// Evaluates the rules on one message. `topic` is as they see it.
    pub fn route(
        &self,
        rules: &[Arc<CompiledRule>],
        topic: &Arc<str>,
        payload: &Bytes,
        properties: Option<&MessageProperties>,
        origin: &Origin,
        arrival: Timestamp,
    ) -> Result<Routed, Refusal> {
        let mut routed = Routed::default();
        let number = self.messages.fetch_add(1, Ordering::Relaxed);
        let seed = (u128::from(self.seed) << 64) | u128::from(number);
        let original =
            Original { topic: topic.clone(), payload: payload.clone(), arrival, seed, origin: origin.clone() };
        let message = Message { properties, ..self.message(&original) };
        for rule in rules.iter().filter(|rule| rule.is_enabled()) {
            let evaluation = Evaluation::new(&message);
            let outcome = evaluation.run(&rule.statement);
            if outcome == Ok(Outcome::Nothing) {
                continue;
            }
            let mut calls = Vec::new();
            for action in &rule.actions {
                let done = match &outcome {
                    Ok(Outcome::Payload(made)) => self.prepare(rule, action, &evaluation, made, &original, &mut routed),
                    Err(error) => self.spoiled(action, error, &original, &mut routed),
                    Ok(Outcome::Nothing) => continue,
                };
                if let Some(call) = done? {
                    calls.push((action.kind.clone(), call));
                }
            }
            if !calls.is_empty() {
                routed.pending.push(Pending { rule: rule.clone(), calls, original: original.clone() });
            }
        }
        Ok(routed)
    }

    pub(super) fn message<'m>(&'m self, original: &'m Original) -> Message<'m> {
        let client = original.origin.client.as_ref().map(|client| &client.0);
        Message {
            topic: &original.topic,
            payload: &original.payload,
            client_id: client.map(|client| client.client_id.as_str()),
            principal: client.map(|client| client.certificate.as_str()),
            source_ip: client.map(|client| client.source.as_str()),
            properties: None,
            arrival: original.arrival,
            account: &self.site.account,
            seed: original.seed,
        }
    }

    /// A record for the batch, or a call to be carried out after it.
    fn prepare(
        &self,
        rule: &CompiledRule,
        action: &CompiledAction,
        evaluation: &Evaluation<'_>,
        made: &Bytes,
        original: &Original,
        routed: &mut Routed,
    ) -> Result<Option<Result<ActionCall, ActionError>>, Refusal> {
        if let Some(why) = self.role_refuses(action) {
            return Ok(Some(Err(action.refused(why))));
        }
        let Some(stream) = &action.stream else {
            return Ok(Some(action.call(&rule.name, &original.topic, evaluation, made.clone())));
        };
        if let Some(why) = self.missing(stream) {
            return Ok(Some(Err(action.refused(why))));
        }
        let tenant = tenant_of(stream).is_some();
        let kind = match decode::decode(made, original.arrival) {
            // What no scorer reads need not be a reading.
            Err(reason) if tenant => rejected(reason),
            _ => RecordKind::Telemetry,
        };
        // A thing's records stay in order in its tenant's stream: a key that changes would spread them over shards.
        let key = if tenant && !action.has_constant_key() {
            String::new()
        } else {
            match action.call(&rule.name, &original.topic, evaluation, Bytes::new()) {
                Ok(call) => kinds::text(&call.parameters, "partitionKey").to_owned(),
                Err(error) => return Ok(Some(Err(error))),
            }
        };
        if key.chars().count() > KEY_CHARS_MAX {
            return Ok(Some(Err(action.refused(format!("its partitionKey has more than {KEY_CHARS_MAX} characters")))));
        }
        let mut record = self.record(kind, made.clone(), original)?;
        if !key.is_empty() {
            record.partition_key = key.into();
        }
        routed.records.push((stream.clone(), record));
        Ok(None)
    }

    /// The statement could not be evaluated: a tenant's stream keeps the message as it came, with the reason.
    fn spoiled(
        &self,
        action: &CompiledAction,
        error: &EvalError,
        original: &Original,
        routed: &mut Routed,
    ) -> Result<Option<Result<ActionCall, ActionError>>, Refusal> {
        match &action.stream {
            Some(stream) if tenant_of(stream).is_some() && self.missing(stream).is_none() => {
                let record = self.record(rejected(error.to_string().into()), original.payload.clone(), original)?;
                routed.records.push((stream.clone(), record));
                Ok(None)
            }
            _ => Ok(Some(Err(action.failed(error)))),
        }
    }

    /// Why nothing can be put into the stream, where it is not there.
    fn missing(&self, stream: &StreamName) -> Option<String> {
        let error = self.append.stream.bounds(stream, ShardId(0)).err()?;
        let gone = error.kind == StreamErrorKind::NotFound;
        gone.then(|| format!("there is no stream {stream}: make it with `aws kinesis create-stream`"))
    }

    pub(super) fn role_refuses(&self, action: &CompiledAction) -> Option<String> {
        let (roles, role) = self.roles.get().zip(action.role.as_ref())?;
        let (permission, resource) = action.permission(&self.site.region, &self.site.account);
        roles.may(role, permission, &resource).err()
    }

    pub(super) fn record(&self, kind: RecordKind, data: Bytes, original: &Original) -> Result<NewRecord, Refusal> {
        let thing = thing_of(&original.topic, original.origin.client.as_ref())?;
        metrics::counter!("kilter_ingest_received_total").increment(1);
        Ok(NewRecord {
            kind,
            partition_key: thing.as_str().into(),
            hash_key: None,
            thing,
            thing_sequence: 0,
            arrival: original.arrival,
            topic: original.topic.as_ref().into(),
            data,
        })
    }
}

pub(super) fn rejected(reason: Box<str>) -> RecordKind {
    metrics::counter!("kilter_ingest_rejected_total").increment(1);
    tracing::debug!(%reason, "message kept as rejected");
    RecordKind::Rejected(reason)
}

/// Whose message it is: of a telemetry topic, `tenants/<tenant>/devices/<thing>/…`, the thing that it names; of
/// others the client's thing, or whatever names the client; of an operator's, the topic.
fn thing_of(topic: &str, client: Option<&Client>) -> Result<ThingName, Refusal> {
    if topic.starts_with("tenants/") {
        let named = topic.split('/').nth(3).and_then(|name| ThingName::new(name).ok());
        return named.ok_or_else(|| Refusal {
            kind: RefusalKind::InvalidTopic,
            reason: format!("topic {topic:?} names no thing in its fourth level"),
        });
    }
    let Some(Client(identity)) = client else { return Ok(thing_named(topic)) };
    let thing = identity.thing.as_ref().map(|(_, thing)| thing.clone());
    let named = thing.or_else(|| ThingName::new(&identity.client_id).ok());
    Ok(named.unwrap_or_else(|| {
        ThingName::new(identity.certificate.as_str()).expect("a certificate's id is 64 hexadecimal digits")
    }))
}
