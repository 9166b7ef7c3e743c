//! What one connection has handed to the pipeline and not yet acknowledged.

use futures::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use kilter_core::ports::stream::StreamError;
use kilter_mqtt::session::Receipt;
use std::{
    future::Future,
    pin::Pin,
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
    settled: Settled,
}

/// A batch that is safe. `receipts` is first and last, where any message was of QoS 1.
#[derive(Debug, Clone, Copy)]
pub struct Settled {
    pub receipts: Option<(Receipt, Receipt)>,
    bytes: usize,
}

impl Future for Batch {
    type Output = Result<Settled, StreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let settled = self.settled;
        self.durable.as_mut().poll(cx).map(|outcome| outcome.map(|()| settled))
    }
}

/// Batches in flight, answered in their order.
#[derive(Default)]
pub struct Waiting {
    batches: FuturesOrdered<Batch>,
    bytes: usize,
}

impl Waiting {
    pub fn push(
        &mut self,
        durable: BoxFuture<'static, Result<(), StreamError>>,
        receipts: Option<(Receipt, Receipt)>,
        bytes: usize,
    ) {
        self.bytes += bytes;
        self.batches.push_back(Batch { durable, settled: Settled { receipts, bytes } });
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub fn has_room(&self) -> bool {
        self.bytes < WAITING_BYTES_MAX && self.batches.len() < WAITING_BATCHES_MAX
    }

    /// The next batch's outcome; pending for ever while there is none, so that it can stand in a `select!`.
    pub async fn next(&mut self) -> Result<Settled, StreamError> {
        match self.batches.next().await {
            Some(outcome) => {
                let settled = outcome?;
                self.bytes -= settled.bytes;
                Ok(settled)
            }
            None => std::future::pending().await,
        }
    }
}
