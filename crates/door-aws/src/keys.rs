//! Access keys: a file in the data directory, mode 0600, read anew whenever it was replaced, so that a command that
//! makes or revokes a key needs no server.

use crate::policy::Policy;
use kilter_core::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

/// Keys of one installation.
const KEYS_MAX: usize = 1_000;
/// The name of the key that may do everything.
pub const ROOT: &str = "root";
const SECRET_LETTERS: usize = 40;
const VERSION: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum KeyStatus {
    Active,
    Revoked,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct AccessKey {
    pub id: String,
    /// What it is for; `rotate` makes a second key of the same name.
    pub name: String,
    pub status: KeyStatus,
    pub created: Timestamp,
    /// Empty once it is revoked.
    pub secret: String,
    pub policy: Policy,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path} cannot be used: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is not a file of access keys: {why}; restore it from a backup, or remove it for a new root key")]
    Damaged { path: PathBuf, why: String },
    #[error("there is no access key {0}: see `kilter access-key list`")]
    Unknown(String),
    #[error("there are {KEYS_MAX} access keys already: revoke one that is not used any more")]
    TooMany,
    #[error("{0:?} cannot name a key: use 1 to 64 letters, digits, '-', '_' and '.'; {ROOT} is taken")]
    Name(String),
    #[error("{0} is the last active root key: rotate it first, `kilter access-key rotate {0}`")]
    LastRoot(String),
    #[error("access key {0} is revoked: make a new one with `kilter access-key create`")]
    Revoked(String),
    #[error("the operating system gave no random bytes")]
    Random,
}

#[derive(Serialize, Deserialize)]
struct KeyFile {
    version: u32,
    keys: Vec<AccessKey>,
}

#[derive(PartialEq, Eq, Clone, Copy)]
struct Stamp {
    inode: u64,
    seconds: i64,
    nanos: i64,
    bytes: u64,
}

/// What the file said when it was last read.
type Read = Option<(Stamp, Arc<Vec<AccessKey>>)>;

pub struct AccessKeys {
    path: PathBuf,
    read: RwLock<Read>,
}

impl AccessKeys {
    /// Opens the file; makes it with a root key where there is none.
    pub fn open(path: &Path, now: Timestamp) -> Result<Self, KeyError> {
        let keys = Self { path: path.to_owned(), read: RwLock::new(None) };
        if !path.exists() {
            keys.change(|all| {
                if all.is_empty() {
                    all.push(AccessKey::new(ROOT, Policy::all(), now)?);
                }
                Ok(())
            })?;
        }
        keys.all()?;
        Ok(keys)
    }

    /// Every key, oldest first.
    pub fn all(&self) -> Result<Arc<Vec<AccessKey>>, KeyError> {
        let stamp = stamp(&self.path).map_err(|source| self.io(source))?;
        let current = self.read.read().expect("no reader of the keys panics").clone();
        if let Some((_, keys)) = current.filter(|(known, _)| *known == stamp) {
            return Ok(keys);
        }
        let keys = Arc::new(self.load()?);
        *self.read.write().expect("no reader of the keys panics") = Some((stamp, keys.clone()));
        Ok(keys)
    }

    /// The active key of this id.
    pub fn active(&self, id: &str) -> Result<Option<AccessKey>, KeyError> {
        let all = self.all()?;
        Ok(all.iter().find(|key| key.id == id && key.status == KeyStatus::Active).cloned())
    }

    /// The newest active root key.
    pub fn root(&self) -> Result<Option<AccessKey>, KeyError> {
        let all = self.all()?;
        Ok(all.iter().rev().find(|key| key.name == ROOT && key.status == KeyStatus::Active).cloned())
    }

    pub fn create(&self, name: &str, policy: Policy, now: Timestamp) -> Result<AccessKey, KeyError> {
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || name == ROOT || !name.chars().all(letter) {
            return Err(KeyError::Name(name.to_owned()));
        }
        self.change(|all| {
            let key = AccessKey::new(name, policy, now)?;
            all.push(key.clone());
            Ok(key)
        })
    }

    /// One more key of the same name and policy; the old one stays until it is revoked.
    pub fn rotate(&self, id: &str, now: Timestamp) -> Result<AccessKey, KeyError> {
        self.change(|all| {
            let old = all.iter().find(|key| key.id == id).ok_or_else(|| KeyError::Unknown(id.to_owned()))?;
            if old.status == KeyStatus::Revoked {
                return Err(KeyError::Revoked(id.to_owned()));
            }
            let key = AccessKey::new(&old.name, old.policy.clone(), now)?;
            all.push(key.clone());
            Ok(key)
        })
    }

    /// For good; its secret is forgotten.
    pub fn revoke(&self, id: &str) -> Result<AccessKey, KeyError> {
        self.change(|all| {
            let roots = all.iter().filter(|key| key.name == ROOT && key.status == KeyStatus::Active).count();
            let key = all.iter_mut().find(|key| key.id == id).ok_or_else(|| KeyError::Unknown(id.to_owned()))?;
            if key.name == ROOT && key.status == KeyStatus::Active && roots == 1 {
                return Err(KeyError::LastRoot(id.to_owned()));
            }
            key.status = KeyStatus::Revoked;
            key.secret.clear();
            Ok(key.clone())
        })
    }

    /// One change at a time, in whatever process; the file is replaced whole.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<AccessKey>) -> Result<T, KeyError>) -> Result<T, KeyError> {
        let lock = self.path.with_extension("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
        let lock = lock.map_err(|source| self.io(source))?;
        lock.lock().map_err(|source| self.io(source))?;
        let mut keys = if self.path.exists() { self.load()? } else { Vec::new() };
        let done = change(&mut keys)?;
        if keys.len() > KEYS_MAX {
            // The revoked are kept for the record only.
            let oldest = keys.iter().position(|key| key.status == KeyStatus::Revoked).ok_or(KeyError::TooMany)?;
            keys.remove(oldest);
        }
        self.save(&KeyFile { version: VERSION, keys }).map_err(|source| self.io(source))?;
        Ok(done)
    }

    fn load(&self) -> Result<Vec<AccessKey>, KeyError> {
        let text = fs::read_to_string(&self.path).map_err(|source| self.io(source))?;
        let damaged = |why: String| KeyError::Damaged { path: self.path.clone(), why };
        // Not the error's own words: they may quote a secret.
        let file: KeyFile = serde_json::from_str(&text)
            .map_err(|error| damaged(format!("line {}, column {}", error.line(), error.column())))?;
        if file.version != VERSION {
            return Err(damaged(format!("it has version {}, this is for version {VERSION}", file.version)));
        }
        Ok(file.keys)
    }

    fn save(&self, file: &KeyFile) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let _ = fs::remove_file(&temporary);
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        out.write_all(serde_json::to_string_pretty(file)?.as_bytes())?;
        out.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        match self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    fn io(&self, source: io::Error) -> KeyError {
        KeyError::Io { path: self.path.clone(), source }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let facts = fs::metadata(path)?;
    Ok(Stamp { inode: facts.ino(), seconds: facts.mtime(), nanos: facts.mtime_nsec(), bytes: facts.len() })
}

impl AccessKey {
    fn new(name: &str, policy: Policy, created: Timestamp) -> Result<Self, KeyError> {
        Ok(Self {
            id: format!("AKIA{}", random_letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)?),
            name: name.to_owned(),
            status: KeyStatus::Active,
            created,
            secret: random_letters(
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
                SECRET_LETTERS,
            )?,
            policy,
        })
    }
}

/// Each of `letters`, whose number divides 256, as likely as any other.
pub(crate) fn random_letters(letters: &[u8], count: usize) -> Result<String, KeyError> {
    let mut bytes = vec![0u8; count];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes.iter().map(|byte| char::from(letters[usize::from(*byte) % letters.len()])).collect())
}

pub(crate) fn random_uuid() -> Result<String, KeyError> {
    let hex = random_letters(b"0123456789abcdef", 32)?;
    Ok(format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_come_and_go_and_the_file_is_the_owners_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access-keys.json");
        let now = Timestamp::from_seconds(1);
        let server = AccessKeys::open(&path, now).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let root = server.root().unwrap().unwrap();
        let command = AccessKeys::open(&path, now).unwrap();
        let made = command.create("reader", Policy::all(), now).unwrap();
        assert_eq!(server.active(&made.id).unwrap().unwrap().secret, made.secret, "seen without a restart");
        let newer = command.rotate(&made.id, now).unwrap();
        assert_ne!(newer.secret, made.secret);
        command.revoke(&made.id).unwrap();
        assert!(server.active(&made.id).unwrap().is_none());
        assert!(server.active(&newer.id).unwrap().is_some());
        assert!(!fs::read_to_string(&path).unwrap().contains(&made.secret));
        assert!(matches!(command.revoke(&root.id), Err(KeyError::LastRoot(_))));
        assert!(matches!(command.rotate(&made.id, now), Err(KeyError::Revoked(_))));
        assert!(matches!(command.create(ROOT, Policy::all(), now), Err(KeyError::Name(_))));
        command.rotate(&root.id, now).unwrap();
        command.revoke(&root.id).unwrap();
    }

    #[test]
    fn a_damaged_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access-keys.json");
        fs::write(&path, "{\"version\": 1, \"keys\": [\"secret").unwrap();
        let error = AccessKeys::open(&path, Timestamp::from_seconds(1)).err().unwrap().to_string();
        assert!(error.contains("not a file of access keys") && !error.contains("secret"), "{error}");
    }
}
