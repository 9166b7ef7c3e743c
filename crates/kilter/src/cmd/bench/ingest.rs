//! `kilter bench ingest`: the throughput and latency of a real server on this machine, beside mosquitto's.

use super::{
    device::{Device, Readings, SIGNALS, connect_all, disconnect_all},
    load::{Acknowledged, Load, saturate},
    peer::{self, Mosquitto},
    report::{self, Backlog, Memory, Report, Scoring, Throughput},
    scoring,
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
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Kilter and mosquitto take turns this often: what else the machine does then hits both.
const ROUNDS: u32 = 2;
/// Idle connections that memory is measured with, where there are as many devices.
const IDLE_CONNECTIONS: usize = 500;
/// After connections were made: until what they needed for the handshake is given back.
const IDLE_SETTLE: Duration = Duration::from_secs(2);
/// The steady part of the capacity test lasts this many times `--seconds`.
const CAPACITY_TIMES: u64 = 2;
/// Where the devices' time starts, that no load brings it up to now.
const PAST_DAYS: i64 = 60;
const DAY_SECONDS: i64 = 86_400;
/// Files that either process opens beside its connections.
const FILES_BESIDES: u64 = 100;
const TICK: Duration = Duration::from_millis(200);

/// Measure throughput and latency of a real server on this machine, beside mosquitto's
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Starts `kilter serve` on a directory of its own next to the data directory (so that it is measured on the same disk), and mosquitto where it is installed; removes all of it afterwards. Takes a few minutes. See docs/guide/bench.md for what each figure means.\n\nExample:\n  kilter bench ingest --output json\n  kilter bench ingest --seconds 2 --signals 800    # quick"
)]
pub struct Args {
    /// Connections of the throughput test
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: u16,
    /// Messages of each connection that wait for their PUBACK
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    inflight: u16,
    /// Length of each measurement; the capacity test lasts twice as long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Signals of the capacity test, eight per thing, each at 1 Hz
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(8..=64_000))]
    signals: u32,
}

pub async fn run(shared: &Shared, args: Args) -> anyhow::Result<()> {
    let things = args.signals as usize / SIGNALS;
    let (needed, allowed) = (things as u64 + FILES_BESIDES, open_files::allow_most());
    ensure!(
        needed <= allowed,
        "{} signals need {needed} open files and {allowed} are allowed: raise the hard limit (`ulimit -Hn {needed}` as root), or choose fewer with --signals",
        args.signals
    );
    let scratch = Scratch::beside(&shared.data_dir)?;
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}")?);
    bar.enable_steady_tick(TICK);
    let report = tokio::select! {
        measured = measure(&args, things, &scratch.0, &bar) => measured,
        _ = tokio::signal::ctrl_c() => bail!("interrupted; what had been started is stopped and removed"),
    };
    bar.finish_and_clear();
    output::print(shared.output, &report?, report::people)
}

async fn measure(args: &Args, things: usize, scratch: &Path, bar: &ProgressBar) -> anyhow::Result<Report> {
    bar.set_message("starting kilter serve");
    let mut server = Server::start(scratch).await?;
    let idle_bytes = server.process.resident_bytes()?;
    bar.set_message(format!("making {} things with their certificates", things + usize::from(args.clients)));
    let readings = Arc::new(Readings::make());
    let start = SystemClock.now().plus_seconds(-PAST_DAYS * DAY_SECONDS);
    let (busy, wide) = (TenantId::new("busy")?, TenantId::new("wide")?);
    let mut clients = Device::onboard(&server, &busy, args.clients.into(), &readings, start).await?;
    let mut devices = Device::onboard(&server, &wide, things, &readings, start).await?;

    bar.set_message("connecting devices that say nothing");
    let (connections, bytes_per_connection) = idle_connections(&server, &devices).await?;
    let mosquitto = Mosquitto::start(scratch, &server.identity_dir()).await?;
    if mosquitto.is_none() {
        bar.println(format!("NO PEER: mosquitto is not installed; {}", peer::INSTALL));
    }
    let rounds = throughput(args, &mut server, mosquitto.as_ref(), &mut clients, bar).await?;
    let mut messages = rounds.kilter.published;

    bar.set_message("measuring the time from publishing to the score");
    let (delay, published) = scoring::delay(&server, &busy, &mut clients, args.seconds).await?;
    messages += published;
    bar.set_message(format!("scoring {} signals at 1 Hz", things * SIGNALS));
    let (capacity, published) = scoring::capacity(&mut server, &mut devices, CAPACITY_TIMES * args.seconds).await?;
    messages += published;
    bar.set_message("auditing the ledger");
    server.quiet().await?;
    server.audit(messages).await?;

    let metrics = server.metrics().await?;
    let signals = metrics.get("kilter_score_signals");
    let payload_bytes = clients.first().context("there is at least one client")?.payload_bytes();
    let side = |version, sum| Throughput::new(version, args.clients.into(), args.inflight, payload_bytes, sum);
    let kilter = side(format!("kilter {}", env!("CARGO_PKG_VERSION")), rounds.kilter)?;
    let mosquitto = mosquitto.map(|peer| side(peer.version, rounds.mosquitto)).transpose()?;
    Ok(Report {
        ratio: mosquitto.as_ref().map(|peer| kilter.messages_per_second / peer.messages_per_second),
        kilter,
        mosquitto,
        score: Scoring { backlog: rounds.backlog, delay, capacity },
        memory: Memory {
            start_seconds: server.start.as_secs_f64(),
            idle_bytes,
            connections,
            bytes_per_connection,
            signals: signals as u64,
            bytes_per_signal: (metrics.get("kilter_score_state_bytes") / signals) as u64,
        },
    })
}

/// How many, and what each adds to the server's resident memory.
async fn idle_connections(server: &Server, devices: &[Device]) -> anyhow::Result<(usize, u64)> {
    sleep(IDLE_SETTLE).await;
    let before = server.process.resident_bytes()?;
    let count = devices.len().min(IDLE_CONNECTIONS);
    let clients = connect_all(&devices[..count], &server.mqtt, 1).await?;
    sleep(IDLE_SETTLE).await;
    let grown = server.process.resident_bytes()?.saturating_sub(before);
    disconnect_all(clients).await?;
    Ok((count, grown / count as u64))
}

struct Rounds {
    kilter: Acknowledged,
    mosquitto: Acknowledged,
    backlog: Backlog,
}

/// In turns. Kilter is let to work off what it has taken in before the peer is measured: it would slow it down.
async fn throughput(
    args: &Args,
    server: &mut Server,
    mosquitto: Option<&Mosquitto>,
    clients: &mut Vec<Device>,
    bar: &ProgressBar,
) -> anyhow::Result<Rounds> {
    let load = Load { inflight: args.inflight, duration: Duration::from_secs(args.seconds) / ROUNDS };
    let (mut kilter, mut peer) = (Acknowledged::default(), Acknowledged::default());
    let (mut catch_up, mut busy) = (Duration::ZERO, Duration::ZERO);
    let before = server.metrics().await?;
    for round in 1..=ROUNDS {
        bar.set_message(format!("kilter, round {round} of {ROUNDS}"));
        let began = Instant::now();
        kilter.add(saturate(&server.process, &server.mqtt, clients, load).await?);
        bar.set_message("kilter scores what it has taken in");
        catch_up += server.caught_up().await?;
        busy += began.elapsed();
        server.quiet().await?;
        if let Some(mosquitto) = mosquitto {
            bar.set_message(format!("mosquitto, round {round} of {ROUNDS}"));
            peer.add(saturate(&mosquitto.process, &mosquitto.address, clients, load).await?);
        }
    }
    let after = server.metrics().await?;
    let backlog = Backlog {
        catch_up_seconds: catch_up.as_secs_f64(),
        messages_per_second: (after.records() - before.records()) as f64 / busy.as_secs_f64(),
        readings_per_second: (after.readings() - before.readings()) as f64 / busy.as_secs_f64(),
    };
    Ok(Rounds { kilter, mosquitto: peer, backlog })
}
