//! Devices' certificates: issued here, signed on request, or registered.

use super::{CertificateFacts, Decided, Kind, facts_of, find, refuse};
use crate::{
    authority::{Authority, AuthorityError},
    registry::Change,
};
use kilter_core::{
    CaCertificate, Certificate, CertificateId, CertificateStatus, FleetView, Timestamp,
    ports::{
        control::VALID_HOURS_DEFAULT,
        fleet::{FleetAnswer, FleetChange, FleetError},
    },
};
use std::sync::Arc;

/// The common name of certificates that are not made for a thing, as AWS names them.
const COMMON_NAME: &str = "Kilter IoT Certificate";
/// A signing request has one or two thousand bytes.
const CSR_BYTES_MAX: usize = 16 * 1024;

pub fn decide(authority: &Authority, fleet: &FleetView, now: Timestamp, change: FleetChange) -> Decided {
    let end = now.plus_seconds(i64::from(VALID_HOURS_DEFAULT) * 3_600);
    match change {
        FleetChange::IssueCertificate { active } => {
            let issued = authority.issue_client(COMMON_NAME, now, end).map_err(internal)?;
            let facts = facts_of(&issued.certificate_pem).map_err(unreadable)?;
            let certificate = entry(&facts, issued.certificate_pem, status(active), None, now);
            let answer = FleetAnswer::Issued {
                certificate: Arc::new(certificate.clone()),
                private_key_pem: issued.private_key_pem,
                public_key_pem: issued.public_key_pem,
            };
            Ok((vec![Change::Certificate(certificate)], answer))
        }
        FleetChange::CertificateFromCsr { csr_pem, active } => {
            if csr_pem.len() > CSR_BYTES_MAX {
                return refuse(Kind::Invalid, format!("a signing request has at most {CSR_BYTES_MAX} bytes"));
            }
            let (pem, _) = authority.sign_request(&csr_pem, now, end).map_err(|error| {
                FleetError::new(Kind::Invalid, format!("the signing request cannot be used: {}", cause(&error)))
            })?;
            let facts = facts_of(&pem).map_err(unreadable)?;
            made(entry(&facts, pem, status(active), None, now))
        }
        FleetChange::RegisterCertificate { pem, ca_pem, status } => {
            let facts = readable(&pem)?;
            let authority = issuer(fleet, &facts, ca_pem.as_deref())?;
            if !authority.active {
                let message = format!("CA certificate {} is not ACTIVE: activate it first", authority.id);
                return refuse(Kind::CertificateState, message);
            }
            register(fleet, &facts, pem, status, Some(authority.id.clone()), now)
        }
        FleetChange::RegisterCertificateWithoutCa { pem, status } => {
            let facts = readable(&pem)?;
            register(fleet, &facts, pem, status, None, now)
        }
        FleetChange::SetCertificateStatus { certificate, status } => set_status(fleet, now, &certificate, status),
        FleetChange::DeleteCertificate { certificate, force } => delete(fleet, &certificate, force),
        other => unreachable!("{other:?} is no change of a certificate: `decide` of the fleet sends only these"),
    }
}

fn status(active: bool) -> CertificateStatus {
    if active { CertificateStatus::Active } else { CertificateStatus::Inactive }
}

fn internal(error: AuthorityError) -> FleetError {
    tracing::error!(error = &error as &dyn std::error::Error, "a certificate could not be issued");
    FleetError::new(Kind::Internal, error.to_string())
}

fn cause(error: &AuthorityError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn unreadable(why: &'static str) -> FleetError {
    FleetError::new(Kind::Internal, format!("the certificate just made cannot be read: {why}"))
}

pub fn readable(pem: &str) -> Result<CertificateFacts, FleetError> {
    facts_of(pem)
        .map_err(|why| FleetError::new(Kind::CertificateValidation, format!("the certificate cannot be used: {why}")))
}

pub fn entry(
    facts: &CertificateFacts,
    pem: String,
    status: CertificateStatus,
    authority: Option<CertificateId>,
    now: Timestamp,
) -> Certificate {
    Certificate {
        id: facts.id.clone(),
        status,
        created: now,
        not_after: facts.not_after,
        things: Vec::new(),
        policies: Vec::new(),
        not_before: Some(facts.not_before),
        pem: Some(pem),
        authority,
        modified: Some(now),
    }
}

fn made(certificate: Certificate) -> Decided {
    Ok((vec![Change::Certificate(certificate.clone())], FleetAnswer::Certificate(Arc::new(certificate))))
}

/// The registered authority that signed a certificate.
pub fn issuer_of<'a>(fleet: &'a FleetView, facts: &CertificateFacts) -> Option<&'a Arc<CaCertificate>> {
    fleet.authorities.values().find(|ca| facts_of(&ca.pem).is_ok_and(|ca| facts.signed_by(&ca)))
}

fn issuer<'a>(
    fleet: &'a FleetView,
    facts: &CertificateFacts,
    ca_pem: Option<&str>,
) -> Result<&'a Arc<CaCertificate>, FleetError> {
    let named = match ca_pem {
        None => issuer_of(fleet, facts),
        Some(pem) => {
            let named = readable(pem)?;
            fleet.authorities.get(&named.id).filter(|_| facts.signed_by(&named))
        }
    };
    named.ok_or_else(|| {
        let message =
            "no registered CA certificate signed the certificate: register its CA, or register it without one";
        FleetError::new(Kind::CertificateValidation, message)
    })
}

fn register(
    fleet: &FleetView,
    facts: &CertificateFacts,
    pem: String,
    status: CertificateStatus,
    authority: Option<CertificateId>,
    now: Timestamp,
) -> Decided {
    if !matches!(status, CertificateStatus::Active | CertificateStatus::Inactive) {
        return refuse(Kind::Invalid, format!("a certificate is registered ACTIVE or INACTIVE, not {status}"));
    }
    if facts.is_authority {
        return refuse(Kind::CertificateValidation, "the certificate is an authority's, not a device's");
    }
    if fleet.certificates.contains_key(&facts.id) {
        return refuse(Kind::AlreadyExists, format!("certificate {} is registered already", facts.id));
    }
    made(entry(facts, pem, status, authority, now))
}

fn set_status(fleet: &FleetView, now: Timestamp, id: &CertificateId, status: CertificateStatus) -> Decided {
    let mut certificate = Certificate::clone(find(&fleet.certificates, "certificate", id)?);
    if status == CertificateStatus::Pending {
        return refuse(
            Kind::Invalid,
            "a certificate cannot be made PENDING_ACTIVATION: only registering itself does that",
        );
    }
    if certificate.status == CertificateStatus::Revoked && status != CertificateStatus::Revoked {
        return refuse(Kind::CertificateState, format!("certificate {id} is REVOKED, which is final: issue a new one"));
    }
    certificate.status = status;
    certificate.modified = Some(now);
    tracing::info!(certificate = %id, %status, "certificate status changed");
    made(certificate)
}

fn delete(fleet: &FleetView, id: &CertificateId, force: bool) -> Decided {
    let certificate = find(&fleet.certificates, "certificate", id)?;
    if certificate.status == CertificateStatus::Active {
        let message = format!("certificate {id} must be deactivated (it is ACTIVE) before it is deleted");
        return refuse(Kind::CertificateState, message);
    }
    if let Some(thing) = certificate.things.first() {
        let message = format!("thing {thing} must be detached from certificate {id} before it is deleted");
        return refuse(Kind::DeleteConflict, message);
    }
    if let Some(policy) = certificate.policies.first().filter(|_| !force) {
        let message = format!("policy {policy} must be detached from certificate {id} before it is deleted");
        return refuse(Kind::DeleteConflict, message);
    }
    Ok((vec![Change::RemoveCertificate(id.clone())], FleetAnswer::Done))
}
