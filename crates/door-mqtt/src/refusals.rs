//! Every "no" is counted and said in the log, with who and why; the same "no" over and over is said once in a
//! while, with how often.

use kilter_core::{
    CertificateId,
    ports::{clock::Clock, deliver::RefusalView},
};
use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tracing::warn;

/// A line is said again after this long at the earliest.
const REPEAT_AFTER: Duration = Duration::from_secs(10);
/// Different lines about one client and kind within that time: enough to see what goes on, too few for a
/// client to fill the disk with its inventions.
const LINES_MAX: usize = 5;
/// Clients remembered; beyond it the memory starts afresh, and lines may repeat early.
const REMEMBERED_MAX: usize = 1024;
/// Lines kept for whoever asks what was refused: a screen or two.
const LATEST_MAX: usize = 200;

/// The label `reason` of `kilter_mqtt_refusals_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Handshake,
    Certificate,
    ClientId,
    Connect,
    Will,
    Publish,
    Subscribe,
    Receive,
    Protocol,
    TakenOver,
    Slow,
    Timeout,
    Capacity,
    Storage,
}

impl Kind {
    const fn label(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Certificate => "certificate",
            Self::ClientId => "client_id",
            Self::Connect => "connect",
            Self::Will => "will",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Receive => "receive",
            Self::Protocol => "protocol",
            Self::TakenOver => "taken_over",
            Self::Slow => "slow_subscriber",
            Self::Timeout => "timeout",
            Self::Capacity => "capacity",
            Self::Storage => "storage",
        }
    }
}

/// Whom a line is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub peer: SocketAddr,
    /// Empty before CONNECT.
    pub client_id: &'a str,
    /// `None` before the handshake is done.
    pub certificate: Option<&'a CertificateId>,
}

pub struct Refusals {
    said: Mutex<HashMap<u64, Said>>,
    /// Oldest first.
    latest: Mutex<VecDeque<RefusalView>>,
    clock: Arc<dyn Clock>,
}

/// What was said about one client and kind.
#[derive(Debug)]
struct Said {
    since: Instant,
    /// Hashes of the reasons.
    reasons: Vec<u64>,
    unsaid: u64,
}

impl Refusals {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { said: Mutex::default(), latest: Mutex::default(), clock }
    }

    /// Newest first.
    pub fn latest(&self) -> Vec<RefusalView> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// The same "no" to the same client counts up.
    fn remember(&self, kind: Kind, subject: Subject<'_>, reason: &str) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &&mut RefusalView| {
            known.kind == kind.label()
                && known.client_id == subject.client_id
                && known.certificate.as_ref() == subject.certificate
                && known.reason == reason
        };
        if let Some(known) = latest.iter_mut().rev().find(same) {
            known.count += 1;
            return;
        }
        if latest.len() >= LATEST_MAX {
            latest.pop_front();
        }
        latest.push_back(RefusalView {
            time: self.clock.now(),
            kind: kind.label().to_owned(),
            peer: subject.peer.to_string(),
            client_id: subject.client_id.to_owned(),
            certificate: subject.certificate.cloned(),
            reason: reason.to_owned(),
            count: 1,
        });
    }

    /// `reason` is for the operator: topic and action where there are any, never a payload.
    pub fn report(&self, kind: Kind, subject: Subject<'_>, reason: &str) {
        metrics::counter!("kilter_mqtt_refusals_total", "reason" => kind.label()).increment(1);
        self.remember(kind, subject, reason);
        let Some(unsaid) = self.gate(kind, subject, reason) else { return };
        let certificate = subject.certificate.map_or("", CertificateId::as_str);
        let (peer, client_id, kind) = (subject.peer, subject.client_id, kind.label());
        warn!(%peer, client_id, certificate, kind, reason, unsaid, "MQTT: refused");
    }

    /// How many lines about this client and kind were left out since the last one, or `None`: leave out this
    /// one as well.
    fn gate(&self, kind: Kind, subject: Subject<'_>, reason: &str) -> Option<u64> {
        let whom = hash((kind, subject.peer.ip(), subject.client_id, subject.certificate));
        let reason = hash(reason);
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= REMEMBERED_MAX {
            said.clear();
        }
        let said = said.entry(whom).or_insert_with(|| Said { since: now, reasons: Vec::new(), unsaid: 0 });
        if now.duration_since(said.since) >= REPEAT_AFTER {
            (said.since, said.reasons) = (now, Vec::new());
        }
        if said.reasons.contains(&reason) || said.reasons.len() >= LINES_MAX {
            said.unsaid += 1;
            return None;
        }
        said.reasons.push(reason);
        Some(std::mem::take(&mut said.unsaid))
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_line_is_said_once_in_a_while() {
        let refusals = Refusals::new(Arc::new(kilter_core::ports::clock::SystemClock));
        let subject = Subject { peer: "127.0.0.1:1".parse().unwrap(), client_id: "c", certificate: None };
        let other_port = Subject { peer: "127.0.0.1:2".parse().unwrap(), ..subject };
        assert_eq!(refusals.gate(Kind::Publish, subject, "no"), Some(0));
        assert_eq!(refusals.gate(Kind::Publish, other_port, "no"), None);
        assert_eq!(refusals.gate(Kind::Publish, subject, "another"), Some(1));
        for i in 0..100 {
            refusals.gate(Kind::Publish, subject, &format!("invention {i}"));
        }
        assert_eq!(refusals.gate(Kind::Will, subject, "another kind"), Some(0));
        tokio::time::advance(REPEAT_AFTER).await;
        assert_eq!(refusals.gate(Kind::Publish, subject, "no"), Some(97));
        for i in 0..3 * REMEMBERED_MAX {
            refusals.gate(Kind::Publish, Subject { client_id: &i.to_string(), ..subject }, "no");
        }
        assert!(refusals.said.lock().unwrap().len() <= REMEMBERED_MAX);
    }

    #[test]
    fn the_latest_are_kept_newest_first_and_counted() {
        let refusals = Refusals::new(Arc::new(kilter_core::ports::clock::SystemClock));
        let subject = Subject { peer: "127.0.0.1:1".parse().unwrap(), client_id: "c", certificate: None };
        for i in 0..LATEST_MAX + 1 {
            refusals.report(Kind::Publish, subject, &i.to_string());
        }
        refusals.report(Kind::Publish, subject, "7");
        let latest = refusals.latest();
        assert_eq!(latest.len(), LATEST_MAX);
        assert_eq!((latest[0].reason.as_str(), latest[0].count), (LATEST_MAX.to_string().as_str(), 1));
        assert_eq!(latest.iter().find(|line| line.reason == "7").unwrap().count, 2);
        assert!(latest.iter().all(|line| line.reason != "0"));
    }
}
