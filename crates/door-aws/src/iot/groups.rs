//! Thing groups.

use super::{AttributePayload, Request, Tag, invalid, not_found, present, resource_of, tags, thing_name};
use crate::{Answer, AwsError, json::seconds};
use kilter_core::{
    FleetView, ThingGroup,
    ports::fleet::{FleetAnswer, FleetChange},
};
use serde::Deserialize;
use serde_json::{Value, json};

const PAGE: (&str, &str) = ("nextToken", "maxResults");

pub fn answer(request: &Request<'_>, name: &str) -> Option<Result<Answer, AwsError>> {
    Some(match name {
        "CreateThingGroup" => create(request),
        "DescribeThingGroup" => describe(request),
        "UpdateThingGroup" => update(request),
        "DeleteThingGroup" => delete(request),
        "ListThingGroups" => list(request),
        "ListThingsInThingGroup" => members(request),
        "ListThingGroupsForThing" => of_thing(request),
        "AddThingToThingGroup" | "RemoveThingFromThingGroup" => membership(request, name),
        _ => return None,
    })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct GroupInput {
    parent_group_name: Option<String>,
    thing_group_properties: Properties,
    expected_version: Option<u64>,
    tags: Vec<Tag>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Properties {
    thing_group_description: Option<String>,
    attribute_payload: Option<AttributePayload>,
}

fn create(request: &Request<'_>) -> Result<Answer, AwsError> {
    let input: GroupInput = request.input()?;
    let properties = input.thing_group_properties;
    let change = FleetChange::CreateGroup {
        name: request.part(0).to_owned(),
        parent: input.parent_group_name,
        description: properties.thing_group_description,
        attributes: properties.attribute_payload.and_then(|payload| payload.attributes).unwrap_or_default(),
        tags: tags(input.tags),
    };
    match request.change(change)? {
        FleetAnswer::Group(made) => Ok(Answer::json(&json!({
            "thingGroupName": made.name,
            "thingGroupArn": request.arn("thinggroup", &made.name),
            "thingGroupId": made.id,
        }))),
        _ => Err(AwsError::internal("a thing group was made, and something else was answered")),
    }
}

fn known<'v>(view: &'v FleetView, name: &str) -> Result<&'v ThingGroup, AwsError> {
    let found = view.groups.get(name).map(AsRef::as_ref);
    found.ok_or_else(|| not_found(format!("thing group {name} does not exist")))
}

fn reference(request: &Request<'_>, group: &str) -> Value {
    json!({ "groupName": group, "groupArn": request.arn("thinggroup", group) })
}

fn describe(request: &Request<'_>) -> Result<Answer, AwsError> {
    let view = request.view();
    let group = known(&view, request.part(0))?;
    let mut above: Vec<Value> = view.lineage(&group.name).skip(1).map(|g| reference(request, &g.name)).collect();
    above.reverse();
    Ok(Answer::json(&json!({
        "thingGroupName": group.name,
        "thingGroupId": group.id,
        "thingGroupArn": request.arn("thinggroup", &group.name),
        "version": group.version,
        "thingGroupProperties": present(json!({
            "thingGroupDescription": group.description,
            "attributePayload": { "attributes": group.attributes },
        })),
        "thingGroupMetadata": present(json!({
            "parentGroupName": group.parent,
            "rootToParentThingGroups": above,
            "creationDate": seconds(group.created),
        })),
    })))
}

fn update(request: &Request<'_>) -> Result<Answer, AwsError> {
    let input: GroupInput = request.input()?;
    let properties = input.thing_group_properties;
    let payload = properties.attribute_payload.unwrap_or_default();
    let change = FleetChange::UpdateGroup {
        name: request.part(0).to_owned(),
        description: properties.thing_group_description,
        attributes: payload.attributes,
        merge: payload.merge,
        expected_version: input.expected_version,
    };
    match request.change(change)? {
        FleetAnswer::Group(group) => Ok(Answer::json(&json!({ "version": group.version }))),
        _ => Err(AwsError::internal("a thing group was changed, and something else was answered")),
    }
}

fn delete(request: &Request<'_>) -> Result<Answer, AwsError> {
    let expected_version = request.expected_version()?;
    request.done(FleetChange::DeleteGroup { name: request.part(0).to_owned(), expected_version })
}

fn list(request: &Request<'_>) -> Result<Answer, AwsError> {
    let view = request.view();
    let parent = request.call.query("parentGroup");
    let prefix = request.call.query("namePrefixFilter").unwrap_or("");
    let deep = request.call.query("recursive").is_none_or(|value| value != "false");
    if let Some(parent) = parent {
        known(&view, parent)?;
    }
    let wanted = view.groups.values().filter(|group| {
        let below = match (parent, deep) {
            (None, true) => true,
            (None, false) => group.parent.is_none(),
            (Some(parent), false) => group.parent.as_deref() == Some(parent),
            (Some(parent), true) => view.lineage(&group.name).skip(1).any(|above| above.name == parent),
        };
        below && group.name.starts_with(prefix)
    });
    let (page, next) = request.page(PAGE, wanted, |group| group.name.as_str())?;
    let groups: Vec<Value> = page.into_iter().map(|group| reference(request, &group.name)).collect();
    Ok(Answer::json(&present(json!({ "thingGroups": groups, "nextToken": next }))))
}

fn members(request: &Request<'_>) -> Result<Answer, AwsError> {
    let view = request.view();
    let group = &known(&view, request.part(0))?.name;
    let deep = request.flag("recursive")?;
    let wanted = view.things.values().filter(|thing| {
        let within = |own: &String| own == group || deep && view.lineage(own).any(|above| above.name == *group);
        thing.groups.iter().any(within)
    });
    let (page, next) = request.page(PAGE, wanted, |thing| thing.thing.as_str())?;
    let names: Vec<&str> = page.into_iter().map(|thing| thing.thing.as_str()).collect();
    Ok(Answer::json(&present(json!({ "things": names, "nextToken": next }))))
}

fn of_thing(request: &Request<'_>) -> Result<Answer, AwsError> {
    let view = request.view();
    let name = request.thing()?;
    let thing = view.things.get(&name).ok_or_else(|| not_found(format!("thing {name} does not exist")))?;
    let (page, next) = request.page(PAGE, thing.groups.iter(), |group| group.as_str())?;
    let groups: Vec<Value> = page.into_iter().map(|group| reference(request, group)).collect();
    Ok(Answer::json(&present(json!({ "thingGroups": groups, "nextToken": next }))))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Membership {
    thing_group_name: Option<String>,
    thing_group_arn: Option<String>,
    thing_name: Option<String>,
    thing_arn: Option<String>,
}

fn membership(request: &Request<'_>, name: &str) -> Result<Answer, AwsError> {
    let input: Membership = request.input()?;
    let one = |name: Option<String>, arn: Option<String>, what: &str| match (name, arn) {
        (Some(name), _) => Ok(name),
        (None, Some(arn)) => resource_of(&arn).map(|(_, name)| name.to_owned()),
        (None, None) => Err(invalid(format!("the {what} is missing: give its name or its ARN"))),
    };
    let group = one(input.thing_group_name, input.thing_group_arn, "thing group")?;
    let thing = thing_name(&one(input.thing_name, input.thing_arn, "thing")?)?;
    request.done(match name {
        "AddThingToThingGroup" => FleetChange::AddToGroup { group, thing },
        _ => FleetChange::RemoveFromGroup { group, thing },
    })
}
