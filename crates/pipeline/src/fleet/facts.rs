//! What a certificate says about itself: RFC 5280, as far as policies and operators ask.

use crate::authority::certificate_id;
use kilter_core::{CertificateId, NANOS_PER_SECOND, Timestamp};
use std::collections::BTreeMap;
use x509_parser::{certificate::X509Certificate, pem::parse_x509_pem, prelude::FromDer, x509::X509Name};

/// Certificates larger than this are not looked at: a device's has one or two thousand bytes.
pub const PEM_BYTES_MAX: usize = 64 * 1024;

/// Attribute types of X.520 (and PKCS #9's and RFC 4519's) under the names that policy variables use.
const NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CommonName"),
    ("2.5.4.4", "Surname"),
    ("2.5.4.5", "SerialNumber"),
    ("2.5.4.6", "Country"),
    ("2.5.4.7", "Locality"),
    ("2.5.4.8", "State"),
    ("2.5.4.10", "Organization"),
    ("2.5.4.11", "OrganizationalUnit"),
    ("2.5.4.12", "Title"),
    ("2.5.4.42", "GivenName"),
    ("2.5.4.43", "Initials"),
    ("2.5.4.44", "GenerationQualifier"),
    ("2.5.4.46", "DistinguishedNameQualifier"),
    ("2.5.4.65", "Pseudonym"),
];

/// Names by attribute; an attribute may occur more than once.
pub type Name = BTreeMap<&'static str, Vec<String>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    pub id: CertificateId,
    pub der: Vec<u8>,
    pub subject: Name,
    pub issuer: Name,
    /// The issuer's name in DER, by which its certificate is found.
    pub issuer_raw: Vec<u8>,
    pub subject_raw: Vec<u8>,
    /// Lower-case hexadecimal without separators or leading zeros.
    pub serial: String,
    /// DNS names, e-mail addresses, URIs and IP addresses among the alternative names.
    pub alternative: BTreeMap<&'static str, Vec<String>>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub is_authority: bool,
}

fn name(name: &X509Name<'_>) -> Name {
    let mut all = Name::new();
    for attribute in name.iter_attributes() {
        let oid = attribute.attr_type().to_id_string();
        let known = NAMES.iter().find(|(known, _)| *known == oid);
        if let (Some((_, key)), Ok(value)) = (known, attribute.as_str()) {
            all.entry(key).or_default().push(value.to_owned());
        }
    }
    all
}

fn alternatives(certificate: &X509Certificate<'_>) -> BTreeMap<&'static str, Vec<String>> {
    use x509_parser::extensions::GeneralName as G;
    let mut all: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return all };
    for name in &extension.value.general_names {
        let (key, value) = match name {
            G::RFC822Name(text) => ("RFC822Name", (*text).to_owned()),
            G::DNSName(text) => ("DNSName", (*text).to_owned()),
            G::URI(text) => ("UniformResourceIdentifier", (*text).to_owned()),
            G::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                (Ok(v4), _) => ("IPAddress", std::net::IpAddr::from(v4).to_string()),
                (_, Ok(v6)) => ("IPAddress", std::net::IpAddr::from(v6).to_string()),
                _ => continue,
            },
            _ => continue,
        };
        all.entry(key).or_default().push(value);
    }
    all
}

impl CertificateFacts {
    pub fn of_der(der: &[u8]) -> Result<Self, &'static str> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| "it is not an X.509 certificate")?;
        if !rest.is_empty() {
            return Err("something follows the certificate");
        }
        let moment = |seconds: i64| Timestamp::from_nanos(seconds.saturating_mul(NANOS_PER_SECOND));
        let serial: String = certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            id: certificate_id(der),
            der: der.to_vec(),
            subject: name(certificate.subject()),
            issuer: name(certificate.issuer()),
            issuer_raw: certificate.issuer().as_raw().to_vec(),
            subject_raw: certificate.subject().as_raw().to_vec(),
            serial: serial.trim_start_matches('0').to_owned(),
            alternative: alternatives(&certificate),
            not_before: moment(certificate.validity().not_before.timestamp()),
            not_after: moment(certificate.validity().not_after.timestamp()),
            is_authority: certificate.is_ca(),
        })
    }

    /// Whether `authority` signed this certificate.
    pub fn signed_by(&self, authority: &Self) -> bool {
        if self.issuer_raw != authority.subject_raw {
            return false;
        }
        let parsed = (X509Certificate::from_der(&self.der), X509Certificate::from_der(&authority.der));
        let (Ok((_, own)), Ok((_, by))) = parsed else { return false };
        own.verify_signature(Some(by.public_key())).is_ok()
    }
}

/// Of a PEM with one certificate.
pub fn facts_of(pem: &str) -> Result<CertificateFacts, &'static str> {
    if pem.len() > PEM_BYTES_MAX {
        return Err("it is too large");
    }
    let (rest, block) = parse_x509_pem(pem.as_bytes()).map_err(|_| "it is not PEM")?;
    if block.label != "CERTIFICATE" {
        return Err("it is PEM, but not of a certificate");
    }
    if rest.iter().any(|byte| !byte.is_ascii_whitespace()) {
        return Err("something follows the certificate: give one certificate");
    }
    CertificateFacts::of_der(&block.contents)
}
