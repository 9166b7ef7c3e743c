//! Thing groups: a forest, and which things are in it.

use super::{
    ATTRIBUTES_MAX, Decided, Kind, check_attributes, check_description, check_name, check_tags, check_version, find,
    merged, refuse, uuid_of,
};
use crate::registry::Change;
use kilter_core::{
    FleetView, GROUP_DEPTH_MAX, Tags, Thing, ThingGroup, ThingName, Timestamp,
    ports::fleet::{FleetAnswer, FleetChange},
};
use std::{collections::BTreeMap, sync::Arc};

/// Groups that one thing is in: AWS's limit.
const GROUPS_OF_THING_MAX: usize = 10;

pub fn decide(fleet: &FleetView, now: Timestamp, change: FleetChange) -> Decided {
    match change {
        FleetChange::CreateGroup { name, parent, description, attributes, tags } => {
            create(fleet, now, name, parent, description, attributes, tags)
        }
        FleetChange::UpdateGroup { name, description, attributes, merge, expected_version } => {
            let there = find(&fleet.groups, "thing group", &name)?;
            check_version("the thing group", expected_version, there.version)?;
            let mut group = (**there).clone();
            check_description(description.as_ref())?;
            group.description = description.or(group.description);
            if let Some(attributes) = attributes {
                group.attributes = merged(&group.attributes, attributes, merge);
                check_attributes(&group.attributes, ATTRIBUTES_MAX)?;
            }
            group.version += 1;
            Ok((vec![Change::Group(group.clone())], FleetAnswer::Group(Arc::new(group))))
        }
        FleetChange::DeleteGroup { name, expected_version } => delete(fleet, &name, expected_version),
        FleetChange::AddToGroup { group, thing } => add(fleet, group, &thing),
        FleetChange::RemoveFromGroup { group, thing } => {
            find(&fleet.groups, "thing group", &group)?;
            let mut thing = Thing::clone(find(&fleet.things, "thing", &thing)?);
            thing.groups.remove(&group);
            Ok((vec![Change::Thing(thing)], FleetAnswer::Done))
        }
        other => unreachable!("{other:?} is no change of a group: `decide` of the fleet sends only these"),
    }
}

fn create(
    fleet: &FleetView,
    now: Timestamp,
    name: String,
    parent: Option<String>,
    description: Option<String>,
    attributes: BTreeMap<String, String>,
    tags: Tags,
) -> Decided {
    check_name("thing group", &name, ":")?;
    check_description(description.as_ref())?;
    let attributes = merged(&BTreeMap::new(), attributes, false);
    check_attributes(&attributes, ATTRIBUTES_MAX)?;
    check_tags(&tags)?;
    if let Some(there) = fleet.groups.get(&name) {
        if there.parent == parent && there.description == description && there.attributes == attributes {
            return Ok((Vec::new(), FleetAnswer::Group(there.clone())));
        }
        return refuse(Kind::AlreadyExists, format!("thing group {name} exists already, with other properties"));
    }
    if let Some(parent) = &parent {
        find(&fleet.groups, "thing group", parent)?;
        if fleet.lineage(parent).count() >= GROUP_DEPTH_MAX {
            return refuse(Kind::Invalid, format!("thing groups nest at most {GROUP_DEPTH_MAX} deep"));
        }
    }
    let id = uuid_of(&["group", &name, &now.sortable()]);
    let made =
        ThingGroup { id, created: now, parent, description, attributes, policies: Vec::new(), version: 1, tags, name };
    Ok((vec![Change::Group(made.clone())], FleetAnswer::Group(Arc::new(made))))
}

fn delete(fleet: &FleetView, name: &String, expected_version: Option<u64>) -> Decided {
    let Some(group) = fleet.groups.get(name) else { return Ok((Vec::new(), FleetAnswer::Done)) };
    check_version("the thing group", expected_version, group.version)?;
    if let Some(child) = fleet.groups.values().find(|child| child.parent.as_ref() == Some(name)) {
        let message = format!(
            "thing group {name} cannot be deleted while thing group {} is below it: delete that first",
            child.name
        );
        return refuse(Kind::Invalid, message);
    }
    let members = fleet.things.values().filter(|thing| thing.groups.contains(name));
    let mut changes: Vec<Change> = members
        .map(|thing| {
            let mut thing = Thing::clone(thing);
            thing.groups.remove(name);
            Change::Thing(thing)
        })
        .collect();
    changes.push(Change::RemoveGroup(name.clone()));
    Ok((changes, FleetAnswer::Done))
}

fn add(fleet: &FleetView, group: String, thing: &ThingName) -> Decided {
    find(&fleet.groups, "thing group", &group)?;
    let mut thing = Thing::clone(find(&fleet.things, "thing", thing)?);
    if thing.groups.contains(&group) {
        return Ok((Vec::new(), FleetAnswer::Done));
    }
    if thing.groups.len() >= GROUPS_OF_THING_MAX {
        return refuse(Kind::Limit, format!("a thing is in at most {GROUPS_OF_THING_MAX} groups"));
    }
    let root = |group: &str| fleet.lineage(group).last().map(|root| root.name.clone());
    let own = root(&group);
    if let Some(other) = thing.groups.iter().find(|other| root(other) == own) {
        let message = format!("thing {} is in group {other} of the same hierarchy: remove it there first", thing.thing);
        return refuse(Kind::Invalid, message);
    }
    thing.groups.insert(group);
    Ok((vec![Change::Thing(thing)], FleetAnswer::Done))
}
