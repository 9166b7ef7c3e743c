//! Certificates of devices and of customers' authorities.

use super::{Request, Tag, certificate_id, invalid, not_found, present, tags};
use crate::{Answer, AwsError, json::seconds};
use kilter_core::{
    CaCertificate, Certificate, CertificateStatus,
    ports::fleet::{FleetAnswer, FleetChange},
};
use serde::Deserialize;
use serde_json::{Value, json};

const PAGE: (&str, &str) = ("marker", "pageSize");

pub fn answer(request: &Request<'_>, name: &str) -> Option<Result<Answer, AwsError>> {
    Some(match name {
        "CreateKeysAndCertificate" => create_keys(request),
        "CreateCertificateFromCsr" => from_csr(request),
        "RegisterCertificate" | "RegisterCertificateWithoutCA" => register(request, name),
        "DescribeCertificate" => describe(request),
        "ListCertificates" | "ListCertificatesByCA" => list(request),
        "UpdateCertificate" => update(request),
        "DeleteCertificate" => delete(request),
        "RegisterCACertificate" => register_ca(request),
        "DescribeCACertificate" => describe_ca(request),
        "ListCACertificates" => list_ca(request),
        "UpdateCACertificate" => update_ca(request),
        "DeleteCACertificate" => {
            request.certificate().and_then(|authority| request.done(FleetChange::DeleteAuthority(authority)))
        }
        "GetRegistrationCode" => code(request),
        "DeleteRegistrationCode" => request.done(FleetChange::DeleteRegistrationCode),
        _ => return None,
    })
}

fn unexpected() -> AwsError {
    AwsError::internal("a certificate was asked for, and something else was answered")
}

fn create_keys(request: &Request<'_>) -> Result<Answer, AwsError> {
    let active = request.flag("setAsActive")?;
    match request.change(FleetChange::IssueCertificate { active })? {
        FleetAnswer::Issued { certificate, private_key_pem, public_key_pem } => Ok(Answer::json(&json!({
            "certificateArn": request.arn("cert", &certificate.id),
            "certificateId": certificate.id.as_str(),
            "certificatePem": certificate.pem,
            "keyPair": { "PublicKey": public_key_pem, "PrivateKey": private_key_pem },
        }))),
        _ => Err(unexpected()),
    }
}

fn from_csr(request: &Request<'_>) -> Result<Answer, AwsError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Input {
        certificate_signing_request: String,
    }
    let input: Input = request.input()?;
    let active = request.flag("setAsActive")?;
    match request.change(FleetChange::CertificateFromCsr { csr_pem: input.certificate_signing_request, active })? {
        FleetAnswer::Certificate(certificate) => Ok(Answer::json(&json!({
            "certificateArn": request.arn("cert", &certificate.id),
            "certificateId": certificate.id.as_str(),
            "certificatePem": certificate.pem,
        }))),
        _ => Err(unexpected()),
    }
}

fn status(text: &str) -> Result<CertificateStatus, AwsError> {
    match text {
        "ACTIVE" => Ok(CertificateStatus::Active),
        "INACTIVE" => Ok(CertificateStatus::Inactive),
        "REVOKED" => Ok(CertificateStatus::Revoked),
        other => Err(invalid(format!("a certificate cannot be made {other:?}: use ACTIVE, INACTIVE or REVOKED"))),
    }
}

fn register(request: &Request<'_>, name: &str) -> Result<Answer, AwsError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Input {
        certificate_pem: String,
        ca_certificate_pem: Option<String>,
        status: Option<String>,
    }
    let input: Input = request.input()?;
    let wanted = match input.status.as_deref() {
        Some(text) => status(text)?,
        None if request.flag("setAsActive")? => CertificateStatus::Active,
        None => CertificateStatus::Inactive,
    };
    let pem = input.certificate_pem;
    let change = match name {
        "RegisterCertificate" => {
            FleetChange::RegisterCertificate { pem, ca_pem: input.ca_certificate_pem, status: wanted }
        }
        _ => FleetChange::RegisterCertificateWithoutCa { pem, status: wanted },
    };
    match request.change(change)? {
        FleetAnswer::Certificate(certificate) => Ok(Answer::json(&json!({
            "certificateArn": request.arn("cert", &certificate.id),
            "certificateId": certificate.id.as_str(),
        }))),
        _ => Err(unexpected()),
    }
}

fn shown(request: &Request<'_>, certificate: &Certificate) -> Value {
    json!({
        "certificateArn": request.arn("cert", &certificate.id),
        "certificateId": certificate.id.as_str(),
        "status": certificate.status.to_string(),
        "certificateMode": if certificate.authority.is_none() { "SNI_ONLY" } else { "DEFAULT" },
        "creationDate": seconds(certificate.created),
    })
}

fn describe(request: &Request<'_>) -> Result<Answer, AwsError> {
    let (view, id) = (request.view(), request.certificate()?);
    let found = view.certificates.get(&id).ok_or_else(|| not_found(format!("certificate {id} does not exist")))?;
    let mut body = shown(request, found);
    body["ownedBy"] = json!(request.call.account);
    body["lastModifiedDate"] = seconds(found.modified.unwrap_or(found.created));
    body["customerVersion"] = json!(1);
    body["validity"] = json!({ "notBefore": seconds(found.not_before.unwrap_or(found.created)), "notAfter": seconds(found.not_after) });
    body["certificatePem"] = json!(found.pem);
    body["caCertificateId"] = json!(found.authority.as_ref().map(|id| id.as_str()));
    Ok(Answer::json(&json!({ "certificateDescription": present(body) })))
}

fn list(request: &Request<'_>) -> Result<Answer, AwsError> {
    let view = request.view();
    let ca = request.parts.first().map(|id| certificate_id(id)).transpose()?;
    let all = view.certificates.values().filter(|found| ca.is_none() || found.authority == ca);
    let (page, next) = request.page(PAGE, all, |found| found.id.as_str())?;
    let certificates: Vec<Value> = page.into_iter().map(|found| shown(request, found)).collect();
    Ok(Answer::json(&present(json!({ "certificates": certificates, "nextMarker": next }))))
}

fn update(request: &Request<'_>) -> Result<Answer, AwsError> {
    let status = status(request.call.query("newStatus").unwrap_or(""))?;
    request.done(FleetChange::SetCertificateStatus { certificate: request.certificate()?, status })
}

fn delete(request: &Request<'_>) -> Result<Answer, AwsError> {
    let force = request.flag("forceDelete")?;
    request.done(FleetChange::DeleteCertificate { certificate: request.certificate()?, force })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Registration {
    template_body: Option<String>,
}

fn register_ca(request: &Request<'_>) -> Result<Answer, AwsError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Input {
        ca_certificate: String,
        verification_certificate: Option<String>,
        registration_config: Option<Registration>,
        #[serde(default)]
        tags: Vec<Tag>,
        certificate_mode: Option<String>,
    }
    let input: Input = request.input()?;
    let sni_only = input.certificate_mode.as_deref() == Some("SNI_ONLY");
    if input.verification_certificate.is_none() && !sni_only {
        return Err(invalid("verificationCertificate is missing: only certificateMode SNI_ONLY goes without"));
    }
    let change = FleetChange::RegisterAuthority {
        ca_pem: input.ca_certificate,
        verification_pem: input.verification_certificate,
        active: request.flag("setAsActive")?,
        auto_registration: request.flag("allowAutoRegistration")?,
        template: input.registration_config.and_then(|config| config.template_body),
        tags: tags(input.tags),
    };
    match request.change(change)? {
        FleetAnswer::Authority(ca) => Ok(Answer::json(&json!({
            "certificateArn": request.arn("cacert", &ca.id),
            "certificateId": ca.id.as_str(),
        }))),
        _ => Err(unexpected()),
    }
}

fn shown_ca(request: &Request<'_>, ca: &CaCertificate) -> Value {
    json!({
        "certificateArn": request.arn("cacert", &ca.id),
        "certificateId": ca.id.as_str(),
        "status": if ca.active { "ACTIVE" } else { "INACTIVE" },
        "creationDate": seconds(ca.created),
    })
}

fn describe_ca(request: &Request<'_>) -> Result<Answer, AwsError> {
    let (view, id) = (request.view(), request.certificate()?);
    let ca = view.authorities.get(&id).ok_or_else(|| not_found(format!("CA certificate {id} does not exist")))?;
    let mut body = shown_ca(request, ca);
    body["certificatePem"] = json!(ca.pem);
    body["ownedBy"] = json!(request.call.account);
    body["autoRegistrationStatus"] = json!(if ca.auto_registration { "ENABLE" } else { "DISABLE" });
    body["lastModifiedDate"] = seconds(ca.modified);
    body["customerVersion"] = json!(ca.version);
    body["validity"] = json!({ "notBefore": seconds(ca.not_before), "notAfter": seconds(ca.not_after) });
    let config = ca.template.as_ref().map(|template| json!({ "templateBody": template }));
    Ok(Answer::json(&present(json!({ "certificateDescription": body, "registrationConfig": config }))))
}

fn list_ca(request: &Request<'_>) -> Result<Answer, AwsError> {
    let view = request.view();
    let (page, next) = request.page(PAGE, view.authorities.values(), |ca| ca.id.as_str())?;
    let all: Vec<Value> = page.into_iter().map(|ca| shown_ca(request, ca)).collect();
    Ok(Answer::json(&present(json!({ "certificates": all, "nextMarker": next }))))
}

fn update_ca(request: &Request<'_>) -> Result<Answer, AwsError> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Input {
        registration_config: Option<Registration>,
        remove_auto_registration: bool,
    }
    let input: Input = request.input()?;
    let active = match request.call.query("newStatus") {
        None => None,
        Some("ACTIVE") => Some(true),
        Some("INACTIVE") => Some(false),
        Some(other) => return Err(invalid(format!("newStatus is {other:?}, not ACTIVE or INACTIVE"))),
    };
    let auto_registration = match request.call.query("newAutoRegistrationStatus") {
        _ if input.remove_auto_registration => Some(false),
        None => None,
        Some("ENABLE") => Some(true),
        Some("DISABLE") => Some(false),
        Some(other) => return Err(invalid(format!("newAutoRegistrationStatus is {other:?}, not ENABLE or DISABLE"))),
    };
    let template = match input.registration_config {
        _ if input.remove_auto_registration => Some(None),
        Some(config) => Some(config.template_body),
        None => None,
    };
    let authority = request.certificate()?;
    request.done(FleetChange::UpdateAuthority { authority, active, auto_registration, template })
}

fn code(request: &Request<'_>) -> Result<Answer, AwsError> {
    match request.change(FleetChange::RegistrationCode)? {
        FleetAnswer::Code(code) => Ok(Answer::json(&json!({ "registrationCode": &*code }))),
        _ => Err(unexpected()),
    }
}
