//! What one connection has handed to the pipeline and not yet acknowledged.

use crate::connection::TenantShare;
use futures::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use kilter_core::ports::stream::StreamError;
use kilter_mqtt::session::{Inbound, Receipt};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

/// Bytes of payload that one connection may have waiting for the disk; beyond it the socket is not read.
/// With the largest payload that is 32 messages, with the usual ones the receive maximum comes first.
pub const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Batches that one connection may have waiting: bounds what a sender of tiny QoS 0 messages holds.
const WAITING_BATCHES_MAX: usize = 256;

/// Consecutive messages that were accepted with one call.
struct Batch {
    durable: BoxFuture<'static, Result<(), StreamError>>,
    /// With the bytes of its payloads; there until it is answered.
    after: Option<(After, usize)>,
}

/// What is to be done once a batch is safe.
#[derive(Debug, Clone)]
pub enum After {
    /// QoS 0: nothing.
    Nothing,
    /// Acknowledge, from the first to the last.
    Acknowledge(Receipt, Receipt),
    /// A QoS 2 message of a kept session is in its streams: give it to subscribers, and mark that it is done.
    HandOn(Box<Inbound>),
}

impl Future for Batch {
    type Output = ((After, usize), Result<(), StreamError>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = std::task::ready!(self.durable.as_mut().poll(cx));
        let after = self.after.take().expect("a batch is asked no more once it has answered");
        Poll::Ready((after, outcome))
    }
}

/// Batches in flight, answered in their order.
#[derive(Default)]
pub struct Waiting {
    batches: FuturesOrdered<Batch>,
    bytes: usize,
    /// Whose bytes these are as well.
    tenant: Option<Arc<TenantShare>>,
}

impl Waiting {
    /// The client's tenant is known; nothing waits yet.
    pub fn belongs_to(&mut self, tenant: Arc<TenantShare>) {
        self.tenant = Some(tenant);
    }

    pub fn push(&mut self, durable: BoxFuture<'static, Result<(), StreamError>>, after: After, bytes: usize) {
        self.bytes += bytes;
        if let Some(tenant) = &self.tenant {
            tenant.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.batches.push_back(Batch { durable, after: Some((after, bytes)) });
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub fn has_room(&self) -> bool {
        self.bytes < WAITING_BYTES_MAX && self.batches.len() < WAITING_BATCHES_MAX
    }

    /// The next batch's outcome; pending for ever while there is none, so that it can stand in a `select!`.
    pub async fn next(&mut self) -> (After, Result<(), StreamError>) {
        match self.batches.next().await {
            Some(((after, bytes), outcome)) => {
                self.gone(bytes);
                (after, outcome)
            }
            None => std::future::pending().await,
        }
    }

    fn gone(&mut self, bytes: usize) {
        self.bytes -= bytes;
        if let Some(tenant) = &self.tenant {
            tenant.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// What is given up does not count for the tenant any more.
impl Drop for Waiting {
    fn drop(&mut self) {
        self.gone(self.bytes);
    }
}
