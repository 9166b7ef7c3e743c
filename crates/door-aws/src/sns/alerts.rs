//! Topics of tenants: each has `alerts-<tenant>` from the start, and its alerts go there. Rules publish as well.

use super::{
    Sns, SnsService,
    publish::Message,
    store::{Change, Topic},
};
use crate::AwsError;
use futures::{FutureExt, future::BoxFuture};
use kilter_core::{
    Alert, AlertEvent,
    ports::{
        action::{ActionCall, ActionError, ActionTarget},
        control::ControlErrorKind,
        notify::{Notify, NotifyError},
        resources::Resource,
    },
};
use serde_json::Value;
use std::collections::BTreeSet;

impl Sns {
    /// Makes the alert topics that tenants have been given, and removes those that they have no more.
    pub(super) fn follow_tenants(&self) -> Result<(), AwsError> {
        let listed = self.resources.list(Resource::Topic).map_err(AwsError::internal)?;
        let tenants: BTreeSet<String> = listed.iter().map(|(tenant, _)| tenant.to_string()).collect();
        let mut state = self.store.lock();
        if state.seen.len() == tenants.len() && state.seen.keys().eq(tenants.iter()) {
            return Ok(());
        }
        for tenant in &tenants {
            if !state.seen.contains_key(tenant) {
                let name = format!("alerts-{tenant}");
                state.topics.entry(name.clone()).or_insert_with(|| Topic { name: name.clone(), ..Topic::default() });
                self.commit(&mut state, vec![Change::Topic(&name), Change::Seen(tenant)])?;
            }
        }
        let gone: Vec<String> = state.seen.keys().filter(|tenant| !tenants.contains(*tenant)).cloned().collect();
        for tenant in gone {
            let name = format!("alerts-{tenant}");
            state.topics.remove(&name);
            self.commit(&mut state, vec![Change::Topic(&name), Change::Unseen(&tenant)])?;
        }
        Ok(())
    }
}

impl Sns {
    /// An operator made or removed a tenant's alert topic: alerts go there, or no longer do.
    pub(super) fn tell_resources(&self, topic: &str, made: bool) -> Result<(), AwsError> {
        let Some(tenant) = Resource::Topic.tenant(topic, &self.region) else { return Ok(()) };
        let told = match made {
            true => self.resources.make(&tenant, Resource::Topic),
            false => self.resources.remove(&tenant, Resource::Topic),
        };
        match told {
            // A topic of that name, and no tenant: a topic like any other.
            Err(error) if error.kind == ControlErrorKind::NotFound => Ok(()),
            told => told.map_err(AwsError::internal),
        }
    }
}

/// What no message of this kind gets through is not tried again.
fn may_pass(error: &AwsError) -> bool {
    matches!(error.status.as_u16(), 429 | 500..)
}

impl Notify for SnsService {
    fn name(&self) -> &str {
        "sns"
    }

    fn wants(&self, alert: &Alert) -> bool {
        let state = self.0.store.lock();
        let topic = state.topics.get(&alert.episode.tenant.alert_topic());
        topic.is_some_and(|topic| topic.subscriptions.iter().any(|s| s.confirmed))
    }

    /// `Ok` once it waits, durably, for the topic's subscribers.
    fn publish<'a>(&'a self, alert: &'a Alert) -> BoxFuture<'a, Result<(), NotifyError>> {
        let sns = self.0.clone();
        let topic = alert.episode.tenant.alert_topic();
        let event = match alert.event {
            AlertEvent::Opened => "opened",
            AlertEvent::Closed => "closed",
            AlertEvent::Amended => "amended",
            AlertEvent::Withdrawn => "withdrawn",
        };
        let severity = format!("{:?}", alert.episode.severity).to_lowercase();
        let text = |value: &str| ("String".to_owned(), value.to_owned());
        let attributes = [
            ("event", text(event)),
            ("severity", text(&severity)),
            ("thing", text(alert.episode.thing.as_str())),
            ("key", text(&alert.key)),
        ];
        let message = Message {
            subject: Some(format!("{severity} anomaly {event}: {}", alert.episode.thing).chars().take(100).collect()),
            text: serde_json::to_string(alert).unwrap_or_default(),
            by_protocol: false,
            attributes: attributes.into_iter().map(|(name, (kind, value))| (name.to_owned(), kind, value)).collect(),
        };
        async move {
            let published = tokio::task::spawn_blocking(move || sns.publish(&topic, &message)).await;
            match published {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(NotifyError { retryable: may_pass(&error), message: error.message }),
                Err(panicked) => Err(NotifyError { retryable: true, message: panicked.to_string() }),
            }
        }
        .boxed()
    }
}

impl ActionTarget for SnsService {
    fn kinds(&self) -> &[&'static str] {
        &["sns"]
    }

    fn check(&self, _: &str, parameters: &Value) -> Result<(), String> {
        match parameters["messageFormat"].as_str() {
            None | Some("RAW" | "JSON") => Ok(()),
            Some(other) => Err(format!("messageFormat {other:?} of sns is not known: use RAW or JSON")),
        }
    }

    fn perform(&self, call: ActionCall) -> BoxFuture<'static, Result<(), ActionError>> {
        let sns = self.0.clone();
        async move {
            let arn = call.parameters["targetArn"].as_str().unwrap_or_default().to_owned();
            let failed = |message: String, retryable| ActionError { resource: arn.clone(), message, retryable };
            let message = Message {
                text: String::from_utf8_lossy(&call.payload).into_owned(),
                by_protocol: call.parameters["messageFormat"] == "JSON",
                ..Message::default()
            };
            let target = arn.clone();
            let published = tokio::task::spawn_blocking(move || {
                sns.topic_name(&target).and_then(|topic| sns.publish(topic, &message))
            });
            match published.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => {
                    let retryable = may_pass(&error);
                    Err(failed(error.message, retryable))
                }
                Err(panicked) => Err(failed(panicked.to_string(), true)),
            }
        }
        .boxed()
    }
}
