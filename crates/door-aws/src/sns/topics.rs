//! Operations on topics.

use super::{
    Sns, SnsService, invalid, no_topic, page,
    publish::{Message, delivery_policy},
    store::{Change, TOPICS_MAX, Topic},
};
use crate::{
    AwsError, Call,
    form::Form,
    tagging::{Tagged, Tags},
    xml::Xml,
};
use kilter_core::Timestamp;
use std::collections::BTreeMap;

const TOPICS_PAGE: usize = 100;
const TAGS_MAX: usize = 50;
/// Messages of one PublishBatch (SNS's limit).
const BATCH_MAX: usize = 10;

type Result<T> = std::result::Result<T, AwsError>;

impl Sns {
    pub(super) fn create_topic(&self, form: &Form) -> Result<String> {
        let name = form.required("Name").map_err(|_| invalid("Invalid parameter: Topic Name"))?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.len() > 256 || !name.chars().all(allowed) {
            return Err(invalid("Invalid parameter: Topic Name"));
        }
        let mut topic = Topic { name: name.to_owned(), ..Topic::default() };
        for (attribute, value) in form.map("Attributes") {
            set_attribute(&mut topic, attribute, value)?;
        }
        add_tags(&mut topic.tags, form)?;
        let mut state = self.store.lock();
        if let Some(known) = state.topics.get(name) {
            if !topic.tags.is_empty() && known.tags != topic.tags {
                return Err(invalid("Invalid parameter: Tags Reason: Topic already exists with different tags"));
            }
            if !topic.display_name.is_empty() && known.display_name != topic.display_name {
                let why = "Invalid parameter: Attributes Reason: Topic already exists with different attributes";
                return Err(invalid(why));
            }
        } else {
            if state.topics.len() >= TOPICS_MAX {
                return Err(AwsError::new("TopicLimitExceeded", format!("There are {TOPICS_MAX} topics")));
            }
            state.topics.insert(name.to_owned(), topic);
            self.commit(&mut state, vec![Change::Topic(name)])?;
            tracing::info!(topic = name, "topic created");
        }
        drop(state);
        self.tell_resources(name, true)?;
        let mut xml = Xml::fragment();
        xml.text("TopicArn", &self.topic_arn(name));
        Ok(xml.finish())
    }

    pub(super) fn commit(&self, state: &mut super::store::State, changes: Vec<Change<'_>>) -> Result<()> {
        self.store.commit(state, changes).map_err(AwsError::internal)
    }

    /// Changes a topic and keeps it.
    pub(super) fn change<T>(&self, name: &str, change: impl FnOnce(&mut Topic) -> Result<T>) -> Result<T> {
        let mut state = self.store.lock();
        let mut topic = state.topics.get(name).cloned().ok_or_else(no_topic)?;
        let answer = change(&mut topic)?;
        let before = state.topics.insert(name.to_owned(), topic);
        let kept = self.commit(&mut state, vec![Change::Topic(name)]);
        if let (Err(_), Some(before)) = (&kept, before) {
            state.topics.insert(name.to_owned(), before);
        }
        kept.map(|()| answer)
    }

    pub(super) fn delete_topic(&self, form: &Form) -> Result<String> {
        let name = self.topic_name(form.required("TopicArn")?)?;
        let mut state = self.store.lock();
        if state.topics.remove(name).is_some() {
            self.commit(&mut state, vec![Change::Topic(name)])?;
            tracing::info!(topic = name, "topic deleted");
        }
        drop(state);
        self.tell_resources(name, false)?;
        Ok(String::new())
    }

    pub(super) fn list_topics(&self, form: &Form) -> Result<String> {
        let names: Vec<String> = self.store.lock().topics.keys().cloned().collect();
        let (names, next) = page(form, names, TOPICS_PAGE)?;
        let mut xml = Xml::fragment();
        xml.open("Topics");
        for name in names {
            xml.open("member").text("TopicArn", &self.topic_arn(&name)).close("member");
        }
        xml.close("Topics");
        if let Some(next) = next {
            xml.text("NextToken", &next);
        }
        Ok(xml.finish())
    }

    pub(super) fn topic_attributes(&self, form: &Form, now: Timestamp) -> Result<String> {
        let arn = form.required("TopicArn")?;
        let name = self.topic_name(arn)?;
        let topic = self.store.lock().topics.get(name).cloned().ok_or_else(no_topic)?;
        let confirmed = topic.subscriptions.iter().filter(|s| s.confirmed).count();
        let pending = topic.subscriptions.iter().filter(|s| s.is_pending(now)).count();
        let policy = serde_json::json!({
            "Version": "2008-10-17",
            "Id": "__default_policy_ID",
            "Statement": [{
                "Sid": "__default_statement_ID", "Effect": "Allow", "Principal": {"AWS": "*"},
                "Action": ["SNS:Publish", "SNS:Subscribe"], "Resource": arn,
                "Condition": {"StringEquals": {"AWS:SourceOwner": self.account}},
            }],
        });
        Ok(attributes(&[
            ("TopicArn", arn.to_owned()),
            ("Owner", self.account.clone()),
            ("DisplayName", topic.display_name),
            ("Policy", policy.to_string()),
            ("EffectiveDeliveryPolicy", delivery_policy().to_string()),
            ("SubscriptionsConfirmed", confirmed.to_string()),
            ("SubscriptionsPending", pending.to_string()),
            ("SubscriptionsDeleted", topic.deleted.to_string()),
        ]))
    }

    pub(super) fn set_topic_attribute(&self, form: &Form) -> Result<String> {
        let name = self.topic_name(form.required("TopicArn")?)?;
        let attribute = form.required("AttributeName")?;
        let value = form.get("AttributeValue").unwrap_or_default();
        self.change(name, |topic| set_attribute(topic, attribute, value))?;
        Ok(String::new())
    }

    pub(super) fn tag(&self, form: &Form) -> Result<String> {
        let name = self.topic_name(form.required("ResourceArn")?)?;
        self.change(name, |topic| add_tags(&mut topic.tags, form)).map_err(no_resource)?;
        Ok(String::new())
    }

    pub(super) fn untag(&self, form: &Form) -> Result<String> {
        let name = self.topic_name(form.required("ResourceArn")?)?;
        let keys = form.list("TagKeys");
        let cut = |topic: &mut Topic| -> Result<()> {
            topic.tags.retain(|key, _| !keys.contains(&key.as_str()));
            Ok(())
        };
        self.change(name, cut).map_err(no_resource)?;
        Ok(String::new())
    }

    pub(super) fn tags(&self, form: &Form) -> Result<String> {
        let name = self.topic_name(form.required("ResourceArn")?)?;
        let state = self.store.lock();
        let topic = state.topics.get(name).ok_or_else(|| no_resource(no_topic()))?;
        let mut xml = Xml::fragment();
        xml.open("Tags");
        for (key, value) in &topic.tags {
            xml.open("member").text("Key", key).text("Value", value).close("member");
        }
        xml.close("Tags");
        Ok(xml.finish())
    }

    pub(super) fn publish_one(&self, form: &Form) -> Result<String> {
        let arn = form.get("TopicArn").or_else(|| form.get("TargetArn"));
        let arn =
            arn.ok_or_else(|| invalid("Invalid parameter: only topics can be published to, and none is named"))?;
        let id = self.publish(self.topic_name(arn)?, &message(form)?)?;
        let mut xml = Xml::fragment();
        xml.text("MessageId", &id);
        Ok(xml.finish())
    }

    pub(super) fn publish_batch(&self, form: &Form) -> Result<String> {
        let name = self.topic_name(form.required("TopicArn")?)?;
        if !self.store.lock().topics.contains_key(name) {
            return Err(no_topic());
        }
        let entries = form.structures("PublishBatchRequestEntries");
        if entries.is_empty() {
            return Err(AwsError::new("EmptyBatchRequest", "The batch request doesn't contain any entries."));
        }
        if entries.len() > BATCH_MAX {
            let why = format!("The batch request contains more than {BATCH_MAX} entries.");
            return Err(AwsError::new("TooManyEntriesInBatchRequest", why));
        }
        let mut ids: Vec<&str> = entries.iter().filter_map(|entry| entry.get("Id")).collect();
        ids.sort_unstable();
        if ids.len() < entries.len() || ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(AwsError::new("BatchEntryIdsNotDistinct", "Two or more entries have the same Id, or none."));
        }
        let (mut done, mut failed) = (Xml::fragment(), Xml::fragment());
        done.open("Successful");
        failed.open("Failed");
        for entry in &entries {
            let id = entry.get("Id").unwrap_or_default();
            match message(entry).and_then(|message| self.publish(name, &message)) {
                Ok(message_id) => {
                    done.open("member").text("Id", id).text("MessageId", &message_id).close("member");
                }
                Err(error) => {
                    failed.open("member").text("Id", id).text("Code", &error.code).text("Message", &error.message);
                    failed.text("SenderFault", "true").close("member");
                }
            }
        }
        done.close("Successful");
        failed.close("Failed");
        Ok(done.finish() + &failed.finish())
    }
}

fn no_resource(error: AwsError) -> AwsError {
    match error.code.as_str() {
        "NotFound" => AwsError::new("ResourceNotFound", "Resource does not exist").with_status(error.status),
        _ => error,
    }
}

fn set_attribute(topic: &mut Topic, name: &str, value: &str) -> Result<()> {
    match name {
        "DisplayName" if value.chars().count() <= 100 => {
            topic.display_name = value.to_owned();
            Ok(())
        }
        "FifoTopic" if value == "false" => Ok(()),
        other => Err(invalid(format!("Invalid parameter: AttributeName Reason: {other} cannot be set here"))),
    }
}

fn add_tags(tags: &mut BTreeMap<String, String>, form: &Form) -> Result<()> {
    for tag in form.structures("Tags") {
        let key = tag.required("Key").map_err(|_| invalid("Invalid parameter: Tags Reason: a key is empty"))?;
        if key.chars().count() > 128 || tag.get("Value").unwrap_or_default().chars().count() > 256 {
            return Err(invalid("Invalid parameter: Tags Reason: a key or value is too long"));
        }
        tags.insert(key.to_owned(), tag.get("Value").unwrap_or_default().to_owned());
    }
    within_limit(tags)
}

fn within_limit(tags: &BTreeMap<String, String>) -> Result<()> {
    if tags.len() > TAGS_MAX {
        return Err(AwsError::new("TagLimitExceeded", format!("A topic has at most {TAGS_MAX} tags")));
    }
    Ok(())
}

/// The message in a form.
fn message(form: &Form) -> Result<Message> {
    let structure = form.get("MessageStructure").unwrap_or_default();
    if !matches!(structure, "" | "json") {
        return Err(invalid("Invalid parameter: MessageStructure"));
    }
    let mut attributes = Vec::new();
    for n in 1.. {
        let get = |part: &str| form.get(&format!("MessageAttributes.entry.{n}.{part}"));
        let Some(name) = get("Name") else { break };
        let kind = get("Value.DataType").unwrap_or_default();
        if !["String", "Number", "Binary"].contains(&kind.split('.').next().unwrap_or_default()) {
            let why = format!("The message attribute '{name}' has an invalid message attribute type.");
            return Err(AwsError::new("ParameterValueInvalid", why));
        }
        let value = get("Value.StringValue").or_else(|| get("Value.BinaryValue")).unwrap_or_default();
        attributes.push((name.to_owned(), kind.to_owned(), value.to_owned()));
    }
    Ok(Message {
        subject: form.get("Subject").map(str::to_owned),
        text: form.get("Message").unwrap_or_default().to_owned(),
        by_protocol: structure == "json",
        attributes,
    })
}

pub(super) fn attributes(all: &[(&str, String)]) -> String {
    let mut xml = Xml::fragment();
    xml.open("Attributes");
    for (name, value) in all {
        xml.open("entry").text("key", name).text("value", value).close("entry");
    }
    xml.close("Attributes");
    xml.finish()
}

impl Tagged for SnsService {
    fn service(&self) -> &'static str {
        "sns"
    }

    fn tagged(&self, _: &Call) -> Result<Vec<(String, Tags)>> {
        self.0.follow_tenants()?;
        let state = self.0.store.lock();
        Ok(state.topics.values().map(|topic| (self.0.topic_arn(&topic.name), topic.tags.clone())).collect())
    }

    fn retag(&self, _: &Call, arn: &str, set: &Tags, remove: &[String]) -> Result<()> {
        let change = |topic: &mut Topic| {
            topic.tags.extend(set.clone());
            topic.tags.retain(|key, _| !remove.contains(key));
            within_limit(&topic.tags)
        };
        self.0.change(self.0.topic_name(arn)?, change).map_err(no_resource)
    }
}
