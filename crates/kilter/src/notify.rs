//! Where alerts go: the terminal, and webhooks (signed with HMAC-SHA256, one address, no redirects).

use crate::config::{Config, WebhookConfig};
use anyhow::{Context, bail};
use aws_lc_rs::hmac;
use futures::{FutureExt, future::BoxFuture};
use kilter_core::{
    Alert, AlertEvent, TenantId,
    ports::notify::{Notify, NotifyError},
};
use reqwest::{Url, dns::Resolve, header};
use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// A receiver that takes longer has failed; the alert is tried again.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// A shorter secret can be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// One line per alert on standard output.
pub struct TerminalNotify;

impl Notify for TerminalNotify {
    fn name(&self) -> &str {
        "terminal"
    }
    fn wants(&self, _: &Alert) -> bool {
        true
    }
    fn publish<'a>(&'a self, alert: &'a Alert) -> BoxFuture<'a, Result<(), NotifyError>> {
        let mark = match alert.event {
            AlertEvent::Opened => "ALERT",
            AlertEvent::Closed => "ended",
            AlertEvent::Amended => "amend",
            AlertEvent::Withdrawn => "never",
        };
        let severity = format!("{:?}", alert.episode.severity).to_lowercase();
        let line = format!("{mark} {severity:<8} {} · {}\n", alert.episode.tenant, alert.summary);
        // A closed standard output must not keep alerts waiting for ever.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
        futures::future::ready(Ok(())).boxed()
    }
}

pub struct WebhookNotify {
    name: String,
    url: Url,
    tenant: Option<TenantId>,
    key: hmac::Key,
    client: reqwest::Client,
}

impl WebhookNotify {
    /// Reads the secret and checks the address; connects to nothing.
    pub fn new(config: &WebhookConfig) -> anyhow::Result<Self> {
        let name = &config.name;
        let secret = std::fs::read_to_string(&config.secret_file).with_context(|| {
            format!("webhook {name}: its secret file {} cannot be read", config.secret_file.display())
        })?;
        let secret = secret.trim();
        if secret.len() < SECRET_BYTES_MIN {
            bail!(
                "webhook {name}: its secret has fewer than {SECRET_BYTES_MIN} bytes; make one with `openssl rand -hex 32`"
            );
        }
        let url: Url = config.url.parse().with_context(|| format!("webhook {name}: {:?} is not a URL", config.url))?;
        let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        let private = literal.is_some_and(is_private);
        match url.scheme() {
            "https" => {}
            "http" if config.allow_private && literal.is_some_and(|ip| ip.is_loopback()) => {}
            _ => bail!(
                "webhook {name}: {url} must be https (plain http only to a loopback address with allow_private = true)"
            ),
        }
        if private && !config.allow_private {
            bail!("webhook {name}: {url} is a private address; if that is meant, set allow_private = true");
        }
        let mut client = reqwest::Client::builder()
            .timeout(ANSWER_TIME_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("kilter/", env!("CARGO_PKG_VERSION")));
        if !config.allow_private {
            client = client.dns_resolver(Arc::new(PublicOnly));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Ok(Self { name: name.clone(), url, tenant: config.tenant.clone(), key, client: client.build()? })
    }

    async fn post(&self, alert: &Alert) -> Result<(), NotifyError> {
        let body = serde_json::to_vec(alert).map_err(|e| NotifyError { retryable: false, message: e.to_string() })?;
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", &*alert.key)
            .header("Kilter-Signature", signature(&self.key, time, &body))
            .body(body);
        let answer = request.send().await.map_err(|error| {
            // Without its URL: a webhook's address is often itself a secret.
            let why = error.without_url();
            NotifyError { retryable: true, message: format!("no answer: {why:#}") }
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let retryable = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        Err(NotifyError { retryable, message: format!("the receiver answered {status}") })
    }
}

/// `t=<epoch seconds>,v1=<hex HMAC-SHA256 over "<t>.<body>">`.
fn signature(key: &hmac::Key, time: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{time}.").as_bytes());
    context.update(body);
    let tag: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={time},v1={tag}")
}

impl Notify for WebhookNotify {
    fn name(&self) -> &str {
        &self.name
    }
    fn wants(&self, alert: &Alert) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| *tenant == alert.episode.tenant)
    }
    fn publish<'a>(&'a self, alert: &'a Alert) -> BoxFuture<'a, Result<(), NotifyError>> {
        self.post(alert).boxed()
    }
}

/// Resolves names, and refuses those that lead into the private network.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if let Some(private) = found.iter().find(|address| is_private(address.ip())) {
                let why = format!(
                    "{} leads to the private address {}: set allow_private = true if that is meant",
                    name.as_str(),
                    private.ip()
                );
                return Err(why.into());
            }
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        }
        .boxed()
    }
}

pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
                || a == 0
                || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(mapped) => is_private(IpAddr::V4(mapped)),
            None => {
                ip.is_loopback()
                    || ip.is_unspecified()
                    || ip.is_unique_local()
                    || ip.is_unicast_link_local()
                    || ip.is_multicast()
            }
        },
    }
}

/// Where the configuration wants alerts to go, the terminal first.
pub fn destinations(config: &Config, topics: Arc<dyn Notify>) -> anyhow::Result<Vec<Arc<dyn Notify>>> {
    let mut all: Vec<Arc<dyn Notify>> = vec![Arc::new(TerminalNotify), topics];
    for webhook in &config.webhooks {
        all.push(Arc::new(WebhookNotify::new(webhook)?));
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
