//! The way back to devices, and what their door has to tell.

use crate::{CertificateId, MessageProperties, Timestamp, ports::stream::StreamError};
use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a devices' door does for the rest.
pub trait Deliver: Send + Sync {
    /// Hands a message to whoever subscribes to its topic and may receive it. Rules do not see it: who wants them
    /// to asks `Ingest` first. Queued at once, never waits; the future resolves once it is durable for every
    /// session that outlives the server.
    fn deliver(&self, message: Outgoing) -> BoxFuture<'static, Result<(), StreamError>>;

    /// The latest refusals, newest first; bounded.
    fn refusals(&self) -> Vec<RefusalView>;

    /// Sessions, connected or kept, sorted by client id.
    fn sessions(&self) -> Vec<SessionView>;

    /// The retained message of a topic.
    fn retained(&self, topic: &str) -> Option<Outgoing>;

    /// Topics of retained messages, sorted, strictly after `after`, at most `limit`.
    fn retained_topics(&self, after: Option<&str>, limit: usize) -> Vec<String>;
}

/// A message for subscribers.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub topic: Arc<str>,
    pub payload: Bytes,
    /// 0 to 2.
    pub qos: u8,
    /// Keep it for those who subscribe later; an empty payload removes what is kept.
    pub retain: bool,
    pub properties: Option<Arc<MessageProperties>>,
}

/// One "no" to a device, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalView {
    pub time: Timestamp,
    /// Which check failed: `handshake`, `certificate`, `client_id`, `publish`, …
    pub kind: String,
    pub peer: String,
    /// Empty before CONNECT.
    pub client_id: String,
    pub certificate: Option<CertificateId>,
    pub reason: String,
    /// How often it was said since `time`.
    pub count: u64,
}

/// A client's session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    pub client_id: String,
    pub certificate: Option<CertificateId>,
    /// `None` while it is not connected.
    pub peer: Option<String>,
    /// `3.1.1` or `5`.
    pub version: String,
    pub since: Timestamp,
    /// When it ends, where it is not connected and ends at all.
    pub expires: Option<Timestamp>,
    pub subscriptions: Vec<String>,
    /// QoS 1 and 2 messages that the client has not acknowledged, sent or not.
    pub queued: u64,
    pub queued_bytes: u64,
}
