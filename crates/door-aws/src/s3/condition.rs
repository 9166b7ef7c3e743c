//! Conditional requests (RFC 9110 section 13) and ranges (section 14), as S3 applies them.

use super::failure::{failure, precondition};
use crate::{AwsError, Call};
use axum::http::StatusCode;
use chrono::DateTime;
use kilter_core::{
    Timestamp,
    ports::objects::{PutCondition, Version},
};

/// What the conditions of a read say.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Go,
    NotModified,
}

const NANOS: i64 = 1_000_000_000;

/// `Wed, 21 Oct 2015 07:28:00 GMT`; `None` for anything else, which is ignored then.
fn http_date(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc2822(text).ok().map(|date| date.timestamp())
}

fn seconds(at: Timestamp) -> i64 {
    at.as_nanos().div_euclid(NANOS)
}

fn names(list: &str, etag: &str) -> bool {
    list.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/").trim_matches('"') == etag)
}

/// Conditions on reading a version; `prefix` is empty, or `x-amz-copy-source-` for the source of a copy.
pub(crate) fn check(call: &Call, prefix: &str, version: &Version) -> Result<Verdict, AwsError> {
    let header = |name: &str| call.header(&format!("{prefix}{name}"));
    let (etag, modified) = (&version.meta.etag, seconds(version.modified));
    match (header("if-match"), header("if-unmodified-since").and_then(http_date)) {
        (Some(list), _) if !names(list, etag) => return Err(precondition("If-Match")),
        (None, Some(date)) if modified > date => return Err(precondition("If-Unmodified-Since")),
        _ => {}
    }
    let unchanged = match (header("if-none-match"), header("if-modified-since").and_then(http_date)) {
        (Some(list), _) => names(list, etag).then_some("If-None-Match"),
        (None, Some(date)) => (modified <= date).then_some("If-Modified-Since"),
        (None, None) => None,
    };
    match unchanged {
        None => Ok(Verdict::Go),
        Some(condition) if !prefix.is_empty() => Err(precondition(condition)),
        Some(_) => Ok(Verdict::NotModified),
    }
}

/// Conditions on writing: `If-None-Match: *` and `If-Match: <etag>`.
pub(crate) fn of_put(call: &Call) -> Result<PutCondition, AwsError> {
    match (call.header("if-match"), call.header("if-none-match")) {
        (None, None) => Ok(PutCondition::Always),
        (None, Some("*")) => Ok(PutCondition::Absent),
        (Some(etag), None) if etag != "*" => Ok(PutCondition::Etag(etag.trim_matches('"').to_owned())),
        _ => Err(super::failure::not_implemented("this combination of If-Match and If-None-Match on a write")),
    }
}

/// The bytes `from..to` that a `Range` header asks for; `None`: all of them. Several ranges at once are answered with
/// everything, as S3 does.
pub(crate) fn range(header: Option<&str>, bytes: u64) -> Result<Option<(u64, u64)>, AwsError> {
    let Some(spec) = header.and_then(|header| header.strip_prefix("bytes=")) else { return Ok(None) };
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else { return Ok(None) };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let found = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(bytes)),
        (Some(first), None) if last.trim().is_empty() => (first, bytes),
        (None, Some(count)) if first.trim().is_empty() => (bytes.saturating_sub(count), bytes),
        _ => return Ok(None),
    };
    if found.0 < found.1 {
        return Ok(Some(found));
    }
    let error = failure(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", "The requested range is not satisfiable");
    Err(error.with("ActualObjectSize", bytes.into()).with("RangeRequested", format!("bytes={spec}").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let of = |text| range(Some(text), 10).map_err(|error| error.code);
        assert_eq!(range(None, 10).unwrap(), None);
        assert_eq!(of("bytes=0-0"), Ok(Some((0, 1))));
        assert_eq!(of("bytes=2-5"), Ok(Some((2, 6))));
        assert_eq!(of("bytes=2-"), Ok(Some((2, 10))));
        assert_eq!(of("bytes=-3"), Ok(Some((7, 10))));
        assert_eq!(of("bytes=-30"), Ok(Some((0, 10))));
        assert_eq!(of("bytes=9-99999999999999999999"), Ok(None));
        assert_eq!(of("bytes=9-18446744073709551615"), Ok(Some((9, 10))));
        for whole in ["bytes=5-2", "bytes=x-2", "bytes=-", "bytes=1-2,4-5", "lines=1-2", "bytes=1"] {
            assert_eq!(of(whole), Ok(None), "{whole}");
        }
        for bad in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(of(bad), Err("InvalidRange".to_owned()), "{bad}");
        }
        assert!(range(Some("bytes=0-0"), 0).is_err());
    }

    #[test]
    fn entity_tags() {
        assert!(names("\"a\", W/\"b\"", "b") && names("*", "x") && names("a", "a") && !names("\"a\"", "b"));
        assert_eq!(http_date("Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(http_date("yesterday"), None);
    }
}
