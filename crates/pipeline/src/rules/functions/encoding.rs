//! Base64 and digests.

use super::{Arguments, defined};
use crate::rules::sql::value::Value;
use aws_lc_rs::digest::{self, Algorithm};
use base64::{Engine, prelude::BASE64_STANDARD};
use md2::{Digest, Md2};
use std::fmt::Write;

/// The scheme, the only one that AWS has as well.
fn is_base64(scheme: &Value) -> bool {
    matches!(scheme, Value::Text(scheme) if scheme.eq_ignore_ascii_case("base64"))
}

pub fn encode(arguments: &Arguments<'_>) -> Value {
    if arguments.raw {
        let payload = arguments.evaluation.message.payload;
        return if is_base64(arguments.value(0)) {
            Value::text(BASE64_STANDARD.encode(payload))
        } else {
            Value::Undefined
        };
    }
    let text = arguments.text(0).filter(|_| is_base64(arguments.value(1)));
    defined(text, |text| Value::text(BASE64_STANDARD.encode(text.as_bytes())))
}

/// Null where it cannot be decoded; the JSON that it holds, where it holds some.
pub fn decode(arguments: &Arguments<'_>) -> Value {
    let (text, scheme) = match arguments.raw {
        true => (String::from_utf8(arguments.evaluation.message.payload.to_vec()).ok(), arguments.value(0)),
        false => (arguments.text(0).map(|text| text.into_owned()), arguments.value(1)),
    };
    let (Some(text), true) = (text, is_base64(scheme)) else { return Value::Undefined };
    let Ok(bytes) = BASE64_STANDARD.decode(text.trim()) else { return Value::Null };
    match serde_json::from_slice(&bytes) {
        Ok(json) => json,
        Err(_) => String::from_utf8(bytes).map_or(Value::Null, Value::Text),
    }
}

pub fn hash(arguments: &Arguments<'_>, digest: fn(&[u8]) -> String) -> Value {
    defined(arguments.text(0), |text| Value::Text(digest(text.as_bytes())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub fn md2(bytes: &[u8]) -> String {
    hex(&Md2::digest(bytes))
}
pub fn md5(bytes: &[u8]) -> String {
    hex(&md5::compute(bytes).0)
}
pub fn sha1(bytes: &[u8]) -> String {
    sha(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes)
}
pub fn sha224(bytes: &[u8]) -> String {
    sha(&digest::SHA224, bytes)
}
pub fn sha256(bytes: &[u8]) -> String {
    sha(&digest::SHA256, bytes)
}
pub fn sha384(bytes: &[u8]) -> String {
    sha(&digest::SHA384, bytes)
}
pub fn sha512(bytes: &[u8]) -> String {
    sha(&digest::SHA512, bytes)
}

fn sha(algorithm: &'static Algorithm, bytes: &[u8]) -> String {
    hex(digest::digest(algorithm, bytes).as_ref())
}
