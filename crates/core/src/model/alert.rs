//! Alerts: what people are told about an episode.

use crate::{Episode, Timestamp};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertEvent {
    Opened,
    Closed,
    /// Late data: what was told is no longer so.
    Amended,
    /// Late data: there was no such episode.
    Withdrawn,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The idempotency key: the episode's id, the event and its revision. A receiver that saw it may drop a repeat.
    pub key: Box<str>,
    pub event: AlertEvent,
    /// Arrival time of the reading that raised it.
    pub raised: Timestamp,
    pub episode: Episode,
    /// One sentence for people: what, where, why.
    pub summary: String,
    /// Where it was delivered and when; empty while it waits.
    pub deliveries: Vec<Delivery>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// `terminal`, `console` or the webhook's name.
    pub to: String,
    pub at: Timestamp,
    pub attempts: u32,
    /// Why the last attempt failed, where it did; `None` once delivered.
    pub error: Option<String>,
}
