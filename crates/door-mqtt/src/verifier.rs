//! Whose certificates a handshake lets through: the installation's own authority's, those of authorities that
//! customers registered, and what an operator registered without one. Whether a certificate may then do anything is
//! asked of the registry.

use kilter_core::ports::ingest::Ingest;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{
        VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

pub struct FleetVerifier {
    own: Arc<dyn ClientCertVerifier>,
    ingest: Arc<dyn Ingest>,
    provider: Arc<CryptoProvider>,
    customers: Mutex<Customers>,
}

/// The registered authorities as of a revision of the registry; `None`: there are none.
struct Customers {
    revision: Option<u64>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl fmt::Debug for FleetVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetVerifier")
    }
}

impl FleetVerifier {
    pub fn new(
        own: Arc<RootCertStore>,
        ingest: Arc<dyn Ingest>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let own = WebPkiClientVerifier::builder_with_provider(own, Arc::clone(&provider)).build()?;
        let customers = Mutex::new(Customers { revision: None, verifier: None });
        Ok(Self { own, ingest, provider, customers })
    }

    fn customers(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        let revision = self.ingest.revision();
        let mut known = self.customers.lock().unwrap_or_else(PoisonError::into_inner);
        if known.revision != Some(revision) {
            let mut roots = RootCertStore::empty();
            for der in self.ingest.authorities() {
                if let Err(error) = roots.add(CertificateDer::from(der)) {
                    tracing::warn!(%error, "MQTT: a registered CA certificate cannot be used");
                }
            }
            let verifier = (!roots.is_empty())
                .then(|| WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&self.provider)).build())
                .and_then(Result::ok);
            *known = Customers { revision: Some(revision), verifier };
        }
        known.verifier.clone()
    }
}

impl ClientCertVerifier for FleetVerifier {
    /// None: a device shows the certificate that it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let own = self.own.verify_client_cert(end_entity, intermediates, now);
        // Another authority's, perhaps one of the same name: the one that was here before.
        let foreign =
            |why: &CertificateError| matches!(why, CertificateError::UnknownIssuer | CertificateError::BadSignature);
        if !matches!(&own, Err(Error::InvalidCertificate(why)) if foreign(why)) {
            return own;
        }
        if self.ingest.vouches_for(end_entity) {
            return Ok(ClientCertVerified::assertion());
        }
        match self.customers() {
            Some(customers) => customers.verify_client_cert(end_entity, intermediates, now),
            None => own,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.own.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.own.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.own.supported_verify_schemes()
    }
}
