//! `kilter doctor`: what is wrong with this installation as it is now: symptom, cause, fix.

use crate::{
    app::ServerFile,
    client::{Client, Missing},
    config::Shared,
    output,
};
use anyhow::Context;
use kilter_core::{
    CertificateStatus, ThingView, Timestamp,
    ports::{
        clock::{Clock, SystemClock},
        deliver::RefusalView,
    },
};
use kilter_door_console::{LedgerEntry, ReadyItem};
use serde::Serialize;
use std::process::ExitCode;

/// A certificate that ends sooner is a finding: a month is time enough to bring a new one to a device.
const EXPIRY_SECONDS: i64 = 30 * 86_400;
/// Refusals older than this say nothing about now.
const REFUSAL_SECONDS: f64 = 3_600.0;

/// Check this installation: what is wrong, why, and what to do. Exit status 1 where something is
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kilter doctor\n  kilter doctor --output json")]
pub struct Args {}

#[derive(Debug, Serialize)]
struct Report {
    /// What was looked at, in words.
    checked: Vec<&'static str>,
    findings: Vec<Finding>,
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
    let mut report = Report { checked: Vec::new(), findings: Vec::new() };
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
            "give the device a certificate of this installation or register its CA; see docs/guide/identity.md"
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

/// A thing that no certificate lets in, or not for long.
fn certificate(thing: &ThingView, now: Timestamp) -> Option<Finding> {
    let name = &thing.thing;
    let fix = format!("kilter thing rotate {name}");
    let active = thing.certificates.iter().filter(|c| c.status == CertificateStatus::Active);
    let Some(last) = active.map(|c| c.not_after).max() else {
        let told: Vec<String> = thing.certificates.iter().map(|c| format!("{} is {}", c.id, c.status)).collect();
        let cause = if told.is_empty() { "it has no certificate".to_owned() } else { told.join(", ") };
        return Some(Finding::new(format!("thing {name} cannot connect"), cause, fix));
    };
    if last < now {
        let cause = format!("its certificate ended at {last}; this machine's clock says {now}");
        return Some(Finding::new(format!("thing {name} cannot connect"), cause, fix));
    }
    (last < now.plus_seconds(EXPIRY_SECONDS)).then(|| {
        Finding::new(format!("thing {name} will not connect for long"), format!("its certificate ends at {last}"), fix)
    })
}

fn show(report: &Report) -> String {
    let checked = report.checked.join(", ");
    if report.findings.is_empty() {
        return format!("Nothing is wrong. Checked: {checked}.");
    }
    let rows = report.findings.iter().map(|f| vec![f.symptom.clone(), f.cause.clone(), f.fix.clone()]).collect();
    format!("{}\nChecked: {checked}.", output::table(&["symptom", "cause", "fix"], rows, ""))
}
