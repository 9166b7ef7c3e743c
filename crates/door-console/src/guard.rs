//! What every request passes: the host check, the token for changes, headers and counters.

use crate::{App, error::ApiError};
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{net::IpAddr, time::Instant};
use subtle::ConstantTimeEq;

/// Only our own files and our own API; no inline code, no frames, no plug-ins.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Refuses what may not pass; gives every answer the headers that keep a browser careful.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = match permit(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn permit(app: &App, request: &Request) -> Result<(), ApiError> {
    if !host_is_loopback(request.headers(), request.uri()) {
        tracing::warn!(host = ?request.headers().get(header::HOST), "refused a request for a host that is not loopback");
        return Err(ApiError::wrong_host(
            "This server answers only to localhost, 127.0.0.1 and [::1], so that no web page can reach it through \
             a name of its own. Use one of these in the address.",
        ));
    }
    // Everything but reading needs the token, so that a new route cannot be left open by oversight.
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && !bears_token(request.headers(), &app.state.token) {
        tracing::warn!(method = %request.method(), path = request.uri().path(), "refused a change without the token");
        return Err(ApiError::unauthorized(
            "A change needs `Authorization: Bearer <token>`, and the token was missing or wrong. \
             It is in the file identity/token of the data directory.",
        ));
    }
    Ok(())
}

/// Against DNS rebinding: a page that points its own name at 127.0.0.1 is told apart by the name it asks for.
fn host_is_loopback(headers: &HeaderMap, uri: &Uri) -> bool {
    let mut named = headers.get_all(header::HOST).iter();
    let given = match (named.next(), named.next()) {
        (Some(host), None) => host.to_str().ok().and_then(|text| text.parse::<Authority>().ok()),
        (None, _) => uri.authority().cloned(),
        (Some(_), Some(_)) => None,
    };
    let Some(authority) = given.filter(|authority| !authority.as_str().contains('@')) else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn bears_token(headers: &HeaderMap, token: &str) -> bool {
    let sent = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let Some((scheme, sent)) = sent.split_at_checked("Bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty() && bool::from(sent.ct_eq(token.as_bytes()))
}

/// Counts and times each answer under its route, so that the number of label values is bounded.
pub(crate) async fn measure(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("file", MatchedPath::as_str).to_owned();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("kilter_http_requests_total", "route" => route.clone(), "method" => method, "status" => status)
        .increment(1);
    metrics::histogram!("kilter_http_request_duration_seconds", "route" => route, "method" => method)
        .record(started.elapsed().as_secs_f64());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(name).unwrap());
        host_is_loopback(&headers, &Uri::from_static("/"))
    }

    #[test]
    fn only_loopback_is_answered() {
        for good in ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:8080", "127.9.9.9:1", "[::1]", "[::1]:8080"]
        {
            assert!(host(good), "{good}");
        }
        for bad in [
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "10.0.0.1:8080",
            "[::2]",
            "0.0.0.0",
            "user@127.0.0.1",
            "127.1.example:80",
            "localhost:80:80",
            "2130706433",
            "[127.0.0.1",
            " ",
            "::ffff:127.0.0.1",
        ] {
            assert!(!host(bad), "{bad}");
        }
    }

    #[test]
    fn two_hosts_or_none_are_refused() {
        let mut headers = HeaderMap::new();
        assert!(!host_is_loopback(&headers, &Uri::from_static("/")));
        assert!(host_is_loopback(&headers, &Uri::from_static("http://localhost/")));
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(!host_is_loopback(&headers, &Uri::from_static("/")));
    }

    #[test]
    fn the_token_must_be_whole_and_set() {
        let given = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            headers
        };
        assert!(bears_token(&given("Bearer abc"), "abc"));
        assert!(bears_token(&given("bearer abc"), "abc"));
        for bad in ["Bearer abcd", "Bearer ab", "Bearer ", "Basic abc", "abc", "", "Bearer  abc"] {
            assert!(!bears_token(&given(bad), "abc"), "{bad:?}");
        }
        assert!(!bears_token(&given("Bearer "), ""), "an unset token lets nobody in");
    }
}
