//! Tags of streams.

use super::{Kinesis, Request, argument, invalid, names, stream_error, streams::TABLE};
use crate::{Answer, AwsError, Call, tagging::Tagged};
use kilter_core::{StreamName, ports::table::Write};
use serde_json::{Map, Value, json as object};
use std::collections::BTreeMap;

const TAGS_MAX: usize = 50;
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;
const PAGE_MAX: i64 = 50;
pub(super) const TAGS: &str = "tags";

type Tags = BTreeMap<String, String>;

impl Request<'_> {
    /// `Tags` as an object.
    pub(super) fn tags_given(&self) -> Result<Tags, AwsError> {
        let Some(given) = self.input.get("Tags").filter(|tags| !tags.is_null()) else { return Ok(Tags::new()) };
        let given: Tags = serde_json::from_value(given.clone())
            .map_err(|_| AwsError::new("SerializationException", "Tags must be an object of texts"))?;
        check(&given)?;
        Ok(given)
    }

    pub(super) fn tags_write(&self, name: &StreamName, tags: &Tags) -> Result<Write, AwsError> {
        let value = serde_json::to_vec(tags).map_err(AwsError::internal)?;
        Ok(Write::put(&TABLE.into(), TAGS, name.as_str(), value))
    }

    fn tags(&self, name: &StreamName) -> Result<Tags, AwsError> {
        let stored = self.ports.table.get(TABLE, TAGS, name.as_str()).map_err(AwsError::internal)?;
        stored.map_or(Ok(Tags::new()), |bytes| serde_json::from_slice(&bytes).map_err(AwsError::internal))
    }

    fn save(&self, name: &StreamName, tags: &Tags) -> Result<Answer, AwsError> {
        if tags.len() > TAGS_MAX {
            return Err(AwsError::new("LimitExceededException", format!("A stream has at most {TAGS_MAX} tags")));
        }
        self.ports.table.commit(vec![self.tags_write(name, tags)?]).map_err(AwsError::internal)?;
        Ok(Answer::empty())
    }

    fn keys(&self) -> Result<Vec<&str>, AwsError> {
        let keys = self.input.get("TagKeys").and_then(Value::as_array).ok_or_else(|| super::missing("TagKeys"))?;
        keys.iter().map(|key| key.as_str().ok_or_else(|| super::wrong_type("TagKeys", "a list of texts"))).collect()
    }

    fn add(&self, name: &StreamName) -> Result<Answer, AwsError> {
        let given = self.tags_given()?;
        if given.is_empty() {
            return Err(super::missing("Tags"));
        }
        let mut tags = self.tags(name)?;
        tags.extend(given);
        self.save(name, &tags)
    }

    fn take_away(&self, name: &StreamName) -> Result<Answer, AwsError> {
        let keys = self.keys()?;
        let mut tags = self.tags(name)?;
        tags.retain(|key, _| !keys.contains(&key.as_str()));
        self.save(name, &tags)
    }

    pub(super) fn add_tags_to_stream(&self) -> Result<Answer, AwsError> {
        self.add(&self.known_stream()?.0)
    }

    pub(super) fn remove_tags_from_stream(&self) -> Result<Answer, AwsError> {
        self.take_away(&self.known_stream()?.0)
    }

    pub(super) fn list_tags_for_stream(&self) -> Result<Answer, AwsError> {
        let (name, _) = self.known_stream()?;
        let limit = self.number("Limit", 1, PAGE_MAX, Some(PAGE_MAX))? as usize;
        let after = self.text("ExclusiveStartTagKey")?.unwrap_or_default();
        let tags = self.tags(&name)?;
        let rest: Vec<Value> = tags.iter().filter(|(key, _)| key.as_str() > after).map(tag).collect();
        let page: Vec<&Value> = rest.iter().take(limit).collect();
        Ok(Answer::json(&object!({"Tags": page, "HasMoreTags": rest.len() > limit})))
    }

    /// The stream that `ResourceARN` names.
    fn resource(&self) -> Result<StreamName, AwsError> {
        let name = names::of_arn(self.needed_text("ResourceARN")?, self.call)?;
        let name = StreamName::new(name).map_err(|error| argument(error.to_string()))?;
        self.view(&name).map(|_| name)
    }

    pub(super) fn tag_resource(&self) -> Result<Answer, AwsError> {
        self.add(&self.resource()?)
    }

    pub(super) fn untag_resource(&self) -> Result<Answer, AwsError> {
        self.take_away(&self.resource()?)
    }

    pub(super) fn list_tags_for_resource(&self) -> Result<Answer, AwsError> {
        let tags: Vec<Value> = self.tags(&self.resource()?)?.iter().map(tag).collect();
        Ok(Answer::json(&object!({ "Tags": tags })))
    }
}

fn tag((key, value): (&String, &String)) -> Value {
    object!({"Key": key, "Value": value})
}

fn check(tags: &Tags) -> Result<(), AwsError> {
    for (key, value) in tags {
        let key_ok = !key.is_empty() && key.chars().count() <= KEY_CHARS_MAX && !key.starts_with("aws:");
        if !key_ok || value.chars().count() > VALUE_CHARS_MAX {
            return Err(invalid(format!(
                "The tag {key:.64} is not valid: a key has 1 to {KEY_CHARS_MAX} characters and does not begin with aws:, a \
                 value at most {VALUE_CHARS_MAX}"
            )));
        }
    }
    Ok(())
}

impl Tagged for Kinesis {
    fn service(&self) -> &'static str {
        "kinesis"
    }

    fn tagged(&self, call: &Call) -> Result<Vec<(String, Tags)>, AwsError> {
        let request = Request { ports: &self.0, call, input: Map::new() };
        let streams = self.0.stream.list().map_err(stream_error)?;
        let one =
            |(name, _): (StreamName, u32)| Ok((call.arn("kinesis", &format!("stream/{name}")), request.tags(&name)?));
        streams.into_iter().map(one).collect()
    }

    fn retag(&self, call: &Call, arn: &str, set: &Tags, remove: &[String]) -> Result<(), AwsError> {
        let input = Map::from_iter([("ResourceARN".to_owned(), arn.into())]);
        let request = Request { ports: &self.0, call, input };
        let name = request.resource()?;
        let mut tags = request.tags(&name)?;
        tags.extend(set.clone());
        tags.retain(|key, _| !remove.contains(key));
        request.save(&name, &tags).map(drop)
    }
}
