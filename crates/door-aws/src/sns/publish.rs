//! Messages: what subscribers are sent, and how they get it.

use super::{
    Sns, filter,
    store::{Change, Subscription, Topic, WAITING_MAX, Waiting},
};
use crate::AwsError;
use axum::http::StatusCode;
use kilter_core::{Timestamp, ports::post::PostRequest};
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};

/// Longest message with its attributes (SNS's limit).
const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// Waits between attempts double from the first to the last.
const BACKOFF_SECONDS: (i64, i64) = (1, 300);
/// A subscriber that has not answered for so long loses the message.
const GIVE_UP_SECONDS: f64 = 3_600.0;
/// Messages on their way at the same time.
const AT_ONCE: usize = 16;
const POLL: Duration = Duration::from_secs(1);

/// Until the next attempt, after so many that failed.
fn wait_seconds(attempts: u32) -> i64 {
    BACKOFF_SECONDS.0.saturating_mul(1 << attempts.min(16)).min(BACKOFF_SECONDS.1)
}

/// How deliveries are tried again, in SNS's words.
pub(super) fn delivery_policy() -> Value {
    let mut waited = 0;
    let retries = (1..).take_while(|attempts| {
        waited += wait_seconds(*attempts);
        waited as f64 <= GIVE_UP_SECONDS
    });
    json!({"http": {
        "defaultHealthyRetryPolicy": {
            "minDelayTarget": wait_seconds(1), "maxDelayTarget": BACKOFF_SECONDS.1, "numRetries": retries.count(),
            "numMaxDelayRetries": 0, "numNoDelayRetries": 0, "numMinDelayRetries": 0, "backoffFunction": "exponential",
        },
        "disableSubscriptionOverrides": true,
    }})
}

/// What somebody publishes.
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub subject: Option<String>,
    pub text: String,
    /// `MessageStructure` is `json`: a text per protocol.
    pub by_protocol: bool,
    /// By name: type and value.
    pub attributes: Vec<(String, String, String)>,
}

impl Message {
    fn check(&self) -> Result<(), AwsError> {
        let bytes =
            self.text.len() + self.attributes.iter().map(|(n, t, v)| n.len() + t.len() + v.len()).sum::<usize>();
        if self.text.is_empty() {
            return Err(super::invalid("Invalid parameter: Empty message"));
        }
        if bytes > MESSAGE_BYTES_MAX {
            return Err(super::invalid("Invalid parameter: Message too long"));
        }
        if let Some(subject) = &self.subject
            && (subject.is_empty() || subject.chars().count() > 100 || subject.contains(char::is_control))
        {
            return Err(super::invalid("Invalid parameter: Subject"));
        }
        if self.by_protocol {
            let texts: Value = serde_json::from_str(&self.text).map_err(|_| {
                super::invalid("Invalid parameter: Message Structure - JSON message body failed to parse")
            })?;
            if !texts["default"].is_string() {
                return Err(super::invalid(
                    "Invalid parameter: Message Structure - No default entry in JSON message body",
                ));
            }
        }
        Ok(())
    }

    fn text_for(&self, protocol: &str) -> String {
        if !self.by_protocol {
            return self.text.clone();
        }
        let texts: Value = serde_json::from_str(&self.text).unwrap_or_default();
        let chosen = texts[protocol].as_str().or_else(|| texts["default"].as_str());
        chosen.unwrap_or_default().to_owned()
    }

    fn is_for(&self, subscription: &Subscription) -> bool {
        let Some(policy) = &subscription.filter else { return true };
        let Ok(policy) = serde_json::from_str::<Value>(policy) else { return false };
        if subscription.filter_on_body {
            return matches!(serde_json::from_str(&self.text), Ok(Value::Object(body)) if filter::matches(&policy, &body));
        }
        let values = self.attributes.iter().filter_map(|(name, kind, value)| {
            let value = match kind.split('.').next() {
                Some("Number") => serde_json::from_str(value).ok()?,
                Some("String") if kind == "String.Array" => serde_json::from_str(value).ok()?,
                Some("String") => Value::from(value.as_str()),
                _ => return None,
            };
            Some((name.clone(), value))
        });
        filter::matches(&policy, &values.collect::<Map<_, _>>())
    }
}

impl Sns {
    /// Kept for every subscriber that wants it; answers the message's id. Blocking.
    pub fn publish(&self, topic: &str, message: &Message) -> Result<String, AwsError> {
        message.check()?;
        let now = self.clock.now();
        let mut state = self.store.lock();
        let Some(known) = state.topics.get(topic).cloned() else { return Err(super::no_topic()) };
        let id = self.uuid();
        let wanted = known.subscriptions.iter().filter(|s| s.confirmed && message.is_for(s));
        let requests: Vec<PostRequest> = wanted.map(|s| self.notification(&known, s, message, &id, now)).collect();
        if state.waiting.len() + requests.len() > WAITING_MAX {
            return Err(AwsError::new("Throttled", format!("{WAITING_MAX} messages wait for their subscribers"))
                .with_status(StatusCode::TOO_MANY_REQUESTS));
        }
        let changes = requests
            .into_iter()
            .map(|request| Change::Wait(waiting(state.next_key(), request, now)))
            .collect::<Vec<_>>();
        if !changes.is_empty() {
            self.store.commit(&mut state, changes).map_err(AwsError::internal)?;
        }
        metrics::counter!("kilter_sns_published_total").increment(1);
        drop(state);
        self.wake.notify_one();
        Ok(id)
    }

    fn notification(
        &self,
        topic: &Topic,
        subscription: &Subscription,
        message: &Message,
        id: &str,
        now: Timestamp,
    ) -> PostRequest {
        let topic_arn = self.topic_arn(&topic.name);
        let arn = format!("{topic_arn}:{}", subscription.id);
        let text = message.text_for(&subscription.protocol);
        let mut headers = self.headers("Notification", id, &topic_arn);
        headers.push(("x-amz-sns-subscription-arn".into(), arn.clone()));
        let body = if subscription.raw {
            headers.push(("x-amz-sns-rawdelivery".into(), "true".into()));
            text
        } else {
            let mut body = json!({
                "Type": "Notification",
                "MessageId": id,
                "TopicArn": topic_arn,
                "Message": text,
                "Timestamp": now.format("%Y-%m-%dT%H:%M:%S%.3fZ"),
                "UnsubscribeURL": self.url("Unsubscribe", &[("SubscriptionArn", &arn)]),
            });
            if let Some(subject) = &message.subject {
                body["Subject"] = subject.as_str().into();
            }
            if !message.attributes.is_empty() {
                let members = message.attributes.iter();
                let members = members.map(|(name, kind, value)| (name.clone(), json!({"Type": kind, "Value": value})));
                body["MessageAttributes"] = Value::Object(members.collect());
            }
            unsigned(body).to_string()
        };
        PostRequest { url: subscription.endpoint.clone(), headers, body: body.into() }
    }

    /// Asks a subscriber to confirm.
    pub(super) fn confirmation(&self, topic: &str, subscription: &Subscription, now: Timestamp) -> PostRequest {
        let arn = self.topic_arn(topic);
        let id = self.uuid();
        let token = &subscription.token;
        let body = json!({
            "Type": "SubscriptionConfirmation",
            "MessageId": id,
            "Token": token,
            "TopicArn": arn,
            "Message": format!("You have chosen to subscribe to the topic {arn}.\nTo confirm the subscription, \
                visit the SubscribeURL included in this message."),
            "SubscribeURL": self.url("ConfirmSubscription", &[("TopicArn", &arn), ("Token", token)]),
            "Timestamp": now.format("%Y-%m-%dT%H:%M:%S%.3fZ"),
        });
        let headers = self.headers("SubscriptionConfirmation", &id, &arn);
        PostRequest { url: subscription.endpoint.clone(), headers, body: unsigned(body).to_string().into() }
    }

    fn headers(&self, kind: &str, id: &str, topic_arn: &str) -> Vec<(String, String)> {
        [
            ("x-amz-sns-message-type", kind),
            ("x-amz-sns-message-id", id),
            ("x-amz-sns-topic-arn", topic_arn),
            ("content-type", "text/plain; charset=UTF-8"),
            ("user-agent", "Amazon Simple Notification Service Agent"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Brings messages to subscribers until it is dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            let now = self.clock.now();
            let due: Vec<Waiting> = {
                let state = self.store.lock();
                state.waiting.values().filter(|waiting| waiting.next <= now).take(AT_ONCE).cloned().collect()
            };
            if due.is_empty() {
                let _ = tokio::time::timeout(POLL, self.wake.notified()).await;
                continue;
            }
            futures::future::join_all(due.into_iter().map(|waiting| self.clone().bring(waiting))).await;
        }
    }

    async fn bring(self: Arc<Self>, mut waiting: Waiting) {
        let headers = waiting.headers.clone();
        let request = PostRequest { url: waiting.url.clone(), headers, body: waiting.body.clone().into() };
        let answered = self.post.post(request).await;
        let delivered = matches!(answered, Ok(status) if (200..300).contains(&status));
        let result = if delivered { "ok" } else { "error" };
        metrics::counter!("kilter_sns_deliveries_total", "result" => result).increment(1);
        let now = self.clock.now();
        let key = waiting.key.clone();
        let give_up = now.seconds_since(waiting.since) > GIVE_UP_SECONDS;
        if !delivered {
            let why = answered.map_or_else(|why| why, |status| format!("it answered {status}"));
            waiting.attempts += 1;
            let wait = wait_seconds(waiting.attempts);
            waiting.next = now.plus_seconds(wait);
            match give_up {
                true => tracing::error!(why, "a subscriber did not take a notification, which is given up"),
                false => tracing::debug!(why, wait, "a subscriber did not take a notification; tried again later"),
            }
        }
        let settled = tokio::task::spawn_blocking(move || {
            let mut state = self.store.lock();
            let change = if delivered || give_up { Change::Done(&key) } else { Change::Wait(waiting) };
            self.store.commit(&mut state, vec![change])
        });
        if let Ok(Err(error)) = settled.await {
            tracing::error!(%error, "what became of a notification could not be kept");
        }
    }
}

pub(super) fn waiting(key: String, request: PostRequest, now: Timestamp) -> Waiting {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    Waiting { key, url: request.url, headers: request.headers, body, since: now, attempts: 0, next: now }
}

/// The members of a signature, saying that there is none: only the vendor can sign as the vendor.
fn unsigned(mut body: Value) -> Value {
    body["SignatureVersion"] = "0".into();
    body["Signature"] = "unsigned".into();
    body["SigningCertURL"] = "".into();
    body
}
