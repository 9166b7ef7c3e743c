//! Which policies hold for a certificate, and what they allow: asked of the same evaluator that a device's connection is.

use super::{Request, invalid, not_found, principal, resource_of};
use crate::{Answer, AwsError};
use kilter_core::{
    Action, CertificateId,
    ports::fleet::{PolicyQuestion, PolicyVerdict},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Actions of one request (AWS's limit), and resources of each.
const ACTIONS_MAX: usize = 10;
const RESOURCES_MAX: usize = 100;

pub fn answer(request: &Request<'_>, name: &str) -> Option<Result<Answer, AwsError>> {
    Some(match name {
        "GetEffectivePolicies" => effective(request),
        "TestAuthorization" => test(request),
        _ => return None,
    })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Input {
    principal: Option<String>,
    cognito_identity_pool_id: Option<String>,
    auth_infos: Vec<AuthInfo>,
    policy_names_to_add: Vec<String>,
    policy_names_to_skip: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthInfo {
    action_type: String,
    resources: Vec<String>,
}

impl Input {
    fn read(request: &Request<'_>) -> Result<Self, AwsError> {
        let input: Self = request.input()?;
        if input.cognito_identity_pool_id.is_some() {
            return Err(invalid("there are no Cognito identities here: name a certificate as principal"));
        }
        Ok(input)
    }
}

fn effective(request: &Request<'_>) -> Result<Answer, AwsError> {
    let (input, view) = (Input::read(request)?, request.view());
    let mut names: BTreeSet<&str> = BTreeSet::new();
    if let Some(arn) = &input.principal {
        let id = principal(Some(arn))?;
        let found = view.certificates.get(&id);
        let found = found.ok_or_else(|| not_found(format!("certificate {id} does not exist")))?;
        names.extend(found.policies.iter().map(String::as_str));
    }
    if let Some(name) = request.call.query("thingName") {
        let found = view.things.get(&super::thing_name(name)?);
        let thing = found.ok_or_else(|| not_found(format!("thing {name} does not exist")))?;
        let groups = thing.groups.iter().flat_map(|group| view.lineage(group));
        names.extend(groups.flat_map(|group| &group.policies).map(String::as_str));
    }
    if input.principal.is_none() && request.call.query("thingName").is_none() {
        return Err(invalid("name a principal, a thing, or both"));
    }
    let shown = |name: &str| {
        let document = view.policies.get(name)?.document();
        Some(json!({ "policyName": name, "policyArn": request.arn("policy", name), "policyDocument": document }))
    };
    let policies: Vec<Value> = names.into_iter().filter_map(shown).collect();
    Ok(Answer::json(&json!({ "effectivePolicies": policies })))
}

fn test(request: &Request<'_>) -> Result<Answer, AwsError> {
    let input = Input::read(request)?;
    if !input.policy_names_to_add.is_empty() || !input.policy_names_to_skip.is_empty() {
        let message = "policyNamesToAdd and policyNamesToSkip are not offered: attach or detach the policy, then ask";
        return Err(invalid(message));
    }
    if !(1..=ACTIONS_MAX).contains(&input.auth_infos.len()) {
        return Err(invalid(format!("authInfos has {} entries, not 1 to {ACTIONS_MAX}", input.auth_infos.len())));
    }
    let certificate = principal(input.principal.as_deref())?;
    let results: Result<Vec<Value>, AwsError> =
        input.auth_infos.iter().map(|info| result(request, &certificate, info)).collect();
    Ok(Answer::json(&json!({ "authResults": results? })))
}

/// All of its resources must be allowed; the first that is not decides.
fn result(request: &Request<'_>, certificate: &CertificateId, info: &AuthInfo) -> Result<Value, AwsError> {
    let (action, kind) = match info.action_type.as_str() {
        "CONNECT" => (Action::Connect, "client"),
        "PUBLISH" => (Action::Publish, "topic"),
        "SUBSCRIBE" => (Action::Subscribe, "topicfilter"),
        "RECEIVE" => (Action::Receive, "topic"),
        other => return Err(invalid(format!("actionType {other:?} is none of CONNECT, PUBLISH, SUBSCRIBE, RECEIVE"))),
    };
    if !(1..=RESOURCES_MAX).contains(&info.resources.len()) {
        return Err(invalid(format!("an action is asked for 1 to {RESOURCES_MAX} resources")));
    }
    let ask = |arn: &String| -> Result<PolicyVerdict, AwsError> {
        let subject = match resource_of(arn)? {
            (found, name) if found == kind => name.to_owned(),
            (found, _) => {
                return Err(invalid(format!("{} needs a resource {kind}/…, not {found}/…", info.action_type)));
            }
        };
        let client_id = request.call.query("clientId").unwrap_or_default().to_owned();
        let question = PolicyQuestion { certificate: certificate.clone(), action, subject, client_id, source: None };
        request.iot.fleet.simulate(&question).map_err(super::refused)
    };
    let verdicts: Vec<PolicyVerdict> = info.resources.iter().map(ask).collect::<Result<_, _>>()?;
    let decisive = verdicts.iter().find(|verdict| !verdict.allowed);
    let reference = |name: &String| json!({ "policyName": name, "policyArn": request.arn("policy", name) });
    let decided = |verdicts: &mut dyn Iterator<Item = &PolicyVerdict>| {
        let names: BTreeSet<&String> = verdicts.filter_map(|verdict| verdict.policy.as_ref()).collect();
        names.into_iter().map(reference).collect::<Vec<Value>>()
    };
    let (decision, allowed, implicit, explicit) = match decisive {
        None => ("ALLOWED", decided(&mut verdicts.iter()), Vec::new(), Vec::new()),
        Some(verdict) if verdict.policy.is_some() => {
            ("EXPLICIT_DENY", Vec::new(), Vec::new(), decided(&mut std::iter::once(verdict)))
        }
        Some(verdict) => ("IMPLICIT_DENY", Vec::new(), verdict.policies.iter().map(reference).collect(), Vec::new()),
    };
    Ok(json!({
        "authInfo": { "actionType": info.action_type, "resources": info.resources },
        "allowed": { "policies": allowed },
        "denied": { "implicitDeny": { "policies": implicit }, "explicitDeny": { "policies": explicit } },
        "authDecision": decision,
        "missingContextValues": [],
    }))
}
