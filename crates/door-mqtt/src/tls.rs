//! TLS 1.2 and 1.3 with certificates on both sides, and what went wrong in words.

use crate::verifier::FleetVerifier;
use kilter_core::{
    CertificateId, Timestamp,
    ports::{clock::Clock, ingest::Ingest},
    time_in_words,
};
use rustls::{
    ClientConfig, Error as TlsError, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::NoServerSessionStorage,
    time_provider::TimeProvider,
};
use std::{fmt, io, sync::Arc, time::Duration};

/// PEM text: whose certificates are let in, and who we are.
#[derive(Clone)]
pub struct TlsIdentity {
    pub ca_pem: String,
    pub server_cert_pem: String,
    pub server_key_pem: String,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    #[error("{what} is not PEM that can be read; write the installation's certificates anew or name the right file")]
    Pem {
        what: &'static str,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("{0} holds no certificate")]
    Empty(&'static str),
    #[error("{what} cannot be used: {source}")]
    Unusable { what: &'static str, source: TlsError },
    #[error("the CA certificate cannot be used to check clients: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// rustls asks for the time through this: certificates expire by Kilter's clock and no other.
struct ClockTime(Arc<dyn Clock>);

impl fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClockTime")
    }
}

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let nanos = u64::try_from(self.0.now().as_nanos()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(nanos)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|source| TlsSetupError::Pem { what, source })?;
    if found.is_empty() { Err(TlsSetupError::Empty(what)) } else { Ok(found) }
}

fn private_key(pem: &str, what: &'static str) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|source| TlsSetupError::Pem { what, source })
}

fn roots(pem: &str) -> Result<Arc<RootCertStore>, TlsSetupError> {
    const WHAT: &str = "the CA certificate";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, WHAT)? {
        roots.add(certificate).map_err(|source| TlsSetupError::Unusable { what: WHAT, source })?;
    }
    Ok(Arc::new(roots))
}

/// What a client may name (RFC 7301): AWS IoT's word for MQTT with client certificates, and the registered one. A client
/// that names nothing is served as well.
const MQTT_ALPN: [&[u8]; 2] = [b"x-amzn-mqtt-ca", b"mqtt"];

/// Adds the protocol that WebSocket begins with.
pub fn with_websocket(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Arc::new(config)
}

/// Whether the client has named MQTT itself.
pub fn speaks_mqtt(alpn: Option<&[u8]>) -> bool {
    alpn.is_some_and(|name| MQTT_ALPN.contains(&name))
}

pub fn server_config(
    identity: &TlsIdentity,
    clock: Arc<dyn Clock>,
    ingest: Arc<dyn Ingest>,
) -> Result<Arc<ServerConfig>, TlsSetupError> {
    const WHAT: &str = "the server's certificate and key";
    let provider = provider();
    let verifier = FleetVerifier::new(roots(&identity.ca_pem)?, ingest, Arc::clone(&provider))?;
    let chain = certificates(&identity.server_cert_pem, "the server's certificate")?;
    let key = private_key(&identity.server_key_pem, "the server's private key")?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(ClockTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .and_then(|builder| builder.with_client_cert_verifier(Arc::new(verifier)).with_single_cert(chain, key))
        .map_err(|source| TlsSetupError::Unusable { what: WHAT, source })?;
    // Nothing is resumed: every connection proves anew that it holds the key, and nothing is kept per client.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = MQTT_ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

pub fn client_config(ca_pem: &str, cert_pem: &str, key_pem: &str) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let chain = certificates(cert_pem, "the client's certificate")?;
    let key = private_key(key_pem, "the client's private key")?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map(|builder| {
            builder.with_root_certificates(roots(ca_pem)?).with_client_auth_cert(chain, key).map_err(unusable)
        })
        .map_err(unusable)?;
    config.map(Arc::new)
}

fn unusable(source: TlsError) -> TlsSetupError {
    TlsSetupError::Unusable { what: "the client's certificate and key", source }
}

/// A certificate's id is the SHA-256 of its DER form; computed here only for what the registry does not know.
pub fn certificate_id(der: &[u8]) -> Option<CertificateId> {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, der);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    CertificateId::new(&hex).ok()
}

/// Why a handshake failed, for the operator's log.
pub fn handshake_failure(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "the client closed the connection during the TLS handshake".into(),
            _ => format!("the connection broke during the TLS handshake: {error}"),
        };
    };
    match tls {
        TlsError::NoCertificatesPresented => "the client presented no certificate".into(),
        TlsError::InvalidCertificate(why) => {
            format!("the client's certificate is not valid: {}", certificate_words(why))
        }
        TlsError::PeerIncompatible(why) => {
            format!("no protocol version or cipher in common; use TLS 1.2 or 1.3 ({why:?})")
        }
        TlsError::InvalidMessage(why) => format!("what came is not a TLS handshake ({why:?})"),
        TlsError::AlertReceived(alert) => format!("the client refused our certificate or our terms (alert {alert:?})"),
        other => format!("the TLS handshake failed: {other}"),
    }
}

fn certificate_words(why: &rustls::CertificateError) -> String {
    use rustls::CertificateError as E;
    match why {
        E::UnknownIssuer => {
            "its issuer is unknown: it is neither this installation's CA nor a registered one, and it is not registered \
             itself"
                .into()
        }
        E::BadSignature => "its signature is wrong, it is from another CA of the same name or forged".into(),
        E::ExpiredContext { time, not_after } => {
            let ago = time.as_secs().saturating_sub(not_after.as_secs());
            format!("it has expired, {} ago by this server's clock ({})", time_in_words(ago), moment(*time))
        }
        E::NotValidYetContext { time, not_before } => {
            let ahead = not_before.as_secs().saturating_sub(time.as_secs());
            let (ahead, now) = (time_in_words(ahead), moment(*time));
            format!("it is not valid yet, for {ahead} by this server's clock ({now}): check both clocks")
        }
        E::Expired => "it has expired".into(),
        E::NotValidYet => "it is not valid yet".into(),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "it is not for TLS clients".into(),
        E::BadEncoding => "it cannot be parsed".into(),
        other => format!("{other}"),
    }
}

fn moment(time: UnixTime) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
