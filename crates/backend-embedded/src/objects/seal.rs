//! Encryption at rest: AES-256-GCM in chunks, under a key of each content's own, which is wrapped by the
//! installation's master key. Chunks are numbered in the nonce and the last one is marked, so that chunks which were
//! swapped, repeated or cut off are found out (the STREAM construction, Hoang et al. 2015).

use super::fault;
use crate::directory::sync_directory;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use kilter_core::ports::objects::{ObjectError, ObjectErrorKind};
use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Plain bytes of a chunk: what a range of one byte costs to read.
pub(super) const CHUNK: usize = 64 * 1024;
pub(super) const TAG: usize = 16;
const KEY: usize = 32;

/// Wraps the keys of contents. Never leaves the process; its file is mode 0600.
pub(super) struct MasterKey(LessSafeKey);

impl MasterKey {
    /// Reads the key, or makes it where there is none.
    pub fn open(file: &Path) -> Result<Self, ObjectError> {
        let failed = |error: io::Error| {
            fault("open", format!("the key of the encrypted objects, {}, cannot be used", file.display()), error)
        };
        let bytes = match fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let fresh = random::<KEY>("open")?;
                let beside = file.with_extension("new");
                let mut options = OpenOptions::new();
                let mut new =
                    options.write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(failed)?;
                new.write_all(&fresh).and_then(|()| new.sync_all()).map_err(failed)?;
                fs::rename(&beside, file).map_err(failed)?;
                sync_directory(file.parent().unwrap_or(Path::new("."))).map_err(failed)?;
                fresh.to_vec()
            }
            Err(error) => return Err(failed(error)),
        };
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| {
            let message = format!("{} is not a key of {KEY} bytes; restore it from a backup", file.display());
            ObjectError::new(ObjectErrorKind::Damaged, "open", message)
        })?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// A new key for one content, and its wrapped form for the index.
    pub fn new_content_key(&self, id: u64) -> Result<(ContentKey, String), ObjectError> {
        let (fresh, nonce) = (random::<KEY>("stage")?, random::<NONCE_LEN>("stage")?);
        let mut wrapped = fresh.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(id.to_be_bytes()), &mut wrapped)
            .map_err(|_| ObjectError::new(ObjectErrorKind::Io, "stage", "a key could not be wrapped; try again"))?;
        let hex = nonce.iter().chain(&wrapped).fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Ok((ContentKey::new(&fresh)?, hex))
    }

    pub fn content_key(&self, id: u64, wrapped: &str) -> Result<ContentKey, ObjectError> {
        let damaged = || {
            let message = "an object was encrypted under another master key; restore _master.key from a backup";
            ObjectError::new(ObjectErrorKind::Damaged, "read", message)
        };
        let pairs = (0..wrapped.len()).step_by(2).map(|at| wrapped.get(at..at + 2));
        let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
        let bytes = bytes.filter(|bytes| bytes.len() == NONCE_LEN + KEY + TAG).ok_or_else(damaged)?;
        let (nonce, sealed) = bytes.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut sealed = sealed.to_vec();
        let key = self.0.open_in_place(nonce, Aad::from(id.to_be_bytes()), &mut sealed).map_err(|_| damaged())?;
        ContentKey::new(key)
    }
}

/// The key of one content.
pub(super) struct ContentKey(LessSafeKey);

impl ContentKey {
    fn new(bytes: &[u8]) -> Result<Self, ObjectError> {
        let key = UnboundKey::new(&AES_256_GCM, bytes)
            .map_err(|_| ObjectError::new(ObjectErrorKind::Damaged, "key", "an object's key has a wrong length"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Encrypts a chunk where it is and puts its tag behind it. Each number is used once per key.
    pub fn seal(&self, number: u64, last: bool, chunk: &mut Vec<u8>) -> io::Result<()> {
        self.0
            .seal_in_place_append_tag(nonce(number), Aad::from([u8::from(last)]), chunk)
            .map_err(|_| io::Error::other("a chunk could not be encrypted"))
    }

    /// Decrypts a chunk with its tag where it is; the plain bytes are what remains.
    pub fn open(&self, number: u64, last: bool, chunk: &mut Vec<u8>) -> io::Result<()> {
        let plain = self.0.open_in_place(nonce(number), Aad::from([u8::from(last)]), chunk);
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "an encrypted object is not what was written");
        let length = plain.map_err(|_| damaged())?.len();
        chunk.truncate(length);
        Ok(())
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - 8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn random<const N: usize>(operation: &'static str) -> Result<[u8; N], ObjectError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| {
        ObjectError::new(ObjectErrorKind::Io, operation, "the system gave no random numbers; try again")
    })?;
    Ok(bytes)
}
