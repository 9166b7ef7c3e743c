//! Policies, their versions, and what they are attached to.

use super::{Decided, Kind, check_name, check_tags, find, refuse};
use crate::{
    policy::Policy,
    registry::{Change, new_policy},
};
use kilter_core::{
    Certificate, FleetView, PolicyRecord, PolicyVersion, ThingGroup, Timestamp,
    ports::fleet::{FleetAnswer, FleetChange, FleetError, PolicyTarget},
};
use std::sync::Arc;

/// AWS's limits.
const VERSIONS_MAX: usize = 5;
const POLICIES_OF_TARGET_MAX: usize = 10;

pub fn decide(fleet: &FleetView, now: Timestamp, change: FleetChange) -> Decided {
    match change {
        FleetChange::CreatePolicy { name, document, tags } => {
            check_name("policy", &name, "+=,.@")?;
            check_tags(&tags)?;
            if fleet.policies.contains_key(&name) {
                return refuse(Kind::AlreadyExists, format!("policy {name} exists already"));
            }
            check_document(&document)?;
            let made = new_policy(name, document, now, tags);
            Ok((vec![Change::Policy(made.clone())], FleetAnswer::Policy(Arc::new(made))))
        }
        FleetChange::CreatePolicyVersion { name, document, set_default } => {
            create_version(fleet, now, &name, document, set_default)
        }
        FleetChange::SetDefaultPolicyVersion { name, version } => {
            let mut policy = versioned(fleet, &name, version)?;
            policy.default = version;
            Ok((vec![Change::Policy(policy)], FleetAnswer::Done))
        }
        FleetChange::DeletePolicyVersion { name, version } => {
            let mut policy = versioned(fleet, &name, version)?;
            if policy.default == version {
                let message =
                    format!("version {version} of policy {name} is the default: make another one the default");
                return refuse(Kind::DeleteConflict, message);
            }
            policy.versions.remove(&version);
            Ok((vec![Change::Policy(policy)], FleetAnswer::Done))
        }
        FleetChange::DeletePolicy(name) => delete(fleet, &name),
        FleetChange::AttachPolicy(policy, target) => {
            find(&fleet.policies, "policy", &policy)?;
            retarget(fleet, &target, |policies| {
                if policies.contains(&policy) {
                    return Ok(false);
                }
                if policies.len() >= POLICIES_OF_TARGET_MAX {
                    let message = format!("at most {POLICIES_OF_TARGET_MAX} policies can be attached to one target");
                    return refuse(Kind::Limit, message);
                }
                policies.push(policy);
                Ok(true)
            })
        }
        FleetChange::DetachPolicy(policy, target) => {
            find(&fleet.policies, "policy", &policy)?;
            retarget(fleet, &target, |policies| {
                policies.retain(|attached| *attached != policy);
                Ok(true)
            })
        }
        other => unreachable!("{other:?} is no change of a policy: `decide` of the fleet sends only these"),
    }
}

fn check_document(document: &str) -> Result<(), FleetError> {
    Policy::parse(document).map(drop).map_err(|why| FleetError::new(Kind::MalformedPolicy, why.to_string()))
}

fn versioned(fleet: &FleetView, name: &String, version: u32) -> Result<PolicyRecord, FleetError> {
    let policy = find(&fleet.policies, "policy", name)?;
    if !policy.versions.contains_key(&version) {
        return refuse(Kind::NotFound, format!("policy {name} has no version {version}"));
    }
    Ok(PolicyRecord::clone(policy))
}

fn create_version(fleet: &FleetView, now: Timestamp, name: &String, document: String, set_default: bool) -> Decided {
    let mut policy = PolicyRecord::clone(find(&fleet.policies, "policy", name)?);
    check_document(&document)?;
    if policy.versions.len() >= VERSIONS_MAX {
        let message =
            format!("policy {name} has {VERSIONS_MAX} versions, the most there can be: delete one of them first");
        return refuse(Kind::VersionsLimit, message);
    }
    let version = policy.next;
    policy.versions.insert(version, PolicyVersion { created: now, document });
    policy.next += 1;
    if set_default {
        policy.default = version;
    }
    let answer = FleetAnswer::PolicyVersion { policy: Arc::new(policy.clone()), version };
    Ok((vec![Change::Policy(policy)], answer))
}

fn delete(fleet: &FleetView, name: &String) -> Decided {
    let policy = find(&fleet.policies, "policy", name)?;
    if policy.versions.len() > 1 {
        let message = format!("policy {name} has other versions than the default: delete them first");
        return refuse(Kind::DeleteConflict, message);
    }
    let certificates = fleet.certificates.values().filter(|c| c.policies.contains(name)).map(|c| c.id.to_string());
    let groups = fleet.groups.values().filter(|g| g.policies.contains(name)).map(|g| g.name.clone());
    if let Some(target) = certificates.chain(groups).next() {
        let message = format!("policy {name} is attached to {target}: detach it first");
        return refuse(Kind::DeleteConflict, message);
    }
    Ok((vec![Change::RemovePolicy(name.clone())], FleetAnswer::Done))
}

/// Changes the list of a target's policies; `change` says whether it did.
fn retarget(
    fleet: &FleetView,
    target: &PolicyTarget,
    change: impl FnOnce(&mut Vec<String>) -> Result<bool, FleetError>,
) -> Decided {
    let (changed, change) = match target {
        PolicyTarget::Certificate(id) => {
            let mut certificate = Certificate::clone(find(&fleet.certificates, "certificate", id)?);
            (change(&mut certificate.policies)?, Change::Certificate(certificate))
        }
        PolicyTarget::Group(name) => {
            let mut group = ThingGroup::clone(find(&fleet.groups, "thing group", name)?);
            (change(&mut group.policies)?, Change::Group(group))
        }
    };
    Ok((if changed { vec![change] } else { Vec::new() }, FleetAnswer::Done))
}
