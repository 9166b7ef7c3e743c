//! Makes, changes and deletes resources: by the requests that an operator would send, to the services that would answer
//! them, and with the rights of who asked for the stack.

use super::{
    Result,
    kinds::{Kind, listed, of, tags, thing_attributes},
    store::{Resource, Texts},
};
use crate::{
    Access, AwsError, Call, Service, iot::Iot, keys::random_letters, sagemaker::Sagemaker, signer::Signer,
    tagging::Tagged, uri,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// Versions that a policy has at most; the oldest makes room.
const POLICY_VERSIONS_MAX: usize = 5;

/// Whose rights are asked.
pub enum Rights {
    Of(Arc<Signer>),
    /// Kilter takes back, or goes on with, what somebody was allowed to begin.
    Kilter,
}

pub struct Maker<'a> {
    pub iot: &'a Iot,
    pub sagemaker: &'a Sagemaker,
    /// The request that is being answered.
    pub call: &'a Call,
    pub rights: Rights,
    /// Tags of the stack.
    pub tags: Texts,
}

/// A resource that is to be made.
pub struct Wanted<'a> {
    pub kind: Kind,
    pub logical: &'a str,
    pub stack: &'a str,
    pub properties: &'a Value,
}

fn is_missing(error: &AwsError) -> bool {
    error.code == "ResourceNotFoundException"
        || error.code == "ValidationException" && error.message.starts_with("Could not find")
}

fn exists(what: &str) -> AwsError {
    AwsError::new("AlreadyExists", format!("{what} already exists")).with_status(StatusCode::CONFLICT)
}

fn may(signer: &Signer, access: &Access) -> Result<()> {
    signer.may(access).map_err(|denial| AwsError::new("AccessDenied", denial.message))
}

/// A path's part.
fn part(text: &str) -> String {
    uri::encode(text, false)
}

impl Maker<'_> {
    fn request(&self, method: Method, target: &str, body: &Value) -> Call {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Call {
            method,
            path: path.to_owned(),
            query: uri::pairs(query),
            headers: HeaderMap::new(),
            body: body.to_string().into(),
            ..self.call.clone()
        }
    }

    fn allow(&self, service: &dyn Service, call: &Call) -> Result<()> {
        let Rights::Of(signer) = &self.rights else { return Ok(()) };
        may(signer, &service.access(call))?;
        service.further_access(call).map_or(Ok(()), |further| may(signer, &further))
    }

    fn ask_iot(&self, call: &Call) -> Result<Value> {
        self.allow(self.iot, call)?;
        let answer = self.iot.answer(call)?;
        Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    fn iot(&self, method: Method, target: &str, body: &Value) -> Result<Value> {
        self.ask_iot(&self.request(method, target, body))
    }

    /// Of certificates and things.
    fn principal(&self, method: Method, thing: &str, principal: &str) -> Result<()> {
        let mut call = self.request(method, &format!("/things/{}/principals", part(thing)), &json!({}));
        let wrong = |_| AwsError::new("InvalidRequestException", "Principal is not an ARN");
        call.headers.insert("x-amzn-principal", HeaderValue::from_str(principal).map_err(wrong)?);
        self.ask_iot(&call).map(drop)
    }

    fn sagemaker(&self, operation: &'static str, body: &Value) -> Result<Value> {
        let mut call = self.request(Method::POST, "/", body);
        call.headers.insert("x-amz-target", HeaderValue::from_static(operation));
        self.allow(self.sagemaker, &call)?;
        let answer = self.sagemaker.answer(&call)?;
        Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// What it will be called, as far as that is known before: asked for, or made up. Refused where there is such a one
    /// already: it is not the stack's.
    pub fn name(&self, wanted: &Wanted<'_>) -> Result<Option<String>> {
        let given = wanted.kind.named_by().map(|name| of(wanted.properties, name)).filter(|name| !name.is_empty());
        let made_up = || -> Result<String> {
            let letters = random_letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 12).map_err(AwsError::internal)?;
            let short = |text: &str| text.chars().take(24).collect::<String>();
            Ok(format!("{}-{}-{letters}", short(wanted.stack), short(wanted.logical)))
        };
        let name = given.map_or_else(made_up, |name| Ok(name.into_owned()))?;
        let own = Self { rights: Rights::Kilter, tags: Texts::new(), ..*self };
        let found = match wanted.kind {
            Kind::Certificate => return Ok(None),
            Kind::PolicyAttachment | Kind::ThingAttachment => return Ok(Some(name)),
            Kind::Thing => own.iot(Method::GET, &format!("/things/{}", part(&name)), &json!({})),
            Kind::Policy => own.iot(Method::GET, &format!("/policies/{}", part(&name)), &json!({})),
            Kind::Model => own.sagemaker("SageMaker.DescribeModel", &json!({ "ModelName": name })),
        };
        match found {
            Ok(_) => Err(exists(&format!("{} {name:.128}", wanted.kind.name()))),
            Err(error) if is_missing(&error) => Ok(Some(match wanted.kind {
                Kind::Model => self.call.arn("sagemaker", &format!("model/{name}")),
                _ => name,
            })),
            Err(error) => Err(error),
        }
    }

    /// Makes it; answers its physical id and its attributes.
    pub fn create(&self, wanted: &Wanted<'_>, name: Option<&str>) -> Result<(String, Texts)> {
        let (properties, name) = (wanted.properties, name.unwrap_or_default());
        let attributes = |arn: &Value, id: &Value| {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            Texts::from([("Arn".to_owned(), word(arn)), ("Id".to_owned(), word(id))])
        };
        match wanted.kind {
            Kind::Thing => {
                let body = json!({"attributePayload": {"attributes": thing_attributes(properties)?}});
                let made = self.iot(Method::POST, &format!("/things/{}", part(name)), &body)?;
                Ok((name.to_owned(), attributes(&made["thingArn"], &made["thingId"])))
            }
            Kind::Policy => {
                let tags = listed(&tags(properties, &self.tags)?);
                let body = json!({"policyDocument": document(properties), "tags": tags});
                let made = self.iot(Method::POST, &format!("/policies/{}", part(name)), &body)?;
                Ok((name.to_owned(), attributes(&made["policyArn"], &json!(name))))
            }
            Kind::Certificate => {
                let target = format!("/certificates?setAsActive={}", is_active(properties)?);
                if !matches!(&*of(properties, "CertificateMode"), "" | "DEFAULT") {
                    return Err(AwsError::new("InvalidRequest", "CertificateMode must be DEFAULT"));
                }
                let body = json!({"certificateSigningRequest": of(properties, "CertificateSigningRequest")});
                let made = self.iot(Method::POST, &target, &body)?;
                let id = made["certificateId"].as_str().unwrap_or_default().to_owned();
                Ok((id, attributes(&made["certificateArn"], &made["certificateId"])))
            }
            Kind::PolicyAttachment => {
                let body = json!({"target": of(properties, "Principal")});
                let target = format!("/target-policies/{}", part(&of(properties, "PolicyName")));
                self.iot(Method::PUT, &target, &body)?;
                Ok((name.to_owned(), Texts::new()))
            }
            Kind::ThingAttachment => {
                self.principal(Method::PUT, &of(properties, "ThingName"), &of(properties, "Principal"))?;
                Ok((name.to_owned(), Texts::new()))
            }
            Kind::Model => {
                let model = name.rsplit('/').next().unwrap_or_default();
                let mut body = properties.clone();
                body["ModelName"] = json!(model);
                body["Tags"] = json!(listed(&tags(properties, &self.tags)?));
                if properties.get("EnableNetworkIsolation").is_some() {
                    body["EnableNetworkIsolation"] = json!(of(properties, "EnableNetworkIsolation") == "true");
                }
                let made = self.sagemaker("SageMaker.CreateModel", &body)?;
                let arn = made["ModelArn"].as_str().unwrap_or(name).to_owned();
                Ok((arn, Texts::from([("ModelName".to_owned(), model.to_owned())])))
            }
        }
    }

    /// Changes it in place, to what `properties` and the stack's tags say.
    pub fn update(&self, old: &Resource, properties: &Value, tags_before: &Texts) -> Result<()> {
        let physical = old.physical.as_deref().unwrap_or_default();
        match old.kind {
            Kind::Thing => {
                let payload = json!({"attributes": thing_attributes(properties)?, "merge": false});
                let target = format!("/things/{}", part(physical));
                self.iot(Method::PATCH, &target, &json!({ "attributePayload": payload })).map(drop)
            }
            Kind::Policy => {
                if document(&old.properties) != document(properties) {
                    self.new_version(physical, &document(properties))?;
                }
                let arn = old.attributes.get("Arn").map(String::as_str).unwrap_or_default();
                self.retag(self.iot, "iot", arn, (&old.properties, tags_before), properties)
            }
            Kind::Certificate => {
                let status = if is_active(properties)? { "ACTIVE" } else { "INACTIVE" };
                self.iot(Method::PUT, &format!("/certificates/{physical}?newStatus={status}"), &json!({})).map(drop)
            }
            Kind::Model => {
                self.retag(self.sagemaker, "sagemaker", physical, (&old.properties, tags_before), properties)
            }
            Kind::PolicyAttachment | Kind::ThingAttachment => Ok(()),
        }
    }

    fn new_version(&self, policy: &str, document: &str) -> Result<()> {
        let versions = format!("/policies/{}/version", part(policy));
        let known = self.iot(Method::GET, &versions, &json!({}))?;
        let known = known["policyVersions"].as_array().map(Vec::as_slice).unwrap_or_default();
        if known.len() >= POLICY_VERSIONS_MAX {
            let number = |version: &&Value| version["versionId"].as_str().and_then(|id| id.parse::<u32>().ok());
            let spare = known.iter().filter(|version| version["isDefaultVersion"] != true);
            if let Some(oldest) = spare.filter_map(|version| number(&version)).min() {
                self.iot(Method::DELETE, &format!("{versions}/{oldest}"), &json!({}))?;
            }
        }
        let body = json!({ "policyDocument": document });
        self.iot(Method::POST, &format!("{versions}?setAsDefault=true"), &body).map(drop)
    }

    fn retag(
        &self,
        service: &dyn Tagged,
        prefix: &str,
        arn: &str,
        (old, tags_before): (&Value, &Texts),
        new: &Value,
    ) -> Result<()> {
        let (before, after) = (tags(old, tags_before)?, tags(new, &self.tags)?);
        if before == after {
            return Ok(());
        }
        if let Rights::Of(signer) = &self.rights {
            let action = if prefix == "iot" { "iot:TagResource" } else { "sagemaker:AddTags" };
            may(signer, &Access { action: action.to_owned(), resources: vec![arn.to_owned()] })?;
        }
        let gone: Vec<String> = before.keys().filter(|key| !after.contains_key(*key)).cloned().collect();
        service.retag(self.call, arn, &after, &gone)
    }

    /// Deletes it; what is gone already is deleted.
    pub fn delete(&self, resource: &Resource) -> Result<()> {
        let Some(physical) = resource.physical.as_deref() else { return Ok(()) };
        let (properties, nothing) = (&resource.properties, json!({}));
        let done = match resource.kind {
            Kind::Thing => self.iot(Method::DELETE, &format!("/things/{}", part(physical)), &nothing).map(drop),
            Kind::Policy => self.delete_policy(physical),
            Kind::Certificate => {
                let target = format!("/certificates/{physical}");
                let inactive = self.iot(Method::PUT, &format!("{target}?newStatus=INACTIVE"), &nothing);
                // One that was revoked stays so, and can be deleted as well.
                let deleted = self.iot(Method::DELETE, &target, &nothing);
                deleted.map(drop).map_err(|error| inactive.err().unwrap_or(error))
            }
            Kind::PolicyAttachment => {
                let target = format!("/target-policies/{}", part(&of(properties, "PolicyName")));
                self.iot(Method::POST, &target, &json!({"target": of(properties, "Principal")})).map(drop)
            }
            Kind::ThingAttachment => {
                self.principal(Method::DELETE, &of(properties, "ThingName"), &of(properties, "Principal"))
            }
            Kind::Model => {
                let model = physical.rsplit('/').next().unwrap_or_default();
                self.sagemaker("SageMaker.DeleteModel", &json!({ "ModelName": model })).map(drop)
            }
        };
        done.or_else(|error| if is_missing(&error) { Ok(()) } else { Err(error) })
    }

    fn delete_policy(&self, policy: &str) -> Result<()> {
        let versions = format!("/policies/{}/version", part(policy));
        let known = self.iot(Method::GET, &versions, &json!({}))?;
        for version in known["policyVersions"].as_array().into_iter().flatten() {
            if version["isDefaultVersion"] != true {
                let id = version["versionId"].as_str().unwrap_or_default();
                self.iot(Method::DELETE, &format!("{versions}/{id}"), &json!({}))?;
            }
        }
        self.iot(Method::DELETE, &format!("/policies/{}", part(policy)), &json!({})).map(drop)
    }
}

/// As text, whether it was given as text or as an object.
fn document(properties: &Value) -> String {
    match properties.get("PolicyDocument") {
        Some(Value::String(text)) => text.clone(),
        other => other.unwrap_or(&Value::Null).to_string(),
    }
}

fn is_active(properties: &Value) -> Result<bool> {
    match &*of(properties, "Status") {
        "ACTIVE" => Ok(true),
        "INACTIVE" => Ok(false),
        other => Err(AwsError::new("InvalidRequest", format!("Status {other:.32} is not offered: ACTIVE or INACTIVE"))),
    }
}
