//! Simple Notification Service: topics, subscriptions over HTTP and HTTPS with confirmation, notifications. Alerts of
//! a tenant go to its topic `alerts-<tenant>`.

mod alerts;
mod filter;
mod publish;
mod store;
mod subscriptions;
mod topics;

pub use publish::Message;

use crate::{Answer, AwsError, Call, Service, form, form::Form, uri};
use axum::http::StatusCode;
use futures::{FutureExt, future::BoxFuture};
use kilter_core::ports::{
    clock::Clock,
    post::Post,
    resources::Resources,
    table::{Table, TableError},
};
use std::sync::Arc;
use store::Store;

/// What the service stands on.
pub struct SnsParts {
    pub table: Arc<dyn Table>,
    pub clock: Arc<dyn Clock>,
    pub post: Arc<dyn Post>,
    /// Which tenants have an alert topic.
    pub resources: Arc<dyn Resources>,
    pub region: String,
    pub account: String,
    /// Of this endpoint, for the links in messages.
    pub url: String,
}

pub struct Sns {
    store: Store,
    clock: Arc<dyn Clock>,
    post: Arc<dyn Post>,
    resources: Arc<dyn Resources>,
    region: String,
    account: String,
    endpoint: String,
    /// Rung when a message waits.
    wake: tokio::sync::Notify,
}

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("InvalidParameter", message)
}

fn not_found(what: &str) -> AwsError {
    AwsError::new("NotFound", format!("{what} does not exist")).with_status(StatusCode::NOT_FOUND)
}

fn no_topic() -> AwsError {
    not_found("Topic")
}

impl Sns {
    /// Blocking.
    pub fn open(parts: SnsParts) -> Result<Self, TableError> {
        let SnsParts { table, clock, post, resources, region, account, url } = parts;
        let store = Store::open(table, clock.now())?;
        Ok(Self { store, clock, post, resources, region, account, endpoint: url, wake: tokio::sync::Notify::new() })
    }

    fn topic_arn(&self, name: &str) -> String {
        format!("arn:aws:sns:{}:{}:{name}", self.region, self.account)
    }

    /// The name in a topic's ARN.
    fn topic_name<'a>(&self, arn: &'a str) -> Result<&'a str, AwsError> {
        let name = arn.strip_prefix(&self.topic_arn("")).filter(|name| !name.is_empty() && !name.contains(':'));
        name.ok_or_else(|| {
            invalid(format!("Invalid parameter: TopicArn Reason: {arn} names no topic of this endpoint"))
        })
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source answers");
        bytes
    }

    /// Version 4 (RFC 9562 §5.4).
    fn uuid(&self) -> String {
        let mut bytes = self.random();
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let text = format!("{:032x}", u128::from_be_bytes(bytes));
        [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
    }

    /// An address of this endpoint that does something when it is visited.
    fn url(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        let parameters = parameters.iter().map(|(name, value)| format!("&{name}={}", uri::encode(value, false)));
        format!("{}/?Action={action}&Version=2010-03-31{}", self.endpoint, parameters.collect::<String>())
    }

    fn dispatch(&self, call: &Call) -> Result<Answer, AwsError> {
        self.follow_tenants()?;
        let form = Form::parse(call)?;
        let action = form.action()?;
        let now = call.now;
        let result = match action {
            "CreateTopic" => self.create_topic(&form),
            "DeleteTopic" => self.delete_topic(&form),
            "ListTopics" => self.list_topics(&form),
            "GetTopicAttributes" => self.topic_attributes(&form, now),
            "SetTopicAttributes" => self.set_topic_attribute(&form),
            "TagResource" => self.tag(&form),
            "UntagResource" => self.untag(&form),
            "ListTagsForResource" => self.tags(&form),
            "Subscribe" => self.subscribe(&form, now),
            "ConfirmSubscription" => self.confirm(&form, now),
            "Unsubscribe" => self.unsubscribe(&form),
            "ListSubscriptions" => self.list_subscriptions(&form, None, now),
            "ListSubscriptionsByTopic" => {
                self.list_subscriptions(&form, Some(self.topic_name(form.required("TopicArn")?)?), now)
            }
            "GetSubscriptionAttributes" => self.subscription_attributes(&form, now),
            "SetSubscriptionAttributes" => self.set_subscription_attribute(&form),
            "Publish" => self.publish_one(&form),
            "PublishBatch" => self.publish_batch(&form),
            other => {
                return Err(AwsError::new(
                    "InvalidAction",
                    format!("Kilter does not offer the operation {other} of sns"),
                ));
            }
        };
        // Operations without a result have an empty one here; clients do not mind.
        Ok(form::answer("sns", action, Some(&result?), call))
    }
}

/// Shared between the endpoint, the notifier and the rules.
#[derive(Clone)]
pub struct SnsService(pub Arc<Sns>);

impl Service for SnsService {
    fn name(&self) -> &'static str {
        "sns"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, AwsError>> {
        let (sns, call) = (self.0.clone(), call.clone());
        async move {
            let answered = tokio::task::spawn_blocking(move || sns.dispatch(&call)).await;
            answered.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
        }
        .boxed()
    }

    /// Links in messages: the token, or the subscription's own id, stands for the signature.
    fn anonymous(&self, call: &Call) -> bool {
        matches!(call.query("Action"), Some("ConfirmSubscription" | "Unsubscribe"))
            && (call.query("Token").is_some() || call.query("SubscriptionArn").is_some())
    }
}

/// A page of a list: from the token's place on.
fn page<T>(form: &Form, all: Vec<T>, most: usize) -> Result<(Vec<T>, Option<String>), AwsError> {
    let from = match form.get("NextToken") {
        None | Some("") => 0,
        Some(token) => token.parse::<usize>().map_err(|_| invalid("Invalid parameter: NextToken"))?,
    };
    let next = (all.len() > from + most).then(|| (from + most).to_string());
    Ok((all.into_iter().skip(from).take(most).collect(), next))
}

#[cfg(test)]
mod tests;
