//! The Kilter under measurement: a child process on a directory of its own, asked through its own doors.

use super::process::Process;
use crate::{
    app::ServerFile,
    client::Client,
    config::{Output, Shared},
};
use anyhow::{Context, bail, ensure};
use kilter_core::{
    IssuedIdentity, LedgerLine, TenantId, ThingName,
    ports::control::{OnboardRequest, Onboarded},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tokio::time::sleep;

const START_TIME_MAX: Duration = Duration::from_secs(60);
const START_POLL: Duration = Duration::from_millis(5);
const POLL: Duration = Duration::from_millis(100);
/// Things made with one request: their names fit its body, and their keys an answer of a megabyte or two.
const THINGS_PER_REQUEST: usize = 500;
/// Scoring that makes no progress for this long has stopped.
const STALLED: Duration = Duration::from_secs(30);
/// A server that uses less of a core than this has nothing left to do.
const QUIET_CORES: f64 = 0.05;
const QUIET_WINDOW: Duration = Duration::from_secs(1);
/// The lake writes what has come within its flush interval of 15 s; longer than this is not waited for.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(60);

/// The defaults but for the bounds that would measure themselves: as fast as it goes, as many as are asked for.
const CONFIGURATION: &str =
    "[mqtt_limits]\nconnections_max = 65000\nsessions_max = 65000\nconnection_rate_max = 0\ntenant_rate_max = 0\n";

pub struct Server {
    pub process: Process,
    /// Address of the devices' door.
    pub mqtt: String,
    /// Of the console's door, without a slash at its end.
    pub url: String,
    /// From the start of the process to the first 200 of `/readyz`.
    pub start: Duration,
    data_dir: PathBuf,
    client: Client,
    http: reqwest::Client,
}

impl Server {
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let data_dir = dir.join("kilter");
        std::fs::create_dir_all(&data_dir)?;
        std::fs::write(data_dir.join("kilter.toml"), CONFIGURATION)?;
        let mut command = Command::new(std::env::current_exe().context("this program's own file is not known")?);
        command
            .args(["serve", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--aws", "127.0.0.1:0", "--data-dir"])
            .arg(&data_dir);
        // What is measured does not depend on what is set for the operator's own server.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KILTER_")) {
            command.env_remove(name);
        }
        command.env("KILTER_LOG", "warn");
        let began = Instant::now();
        let mut process = Process::start("kilter serve", &mut command, &dir.join("kilter.log"))?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let file = loop {
            process.check()?;
            if let Some(file) = ready(&http, &data_dir).await {
                break file;
            }
            ensure!(began.elapsed() < START_TIME_MAX, "kilter serve is not ready after {} s", START_TIME_MAX.as_secs());
            sleep(START_POLL).await;
        };
        let start = began.elapsed();
        let client = Client::running(&Shared { data_dir: data_dir.clone(), output: Output::Json }).await?;
        Ok(Self { process, mqtt: file.mqtt, url: file.url, start, data_dir, client, http })
    }

    /// Where the authority's certificate and the server's own certificate and key lie.
    pub fn identity_dir(&self) -> PathBuf {
        self.data_dir.join("identity")
    }

    pub async fn onboard(&self, tenant: &TenantId, things: &[ThingName]) -> anyhow::Result<Vec<IssuedIdentity>> {
        let mut identities = Vec::with_capacity(things.len());
        for things in things.chunks(THINGS_PER_REQUEST) {
            let request =
                OnboardRequest { tenant: tenant.clone(), things: things.to_vec(), budget: None, shards: None };
            let onboarded: Onboarded = self.client.post("/api/v1/tenants", &request).await?;
            identities.extend(onboarded.identities);
        }
        Ok(identities)
    }

    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        let answer = self.http.get(format!("{}/metrics", self.url)).send().await.context("/metrics does not answer")?;
        Ok(Metrics::parse(&answer.error_for_status()?.text().await?))
    }

    /// Live events as they come, from now on.
    pub async fn live(&self, tenant: &TenantId) -> anyhow::Result<reqwest::Response> {
        let url = format!("{}/api/v1/live?tenant={tenant}", self.url);
        Ok(self.http.get(url).send().await?.error_for_status()?)
    }

    /// Waits until everything durable is scored; answers how long that took.
    pub async fn caught_up(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let (mut least, mut progress) = (u64::MAX, began);
        loop {
            let waiting = self.metrics().await?.waiting();
            if waiting == 0 {
                return Ok(began.elapsed());
            }
            if waiting < least {
                (least, progress) = (waiting, Instant::now());
            }
            if progress.elapsed() > STALLED {
                bail!("scoring has stopped with {waiting} records waiting");
            }
            self.process.check()?;
            sleep(POLL).await;
        }
    }

    /// Waits until the lake is written too, so that what is measured next has the machine to itself.
    pub async fn quiet(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < QUIET_WAIT_MAX {
            let before = self.process.cpu_seconds()?;
            sleep(QUIET_WINDOW).await;
            if self.process.cpu_seconds()? - before < QUIET_CORES * QUIET_WINDOW.as_secs_f64() {
                break;
            }
        }
        Ok(())
    }

    /// The figures mean something only when nothing of what they count was lost, refused or skipped.
    pub async fn audit(&self, acknowledged: u64) -> anyhow::Result<()> {
        let lines: Vec<LedgerLine> = self.client.get("/api/v1/ledger").await?;
        if let Some((line, why)) = lines.iter().find_map(|line| line.discrepancy().map(|why| (line, why))) {
            bail!("the ledger of {} does not add up, so the figures mean nothing: {why}", line.thing);
        }
        let sum = |of: fn(&LedgerLine) -> u64| lines.iter().map(of).sum::<u64>();
        let (scored, late, rejected) = (sum(|l| l.scored), sum(|l| l.late), sum(|l| l.rejected));
        ensure!(
            scored == acknowledged,
            "{acknowledged} messages were acknowledged but {scored} scored ({late} late, {rejected} rejected), so the figures mean nothing"
        );
        Ok(())
    }
}

/// The server's own file, once it says that it is ready.
async fn ready(http: &reqwest::Client, data_dir: &Path) -> Option<ServerFile> {
    let text = std::fs::read(ServerFile::path(data_dir)).ok()?;
    let file: ServerFile = serde_json::from_slice(&text).ok()?;
    let answer = http.get(format!("{}/readyz", file.url)).send().await.ok()?;
    answer.status().is_success().then_some(file)
}

/// What `/metrics` says, each name's label sets added up.
#[derive(Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let mut sums = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let name = name.split('{').next().unwrap_or(name);
            *sums.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap_or(0.0);
        }
        Self(sums)
    }

    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    pub fn readings(&self) -> u64 {
        self.get("kilter_score_readings_total") as u64
    }

    pub fn records(&self) -> u64 {
        self.get("kilter_score_records_total") as u64
    }

    /// Records that are durable and not scored yet, to the moment: the gauge is set once a second only.
    pub fn waiting(&self) -> u64 {
        (self.get("kilter_stream_append_records_total") as u64).saturating_sub(self.records())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_added_up_over_their_labels() {
        let metrics = Metrics::parse(
            "# TYPE kilter_stream_append_records_total counter\nkilter_stream_append_records_total{stream=\"a b\"} 3\nkilter_stream_append_records_total{stream=\"c\"} 4\n\nkilter_score_records_total 5\n",
        );
        assert_eq!((metrics.waiting(), metrics.records(), metrics.readings()), (2, 5, 0));
    }
}
