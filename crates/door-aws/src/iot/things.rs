//! Things and their types.

use super::{AttributePayload, Request, Tag, not_found, present, principal, tags};
use crate::{Answer, AwsError, json::seconds};
use kilter_core::{
    Thing, ThingType,
    ports::fleet::{FleetAnswer, FleetChange, ThingUpdate},
};
use serde::Deserialize;
use serde_json::{Value, json};

const PAGE: (&str, &str) = ("nextToken", "maxResults");

pub fn answer(request: &Request<'_>, name: &str) -> Option<Result<Answer, AwsError>> {
    Some(match name {
        "CreateThing" => create(request),
        "DescribeThing" => describe(request),
        "UpdateThing" => update(request),
        "DeleteThing" => delete(request),
        "ListThings" => list(request),
        "AttachThingPrincipal" | "DetachThingPrincipal" => attach(request, name),
        "ListThingPrincipals" => principals(request),
        "ListPrincipalThings" => of_principal(request),
        "CreateThingType" => create_type(request),
        "DescribeThingType" => describe_type(request),
        "ListThingTypes" => list_types(request),
        "UpdateThingType" => update_type(request),
        "DeprecateThingType" => deprecate(request),
        "DeleteThingType" => request.done(FleetChange::DeleteType(request.part(0).to_owned())),
        _ => return None,
    })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ThingInput {
    thing_type_name: Option<String>,
    attribute_payload: Option<AttributePayload>,
    expected_version: Option<u64>,
    remove_thing_type: bool,
}

fn create(request: &Request<'_>) -> Result<Answer, AwsError> {
    let input: ThingInput = request.input()?;
    let attributes = input.attribute_payload.and_then(|payload| payload.attributes).unwrap_or_default();
    let change = FleetChange::CreateThing { thing: request.thing()?, thing_type: input.thing_type_name, attributes };
    match request.change(change)? {
        FleetAnswer::Thing(thing) => Ok(Answer::json(&json!({
            "thingName": thing.thing.as_str(),
            "thingArn": request.arn("thing", &thing.thing),
            "thingId": thing.id,
        }))),
        _ => Err(AwsError::internal("a thing was made, and something else was answered")),
    }
}

fn describe(request: &Request<'_>) -> Result<Answer, AwsError> {
    let view = request.view();
    let name = request.thing()?;
    let thing = view.things.get(&name).ok_or_else(|| not_found(format!("thing {name} does not exist")))?;
    let mut body = shown(request, thing);
    body["defaultClientId"] = json!(thing.thing.as_str());
    body["thingId"] = json!(thing.id);
    Ok(Answer::json(&body))
}

fn shown(request: &Request<'_>, thing: &Thing) -> Value {
    present(json!({
        "thingName": thing.thing.as_str(),
        "thingArn": request.arn("thing", &thing.thing),
        "thingTypeName": thing.thing_type,
        "attributes": thing.attributes,
        "version": thing.version,
    }))
}

fn update(request: &Request<'_>) -> Result<Answer, AwsError> {
    let input: ThingInput = request.input()?;
    let thing_type = match (input.thing_type_name, input.remove_thing_type) {
        (Some(_), true) => return Err(super::invalid("thingTypeName and removeThingType exclude each other")),
        (Some(name), false) => Some(Some(name)),
        (None, true) => Some(None),
        (None, false) => None,
    };
    let payload = input.attribute_payload.unwrap_or_default();
    request.done(FleetChange::UpdateThing(ThingUpdate {
        thing: request.thing()?,
        thing_type,
        attributes: payload.attributes,
        merge: payload.merge,
        expected_version: input.expected_version,
    }))
}

fn delete(request: &Request<'_>) -> Result<Answer, AwsError> {
    let expected_version = request.expected_version()?;
    request.done(FleetChange::DeleteThing { thing: request.thing()?, expected_version })
}

fn list(request: &Request<'_>) -> Result<Answer, AwsError> {
    let view = request.view();
    let wanted_type = request.call.query("thingTypeName");
    let attribute = request.call.query("attributeName").zip(request.call.query("attributeValue"));
    let prefix = request.flag("usePrefixAttributeValue")?;
    let wanted = view.things.values().filter(|thing| {
        let typed = wanted_type.is_none_or(|wanted| thing.thing_type.as_deref() == Some(wanted));
        let has = |(name, value): (&str, &str)| {
            let found = thing.attributes.get(name);
            found.is_some_and(|found| if prefix { found.starts_with(value) } else { found == value })
        };
        typed && attribute.is_none_or(has)
    });
    let (page, next) = request.page(PAGE, wanted, |thing| thing.thing.as_str())?;
    let things: Vec<Value> = page.into_iter().map(|thing| shown(request, thing)).collect();
    Ok(Answer::json(&present(json!({ "things": things, "nextToken": next }))))
}

fn attach(request: &Request<'_>, name: &str) -> Result<Answer, AwsError> {
    let thing = request.thing()?;
    let certificate = principal(request.call.header("x-amzn-principal"))?;
    request.done(match name {
        "AttachThingPrincipal" => FleetChange::AttachPrincipal(thing, certificate),
        _ => FleetChange::DetachPrincipal(thing, certificate),
    })
}

fn principals(request: &Request<'_>) -> Result<Answer, AwsError> {
    let view = request.view();
    let name = request.thing()?;
    let thing = view.things.get(&name).ok_or_else(|| not_found(format!("thing {name} does not exist")))?;
    let mut ids: Vec<_> = thing.certificates.iter().collect();
    ids.sort();
    let (page, next) = request.page(PAGE, ids.into_iter(), |id| id.as_str())?;
    let arns: Vec<String> = page.into_iter().map(|id| request.arn("cert", id)).collect();
    Ok(Answer::json(&present(json!({ "principals": arns, "nextToken": next }))))
}

fn of_principal(request: &Request<'_>) -> Result<Answer, AwsError> {
    let view = request.view();
    let id = principal(request.call.header("x-amzn-principal"))?;
    let certificate =
        view.certificates.get(&id).ok_or_else(|| not_found(format!("certificate {id} does not exist")))?;
    let mut names: Vec<_> = certificate.things.iter().collect();
    names.sort();
    let (page, next) = request.page(PAGE, names.into_iter(), |name| name.as_str())?;
    let names: Vec<&str> = page.into_iter().map(|name| name.as_str()).collect();
    Ok(Answer::json(&present(json!({ "things": names, "nextToken": next }))))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct TypeInput {
    thing_type_properties: TypeProperties,
    tags: Vec<Tag>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct TypeProperties {
    thing_type_description: Option<String>,
    searchable_attributes: Option<Vec<String>>,
}

fn create_type(request: &Request<'_>) -> Result<Answer, AwsError> {
    let input: TypeInput = request.input()?;
    let change = FleetChange::CreateType {
        name: request.part(0).to_owned(),
        description: input.thing_type_properties.thing_type_description,
        searchable: input.thing_type_properties.searchable_attributes.unwrap_or_default(),
        tags: tags(input.tags),
    };
    match request.change(change)? {
        FleetAnswer::Type(made) => Ok(Answer::json(&json!({
            "thingTypeName": made.name,
            "thingTypeArn": request.arn("thingtype", &made.name),
            "thingTypeId": made.id,
        }))),
        _ => Err(AwsError::internal("a thing type was made, and something else was answered")),
    }
}

fn shown_type(request: &Request<'_>, found: &ThingType) -> Value {
    json!({
        "thingTypeName": found.name,
        "thingTypeArn": request.arn("thingtype", &found.name),
        "thingTypeProperties": present(json!({
            "thingTypeDescription": found.description,
            "searchableAttributes": found.searchable,
        })),
        "thingTypeMetadata": present(json!({
            "deprecated": found.deprecated.is_some(),
            "deprecationDate": found.deprecated.map(seconds),
            "creationDate": seconds(found.created),
        })),
    })
}

fn describe_type(request: &Request<'_>) -> Result<Answer, AwsError> {
    let (view, name) = (request.view(), request.part(0));
    let found = view.types.get(name).ok_or_else(|| not_found(format!("thing type {name} does not exist")))?;
    let mut body = shown_type(request, found);
    body["thingTypeId"] = json!(found.id);
    Ok(Answer::json(&body))
}

fn list_types(request: &Request<'_>) -> Result<Answer, AwsError> {
    let view = request.view();
    let wanted = request.call.query("thingTypeName");
    let all = view.types.values().filter(|found| wanted.is_none_or(|wanted| found.name == wanted));
    let (page, next) = request.page(PAGE, all, |found| found.name.as_str())?;
    let types: Vec<Value> = page.into_iter().map(|found| shown_type(request, found)).collect();
    Ok(Answer::json(&present(json!({ "thingTypes": types, "nextToken": next }))))
}

fn update_type(request: &Request<'_>) -> Result<Answer, AwsError> {
    let TypeInput { thing_type_properties: properties, .. } = request.input()?;
    request.done(FleetChange::UpdateType {
        name: request.part(0).to_owned(),
        description: properties.thing_type_description,
        searchable: properties.searchable_attributes,
    })
}

fn deprecate(request: &Request<'_>) -> Result<Answer, AwsError> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Input {
        undo_deprecate: bool,
    }
    let input: Input = request.input()?;
    request.done(FleetChange::DeprecateType { name: request.part(0).to_owned(), deprecate: !input.undo_deprecate })
}
