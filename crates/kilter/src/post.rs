//! HTTP to addresses that operators name: of subscribers to notifications, and of rules' `http` actions. Public
//! addresses only, and this machine's own where the AWS endpoint too is for this machine only.

use crate::notify::is_private;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use kilter_core::ports::{
    action::{ActionCall, ActionError, ActionTarget},
    post::{Post, PostRequest},
};
use reqwest::{Url, dns::Resolve};
use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// A receiver that takes longer has failed.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct HttpPost {
    client: reqwest::Client,
    loopback: bool,
}

impl HttpPost {
    /// `loopback`: whether addresses of this machine may be used.
    pub fn new(loopback: bool) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(ANSWER_TIME_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Allowed { loopback }))
            .build()?;
        Ok(Self { client, loopback })
    }

    fn url(&self, url: &str) -> Result<Url, String> {
        let parsed: Url = url.parse().map_err(|error| format!("{url:?} is not a URL: {error}"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(format!("{url:?} is neither http nor https"));
        }
        let literal = parsed.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        match literal.filter(|address| !allowed(*address, self.loopback)) {
            Some(address) => Err(refusal(&address.to_string(), address)),
            None => Ok(parsed),
        }
    }
}

fn allowed(address: IpAddr, loopback: bool) -> bool {
    !is_private(address) || (loopback && address.is_loopback())
}

fn refusal(name: &str, address: IpAddr) -> String {
    format!("{name} leads to the private address {address}, which may not be used")
}

struct Allowed {
    loopback: bool,
}

impl Resolve for Allowed {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let loopback = self.loopback;
        async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if let Some(refused) = found.iter().find(|address| !allowed(address.ip(), loopback)) {
                return Err(refusal(name.as_str(), refused.ip()).into());
            }
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        }
        .boxed()
    }
}

impl Post for HttpPost {
    fn check(&self, url: &str) -> Result<(), String> {
        self.url(url).map(drop)
    }

    fn post(&self, request: PostRequest) -> BoxFuture<'static, Result<u16, String>> {
        let url = match self.url(&request.url) {
            Ok(url) => url,
            Err(why) => return futures::future::ready(Err(why)).boxed(),
        };
        let headers = request.headers.iter();
        let post = headers.fold(self.client.post(url), |post, (name, value)| post.header(name, value));
        let sent = post.body(request.body).send();
        async move {
            match sent.await {
                Ok(answer) => Ok(answer.status().as_u16()),
                // Without its URL, which may itself be a secret.
                Err(error) => Err(format!("no answer: {:#}", anyhow::Error::new(error.without_url()))),
            }
        }
        .boxed()
    }
}

/// The `http` action: the selected JSON to a URL, with headers of the operator's.
impl ActionTarget for HttpPost {
    fn kinds(&self) -> &[&'static str] {
        &["http"]
    }

    fn check(&self, _: &str, parameters: &Value) -> Result<(), String> {
        if parameters.get("auth").is_some_and(|auth| !auth.is_null()) {
            return Err("http actions cannot sign requests here: leave auth out".to_owned());
        }
        let url = parameters["url"].as_str().unwrap_or_default();
        // With templates in it only the finished address can be judged.
        if url.contains("${") { Ok(()) } else { self.url(url).map(drop) }
    }

    fn perform(&self, call: ActionCall) -> BoxFuture<'static, Result<(), ActionError>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let url = text(&call.parameters["url"]);
        let given = call.parameters["headers"].as_array().into_iter().flatten();
        let given = given.map(|header| (text(&header["key"]), text(&header["value"])));
        let mut headers: Vec<_> = given.filter(|(name, _)| !name.is_empty()).collect();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            let json = serde_json::from_slice::<serde::de::IgnoredAny>(&call.payload).is_ok();
            let kind = if json { "application/json" } else { "application/octet-stream" };
            headers.push(("content-type".to_owned(), kind.to_owned()));
        }
        let body: Bytes = call.payload;
        let posted = self.post(PostRequest { url: url.clone(), headers, body });
        async move {
            let (message, retryable) = match posted.await {
                Ok(status) if (200..300).contains(&status) => return Ok(()),
                // Those that AWS tries again.
                Ok(status) => (format!("the receiver answered {status}"), status == 429 || status >= 500),
                Err(why) => (why, true),
            };
            Err(ActionError { resource: url, message, retryable })
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_refused_before_anything_is_sent() {
        let (here, public) = (HttpPost::new(true).unwrap(), HttpPost::new(false).unwrap());
        for (url, on_loopback, elsewhere) in [
            ("https://example.com/hook", true, true),
            ("http://127.0.0.1:9/hook", true, false),
            ("http://[::1]/", true, false),
            ("http://10.0.0.1/", false, false),
            ("http://169.254.169.254/latest", false, false),
            ("ftp://example.com", false, false),
            ("nonsense", false, false),
        ] {
            assert_eq!(
                (Post::check(&here, url).is_ok(), Post::check(&public, url).is_ok()),
                (on_loopback, elsewhere),
                "{url}"
            );
        }
    }
}
