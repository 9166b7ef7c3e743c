//! The actions that need no service: republish, log, metric, the scoring function.

use super::engine::{Engine, Origin};
use super::kinds::text;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use kilter_core::{
    MessageProperties, TenantId,
    ports::{
        action::{ActionCall, ActionError},
        deliver::Outgoing,
        stream::StreamError,
    },
    topics,
};
use serde_json::Value;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

/// How often rules may publish one message again: more is a loop.
pub const HOPS_MAX: u8 = 5;
/// Largest message that rules publish: what is said of a failure holds a device's largest in Base64.
const PAYLOAD_BYTES_MAX: usize = 256 << 10;
/// Metrics that rules may make: each is a line of `/metrics` for ever.
const GAUGES_MAX: usize = 1_000;

/// Which gauges rules have made.
#[derive(Default)]
pub struct Gauges(Mutex<HashSet<[String; 3]>>);

type Done = BoxFuture<'static, Result<(), ActionError>>;

fn failed(resource: &str, message: impl Into<String>) -> ActionError {
    ActionError { resource: resource.to_owned(), message: message.into(), retryable: false }
}

impl Engine {
    /// Carries out one action, its templates filled in.
    pub(super) fn perform(self: &Arc<Self>, call: ActionCall, origin: Origin) -> Done {
        let ready = |result| futures::future::ready(result).boxed();
        match call.kind.as_str() {
            "kinesis" => self.put_record(call, origin, self.clock.now()),
            "republish" => self.republish(&call, origin),
            "lambda" => ready(self.invoke(&call)),
            "cloudwatchMetric" => ready(self.gauge(&call)),
            "cloudwatchLogs" => self.log(call),
            kind => match self.target(kind) {
                Some(target) => target.perform(call),
                None => {
                    let message = format!("nothing here carries out {kind} actions: see docs/guide/rules.md");
                    ready(Err(failed(kind, message)))
                }
            },
        }
    }

    /// To subscribers, and through the rules again.
    fn republish(self: &Arc<Self>, call: &ActionCall, origin: Origin) -> Done {
        let parameters = &call.parameters;
        // `$$` stands for a `$` at the beginning of a reserved topic, as AWS has it.
        let topic = text(parameters, "topic").replacen("$$", "$", 1);
        let refuse = |message: String| futures::future::ready(Err(failed(&topic, message))).boxed();
        if origin.hops >= HOPS_MAX {
            return refuse(format!("the message was published again {HOPS_MAX} times: rules form a loop; change one"));
        }
        let plain = topic.strip_prefix('$').unwrap_or(&topic);
        if let Err(why) = topics::check_name(plain) {
            return refuse(format!("nothing can be published on {topic:?}: {why}"));
        }
        if call.payload.len() > PAYLOAD_BYTES_MAX {
            return refuse(format!("{} bytes are more than the {PAYLOAD_BYTES_MAX} of a message", call.payload.len()));
        }
        let properties = match properties(&parameters["headers"]) {
            Ok(properties) => properties.map(Arc::new),
            Err(why) => return refuse(why),
        };
        let Some(deliver) = self.deliver() else {
            return refuse("the devices' door is not open".to_owned());
        };
        let (rules, seen) = self.rules_for(&topic);
        let seen: Arc<str> = seen.into();
        let next = Origin { hops: origin.hops + 1, ..origin };
        let routed = match self.route(&rules, &seen, &call.payload, properties.as_deref(), &next, self.clock.now()) {
            Ok(routed) => routed,
            Err(refusal) => return refuse(refusal.to_string()),
        };
        let qos = match parameters.get("qos") {
            Some(Value::Number(number)) => number.as_u64().unwrap_or(0),
            _ => text(parameters, "qos").parse().unwrap_or(0),
        };
        let kept = self.keep(routed);
        let delivered = deliver.deliver(Outgoing {
            topic: topic.as_str().into(),
            payload: call.payload.clone(),
            qos: qos.min(1) as u8,
            retain: false,
            properties,
        });
        let resource = topic.clone();
        let failed = move |error: StreamError| ActionError {
            retryable: error.retryable(),
            ..failed(&resource, error.to_string())
        };
        futures::future::try_join(kept, delivered).map(move |done| done.map(drop).map_err(failed)).boxed()
    }

    /// The scoring function reads the tenant's stream; asked by a rule it has nothing more to do.
    fn invoke(&self, call: &ActionCall) -> Result<(), ActionError> {
        let arn = text(&call.parameters, "functionArn");
        let name = arn.split_once(":function:").map_or(arn, |(_, name)| name);
        let name = name.split(':').next().unwrap_or(name);
        let tenant = name.strip_prefix("score-telemetry-").and_then(|tenant| TenantId::new(tenant).ok());
        match tenant.filter(|tenant| self.registry.state().tenants.contains_key(tenant)) {
            Some(tenant) => {
                tracing::trace!(%tenant, rule = &*call.rule, "a rule asked for the scoring function");
                Ok(())
            }
            None => Err(failed(arn, "there is no such function: each tenant has score-telemetry-<tenant>")),
        }
    }

    fn gauge(&self, call: &ActionCall) -> Result<(), ActionError> {
        let parameters = &call.parameters;
        let labels = ["metricNamespace", "metricName", "metricUnit"].map(|name| text(parameters, name).to_owned());
        let given = match &parameters["metricValue"] {
            Value::Number(number) => number.as_f64(),
            other => other.as_str().and_then(|text| text.parse().ok()),
        };
        let Some(value) = given.filter(|value: &f64| value.is_finite()) else {
            return Err(failed(&labels[1], format!("metricValue {} is not a number", parameters["metricValue"])));
        };
        let mut known = self.gauges.0.lock().expect("no holder of the gauges' lock panics");
        if !known.contains(&labels) && known.len() >= GAUGES_MAX {
            return Err(failed(&labels[1], format!("rules have made {GAUGES_MAX} metrics, and no more are kept")));
        }
        known.insert(labels.clone());
        drop(known);
        let [namespace, name, unit] = labels;
        metrics::gauge!("kilter_rule_metric", "namespace" => namespace, "name" => name, "unit" => unit).set(value);
        Ok(())
    }

    fn log(&self, call: ActionCall) -> Done {
        let group = text(&call.parameters, "logGroupName").to_owned();
        let Some(logs) = self.logs.get().cloned() else {
            return futures::future::ready(Err(failed(&group, "no log is kept here"))).boxed();
        };
        let now = self.clock.now();
        let message = lossy(&call.payload);
        async move {
            let written = logs.put(&group, &format!("rule/{}", call.rule), now, message).await;
            written.map_err(|error| failed(&group, error.message))
        }
        .boxed()
    }
}

/// `headers` of a `republish` action: MQTT 5's properties, each a text.
fn properties(headers: &Value) -> Result<Option<MessageProperties>, String> {
    if headers.is_null() {
        return Ok(None);
    }
    let given = |name: &str| Some(text(headers, name)).filter(|text| !text.is_empty());
    let owned = |name: &str| given(name).map(str::to_owned);
    let payload_format = match given("payloadFormatIndicator") {
        None => None,
        Some("UNSPECIFIED_BYTES") => Some(0),
        Some("UTF8_DATA") => Some(1),
        Some(other) => {
            return Err(format!("payloadFormatIndicator {other:?} is neither UNSPECIFIED_BYTES nor UTF8_DATA"));
        }
    };
    let expiry = given("messageExpiry")
        .map(|text| text.parse().map_err(|_| format!("messageExpiry {text:?} is no number of seconds")));
    let correlation = given("correlationData")
        .map(|text| BASE64_STANDARD.decode(text).map_err(|error| format!("correlationData is not Base64: {error}")));
    let user = headers["userProperties"].as_array().into_iter().flatten();
    Ok(Some(MessageProperties {
        payload_format,
        expiry: expiry.transpose()?,
        content_type: owned("contentType"),
        response_topic: owned("responseTopic"),
        correlation_data: correlation.transpose()?.map(Bytes::from),
        user: user.map(|pair| (text(pair, "key").to_owned(), text(pair, "value").to_owned())).collect(),
    }))
}

fn lossy(payload: &Bytes) -> String {
    String::from_utf8_lossy(payload).into_owned()
}
