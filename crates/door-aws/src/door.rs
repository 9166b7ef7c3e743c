//! The way of one request: read its signature, check it, ask the key's policy, hand it to the service, write the answer.

use crate::{
    Access, Answer, AwsError, Call, StreamService,
    audit::{Audit, Denied},
    keys::{AccessKeys, random_uuid},
    payload::{BODY_PAUSE_MAX, Check, Payload, Watched, too_large},
    protocol::Protocol,
    services::{Found, Services, body_bytes_max, global, name_of},
    session::{Refusal, Session, Sessions},
    signer::Signer,
    sigv4::{self, BodyHash, Denial, DenialKind, Signed, chunked::Chunks},
    uri,
};
use axum::{
    body::{Body, HttpBody, to_bytes},
    http::{HeaderName, HeaderValue, Method, Request, StatusCode, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use kilter_core::ports::clock::Clock;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Of all bodies that are held at a time, in KiB: sixteen of the largest.
const HELD_KIB_MAX: u32 = 256 * 1024;

/// What the door serves; the composition root fills it.
pub struct AwsState {
    pub services: Services,
    pub keys: Arc<AccessKeys>,
    pub sessions: Sessions,
    pub audit: Audit,
    pub clock: Arc<dyn Clock>,
    pub region: String,
    pub account: String,
}

/// The door without its socket.
pub struct Door {
    state: AwsState,
    held: Semaphore,
}

/// A request whose head was read.
struct Seen {
    service: String,
    protocol: Protocol,
    access_key: String,
    action: String,
}

impl Door {
    pub fn new(state: AwsState) -> Self {
        Self { state, held: Semaphore::new(HELD_KIB_MAX as usize) }
    }

    /// Answers every request, if only with an error.
    pub async fn answer(&self, request: Request<Body>, source: SocketAddr) -> Response {
        let started = Instant::now();
        let request_id = request_id();
        let (parts, body) = request.into_parts();
        let ended = Arc::new(AtomicBool::new(body.is_end_stream()));
        let body = Body::new(Watched { body, ended: ended.clone() });
        let mut seen =
            Seen { service: String::new(), protocol: guess(&parts), access_key: String::new(), action: String::new() };
        let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
        let mut response = match self.handle(parts, body, &request_id, &mut seen).await {
            Ok(response) => response,
            Err(refused) => {
                if let Some(denial) = refused.denial() {
                    self.log(&denial, &seen, &request_id, source);
                }
                let error = refused.into_error(seen.protocol);
                tracing::debug!(
                    service = seen.service,
                    code = error.code,
                    message = error.message,
                    "AWS request refused"
                );
                render_error(&error, seen.protocol, &method, &path, &request_id)
            }
        };
        let id = HeaderValue::from_str(&request_id).expect("a request id is hexadecimal");
        let name = if seen.protocol == Protocol::RestXml { "x-amz-request-id" } else { "x-amzn-requestid" };
        response.headers_mut().insert(HeaderName::from_static(name), id);
        if !ended.load(Ordering::Relaxed) {
            // Where the rest of the body lies, the next request cannot come: who is not told would send it all the same.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let service =
            self.state.services.get(&seen.service).map_or_else(|| "none".to_owned(), |_| seen.service.clone());
        let status = response.status().as_u16().to_string();
        metrics::counter!("kilter_aws_requests_total", "service" => service.clone(), "status" => status).increment(1);
        metrics::histogram!("kilter_aws_request_duration_seconds", "service" => service)
            .record(started.elapsed().as_secs_f64());
        response
    }

    async fn handle(&self, parts: Parts, body: Body, id: &str, seen: &mut Seen) -> Result<Response, Refused> {
        let query = uri::pairs(parts.uri.query().unwrap_or_default());
        let Some(signed) = sigv4::read(&parts, &query)? else {
            return self.unsigned(self.call(&parts, query, id, String::new(), None), seen).await;
        };
        seen.service = name_of(&signed.service, &parts);
        if self.state.services.get(&seen.service).is_some() {
            seen.protocol = Protocol::of(&seen.service);
        }
        seen.access_key.clone_from(&signed.access_key);
        let key = Arc::new(self.key(&signed, &seen.service)?);
        let call = self.call(&parts, query, id, signed.access_key.clone(), Some(key.clone()));
        match self.state.services.get(&seen.service) {
            Some(Found::Streaming(service)) => {
                let (call, payload) = open_stream(&parts, body, &signed, &key, call)?;
                allow(&key, &service.access(&call), seen)?;
                if let Some(further) = service.further_access(&call) {
                    allow(&key, &further, seen)?;
                }
                Ok(StreamService::call(service, call, payload).await?)
            }
            Some(Found::Plain(service)) => {
                let (bytes, _held) = self.hold(&parts, body, body_bytes_max(&seen.service)).await?;
                check_body(&parts, &signed, &key, &bytes)?;
                let call = Call { body: bytes, ..call };
                allow(&key, &service.access(&call), seen)?;
                if let Some(further) = service.further_access(&call) {
                    allow(&key, &further, seen)?;
                }
                Ok(render(service.call(&call).await?, seen.protocol))
            }
            None => {
                let (bytes, _held) = self.hold(&parts, body, body_bytes_max(&seen.service)).await?;
                check_body(&parts, &signed, &key, &bytes)?;
                let message = format!("Kilter does not offer the service {:.64}", seen.service);
                Err(AwsError::new("UnknownOperationException", message).with_status(StatusCode::NOT_FOUND).into())
            }
        }
    }

    fn call(
        &self,
        parts: &Parts,
        query: Vec<(String, String)>,
        id: &str,
        access_key: String,
        signer: Option<Arc<Signer>>,
    ) -> Call {
        Call {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query,
            headers: parts.headers.clone(),
            body: Bytes::new(),
            region: self.state.region.clone(),
            account: self.state.account.clone(),
            access_key,
            signer,
            request_id: id.to_owned(),
            now: self.state.clock.now(),
        }
    }

    /// The key, if it is one of ours, and the clock and the region are right. The signature is not checked yet.
    fn key(&self, signed: &Signed, service: &str) -> Result<Signer, Refused> {
        signed.check_time(self.state.clock.now())?;
        let key = match &signed.session_token {
            Some(token) => Signer::Session(Box::new(self.session(&signed.access_key, token)?)),
            None => {
                let key = self.state.keys.active(&signed.access_key).map_err(AwsError::internal)?;
                Signer::Key(Box::new(key.ok_or_else(|| {
                    let message = "The security token included in the request is invalid: the access key is not one of \
                                   this installation, or it was revoked; see `kilter access-key list`";
                    Denial::new(DenialKind::UnknownKey, message)
                })?))
            }
        };
        let own = &self.state.region;
        if signed.region != *own && !global(service) {
            let message = format!(
                "Credential should be scoped to a valid region, not '{:.64}': this site is {own}, and no site is \
                 joined to it for another region",
                signed.region
            );
            return Err(Denial::new(DenialKind::OtherRegion, message).into());
        }
        Ok(key)
    }

    fn session(&self, access_key: &str, token: &str) -> Result<Session, Denial> {
        let opened = self.state.sessions.open(access_key, token, &self.state.account, self.state.clock.now());
        opened.map_err(|refusal| match refusal {
            Refusal::Expired => {
                let message = "The security token included in the request is expired: assume the role again";
                Denial::new(DenialKind::Expired, message)
            }
            Refusal::Invalid => {
                let message = "The security token included in the request is invalid: it is not of this installation, or \
                               of another access key";
                Denial::new(DenialKind::Token, message)
            }
            Refusal::NoRole => {
                let message = "The security token included in the request is invalid: its role was deleted";
                Denial::new(DenialKind::Token, message)
            }
        })
    }

    /// What needs no signature: a service must ask for it.
    async fn unsigned(&self, call: Call, seen: &mut Seen) -> Result<Response, Refused> {
        let found = self.state.services.plain().find(|service| call.method == Method::GET && service.anonymous(&call));
        let Some(service) = found else {
            return Err(
                Denial::new(DenialKind::Missing, "Missing Authentication Token: the request is not signed").into()
            );
        };
        seen.service = service.name().to_owned();
        seen.protocol = Protocol::of(service.name());
        Ok(render(service.call(&call).await?, seen.protocol))
    }

    /// The whole body, once there is room for it.
    async fn hold(&self, parts: &Parts, body: Body, limit: usize) -> Result<(Bytes, SemaphorePermit<'_>), Refused> {
        let announced = body.size_hint().exact().or_else(|| length(parts, "content-length"));
        let bytes = announced.unwrap_or(limit as u64);
        if bytes > limit as u64 {
            return Err(too_large(limit).into());
        }
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(HELD_KIB_MAX);
        let held = self.held.acquire_many(kib).await.map_err(AwsError::internal)?;
        let read = tokio::time::timeout(BODY_PAUSE_MAX, to_bytes(body, limit)).await;
        let bytes = read
            .map_err(|_| AwsError::new("RequestTimeout", "The request's body did not come in time"))?
            .map_err(|_| too_large(limit))?;
        Ok((bytes, held))
    }

    fn log(&self, denial: &Denial, seen: &Seen, request: &str, source: SocketAddr) {
        self.state.audit.denied(Denied {
            time: self.state.clock.now(),
            request: request.to_owned(),
            source: source.to_string(),
            access_key: bounded(&seen.access_key),
            service: bounded(&seen.service),
            action: bounded(&seen.action),
            code: code_of(denial.kind, seen.protocol).0.to_owned(),
            reason: denial.message.clone(),
        });
    }
}

/// What a stranger may write into the log.
fn bounded(text: &str) -> String {
    text.chars().take(128).collect()
}

fn allow(key: &Signer, access: &Access, seen: &mut Seen) -> Result<(), Denial> {
    seen.action.clone_from(&access.action);
    key.may(access)
}

fn check_body(parts: &Parts, signed: &Signed, key: &Signer, body: &[u8]) -> Result<(), Denial> {
    let BodyHash::Whole(claimed) = &signed.body else {
        return Err(Denial::new(DenialKind::Body, "The body of this service's requests must be signed as a whole"));
    };
    let hash = sigv4::sha256_hex(body);
    signed.check(parts, key.secret(), &hash)?;
    match claimed {
        Some(claimed) if *claimed != hash => Err(Denial::new(DenialKind::Body, "The body is not what was signed")),
        _ => Ok(()),
    }
}

/// Checks the head; the body is checked while it comes.
fn open_stream(
    parts: &Parts,
    body: Body,
    signed: &Signed,
    key: &Signer,
    call: Call,
) -> Result<(Call, Payload), Denial> {
    let claimed = match &signed.body {
        BodyHash::Unsigned => "UNSIGNED-PAYLOAD",
        BodyHash::Whole(Some(hash)) => hash,
        BodyHash::Whole(None) => {
            let message = "Missing required header for this request: x-amz-content-sha256";
            return Err(Denial::new(DenialKind::Incomplete, message));
        }
        BodyHash::SignedChunks { trailer: false } => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        BodyHash::SignedChunks { trailer: true } => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        BodyHash::UnsignedChunks => "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    };
    let signing = signed.check(parts, key.secret(), claimed)?;
    let (check, announced) = match &signed.body {
        BodyHash::Unsigned | BodyHash::Whole(None) => (Check::None, length(parts, "content-length")),
        BodyHash::Whole(Some(hash)) => (Payload::whole(hash.clone()), length(parts, "content-length")),
        BodyHash::SignedChunks { trailer } => {
            let chunks = Chunks::new(Some(signed.chunks(signing)), *trailer);
            (Check::Chunks(Some(Box::new(chunks))), length(parts, "x-amz-decoded-content-length"))
        }
        BodyHash::UnsignedChunks => {
            (Check::Chunks(Some(Box::new(Chunks::new(None, false)))), length(parts, "x-amz-decoded-content-length"))
        }
    };
    Ok((call, Payload::new(body.into_data_stream(), check, announced)))
}

fn length(parts: &Parts, name: &str) -> Option<u64> {
    parts.headers.get(name)?.to_str().ok()?.parse().ok()
}

enum Refused {
    Denied(Denial),
    Failed(AwsError),
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<AwsError> for Refused {
    fn from(error: AwsError) -> Self {
        Self::Failed(error)
    }
}

impl Refused {
    /// Where somebody was not let in, be it by a service: a role's trust is asked there.
    fn denial(&self) -> Option<Denial> {
        match self {
            Self::Denied(denial) => Some(denial.clone()),
            Self::Failed(error) if matches!(error.code.as_str(), "AccessDenied" | "AccessDeniedException") => {
                Some(Denial::new(DenialKind::NotAllowed, error.message.clone()))
            }
            Self::Failed(_) => None,
        }
    }

    fn into_error(self, protocol: Protocol) -> AwsError {
        match self {
            Self::Failed(error) => error,
            Self::Denied(denial) => {
                let (code, status) = code_of(denial.kind, protocol);
                AwsError::new(code, denial.message).with_status(status)
            }
        }
    }
}

/// How each family of services calls a denial.
fn code_of(kind: DenialKind, protocol: Protocol) -> (&'static str, StatusCode) {
    use DenialKind as K;
    let (json, query, s3) = match kind {
        K::Missing => ("MissingAuthenticationTokenException", "MissingAuthenticationToken", "AccessDenied"),
        K::Incomplete => ("IncompleteSignatureException", "IncompleteSignature", "AuthorizationHeaderMalformed"),
        K::Expired => ("ExpiredTokenException", "ExpiredToken", "ExpiredToken"),
        K::UnknownKey => ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId"),
        K::Token => ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidToken"),
        K::Mismatch => ("InvalidSignatureException", "SignatureDoesNotMatch", "SignatureDoesNotMatch"),
        K::Skewed => ("InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"),
        K::OtherRegion => ("InvalidSignatureException", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed"),
        K::NotAllowed => ("AccessDeniedException", "AccessDenied", "AccessDenied"),
        K::Body => ("InvalidSignatureException", "SignatureDoesNotMatch", "XAmzContentSHA256Mismatch"),
    };
    let bad = matches!(kind, K::Incomplete);
    match protocol {
        Protocol::Json10 | Protocol::Json11 => (json, StatusCode::BAD_REQUEST),
        Protocol::RestJson => (json, if bad { StatusCode::BAD_REQUEST } else { StatusCode::FORBIDDEN }),
        Protocol::Query(_) => (query, if bad { StatusCode::BAD_REQUEST } else { StatusCode::FORBIDDEN }),
        Protocol::RestXml => (s3, if bad { StatusCode::BAD_REQUEST } else { StatusCode::FORBIDDEN }),
    }
}

/// Of a request that names no service.
fn guess(parts: &Parts) -> Protocol {
    let form = |value: &HeaderValue| value.as_bytes().starts_with(b"application/x-www-form-urlencoded");
    if parts.headers.contains_key("x-amz-target") {
        Protocol::Json11
    } else if parts.headers.get(header::CONTENT_TYPE).is_some_and(form) {
        Protocol::of("sts")
    } else {
        Protocol::RestXml
    }
}

fn render(answer: Answer, protocol: Protocol) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    for (name, value) in answer.headers {
        match HeaderValue::from_str(&value) {
            Ok(value) => drop(response.headers_mut().append(HeaderName::from_static(name), value)),
            Err(error) => tracing::error!(name, %error, "an answer's header was left out"),
        }
    }
    response.headers_mut().entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(protocol.content_type()));
    response
}

fn render_error(error: &AwsError, protocol: Protocol, method: &Method, path: &str, request_id: &str) -> Response {
    let body = protocol.error_body(error, method, path, request_id);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = error.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(protocol.content_type()));
    if matches!(protocol, Protocol::RestJson)
        && let Ok(code) = HeaderValue::from_str(&error.code)
    {
        headers.insert(HeaderName::from_static("x-amzn-errortype"), code);
    }
    response
}

/// As AWS writes them.
fn request_id() -> String {
    random_uuid().unwrap_or_else(|_| "0".repeat(32))
}

#[cfg(test)]
mod tests;
