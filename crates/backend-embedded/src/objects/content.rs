//! Bytes of objects: written beside what is published, synced, and read back by range.

use super::{
    fault, place,
    seal::{CHUNK, ContentKey, MasterKey, TAG},
};
use crate::directory::{create_directory, sync_directory};
use kilter_core::ports::objects::{Content, ObjectError, ObjectErrorKind, Staging};
use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Files that a reader opens before its first byte, so that they outlive a removal. Of an object with more parts the
/// rest is opened on the way: a process has only so many open files.
const OPEN_AHEAD_MAX: usize = 32;
/// A folder that becomes empty is removed; who loses that race makes it again, this often at most.
const FOLDER_ATTEMPTS: usize = 16;
/// Bytes written that the disk has not confirmed: a whole object at once would stand before every sync of the streams.
const UNSYNCED_BYTES_MAX: usize = 512 * 1024;

pub(super) struct Disk {
    pub root: PathBuf,
    pub key: MasterKey,
}

impl Disk {
    pub fn stage(self: &Arc<Self>, id: u64, encrypted: bool) -> Result<Staged, ObjectError> {
        let place = place::staging(id);
        let path = self.root.join(&place);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|error| fault("stage", format!("{} cannot be made", path.display()), error))?;
        let (sealer, key) = match encrypted {
            true => {
                let (key, wrapped) = self.key.new_content_key(id)?;
                (Some(Sealer { key, chunk: Vec::with_capacity(CHUNK + TAG), number: 0 }), Some(wrapped))
            }
            false => (None, None),
        };
        let content = Content { id, place, bytes: 0, key };
        Ok(Staged { disk: self.clone(), file: Some(file), sealer, content, unsynced: 0 })
    }

    /// Moves a synced file to its place for good, durably.
    pub fn settle(&self, content: &mut Content, place: String) -> Result<(), ObjectError> {
        let (from, to) = (self.root.join(&content.place), self.root.join(&place));
        let folder = to.parent().unwrap_or(&self.root);
        let failed = |error| fault("publish", format!("{} cannot be made", to.display()), error);
        for attempt in 1.. {
            create_directory(folder).map_err(failed)?;
            match fs::rename(&from, &to) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < FOLDER_ATTEMPTS && from.exists() => {
                }
                renamed => {
                    renamed.map_err(failed)?;
                    break;
                }
            }
        }
        content.place = place;
        sync_directory(folder).map_err(failed)
    }

    /// Removes a file that nothing refers to any more, and the folders that it leaves empty. A failure leaves
    /// garbage, which the next start clears away.
    pub fn unlink(&self, place: &str) {
        let path = self.root.join(place);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(place, %error, "the file of a removed object cannot be deleted");
        }
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.root) {
            let own = folder.file_name().is_some_and(|name| name == place::STAGING || name == place::PARTS);
            if own || fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }

    pub fn read(self: &Arc<Self>, contents: &[Content], from: u64, to: u64) -> Result<Reader, ObjectError> {
        let mut pieces = VecDeque::new();
        let mut start = 0;
        for content in contents {
            let end = start + content.bytes;
            if start < to && from < end {
                let (first, last) = (from.max(start) - start, to.min(end) - start);
                let opened = if pieces.len() < OPEN_AHEAD_MAX { Some(self.open(content)?) } else { None };
                pieces.push_back(Piece { content: content.clone(), opened, at: first, to: last });
            }
            start = end;
        }
        Ok(Reader { disk: self.clone(), pieces, plain: Vec::new(), given: 0 })
    }

    fn open(&self, content: &Content) -> Result<Opened, ObjectError> {
        let path = self.root.join(&content.place);
        let file = File::open(&path).map_err(|error| {
            let mut fault = fault("read", format!("{} cannot be read", path.display()), error);
            fault.kind = ObjectErrorKind::Damaged;
            fault
        })?;
        let key = content.key.as_ref().map(|wrapped| self.key.content_key(content.id, wrapped)).transpose()?;
        Ok(Opened { file, key })
    }

    /// Deletes files that no object and no part refers to: what a crash left. Only ids below `before` are judged.
    pub fn scrub(&self, before: u64, known: &dyn Fn(u64) -> Result<bool, ObjectError>) -> Result<u64, ObjectError> {
        let mut deleted = 0;
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                    continue;
                }
                let id = name.to_str().and_then(place::id_of).filter(|id| folder != self.root && *id < before);
                if let Some(id) = id
                    && !known(id)?
                    && let Ok(place) = path.strip_prefix(&self.root)
                {
                    self.unlink(&place.to_string_lossy());
                    deleted += 1;
                }
            }
        }
        Ok(deleted)
    }
}

struct Sealer {
    key: ContentKey,
    chunk: Vec<u8>,
    number: u64,
}

/// A file in `_staging` that is being written.
pub(super) struct Staged {
    disk: Arc<Disk>,
    /// `None` once finished.
    file: Option<File>,
    sealer: Option<Sealer>,
    content: Content,
    /// Bytes that the disk has not confirmed.
    unsynced: usize,
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else { return Err(io::Error::other("written after its end")) };
        let taken = match &mut self.sealer {
            None => file.write(&bytes[..bytes.len().min(UNSYNCED_BYTES_MAX)])?,
            Some(sealer) => {
                // The last chunk is sealed differently, so a full one waits until more comes.
                if sealer.chunk.len() == CHUNK {
                    sealer.key.seal(sealer.number, false, &mut sealer.chunk)?;
                    file.write_all(&sealer.chunk)?;
                    sealer.chunk.clear();
                    sealer.number += 1;
                }
                let taken = bytes.len().min(CHUNK - sealer.chunk.len());
                sealer.chunk.extend_from_slice(&bytes[..taken]);
                taken
            }
        };
        self.content.bytes += taken as u64;
        self.unsynced += taken;
        if self.unsynced >= UNSYNCED_BYTES_MAX {
            file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Staging for Staged {
    fn finish(mut self: Box<Self>) -> Result<Content, ObjectError> {
        let failed = |error| fault("stage", "an object's bytes cannot be written".to_owned(), error);
        if let (Some(file), Some(sealer)) = (&mut self.file, &mut self.sealer) {
            sealer.key.seal(sealer.number, true, &mut sealer.chunk).map_err(failed)?;
            file.write_all(&sealer.chunk).map_err(failed)?;
        }
        if let Some(file) = &self.file {
            file.sync_data().map_err(failed)?;
        }
        self.file = None;
        Ok(self.content.clone())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.disk.unlink(&self.content.place);
        }
    }
}

struct Opened {
    file: File,
    key: Option<ContentKey>,
}

struct Piece {
    content: Content,
    opened: Option<Opened>,
    /// Plain bytes, within the content.
    at: u64,
    to: u64,
}

pub(super) struct Reader {
    disk: Arc<Disk>,
    pieces: VecDeque<Piece>,
    /// Decrypted bytes that were not asked for yet, from `given` on.
    plain: Vec<u8>,
    given: usize,
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.given < self.plain.len() {
                let count = into.len().min(self.plain.len() - self.given);
                into[..count].copy_from_slice(&self.plain[self.given..self.given + count]);
                self.given += count;
                return Ok(count);
            }
            let Some(piece) = self.pieces.front_mut() else { return Ok(0) };
            if piece.at == piece.to {
                self.pieces.pop_front();
                continue;
            }
            if piece.opened.is_none() {
                piece.opened = Some(self.disk.open(&piece.content).map_err(io::Error::other)?);
            }
            let Some(opened) = &mut piece.opened else { continue };
            let Some(key) = &opened.key else {
                opened.file.seek(SeekFrom::Start(piece.at))?;
                let count = usize::try_from(piece.to - piece.at).unwrap_or(usize::MAX).min(into.len());
                let read = opened.file.read(&mut into[..count])?;
                if read == 0 && count > 0 {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "an object is shorter than it was written",
                    ));
                }
                piece.at += read as u64;
                return Ok(read);
            };
            let number = piece.at / CHUNK as u64;
            self.plain = read_chunk(&mut opened.file, key, number, piece.content.bytes)?;
            let first = number * CHUNK as u64;
            self.given = (piece.at - first) as usize;
            self.plain.truncate((piece.to - first).min(self.plain.len() as u64) as usize);
            piece.at = first + self.plain.len() as u64;
        }
    }
}

/// Chunk `number` of a content of `bytes` plain bytes, decrypted.
fn read_chunk(file: &mut File, key: &ContentKey, number: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let first = number * CHUNK as u64;
    let length = (bytes - first).min(CHUNK as u64);
    // A content whose length is a multiple of the chunk's ends with a full chunk.
    let last = first + length == bytes;
    let mut chunk = vec![0; length as usize + TAG];
    file.seek(SeekFrom::Start(number * (CHUNK + TAG) as u64))?;
    file.read_exact(&mut chunk)?;
    key.open(number, last, &mut chunk)?;
    Ok(chunk)
}

/// Makes the folders of contents that are not published.
pub(super) fn make_folders(root: &Path) -> io::Result<()> {
    create_directory(&root.join(place::STAGING))?;
    create_directory(&root.join(place::PARTS))
}
