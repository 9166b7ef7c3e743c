//! Tells somebody about an alert.

use crate::Alert;
use futures::future::BoxFuture;

/// One destination. The caller retries and keeps the alert until `Ok`, so a receiver may see an alert
/// twice: `alert.key` is the idempotency key.
pub trait Notify: Send + Sync {
    /// As shown in an alert's deliveries.
    fn name(&self) -> &str;
    /// Whether this destination is for the alert at all.
    fn wants(&self, alert: &Alert) -> bool;
    /// `Ok` only when the destination has it.
    fn publish<'a>(&'a self, alert: &'a Alert) -> BoxFuture<'a, Result<(), NotifyError>>;
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct NotifyError {
    /// `false`: trying again is pointless (the receiver refused it for good).
    pub retryable: bool,
    pub message: String,
}
