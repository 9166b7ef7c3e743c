//! Bytes: on their way in a folder of this machine, and published in S3.

use super::{AwsObjects, failure::failed, invalid};
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Buf, Bytes};
use kilter_core::ports::objects::{Content, Contents, ObjectError, ObjectErrorKind, Staging};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::runtime::Handle;

/// What stands for the key of what S3 encrypts: the key is S3's.
const ITS_OWN_KEY: &str = "SSE-S3";

/// Where the bytes of an object are.
#[derive(Serialize, Deserialize)]
pub struct Place {
    pub bucket: String,
    pub key: String,
    pub version: String,
    /// The bytes of a replaced null version are gone; what is read must not be those of another.
    pub etag: String,
}

impl Place {
    pub fn content(&self, bytes: i64, encrypted: bool) -> Content {
        let place = serde_json::to_string(self).expect("texts are JSON");
        let key = encrypted.then(|| ITS_OWN_KEY.to_owned());
        Content { id: 0, place, bytes: bytes.max(0) as u64, key }
    }
}

/// The folder of what is staged: a file each, named by its number.
pub struct Spool {
    folder: PathBuf,
    next: AtomicU64,
}

impl Spool {
    pub fn open(folder: &Path) -> Result<Self, ObjectError> {
        fs::create_dir_all(folder).map_err(|error| unreadable("open", error))?;
        for entry in fs::read_dir(folder).map_err(|error| unreadable("open", error))? {
            let left = entry.map_err(|error| unreadable("open", error))?;
            if left.file_name().to_str().is_some_and(|name| name.parse::<u64>().is_ok()) {
                fs::remove_file(left.path()).map_err(|error| unreadable("open", error))?;
            }
        }
        Ok(Self { folder: folder.to_owned(), next: AtomicU64::new(1) })
    }

    /// The file of what is staged; `None` where a content is an object of S3's.
    pub fn file(&self, content: &Content) -> Option<PathBuf> {
        (content.id != 0).then(|| self.folder.join(content.id.to_string()))
    }
}

struct Staged {
    id: u64,
    path: PathBuf,
    /// `None` once it is finished.
    file: Option<BufWriter<File>>,
    bytes: u64,
    encrypted: bool,
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("the content is finished"))?;
        let written = file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

impl Staging for Staged {
    fn finish(mut self: Box<Self>) -> Result<Content, ObjectError> {
        self.flush().map_err(|error| unreadable("stage", error))?;
        if let Some(file) = &self.file {
            file.get_ref().sync_all().map_err(|error| unreadable("stage", error))?;
        }
        self.file = None;
        let key = self.encrypted.then(|| ITS_OWN_KEY.to_owned());
        Ok(Content { id: self.id, place: String::new(), bytes: self.bytes, key })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Contents for AwsObjects {
    fn stage(&self, encrypted: bool) -> Result<Box<dyn Staging>, ObjectError> {
        let id = self.spool.next.fetch_add(1, Ordering::Relaxed);
        let path = self.spool.folder.join(id.to_string());
        let file = File::create(&path).map_err(|error| unreadable("stage", error))?;
        Ok(Box::new(Staged { id, path, file: Some(BufWriter::new(file)), bytes: 0, encrypted }))
    }

    fn read(&self, contents: &[Content], from: u64, to: u64) -> Result<Box<dyn Read + Send>, ObjectError> {
        let mut reader: Box<dyn Read + Send> = Box::new(io::empty());
        let mut start = 0;
        for content in contents {
            let end = start + content.bytes;
            let (first, last) = (from.clamp(start, end) - start, to.clamp(start, end) - start);
            if first < last {
                reader = Box::new(reader.chain(self.read_one(content, first, last)?));
            }
            start = end;
        }
        Ok(reader)
    }

    fn discard(&self, content: Content) {
        if let Some(path) = self.spool.file(&content)
            && let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a staged content was not deleted; the next start tries again");
        }
    }
}

impl AwsObjects {
    /// At least one byte.
    fn read_one(&self, content: &Content, from: u64, to: u64) -> Result<Box<dyn Read + Send>, ObjectError> {
        if let Some(path) = self.spool.file(content) {
            let mut file = File::open(path).map_err(|error| unreadable("read", error))?;
            file.seek(SeekFrom::Start(from)).map_err(|error| unreadable("read", error))?;
            return Ok(Box::new(file.take(to - from)));
        }
        let place: Place = serde_json::from_str(&content.place)
            .map_err(|error| invalid("read", "a content that is not this backend's").with_source(error))?;
        // A listing of the newest objects does not say their versions.
        let version = Some(place.version).filter(|version| !version.is_empty());
        let asked = self.client.get_object().bucket(place.bucket).key(place.key).set_version_id(version);
        let asked = asked.if_match(format!("\"{}\"", place.etag)).range(format!("bytes={from}-{}", to - 1));
        let answer = self.runtime.block_on(asked.send()).map_err(|error| failed("read", error))?;
        Ok(Box::new(Body { stream: answer.body, rest: Bytes::new(), runtime: self.runtime.clone() }))
    }
}

/// An answer's body, read as it comes.
struct Body {
    stream: ByteStream,
    rest: Bytes,
    runtime: Handle,
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(piece) => self.rest = piece.map_err(io::Error::other)?,
            }
        }
        let bytes = self.rest.len().min(into.len());
        self.rest.copy_to_slice(&mut into[..bytes]);
        Ok(bytes)
    }
}

pub fn unreadable(operation: &'static str, error: io::Error) -> ObjectError {
    let message = "bytes on their way cannot be written or read: look at the disk and at the network";
    ObjectError::new(ObjectErrorKind::Io, operation, message).with_source(error)
}

pub fn short(operation: &'static str) -> ObjectError {
    ObjectError::new(ObjectErrorKind::Damaged, operation, "a staged content has fewer bytes than were written")
}
