//! Just-in-time registration: what becomes of a certificate that nobody knows but that a registered authority issued.

use crate::{
    fleet::{CertificateFacts, certificate_entry, issuer_of, uuid_of},
    policy::Policy,
    provisioning::{Provision, Template},
    registry::{Change, State, new_policy},
};
use kilter_core::{CaCertificate, Certificate, CertificateStatus, Tags, Thing, Timestamp};

/// What to write down, and the certificate as it is then.
#[derive(Debug)]
pub struct Registered {
    pub changes: Vec<Change>,
    pub certificate: Certificate,
}

/// Why nothing was registered, for the operator.
pub fn decide(state: &State, now: Timestamp, facts: &CertificateFacts) -> Result<Registered, String> {
    let fleet = &*state.fleet;
    let ca = issuer_of(fleet, facts)
        .ok_or("it is not registered, and no registered CA certificate signed it: register one of the two")?;
    if !ca.active {
        return Err(format!("it is not registered, and its CA certificate {} is INACTIVE", ca.id));
    }
    if !ca.auto_registration {
        return Err(format!("it is not registered, and auto-registration of its CA certificate {} is off", ca.id));
    }
    if facts.not_after < now || facts.not_before > now {
        return Err(format!("it is valid from {} to {}, and now is {now}", facts.not_before, facts.not_after));
    }
    let pem = pem::encode(&pem::Pem::new("CERTIFICATE", facts.der.clone()));
    let mut certificate = certificate_entry(facts, pem, CertificateStatus::Pending, Some(ca.id.clone()), now);
    let mut changes = Vec::new();
    if let Some(template) = &ca.template {
        changes = provision(state, now, facts, template, &mut certificate).map_err(|why| {
            format!("the provisioning template of CA certificate {} cannot be carried out: {why}", ca.id)
        })?;
    }
    changes.push(Change::Certificate(certificate.clone()));
    Ok(Registered { changes, certificate })
}

fn provision(
    state: &State,
    now: Timestamp,
    facts: &CertificateFacts,
    template: &str,
    certificate: &mut Certificate,
) -> Result<Vec<Change>, String> {
    let Provision { thing, status, policies, documents } = Template::parse(template)?.fill(facts)?;
    let fleet = &*state.fleet;
    let mut changes = Vec::new();
    certificate.status = status;
    for name in policies {
        if !fleet.policies.contains_key(&name) {
            return Err(format!("policy {name} does not exist"));
        }
        certificate.policies.push(name);
    }
    for document in documents {
        Policy::parse(&document).map_err(|error| error.to_string())?;
        // The same document is the same policy, however many devices come with it.
        let name = format!("provisioned-{}", uuid_of(&[&document]));
        if !fleet.policies.contains_key(&name) {
            changes.push(Change::Policy(new_policy(name.clone(), document, now, Tags::new())));
        }
        certificate.policies.push(name);
    }
    if let Some(wanted) = thing {
        if let Some(missing) = wanted.groups.iter().find(|group| !fleet.groups.contains_key(*group)) {
            return Err(format!("thing group {missing} does not exist"));
        }
        let mut thing = match fleet.things.get(&wanted.name) {
            Some(there) => Thing::clone(there),
            None => crate::fleet::new_thing(fleet, now, wanted.name, wanted.thing_type, wanted.attributes)
                .map_err(|error| error.message)?,
        };
        thing.groups.extend(wanted.groups);
        thing.certificates.push(certificate.id.clone());
        certificate.things.push(thing.thing.clone());
        changes.push(Change::Thing(thing));
    }
    Ok(changes)
}

/// What is published on `$aws/events/certificates/registered/<CA certificate's id>`.
pub fn event(
    certificate: &Certificate,
    ca: &CaCertificate,
    account: &str,
    now: Timestamp,
) -> (String, serde_json::Value) {
    let topic = format!("$aws/events/certificates/registered/{}", ca.id);
    let body = serde_json::json!({
        "certificateId": certificate.id.as_str(),
        "caCertificateId": ca.id.as_str(),
        "timestamp": now.as_nanos() / 1_000_000,
        "certificateStatus": certificate.status.to_string(),
        "awsAccountId": account,
        "certificateRegistrationTimestamp": (certificate.created.as_nanos() / 1_000_000).to_string(),
    });
    (topic, body)
}
