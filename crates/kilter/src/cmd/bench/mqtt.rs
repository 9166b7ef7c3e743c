//! `kilter bench mqtt`: the devices' door beside mosquitto's: rates, acknowledgement times, handshakes, idle sessions.

use super::{
    device::{Device, Readings, connect_all, disconnect_all},
    handshake::{self, Handshakes, Openssl},
    load::{Acknowledged, Load, Percentiles, saturate},
    pace,
    peer::{self, Mosquitto},
    process::Process,
    report::Throughput,
    scratch::Scratch,
    server::Server,
};
use crate::{config::Shared, open_files, output};
use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use kilter_core::{
    TenantId,
    ports::clock::{Clock, SystemClock},
};
use serde::Serialize;
use std::{path::Path, sync::Arc, time::Duration};

/// Messages of each connection that wait for their PUBACK.
const INFLIGHT: u16 = 100;
/// The servers take turns this often: what else the machine does then hits both.
const ROUNDS: u32 = 2;
/// The paced load is a half of the rate of the test with about this many clients.
const PACED_CLIENTS: usize = 20;
/// Files that either process opens beside its connections.
const FILES_BESIDES: u64 = 200;
const PAST_SECONDS: i64 = 60 * 86_400;
const TICK: Duration = Duration::from_millis(200);
const MIB: f64 = 1_048_576.0;

/// Measure the devices' door beside mosquitto's: rates, acknowledgement times, handshakes, idle sessions
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Starts `kilter serve` on a directory of its own next to the data directory, and mosquitto where it is installed; removes all of it afterwards. Every idle session needs an open file here and in the server. See docs/guide/bench.md for what each figure means.\n\nExample:\n  kilter bench mqtt --output json\n  kilter bench mqtt --seconds 1 --clients 4 --idle 100    # quick"
)]
pub struct Args {
    /// Connections of the throughput tests, one test each
    #[arg(long, default_values_t = [1, 20, 100], value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: Vec<u16>,
    /// Length of each measurement
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Idle sessions that memory is measured with
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    idle: u32,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub throughput: Vec<Sides<Throughput>>,
    /// At half of mosquitto's rate with 20 clients (of Kilter's own where there is no mosquitto).
    pub paced: Sides<Paced>,
    pub handshakes: Sides<Handshakes>,
    pub openssl: Option<Openssl>,
    pub idle: Idle,
}

#[derive(Debug, Serialize)]
pub struct Sides<T> {
    pub kilter: T,
    pub mosquitto: Option<T>,
}

#[derive(Debug, Serialize)]
pub struct Paced {
    pub messages_per_second: f64,
    pub messages: usize,
    pub acknowledged_milliseconds: Percentiles,
}

#[derive(Debug, Serialize)]
pub struct Idle {
    pub sessions: usize,
    /// Of the whole server, with its sessions.
    pub resident_bytes: u64,
    pub bytes_per_session: u64,
}

pub async fn run(shared: &Shared, args: Args) -> anyhow::Result<()> {
    let (needed, allowed) = (u64::from(args.idle) + FILES_BESIDES, open_files::allow_most());
    ensure!(
        needed <= allowed,
        "{} idle sessions need {needed} open files and {allowed} are allowed: raise the hard limit (`ulimit -Hn {needed}` as root), or choose fewer with --idle",
        args.idle
    );
    let scratch = Scratch::beside(&shared.data_dir)?;
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}")?);
    bar.enable_steady_tick(TICK);
    let report = tokio::select! {
        measured = measure(&args, &scratch.0, &bar) => measured,
        _ = tokio::signal::ctrl_c() => bail!("interrupted; what had been started is stopped and removed"),
    };
    bar.finish_and_clear();
    output::print(shared.output, &report?, people)
}

async fn measure(args: &Args, scratch: &Path, bar: &ProgressBar) -> anyhow::Result<Report> {
    let duration = Duration::from_secs(args.seconds);
    bar.set_message("measuring openssl");
    let openssl = tokio::task::spawn_blocking(Openssl::measure).await??;
    bar.set_message("starting the servers");
    let mut server = Server::start(scratch).await?;
    let mosquitto = Mosquitto::start(scratch, &server.identity_dir()).await?;
    if mosquitto.is_none() {
        bar.println(format!("NO PEER: mosquitto is not installed; {}", peer::INSTALL));
    }
    let readings = Arc::new(Readings::make());
    let start = SystemClock.now().plus_seconds(-PAST_SECONDS);
    bar.set_message(format!("making {} things with their certificates", args.idle));
    let things = Device::onboard(&server, &TenantId::new("idle")?, args.idle as usize, &readings, start).await?;
    let idle = idle(&server, &things, bar).await?;

    bar.set_message("connecting and leaving");
    let new = async |process: &Process, address: &str| handshake::run(process, address, &things, duration).await;
    let handshakes = Sides {
        kilter: new(&server.process, &server.mqtt).await?,
        mosquitto: match &mosquitto {
            Some(peer) => Some(new(&peer.process, &peer.address).await?),
            None => None,
        },
    };

    let most = args.clients.iter().copied().max().unwrap_or(1);
    let mut busy = Device::onboard(&server, &TenantId::new("busy")?, most.into(), &readings, start).await?;
    let mut throughput = Vec::new();
    for clients in &args.clients {
        let rest = busy.split_off(usize::from(*clients));
        bar.set_message(format!("{clients} clients"));
        throughput.push(saturated(&mut server, mosquitto.as_ref(), &mut busy, duration).await?);
        busy.extend(rest);
    }
    let distance = |sides: &&Sides<Throughput>| sides.kilter.clients.abs_diff(PACED_CLIENTS);
    let reference = throughput.iter().min_by_key(distance).context("--clients names one number at least")?;
    let saturation = reference.mosquitto.as_ref().unwrap_or(&reference.kilter).messages_per_second;
    busy.truncate(reference.kilter.clients);
    bar.set_message("half of mosquitto's rate");
    let paced = paced(&mut server, mosquitto.as_ref(), &mut busy, saturation / 2.0, duration).await?;
    Ok(Report { throughput, paced, handshakes, openssl, idle })
}

async fn idle(server: &Server, things: &[Device], bar: &ProgressBar) -> anyhow::Result<Idle> {
    bar.set_message(format!("connecting {} devices that say nothing", things.len()));
    server.quiet().await?;
    let before = server.process.resident_bytes()?;
    let clients = connect_all(things, &server.mqtt, 1).await?;
    server.quiet().await?;
    let resident_bytes = server.process.resident_bytes()?;
    disconnect_all(clients).await?;
    let bytes_per_session = resident_bytes.saturating_sub(before) / things.len() as u64;
    Ok(Idle { sessions: things.len(), resident_bytes, bytes_per_session })
}

/// In turns. Kilter is let to work off what it has taken in before the peer is measured: it would slow it down.
async fn saturated(
    server: &mut Server,
    mosquitto: Option<&Mosquitto>,
    devices: &mut Vec<Device>,
    duration: Duration,
) -> anyhow::Result<Sides<Throughput>> {
    let load = Load { inflight: INFLIGHT, duration: duration / ROUNDS };
    let (mut kilter, mut peer) = (Acknowledged::default(), Acknowledged::default());
    for _ in 0..ROUNDS {
        kilter.add(saturate(&server.process, &server.mqtt, devices, load).await?);
        server.caught_up().await?;
        server.quiet().await?;
        if let Some(mosquitto) = mosquitto {
            peer.add(saturate(&mosquitto.process, &mosquitto.address, devices, load).await?);
        }
    }
    let payload_bytes = devices.first().context("there is at least one client")?.payload_bytes();
    let side = |version: &str, sum| Throughput::new(version.to_owned(), devices.len(), INFLIGHT, payload_bytes, sum);
    Ok(Sides {
        kilter: side(concat!("kilter ", env!("CARGO_PKG_VERSION")), kilter)?,
        mosquitto: mosquitto.map(|known| side(&known.version, peer)).transpose()?,
    })
}

async fn paced(
    server: &mut Server,
    mosquitto: Option<&Mosquitto>,
    devices: &mut Vec<Device>,
    rate: f64,
    duration: Duration,
) -> anyhow::Result<Sides<Paced>> {
    let (mut kilter, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        kilter.extend(pace::run(&server.mqtt, devices, rate, duration / ROUNDS).await?);
        server.caught_up().await?;
        server.quiet().await?;
        if let Some(mosquitto) = mosquitto {
            peer.extend(pace::run(&mosquitto.address, devices, rate, duration / ROUNDS).await?);
        }
    }
    let side = |latencies: Vec<Duration>| {
        let messages = latencies.len();
        let acknowledged_milliseconds = Percentiles::of(latencies).context("no message was acknowledged")?;
        let messages_per_second = messages as f64 / duration.as_secs_f64();
        anyhow::Ok(Paced { messages_per_second, messages, acknowledged_milliseconds })
    };
    Ok(Sides { kilter: side(kilter)?, mosquitto: mosquitto.map(|_| side(peer)).transpose()? })
}

fn people(report: &Report) -> String {
    let rate = |of: &Throughput| format!("{:.0}", of.messages_per_second);
    let optional = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let rows = report.throughput.iter().map(|Sides { kilter, mosquitto }| {
        let ratio = mosquitto.as_ref().map(|peer| kilter.messages_per_second / peer.messages_per_second);
        vec![
            kilter.clients.to_string(),
            rate(kilter),
            optional(mosquitto.as_ref().map(rate)),
            optional(ratio.map(|ratio| format!("{ratio:.2}"))),
            format!("{:.1}", kilter.cpu_microseconds_per_message),
            optional(mosquitto.as_ref().map(|peer| format!("{:.1}", peer.cpu_microseconds_per_message))),
        ]
    });
    let head = ["clients", "kilter msg/s", "mosquitto msg/s", "ratio", "kilter cpu us/msg", "mosquitto cpu us/msg"];
    let mut text = format!(
        "QoS 1, mutual TLS, {INFLIGHT} in flight; Kilter durable, mosquitto in memory:\n{}\n",
        output::table(&head, rows.collect(), "")
    );
    let p = |of: &Paced| {
        let ms = &of.acknowledged_milliseconds;
        format!("p50 {:.1} ms, p99 {:.1} ms at {:.0} msg/s", ms.p50, ms.p99, of.messages_per_second)
    };
    text.push_str(&format!("\nPUBACK at half of mosquitto's rate: kilter {}", p(&report.paced.kilter)));
    text.push_str(&optional(report.paced.mosquitto.as_ref().map(|peer| format!("; mosquitto {}.\n", p(peer)))));
    let h = |of: &Handshakes| {
        format!(
            "{:.0}/s, {:.0} us of processor time each",
            of.connections_per_second, of.cpu_microseconds_per_connection
        )
    };
    text.push_str(&format!("New connections: kilter {}", h(&report.handshakes.kilter)));
    text.push_str(&optional(report.handshakes.mosquitto.as_ref().map(|peer| format!("; mosquitto {}.\n", h(peer)))));
    if let Some(openssl) = &report.openssl {
        text.push_str(&format!(
            "Arithmetic of one end's handshake by `openssl speed` ({}): {:.0} us.\n",
            openssl.version, openssl.handshake_microseconds
        ));
    }
    text.push_str(&format!(
        "{} idle sessions: {:.0} MiB resident, {:.1} KiB each.",
        report.idle.sessions,
        report.idle.resident_bytes as f64 / MIB,
        report.idle.bytes_per_session as f64 / 1024.0
    ));
    text
}
