//! Signature version 4: who sent a request, and that it is what they sent. Follows "Signature Version 4 signing
//! process" of the AWS General Reference and, for bodies in chunks, "Authenticating Requests" of the S3 API Reference.

mod canonical;
pub mod chunked;
mod read;

pub use read::read;

use aws_lc_rs::{digest, hmac};
use axum::http::request::Parts;
use kilter_core::Timestamp;
use subtle::ConstantTimeEq;

/// How far a signer's clock may be off.
pub const SKEW_SECONDS_MAX: f64 = 900.0;
/// Of presigned addresses: seven days.
const PRESIGNED_SECONDS_MAX: u64 = 604_800;
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Why a request is not believed. Each protocol has its own codes for these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialKind {
    /// There is no signature.
    Missing,
    /// There is one that cannot be read.
    Incomplete,
    UnknownKey,
    /// A session's token that is not of this installation, or of another key.
    Token,
    /// Its session has ended.
    Expired,
    Mismatch,
    /// Signed too long ago or in the future, or a presigned address that is no longer valid.
    Skewed,
    /// For a region that this site does not serve.
    OtherRegion,
    /// Signed rightly, but the key's policy does not allow it.
    NotAllowed,
    /// The body is not what was signed.
    Body,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Denial {
    pub kind: DenialKind,
    pub message: String,
}

impl Denial {
    pub fn new(kind: DenialKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// What the body's signature is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyHash {
    /// Not signed: presigned addresses, and `UNSIGNED-PAYLOAD` over TLS.
    Unsigned,
    /// Of the whole body, in hex; `None` where the request does not say and the body has to be there to check.
    Whole(Option<String>),
    /// `aws-chunked`, each chunk with its own signature; with a signed trailer or without.
    SignedChunks { trailer: bool },
    /// `aws-chunked` with a trailer that holds a checksum, unsigned.
    UnsignedChunks,
}

/// A request's signature as it was sent, not yet believed.
#[derive(Debug, Clone)]
pub struct Signed {
    pub access_key: String,
    pub region: String,
    pub service: String,
    pub session_token: Option<String>,
    pub body: BodyHash,
    /// `YYYYMMDD`.
    date: String,
    /// `YYYYMMDDTHHMMSSZ`.
    time: String,
    at: Timestamp,
    /// In order, lower case.
    headers: Vec<String>,
    signature: String,
    /// Of a presigned address.
    valid_seconds: Option<u64>,
}

/// A secret's key for one day, region and service.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// The signature of a string to sign, in hex.
    pub fn sign(&self, text: &str) -> String {
        hex(hmac::sign(&self.0, text.as_bytes()).as_ref())
    }
}

impl Signed {
    fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }

    fn key(&self, secret: &str) -> SigningKey {
        let start = format!("AWS4{secret}");
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, start.as_bytes());
        for part in [&self.date, &self.region, &self.service, "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        SigningKey(key)
    }

    /// Whether the clock allows it.
    pub fn check_time(&self, now: Timestamp) -> Result<(), Denial> {
        let off = now.seconds_since(self.at);
        let denied = |message: String| Err(Denial::new(DenialKind::Skewed, message));
        if let Some(valid) = self.valid_seconds {
            if off < -SKEW_SECONDS_MAX {
                return denied(format!("The address is not valid yet: it was signed for {}", self.at));
            }
            if off > valid as f64 {
                return denied(format!("Request has expired: it was signed at {} for {valid} seconds", self.at));
            }
        } else if off.abs() > SKEW_SECONDS_MAX {
            return denied(format!(
                "Signature expired: it is of {}, the server's time is {now}, and they may be {SKEW_SECONDS_MAX} seconds \
                 apart; set the clock of this machine right",
                self.at
            ));
        }
        Ok(())
    }

    /// Checks the signature against the secret; `body_hash` is what the request says of its body, or what the body is.
    pub fn check(&self, parts: &Parts, secret: &str, body_hash: &str) -> Result<SigningKey, Denial> {
        let key = self.key(secret);
        for path in canonical::paths(parts.uri.path(), &self.service) {
            let request = canonical::request(parts, &path, &self.headers, self.valid_seconds.is_some(), body_hash);
            let text = format!("{ALGORITHM}\n{}\n{}\n{}", self.time, self.scope(), sha256_hex(request.as_bytes()));
            let right = key.sign(&text);
            if bool::from(right.as_bytes().ct_eq(self.signature.as_bytes())) {
                return Ok(key);
            }
        }
        Err(Denial::new(
            DenialKind::Mismatch,
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details.",
        ))
    }

    /// What chunks are signed with.
    pub fn chunks(&self, key: SigningKey) -> chunked::Signer {
        chunked::Signer::new(key, self.time.clone(), self.scope(), self.signature.clone())
    }
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
pub(crate) mod tests;
