//! A request's body while it comes in, checked against what was signed.

use crate::{
    AwsError,
    sigv4::{chunked::Chunks, hex},
};
use aws_lc_rs::digest::{Context, SHA256};
use axum::{
    body::{Body, BodyDataStream, HttpBody},
    http::StatusCode,
};
use bytes::Bytes;
use futures::{StreamExt, ready};
use hyper::body::{Frame, SizeHint};
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};
use subtle::ConstantTimeEq;

/// Notes when a body has come to its end.
pub(crate) struct Watched {
    pub body: Body,
    pub ended: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() {
            self.ended.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body must go on within this.
pub(crate) const BODY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Decoded pieces, then the end. Only the end says that all of it is what was signed.
pub struct Payload {
    from: BodyDataStream,
    check: Check,
    ready: VecDeque<Bytes>,
    /// Bytes after decoding, as the request announced them.
    announced: Option<u64>,
    seen: u64,
    trailers: Vec<(String, String)>,
    ended: bool,
}

pub(crate) enum Check {
    None,
    Whole { hash: Context, claimed: String },
    Chunks(Option<Box<Chunks>>),
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload").field("announced", &self.announced).field("seen", &self.seen).finish_non_exhaustive()
    }
}

fn refused(code: &str, message: impl Into<String>) -> AwsError {
    AwsError::new(code, message)
}

impl Payload {
    pub(crate) fn new(from: BodyDataStream, check: Check, announced: Option<u64>) -> Self {
        Self { from, check, ready: VecDeque::new(), announced, seen: 0, trailers: Vec::new(), ended: false }
    }

    pub(crate) fn whole(claimed: String) -> Check {
        Check::Whole { hash: Context::new(&SHA256), claimed }
    }

    /// Bytes that will come, where the request says so.
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// What followed an `aws-chunked` body (`x-amz-checksum-…`), names in lower case; complete once the end was seen.
    pub fn trailers(&self) -> &[(String, String)] {
        &self.trailers
    }

    /// The next piece; `None` is the end, and all was right.
    pub async fn next(&mut self) -> Result<Option<Bytes>, AwsError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.seen += piece.len() as u64;
                return Ok(Some(piece));
            }
            if self.ended {
                return Ok(None);
            }
            let next = tokio::time::timeout(BODY_PAUSE_MAX, self.from.next()).await;
            let next = next.map_err(|_| {
                refused(
                    "RequestTimeout",
                    "Your socket connection to the server was not read from or written to within the timeout period",
                )
            })?;
            match next {
                Some(Ok(bytes)) => self.take(bytes)?,
                Some(Err(_)) => return Err(refused("IncompleteBody", "The connection broke before the body's end")),
                None => self.end()?,
            }
        }
    }

    /// All of it, at most `limit` bytes.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, AwsError> {
        let mut all = Vec::new();
        while let Some(piece) = self.next().await? {
            if all.len() + piece.len() > limit {
                return Err(too_large(limit));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }

    fn take(&mut self, bytes: Bytes) -> Result<(), AwsError> {
        match &mut self.check {
            Check::None => self.ready.push_back(bytes),
            Check::Whole { hash, .. } => {
                hash.update(&bytes);
                self.ready.push_back(bytes);
            }
            Check::Chunks(chunks) => {
                let chunks = chunks.as_mut().expect("the decoder is taken at the end only");
                let pieces = chunks.push(&bytes);
                self.ready.extend(pieces.map_err(|error| chunk_error(&error))?);
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), AwsError> {
        self.ended = true;
        match &mut self.check {
            Check::None => {}
            Check::Whole { hash, claimed } => {
                let right = hex(hash.clone().finish().as_ref());
                if !bool::from(right.as_bytes().ct_eq(claimed.as_bytes())) {
                    let message = "The provided 'x-amz-content-sha256' header does not match what was computed.";
                    return Err(refused("XAmzContentSHA256Mismatch", message));
                }
            }
            Check::Chunks(chunks) => {
                let chunks = chunks.take().expect("the end comes once");
                self.trailers = chunks.finish().map_err(|error| chunk_error(&error))?;
            }
        }
        if self.announced.is_some_and(|announced| announced != self.seen) {
            let message = "You did not provide the number of bytes specified by the Content-Length HTTP header";
            return Err(refused("IncompleteBody", message));
        }
        Ok(())
    }
}

pub(crate) fn too_large(limit: usize) -> AwsError {
    AwsError::new("RequestEntityTooLarge", format!("The request's body is larger than {limit} bytes"))
        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

fn chunk_error(error: &crate::sigv4::chunked::ChunkError) -> AwsError {
    use crate::sigv4::chunked::ChunkError as E;
    match error {
        E::Signature => refused("SignatureDoesNotMatch", error.to_string()).with_status(StatusCode::FORBIDDEN),
        E::Incomplete => refused("IncompleteBody", error.to_string()),
        _ => refused("InvalidRequest", format!("the aws-chunked body is not valid: {error}")),
    }
}
