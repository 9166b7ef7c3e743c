//! The audit log: every denial, one JSON line each, in files of bounded size. Written by a thread of its own, so that
//! no request waits for the disk.

use kilter_core::Timestamp;
use serde::Serialize;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
};

/// Of one file; then it becomes `denials.1.jsonl`, and the one before is deleted. Some 30,000 denials.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Denials that wait for the disk: a second of a fast attack. What does not fit is counted and told.
const WAITING_MAX: usize = 1_024;

/// One refused request. No header, no body, no signature.
#[derive(Debug, Clone, Serialize)]
pub struct Denied {
    pub time: Timestamp,
    pub request: String,
    /// The peer's address.
    pub source: String,
    pub access_key: String,
    pub service: String,
    pub action: String,
    pub code: String,
    pub reason: String,
}

pub struct Audit {
    queue: SyncSender<Denied>,
    lost: std::sync::Arc<AtomicU64>,
}

impl Audit {
    /// Appends to `denials.jsonl` in `dir`, which is made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut log = Log::open(dir.join("denials.jsonl"))?;
        let (queue, denials) = sync_channel::<Denied>(WAITING_MAX);
        let lost = std::sync::Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        std::thread::Builder::new().name("audit".into()).spawn(move || {
            for denied in denials {
                let lost = counted.swap(0, Ordering::Relaxed);
                if let Err(error) = log.write(&denied, lost) {
                    tracing::error!(%error, "a denial could not be written to the audit log");
                }
            }
        })?;
        Ok(Self { queue, lost })
    }

    pub fn denied(&self, denied: Denied) {
        metrics::counter!("kilter_aws_denials_total", "code" => denied.code.clone()).increment(1);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(denied) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes })
    }

    fn write(&mut self, denied: &Denied, lost: u64) -> io::Result<()> {
        let mut line = serde_json::to_value(denied)?;
        if lost > 0 {
            line["not_logged_before"] = lost.into();
        }
        let line = format!("{line}\n");
        if self.bytes + line.len() as u64 > FILE_BYTES_MAX {
            fs::rename(&self.path, self.path.with_extension("1.jsonl"))?;
            *self = Self::open(self.path.clone())?;
        }
        self.file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path().join("denials.jsonl")).unwrap();
        let denied = Denied {
            time: Timestamp::from_seconds(1),
            request: "r".into(),
            source: "127.0.0.1:1".into(),
            access_key: "AKIA".into(),
            service: "s3".into(),
            action: "s3:GetObject".into(),
            code: "AccessDenied".into(),
            reason: "x".repeat(200_000),
        };
        for _ in 0..100 {
            log.write(&denied, 0).unwrap();
        }
        let sizes: Vec<u64> = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= FILE_BYTES_MAX));
    }
}
