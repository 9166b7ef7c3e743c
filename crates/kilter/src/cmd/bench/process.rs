//! A server under measurement as the operating system sees it: started, sampled through `/proc`, ended with us.

use anyhow::{Context, bail};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// `USER_HZ`: Linux counts processor time for `/proc` in these on every architecture that we run on.
const TICKS_PER_SECOND: f64 = 100.0;
/// Of a log that is shown when its process has died.
const LOG_CHARS_SHOWN: usize = 2_000;

pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in the file `log`.
    pub fn start(name: &'static str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name, child, log: log.to_owned() })
    }

    /// An error, with the end of its log, once the process is no more.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let skipped = log.chars().count().saturating_sub(LOG_CHARS_SHOWN);
        let end: String = log.chars().skip(skipped).collect();
        bail!("{} ended by itself ({status}). The end of its log:\n{}", self.name, end.trim_end());
    }

    /// Processor time used since its start, of all its threads, in seconds.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = self.read("stat")?;
        cpu_ticks(&stat).map(|ticks| ticks as f64 / TICKS_PER_SECOND).context("/proc/<pid>/stat is not understood")
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = self.read("status")?;
        resident_kilobytes(&status).map(|kilobytes| kilobytes * 1024).context("/proc/<pid>/status has no VmRSS")
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("{path} cannot be read: this command needs Linux"))
    }
}

/// What it served is thrown away: it need not say goodbye.
impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time. The second field, the program's name, may hold anything; it ends at the last parenthesis.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn resident_kilobytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 1500 0 0 0 120 30 0 0 20 0 9 0 1000 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(150));
        assert_eq!(cpu_ticks("42 (a"), None);
        assert_eq!(resident_kilobytes("Name:\tx\nVmRSS:\t   5120 kB\n"), Some(5120));
    }

    #[test]
    fn a_process_that_dies_shows_its_log_and_one_that_lives_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        let start = |script: &str| {
            Process::start("shell", Command::new("sh").args(["-c", script]), &dir.path().join("log")).unwrap()
        };
        let mut dead = start("echo why it died >&2; exit 3");
        let error = loop {
            if let Err(error) = dead.check() {
                break error.to_string();
            }
            std::thread::yield_now();
        };
        assert!(error.contains("why it died") && error.contains('3'), "{error}");
        let mut alive = start("read _");
        let alive_bytes = alive.check().and_then(|()| alive.resident_bytes());
        // With no input the shell ends as soon as it has started: both are right.
        assert!(alive_bytes.is_ok_and(|bytes| bytes > 0) || alive.check().is_err());
    }
}
