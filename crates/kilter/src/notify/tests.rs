//! The port's suite against the embedded notifier.

use super::*;
use kilter_testkit::notify::{self, Failure, Subject, TENANT};
use std::{
    io::{BufRead, BufReader, Read},
    net::{TcpListener, TcpStream},
    sync::{Mutex, MutexGuard},
    thread,
};

/// What a receiver on loopback has taken, and how it fails.
#[derive(Default)]
struct Receiver {
    arrived: Vec<(String, Alert)>,
    fails: Option<Failure>,
}

fn lock(receiver: &Mutex<Receiver>) -> MutexGuard<'_, Receiver> {
    receiver.lock().unwrap()
}

/// Reads a request; the idempotency key and the alert in its body.
fn request(stream: &TcpStream) -> (String, Alert) {
    let mut reader = BufReader::new(stream);
    let (mut key, mut bytes) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "idempotency-key" => key = value.to_owned(),
            "content-length" => bytes = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).unwrap();
    (key, serde_json::from_slice(&body).unwrap())
}

/// A webhook, and the receiver that it leads to; the threads of the receivers end with the process.
struct Webhooks {
    secrets: tempfile::TempDir,
    receiver: Arc<Mutex<Receiver>>,
}

impl Subject for Webhooks {
    fn fresh(&mut self) -> Arc<dyn Notify> {
        let receiver = Arc::new(Mutex::new(Receiver::default()));
        self.receiver = receiver.clone();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let came = request(&stream);
                let mut receiver = lock(&receiver);
                let status = match receiver.fails {
                    // Closed without an answer.
                    Some(Failure::Down) => continue,
                    Some(Failure::Refuses) => 410,
                    None => {
                        receiver.arrived.push(came);
                        200
                    }
                };
                write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            }
        });
        let secret_file = self.secrets.path().join("secret");
        std::fs::write(&secret_file, "0123456789abcdef0123\n").unwrap();
        let tenant = Some(TENANT.parse().unwrap());
        let config = WebhookConfig { name: "hook".into(), url, secret_file, tenant, allow_private: true };
        Arc::new(WebhookNotify::new(&config).unwrap())
    }

    fn arrived(&mut self) -> BoxFuture<'_, Vec<(String, Alert)>> {
        futures::future::ready(lock(&self.receiver).arrived.clone()).boxed()
    }

    fn fail(&mut self, how: Option<Failure>) -> bool {
        lock(&self.receiver).fails = how;
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_keeps_the_ports_promises() {
    let secrets = tempfile::tempdir().unwrap();
    notify::check(&mut Webhooks { secrets, receiver: Arc::default() }).await;
}

#[test]
fn private_addresses_are_known() {
    for private in [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "fd00::1",
        "fe80::1",
        "::ffff:10.0.0.1",
    ] {
        assert!(is_private(private.parse().unwrap()), "{private}");
    }
    for public in ["93.184.216.34", "2606:2800:220:1::1"] {
        assert!(!is_private(public.parse().unwrap()), "{public}");
    }
}

#[test]
fn addresses_are_checked_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let secret_file = dir.path().join("secret");
    std::fs::write(&secret_file, "0123456789abcdef0123\n").unwrap();
    let make = |url: &str, allow_private| {
        let config = WebhookConfig {
            name: "w".into(),
            url: url.into(),
            secret_file: secret_file.clone(),
            tenant: None,
            allow_private,
        };
        WebhookNotify::new(&config).map(drop).map_err(|e| e.to_string())
    };
    assert!(make("https://example.com/hook", false).is_ok());
    assert!(make("http://127.0.0.1:9/hook", true).is_ok());
    for (url, allow) in [
        ("http://example.com", true),
        ("https://10.0.0.1/", false),
        ("http://127.0.0.1/", false),
        ("ftp://x", true),
        ("x", true),
    ] {
        assert!(make(url, allow).is_err(), "{url}");
    }
    std::fs::write(&secret_file, "short").unwrap();
    assert!(make("https://example.com/hook", false).unwrap_err().contains("16 bytes"));
}

#[test]
fn a_signature_can_be_checked_by_its_receiver() {
    // printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
    let expected = "e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e";
    assert_eq!(signature(&key, 1_700_000_000, b"{}"), format!("t=1700000000,v1={expected}"));
}
