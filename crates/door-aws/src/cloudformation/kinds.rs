//! The types of resources that a template may have: their properties, and which of them can be changed in place.

use super::{Result, functions::text, invalid, store::Texts};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Thing,
    Policy,
    Certificate,
    PolicyAttachment,
    ThingAttachment,
    Model,
}

/// What is known of a property.
struct Property {
    name: &'static str,
    required: bool,
    /// A change of another one needs another resource.
    changeable: bool,
    /// Not text, or a list or object.
    structured: bool,
}

const fn property(name: &'static str) -> Property {
    Property { name, required: false, changeable: false, structured: false }
}

impl Property {
    const fn required(mut self) -> Self {
        self.required = true;
        self
    }
    const fn changeable(mut self) -> Self {
        self.changeable = true;
        self
    }
    const fn structured(mut self) -> Self {
        self.structured = true;
        self
    }
}

const THING: &[Property] = &[property("ThingName"), property("AttributePayload").changeable().structured()];
const POLICY: &[Property] = &[
    property("PolicyName"),
    property("PolicyDocument").required().changeable().structured(),
    property("Tags").changeable().structured(),
];
const CERTIFICATE: &[Property] = &[
    property("CertificateSigningRequest").required(),
    property("Status").required().changeable(),
    property("CertificateMode"),
];
const POLICY_ATTACHMENT: &[Property] = &[property("PolicyName").required(), property("Principal").required()];
const THING_ATTACHMENT: &[Property] = &[property("ThingName").required(), property("Principal").required()];
const MODEL: &[Property] = &[
    property("ModelName"),
    property("ExecutionRoleArn").required(),
    property("PrimaryContainer").required().structured(),
    property("EnableNetworkIsolation"),
    property("Tags").changeable().structured(),
];

const ALL: [Kind; 6] =
    [Kind::Thing, Kind::Policy, Kind::Certificate, Kind::PolicyAttachment, Kind::ThingAttachment, Kind::Model];

impl Kind {
    pub fn of(name: &str) -> Option<Self> {
        ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Thing => "AWS::IoT::Thing",
            Self::Policy => "AWS::IoT::Policy",
            Self::Certificate => "AWS::IoT::Certificate",
            Self::PolicyAttachment => "AWS::IoT::PolicyPrincipalAttachment",
            Self::ThingAttachment => "AWS::IoT::ThingPrincipalAttachment",
            Self::Model => "AWS::SageMaker::Model",
        }
    }

    /// What Fn::GetAtt may ask for.
    pub fn attributes(self) -> &'static [&'static str] {
        match self {
            Self::Thing | Self::Policy | Self::Certificate => &["Arn", "Id"],
            Self::PolicyAttachment | Self::ThingAttachment => &[],
            Self::Model => &["ModelName"],
        }
    }

    fn properties(self) -> &'static [Property] {
        match self {
            Self::Thing => THING,
            Self::Policy => POLICY,
            Self::Certificate => CERTIFICATE,
            Self::PolicyAttachment => POLICY_ATTACHMENT,
            Self::ThingAttachment => THING_ATTACHMENT,
            Self::Model => MODEL,
        }
    }

    /// The property that names it.
    pub fn named_by(self) -> Option<&'static str> {
        match self {
            Self::Thing => Some("ThingName"),
            Self::Policy => Some("PolicyName"),
            Self::Model => Some("ModelName"),
            Self::Certificate | Self::PolicyAttachment | Self::ThingAttachment => None,
        }
    }

    /// Whether it gets the tags of its stack.
    pub fn has_tags(self) -> bool {
        self.properties().iter().any(|known| known.name == "Tags")
    }

    pub fn is_attachment(self) -> bool {
        matches!(self, Self::PolicyAttachment | Self::ThingAttachment)
    }

    /// Whether properties are those of this type; what their values mean, the service says when it is asked.
    pub fn check(self, logical: &str, properties: &Value) -> Result<()> {
        let wrong = |why: String| invalid(format!("Properties validation failed for resource {logical}: {why}"));
        let given = properties.as_object().ok_or_else(|| wrong("Properties must be an object".to_owned()))?;
        for (name, value) in given {
            let known = self.properties().iter().find(|known| known.name == name);
            let known = known.ok_or_else(|| wrong(format!("extraneous key [{name:.64}] is not permitted")))?;
            if !known.structured && text(value).is_none() {
                return Err(wrong(format!("{name} must be text")));
            }
        }
        match self.properties().iter().find(|known| known.required && !given.contains_key(known.name)) {
            None => Ok(()),
            Some(missing) => Err(wrong(format!("required key [{}] not found", missing.name))),
        }
    }

    /// Whether the change needs another resource in place of this one.
    pub fn is_replaced(self, old: &Value, new: &Value) -> bool {
        self.properties().iter().any(|known| !known.changeable && old.get(known.name) != new.get(known.name))
    }
}

/// A property that is text.
pub fn of<'v>(properties: &'v Value, name: &str) -> std::borrow::Cow<'v, str> {
    match properties.get(name) {
        Some(Value::String(text)) => text.as_str().into(),
        Some(other) => text(other).unwrap_or_default().into(),
        None => "".into(),
    }
}

/// `AttributePayload.Attributes`, values as text.
pub fn thing_attributes(properties: &Value) -> Result<Map<String, Value>> {
    let wrong = || invalid("AttributePayload must be an object with Attributes, an object of texts");
    let Some(payload) = properties.get("AttributePayload") else { return Ok(Map::new()) };
    let payload =
        payload.as_object().filter(|payload| payload.keys().all(|key| key == "Attributes")).ok_or_else(wrong)?;
    let Some(attributes) = payload.get("Attributes") else { return Ok(Map::new()) };
    let one = |(key, value): (&String, &Value)| Some((key.clone(), Value::String(text(value)?)));
    attributes.as_object().and_then(|all| all.iter().map(one).collect()).ok_or_else(wrong)
}

/// Tags of the resource, over those of its stack.
pub fn tags(properties: &Value, of_stack: &Texts) -> Result<Texts> {
    let wrong = || invalid("Tags must be a list of objects, each with Key and Value");
    let mut tags = of_stack.clone();
    let own =
        properties.get("Tags").map_or(Some(&[][..]), |own| own.as_array().map(Vec::as_slice)).ok_or_else(wrong)?;
    for tag in own {
        let part = |name: &str| tag.get(name).and_then(text).ok_or_else(wrong);
        tags.insert(part("Key")?, part("Value")?);
    }
    Ok(tags)
}

/// As services take them.
pub fn listed(tags: &Texts) -> Vec<Value> {
    tags.iter().map(|(key, value)| serde_json::json!({"Key": key, "Value": value})).collect()
}
