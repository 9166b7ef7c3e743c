//! What is told of stacks: DescribeStacks, DescribeStackEvents, ListStackResources and GetTemplate.

use super::{
    Inner, Result, invalid, missing,
    store::{Event, Resource, Stack, Status, Texts},
    template::Template,
};
use crate::{Call, form::Form, xml::Xml};
use kilter_core::Timestamp;

const PAGE: usize = 100;
const HIDDEN: &str = "****";

fn time(at: Timestamp) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ")
}

/// The entries behind the token, and the token of those that follow.
fn page<T>(form: &Form, all: Vec<T>) -> Result<(Vec<T>, Option<String>)> {
    let from = match form.get("NextToken") {
        None => 0,
        Some(token) => token.parse().map_err(|_| invalid("NextToken is none of this list's"))?,
    };
    let next = (all.len() > from + PAGE).then(|| (from + PAGE).to_string());
    Ok((all.into_iter().skip(from).take(PAGE).collect(), next))
}

fn list<T>(xml: &mut Xml, name: &str, all: &[T], one: impl Fn(&mut Xml, &T)) {
    xml.open(name);
    for entry in all {
        xml.open("member");
        one(xml, entry);
        xml.close("member");
    }
    xml.close(name);
}

fn optional(xml: &mut Xml, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        xml.text(name, value);
    }
}

pub fn stacks(inner: &Inner, _: &Call, form: &Form) -> Result<String> {
    let found = match form.get("StackName") {
        Some(name) => vec![inner.find(name)?.ok_or_else(|| missing(name))?],
        None => {
            let mut all = inner.store.all()?;
            all.retain(|stack| stack.status != Status::DeleteComplete);
            all.sort_by(|one, other| one.name.cmp(&other.name));
            all
        }
    };
    let (found, next) = page(form, found)?;
    let mut xml = Xml::fragment();
    list(&mut xml, "Stacks", &found, |xml, stack| described(xml, inner, stack));
    optional(&mut xml, "NextToken", next.as_deref());
    Ok(xml.finish())
}

fn described(xml: &mut Xml, inner: &Inner, stack: &Stack) {
    // It was found whole when it was kept.
    let template = Template::parse(&stack.desired.template).ok();
    let hidden = |name: &str| {
        let known = template.as_ref().and_then(|template| template.parameters.get(name));
        known.is_some_and(|parameter| parameter.no_echo)
    };
    xml.text("StackId", &inner.arn(stack)).text("StackName", &stack.name);
    optional(xml, "Description", template.as_ref().and_then(|template| template.description.as_deref()));
    list(xml, "Parameters", &pairs(&stack.desired.parameters), |xml, (name, value)| {
        let value = if hidden(name) { HIDDEN } else { value };
        xml.text("ParameterKey", name).text("ParameterValue", value);
    });
    xml.text("CreationTime", &time(stack.created));
    optional(xml, "LastUpdatedTime", stack.updated.map(time).as_deref());
    optional(xml, "DeletionTime", stack.deleted.map(time).as_deref());
    xml.text("StackStatus", stack.status.word());
    optional(xml, "StackStatusReason", stack.reason.as_deref());
    xml.text("DisableRollback", &stack.disable_rollback.to_string()).text("EnableTerminationProtection", "false");
    xml.open("Capabilities");
    for capability in &stack.capabilities {
        xml.text("member", capability);
    }
    xml.close("Capabilities");
    list(xml, "Outputs", &stack.desired.outputs, |xml, output| {
        xml.text("OutputKey", &output.key).text("OutputValue", &output.value);
        optional(xml, "Description", output.description.as_deref());
    });
    list(xml, "Tags", &pairs(&stack.desired.tags), |xml, (key, value)| {
        xml.text("Key", key).text("Value", value);
    });
    xml.open("DriftInformation").text("StackDriftStatus", "NOT_CHECKED").close("DriftInformation");
}

fn pairs(all: &Texts) -> Vec<(&str, &str)> {
    all.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

pub fn events(inner: &Inner, _: &Call, form: &Form) -> Result<String> {
    let name = form.required("StackName")?;
    let stack = inner.find(name)?.ok_or_else(|| invalid(format!("Stack [{name:.256}] does not exist")))?;
    let before = form.get("NextToken").map(str::parse::<u64>).transpose();
    let before = before.map_err(|_| invalid("NextToken is none of this list's"))?;
    let mut found = inner.store.events(&stack.uuid, before, PAGE + 1)?;
    let more = found.len() > PAGE;
    found.truncate(PAGE);
    let mut xml = Xml::fragment();
    list(&mut xml, "StackEvents", &found, |xml, event| event_of(xml, inner, &stack, event));
    let next = found.last().filter(|_| more).map(|last| last.number.to_string());
    optional(&mut xml, "NextToken", next.as_deref());
    Ok(xml.finish())
}

fn event_of(xml: &mut Xml, inner: &Inner, stack: &Stack, event: &Event) {
    xml.text("StackId", &inner.arn(stack))
        .text("EventId", &format!("{}-{}-{}", event.logical, event.status.word(), event.number))
        .text("StackName", &stack.name)
        .text("LogicalResourceId", &event.logical)
        .text("PhysicalResourceId", &event.physical)
        .text("ResourceType", &event.resource_type)
        .text("Timestamp", &time(event.at))
        .text("ResourceStatus", event.status.word());
    optional(xml, "ResourceStatusReason", event.reason.as_deref());
    optional(xml, "ClientRequestToken", event.token.as_deref());
}

pub fn resources(inner: &Inner, form: &Form) -> Result<String> {
    let name = form.required("StackName")?;
    let stack = inner.find(name)?.ok_or_else(|| missing(name))?;
    let (found, next) = page(form, stack.resources)?;
    let mut xml = Xml::fragment();
    list(&mut xml, "StackResourceSummaries", &found, |xml, resource: &Resource| {
        xml.text("LogicalResourceId", &resource.logical);
        optional(xml, "PhysicalResourceId", resource.physical.as_deref());
        xml.text("ResourceType", resource.kind.name())
            .text("LastUpdatedTimestamp", &time(resource.updated))
            .text("ResourceStatus", resource.status.word());
        optional(xml, "ResourceStatusReason", resource.reason.as_deref());
        xml.open("DriftInformation").text("StackResourceDriftStatus", "NOT_CHECKED").close("DriftInformation");
    });
    optional(&mut xml, "NextToken", next.as_deref());
    Ok(xml.finish())
}

pub fn template(inner: &Inner, form: &Form) -> Result<String> {
    let name = form.required("StackName")?;
    let stack = inner.find(name)?.ok_or_else(|| missing(name))?;
    let mut xml = Xml::fragment();
    xml.text("TemplateBody", &stack.desired.template);
    xml.open("StagesAvailable").text("member", "Original").text("member", "Processed").close("StagesAvailable");
    Ok(xml.finish())
}
