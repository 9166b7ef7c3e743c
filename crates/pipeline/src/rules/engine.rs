//! Carries rules out. What goes into streams is evaluated at once and appended with the message's batch; other
//! actions run afterwards, and the message is acknowledged when each has succeeded or has said why not.

use super::{
    CompiledRule,
    action::CompiledAction,
    builtin::Gauges,
    kinds,
    sql::{EvalError, Evaluation, Message, Outcome},
};
use crate::{append::Appender, consumer::tenant_of, decode, ingest::Site, logs::LogWriter, registry::Registry};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use kilter_core::{
    MessageProperties, NewRecord, RecordKind, StreamName, ThingName, Timestamp,
    ports::{
        action::{ActionCall, ActionError, ActionTarget, RuleRoles},
        clock::Clock,
        deliver::Deliver,
        ingest::{Client, Refusal, RefusalKind},
        rules::{RuleError, RuleErrorKind},
        stream::StreamError,
    },
    topics::basic_ingest,
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

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

/// The actions of one rule on one message that do not go with its batch.
pub(super) struct Pending {
    rule: Arc<CompiledRule>,
    calls: Vec<(String, Result<ActionCall, ActionError>)>,
    original: Original,
}

/// What an error action is told about.
#[derive(Clone)]
struct Original {
    topic: Arc<str>,
    payload: Bytes,
    arrival: Timestamp,
    seed: u128,
    origin: Origin,
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
            Some((rule, rest)) => (state.rules.get(rule).cloned().into_iter().collect(), rest),
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

    fn message<'m>(&'m self, original: &'m Original) -> Message<'m> {
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
        let tenant = tenant_of(stream).is_some();
        let kind = match decode::decode(made, original.arrival) {
            // What no scorer reads need not be a reading.
            Err(reason) if tenant => rejected(reason),
            _ => RecordKind::Telemetry,
        };
        let key = match action.call(&rule.name, &original.topic, evaluation, Bytes::new()) {
            Ok(call) => kinds::text(&call.parameters, "partitionKey").to_owned(),
            Err(error) => return Ok(Some(Err(error))),
        };
        let mut record = self.record(kind, made.clone(), original)?;
        // A thing's records stay in order in its tenant's stream: a key that changes would spread them over shards.
        if !key.is_empty() && (!tenant || action.has_constant_key()) {
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
            Some(stream) if tenant_of(stream).is_some() => {
                let record = self.record(rejected(error.to_string().into()), original.payload.clone(), original)?;
                routed.records.push((stream.clone(), record));
                Ok(None)
            }
            _ => Ok(Some(Err(action.failed(error)))),
        }
    }

    fn role_refuses(&self, action: &CompiledAction) -> Option<String> {
        let (roles, role) = self.roles.get().zip(action.role.as_ref())?;
        let (permission, resource) = action.permission(&self.site.region, &self.site.account);
        roles.may(role, permission, &resource).err()
    }

    fn record(&self, kind: RecordKind, data: Bytes, original: &Original) -> Result<NewRecord, Refusal> {
        let thing = thing_of(&original.topic, original.origin.client.as_ref())?;
        metrics::counter!("kilter_ingest_received_total").increment(1);
        Ok(NewRecord {
            kind,
            partition_key: thing.as_str().into(),
            thing,
            thing_sequence: 0,
            arrival: original.arrival,
            topic: original.topic.as_ref().into(),
            data,
        })
    }

    /// Queues the records at once; resolves once they are durable and every action has succeeded or said why not.
    pub fn keep(self: &Arc<Self>, routed: Routed) -> BoxFuture<'static, Result<(), StreamError>> {
        let durable = self.append.append_all(routed.records);
        if routed.pending.is_empty() {
            return durable;
        }
        let actions = routed.pending.into_iter().map(|pending| self.clone().carry_out(pending));
        futures::future::join(durable, futures::future::join_all(actions)).map(|(durable, _)| durable).boxed()
    }

    fn carry_out(self: Arc<Self>, pending: Pending) -> BoxFuture<'static, ()> {
        async move {
            let Pending { rule, calls, original } = pending;
            let hops = original.origin.hops;
            let performed = calls.into_iter().map(|(kind, call)| {
                let engine = self.clone();
                let origin = Origin { client: original.origin.client.clone(), hops };
                async move {
                    let result = match call {
                        Ok(call) => engine.perform(call, origin).await,
                        Err(error) => Err(error),
                    };
                    count(&kind, result.is_ok());
                    result.err().map(|error| (kind, error))
                }
            });
            let failures: Vec<_> = futures::future::join_all(performed).await.into_iter().flatten().collect();
            if !failures.is_empty() {
                self.fail(&rule, &original, failures).await;
            }
        }
        .boxed()
    }

    /// Says in metrics, to the error action and in the rule's log group what failed. The log holds the message itself
    /// where nobody else has it.
    async fn fail(self: &Arc<Self>, rule: &CompiledRule, original: &Original, failures: Vec<(String, ActionError)>) {
        metrics::counter!("kilter_rule_failures_total", "rule" => rule.name.to_string()).increment(1);
        let client_id = original.origin.client.as_ref().map_or("n/a", |client| client.0.client_id.as_str());
        let payload = BASE64_STANDARD.encode(&original.payload);
        let trace = super::functions::trace_id_of(original.seed);
        let failed: Vec<Value> = failures
            .iter()
            .map(|(kind, error)| {
                json!({
                    "failedAction": kinds::action_name(kind),
                    "failedResource": error.resource,
                    "errorMessage": error.message,
                })
            })
            .collect();
        let told = json!({
            "ruleName": &*rule.name,
            "topic": &*original.topic,
            "cloudwatchTraceId": trace,
            "clientId": client_id,
            "base64OriginalPayload": payload,
            "failures": failed,
        });
        let (handled, error_action) = match &rule.error_action {
            None => (false, None),
            Some(action) => match self.tell(rule, action, original, told.to_string().into()).await {
                Ok(()) => (true, None),
                Err(error) => (false, Some(error.message)),
            },
        };
        // A stream that the rule names has it only where that action did not fail.
        let refused = failures.iter().filter(|(kind, _)| kind == "kinesis").count();
        let stored = rule.streams().count() > refused;
        let mut event = json!({
            "logLevel": "ERROR", "status": "Failure", "eventType": "RuleExecution", "traceId": trace,
            "ruleName": &*rule.name, "topicName": &*original.topic, "clientId": client_id, "failures": failed,
        });
        if let Some(why) = error_action {
            event["errorActionFailure"] = why.into();
        }
        if !handled && !stored {
            event["base64OriginalPayload"] = payload.into();
        }
        for (kind, error) in &failures {
            tracing::debug!(rule = &*rule.name, %kind, %error, "a rule's action failed");
        }
        if let Some(logs) = self.logs.get() {
            let stream = original.arrival.format("%Y/%m/%d");
            logs.put(&format!("/aws/iot/rules/{}", rule.name), &stream, original.arrival, event.to_string()).await;
        }
    }

    async fn tell(
        self: &Arc<Self>,
        rule: &CompiledRule,
        action: &CompiledAction,
        original: &Original,
        told: Bytes,
    ) -> Result<(), ActionError> {
        if let Some(why) = self.role_refuses(action) {
            return Err(action.refused(why));
        }
        let call = {
            let message = self.message(original);
            action.call(&rule.name, &original.topic, &Evaluation::new(&message), told)?
        };
        let done = self.perform(call, original.origin.clone()).await;
        count(&action.kind, done.is_ok());
        done
    }

    /// One record onto a stream, for an error action.
    pub(super) fn put_record(
        &self,
        call: ActionCall,
        origin: Origin,
        arrival: Timestamp,
    ) -> BoxFuture<'static, Result<(), ActionError>> {
        let name = kinds::text(&call.parameters, "streamName").to_owned();
        let failed = move |message: String| ActionError { resource: name.clone(), message, retryable: false };
        let Ok(stream) = StreamName::new(kinds::text(&call.parameters, "streamName")) else {
            return futures::future::ready(Err(failed("the stream's name is not valid".into()))).boxed();
        };
        let original = Original { topic: call.topic, payload: Bytes::new(), arrival, seed: 0, origin };
        let kind = match decode::decode(&call.payload, arrival) {
            Err(reason) if tenant_of(&stream).is_some() => rejected(reason),
            _ => RecordKind::Telemetry,
        };
        let record = match self.record(kind, call.payload, &original) {
            Ok(record) => record,
            Err(refusal) => return futures::future::ready(Err(failed(refusal.to_string()))).boxed(),
        };
        self.append
            .append(stream, vec![record])
            .map(move |done| done.map(drop).map_err(|e| failed(e.to_string())))
            .boxed()
    }
}

fn count(kind: &str, ok: bool) {
    let result = if ok { "ok" } else { "error" };
    metrics::counter!("kilter_rule_actions_total", "kind" => kind.to_owned(), "result" => result).increment(1);
}

fn rejected(reason: Box<str>) -> RecordKind {
    metrics::counter!("kilter_ingest_rejected_total").increment(1);
    tracing::debug!(%reason, "message kept as rejected");
    RecordKind::Rejected(reason)
}

/// Whose message it is: of a telemetry topic, `tenants/<tenant>/devices/<thing>/…`, the thing that it names; of
/// others the client's thing, or whatever names the client.
fn thing_of(topic: &str, client: Option<&Client>) -> Result<ThingName, Refusal> {
    if topic.starts_with("tenants/") || client.is_none() {
        let named = topic.split('/').nth(3).and_then(|name| ThingName::new(name).ok());
        return named.ok_or_else(|| Refusal {
            kind: RefusalKind::InvalidTopic,
            reason: format!("topic {topic:?} names no thing in its fourth level"),
        });
    }
    let identity = client.map(|client| &client.0).expect("a missing client was answered above");
    let thing = identity.thing.as_ref().map(|(_, thing)| thing.clone());
    let named = thing.or_else(|| ThingName::new(&identity.client_id).ok());
    Ok(named.unwrap_or_else(|| {
        ThingName::new(identity.certificate.as_str()).expect("a certificate's id is 64 hexadecimal digits")
    }))
}
