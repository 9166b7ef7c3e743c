//! The door without a socket: requests signed by the test's own hand.

use super::*;
use crate::{iam::Iam, keys::AccessKey, policy::Policy, session::Issued, sts::Sts};
use futures::{FutureExt, future::BoxFuture};
use kilter_core::Timestamp;
use kilter_testkit::{FakeClock, MemoryTable};

struct Echo;

impl crate::Service for Echo {
    fn name(&self) -> &'static str {
        "kinesis"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, AwsError>> {
        let target = call.target().unwrap_or_default().to_owned();
        std::future::ready(Ok(Answer::json(&serde_json::json!({ "operation": target })))).boxed()
    }
}

struct Blob;

impl StreamService for Blob {
    fn name(&self) -> &'static str {
        "s3"
    }

    fn call(self: Arc<Self>, _: Call, body: Payload) -> BoxFuture<'static, Result<Response, AwsError>> {
        async move { Ok(Response::new(Body::from(body.collect(1 << 20).await?))) }.boxed()
    }
}

struct Setup {
    door: Door,
    key: AccessKey,
    reader: AccessKey,
    clock: FakeClock,
    dir: tempfile::TempDir,
}

const NOW: i64 = 1_800_000_000;

fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let now = Timestamp::from_seconds(NOW);
    let keys = AccessKeys::open(&dir.path().join("access-keys.json"), now).unwrap();
    let key = keys.root().unwrap().unwrap();
    let policy = r#"{"Statement": [{"Effect": "Allow", "Action": "kinesis:Get*", "Resource": "*"}]}"#;
    let reader = keys.create("reader", Policy::parse(policy).unwrap(), now).unwrap();
    let clock = FakeClock::at(now);
    let iam = Iam::open(Arc::new(MemoryTable::new()), Arc::new(clock.clone()), "123456789012").unwrap();
    let sessions = Sessions::new(&[7; 32], iam);
    let door = Door::new(AwsState {
        services: Services::default().with(Echo).with(Sts { sessions: sessions.clone() }).with_streaming(Blob),
        keys: Arc::new(keys),
        sessions,
        audit: Audit::open(dir.path()).unwrap(),
        clock: Arc::new(clock.clone()),
        region: "us-east-1".into(),
        account: "123456789012".into(),
    });
    Setup { door, key, reader, clock, dir }
}

/// One request, signed as a client signs it.
struct Sent<'a> {
    key: &'a AccessKey,
    secret: &'a str,
    service: &'a str,
    region: &'a str,
    at: i64,
    target: &'a str,
    body: &'a str,
    signed_body: &'a str,
    /// Of a session; empty for access keys.
    token: &'a str,
}

impl<'a> Sent<'a> {
    fn new(key: &'a AccessKey, service: &'a str, target: &'a str, body: &'a str) -> Self {
        let (secret, region) = (&key.secret, "us-east-1");
        Self { key, secret, service, region, at: NOW, target, body, signed_body: body, token: "" }
    }

    fn request(&self) -> Request<Body> {
        let time = Timestamp::from_seconds(self.at).format("%Y%m%dT%H%M%SZ");
        let hash = sigv4::sha256_hex(self.signed_body.as_bytes());
        let scope = format!("{}/{}/{}/aws4_request", &time[..8], self.region, self.service);
        let token = !self.token.is_empty();
        let security = if token { ";x-amz-security-token" } else { "" };
        let signed = format!("host;x-amz-content-sha256;x-amz-date{security};x-amz-target");
        let security = if token { format!("x-amz-security-token:{}\n", self.token) } else { String::new() };
        let canonical = format!(
            "POST\n/\n\nhost:localhost\nx-amz-content-sha256:{hash}\nx-amz-date:{time}\n{security}x-amz-target:{}\n\n{signed}\n{hash}",
            self.target
        );
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sigv4::sha256_hex(canonical.as_bytes()));
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/').chain([text.as_str()]) {
            let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
            key = aws_lc_rs::hmac::sign(&hmac, part.as_bytes()).as_ref().to_vec();
        }
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={}",
            self.key.id,
            sigv4::hex(&key)
        );
        let request = Request::post("/");
        let request = if token { request.header("x-amz-security-token", self.token) } else { request };
        request
            .header("host", "localhost")
            .header("x-amz-content-sha256", hash)
            .header("x-amz-date", time)
            .header("x-amz-target", self.target)
            .header("authorization", authorization)
            .body(Body::from(self.body.to_owned()))
            .unwrap()
    }
}

async fn answer(door: &Door, request: Request<Body>) -> (u16, String) {
    let response = door.answer(request, "127.0.0.1:9".parse().unwrap()).await;
    let status = response.status().as_u16();
    assert!(response.headers().contains_key("x-amzn-requestid") || response.headers().contains_key("x-amz-request-id"));
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_signed_request_reaches_its_service() {
    let s = setup();
    let sent = Sent::new(&s.key, "kinesis", "Kinesis_20131202.ListStreams", "{}");
    assert_eq!(answer(&s.door, sent.request()).await, (200, "{\"operation\":\"ListStreams\"}".to_owned()));
    let sent = Sent::new(&s.key, "s3", "x", "object");
    assert_eq!(answer(&s.door, sent.request()).await, (200, "object".to_owned()));
}

#[tokio::test]
async fn whatever_is_wrong_is_refused_by_its_own_name_and_logged() {
    let s = setup();
    let good = || Sent::new(&s.key, "kinesis", "Kinesis_20131202.ListStreams", "{}");
    let stranger = AccessKey { id: "AKIASTRANGER".into(), ..s.key.clone() };
    let cases = [
        (Sent { secret: "wrong", ..good() }, "InvalidSignatureException", "does not match"),
        (Sent { body: "{\"a\":1}", ..good() }, "InvalidSignatureException", "does not match"),
        (Sent { at: NOW - 1_000, ..good() }, "InvalidSignatureException", "expired"),
        (Sent { region: "us-west-2", ..good() }, "InvalidSignatureException", "no site is joined"),
        (Sent { key: &stranger, ..good() }, "UnrecognizedClientException", "invalid"),
        (Sent { key: &s.reader, secret: &s.reader.secret, ..good() }, "AccessDeniedException", "kinesis:ListStreams"),
        (Sent { service: "bedrock", ..good() }, "UnknownOperationException", "bedrock"),
        (Sent { service: "s3", body: "other", ..good() }, "XAmzContentSHA256Mismatch", "does not match"),
        (Sent { service: "s3", secret: "wrong", ..good() }, "SignatureDoesNotMatch", "does not match"),
    ];
    for (sent, code, words) in &cases {
        let (status, body) = answer(&s.door, sent.request()).await;
        assert!((400..500).contains(&status) && body.contains(code) && body.contains(words), "{code}: {status} {body}");
    }
    let sent = Sent { key: &s.reader, secret: &s.reader.secret, target: "K.GetRecords", ..good() };
    assert_eq!(answer(&s.door, sent.request()).await.0, 200);
    let (status, body) = answer(&s.door, Request::get("/bucket").body(Body::empty()).unwrap()).await;
    assert_eq!(status, 403);
    assert!(body.contains("<Code>AccessDenied</Code>"), "{body}");
    drop(s.door);
    let log = eventually_log(&s.dir);
    for words in ["AKIASTRANGER", "kinesis:ListStreams", "no site is joined", "not signed"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(!log.contains(&s.key.secret) && !log.contains(&s.reader.secret));
}

/// The audit log is written by a thread; it ends with its queue.
fn eventually_log(dir: &tempfile::TempDir) -> String {
    for _ in 0..500 {
        let log = std::fs::read_to_string(dir.path().join("denials.jsonl")).unwrap_or_default();
        if log.contains("not signed") {
            return log;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the audit log never had the last denial");
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused_unread() {
    let s = setup();
    let mut request = Sent::new(&s.key, "sts", "x", "").request();
    request.headers_mut().insert("content-length", "99999999".parse().unwrap());
    *request.body_mut() = Body::from(vec![0; 2 << 20]);
    let (status, body) = answer(&s.door, request).await;
    assert_eq!(status, 413, "{body}");
}

/// A request with a session's token, which is signed.
fn with_token(issued: &Issued, at: i64, token: &str) -> Request<Body> {
    let key = AccessKey {
        id: issued.access_key.clone(),
        name: "session".into(),
        status: crate::keys::KeyStatus::Active,
        created: Timestamp::from_seconds(at),
        secret: issued.secret.clone(),
        policy: Policy::all(),
    };
    Sent { at, token, ..Sent::new(&key, "kinesis", "Kinesis_20131202.PutRecord", "{}") }.request()
}

#[tokio::test]
async fn a_session_ends_by_itself() {
    let s = setup();
    let iam = s.door.state.sessions.iam().clone();
    assert_eq!(kilter_core::ports::action::RuleRoles::provide(&iam).unwrap().as_deref(), Some("iot-rule-actions-role"));
    let role = iam.role("iot-rule-actions-role").unwrap();
    let until = Timestamp::from_seconds(NOW + 900);
    let issue = |id: &str, policy: Option<&str>| {
        s.door.state.sessions.issue((&role.name, id), "n", until, policy.map(str::to_owned)).unwrap()
    };
    let narrow = r#"{"Statement": [{"Effect": "Allow", "Action": "kinesis:PutRecord", "Resource": "*"}]}"#;
    // The role may put records into streams of tenants, and this service names no stream.
    let issued = issue(&role.id, Some(narrow));
    let (status, body) = answer(&s.door, with_token(&issued, NOW, &issued.token)).await;
    assert!(
        status == 400 && body.contains("assumed-role/iot-rule-actions-role/n is not authorized"),
        "{status} {body}"
    );
    let session = s.door.state.sessions.open(&issued.access_key, &issued.token, "123456789012", s.clock.now()).unwrap();
    let stream = "arn:aws:kinesis:us-east-1:123456789012:stream/anomaly-stream-t1";
    assert!(session.allows("kinesis:PutRecord", stream) && !session.allows("kinesis:PutRecords", stream));
    // A token of another role of this name, one that was changed, and one of another key.
    let other = issue("AROAOTHER", None);
    let first = if issued.token.starts_with('A') { 'B' } else { 'A' };
    let changed = format!("{first}{}", &issued.token[1..]);
    for token in [&other.token, &changed, &issue(&role.id, None).token] {
        let (_, body) = answer(&s.door, with_token(&issued, NOW, token)).await;
        assert!(body.contains("UnrecognizedClientException"), "{body}");
    }
    s.clock.set(Timestamp::from_seconds(NOW + 899));
    assert!(answer(&s.door, with_token(&issued, NOW + 899, &issued.token)).await.1.contains("not authorized"));
    s.clock.set(Timestamp::from_seconds(NOW + 900));
    let (_, body) = answer(&s.door, with_token(&issued, NOW + 900, &issued.token)).await;
    assert!(body.contains("ExpiredTokenException"), "{body}");
}
