//! Certificates: who gets in, who does not, and what the log says about it.

use crate::fixtures::{Authority, CA_NAME, House, logged};
use bytes::Bytes;
use kilter_door_mqtt::{MqttClient, QoS, Version, client::ClientError};
use kilter_mqtt::{ReasonCode, packet::Will};
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

#[tokio::test]
async fn a_foreign_or_expired_certificate_does_not_get_in() {
    let house = House::open().await;
    let foreign = Authority::new("another CA").client();
    let namesake = Authority::new(CA_NAME).client();
    let expired = house.authority.issue(ExtendedKeyUsagePurpose::ClientAuth, |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let early = house.authority.issue(ExtendedKeyUsagePurpose::ClientAuth, |params| {
        params.not_before = date_time_ymd(2190, 1, 1);
        params.not_after = date_time_ymd(2191, 1, 1);
    });
    let not_for_clients = house.authority.issue(ExtendedKeyUsagePurpose::ServerAuth, |_| {});
    for (credentials, words) in [
        (foreign, "its issuer is unknown"),
        (namesake, "from another CA of the same name"),
        (expired, "it has expired"),
        (early, "it is not valid yet"),
        (not_for_clients, "it is not for TLS clients"),
    ] {
        let options = house.options_as("dev-x", Version::V5, &credentials);
        assert!(MqttClient::connect(options).await.is_err());
        logged(&["127.0.0.1", "handshake", words]).await;
    }
}

fn without_certificate(house: &House, versions: &[&'static rustls::SupportedProtocolVersion]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(house.authority.pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn no_certificate_no_entry() {
    let house = House::open().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let connector = without_certificate(&house, &[version]);
        let stream = TcpStream::connect(house.addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        // In TLS 1.3 the client learns of the refusal only when it reads.
        if let Ok(mut stream) = connector.connect(name, stream).await {
            assert!(stream.read_u8().await.is_err());
        }
    }
    logged(&["presented no certificate"]).await;
}

#[tokio::test]
async fn what_is_not_tls_is_named() {
    let house = House::open().await;
    let mut stream = TcpStream::connect(house.addr).await.unwrap();
    stream.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01x").await.unwrap();
    let mut rest = Vec::new();
    // An alert may come, then the end.
    let _ = stream.read_to_end(&mut rest).await;
    logged(&["not a TLS handshake"]).await;
}

#[tokio::test]
async fn both_tls_versions_are_spoken() {
    let house = House::open().await;
    let credentials = house.authority.client();
    let chain = vec![CertificateDer::from_pem_slice(credentials.cert_pem.as_bytes()).unwrap()];
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(house.authority.pem().as_bytes()).unwrap()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(credentials.key_pem.as_bytes()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), key)
            .unwrap();
        let stream = TcpStream::connect(house.addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        stream.write_all(b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04dev1").await.unwrap();
        let mut ack = [0; 4];
        stream.read_exact(&mut ack).await.unwrap();
        assert_eq!(&ack, b"\x20\x02\0\0");
    }
}

#[tokio::test]
async fn a_client_id_that_no_policy_allows_is_refused() {
    let house = House::open().await;
    for version in [Version::V311, Version::V5] {
        let Err(error) = MqttClient::connect(house.options("intruder", version)).await else { panic!("it got in") };
        assert!(matches!(error, ClientError::Refused(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID)), "{error}");
        // An assigned identifier must be allowed as any other.
        let Err(error) = MqttClient::connect(house.options("", version)).await else { panic!("it got in") };
        assert!(matches!(error, ClientError::Refused(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID)), "{error}");
    }
    logged(&["intruder", "iot:Connect", "no policy allows this client id", &"ab".repeat(32)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_ends_its_session_within_a_second() {
    let house = House::open().await;
    let credentials = house.authority.client();
    let mut options = house.options_as("dev-victim", Version::V5, &credentials);
    options.will = Some(Will {
        topic: "t/will".into(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay: None,
        properties: None,
    });
    let victim = MqttClient::connect(options).await.unwrap();
    let other = house.client("dev-other", Version::V5).await;
    let revoked = Instant::now();
    house.ingest.revoke(&credentials);
    let error = victim.ended().await;
    assert!(revoked.elapsed() < Duration::from_secs(1), "it took {:?}", revoked.elapsed());
    assert!(matches!(error, ClientError::Closed(ReasonCode::NOT_AUTHORIZED)), "{error}");
    logged(&["dev-victim", "REVOKED"]).await;
    // It does not come back, its will is not sent, and nobody else is concerned.
    assert!(MqttClient::connect(house.options_as("dev-victim", Version::V5, &credentials)).await.is_err());
    other.publish(&"t/x".into(), Bytes::new(), QoS::AtLeastOnce).await.unwrap();
    other.flush().await.unwrap();
    assert!(house.ingest.received("dev-victim").is_empty());
}

#[tokio::test]
async fn any_change_of_the_registry_is_looked_up() {
    let house = House::open().await;
    let credentials = house.authority.client();
    let client = MqttClient::connect(house.options_as("dev-1", Version::V5, &credentials)).await.unwrap();
    let before = house.ingest.looked_up(&credentials);
    house.ingest.change_nothing();
    crate::fixtures::eventually("a second look-up", || house.ingest.looked_up(&credentials) > before).await;
    client.publish(&"t/x".into(), Bytes::new(), QoS::AtLeastOnce).await.unwrap();
    client.flush().await.unwrap();
}
