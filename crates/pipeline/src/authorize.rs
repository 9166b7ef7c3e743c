//! Whether a certificate may do something: its own policies and those of the groups that its thing is in, together.

use crate::{
    ingest::Site,
    policy::{Context, Decision, Policy, Request, ThingFacts, decide, resource_arn},
    registry::State,
};
use kilter_core::{Action, Certificate, Thing, ThingName, Timestamp, ports::fleet::PolicyVerdict};
use std::{net::IpAddr, sync::Arc};

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub certificate: &'a Certificate,
    pub client_id: &'a str,
    pub source: Option<IpAddr>,
    pub action: Action,
    /// A client id, a topic or a topic filter, as the action wants.
    pub subject: &'a str,
    pub now: Timestamp,
}

/// The answer, with what it was found from.
pub struct Verdict<'s> {
    pub decision: Decision,
    pub resource: String,
    /// In the order in which they were asked.
    pub policies: Vec<(&'s str, Arc<Policy>)>,
}

/// The thing that a client's certificate is attached to and that is named like the client id.
pub fn attached_thing<'s>(state: &'s State, certificate: &Certificate, client_id: &str) -> Option<&'s Arc<Thing>> {
    let name = ThingName::new(client_id).ok()?;
    state.fleet.things.get(&name).filter(|thing| thing.certificates.contains(&certificate.id))
}

/// Decides by the registry as it is; a policy that is gone allows nothing.
pub fn verdict<'s>(state: &'s State, site: &Site, asked: Asked<'s>) -> Verdict<'s> {
    let thing = attached_thing(state, asked.certificate, asked.client_id);
    let groups = thing.into_iter().flat_map(|thing| &thing.groups).flat_map(|group| state.fleet.lineage(group));
    let names = asked.certificate.policies.iter().chain(groups.flat_map(|group| &group.policies));
    let policies: Vec<(&str, Arc<Policy>)> =
        names.filter_map(|name| Some((name.as_str(), state.policy(name)?.clone()))).collect();
    let resource = resource_arn(&site.region, &site.account, asked.action, asked.subject);
    let certificate =
        policies.iter().any(|(_, policy)| policy.asks_certificate()).then(|| state.facts(asked.certificate));
    let context = Context {
        client_id: asked.client_id,
        thing: thing.map(|thing| ThingFacts {
            name: thing.thing.as_str(),
            thing_type: thing.thing_type.as_deref(),
            attributes: &thing.attributes,
        }),
        certificate: certificate.as_ref().and_then(|facts| facts.as_deref()),
        source: asked.source,
        now: asked.now,
    };
    let documents: Vec<Arc<Policy>> = policies.iter().map(|(_, policy)| policy.clone()).collect();
    let decision = decide(&documents, &Request { action: asked.action, resource: &resource, context });
    Verdict { decision, resource, policies }
}

impl Verdict<'_> {
    /// Why, in words.
    pub fn reason(&self) -> String {
        let statement = |policy: usize, statement: usize, does: &str| {
            let (name, sid) = match self.policies.get(policy) {
                Some((name, document)) => (*name, document.sid(statement)),
                None => ("", None),
            };
            let sid = sid.map(|sid| format!(" ({sid})")).unwrap_or_default();
            format!("statement {}{sid} of policy {name:?} {does} it", statement + 1)
        };
        match self.decision {
            Decision::Allowed { policy, statement: at } => statement(policy, at, "allows"),
            Decision::DeniedExplicitly { policy, statement: at } => statement(policy, at, "denies"),
            Decision::NotAllowed if self.policies.is_empty() => "no policy is attached to the certificate".to_owned(),
            Decision::NotAllowed => {
                let names: Vec<&str> = self.policies.iter().map(|(name, _)| *name).collect();
                format!("no attached policy allows it ({})", names.join(", "))
            }
        }
    }

    /// As an operator sees it.
    pub fn view(&self, state: &State) -> PolicyVerdict {
        let (decision, found) = match self.decision {
            Decision::Allowed { policy, statement } => ("allowed", Some((policy, statement))),
            Decision::DeniedExplicitly { policy, statement } => ("denied by a statement", Some((policy, statement))),
            Decision::NotAllowed => ("not allowed", None),
        };
        let found = found.and_then(|(policy, at)| self.policies.get(policy).map(|found| (found, at)));
        PolicyVerdict {
            allowed: matches!(self.decision, Decision::Allowed { .. }),
            decision: decision.to_owned(),
            resource: self.resource.clone(),
            policy: found.map(|((name, _), _)| (*name).to_owned()),
            version: found.and_then(|((name, _), _)| state.fleet.policies.get(*name)).map(|policy| policy.default),
            statement: found.map(|(_, at)| at + 1),
            sid: found.and_then(|((_, policy), at)| policy.sid(at)).map(str::to_owned),
            reason: self.reason(),
            policies: self.policies.iter().map(|(name, _)| (*name).to_owned()).collect(),
        }
    }
}
