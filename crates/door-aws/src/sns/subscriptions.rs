//! Operations on subscriptions.

use super::{
    Sns, filter, invalid, no_topic, not_found, page,
    publish::waiting,
    store::{Change, SUBSCRIPTIONS_MAX, Subscription},
    topics::attributes,
};
use crate::{AwsError, form::Form, xml::Xml};
use kilter_core::Timestamp;

const SUBSCRIPTIONS_PAGE: usize = 100;
/// How long a confirmation's token is good: three days, as SNS has it.
const TOKEN_SECONDS: i64 = 3 * 86_400;

type Result<T> = std::result::Result<T, AwsError>;

impl Sns {
    pub(super) fn subscribe(&self, form: &Form, now: Timestamp) -> Result<String> {
        let topic = self.topic_name(form.required("TopicArn")?)?;
        let protocol = form.required("Protocol")?;
        let endpoint = form.required("Endpoint").map_err(|_| invalid("Invalid parameter: Endpoint"))?;
        self.check_endpoint(protocol, endpoint)?;
        let mut made = Subscription {
            id: self.uuid(),
            protocol: protocol.to_owned(),
            endpoint: endpoint.to_owned(),
            confirmed: false,
            token: format!("{:032x}{:032x}", u128::from_be_bytes(self.random()), u128::from_be_bytes(self.random())),
            token_until: now.plus_seconds(TOKEN_SECONDS),
            raw: false,
            filter: None,
            filter_on_body: false,
        };
        // The scope first: it says how the policy is to be read.
        let mut given = form.map("Attributes");
        given.sort_by_key(|(name, _)| *name != "FilterPolicyScope");
        for (name, value) in given {
            set_attribute(&mut made, name, value)?;
        }
        let mut state = self.store.lock();
        let known = state.topics.get_mut(topic).ok_or_else(no_topic)?;
        known.subscriptions.retain(|s| s.confirmed || s.is_pending(now));
        let full = known.subscriptions.len() >= SUBSCRIPTIONS_MAX;
        let same = known.subscriptions.iter_mut().find(|s| s.protocol == protocol && s.endpoint == endpoint);
        let subscription = match same {
            // Asked again: the confirmation is sent again, with a token of its own.
            Some(there) => {
                if !there.confirmed {
                    there.token.clone_from(&made.token);
                    there.token_until = made.token_until;
                }
                there.clone()
            }
            None if full => {
                let why = format!("The topic has {SUBSCRIPTIONS_MAX} subscriptions");
                return Err(AwsError::new("SubscriptionLimitExceeded", why));
            }
            None => {
                known.subscriptions.push(made.clone());
                made
            }
        };
        let mut changes = vec![Change::Topic(topic)];
        if !subscription.confirmed {
            let request = self.confirmation(topic, &subscription, now);
            changes.push(Change::Wait(waiting(state.next_key(), request, now)));
        }
        self.commit(&mut state, changes)?;
        drop(state);
        self.wake.notify_one();
        let shown = match subscription.confirmed || form.get("ReturnSubscriptionArn") == Some("true") {
            true => self.subscription_arn(topic, &subscription),
            false => "pending confirmation".to_owned(),
        };
        Ok(arn_result(&shown))
    }

    fn check_endpoint(&self, protocol: &str, endpoint: &str) -> Result<()> {
        let why = match protocol {
            "http" | "https" if !endpoint.starts_with(&format!("{protocol}://")) => {
                "Invalid parameter: Endpoint must match the specified protocol".to_owned()
            }
            "http" | "https" => match self.post.check(endpoint) {
                Ok(()) => return Ok(()),
                Err(why) => format!("Invalid parameter: Endpoint Reason: {why}"),
            },
            "email" | "email-json" => {
                "Invalid parameter: Protocol Reason: no mail server is configured here, so email cannot be sent; use https"
                    .to_owned()
            }
            other => format!("Invalid parameter: Protocol Reason: {other} is not offered here; use http or https"),
        };
        Err(invalid(why))
    }

    fn subscription_arn(&self, topic: &str, subscription: &Subscription) -> String {
        format!("{}:{}", self.topic_arn(topic), subscription.id)
    }

    /// Topic and id in a subscription's ARN.
    fn parts<'a>(&self, arn: &'a str) -> Result<(&'a str, &'a str)> {
        let parts = arn.strip_prefix(&self.topic_arn("")).and_then(|rest| rest.split_once(':'));
        parts.ok_or_else(|| {
            invalid(format!("Invalid parameter: SubscriptionArn Reason: {arn} is no subscription of this endpoint"))
        })
    }

    pub(super) fn confirm(&self, form: &Form, now: Timestamp) -> Result<String> {
        let topic = self.topic_name(form.required("TopicArn")?)?;
        let token = form.required("Token")?;
        let arn = self.change(topic, |known| {
            let mut all = known.subscriptions.iter_mut();
            // A token may be used again as long as it is good, as SNS has it.
            let found = all.find(|s| s.token == token && now < s.token_until);
            let found = found.ok_or_else(|| invalid("Invalid parameter: Token"))?;
            found.confirmed = true;
            Ok(self.subscription_arn(topic, found))
        })?;
        tracing::info!(subscription = arn, "subscription confirmed");
        Ok(arn_result(&arn))
    }

    pub(super) fn unsubscribe(&self, form: &Form) -> Result<String> {
        let (topic, id) = self.parts(form.required("SubscriptionArn")?)?;
        let gone = self.change(topic, |known| {
            let before = known.subscriptions.len();
            known.subscriptions.retain(|s| s.id != id);
            known.deleted += (before - known.subscriptions.len()) as u64;
            Ok(())
        });
        // Of what is gone already nothing is left to do.
        match gone {
            Err(error) if error.code != "NotFound" => Err(error),
            _ => Ok(String::new()),
        }
    }

    pub(super) fn list_subscriptions(&self, form: &Form, topic: Option<&str>, now: Timestamp) -> Result<String> {
        let state = self.store.lock();
        if let Some(topic) = topic
            && !state.topics.contains_key(topic)
        {
            return Err(no_topic());
        }
        let topics = state.topics.values().filter(|known| topic.is_none_or(|topic| topic == known.name));
        let all: Vec<(String, Subscription)> = topics
            .flat_map(|known| known.subscriptions.iter().map(|s| (known.name.clone(), s.clone())))
            .filter(|(_, s)| s.confirmed || s.is_pending(now))
            .collect();
        drop(state);
        let (shown, next) = page(form, all, SUBSCRIPTIONS_PAGE)?;
        let mut xml = Xml::fragment();
        xml.open("Subscriptions");
        for (topic, s) in shown {
            let arn = if s.confirmed { self.subscription_arn(&topic, &s) } else { "PendingConfirmation".to_owned() };
            xml.open("member")
                .text("SubscriptionArn", &arn)
                .text("Owner", &self.account)
                .text("Protocol", &s.protocol)
                .text("Endpoint", &s.endpoint)
                .text("TopicArn", &self.topic_arn(&topic))
                .close("member");
        }
        xml.close("Subscriptions");
        if let Some(next) = next {
            xml.text("NextToken", &next);
        }
        Ok(xml.finish())
    }

    pub(super) fn subscription_attributes(&self, form: &Form, now: Timestamp) -> Result<String> {
        let arn = form.required("SubscriptionArn")?;
        let (topic, id) = self.parts(arn)?;
        let state = self.store.lock();
        let found = state.topics.get(topic).and_then(|topic| topic.subscriptions.iter().find(|s| s.id == id));
        let found = found.ok_or_else(|| not_found("Subscription"))?;
        let mut all = vec![
            ("SubscriptionArn", arn.to_owned()),
            ("TopicArn", self.topic_arn(topic)),
            ("Owner", self.account.clone()),
            ("Protocol", found.protocol.clone()),
            ("Endpoint", found.endpoint.clone()),
            ("PendingConfirmation", (!found.confirmed && found.is_pending(now)).to_string()),
            ("ConfirmationWasAuthenticated", "false".to_owned()),
            ("RawMessageDelivery", found.raw.to_string()),
        ];
        if let Some(policy) = &found.filter {
            let scope = if found.filter_on_body { "MessageBody" } else { "MessageAttributes" };
            all.extend([("FilterPolicy", policy.clone()), ("FilterPolicyScope", scope.to_owned())]);
        }
        Ok(attributes(&all))
    }

    pub(super) fn set_subscription_attribute(&self, form: &Form) -> Result<String> {
        let (topic, id) = self.parts(form.required("SubscriptionArn")?)?;
        let name = form.required("AttributeName")?;
        let value = form.get("AttributeValue").unwrap_or_default();
        let set = self.change(topic, |known| {
            let found = known.subscriptions.iter_mut().find(|s| s.id == id);
            set_attribute(found.ok_or_else(|| not_found("Subscription"))?, name, value)
        });
        set.map_err(|error| if error.code == "NotFound" { not_found("Subscription") } else { error })?;
        Ok(String::new())
    }
}

fn arn_result(arn: &str) -> String {
    let mut xml = Xml::fragment();
    xml.text("SubscriptionArn", arn);
    xml.finish()
}

fn set_attribute(subscription: &mut Subscription, name: &str, value: &str) -> Result<()> {
    let boolean = |value: &str| match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" | "" => Ok(false),
        _ => Err(invalid(format!("Invalid parameter: Attributes Reason: {name} must be true or false"))),
    };
    match name {
        "RawMessageDelivery" => subscription.raw = boolean(value)?,
        "FilterPolicy" if matches!(value, "" | "{}") => subscription.filter = None,
        "FilterPolicy" => {
            let checked = filter::check(value, subscription.filter_on_body);
            checked.map_err(|why| invalid(format!("Invalid parameter: {why}")))?;
            subscription.filter = Some(value.to_owned());
        }
        "FilterPolicyScope" => {
            subscription.filter_on_body = match value {
                "MessageBody" => true,
                "MessageAttributes" | "" => false,
                _ => return Err(invalid("Invalid parameter: FilterPolicyScope")),
            };
            if let Some(policy) = &subscription.filter {
                let checked = filter::check(policy, subscription.filter_on_body);
                checked.map_err(|why| invalid(format!("Invalid parameter: {why}")))?;
            }
        }
        other => return Err(invalid(format!("Invalid parameter: AttributeName Reason: {other} cannot be set here"))),
    }
    Ok(())
}
