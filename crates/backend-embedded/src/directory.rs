//! What both backends need from a directory: a lock against a second process, and a durable entry.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "lock";

/// Holds a directory for this process. Released on drop, and by the operating system when the process ends
/// in whatever way.
#[derive(Debug)]
pub struct DirectoryLock {
    /// Keeps the lock: it goes with the open file.
    _file: File,
    path: PathBuf,
}

impl DirectoryLock {
    /// Makes the directory where it is missing and locks the file `lock` in it.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it (the message names its process number); otherwise what the
    /// disk said.
    pub fn acquire(directory: &Path) -> io::Result<Self> {
        create_directory(directory)?;
        let path = directory.join(LOCK_FILE);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim();
                let holder = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
                return Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    format!(
                        "{} is in use by another kilter{holder}; stop that one first, or choose another directory",
                        directory.display()
                    ),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file, path })
    }

    /// The file that is locked.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a directory and those above it, where they are missing, such that they survive a power cut.
pub(crate) fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    let above = directory.parent().unwrap_or(Path::new(""));
    create_directory(above)?;
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_directory(if above.as_os_str().is_empty() { Path::new(".") } else { above })
}

/// Makes what was created, renamed or removed in `directory` survive a power cut.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_to_come_is_told_who_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("new/data");
        let lock = DirectoryLock::acquire(&inner).unwrap();
        let refused = DirectoryLock::acquire(&inner).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
        assert_eq!(lock.path(), inner.join("lock"));
        drop(lock);
        DirectoryLock::acquire(&inner).unwrap();
    }
}
