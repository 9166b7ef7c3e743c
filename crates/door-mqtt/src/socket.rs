//! One byte stream, read and written by one task: no split halves, no lock, no copy of a message.

use bytes::{Buf, BytesMut};
use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// What is read at once while little comes: on the stack, so that an idle connection keeps nothing for it.
const READ_BYTES_MIN: usize = 2 * 1024;
/// What a busy one grows to: four TLS records in one turn.
const READ_BYTES_MAX: usize = 64 * 1024;
/// A drained outbox with more room than this gives it back.
const WRITE_BYTES_KEPT: usize = 4 * 1024;

#[derive(Debug)]
pub struct Socket<S> {
    stream: S,
    pub inbound: BytesMut,
    read_bytes: usize,
    /// Written to the TLS layer but perhaps not to the network.
    unflushed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// This many bytes were appended to `inbound`; 0 is the end.
    Read(usize),
    /// The outbox is empty and on its way.
    Written,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, inbound: BytesMut::new(), read_bytes: READ_BYTES_MIN, unflushed: false }
    }

    /// Writes the outbox and reads, whichever goes. May be dropped at any point without loss. Pending for
    /// ever when there is nothing to write and `reading` is off.
    pub async fn progress(&mut self, outbox: &mut BytesMut, reading: bool) -> io::Result<Progress> {
        poll_fn(|cx| {
            let had_output = !outbox.is_empty() || self.unflushed;
            if had_output && self.poll_drain(cx, outbox)?.is_ready() {
                return Poll::Ready(Ok(Progress::Written));
            }
            if reading { self.poll_read(cx) } else { Poll::Pending }
        })
        .await
    }

    /// Writes all of the outbox.
    pub async fn drain(&mut self, outbox: &mut BytesMut) -> io::Result<()> {
        poll_fn(|cx| self.poll_drain(cx, outbox)).await
    }

    /// Says the TLS goodbye.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>, outbox: &mut BytesMut) -> Poll<io::Result<()>> {
        while !outbox.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, outbox))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            outbox.advance(written);
            self.unflushed = true;
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unflushed = false;
        if outbox.capacity() > WRITE_BYTES_KEPT {
            *outbox = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        if self.inbound.is_empty() && self.inbound.capacity() > 2 * self.read_bytes {
            self.inbound = BytesMut::new();
        }
        let read = if self.read_bytes == READ_BYTES_MIN {
            let mut space = [MaybeUninit::uninit(); READ_BYTES_MIN];
            let mut little = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut little))?;
            self.inbound.extend_from_slice(little.filled());
            little.filled().len()
        } else {
            self.inbound.reserve(self.read_bytes);
            ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.inbound))?
        };
        if read >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        } else if read < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        }
        Poll::Ready(Ok(Progress::Read(read)))
    }
}
