//! `kilter doctor`: what is wrong with this installation as it is now: symptom, cause, fix.

use crate::{
    app::ServerFile,
    client::{Client, Missing},
    config::Shared,
    output,
};
use anyhow::Context;
use kilter_core::{
    CertificateEntry, CertificateStatus, RotationState, ThingView, Timestamp,
    ports::{
        clock::{Clock, SystemClock},
        deliver::RefusalView,
    },
    time_in_words,
};
use kilter_door_console::{LedgerEntry, ReadyItem};
use serde::Serialize;
use std::process::ExitCode;

/// A certificate that ends sooner is a finding: a month is time enough to bring a new one to a device.
const EXPIRY_SECONDS: i64 = 30 * 86_400;
/// Refusals older than this say nothing about now.
const REFUSAL_SECONDS: f64 = 3_600.0;
/// A rotation that was rolled back longer ago was not worth another.
const ROLLED_BACK_SECONDS: f64 = 7.0 * 86_400.0;
/// Names in one line.
const NAMES_MAX: usize = 5;

/// Check this installation: what is wrong, why, and what to do. Exit status 1 where something is
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kilter doctor\n  kilter doctor --output json")]
pub struct Args {}

#[derive(Debug, Serialize)]
struct Report {
    /// What was looked at, in words.
    checked: Vec<&'static str>,
    findings: Vec<Finding>,
    /// What may well be as it should.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Finding {
    symptom: String,
    cause: String,
    fix: String,
}

impl Finding {
    fn new(symptom: impl Into<String>, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { symptom: symptom.into(), cause: cause.into(), fix: fix.into() }
    }
}

pub async fn run(shared: &Shared, _: Args) -> anyhow::Result<ExitCode> {
    let client = Client::open(shared, Missing::Refuse).await?;
    let now = SystemClock.now();
    let mut report = Report { checked: Vec::new(), findings: Vec::new(), notes: Vec::new() };
    report.checked.push("server");
    if ServerFile::path(&shared.data_dir).exists() || std::env::var_os("KILTER_URL").is_some() {
        report.checked.push("parts of the server");
        let parts: Vec<ReadyItem> = client.get("/api/v1/parts").await.context("the server does not say how it is")?;
        report.findings.extend(parts.into_iter().filter(|part| !part.ready).map(|part| {
            let fix = "see docs/runbook/not-ready.md, and the server's log";
            Finding::new(format!("{} does not work", part.name), part.detail, fix)
        }));
        report.checked.push("refused devices");
        let refusals: Vec<RefusalView> = client.get("/api/v1/refusals").await?;
        report.findings.extend(refusals.iter().filter(|r| now.seconds_since(r.time) < REFUSAL_SECONDS).map(refused));
    } else {
        let fix = format!("kilter serve --data-dir {}", shared.data_dir.display());
        report.findings.push(Finding::new("no device can connect", "no server runs on this data directory", fix));
    }
    report.checked.push("certificates");
    let things: Vec<ThingView> = client.get("/api/v1/things").await?;
    report.findings.extend(things.iter().filter_map(|thing| certificate(thing, now)));
    report.notes.extend(without_certificate(&things));
    report.checked.push("rotations");
    let certificates: Vec<CertificateEntry> = client.get("/api/v1/certificates").await?;
    report.findings.extend(certificates.iter().filter_map(|entry| rolled_back(entry, now)));
    report.checked.push("ledger");
    let ledger: Vec<LedgerEntry> = client.get("/api/v1/ledger").await?;
    report.findings.extend(ledger.into_iter().filter_map(|entry| {
        let symptom = format!("the ledger of {} {} does not add up", entry.line.tenant, entry.line.thing);
        Some(Finding::new(symptom, entry.discrepancy?, "see docs/runbook/ledger.md"))
    }));
    output::print(shared.output, &report, show)?;
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn refused(refusal: &RefusalView) -> Finding {
    let who = match (refusal.client_id.as_str(), &refusal.certificate) {
        ("", None) => format!("a device at {}", refusal.peer),
        ("", Some(certificate)) => format!("a device at {} with certificate {certificate}", refusal.peer),
        (client_id, _) => format!("{client_id} at {}", refusal.peer),
    };
    let fix = match refusal.kind.as_str() {
        "handshake" => {
            "give the device a certificate that is valid now, of this installation or of a registered CA, and check its \
             clock; see docs/guide/identity.md"
        }
        "certificate" => {
            "see its certificates with `kilter thing show`, and issue a new one with `kilter thing rotate`"
        }
        "client_id" | "connect" | "will" | "publish" | "subscribe" | "receive" => {
            "ask `kilter policy simulate` what the policies say, and change policy, topic or client id"
        }
        "taken_over" => "give each device its own client id",
        _ => "see docs/runbook/device-cannot-connect.md",
    };
    let times = if refusal.count > 1 { format!(", {} times", refusal.count) } else { String::new() };
    Finding::new(
        format!("{who} was refused at {} ({}){times}", refusal.time, refusal.kind),
        refusal.reason.as_str(),
        fix,
    )
}

/// Not every thing connects by itself: they are told in one line.
fn without_certificate(things: &[ThingView]) -> Option<String> {
    let names: Vec<&str> = things.iter().filter(|t| t.certificates.is_empty()).map(|t| t.thing.as_str()).collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let told = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| {
        format!(
            "Without a certificate, and so without a connection of their own: {told}{more}. `kilter thing rotate` issues one."
        )
    })
}

fn rolled_back(entry: &CertificateEntry, now: Timestamp) -> Option<Finding> {
    let rotation = entry.rotation.as_ref().filter(|rotation| rotation.new == entry.certificate.id)?;
    let ended = rotation.ended.filter(|_| rotation.state == RotationState::RolledBack)?;
    let thing = entry.things.first()?;
    (now.seconds_since(ended) < ROLLED_BACK_SECONDS).then(|| {
        Finding::new(
            format!("thing {thing} keeps its old certificate: its rotation was rolled back at {ended}"),
            format!("it did not connect with the new one before {}", rotation.deadline),
            format!("see whether it was refused, bring it the new files, and `kilter cert rotate {thing}` again"),
        )
    })
}

/// A thing that no certificate lets in, or not for long.
fn certificate(thing: &ThingView, now: Timestamp) -> Option<Finding> {
    let name = &thing.thing;
    let fix = format!("kilter thing rotate {name}");
    if thing.certificates.is_empty() {
        return None;
    }
    let active = thing.certificates.iter().filter(|c| c.status == CertificateStatus::Active);
    let Some(last) = active.map(|c| c.not_after).max() else {
        let told: Vec<String> = thing.certificates.iter().map(|c| format!("{} is {}", c.id, c.status)).collect();
        return Some(Finding::new(format!("thing {name} cannot connect"), told.join(", "), fix));
    };
    if last < now {
        let ago = time_in_words(now.seconds_since(last) as u64);
        let cause = format!("its certificate ended at {last}, {ago} ago by this machine's clock ({now})");
        return Some(Finding::new(format!("thing {name} cannot connect"), cause, fix));
    }
    (last < now.plus_seconds(EXPIRY_SECONDS)).then(|| {
        let (symptom, fix) = (format!("thing {name} will not connect for long"), format!("kilter cert rotate {name}"));
        Finding::new(symptom, format!("its certificate ends at {last}"), fix)
    })
}

fn show(report: &Report) -> String {
    let mut checked = format!("Checked: {}.", report.checked.join(", "));
    for note in &report.notes {
        checked.push_str(&format!("\n{note}"));
    }
    if report.findings.is_empty() {
        return format!("Nothing is wrong. {checked}");
    }
    let rows = report.findings.iter().map(|f| vec![f.symptom.clone(), f.cause.clone(), f.fix.clone()]).collect();
    format!("{}\n{checked}", output::table(&["symptom", "cause", "fix"], rows, ""))
}
