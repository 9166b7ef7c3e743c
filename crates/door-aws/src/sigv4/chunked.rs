//! `aws-chunked` bodies: `size[;chunk-signature=…]`, data, …, a chunk of size 0, and trailers. Decoded as bytes come,
//! nothing is gathered but a line.

use super::{EMPTY_SHA256, SigningKey, hex};
use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Buf, Bytes, BytesMut};
use subtle::ConstantTimeEq;

/// A chunk's head or a trailer; the longest real one is below 200 bytes.
const LINE_BYTES_MAX: usize = 4 * 1024;
/// Trailers of one body: a checksum and its signature.
const TRAILERS_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("a chunk's head cannot be read")]
    Head,
    #[error("a chunk does not end with a line break")]
    End,
    #[error("a chunk's signature does not match")]
    Signature,
    #[error("a trailer cannot be read")]
    Trailer,
    #[error("the body ended before its last chunk")]
    Incomplete,
    #[error("there is more after the last chunk")]
    Surplus,
}

/// Checks the signatures of chunks, each of which covers the one before.
pub struct Signer {
    key: SigningKey,
    time: String,
    scope: String,
    previous: String,
}

impl Signer {
    pub(super) fn new(key: SigningKey, time: String, scope: String, seed: String) -> Self {
        Self { key, time, scope, previous: seed }
    }

    fn chunk(&self, hash: &str) -> String {
        let (time, scope, previous) = (&self.time, &self.scope, &self.previous);
        self.key.sign(&format!("AWS4-HMAC-SHA256-PAYLOAD\n{time}\n{scope}\n{previous}\n{EMPTY_SHA256}\n{hash}"))
    }

    fn trailer(&self, hash: &str) -> String {
        let (time, scope, previous) = (&self.time, &self.scope, &self.previous);
        self.key.sign(&format!("AWS4-HMAC-SHA256-TRAILER\n{time}\n{scope}\n{previous}\n{hash}"))
    }
}

#[cfg(test)]
impl Signer {
    /// As a client signs the next chunk.
    pub(super) fn sign_chunk(&mut self, data: &[u8]) -> String {
        self.previous = self.chunk(&super::sha256_hex(data));
        self.previous.clone()
    }

    pub(super) fn sign_trailer(&self, text: &str) -> String {
        self.trailer(&super::sha256_hex(text.as_bytes()))
    }
}

enum State {
    Head,
    Data {
        left: u64,
        last: bool,
    },
    /// The line break after a chunk's data.
    Break {
        last: bool,
    },
    Trailers,
    Done,
}

/// The decoder.
pub struct Chunks {
    state: State,
    waiting: BytesMut,
    signer: Option<Signer>,
    signed_trailer: bool,
    hash: Context,
    claimed: String,
    trailers: Vec<(String, String)>,
}

impl Chunks {
    /// `signer`: the chunks are signed; `signed_trailer`: what follows them is too.
    pub fn new(signer: Option<Signer>, signed_trailer: bool) -> Self {
        Self {
            state: State::Head,
            waiting: BytesMut::new(),
            signer,
            signed_trailer,
            hash: Context::new(&SHA256),
            claimed: String::new(),
            trailers: Vec::new(),
        }
    }

    /// Takes bytes of the body; answers the data in them, in order.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Bytes>, ChunkError> {
        self.waiting.extend_from_slice(bytes);
        let mut data = Vec::new();
        loop {
            match self.state {
                State::Head => {
                    let Some(line) = self.line(ChunkError::Head)? else { return Ok(data) };
                    self.head(&line)?;
                }
                State::Data { left, last } => {
                    if left == 0 {
                        self.chunk_done(last)?;
                        continue;
                    }
                    if self.waiting.is_empty() {
                        return Ok(data);
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.waiting.len());
                    let part = self.waiting.split_to(take).freeze();
                    self.hash.update(&part);
                    self.state = State::Data { left: left - take as u64, last };
                    data.push(part);
                }
                State::Break { last } => {
                    if self.waiting.len() < 2 {
                        return Ok(data);
                    }
                    if &self.waiting[..2] != b"\r\n" {
                        return Err(ChunkError::End);
                    }
                    self.waiting.advance(2);
                    self.state = if last { State::Done } else { State::Head };
                }
                State::Trailers => {
                    let Some(line) = self.line(ChunkError::Trailer)? else { return Ok(data) };
                    self.trailer(&line)?;
                }
                // Clients differ in how many line breaks they send at the end.
                State::Done if self.waiting.iter().all(|b| matches!(b, b'\r' | b'\n')) && self.waiting.len() <= 4 => {
                    return Ok(data);
                }
                State::Done => return Err(ChunkError::Surplus),
            }
        }
    }

    /// The body has ended; answers its trailers, names in lower case.
    pub fn finish(mut self) -> Result<Vec<(String, String)>, ChunkError> {
        match self.state {
            State::Done => {}
            // A body without trailers may end right after its last chunk.
            State::Trailers | State::Break { last: true } if self.waiting.is_empty() && !self.signed_trailer => {}
            _ => return Err(ChunkError::Incomplete),
        }
        Ok(std::mem::take(&mut self.trailers))
    }

    fn line(&mut self, error: ChunkError) -> Result<Option<String>, ChunkError> {
        let seen = &self.waiting[..self.waiting.len().min(LINE_BYTES_MAX)];
        let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
            return if seen.len() == LINE_BYTES_MAX { Err(error) } else { Ok(None) };
        };
        let line = self.waiting.split_to(end);
        self.waiting.advance(2);
        String::from_utf8(line.to_vec()).map(Some).map_err(|_| error)
    }

    fn head(&mut self, line: &str) -> Result<(), ChunkError> {
        let (size, rest) = line.split_once(';').unwrap_or((line, ""));
        if size.is_empty() || size.len() > 16 || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ChunkError::Head);
        }
        let left = u64::from_str_radix(size, 16).map_err(|_| ChunkError::Head)?;
        if self.signer.is_some() {
            self.claimed = rest.strip_prefix("chunk-signature=").ok_or(ChunkError::Head)?.to_owned();
        }
        self.hash = Context::new(&SHA256);
        self.state = State::Data { left, last: left == 0 };
        Ok(())
    }

    fn chunk_done(&mut self, last: bool) -> Result<(), ChunkError> {
        if let Some(signer) = &mut self.signer {
            let hash = std::mem::replace(&mut self.hash, Context::new(&SHA256)).finish();
            let right = signer.chunk(&hex(hash.as_ref()));
            if !bool::from(right.as_bytes().ct_eq(self.claimed.as_bytes())) {
                return Err(ChunkError::Signature);
            }
            signer.previous = right;
        }
        let trailers = last && (self.signer.is_none() || self.signed_trailer);
        self.state = if trailers { State::Trailers } else { State::Break { last } };
        Ok(())
    }

    fn trailer(&mut self, line: &str) -> Result<(), ChunkError> {
        if line.is_empty() {
            // The end. A signed trailer was checked when its signature came.
            if self.signed_trailer && !self.trailers.is_empty() {
                return Err(ChunkError::Signature);
            }
            self.state = State::Done;
            return Ok(());
        }
        let (name, value) = line.split_once(':').ok_or(ChunkError::Trailer)?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        if name == "x-amz-trailer-signature" {
            let signer = self.signer.as_ref().ok_or(ChunkError::Trailer)?;
            let text: String = self.trailers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
            let right = signer.trailer(&super::sha256_hex(text.as_bytes()));
            if !bool::from(right.as_bytes().ct_eq(value.as_bytes())) {
                return Err(ChunkError::Signature);
            }
            self.state = State::Done;
            return Ok(());
        }
        if self.trailers.len() == TRAILERS_MAX {
            return Err(ChunkError::Trailer);
        }
        self.trailers.push((name, value));
        Ok(())
    }
}
