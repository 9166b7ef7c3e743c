//! Policies, their versions and attachments.

use super::{Request, Tag, invalid, not_found, present, principal, tags, target};
use crate::{Answer, AwsError, json::seconds};
use kilter_core::{
    PolicyRecord,
    ports::fleet::{FleetAnswer, FleetChange, PolicyTarget},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

const PAGE: (&str, &str) = ("marker", "pageSize");

pub fn answer(request: &Request<'_>, name: &str) -> Option<Result<Answer, AwsError>> {
    let policy = || request.part(0).to_owned();
    Some(match name {
        "CreatePolicy" => create(request),
        "GetPolicy" => get(request),
        "ListPolicies" => list(request),
        "DeletePolicy" => request.done(FleetChange::DeletePolicy(policy())),
        "CreatePolicyVersion" => create_version(request),
        "ListPolicyVersions" => versions(request),
        "GetPolicyVersion" => get_version(request),
        "SetDefaultPolicyVersion" => version(request)
            .and_then(|version| request.done(FleetChange::SetDefaultPolicyVersion { name: policy(), version })),
        "DeletePolicyVersion" => version(request)
            .and_then(|version| request.done(FleetChange::DeletePolicyVersion { name: policy(), version })),
        "AttachPolicy" | "DetachPolicy" => body_target(request).and_then(|target| attach(request, name, target)),
        "AttachPrincipalPolicy" | "DetachPrincipalPolicy" => principal(request.call.header("x-amzn-iot-principal"))
            .and_then(|id| attach(request, name, PolicyTarget::Certificate(id))),
        "ListPrincipalPolicies" => principal(request.call.header("x-amzn-iot-principal"))
            .and_then(|id| attached(request, &PolicyTarget::Certificate(id), false)),
        "ListAttachedPolicies" => request
            .flag("recursive")
            .and_then(|deep| target(request.part(0)).and_then(|target| attached(request, &target, deep))),
        "ListTargetsForPolicy" => targets(request),
        _ => return None,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    policy_document: String,
    #[serde(default)]
    tags: Vec<Tag>,
}

fn create(request: &Request<'_>) -> Result<Answer, AwsError> {
    let input: Document = request.input()?;
    let name = request.part(0).to_owned();
    let change = FleetChange::CreatePolicy { name, document: input.policy_document, tags: tags(input.tags) };
    match request.change(change)? {
        FleetAnswer::Policy(made) => Ok(Answer::json(&json!({
            "policyName": made.name,
            "policyArn": request.arn("policy", &made.name),
            "policyDocument": made.document(),
            "policyVersionId": made.default.to_string(),
        }))),
        _ => Err(AwsError::internal("a policy was made, and something else was answered")),
    }
}

fn known(request: &Request<'_>) -> Result<Arc<PolicyRecord>, AwsError> {
    let name = request.part(0);
    let found = request.view().policies.get(name).cloned();
    found.ok_or_else(|| not_found(format!("policy {name} does not exist")))
}

fn get(request: &Request<'_>) -> Result<Answer, AwsError> {
    let policy = known(request)?;
    let modified = policy.versions.values().map(|version| version.created).max().unwrap_or(policy.created);
    Ok(Answer::json(&json!({
        "policyName": policy.name,
        "policyArn": request.arn("policy", &policy.name),
        "policyDocument": policy.document(),
        "defaultVersionId": policy.default.to_string(),
        "creationDate": seconds(policy.created),
        "lastModifiedDate": seconds(modified),
        "generationId": policy.next.to_string(),
    })))
}

fn references<'n>(request: &Request<'_>, names: impl Iterator<Item = &'n str>) -> Vec<Value> {
    names.map(|name| json!({ "policyName": name, "policyArn": request.arn("policy", name) })).collect()
}

fn list(request: &Request<'_>) -> Result<Answer, AwsError> {
    let view = request.view();
    let (page, next) = request.page(PAGE, view.policies.keys(), |name| name.as_str())?;
    let policies = references(request, page.into_iter().map(String::as_str));
    Ok(Answer::json(&present(json!({ "policies": policies, "nextMarker": next }))))
}

fn version(request: &Request<'_>) -> Result<u32, AwsError> {
    let text = request.part(1);
    text.parse().map_err(|_| invalid(format!("{text:?} is no version of a policy: versions are numbers")))
}

fn create_version(request: &Request<'_>) -> Result<Answer, AwsError> {
    let input: Document = request.input()?;
    let change = FleetChange::CreatePolicyVersion {
        name: request.part(0).to_owned(),
        document: input.policy_document,
        set_default: request.flag("setAsDefault")?,
    };
    match request.change(change)? {
        FleetAnswer::PolicyVersion { policy, version } => Ok(Answer::json(&json!({
            "policyArn": request.arn("policy", &policy.name),
            "policyDocument": policy.versions.get(&version).map(|made| made.document.as_str()),
            "policyVersionId": version.to_string(),
            "isDefaultVersion": policy.default == version,
        }))),
        _ => Err(AwsError::internal("a policy's version was made, and something else was answered")),
    }
}

fn versions(request: &Request<'_>) -> Result<Answer, AwsError> {
    let policy = known(request)?;
    let versions: Vec<Value> = policy
        .versions
        .iter()
        .map(|(number, version)| {
            json!({
                "versionId": number.to_string(),
                "isDefaultVersion": policy.default == *number,
                "createDate": seconds(version.created),
            })
        })
        .collect();
    Ok(Answer::json(&json!({ "policyVersions": versions })))
}

fn get_version(request: &Request<'_>) -> Result<Answer, AwsError> {
    let (policy, number) = (known(request)?, version(request)?);
    let found = policy.versions.get(&number);
    let found = found.ok_or_else(|| not_found(format!("policy {} has no version {number}", policy.name)))?;
    Ok(Answer::json(&json!({
        "policyArn": request.arn("policy", &policy.name),
        "policyName": policy.name,
        "policyDocument": found.document,
        "policyVersionId": number.to_string(),
        "isDefaultVersion": policy.default == number,
        "creationDate": seconds(found.created),
        "lastModifiedDate": seconds(found.created),
        "generationId": policy.next.to_string(),
    })))
}

fn body_target(request: &Request<'_>) -> Result<PolicyTarget, AwsError> {
    #[derive(Deserialize)]
    struct Input {
        target: String,
    }
    target(&request.input::<Input>()?.target)
}

fn attach(request: &Request<'_>, name: &str, target: PolicyTarget) -> Result<Answer, AwsError> {
    let policy = request.part(0).to_owned();
    request.done(match name {
        "AttachPolicy" | "AttachPrincipalPolicy" => FleetChange::AttachPolicy(policy, target),
        _ => FleetChange::DetachPolicy(policy, target),
    })
}

/// `deep`: of the groups above as well.
fn attached(request: &Request<'_>, target: &PolicyTarget, deep: bool) -> Result<Answer, AwsError> {
    let view = request.view();
    let mut names: Vec<&str> = match target {
        PolicyTarget::Certificate(id) => {
            let found = view.certificates.get(id);
            let found = found.ok_or_else(|| not_found(format!("certificate {id} does not exist")))?;
            found.policies.iter().map(String::as_str).collect()
        }
        PolicyTarget::Group(name) => {
            if !view.groups.contains_key(name) {
                return Err(not_found(format!("thing group {name} does not exist")));
            }
            let groups = view.lineage(name).take(if deep { usize::MAX } else { 1 });
            groups.flat_map(|group| &group.policies).map(String::as_str).collect()
        }
    };
    names.sort_unstable();
    names.dedup();
    let (page, next) = request.page(PAGE, names.into_iter(), |name| name)?;
    let policies = references(request, page.into_iter());
    Ok(Answer::json(&present(json!({ "policies": policies, "nextMarker": next }))))
}

fn targets(request: &Request<'_>) -> Result<Answer, AwsError> {
    let (view, policy) = (request.view(), known(request)?);
    let certificates = view.certificates.values().filter(|found| found.policies.contains(&policy.name));
    let groups = view.groups.values().filter(|found| found.policies.contains(&policy.name));
    let mut arns: Vec<String> = certificates.map(|found| request.arn("cert", &found.id)).collect();
    arns.extend(groups.map(|found| request.arn("thinggroup", &found.name)));
    arns.sort();
    let (page, next) = request.page(PAGE, arns.iter(), |arn| arn.as_str())?;
    Ok(Answer::json(&present(json!({ "targets": page, "nextMarker": next }))))
}
