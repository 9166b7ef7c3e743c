//! The installation's own certificate authority: issues the server's certificate and one per thing.

use kilter_core::{CertificateId, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use std::{
    fmt::Write as _,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};
use x509_parser::parse_x509_certificate;

/// The authority itself and the server's certificate live as long as a plant does.
const AUTHORITY_VALID_DAYS: i64 = 20 * 365;
/// A clock that is a little behind must still accept what was just issued.
const BACKDATE_SECONDS: i64 = 3_600;

pub struct Authority(RwLock<Current>);

/// What it issues with, until it is replaced.
struct Current {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
}

/// A certificate with its keys, fresh from the authority.
pub struct IssuedCertificate {
    pub id: CertificateId,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub certificate_pem: String,
    /// PKCS#8.
    pub private_key_pem: String,
    pub public_key_pem: String,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("a certificate could not be made")]
    Issue(#[from] rcgen::Error),
    #[error("none of the CA certificates is that of the CA's key: put certificate and key of one authority together")]
    KeyMismatch,
    #[error("no random bytes from the operating system")]
    Random,
    #[error("the certificate's end {0} is out of range")]
    Validity(Timestamp),
}

impl Authority {
    /// Makes a new authority; answers it and its private key (PKCS#8 PEM), to be kept with mode 0600.
    pub fn create(name: &str, now: Timestamp) -> Result<(Self, String), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = params(name, now, now.plus_seconds(AUTHORITY_VALID_DAYS * 86_400))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_pem = params.self_signed(&key)?.pem();
        let key_pem = key.serialize_pem();
        Ok((Self(RwLock::new(Current { issuer: Issuer::new(params, key), ca_pem })), key_pem))
    }

    /// Of several CA certificates, the one of the key issues; all of them are handed to devices.
    pub fn load(ca_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key_pem)?;
        let public = key.subject_public_key_info();
        let certificates = pem::parse_many(ca_pem).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let own = certificates.iter().find(|certificate| {
            let parsed = parse_x509_certificate(certificate.contents());
            parsed.is_ok_and(|(_, certificate)| certificate.public_key().raw == public)
        });
        let own = own.ok_or(AuthorityError::KeyMismatch)?.contents();
        let issuer = Issuer::from_ca_cert_der(&own.into(), key)?;
        Ok(Self(RwLock::new(Current { issuer, ca_pem: ca_pem.to_owned() })))
    }

    fn current(&self) -> RwLockReadGuard<'_, Current> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Issues with `other` from now on.
    pub fn become_other(&self, other: Self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) =
            other.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    }

    pub fn ca_pem(&self) -> String {
        self.current().ca_pem.clone()
    }

    /// A server certificate for these DNS names and IP addresses.
    pub fn issue_server(&self, names: &[String], now: Timestamp) -> Result<IssuedCertificate, AuthorityError> {
        let end = now.plus_seconds(AUTHORITY_VALID_DAYS * 86_400 - 1);
        let mut params = params("kilter", now, end)?;
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => rcgen::SanType::IpAddress(address),
                Err(_) => rcgen::SanType::DnsName(name.as_str().try_into()?),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, now, end)
    }

    /// A client certificate; `name` becomes its common name, for people only: identity is the certificate itself.
    pub fn issue_client(
        &self,
        name: &str,
        now: Timestamp,
        end: Timestamp,
    ) -> Result<IssuedCertificate, AuthorityError> {
        let mut params = params(name, now, end)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, now, end)
    }

    /// A client certificate for the key of a signing request. Of the request only the subject and the key are taken:
    /// what else it asks for (to be an authority itself, to be a server) it does not get.
    pub fn sign_request(
        &self,
        csr_pem: &str,
        now: Timestamp,
        end: Timestamp,
    ) -> Result<(String, Timestamp), AuthorityError> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem)?;
        let mut own = params("", now, end)?;
        own.distinguished_name = std::mem::take(&mut request.params.distinguished_name);
        own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        own.use_authority_key_identifier_extension = true;
        request.params = own;
        Ok((request.signed_by(&self.current().issuer)?.pem(), now.plus_seconds(-BACKDATE_SECONDS)))
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        now: Timestamp,
        end: Timestamp,
    ) -> Result<IssuedCertificate, AuthorityError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.current().issuer)?;
        Ok(IssuedCertificate {
            id: certificate_id(certificate.der()),
            not_before: now.plus_seconds(-BACKDATE_SECONDS),
            not_after: end,
            certificate_pem: certificate.pem(),
            private_key_pem: key.serialize_pem(),
            public_key_pem: key.public_key_pem(),
        })
    }
}

/// The SHA-256 of the DER form: what identifies a certificate everywhere in Kilter (and in AWS IoT).
pub fn certificate_id(der: &[u8]) -> CertificateId {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    let mut hex = String::with_capacity(64);
    for byte in digest.as_ref() {
        let _ = write!(hex, "{byte:02x}");
    }
    CertificateId::new(&hex).expect("64 lower-case hexadecimal digits are a certificate id")
}

fn params(name: &str, now: Timestamp, end: Timestamp) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Kilter");
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.not_before = moment(now.plus_seconds(-BACKDATE_SECONDS))?;
    params.not_after = moment(end)?;
    let mut serial = [0u8; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| AuthorityError::Random)?;
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn moment(time: Timestamp) -> Result<time::OffsetDateTime, AuthorityError> {
    time::OffsetDateTime::from_unix_timestamp(time.as_nanos() / kilter_core::NANOS_PER_SECOND)
        .map_err(|_| AuthorityError::Validity(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_authority_issues_what_the_created_one_vouches_for() {
        let now = Timestamp::from_seconds(1_700_000_000);
        let (created, key_pem) = Authority::create("test authority", now).unwrap();
        let loaded = Authority::load(&created.ca_pem(), &key_pem).unwrap();
        let end = now.plus_seconds(3_600);
        let issued = loaded.issue_client("pump1", now, end).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(issued.certificate_pem.as_bytes()).unwrap();
        assert_eq!(certificate_id(&pem.contents), issued.id);
        let (_, ca) = x509_parser::pem::parse_x509_pem(created.ca_pem().as_bytes()).unwrap();
        let ca = ca.parse_x509().unwrap();
        let certificate = pem.parse_x509().unwrap();
        certificate.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(certificate.validity().not_after.timestamp(), 1_700_003_600);
        assert!(issued.private_key_pem.starts_with("-----BEGIN PRIVATE"), "PKCS#8");
        let other = loaded.issue_client("pump1", now, end).unwrap();
        assert_ne!(other.id, issued.id);
    }

    #[test]
    fn an_authority_is_that_of_its_key_and_may_become_another() {
        let now = Timestamp::from_seconds(1_700_000_000);
        let (old, _) = Authority::create("same name", now).unwrap();
        let (new, new_key) = Authority::create("same name", now).unwrap();
        assert!(matches!(Authority::load(&old.ca_pem(), &new_key), Err(AuthorityError::KeyMismatch)));
        let both = old.ca_pem() + &new.ca_pem();
        old.become_other(Authority::load(&both, &new_key).unwrap());
        assert_eq!(old.ca_pem(), both);
        let issued = old.issue_client("pump1", now, now.plus_seconds(60)).unwrap();
        let facts = |pem: &str| crate::fleet::facts_of(pem).unwrap();
        assert!(facts(&issued.certificate_pem).signed_by(&facts(&new.ca_pem())));
    }
}
