//! Changes of the fleet's registry, each decided against the registry as it is and made in one step. One file per
//! kind of resource; what AWS IoT Core refuses is refused, for the same reasons.

mod authorities;
mod certificates;
mod facts;
mod groups;
mod policies;
mod things;

pub use certificates::{entry as certificate_entry, issuer_of};
pub use facts::{CertificateFacts, facts_of};
pub use things::new as new_thing;

use crate::{
    authority::Authority,
    authorize::{Asked, verdict},
    ingest::Site,
    registry::{Change, Registry, RegistryError, State},
};
use kilter_core::{
    FleetView, Tags,
    ports::{
        clock::Clock,
        fleet::{
            Fleet, FleetAnswer, FleetChange, FleetError, FleetErrorKind as Kind, PolicyQuestion, PolicyVerdict,
            Taggable,
        },
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// Tags on one resource, and the lengths of their parts in characters: AWS's limits.
const TAGS_MAX: usize = 50;
const TAG_KEY_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;
/// Of a thing with a type, of one without, and of a group.
const ATTRIBUTES_MAX: usize = 50;
const ATTRIBUTES_UNTYPED_MAX: usize = 3;
const ATTRIBUTE_NAME_CHARS_MAX: usize = 128;
const ATTRIBUTE_VALUE_CHARS_MAX: usize = 800;
const DESCRIPTION_CHARS_MAX: usize = 2028;

/// What a change comes to: the registry's entries to write, and the answer.
type Decided = Result<(Vec<Change>, FleetAnswer), FleetError>;

pub struct PipelineFleet {
    pub registry: Arc<Registry>,
    pub authority: Arc<Authority>,
    pub clock: Arc<dyn Clock>,
    pub site: Site,
}

impl From<RegistryError> for FleetError {
    fn from(error: RegistryError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the fleet could not be changed");
        Self::new(Kind::Internal, error.to_string())
    }
}

impl Fleet for PipelineFleet {
    fn view(&self) -> Arc<FleetView> {
        self.registry.state().fleet.clone()
    }

    fn change(&self, change: FleetChange) -> Result<FleetAnswer, FleetError> {
        let now = self.clock.now();
        self.registry.change(|state| self.decide(state, now, change))
    }

    fn simulate(&self, question: &PolicyQuestion) -> Result<PolicyVerdict, FleetError> {
        let state = self.registry.state();
        let certificate = find(&state.fleet.certificates, "certificate", &question.certificate)?;
        let asked = Asked {
            certificate,
            client_id: &question.client_id,
            source: question.source,
            action: question.action,
            subject: &question.subject,
            now: self.clock.now(),
        };
        Ok(verdict(&state, &self.site, asked).view(&state))
    }
}

impl PipelineFleet {
    fn decide(&self, state: &State, now: kilter_core::Timestamp, change: FleetChange) -> Decided {
        use FleetChange as C;
        let fleet = &*state.fleet;
        match change {
            C::CreateThing { thing, thing_type, attributes } => {
                things::create(fleet, now, thing, thing_type, attributes)
            }
            C::UpdateThing(update) => things::update(fleet, update),
            C::DeleteThing { thing, expected_version } => things::delete(fleet, &thing, expected_version),
            C::AttachPrincipal(thing, certificate) => things::attach(fleet, &thing, &certificate),
            C::DetachPrincipal(thing, certificate) => things::detach(fleet, &thing, &certificate),
            C::CreateType { name, description, searchable, tags } => {
                things::create_type(fleet, now, name, description, searchable, tags)
            }
            C::UpdateType { name, description, searchable } => {
                things::update_type(fleet, &name, description, searchable)
            }
            C::DeprecateType { name, deprecate } => things::deprecate_type(fleet, now, &name, deprecate),
            C::DeleteType(name) => things::delete_type(fleet, &name),
            C::CreateGroup { .. }
            | C::UpdateGroup { .. }
            | C::DeleteGroup { .. }
            | C::AddToGroup { .. }
            | C::RemoveFromGroup { .. } => groups::decide(fleet, now, change),
            C::IssueCertificate { .. }
            | C::CertificateFromCsr { .. }
            | C::RegisterCertificate { .. }
            | C::RegisterCertificateWithoutCa { .. }
            | C::SetCertificateStatus { .. }
            | C::DeleteCertificate { .. } => certificates::decide(&self.authority, fleet, now, change),
            C::RegistrationCode
            | C::DeleteRegistrationCode
            | C::RegisterAuthority { .. }
            | C::UpdateAuthority { .. }
            | C::DeleteAuthority { .. } => authorities::decide(fleet, now, change),
            C::CreatePolicy { .. }
            | C::CreatePolicyVersion { .. }
            | C::SetDefaultPolicyVersion { .. }
            | C::DeletePolicyVersion { .. }
            | C::DeletePolicy { .. }
            | C::AttachPolicy { .. }
            | C::DetachPolicy { .. } => policies::decide(fleet, now, change),
            C::Tag { resource, set, remove } => tag(fleet, &resource, set, &remove),
        }
    }
}

fn refuse<T>(kind: Kind, message: impl Into<String>) -> Result<T, FleetError> {
    Err(FleetError::new(kind, message))
}

fn missing(what: &str, name: impl std::fmt::Display) -> FleetError {
    FleetError::new(Kind::NotFound, format!("{what} {name} does not exist"))
}

fn find<'a, K: Ord + std::fmt::Display, V>(
    map: &'a BTreeMap<K, Arc<V>>,
    what: &str,
    key: &K,
) -> Result<&'a Arc<V>, FleetError> {
    map.get(key).ok_or_else(|| missing(what, key))
}

/// Names of types, groups and policies; `extra` are the characters allowed beside letters, digits, `_` and `-`.
fn check_name(what: &str, name: &str, extra: &str) -> Result<(), FleetError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c) || extra.contains(c);
    if name.is_empty() || name.len() > 128 || !name.chars().all(allowed) {
        let message = format!("{what} name {name:?} is not valid: use 1 to 128 letters, digits and any of _-{extra}");
        return refuse(Kind::Invalid, message);
    }
    Ok(())
}

fn check_version(what: &str, expected: Option<u64>, version: u64) -> Result<(), FleetError> {
    match expected {
        Some(expected) if expected != version => {
            refuse(Kind::VersionConflict, format!("{what} has version {version}, not the expected {expected}"))
        }
        _ => Ok(()),
    }
}

fn check_description(description: Option<&String>) -> Result<(), FleetError> {
    if description.is_some_and(|text| text.chars().count() > DESCRIPTION_CHARS_MAX) {
        return refuse(Kind::Invalid, format!("a description has at most {DESCRIPTION_CHARS_MAX} characters"));
    }
    Ok(())
}

fn check_attributes(attributes: &BTreeMap<String, String>, max: usize) -> Result<(), FleetError> {
    let named = |c: char| c.is_ascii_alphanumeric() || "_.,@/:#-".contains(c);
    let valued = |c: char| c.is_ascii_alphanumeric() || "_.,@/:#=[]-".contains(c);
    for (name, value) in attributes {
        if name.is_empty() || name.len() > ATTRIBUTE_NAME_CHARS_MAX || !name.chars().all(named) {
            let message = format!(
                "attribute name {name:?} is not valid: use 1 to {ATTRIBUTE_NAME_CHARS_MAX} letters, digits and any of _.,@/:#-"
            );
            return refuse(Kind::Invalid, message);
        }
        if value.len() > ATTRIBUTE_VALUE_CHARS_MAX || !value.chars().all(valued) {
            let message = format!(
                "the value of attribute {name} is not valid: use at most {ATTRIBUTE_VALUE_CHARS_MAX} letters, digits and any of _.,@/:#=[]-"
            );
            return refuse(Kind::Invalid, message);
        }
    }
    if attributes.len() > max {
        let message = format!("{} attributes are too many: at most {max} are kept here", attributes.len());
        return refuse(Kind::Invalid, message);
    }
    Ok(())
}

/// `merge`: what is new is added, and an empty value removes; otherwise what is new replaces all. An attribute
/// without a value is none.
fn merged(old: &BTreeMap<String, String>, new: BTreeMap<String, String>, merge: bool) -> BTreeMap<String, String> {
    let mut all = if merge { old.clone() } else { BTreeMap::new() };
    all.extend(new);
    all.retain(|_, value| !value.is_empty());
    all
}

fn check_tags(tags: &Tags) -> Result<(), FleetError> {
    if tags.len() > TAGS_MAX {
        return refuse(Kind::Limit, format!("{} tags are too many: at most {TAGS_MAX} fit", tags.len()));
    }
    for (key, value) in tags {
        let long = key.chars().count() > TAG_KEY_CHARS_MAX || value.chars().count() > TAG_VALUE_CHARS_MAX;
        if key.is_empty() || long || key.to_ascii_lowercase().starts_with("aws:") {
            let message = format!(
                "tag {key:?} is not valid: a key has 1 to {TAG_KEY_CHARS_MAX} characters and does not begin with aws:, a value at most {TAG_VALUE_CHARS_MAX}"
            );
            return refuse(Kind::Invalid, message);
        }
    }
    Ok(())
}

fn tag(fleet: &FleetView, resource: &Taggable, set: Tags, remove: &[String]) -> Decided {
    let changed = |old: &Tags| -> Result<Tags, FleetError> {
        let mut tags = old.clone();
        tags.retain(|key, _| !remove.contains(key));
        tags.extend(set);
        check_tags(&tags)?;
        Ok(tags)
    };
    let change = match resource {
        Taggable::Type(name) => {
            let found = find(&fleet.types, "thing type", name)?;
            Change::Type(kilter_core::ThingType { tags: changed(&found.tags)?, ..(**found).clone() })
        }
        Taggable::Group(name) => {
            let found = find(&fleet.groups, "thing group", name)?;
            Change::Group(kilter_core::ThingGroup { tags: changed(&found.tags)?, ..(**found).clone() })
        }
        Taggable::Policy(name) => {
            let found = find(&fleet.policies, "policy", name)?;
            Change::Policy(kilter_core::PolicyRecord { tags: changed(&found.tags)?, ..(**found).clone() })
        }
        Taggable::Authority(id) => {
            let found = find(&fleet.authorities, "CA certificate", id)?;
            Change::Authority(kilter_core::CaCertificate { tags: changed(&found.tags)?, ..(**found).clone() })
        }
    };
    Ok((vec![change], FleetAnswer::Done))
}

/// A UUID out of what makes a thing of its kind unlike every other.
pub fn uuid_of(parts: &[&str]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    let digest = context.finish();
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    // RFC 9562: version 8 (custom), variant 10.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests;
