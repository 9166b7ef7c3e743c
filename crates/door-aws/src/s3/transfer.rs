//! Bytes in and out: a body goes to the disk piece by piece while it is hashed, an object comes back the same way.
//! At most a few pieces of it are in memory.

use super::{
    checksum::{Algorithm, Hasher, check_form},
    failure::from_objects,
};
use crate::{AwsError, Call, payload::Payload};
use axum::{body::Body, http::StatusCode};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use kilter_core::ports::objects::{Checksum, Content, ObjectError, Staging, Uploads, Version};
use std::{
    io::{self, Read, Write},
    sync::Arc,
};
use tokio::sync::mpsc;

/// Pieces of a body between the network and the disk; each is what one read of a socket gave.
const PIECES_MAX: usize = 8;
/// Of a read from the disk.
pub(crate) const PIECE_BYTES: usize = 128 * 1024;
/// S3's limit for one request, and so for a part.
pub(crate) const PUT_BYTES_MAX: u64 = 5 << 30;

/// What a request says about its body.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    md5: Option<Vec<u8>>,
    algorithm: Option<Algorithm>,
    /// `None`: it comes in a trailer, or not at all.
    value: Option<String>,
    trailer: bool,
}

impl Expected {
    pub fn of(call: &Call) -> Result<Self, AwsError> {
        let mut expected = Self::default();
        if let Some(md5) = call.header("content-md5") {
            let raw = STANDARD.decode(md5).ok().filter(|raw| raw.len() == 16);
            let invalid = || AwsError::new("InvalidDigest", "The Content-MD5 you specified was invalid.");
            expected.md5 = Some(raw.ok_or_else(invalid)?);
        }
        let mut given = Algorithm::ALL.into_iter().filter(|algorithm| call.headers.contains_key(algorithm.header()));
        if let Some(algorithm) = given.next() {
            if given.next().is_some() {
                let message = "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.";
                return Err(AwsError::new("InvalidRequest", message));
            }
            let value = call.header(algorithm.header()).unwrap_or_default();
            check_form(algorithm, value)?;
            (expected.algorithm, expected.value) = (Some(algorithm), Some(value.to_owned()));
        } else if let Some(trailer) = call.header("x-amz-trailer") {
            let unknown =
                || AwsError::new("InvalidRequest", "The value specified in the x-amz-trailer header is not supported");
            (expected.algorithm, expected.trailer) = (Some(Algorithm::of_header(trailer).ok_or_else(unknown)?), true);
        } else if let Some(name) = call.header("x-amz-sdk-checksum-algorithm") {
            expected.algorithm = Some(algorithm_of(name)?);
        }
        Ok(expected)
    }

    /// Uses this algorithm where the request names none.
    pub fn or(mut self, algorithm: Algorithm) -> Self {
        self.algorithm.get_or_insert(algorithm);
        self
    }

    pub fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// Compares a body that was held whole.
    pub fn check_whole(&self, bytes: &[u8], trailers: &[(String, String)]) -> Result<(), AwsError> {
        let mut hashes = Hashes::new(self.algorithm);
        hashes.update(bytes);
        self.check(hashes, trailers).map(drop)
    }

    /// Compares, and answers what was computed: MD5 in hexadecimal, and the checksum.
    fn check(&self, hashes: Hashes, trailers: &[(String, String)]) -> Result<(String, Option<Checksum>), AwsError> {
        let md5 = hashes.md5.finalize();
        if self.md5.as_ref().is_some_and(|expected| expected[..] != md5.0[..]) {
            return Err(AwsError::new("BadDigest", "The Content-MD5 you specified did not match what we received."));
        }
        let Some((algorithm, hasher)) = hashes.checksum else { return Ok((format!("{md5:x}"), None)) };
        let value = hasher.finish();
        let named = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(algorithm.header());
        let trailer = trailers.iter().find(named).map(|(_, value)| value);
        if self.trailer && trailer.is_none() {
            return Err(AwsError::new("MalformedTrailerError", "The request announced a trailer that did not come."));
        }
        if self.value.as_ref().or(trailer).is_some_and(|expected| *expected != value) {
            let message = format!("The {} you specified did not match the calculated checksum.", algorithm.name());
            return Err(AwsError::new("BadDigest", message));
        }
        let checksum = Checksum { algorithm: algorithm.name().to_owned(), value, composite: false };
        Ok((format!("{md5:x}"), Some(checksum)))
    }
}

pub(crate) fn algorithm_of(name: &str) -> Result<Algorithm, AwsError> {
    let unknown = || {
        AwsError::new(
            "InvalidRequest",
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
        )
    };
    Algorithm::of_name(name).ok_or_else(unknown)
}

struct Hashes {
    md5: md5::Context,
    checksum: Option<(Algorithm, Hasher)>,
}

impl Hashes {
    fn new(algorithm: Option<Algorithm>) -> Self {
        Self { md5: md5::Context::new(), checksum: algorithm.map(|algorithm| (algorithm, Hasher::new(algorithm))) }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.md5.consume(bytes);
        if let Some((_, hasher)) = &mut self.checksum {
            hasher.update(bytes);
        }
    }
}

/// Bytes that are on the disk and belong to no object yet.
pub(crate) struct Received {
    pub content: Content,
    /// Hexadecimal: the entity tag.
    pub md5: String,
    pub checksum: Option<Checksum>,
}

/// Takes a body in. What is wrong with it (length, checksum, signature) is found before anybody sees it.
pub(crate) async fn receive(
    objects: &Arc<dyn Uploads>,
    mut body: Payload,
    expected: &Expected,
    encrypted: bool,
) -> Result<Received, AwsError> {
    if body.announced().is_some_and(|bytes| bytes > PUT_BYTES_MAX) {
        return Err(too_large());
    }
    let (pieces, waiting) = mpsc::channel::<Bytes>(PIECES_MAX);
    let (storage, algorithm) = (objects.clone(), expected.algorithm);
    let writer = tokio::task::spawn_blocking(move || write(&*storage, waiting, algorithm, encrypted));
    let mut seen = 0;
    let fed = loop {
        match body.next().await {
            Ok(None) => break Ok(()),
            Ok(Some(piece)) => {
                seen += piece.len() as u64;
                if seen > PUT_BYTES_MAX {
                    break Err(too_large());
                }
                // A writer that has ended says why below.
                if pieces.send(piece).await.is_err() {
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
    };
    drop(pieces);
    let written = writer.await.map_err(|_| AwsError::internal("the writer of an object panicked"))?;
    // Whatever was written is deleted when it is dropped.
    fed?;
    let (staging, hashes) = written.map_err(from_objects)?;
    let (md5, checksum) = expected.check(hashes, body.trailers())?;
    let finished = tokio::task::spawn_blocking(move || staging.finish()).await;
    let content =
        finished.map_err(|_| AwsError::internal("the writer of an object panicked"))?.map_err(from_objects)?;
    Ok(Received { content, md5, checksum })
}

fn too_large() -> AwsError {
    let message = "Your proposed upload exceeds the maximum allowed size";
    AwsError::new("EntityTooLarge", message)
        .with("MaxSizeAllowed", PUT_BYTES_MAX.into())
        .with_status(StatusCode::BAD_REQUEST)
}

fn write(
    objects: &dyn Uploads,
    mut pieces: mpsc::Receiver<Bytes>,
    algorithm: Option<Algorithm>,
    encrypted: bool,
) -> Result<(Box<dyn Staging>, Hashes), ObjectError> {
    let mut staging = objects.stage(encrypted)?;
    let mut hashes = Hashes::new(algorithm);
    while let Some(piece) = pieces.blocking_recv() {
        hashes.update(&piece);
        staging.write_all(&piece).map_err(disk)?;
    }
    Ok((staging, hashes))
}

/// Copies a range of an object into content of its own. Blocking.
pub(crate) fn copy(
    objects: &dyn Uploads,
    source: &Version,
    range: (u64, u64),
    algorithm: Option<Algorithm>,
    encrypted: bool,
) -> Result<Received, ObjectError> {
    let mut reader = objects.read(&source.contents, range.0, range.1)?;
    let mut staging = objects.stage(encrypted)?;
    let mut hashes = Hashes::new(algorithm);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = reader.read(&mut piece).map_err(disk)?;
        if count == 0 {
            break;
        }
        hashes.update(&piece[..count]);
        staging.write_all(&piece[..count]).map_err(disk)?;
    }
    let md5 = format!("{:x}", hashes.md5.finalize());
    let checksum = hashes.checksum.map(|(algorithm, hasher)| Checksum {
        algorithm: algorithm.name().to_owned(),
        value: hasher.finish(),
        composite: false,
    });
    Ok(Received { content: staging.finish()?, md5, checksum })
}

fn disk(error: io::Error) -> ObjectError {
    let message = format!("an object's bytes cannot be moved: {error}; check the disk, then try again");
    ObjectError::new(kilter_core::ports::objects::ObjectErrorKind::Io, "transfer", message).with_source(error)
}

/// Sends what a reader gives. Where it fails on the way the connection breaks: the client sees too few bytes.
pub(crate) fn send(mut reader: Box<dyn Read + Send>) -> Body {
    let (pieces, waiting) = mpsc::channel::<io::Result<Bytes>>(PIECES_MAX);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = match reader.read(&mut piece) {
                Ok(0) => return,
                Ok(count) => {
                    piece.truncate(count);
                    Ok(Bytes::from(piece))
                }
                Err(error) => {
                    tracing::error!(%error, "an object cannot be read to its end");
                    Err(error)
                }
            };
            let failed = read.is_err();
            // The client may have gone.
            if pieces.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    let next = |mut waiting: mpsc::Receiver<_>| async { waiting.recv().await.map(|piece| (piece, waiting)) };
    Body::from_stream(futures::stream::unfold(waiting, next))
}
