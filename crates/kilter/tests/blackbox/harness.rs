//! An installation in a directory of its own: `kilter serve` on free ports, commands against it, its log.

use crate::http::{self, Answer};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

const KILTER: &str = env!("CARGO_BIN_EXE_kilter");
/// Until something that takes milliseconds has certainly failed, on a machine with everything else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const LEDGER_POLL: Duration = Duration::from_millis(100);
/// The newest lines that are shown when a test fails.
const LOG_TAIL: usize = 40;

/// Asks again and again until there is an answer; fails with `what` after [`PATIENCE`].
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

pub fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < patience, "not within {} s: {what}", patience.as_secs());
        std::thread::sleep(POLL);
    }
}

/// For people who watch: past the test harness, which swallows `eprintln!`.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A data directory with its configuration, and a directory for certificates beside it.
pub struct Installation {
    root: tempfile::TempDir,
}

impl Installation {
    pub fn new(configuration: &str) -> Self {
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let installation = Self { root };
        std::fs::create_dir(installation.data()).unwrap();
        installation.configure(configuration);
        installation
    }

    pub fn configure(&self, configuration: &str) {
        std::fs::write(self.data().join("kilter.toml"), configuration).unwrap();
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub fn certificates(&self) -> PathBuf {
        self.root.path().join("certs")
    }

    /// A command on this data directory, nothing taken from the environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare(arguments);
        command.arg("--data-dir").arg(self.data());
        command
    }

    /// Runs a command to its end, with `--output json`.
    pub fn kilter(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        command.args(["--output", "json"]).stdin(Stdio::null());
        let output = command.output().unwrap();
        Ran {
            what: arguments.join(" "),
            status: output.status,
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Onboards with the certificates in [`Self::certificates`].
    pub fn onboard(&self, tenant: &str, things: &[&str]) -> Value {
        let out = self.certificates();
        let mut arguments = vec!["tenant", "onboard", tenant, "--out", out.to_str().unwrap()];
        arguments.extend(things.iter().flat_map(|thing| ["--thing", thing]));
        self.kilter(&arguments).json()
    }

    /// Starts a server on free ports and waits until it is ready.
    pub fn start(&self) -> Server {
        self.start_on("127.0.0.1:0", "127.0.0.1:0")
    }

    pub fn start_on(&self, mqtt: &str, http: &str) -> Server {
        let mut server = self.spawn(mqtt, http);
        server.wait_ready();
        server
    }

    /// Starts a server and waits for nothing.
    pub fn spawn(&self, mqtt: &str, http: &str) -> Server {
        let file = self.data().join("run/server.json");
        // A server that was killed leaves its own behind.
        let _ = std::fs::remove_file(&file);
        let mut command = self.command(&["serve", "--mqtt", mqtt, "--http", http, "--aws", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let readers = [
            collect(child.stderr.take().unwrap(), lines.clone()),
            collect(child.stdout.take().unwrap(), Arc::default()),
        ];
        Server { child: Some(child), file, url: String::new(), mqtt: String::new(), lines, readers: readers.into() }
    }
}

/// `kilter …` without a data directory and without the environment's settings.
pub fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(KILTER);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KILTER_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

fn collect(from: impl Read + Send + 'static, into: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            into.lock().unwrap().push(line);
        }
    })
}

/// A command that has ended.
pub struct Ran {
    what: String,
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "kilter {}: {}\n{}{}", self.what, self.status, self.out, self.err);
        self
    }

    /// What a command that succeeded printed.
    pub fn json(self) -> Value {
        let done = self.succeeded();
        serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("kilter {}: {e}: {:?}", done.what, done.out))
    }

    /// What a command printed that failed as it should (exit status 1).
    pub fn refused_with_output(self) -> String {
        assert_eq!(self.status.code(), Some(1), "kilter {}\n{}{}", self.what, self.out, self.err);
        self.out
    }

    /// The error text of a command that failed as it should (exit status 1).
    pub fn refused(self) -> String {
        assert_eq!(self.status.code(), Some(1), "kilter {}\n{}{}", self.what, self.out, self.err);
        self.err
    }
}

/// A server process. Killed when dropped.
pub struct Server {
    child: Option<Child>,
    file: PathBuf,
    pub url: String,
    pub mqtt: String,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Server {
    fn wait_ready(&mut self) {
        let (url, mqtt) = eventually("the server's address file", || {
            if let Some(status) = self.ended() {
                panic!("the server ended at its start: {status}\n{}", self.log_tail());
            }
            let text = std::fs::read_to_string(&self.file).ok()?;
            let file: Value = serde_json::from_str(&text).ok()?;
            Some((file["url"].as_str()?.to_owned(), file["mqtt"].as_str()?.to_owned()))
        });
        (self.url, self.mqtt) = (url, mqtt);
        eventually("/readyz answers 200", || {
            http::get(&self.url, "/readyz").is_ok_and(|a| a.status == 200).then_some(())
        });
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().unwrap().try_wait().unwrap()
    }

    pub fn process(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn port(&self) -> &str {
        self.mqtt.rsplit(':').next().unwrap()
    }

    pub fn answer(&self, path: &str) -> Answer {
        http::get(&self.url, path).unwrap_or_else(|e| panic!("GET {path}: {e}\n{}", self.log_tail()))
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = self.answer(path);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    pub fn list(&self, path: &str) -> Vec<Value> {
        match self.get(path) {
            Value::Array(items) => items,
            other => panic!("GET {path}: {other}"),
        }
    }

    /// The ledger once nothing waits for the scorer any more and at least `received` messages are in it.
    pub fn settled_ledger(&self, tenant: &str, received: u64) -> Vec<Value> {
        let path = format!("/api/v1/ledger?tenant={tenant}");
        within(3 * PATIENCE, "the ledger settles", || {
            let lines = self.list(&path);
            let sum = |of: &str| lines.iter().map(|line| line[of].as_u64().unwrap()).sum::<u64>();
            let settled = sum("received") >= received && sum("waiting") == 0;
            if !settled {
                // The server counts what waits anew each time; asking all the time would hold it up.
                std::thread::sleep(LEDGER_POLL);
            }
            settled.then_some(lines)
        })
    }

    /// The value of a metric, named with its labels as `/metrics` shows them.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.answer("/metrics").text();
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn log(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line.as_str()))).collect()
    }

    pub fn log_tail(&self) -> String {
        let lines = self.lines.lock().unwrap();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }

    /// Waits for the log line of a refusal: its kind, whom it is about, and words of its reason.
    pub fn log_says(&self, kind: &str, client: &str, words: &[&str]) {
        let found = |line: &Value| {
            let reason = line["reason"].as_str().unwrap_or_default();
            line["kind"] == kind && line["client_id"] == client && words.iter().all(|word| reason.contains(word))
        };
        let what = format!("a log line of kind {kind} about {client:?} with {words:?}");
        let began = Instant::now();
        while !self.log().iter().any(found) {
            assert!(began.elapsed() < PATIENCE, "no {what} in\n{}", self.log_tail());
            std::thread::sleep(POLL);
        }
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM; answers how the process ended.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        let status = eventually("the server ends after SIGTERM", || self.ended());
        self.end();
        status
    }

    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.process());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.readers.drain(..).for_each(|reader| drop(reader.join()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tell(&format!("the server's last log lines:\n{}", self.log_tail()));
        }
        self.end();
    }
}
