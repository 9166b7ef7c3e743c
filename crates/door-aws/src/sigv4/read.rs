//! Finds a request's signature: in the `Authorization` header, or in the query of a presigned address.

use super::{ALGORITHM, BodyHash, Denial, DenialKind, PRESIGNED_SECONDS_MAX, Signed};
use axum::http::{HeaderMap, request::Parts};
use chrono::NaiveDateTime;
use kilter_core::Timestamp;

fn incomplete(message: impl Into<String>) -> Denial {
    Denial::new(DenialKind::Incomplete, message)
}

/// `None` where the request is not signed at all. `query` is the decoded one.
pub fn read(parts: &Parts, query: &[(String, String)]) -> Result<Option<Signed>, Denial> {
    let param = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let header = text(&parts.headers, "authorization")?;
    let signed = match (header, param("X-Amz-Algorithm")) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(incomplete("Only one way of signing may be used: header or query")),
        (Some(header), None) => from_header(&parts.headers, header)?,
        (None, Some(algorithm)) => from_query(algorithm, &param, &parts.headers)?,
    };
    if !signed.headers.iter().any(|name| name == "host") {
        return Err(incomplete("'Host' must be a signed header"));
    }
    // Whatever steers the service must be what the signer wrote.
    let unsigned = parts
        .headers
        .keys()
        .find(|name| name.as_str().starts_with("x-amz-") && !signed.headers.iter().any(|known| known == name.as_str()));
    if let Some(name) = unsigned.filter(|name| name.as_str() != "x-amz-content-sha256" || signed.service == "s3") {
        return Err(incomplete(format!("There were headers present in the request which were not signed: {name}")));
    }
    Ok(Some(signed))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Denial> {
    let value = headers.get(name).map(|value| value.to_str());
    value.transpose().map_err(|_| incomplete(format!("The header {name} cannot be read")))
}

fn from_header(headers: &HeaderMap, value: &str) -> Result<Signed, Denial> {
    let rest = value.strip_prefix(ALGORITHM).ok_or_else(|| {
        let scheme = value.split(' ').next().unwrap_or_default();
        incomplete(format!("Unsupported authorization {scheme:.32}: use signature version 4, {ALGORITHM}"))
    })?;
    let part = |name: &str| {
        let found = rest.split(',').map(str::trim).find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.ok_or_else(|| incomplete(format!("Authorization header requires '{name}' parameter.")))
    };
    let time = match text(headers, "x-amz-date")? {
        Some(time) => time.to_owned(),
        None => from_date(text(headers, "date")?)?,
    };
    let signed = Parsed {
        credential: part("Credential")?,
        headers: part("SignedHeaders")?,
        signature: part("Signature")?,
        time: &time,
        token: text(headers, "x-amz-security-token")?,
        valid_seconds: None,
        body: body_hash(text(headers, "x-amz-content-sha256")?)?,
    };
    signed.finish()
}

fn from_date(header: Option<&str>) -> Result<String, Denial> {
    let missing = || incomplete("The request needs an 'X-Amz-Date' or 'Date' header");
    let date = chrono::DateTime::parse_from_rfc2822(header.ok_or_else(missing)?).map_err(|_| missing())?;
    Ok(date.to_utc().format("%Y%m%dT%H%M%SZ").to_string())
}

fn from_query<'a>(
    algorithm: &str,
    param: &impl Fn(&str) -> Option<&'a str>,
    headers: &HeaderMap,
) -> Result<Signed, Denial> {
    if algorithm != ALGORITHM {
        return Err(incomplete(format!("X-Amz-Algorithm only supports {ALGORITHM}")));
    }
    let need = |name: &str| param(name).ok_or_else(|| incomplete(format!("The address lacks '{name}'")));
    let valid: u64 = need("X-Amz-Expires")?.parse().map_err(|_| incomplete("X-Amz-Expires should be a number"))?;
    if valid == 0 || valid > PRESIGNED_SECONDS_MAX {
        return Err(incomplete(format!("X-Amz-Expires must be 1 to {PRESIGNED_SECONDS_MAX} seconds")));
    }
    let body = match text(headers, "x-amz-content-sha256")?.or(param("X-Amz-Content-Sha256")) {
        Some(said) => body_hash(Some(said))?,
        None => BodyHash::Unsigned,
    };
    let signed = Parsed {
        credential: need("X-Amz-Credential")?,
        headers: need("X-Amz-SignedHeaders")?,
        signature: need("X-Amz-Signature")?,
        time: need("X-Amz-Date")?,
        token: param("X-Amz-Security-Token"),
        valid_seconds: Some(valid),
        body,
    };
    signed.finish()
}

fn body_hash(header: Option<&str>) -> Result<BodyHash, Denial> {
    Ok(match header {
        None => BodyHash::Whole(None),
        Some("UNSIGNED-PAYLOAD") => BodyHash::Unsigned,
        Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD") => BodyHash::SignedChunks { trailer: false },
        Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER") => BodyHash::SignedChunks { trailer: true },
        Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER") => BodyHash::UnsignedChunks,
        Some(hash) if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            BodyHash::Whole(Some(hash.to_ascii_lowercase()))
        }
        Some(other) => {
            return Err(incomplete(format!("x-amz-content-sha256 has a value that is not supported: {other:.64}")));
        }
    })
}

struct Parsed<'a> {
    credential: &'a str,
    headers: &'a str,
    signature: &'a str,
    time: &'a str,
    token: Option<&'a str>,
    valid_seconds: Option<u64>,
    body: BodyHash,
}

impl Parsed<'_> {
    fn finish(self) -> Result<Signed, Denial> {
        let malformed = || incomplete("The Credential must be KEY/YYYYMMDD/REGION/SERVICE/aws4_request");
        // From the end: a key id may hold anything.
        let mut scope = self.credential.rsplitn(5, '/');
        let mut next = || scope.next().filter(|part| !part.is_empty()).ok_or_else(malformed);
        let (end, service, region, date, access_key) = (next()?, next()?, next()?, next()?, next()?);
        if end != "aws4_request" {
            return Err(malformed());
        }
        let at = NaiveDateTime::parse_from_str(self.time, "%Y%m%dT%H%M%SZ")
            .ok()
            .filter(|_| self.time.len() == 16)
            .and_then(|time| time.and_utc().timestamp_nanos_opt())
            .ok_or_else(|| incomplete("The date must be in ISO 8601 basic format: YYYYMMDDTHHMMSSZ"))?;
        if !self.time.starts_with(date) || date.len() != 8 {
            return Err(incomplete("The date of the Credential is not the date of the request"));
        }
        Ok(Signed {
            access_key: access_key.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            session_token: self.token.map(str::to_owned),
            body: self.body,
            date: date.to_owned(),
            time: self.time.to_owned(),
            at: Timestamp::from_nanos(at),
            headers: self.headers.split(';').map(str::to_ascii_lowercase).collect(),
            signature: self.signature.to_owned(),
            valid_seconds: self.valid_seconds,
        })
    }
}
