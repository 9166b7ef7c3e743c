//! Customers' certificate authorities: registered against a proof that their key is held.

use super::{Decided, Kind, certificates::readable, check_tags, find, refuse};
use crate::registry::Change;
use kilter_core::{
    CaCertificate, FleetView, Tags, Timestamp,
    ports::fleet::{FleetAnswer, FleetChange, FleetError},
};
use std::sync::Arc;

/// Random bytes of a registration code; AWS's has 64 hexadecimal digits.
const CODE_BYTES: usize = 32;
/// Registered authorities: each is a trust anchor that every handshake may have to try.
const AUTHORITIES_MAX: usize = 100;

pub fn decide(fleet: &FleetView, now: Timestamp, change: FleetChange) -> Decided {
    match change {
        FleetChange::RegistrationCode => code(fleet),
        FleetChange::DeleteRegistrationCode => Ok((vec![Change::RemoveRegistrationCode], FleetAnswer::Done)),
        FleetChange::RegisterAuthority { ca_pem, verification_pem, active, auto_registration, template, tags } => {
            let proof = verification_pem.as_deref();
            let mut made = register(fleet, now, ca_pem, proof, tags)?;
            (made.active, made.auto_registration, made.template) = (active, auto_registration, template);
            answer(made)
        }
        FleetChange::UpdateAuthority { authority, active, auto_registration, template } => {
            let mut ca = CaCertificate::clone(find(&fleet.authorities, "CA certificate", &authority)?);
            ca.active = active.unwrap_or(ca.active);
            ca.auto_registration = auto_registration.unwrap_or(ca.auto_registration);
            ca.template = template.unwrap_or(ca.template);
            ca.modified = now;
            ca.version += 1;
            answer(ca)
        }
        FleetChange::DeleteAuthority(authority) => {
            if find(&fleet.authorities, "CA certificate", &authority)?.active {
                let message = format!("CA certificate {authority} is ACTIVE: make it INACTIVE before deleting it");
                return refuse(Kind::CertificateState, message);
            }
            Ok((vec![Change::RemoveAuthority(authority)], FleetAnswer::Done))
        }
        other => unreachable!("{other:?} is no change of an authority: `decide` of the fleet sends only these"),
    }
}

fn answer(ca: CaCertificate) -> Decided {
    if let Some(template) = &ca.template {
        crate::provisioning::Template::parse(template).map_err(|why| {
            FleetError::new(Kind::Invalid, format!("the provisioning template cannot be used: {why}"))
        })?;
    }
    Ok((vec![Change::Authority(ca.clone())], FleetAnswer::Authority(Arc::new(ca))))
}

fn code(fleet: &FleetView) -> Decided {
    if let Some(code) = &fleet.registration_code {
        return Ok((Vec::new(), FleetAnswer::Code(code.clone())));
    }
    let mut bytes = [0u8; CODE_BYTES];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| FleetError::new(Kind::Internal, "no random bytes from the operating system"))?;
    let code: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((vec![Change::RegistrationCode(code.clone())], FleetAnswer::Code(code.into())))
}

fn register(
    fleet: &FleetView,
    now: Timestamp,
    pem: String,
    proof: Option<&str>,
    tags: Tags,
) -> Result<CaCertificate, FleetError> {
    check_tags(&tags)?;
    let facts = readable(&pem)?;
    if !facts.is_authority {
        let message = "the CA certificate is not an authority's: its basic constraints do not say CA:TRUE";
        return refuse(Kind::CertificateValidation, message);
    }
    if fleet.authorities.contains_key(&facts.id) {
        return refuse(Kind::AlreadyExists, format!("CA certificate {} is registered already", facts.id));
    }
    if fleet.authorities.len() >= AUTHORITIES_MAX {
        return refuse(Kind::Limit, format!("at most {AUTHORITIES_MAX} CA certificates can be registered"));
    }
    if let Some(proof) = proof {
        let proof = readable(proof)?;
        if !proof.signed_by(&facts) {
            let message = "the verification certificate is not signed by the CA certificate's key";
            return refuse(Kind::CertificateValidation, message);
        }
        let names = proof.subject.get("CommonName");
        let code = fleet.registration_code.as_deref();
        if code.is_none() || names.and_then(|names| names.first()).map(String::as_str) != code {
            let message = "the verification certificate's common name is not the registration code: get it with get-registration-code";
            return refuse(Kind::RegistrationCode, message);
        }
    }
    Ok(CaCertificate {
        id: facts.id,
        pem,
        active: false,
        auto_registration: false,
        template: None,
        created: now,
        modified: now,
        not_before: facts.not_before,
        not_after: facts.not_after,
        version: 1,
        tags,
    })
}
