//! AWS IoT's control plane (`iot`): the fleet's registry and the rules, in the shapes of the real service.
//!
//! Source: AWS IoT API Reference, 2015-05-28.

mod authorization;
mod certificates;
mod data;
mod groups;
mod policies;
mod rules;
mod search;
mod tags;
mod things;

pub use data::IotData;

use crate::{Access, Answer, AwsError, Call, Service, call::blocking, rest::route};
use axum::http::StatusCode;
use futures::future::BoxFuture;
use kilter_core::{
    CertificateId, FleetView, Tags, ThingName,
    ports::{
        fleet::{Fleet, FleetAnswer, FleetChange, FleetError, FleetErrorKind, PolicyTarget, Taggable},
        rules::Rules,
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Entries of one page, unless fewer are asked for: AWS's own maximum.
const PAGE_MAX: usize = 250;

/// What the service needs of the rest. Cheap to clone.
#[derive(Clone)]
pub struct Iot {
    pub fleet: Arc<dyn Fleet>,
    pub rules: Arc<dyn Rules>,
    /// The host that devices connect to.
    pub endpoint: Arc<str>,
}

/// Method, path, operation, and the kind of the resource that the path's first part names.
const ROUTES: &[(&str, &str, &str, &str)] = &[
    ("POST", "/things/{thing}", "CreateThing", "thing"),
    ("GET", "/things/{thing}", "DescribeThing", "thing"),
    ("PATCH", "/things/{thing}", "UpdateThing", "thing"),
    ("DELETE", "/things/{thing}", "DeleteThing", "thing"),
    ("GET", "/things", "ListThings", ""),
    ("PUT", "/things/{thing}/principals", "AttachThingPrincipal", "thing"),
    ("DELETE", "/things/{thing}/principals", "DetachThingPrincipal", "thing"),
    ("GET", "/things/{thing}/principals", "ListThingPrincipals", "thing"),
    ("GET", "/principals/things", "ListPrincipalThings", ""),
    ("GET", "/things/{thing}/thing-groups", "ListThingGroupsForThing", "thing"),
    ("POST", "/thing-types/{type}", "CreateThingType", "thingtype"),
    ("GET", "/thing-types/{type}", "DescribeThingType", "thingtype"),
    ("GET", "/thing-types", "ListThingTypes", ""),
    ("PATCH", "/thing-types/{type}", "UpdateThingType", "thingtype"),
    ("POST", "/thing-types/{type}/deprecate", "DeprecateThingType", "thingtype"),
    ("DELETE", "/thing-types/{type}", "DeleteThingType", "thingtype"),
    ("PUT", "/thing-groups/addThingToThingGroup", "AddThingToThingGroup", ""),
    ("PUT", "/thing-groups/removeThingFromThingGroup", "RemoveThingFromThingGroup", ""),
    ("POST", "/thing-groups/{group}", "CreateThingGroup", "thinggroup"),
    ("GET", "/thing-groups/{group}", "DescribeThingGroup", "thinggroup"),
    ("PATCH", "/thing-groups/{group}", "UpdateThingGroup", "thinggroup"),
    ("DELETE", "/thing-groups/{group}", "DeleteThingGroup", "thinggroup"),
    ("GET", "/thing-groups", "ListThingGroups", ""),
    ("GET", "/thing-groups/{group}/things", "ListThingsInThingGroup", "thinggroup"),
    ("POST", "/keys-and-certificate", "CreateKeysAndCertificate", ""),
    ("POST", "/certificates", "CreateCertificateFromCsr", ""),
    ("POST", "/certificate/register", "RegisterCertificate", ""),
    ("POST", "/certificate/register-no-ca", "RegisterCertificateWithoutCA", ""),
    ("GET", "/certificates/{id}", "DescribeCertificate", "cert"),
    ("GET", "/certificates", "ListCertificates", ""),
    ("GET", "/certificates-by-ca/{id}", "ListCertificatesByCA", "cacert"),
    ("PUT", "/certificates/{id}", "UpdateCertificate", "cert"),
    ("DELETE", "/certificates/{id}", "DeleteCertificate", "cert"),
    ("POST", "/cacertificate", "RegisterCACertificate", ""),
    ("GET", "/cacertificate/{id}", "DescribeCACertificate", "cacert"),
    ("GET", "/cacertificates", "ListCACertificates", ""),
    ("PUT", "/cacertificate/{id}", "UpdateCACertificate", "cacert"),
    ("DELETE", "/cacertificate/{id}", "DeleteCACertificate", "cacert"),
    ("GET", "/registrationcode", "GetRegistrationCode", ""),
    ("DELETE", "/registrationcode", "DeleteRegistrationCode", ""),
    ("POST", "/policies/{policy}", "CreatePolicy", "policy"),
    ("GET", "/policies/{policy}", "GetPolicy", "policy"),
    ("GET", "/policies", "ListPolicies", ""),
    ("DELETE", "/policies/{policy}", "DeletePolicy", "policy"),
    ("POST", "/policies/{policy}/version", "CreatePolicyVersion", "policy"),
    ("GET", "/policies/{policy}/version", "ListPolicyVersions", "policy"),
    ("GET", "/policies/{policy}/version/{version}", "GetPolicyVersion", "policy"),
    ("PATCH", "/policies/{policy}/version/{version}", "SetDefaultPolicyVersion", "policy"),
    ("DELETE", "/policies/{policy}/version/{version}", "DeletePolicyVersion", "policy"),
    ("PUT", "/target-policies/{policy}", "AttachPolicy", "policy"),
    ("POST", "/target-policies/{policy}", "DetachPolicy", "policy"),
    ("POST", "/policy-targets/{policy}", "ListTargetsForPolicy", "policy"),
    ("POST", "/attached-policies/{target+}", "ListAttachedPolicies", ""),
    ("PUT", "/principal-policies/{policy}", "AttachPrincipalPolicy", "policy"),
    ("DELETE", "/principal-policies/{policy}", "DetachPrincipalPolicy", "policy"),
    ("GET", "/principal-policies", "ListPrincipalPolicies", ""),
    ("POST", "/effective-policies", "GetEffectivePolicies", ""),
    ("POST", "/test-authorization", "TestAuthorization", ""),
    ("POST", "/indices/search", "SearchIndex", ""),
    ("GET", "/tags", "ListTagsForResource", ""),
    ("POST", "/tags", "TagResource", ""),
    ("POST", "/untag", "UntagResource", ""),
    ("GET", "/endpoint", "DescribeEndpoint", ""),
    ("POST", "/rules/{rule}", "CreateTopicRule", "rule"),
    ("GET", "/rules/{rule}", "GetTopicRule", "rule"),
    ("GET", "/rules", "ListTopicRules", ""),
    ("PATCH", "/rules/{rule}", "ReplaceTopicRule", "rule"),
    ("DELETE", "/rules/{rule}", "DeleteTopicRule", "rule"),
    ("POST", "/rules/{rule}/enable", "EnableTopicRule", "rule"),
    ("POST", "/rules/{rule}/disable", "DisableTopicRule", "rule"),
];

/// The operation that a request names, the kind of its resource, and the parts of its path.
fn operation(call: &Call) -> Option<(&'static str, &'static str, Vec<String>)> {
    ROUTES.iter().find_map(|(method, path, name, kind)| Some((*name, *kind, route(call, method, path)?)))
}

impl Iot {
    /// Answers one request. Blocking.
    pub(crate) fn answer(&self, call: &Call) -> Result<Answer, AwsError> {
        let Some((name, _, parts)) = operation(call) else {
            return Err(AwsError::unknown_operation(&format!("{} {}", call.method, call.path)));
        };
        Request { iot: self, call, parts }.answer(name)
    }
}

impl Service for Iot {
    fn name(&self) -> &'static str {
        "iot"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, AwsError>> {
        let (iot, call) = (self.clone(), call.clone());
        Box::pin(blocking(move || iot.answer(&call)))
    }

    fn access(&self, call: &Call) -> Access {
        let Some((name, kind, parts)) = operation(call) else {
            return Access { action: "iot:*".to_owned(), resources: vec!["*".to_owned()] };
        };
        let resource = match (kind, parts.first()) {
            ("", _) | (_, None) => "*".to_owned(),
            (kind, Some(part)) => call.arn("iot", &format!("{kind}/{part}")),
        };
        Access { action: format!("iot:{name}"), resources: vec![resource] }
    }
}

/// One request on its way to an answer.
struct Request<'a> {
    iot: &'a Iot,
    call: &'a Call,
    parts: Vec<String>,
}

impl Request<'_> {
    fn answer(&self, name: &str) -> Result<Answer, AwsError> {
        let found = things::answer(self, name)
            .or_else(|| groups::answer(self, name))
            .or_else(|| certificates::answer(self, name))
            .or_else(|| policies::answer(self, name))
            .or_else(|| authorization::answer(self, name))
            .or_else(|| rules::answer(self, name));
        match found {
            Some(answer) => answer,
            None => match name {
                "SearchIndex" => search::answer(self),
                "DescribeEndpoint" => self.endpoint(),
                "ListTagsForResource" => self.list_tags(),
                "TagResource" => self.tag(),
                "UntagResource" => self.untag(),
                other => Err(AwsError::unknown_operation(other)),
            },
        }
    }

    /// The path's part of this number; every route that asks for one has it.
    fn part(&self, at: usize) -> &str {
        self.parts.get(at).map_or("", String::as_str)
    }

    fn view(&self) -> Arc<FleetView> {
        self.iot.fleet.view()
    }

    fn change(&self, change: FleetChange) -> Result<FleetAnswer, AwsError> {
        self.iot.fleet.change(change).map_err(refused)
    }

    /// For changes that answer nothing.
    fn done(&self, change: FleetChange) -> Result<Answer, AwsError> {
        self.change(change).map(|_| Answer::json(&json!({})))
    }

    fn input<T: DeserializeOwned>(&self) -> Result<T, AwsError> {
        crate::json::input(self.call).map_err(|error| invalid(error.message))
    }

    fn flag(&self, name: &str) -> Result<bool, AwsError> {
        match self.call.query(name) {
            None | Some("false" | "") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(invalid(format!("{name} is {other:?}, not true or false"))),
        }
    }

    fn thing(&self) -> Result<ThingName, AwsError> {
        thing_name(self.part(0))
    }

    fn certificate(&self) -> Result<CertificateId, AwsError> {
        certificate_id(self.part(0))
    }

    fn arn(&self, kind: &str, name: impl std::fmt::Display) -> String {
        self.call.arn("iot", &format!("{kind}/{name}"))
    }

    fn expected_version(&self) -> Result<Option<u64>, AwsError> {
        let text = self.call.query("expectedVersion");
        text.map(|text| text.parse().map_err(|_| invalid(format!("expectedVersion {text:?} is not a number"))))
            .transpose()
    }

    /// A page of what is sorted by name: the entries after the token's, as JSON, and the next token.
    fn page<T>(
        &self,
        (token, limit): (&str, &str),
        all: impl Iterator<Item = T>,
        name: impl Fn(&T) -> &str,
    ) -> Result<(Vec<T>, Option<String>), AwsError> {
        let limit = match self.call.query(limit) {
            None => PAGE_MAX,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=PAGE_MAX).contains(limit))
                .ok_or_else(|| invalid(format!("{limit} is {text:?}, not a number from 1 to {PAGE_MAX}")))?,
        };
        cut(self.call.query(token), limit, all, name)
    }

    fn endpoint(&self) -> Result<Answer, AwsError> {
        match self.call.query("endpointType").unwrap_or("iot:Data-ATS") {
            "iot:Data" | "iot:Data-ATS" => Ok(Answer::json(&json!({ "endpointAddress": &*self.iot.endpoint }))),
            other => Err(invalid(format!("there is no endpoint of type {other:?} here: ask for iot:Data-ATS"))),
        }
    }

    fn taggable(&self, arn: &str) -> Result<Taggable, AwsError> {
        let (kind, name) = resource_of(arn)?;
        match kind {
            "thingtype" => Ok(Taggable::Type(name.to_owned())),
            "thinggroup" => Ok(Taggable::Group(name.to_owned())),
            "policy" => Ok(Taggable::Policy(name.to_owned())),
            "cacert" => certificate_id(name).map(Taggable::Authority),
            other => Err(invalid(format!("resources of type {other} have no tags here"))),
        }
    }

    fn list_tags(&self) -> Result<Answer, AwsError> {
        let arn = self.call.query("resourceArn").ok_or_else(|| invalid("resourceArn is missing"))?;
        let view = self.view();
        let tags = match self.taggable(arn)? {
            Taggable::Type(name) => view.types.get(&name).map(|found| found.tags.clone()),
            Taggable::Group(name) => view.groups.get(&name).map(|found| found.tags.clone()),
            Taggable::Policy(name) => view.policies.get(&name).map(|found| found.tags.clone()),
            Taggable::Authority(id) => view.authorities.get(&id).map(|found| found.tags.clone()),
        };
        let tags = tags.ok_or_else(|| not_found(format!("resource {arn} does not exist")))?;
        let tags: Vec<Value> = tags.into_iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
        Ok(Answer::json(&json!({ "tags": tags })))
    }

    fn tag(&self) -> Result<Answer, AwsError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Input {
            resource_arn: String,
            tags: Vec<Tag>,
        }
        let input: Input = self.input()?;
        let resource = self.taggable(&input.resource_arn)?;
        self.done(FleetChange::Tag { resource, set: tags(input.tags), remove: Vec::new() })
    }

    fn untag(&self) -> Result<Answer, AwsError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Input {
            resource_arn: String,
            tag_keys: Vec<String>,
        }
        let input: Input = self.input()?;
        let resource = self.taggable(&input.resource_arn)?;
        self.done(FleetChange::Tag { resource, set: Tags::new(), remove: input.tag_keys })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

fn tags(list: Vec<Tag>) -> Tags {
    list.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AttributePayload {
    attributes: Option<BTreeMap<String, String>>,
    merge: bool,
}

/// The entries after the token's, at most `limit`, and the token of the last where more follow.
fn cut<T>(
    token: Option<&str>,
    limit: usize,
    all: impl Iterator<Item = T>,
    name: impl Fn(&T) -> &str,
) -> Result<(Vec<T>, Option<String>), AwsError> {
    let after =
        token.map(|token| from_hex(token).ok_or_else(|| invalid("the token is none of this list's"))).transpose()?;
    let mut rest = all.skip_while(|entry| after.as_deref().is_some_and(|after| name(entry) <= after));
    let page: Vec<T> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    let next = page.last().filter(|_| more).map(|last| to_hex(name(last)));
    Ok((page, next))
}

fn to_hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<String> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    String::from_utf8(pairs.collect::<Option<_>>()?).ok()
}

/// An object without its nulls: what is not there is left out, as the service does.
fn present(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            Value::Object(object.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("InvalidRequestException", message)
}

fn not_found(message: impl Into<String>) -> AwsError {
    AwsError::new("ResourceNotFoundException", message).with_status(StatusCode::NOT_FOUND)
}

fn thing_name(text: &str) -> Result<ThingName, AwsError> {
    ThingName::new(text).map_err(|error| invalid(error.to_string()))
}

/// Answers that nothing is there for what cannot be an id.
fn certificate_id(text: &str) -> Result<CertificateId, AwsError> {
    let id = CertificateId::new(text).ok().filter(|id| id.as_str().len() == CertificateId::LEN_MAX);
    id.ok_or_else(|| invalid(format!("{text:?} is no certificate's id: it has 64 lower-case hexadecimal digits")))
}

/// Kind and name of an ARN's resource: `cert` and `ab12…`.
fn resource_of(arn: &str) -> Result<(&str, &str), AwsError> {
    let mut parts = arn.splitn(6, ':');
    let resource = match (parts.next(), parts.next(), parts.next()) {
        (Some("arn"), Some(_), Some("iot")) => parts.nth(2),
        _ => None,
    };
    let parts = resource.and_then(|resource| resource.split_once('/'));
    parts.ok_or_else(|| invalid(format!("{arn:?} is not an ARN of AWS IoT")))
}

/// A principal, which is the ARN of a certificate.
fn principal(arn: Option<&str>) -> Result<CertificateId, AwsError> {
    match resource_of(arn.ok_or_else(|| invalid("the principal is missing"))?)? {
        ("cert", id) => certificate_id(id),
        (other, _) => Err(invalid(format!("a principal is a certificate here, not a {other}"))),
    }
}

fn target(arn: &str) -> Result<PolicyTarget, AwsError> {
    match resource_of(arn)? {
        ("cert", id) => certificate_id(id).map(PolicyTarget::Certificate),
        ("thinggroup", name) => Ok(PolicyTarget::Group(name.to_owned())),
        (other, _) => Err(invalid(format!("a policy is attached to a certificate or a thing group, not to a {other}"))),
    }
}

fn refused(error: FleetError) -> AwsError {
    use FleetErrorKind as K;
    let (code, status) = match error.kind {
        K::NotFound => ("ResourceNotFoundException", 404),
        K::AlreadyExists => ("ResourceAlreadyExistsException", 409),
        K::Invalid => ("InvalidRequestException", 400),
        K::MalformedPolicy => ("MalformedPolicyException", 400),
        K::VersionConflict => ("VersionConflictException", 409),
        K::VersionsLimit => ("VersionsLimitExceededException", 409),
        K::DeleteConflict => ("DeleteConflictException", 409),
        K::Limit => ("LimitExceededException", 410),
        K::CertificateState => ("CertificateStateException", 406),
        K::CertificateValidation => ("CertificateValidationException", 400),
        K::CertificateConflict => ("CertificateConflictException", 409),
        K::RegistrationCode => ("RegistrationCodeValidationException", 400),
        K::Internal => ("InternalFailureException", 500),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    AwsError::new(code, error.message).with_status(status)
}
