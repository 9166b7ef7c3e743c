//! Provisioning templates: what is made for a certificate that registers itself. The form is AWS IoT's for
//! just-in-time provisioning, with `Ref` and `Fn::Join`; what is not understood is refused when the template is kept.

use crate::fleet::CertificateFacts;
use kilter_core::{CertificateStatus, ThingName};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// AWS's limit.
const TEMPLATE_BYTES_MAX: usize = 10_240;

/// Parameters that a certificate gives, with the name of the attribute of its subject.
const SUBJECT: &[(&str, &str)] = &[
    ("AWS::IoT::Certificate::Country", "Country"),
    ("AWS::IoT::Certificate::Organization", "Organization"),
    ("AWS::IoT::Certificate::OrganizationalUnit", "OrganizationalUnit"),
    ("AWS::IoT::Certificate::DistinguishedNameQualifier", "DistinguishedNameQualifier"),
    ("AWS::IoT::Certificate::StateName", "State"),
    ("AWS::IoT::Certificate::CommonName", "CommonName"),
    ("AWS::IoT::Certificate::SerialNumber", "SerialNumber"),
];
const ID: &str = "AWS::IoT::Certificate::Id";

#[derive(Debug, Clone)]
enum Text {
    Plain(String),
    Parameter(String),
    Join(String, Vec<Text>),
}

#[derive(Debug, Clone)]
pub struct Template {
    thing: Option<ThingPlan>,
    status: Text,
    policies: Vec<PolicyPlan>,
}

#[derive(Debug, Clone)]
struct ThingPlan {
    name: Text,
    thing_type: Option<Text>,
    attributes: BTreeMap<String, Text>,
    groups: Vec<Text>,
}

#[derive(Debug, Clone)]
enum PolicyPlan {
    Named(Text),
    Document(Text),
}

/// What is to be made, with every parameter in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Provision {
    pub thing: Option<ThingProvision>,
    pub status: CertificateStatus,
    /// Names of policies that are there.
    pub policies: Vec<String>,
    /// Documents of policies to make.
    pub documents: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ThingProvision {
    pub name: ThingName,
    pub thing_type: Option<String>,
    pub attributes: BTreeMap<String, String>,
    pub groups: BTreeSet<String>,
}

impl Text {
    fn parse(value: &Value, parameters: &Map<String, Value>) -> Result<Self, String> {
        let only = |value: &Value| value.as_object().filter(|object| object.len() == 1).cloned();
        if let Some(text) = value.as_str() {
            return Ok(Self::Plain(text.to_owned()));
        }
        let object = only(value).ok_or_else(|| format!("{value} is neither text, Ref nor Fn::Join"))?;
        if let Some(name) = object.get("Ref").and_then(Value::as_str) {
            let known = name == ID || SUBJECT.iter().any(|(known, _)| *known == name);
            return match (known, parameters.contains_key(name)) {
                (true, true) => Ok(Self::Parameter(name.to_owned())),
                (false, _) => Err(format!("parameter {name:?} is none that a certificate gives")),
                (true, false) => Err(format!("parameter {name:?} is not declared in Parameters")),
            };
        }
        match object.get("Fn::Join").and_then(Value::as_array).map(Vec::as_slice) {
            Some([Value::String(between), Value::Array(parts)]) => {
                let parts = parts.iter().map(|part| Self::parse(part, parameters)).collect::<Result<_, _>>()?;
                Ok(Self::Join(between.clone(), parts))
            }
            _ => Err(format!("{value} is neither text, Ref nor Fn::Join")),
        }
    }

    fn fill(&self, facts: &CertificateFacts) -> Result<String, String> {
        match self {
            Self::Plain(text) => Ok(text.clone()),
            Self::Parameter(name) if name == ID => Ok(facts.id.to_string()),
            Self::Parameter(name) => {
                let key = SUBJECT.iter().find(|(known, _)| known == name).map_or("", |(_, key)| key);
                let value = facts.subject.get(key).and_then(|values| values.first());
                value.cloned().ok_or_else(|| format!("the certificate's subject has no {key}"))
            }
            Self::Join(between, parts) => {
                let parts = parts.iter().map(|part| part.fill(facts)).collect::<Result<Vec<_>, _>>()?;
                Ok(parts.join(between))
            }
        }
    }
}

fn known_keys(object: &Map<String, Value>, known: &[&str], what: &str) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("{what} has {key:?}, which is not understood here")),
        None => Ok(()),
    }
}

impl Template {
    pub fn parse(json: &str) -> Result<Self, String> {
        if json.len() > TEMPLATE_BYTES_MAX {
            return Err(format!("it has more than {TEMPLATE_BYTES_MAX} bytes"));
        }
        let document: Value = serde_json::from_str(json).map_err(|error| format!("it is not JSON: {error}"))?;
        let document = document.as_object().ok_or("it is not a JSON object")?;
        known_keys(document, &["Parameters", "Resources", "Description"], "it")?;
        let parameters = document.get("Parameters").and_then(Value::as_object).cloned().unwrap_or_default();
        let resources = document.get("Resources").and_then(Value::as_object).ok_or("it has no Resources")?;
        let mut template = Self { thing: None, status: Text::Plain("ACTIVE".to_owned()), policies: Vec::new() };
        for (name, resource) in resources {
            let resource = resource.as_object().ok_or_else(|| format!("resource {name} is not an object"))?;
            known_keys(resource, &["Type", "Properties"], &format!("resource {name}"))?;
            let properties = resource.get("Properties").and_then(Value::as_object);
            let properties = properties.ok_or_else(|| format!("resource {name} has no Properties"))?;
            match resource.get("Type").and_then(Value::as_str) {
                Some("AWS::IoT::Thing") => template.thing = Some(thing(properties, &parameters)?),
                Some("AWS::IoT::Certificate") => {
                    known_keys(properties, &["CertificateId", "Status"], "the certificate")?;
                    if let Some(status) = properties.get("Status") {
                        template.status = Text::parse(status, &parameters)?;
                    }
                }
                Some("AWS::IoT::Policy") => template.policies.push(policy(properties, &parameters)?),
                other => return Err(format!("resource {name} is of type {other:?}, which is not understood here")),
            }
        }
        Ok(template)
    }

    pub fn fill(&self, facts: &CertificateFacts) -> Result<Provision, String> {
        let status = match self.status.fill(facts)?.as_str() {
            "ACTIVE" => CertificateStatus::Active,
            "INACTIVE" => CertificateStatus::Inactive,
            other => return Err(format!("the certificate's status is {other:?}, not ACTIVE or INACTIVE")),
        };
        let thing = self.thing.as_ref().map(|plan| plan.fill(facts)).transpose()?;
        let (mut policies, mut documents) = (Vec::new(), Vec::new());
        for plan in &self.policies {
            match plan {
                PolicyPlan::Named(name) => policies.push(name.fill(facts)?),
                PolicyPlan::Document(document) => documents.push(document.fill(facts)?),
            }
        }
        Ok(Provision { thing, status, policies, documents })
    }
}

impl ThingPlan {
    fn fill(&self, facts: &CertificateFacts) -> Result<ThingProvision, String> {
        let name = ThingName::new(&self.name.fill(facts)?).map_err(|error| error.to_string())?;
        let mut attributes = BTreeMap::new();
        for (key, value) in &self.attributes {
            attributes.insert(key.clone(), value.fill(facts)?);
        }
        let thing_type = self.thing_type.as_ref().map(|text| text.fill(facts)).transpose()?;
        let groups = self.groups.iter().map(|text| text.fill(facts)).collect::<Result<_, _>>()?;
        Ok(ThingProvision { name, thing_type, attributes, groups })
    }
}

fn thing(properties: &Map<String, Value>, parameters: &Map<String, Value>) -> Result<ThingPlan, String> {
    known_keys(properties, &["ThingName", "ThingTypeName", "AttributePayload", "ThingGroups"], "the thing")?;
    let name = properties.get("ThingName").ok_or("the thing has no ThingName")?;
    let mut attributes = BTreeMap::new();
    for (key, value) in properties.get("AttributePayload").and_then(Value::as_object).into_iter().flatten() {
        attributes.insert(key.clone(), Text::parse(value, parameters)?);
    }
    let groups = properties.get("ThingGroups").and_then(Value::as_array).into_iter().flatten();
    Ok(ThingPlan {
        name: Text::parse(name, parameters)?,
        thing_type: properties.get("ThingTypeName").map(|value| Text::parse(value, parameters)).transpose()?,
        attributes,
        groups: groups.map(|value| Text::parse(value, parameters)).collect::<Result<_, _>>()?,
    })
}

fn policy(properties: &Map<String, Value>, parameters: &Map<String, Value>) -> Result<PolicyPlan, String> {
    known_keys(properties, &["PolicyName", "PolicyDocument"], "the policy")?;
    match (properties.get("PolicyName"), properties.get("PolicyDocument")) {
        (Some(name), None) => Text::parse(name, parameters).map(PolicyPlan::Named),
        (None, Some(Value::Object(document))) => {
            Ok(PolicyPlan::Document(Text::Plain(Value::from(document.clone()).to_string())))
        }
        (None, Some(document)) => Text::parse(document, parameters).map(PolicyPlan::Document),
        _ => Err("the policy has neither or both of PolicyName and PolicyDocument".to_owned()),
    }
}
