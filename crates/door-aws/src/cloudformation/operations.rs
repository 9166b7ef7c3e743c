//! CreateStack, UpdateStack and DeleteStack.

use super::{
    Inner, Result, Status, invalid,
    maker::Rights,
    plan::{Place, Plan},
    store::{Desired, STACKS_MAX, Stack, Texts},
    template::Template,
};
use crate::{AwsError, Call, form::Form, keys::random_uuid, xml::Xml};
use std::collections::BTreeMap;

const NAME_CHARS_MAX: usize = 128;
const TAGS_MAX: usize = 50;
/// What would make a stack something else than it says.
const NOT_OFFERED: [&str; 12] = [
    "TemplateURL",
    "RoleARN",
    "NotificationARNs",
    "ResourceTypes",
    "RollbackConfiguration",
    "StackPolicyBody",
    "StackPolicyURL",
    "StackPolicyDuringUpdateBody",
    "StackPolicyDuringUpdateURL",
    "EnableTerminationProtection",
    "RetainExceptOnCreate",
    "RetainResources",
];

/// An empty list is as good as none: Ansible's module sends one.
fn offered(form: &Form) -> Result<()> {
    match NOT_OFFERED.iter().find(|name| form.has(name) && !matches!(form.get(name), Some("" | "false"))) {
        None => Ok(()),
        Some(name) => Err(invalid(format!("Kilter does not offer {name}: leave it out"))),
    }
}

fn flag(form: &Form, name: &str) -> Result<bool> {
    match form.get(name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(invalid(format!("{name} is {other:.32}, not true or false"))),
    }
}

fn stack_name(form: &Form) -> Result<&str> {
    let name = form.required("StackName")?;
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !begins || name.len() > NAME_CHARS_MAX || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(invalid(format!(
            "1 validation error detected: Value '{name:.128}' at 'stackName' failed to satisfy constraint: Member must satisfy \
             regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*, and have at most {NAME_CHARS_MAX} characters"
        )));
    }
    Ok(name)
}

/// `None` for a parameter that keeps its value.
fn parameters(form: &Form) -> Result<BTreeMap<String, Option<String>>> {
    let one = |given: &Form| {
        let key = given.required("ParameterKey")?.to_owned();
        match (flag(given, "UsePreviousValue")?, given.get("ParameterValue")) {
            (true, None) => Ok((key, None)),
            (true, Some(_)) => Err(invalid(format!(
                "Invalid input for parameter key {key:.64}. Cannot specify usePreviousValue as true and non empty value for a parameter"
            ))),
            (false, value) => Ok((key, Some(value.unwrap_or_default().to_owned()))),
        }
    };
    form.structures("Parameters").iter().map(one).collect()
}

fn tags(form: &Form) -> Result<Texts> {
    let mut tags = Texts::new();
    for tag in form.structures("Tags") {
        let (key, value) = (tag.required("Key")?, tag.get("Value").unwrap_or_default());
        if key.chars().count() > 128 || value.chars().count() > 256 || key.starts_with("aws:") {
            return Err(invalid(format!(
                "The tag {key:.64} is not valid: a key has 1 to 128 characters and does not begin with aws:, a value at most 256"
            )));
        }
        tags.insert(key.to_owned(), value.to_owned());
    }
    if tags.len() > TAGS_MAX {
        return Err(invalid(format!("A stack has at most {TAGS_MAX} tags")));
    }
    Ok(tags)
}

/// Whose rights its resources are made and deleted with: those of who asks.
fn rights(call: &Call) -> Result<Rights> {
    let signer = call.signer.clone();
    signer.map(Rights::Of).ok_or_else(|| AwsError::new("AccessDenied", "The request is not signed"))
}

fn plan(inner: &Inner, stack: &Stack, template: Template) -> Result<Plan> {
    let arn = inner.arn(stack);
    let place = Place { region: &inner.ports.region, account: &inner.ports.account, name: &stack.name, arn: &arn };
    Plan::new(template, &stack.desired.parameters, &place)
}

fn stack_id(arn: &str) -> String {
    let mut xml = Xml::fragment();
    xml.text("StackId", arn);
    xml.finish()
}

pub fn create(inner: &Inner, call: &Call, form: &Form) -> Result<String> {
    offered(form)?;
    let name = stack_name(form)?;
    let disable_rollback = match form.get("OnFailure") {
        None => flag(form, "DisableRollback")?,
        Some(_) if form.has("DisableRollback") => {
            return Err(invalid("You can specify either DisableRollback or OnFailure, but not both"));
        }
        Some("ROLLBACK") => false,
        Some("DO_NOTHING") => true,
        Some(other) => return Err(invalid(format!("OnFailure {other:.32} is not offered: ROLLBACK or DO_NOTHING"))),
    };
    let template = form.required("TemplateBody")?;
    let parsed = Template::parse(template)?;
    let desired = Desired {
        template: template.to_owned(),
        parameters: parsed.values(&parameters(form)?, None)?,
        tags: tags(form)?,
        outputs: Vec::new(),
    };
    let _alone = inner.changes();
    let token = form.get("ClientRequestToken").map(str::to_owned);
    if let Some(known) = inner.store.by_name(name)? {
        // The answer to the first one was lost.
        if token.is_some() && known.token == token {
            return Ok(stack_id(&inner.arn(&known)));
        }
        return Err(AwsError::new("AlreadyExistsException", format!("Stack [{name}] already exists")));
    }
    let there = inner.store.all()?.iter().filter(|stack| stack.status != Status::DeleteComplete).count();
    if there >= STACKS_MAX {
        return Err(AwsError::new(
            "LimitExceededException",
            format!("Limit for stack has been exceeded: {STACKS_MAX}"),
        ));
    }
    let mut stack = Stack {
        uuid: random_uuid().map_err(AwsError::internal)?,
        name: name.to_owned(),
        created: call.now,
        updated: None,
        deleted: None,
        status: Status::CreateInProgress,
        reason: None,
        disable_rollback,
        capabilities: form.list("Capabilities").into_iter().map(str::to_owned).collect(),
        token,
        desired,
        resources: Vec::new(),
        previous: None,
        leaving: Vec::new(),
        events: 0,
    };
    let plan = plan(inner, &stack, parsed)?;
    stack.remember();
    let mut engine = inner.engine(call, rights(call)?, stack);
    engine.now(Status::CreateInProgress, Some("User Initiated".to_owned()))?;
    engine.create(&plan)?;
    Ok(stack_id(&engine.arn))
}

pub fn update(inner: &Inner, call: &Call, form: &Form) -> Result<String> {
    use Status as S;
    offered(form)?;
    let name = form.required("StackName")?;
    let _alone = inner.changes();
    let found = inner.find(name)?.filter(|stack| stack.status != S::DeleteComplete);
    let mut stack = found.ok_or_else(|| invalid(format!("Stack [{name:.256}] does not exist")))?;
    let arn = inner.arn(&stack);
    let token = form.get("ClientRequestToken").map(str::to_owned);
    if token.is_some() && stack.token == token && stack.updated.is_some() {
        return Ok(stack_id(&arn));
    }
    let failed = matches!(stack.status, S::CreateFailed | S::UpdateFailed);
    if !failed && !matches!(stack.status, S::CreateComplete | S::UpdateComplete | S::UpdateRollbackComplete) {
        let status = stack.status.word();
        return Err(invalid(format!("Stack:{arn} is in {status} state and can not be updated.")));
    }
    let source = match (flag(form, "UsePreviousTemplate")?, form.get("TemplateBody")) {
        (true, None) => stack.desired.template.clone(),
        (false, Some(template)) => template.to_owned(),
        _ => return Err(invalid("Either TemplateBody or UsePreviousTemplate must be specified")),
    };
    let before = stack.clone();
    let parsed = Template::parse(&source)?;
    let kept = Some(&before.desired.parameters);
    let tags = if form.has("Tags") { tags(form)? } else { before.desired.tags.clone() };
    let parameters = parsed.values(&parameters(form)?, kept)?;
    stack.remember();
    stack.desired = Desired { template: source, parameters, tags, outputs: Vec::new() };
    let wanted = plan(inner, &stack, parsed)?;
    let had = plan(inner, &before, Template::parse(&before.desired.template)?)?;
    if !failed && wanted.draft == had.draft && stack.desired.tags == before.desired.tags {
        return Err(invalid("No updates are to be performed."));
    }
    (stack.token, stack.updated) = (token, Some(call.now));
    stack.disable_rollback = flag(form, "DisableRollback")?;
    stack.capabilities = form.list("Capabilities").into_iter().map(str::to_owned).collect();
    let mut engine = inner.engine(call, rights(call)?, stack);
    engine.now(S::UpdateInProgress, Some("User Initiated".to_owned()))?;
    engine.update(&wanted)?;
    Ok(stack_id(&arn))
}

/// A stack that is not there is deleted.
pub fn delete(inner: &Inner, call: &Call, form: &Form) -> Result<()> {
    offered(form)?;
    let _alone = inner.changes();
    let found = inner.find(form.required("StackName")?)?.filter(|stack| stack.status != Status::DeleteComplete);
    let Some(mut stack) = found else { return Ok(()) };
    stack.token = form.get("ClientRequestToken").map(str::to_owned);
    inner.engine(call, rights(call)?, stack).delete()?;
    inner.store.forget()
}
