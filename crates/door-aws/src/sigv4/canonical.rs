//! The canonical form of a request: what both sides sign.

use crate::uri;
use axum::http::{HeaderMap, request::Parts};

/// The path as it may have been signed. S3 signs it as sent, or as AWS would have encoded it; everybody else encodes
/// what was sent once more, after `.` and `..` are resolved.
pub fn paths(path: &str, service: &str) -> Vec<String> {
    if service == "s3" {
        let recoded = uri::recode(path, false, true);
        return if recoded == path { vec![recoded] } else { vec![path.to_owned(), recoded] };
    }
    let resolved = uri::encode(&resolve(path), true);
    let plain = uri::encode(path, true);
    if resolved == plain { vec![resolved] } else { vec![resolved, plain] }
}

fn resolve(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    let end = if path.len() > 1 && path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

/// Method, path, query, headers, their names, and the body's hash, each on its line.
pub fn request(parts: &Parts, path: &str, signed: &[String], presigned: bool, body_hash: &str) -> String {
    let query = query(parts.uri.query().unwrap_or_default(), presigned);
    let mut text = format!("{}\n{path}\n{query}\n", parts.method);
    for name in signed {
        text.push_str(name);
        text.push(':');
        text.push_str(&header(&parts.headers, name));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&signed.join(";"));
    text.push('\n');
    text.push_str(body_hash);
    text
}

/// Sorted by encoded name, then value; without the signature itself.
fn query(raw: &str, presigned: bool) -> String {
    let mut pairs: Vec<(String, String)> = raw
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (uri::recode(name, true, false), uri::recode(value, true, false))
        })
        .filter(|(name, _)| !(presigned && name == "X-Amz-Signature"))
        .collect();
    pairs.sort();
    let joined: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    joined.join("&")
}

/// All values of a header, trimmed, runs of spaces made one, joined by commas.
fn header(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).iter().map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    });
    values.collect::<Vec<_>>().join(",")
}
