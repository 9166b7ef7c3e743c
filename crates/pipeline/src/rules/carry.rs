//! Carries out what does not go with a message's batch: each action, tried again where that may help, and what is said
//! of those that failed. The message is acknowledged after that and not before, so that whoever sent it sends it again
//! where a crash came in between ([ADR 13](../../../../docs/adr/0013-actions-before-the-acknowledgement.md)).

use super::{
    CompiledRule,
    action::CompiledAction,
    engine::{Engine, Origin, Routed, rejected},
    kinds,
    sql::Evaluation,
};
use crate::{consumer::tenant_of, decode};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, join, join_all, ready},
};
use kilter_core::{
    RecordKind, StreamName, Timestamp,
    ports::{
        action::{ActionCall, ActionError},
        stream::{StreamError, StreamErrorKind},
    },
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// Waits before an action is tried again: three tries in all, as AWS makes for HTTP. They are short because the message
/// is not acknowledged meanwhile.
const WAITS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];
/// Once a target has taken this long, it is not tried again.
const TRIES_SECONDS_MAX: f64 = 5.0;
/// Of one failure's message: ten of them and the largest payload fit into one log event.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// Waits for so long.
pub(super) type Pause = Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// The actions of one rule on one message that do not go with its batch.
pub(super) struct Pending {
    pub rule: Arc<CompiledRule>,
    pub calls: Vec<(String, Result<ActionCall, ActionError>)>,
    pub original: Original,
}

/// What an error action is told about.
#[derive(Clone)]
pub(super) struct Original {
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub arrival: Timestamp,
    pub seed: u128,
    pub origin: Origin,
}

impl Engine {
    /// Queues the records at once; resolves once they are durable and every action has succeeded or said why not.
    /// `Err`: somebody must send the message again.
    pub fn keep(self: &Arc<Self>, routed: Routed) -> BoxFuture<'static, Result<(), StreamError>> {
        let durable = self.append.append_all(routed.records);
        if routed.pending.is_empty() {
            return durable;
        }
        let actions = routed.pending.into_iter().map(|pending| self.clone().carry_out(pending));
        let all_kept = |results: Vec<Result<(), StreamError>>| results.into_iter().collect::<Result<(), _>>();
        join(durable, join_all(actions)).map(move |(durable, kept)| durable.and(all_kept(kept))).boxed()
    }

    fn carry_out(self: Arc<Self>, pending: Pending) -> BoxFuture<'static, Result<(), StreamError>> {
        async move {
            let Pending { rule, calls, original } = pending;
            let performed = calls.into_iter().map(|(kind, call)| {
                let (engine, rule, origin) = (self.clone(), &rule, &original.origin);
                async move {
                    let result = match call {
                        Ok(call) => engine.attempt(rule, call, origin).await,
                        Err(error) => Err(error),
                    };
                    count(&kind, result.is_ok());
                    result.err().map(|error| (kind, error))
                }
            });
            let failures: Vec<_> = join_all(performed).await.into_iter().flatten().collect();
            if failures.is_empty() { Ok(()) } else { self.fail(&rule, &original, failures).await }
        }
        .boxed()
    }

    /// Tries an action, and again where its target says that this may help.
    async fn attempt(
        self: &Arc<Self>,
        rule: &CompiledRule,
        call: ActionCall,
        origin: &Origin,
    ) -> Result<(), ActionError> {
        // Not for messages to the rules themselves: a rule that waited for itself would wait for ever.
        let _turn = if call.kind == "republish" { None } else { rule.turns.acquire().await.ok() };
        let began = self.clock.now();
        for wait in WAITS {
            match self.perform(call.clone(), origin.clone()).await {
                Err(error) if error.retryable && self.clock.now().seconds_since(began) < TRIES_SECONDS_MAX => {
                    metrics::counter!("kilter_rule_retries_total", "kind" => call.kind.clone()).increment(1);
                    tracing::debug!(rule = &*call.rule, kind = call.kind, %error, "an action is tried again");
                    (self.pause)(wait).await;
                }
                done => return done,
            }
        }
        self.perform(call, origin.clone()).await
    }

    /// Says in metrics, to the error action and in the rule's log group what failed. The log holds the message itself
    /// where nobody else has it; `Err` where not even that was possible.
    async fn fail(
        self: &Arc<Self>,
        rule: &CompiledRule,
        original: &Original,
        failures: Vec<(String, ActionError)>,
    ) -> Result<(), StreamError> {
        metrics::counter!("kilter_rule_failures_total", "rule" => rule.name.to_string()).increment(1);
        for (kind, error) in &failures {
            tracing::debug!(rule = &*rule.name, %kind, %error, "a rule's action failed");
        }
        let client_id = original.origin.client.as_ref().map_or("n/a", |client| client.0.client_id.as_str());
        let payload = BASE64_STANDARD.encode(&original.payload);
        let trace = super::functions::trace_id_of(original.seed);
        let failed: Vec<Value> = failures.iter().map(|(kind, error)| described(kind, error)).collect();
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
                Err(error) => (false, Some(short(&error.message))),
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
        let logged = self.say(&rule.name, original.arrival, event.to_string()).await;
        if handled || stored { Ok(()) } else { logged.map_err(|why| kept_nowhere(&rule.name, &why)) }
    }

    async fn say(&self, rule: &str, at: Timestamp, event: String) -> Result<(), String> {
        let logs = self.logs.get().ok_or("no log is kept here")?;
        let written = logs.put(&format!("/aws/iot/rules/{rule}"), &at.format("%Y/%m/%d"), at, event).await;
        written.map_err(|error| error.message)
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
        let done = self.attempt(rule, call, &original.origin).await;
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
        let failed = move |message: String, retryable| ActionError { resource: name.clone(), message, retryable };
        let Ok(stream) = StreamName::new(kinds::text(&call.parameters, "streamName")) else {
            return ready(Err(failed("the stream's name is not valid".into(), false))).boxed();
        };
        let original = Original { topic: call.topic, payload: Bytes::new(), arrival, seed: 0, origin };
        let kind = match decode::decode(&call.payload, arrival) {
            Err(reason) if tenant_of(&stream).is_some() => rejected(reason),
            _ => RecordKind::Telemetry,
        };
        let record = match self.record(kind, call.payload, &original) {
            Ok(record) => record,
            Err(refusal) => return ready(Err(failed(refusal.to_string(), false))).boxed(),
        };
        let appended = self.append.append(stream, vec![record]);
        appended.map(move |done| done.map(drop).map_err(|e| failed(e.to_string(), e.retryable()))).boxed()
    }
}

fn described(kind: &str, error: &ActionError) -> Value {
    json!({
        "failedAction": kinds::action_name(kind),
        "failedResource": error.resource,
        "errorMessage": short(&error.message),
    })
}

fn short(message: &str) -> String {
    message.chars().take(MESSAGE_CHARS_MAX).collect()
}

fn kept_nowhere(rule: &str, why: &str) -> StreamError {
    let message = format!("an action of the rule {rule} failed, and its log group could not keep the message: {why}");
    StreamError::new(StreamErrorKind::Io, "rule", message)
}

fn count(kind: &str, ok: bool) {
    let result = if ok { "ok" } else { "error" };
    metrics::counter!("kilter_rule_actions_total", "kind" => kind.to_owned(), "result" => result).increment(1);
}
