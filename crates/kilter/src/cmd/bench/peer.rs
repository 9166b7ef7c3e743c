//! The peer: Debian's mosquitto on the same certificates, measured with the same client in the same run.

use super::process::Process;
use anyhow::{Context, ensure};
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::sleep};

pub const INSTALL: &str = "install it with `apt-get install mosquitto` (the service need not run) and run this again";
/// Where Debian puts it; not on every user's PATH.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
const START_TIME_MAX: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(20);

pub struct Mosquitto {
    pub process: Process,
    pub address: String,
    /// As it says itself.
    pub version: String,
}

impl Mosquitto {
    /// `None` where it is not installed.
    pub async fn start(dir: &Path, identity_dir: &Path) -> anyhow::Result<Option<Self>> {
        let Some(program) = find() else { return Ok(None) };
        let help = Command::new(&program).arg("-h").output().context("mosquitto does not run")?;
        let version = String::from_utf8_lossy(&help.stdout).lines().next().unwrap_or("mosquitto").to_owned();
        // Whoever takes the port in between makes the start fail, and says so in the log.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = dir.join("mosquitto.conf");
        std::fs::write(&config, configuration(port, &identity_dir.canonicalize()?))?;
        let mut process =
            Process::start("mosquitto", Command::new(&program).arg("-c").arg(&config), &dir.join("mosquitto.log"))?;
        let address = format!("127.0.0.1:{port}");
        let began = Instant::now();
        while TcpStream::connect(&address).await.is_err() {
            process.check()?;
            ensure!(began.elapsed() < START_TIME_MAX, "mosquitto does not listen after {} s", START_TIME_MAX.as_secs());
            sleep(START_POLL).await;
        }
        Ok(Some(Self { process, address, version }))
    }
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(SYSTEM_DIRECTORIES.map(PathBuf::from));
    directories.map(|directory| directory.join("mosquitto")).find(|program| program.is_file())
}

/// Nothing that holds it back: no disk, no log, no window of its own, no delayed sending.
fn configuration(port: u16, identity_dir: &Path) -> String {
    let identity = identity_dir.display();
    format!(
        "listener {port} 127.0.0.1\n\
         cafile {identity}/ca.pem\n\
         certfile {identity}/server.pem\n\
         keyfile {identity}/server.key\n\
         require_certificate true\n\
         allow_anonymous true\n\
         user root\n\
         persistence false\n\
         max_inflight_messages 0\n\
         max_queued_messages 0\n\
         set_tcp_nodelay true\n\
         sys_interval 0\n\
         log_dest stderr\n\
         log_type error\n"
    )
}
