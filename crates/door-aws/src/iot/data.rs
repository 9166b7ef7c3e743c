//! AWS IoT's data plane over HTTP (`iot-data`): publishing as an operator, and retained messages.

use super::{cut, invalid, not_found, present};
use crate::{Access, Answer, AwsError, Call, Service, rest::route};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use kilter_core::{
    MessageProperties,
    ports::{
        deliver::{Deliver, Outgoing},
        ingest::{InboundMessage, Inject},
    },
    topics,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Entries of one page.
const RETAINED_MAX: usize = 200;
/// Bytes of a message, as devices may send: AWS's limit.
const PAYLOAD_BYTES_MAX: usize = 128 * 1024;

pub struct IotData {
    pub inject: Arc<dyn Inject>,
    pub deliver: Arc<dyn Deliver>,
}

enum Operation {
    Publish(String),
    GetRetained(String),
    ListRetained,
}

fn operation(call: &Call) -> Option<Operation> {
    let first = |method: &str, pattern: &str| route(call, method, pattern).and_then(|mut parts| parts.pop());
    first("POST", "/topics/{topic+}")
        .map(Operation::Publish)
        .or_else(|| first("GET", "/retainedMessage/{topic+}").map(Operation::GetRetained))
        .or_else(|| route(call, "GET", "/retainedMessage").map(|_| Operation::ListRetained))
}

impl Service for IotData {
    fn name(&self) -> &'static str {
        "iotdata"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, AwsError>> {
        Box::pin(async move {
            match operation(call) {
                Some(Operation::Publish(topic)) => self.publish(call, &topic).await,
                Some(Operation::GetRetained(topic)) => self.retained(&topic),
                Some(Operation::ListRetained) => self.list(call),
                None => Err(AwsError::unknown_operation(&format!("{} {}", call.method, call.path))),
            }
        })
    }

    fn access(&self, call: &Call) -> Access {
        let topic = |topic: &str| vec![call.arn("iot", &format!("topic/{topic}"))];
        let (action, resources) = match operation(call) {
            Some(Operation::Publish(name)) => ("iot:Publish", topic(&name)),
            Some(Operation::GetRetained(name)) => ("iot:GetRetainedMessage", topic(&name)),
            Some(Operation::ListRetained) => ("iot:ListRetainedMessages", vec!["*".to_owned()]),
            None => ("iot:*", vec!["*".to_owned()]),
        };
        Access { action: action.to_owned(), resources }
    }
}

fn number<T: std::str::FromStr>(call: &Call, name: &str) -> Result<Option<T>, AwsError> {
    let parsed =
        call.query(name).map(|text| text.parse().map_err(|_| invalid(format!("{name} {text:?} is not valid"))));
    parsed.transpose()
}

/// What MQTT 5 lets travel with a message.
fn properties(call: &Call) -> Result<MessageProperties, AwsError> {
    let decoded = |name: &str| -> Result<Option<Vec<u8>>, AwsError> {
        let text = call.header(name);
        text.map(|text| STANDARD.decode(text).map_err(|_| invalid(format!("header {name} is not base64")))).transpose()
    };
    let mut user = Vec::new();
    if let Some(json) = decoded("x-amz-mqtt5-user-properties")? {
        let list: Vec<std::collections::BTreeMap<String, String>> = serde_json::from_slice(&json)
            .map_err(|_| invalid("userProperties is not an array of objects with text"))?;
        user.extend(list.into_iter().flatten());
    }
    let payload_format = match call.header("x-amz-mqtt5-payload-format-indicator") {
        None => None,
        Some("UTF8_DATA") => Some(1),
        Some("UNSPECIFIED_BYTES") => Some(0),
        Some(other) => return Err(invalid(format!("payloadFormatIndicator {other:?} is not known"))),
    };
    Ok(MessageProperties {
        payload_format,
        expiry: number(call, "messageExpiry")?,
        content_type: call.query("contentType").map(str::to_owned),
        response_topic: call.query("responseTopic").map(str::to_owned),
        correlation_data: call.header("x-amz-mqtt5-correlation-data").map(|text| text.as_bytes().to_vec().into()),
        user,
    })
}

impl IotData {
    /// As a device's publish: the rules see it first, then whoever subscribes. Answered once both have kept it.
    async fn publish(&self, call: &Call, topic: &str) -> Result<Answer, AwsError> {
        topics::check_name(topic).map_err(|error| invalid(error.to_string()))?;
        if call.body.len() > PAYLOAD_BYTES_MAX {
            return Err(invalid(format!("the payload has more than {PAYLOAD_BYTES_MAX} bytes")));
        }
        let qos: u8 = number(call, "qos")?.unwrap_or(0);
        if qos > 1 {
            return Err(invalid("qos is 0 or 1"));
        }
        let retain = call.query("retain") == Some("true");
        let properties = properties(call)?;
        let properties = (properties != MessageProperties::default()).then(|| Arc::new(properties));
        let (topic, payload): (Arc<str>, _) = (topic.into(), call.body.clone());
        let message = InboundMessage {
            topic: topic.clone(),
            payload: payload.clone(),
            retain,
            properties: properties.clone(),
            arrival: None,
        };
        self.inject.inject(message).await.map_err(AwsError::internal)?;
        let delivered = self.deliver.deliver(Outgoing { topic, payload, qos, retain, properties });
        delivered.await.map_err(AwsError::internal)?;
        Ok(Answer::json(&json!({})))
    }

    fn retained(&self, topic: &str) -> Result<Answer, AwsError> {
        let found = self.deliver.retained(topic);
        let found = found.ok_or_else(|| not_found(format!("topic {topic:?} has no retained message")))?;
        Ok(Answer::json(&json!({
            "topic": &*found.topic,
            "payload": STANDARD.encode(&found.payload),
            "qos": found.qos,
        })))
    }

    fn list(&self, call: &Call) -> Result<Answer, AwsError> {
        let limit = number(call, "maxResults")?.unwrap_or(RETAINED_MAX);
        if !(1..=RETAINED_MAX).contains(&limit) {
            return Err(invalid(format!("maxResults is {limit}, not 1 to {RETAINED_MAX}")));
        }
        let all = self.deliver.retained_topics(None, usize::MAX);
        let (page, next) = cut(call.query("nextToken"), limit, all.into_iter(), |topic| topic.as_str())?;
        let kept = page.iter().filter_map(|topic| self.deliver.retained(topic));
        let topics: Vec<Value> = kept
            .map(|kept| json!({ "topic": &*kept.topic, "payloadSize": kept.payload.len(), "qos": kept.qos }))
            .collect();
        Ok(Answer::json(&present(json!({ "retainedTopics": topics, "nextToken": next }))))
    }
}
