//! Things, what type they are of, and which certificates are attached to them.

use super::{
    ATTRIBUTES_MAX, ATTRIBUTES_UNTYPED_MAX, Decided, Kind, check_attributes, check_description, check_name, check_tags,
    check_version, find, merged, refuse, uuid_of,
};
use crate::registry::Change;
use kilter_core::{
    Certificate, CertificateId, FleetView, Tags, TenantId, Thing, ThingName, ThingType, Timestamp,
    ports::fleet::{FleetAnswer, FleetError, ThingUpdate},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The attribute that says whose a thing is.
const TENANT_ATTRIBUTE: &str = "tenant";
/// Searchable attributes of a type.
const SEARCHABLE_MAX: usize = 3;
/// Certificates of one thing and things of one certificate: bounds what one look-up walks through.
const ATTACHED_MAX: usize = 100;

/// Whose a thing is that was made without saying so: the attribute `tenant`, or what stands before the first `-`.
fn tenant_of(thing: &ThingName, attributes: &BTreeMap<String, String>) -> Option<TenantId> {
    let said = attributes.get(TENANT_ATTRIBUTE).map(String::as_str);
    let named = || thing.as_str().split_once('-').map(|(tenant, _)| tenant);
    said.or_else(named).and_then(|tenant| TenantId::new(tenant).ok())
}

fn check(
    fleet: &FleetView,
    thing_type: Option<&String>,
    attributes: &BTreeMap<String, String>,
) -> Result<(), FleetError> {
    check_attributes(attributes, if thing_type.is_some() { ATTRIBUTES_MAX } else { ATTRIBUTES_UNTYPED_MAX })?;
    let Some(name) = thing_type else { return Ok(()) };
    if find(&fleet.types, "thing type", name)?.deprecated.is_some() {
        return refuse(Kind::Invalid, format!("thing type {name} is deprecated: no thing can get it"));
    }
    Ok(())
}

pub fn create(
    fleet: &FleetView,
    now: Timestamp,
    thing: ThingName,
    thing_type: Option<String>,
    attributes: BTreeMap<String, String>,
) -> Decided {
    let attributes = merged(&BTreeMap::new(), attributes, false);
    if let Some(there) = fleet.things.get(&thing) {
        if there.thing_type == thing_type && there.attributes == attributes {
            return Ok((Vec::new(), FleetAnswer::Thing(there.clone())));
        }
        return refuse(
            Kind::AlreadyExists,
            format!("thing {thing} exists already, with another type or other attributes"),
        );
    }
    let made = new(fleet, now, thing, thing_type, attributes)?;
    tracing::info!(thing = %made.thing, tenant = made.tenant.as_ref().map(TenantId::as_str), "thing created");
    Ok((vec![Change::Thing(made.clone())], FleetAnswer::Thing(Arc::new(made))))
}

/// A thing that is not there yet.
pub fn new(
    fleet: &FleetView,
    now: Timestamp,
    thing: ThingName,
    thing_type: Option<String>,
    attributes: BTreeMap<String, String>,
) -> Result<Thing, FleetError> {
    check(fleet, thing_type.as_ref(), &attributes)?;
    Ok(Thing {
        tenant: tenant_of(&thing, &attributes),
        created: now,
        certificates: Vec::new(),
        id: uuid_of(&["thing", thing.as_str(), &now.sortable()]),
        thing_type,
        attributes,
        groups: BTreeSet::new(),
        version: 1,
        rotation: None,
        thing,
    })
}

pub fn update(fleet: &FleetView, update: ThingUpdate) -> Decided {
    let there = find(&fleet.things, "thing", &update.thing)?;
    check_version("the thing", update.expected_version, there.version)?;
    let mut thing = (**there).clone();
    let keeps_type = update.thing_type.is_none();
    if let Some(thing_type) = update.thing_type {
        thing.thing_type = thing_type;
    }
    if let Some(attributes) = update.attributes {
        thing.attributes = merged(&thing.attributes, attributes, update.merge);
        if thing.attributes.contains_key(TENANT_ATTRIBUTE) {
            thing.tenant = tenant_of(&thing.thing, &thing.attributes);
        }
    }
    // A thing may keep a type that was deprecated since.
    let new_type = thing.thing_type.as_ref().filter(|_| !keeps_type);
    check(fleet, new_type, &BTreeMap::new())?;
    let typed = thing.thing_type.is_some();
    check_attributes(&thing.attributes, if typed { ATTRIBUTES_MAX } else { ATTRIBUTES_UNTYPED_MAX })?;
    thing.version += 1;
    Ok((vec![Change::Thing(thing.clone())], FleetAnswer::Thing(Arc::new(thing))))
}

pub fn delete(fleet: &FleetView, name: &ThingName, expected_version: Option<u64>) -> Decided {
    // AWS answers a deletion of nothing with success.
    let Some(thing) = fleet.things.get(name) else { return Ok((Vec::new(), FleetAnswer::Done)) };
    check_version("the thing", expected_version, thing.version)?;
    if let Some(certificate) = thing.certificates.first() {
        let message =
            format!("thing {name} is still attached to certificate {certificate}: detach its principals first");
        return refuse(Kind::Invalid, message);
    }
    Ok((vec![Change::RemoveThing(name.clone())], FleetAnswer::Done))
}

pub fn attach(fleet: &FleetView, name: &ThingName, id: &CertificateId) -> Decided {
    let mut thing = Thing::clone(find(&fleet.things, "thing", name)?);
    let mut certificate = Certificate::clone(find(&fleet.certificates, "certificate", id)?);
    if thing.certificates.contains(id) {
        return Ok((Vec::new(), FleetAnswer::Done));
    }
    if thing.certificates.len() >= ATTACHED_MAX || certificate.things.len() >= ATTACHED_MAX {
        return refuse(
            Kind::Limit,
            format!("at most {ATTACHED_MAX} certificates or things can be attached to another"),
        );
    }
    thing.certificates.push(id.clone());
    certificate.things.push(name.clone());
    Ok((vec![Change::Thing(thing), Change::Certificate(certificate)], FleetAnswer::Done))
}

pub fn detach(fleet: &FleetView, name: &ThingName, id: &CertificateId) -> Decided {
    let mut thing = Thing::clone(find(&fleet.things, "thing", name)?);
    if !thing.certificates.contains(id) {
        return refuse(Kind::NotFound, format!("certificate {id} is not attached to thing {name}"));
    }
    thing.certificates.retain(|attached| attached != id);
    let mut changes = vec![Change::Thing(thing)];
    if let Some(certificate) = fleet.certificates.get(id) {
        let mut certificate = Certificate::clone(certificate);
        certificate.things.retain(|attached| attached != name);
        changes.push(Change::Certificate(certificate));
    }
    Ok((changes, FleetAnswer::Done))
}

fn check_type(description: Option<&String>, searchable: &[String]) -> Result<(), FleetError> {
    check_description(description)?;
    if searchable.len() > SEARCHABLE_MAX {
        return refuse(Kind::Invalid, format!("a thing type has at most {SEARCHABLE_MAX} searchable attributes"));
    }
    check_attributes(&searchable.iter().map(|name| (name.clone(), String::new())).collect(), SEARCHABLE_MAX)
}

pub fn create_type(
    fleet: &FleetView,
    now: Timestamp,
    name: String,
    description: Option<String>,
    searchable: Vec<String>,
    tags: Tags,
) -> Decided {
    check_name("thing type", &name, ":")?;
    check_tags(&tags)?;
    check_type(description.as_ref(), &searchable)?;
    if let Some(there) = fleet.types.get(&name) {
        if there.description == description && there.searchable == searchable {
            return Ok((Vec::new(), FleetAnswer::Type(there.clone())));
        }
        return refuse(Kind::AlreadyExists, format!("thing type {name} exists already, with other properties"));
    }
    let id = uuid_of(&["type", &name, &now.sortable()]);
    let made = ThingType { id, created: now, description, searchable, deprecated: None, tags, name };
    Ok((vec![Change::Type(made.clone())], FleetAnswer::Type(Arc::new(made))))
}

pub fn update_type(
    fleet: &FleetView,
    name: &String,
    description: Option<String>,
    searchable: Option<Vec<String>>,
) -> Decided {
    let mut found = ThingType::clone(find(&fleet.types, "thing type", name)?);
    found.description = description.or(found.description);
    found.searchable = searchable.unwrap_or(found.searchable);
    check_type(found.description.as_ref(), &found.searchable)?;
    Ok((vec![Change::Type(found)], FleetAnswer::Done))
}

pub fn deprecate_type(fleet: &FleetView, now: Timestamp, name: &String, deprecate: bool) -> Decided {
    let mut found = ThingType::clone(find(&fleet.types, "thing type", name)?);
    found.deprecated = if deprecate { found.deprecated.or(Some(now)) } else { None };
    Ok((vec![Change::Type(found)], FleetAnswer::Done))
}

pub fn delete_type(fleet: &FleetView, name: &String) -> Decided {
    if find(&fleet.types, "thing type", name)?.deprecated.is_none() {
        return refuse(Kind::Invalid, format!("thing type {name} is not deprecated: deprecate it before deleting it"));
    }
    if let Some(thing) = fleet.things.values().find(|thing| thing.thing_type.as_ref() == Some(name)) {
        let message = format!("thing type {name} is still the type of thing {}: give it another", thing.thing);
        return refuse(Kind::Invalid, message);
    }
    Ok((vec![Change::RemoveType(name.clone())], FleetAnswer::Done))
}
