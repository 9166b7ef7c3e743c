//! `kilter serve` on a data directory of its own, and the SDKs' clients for it.

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::Builder;
use serde_json::Value;
use std::{
    env,
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};

/// Until a start has certainly failed, on a machine with everything else to do.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A server, its directory, and what runs the SDKs' futures.
pub struct Service {
    runtime: Runtime,
    root: TempDir,
    server: Child,
    spools: u32,
}

/// Where the server listens, and a key of its.
struct Access {
    url: String,
    key: Credentials,
}

impl Service {
    pub fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let server = serve(root.path());
        Self { runtime: Runtime::new().unwrap(), root, server, spools: 0 }
    }

    /// Another server on an empty directory.
    pub fn fresh(&mut self) {
        self.kill();
        self.root = tempfile::tempdir().unwrap();
        self.server = serve(self.root.path());
    }

    /// `kill -9`, and a server on what that one left.
    pub fn restart(&mut self) {
        self.kill();
        self.server = serve(self.root.path());
    }

    fn kill(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    pub fn runtime(&self) -> Handle {
        self.runtime.handle().clone()
    }

    /// A folder that was never used.
    pub fn spool(&mut self) -> PathBuf {
        self.spools += 1;
        self.root.path().join(format!("spool-{}", self.spools))
    }

    fn access(&self) -> Access {
        let shown = kilter(self.root.path(), &["env", "--output", "json"]).output().unwrap();
        assert!(shown.status.success(), "kilter env: {}", String::from_utf8_lossy(&shown.stderr));
        let facts: Value = serde_json::from_slice(&shown.stdout).unwrap();
        let file = fs::read_to_string(facts["AWS_SHARED_CREDENTIALS_FILE"].as_str().unwrap()).unwrap();
        let of = |name: &str| {
            let line = file.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='));
            line.unwrap().trim().to_owned()
        };
        let key = Credentials::new(of("aws_access_key_id"), of("aws_secret_access_key"), None, None, "kilter");
        Access { url: facts["AWS_ENDPOINT_URL"].as_str().unwrap().to_owned(), key }
    }

    pub fn s3(&self) -> aws_sdk_s3::Client {
        let access = self.access();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .http_client(Builder::new().build_http())
            .endpoint_url(access.url)
            .credentials_provider(access.key)
            .force_path_style(true);
        aws_sdk_s3::Client::from_conf(config.build())
    }

    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let access = self.access();
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .http_client(Builder::new().build_http())
            .endpoint_url(access.url)
            .credentials_provider(access.key);
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    pub fn kinesis(&self) -> aws_sdk_kinesis::Client {
        let access = self.access();
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .http_client(Builder::new().build_http())
            .endpoint_url(access.url)
            .credentials_provider(access.key);
        aws_sdk_kinesis::Client::from_conf(config.build())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.root.path().join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            // Past the test harness, which swallows `eprintln!`.
            let _ = writeln!(std::io::stderr(), "the server's last log lines, newest first:\n{}", tail.join("\n"));
        }
        self.kill();
    }
}

/// A command on the server's data directory, nothing taken from the environment.
fn kilter(root: &Path, arguments: &[&str]) -> Command {
    // Tests run in their crate's folder, and paths are given from the repository's.
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let binary = env::var_os("KILTER").expect("KILTER names the kilter to judge: KILTER=target/debug/kilter");
    let mut command = Command::new(repository.join(binary));
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("KILTER_")) {
        command.env_remove(name);
    }
    command.args(arguments).arg("--data-dir").arg(root.join("data"));
    command
}

/// Starts a server on free ports and waits until it is ready.
fn serve(root: &Path) -> Child {
    let file = root.join("data/run/server.json");
    // A server that was killed leaves its own behind.
    let _ = fs::remove_file(&file);
    let any = "127.0.0.1:0";
    let mut command = kilter(root, &["serve", "--mqtt", any, "--http", any, "--aws", any]);
    let log = File::options().create(true).append(true).open(root.join("log")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut server = command.spawn().unwrap();
    let began = Instant::now();
    while !ready(&file) {
        if let Some(status) = server.try_wait().unwrap() {
            panic!("kilter serve ended with {status}: {}", fs::read_to_string(root.join("log")).unwrap());
        }
        assert!(began.elapsed() < PATIENCE, "kilter serve is not ready");
        sleep(POLL);
    }
    server
}

fn ready(file: &Path) -> bool {
    let look = || {
        let facts: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        let address = facts["url"].as_str()?.strip_prefix("http://")?;
        let mut http = TcpStream::connect(address).ok()?;
        http.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(http, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        http.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    };
    look().is_some()
}
