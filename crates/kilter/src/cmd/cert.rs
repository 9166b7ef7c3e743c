//! `kilter cert`: certificates, when they end and when they were used, and their replacement in stages.

use super::{tenant::write_identity, thing::find};
use crate::{
    client::{Client, Missing},
    config::Shared,
    output,
};
use anyhow::{Context, bail};
use indicatif::ProgressBar;
use kilter_core::{
    CertificateEntry, CertificateId, IssuedIdentity, Rotation, RotationState, TenantId, ThingName, Timestamp,
    ports::clock::{Clock, SystemClock},
};
use kilter_door_console::RotationRequest;
use std::{path::PathBuf, time::Duration};

/// How often a rotation is asked after.
const POLL: Duration = Duration::from_millis(500);
const DAY_SECONDS: f64 = 86_400.0;

/// Certificates: validity, last use, rotation
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List certificates: status, validity, last use, rotation
    #[command(after_help = "Example:\n  kilter cert list --tenant tenant001")]
    List {
        /// One tenant only
        #[arg(long)]
        tenant: Option<TenantId>,
        /// One thing only
        #[arg(long)]
        thing: Option<ThingName>,
    },
    /// Replace a thing's certificate: the old ones are retired once the device has used the new one
    #[command(
        after_help = "Both hold until a connection with the new one is let in: then the old ones become INACTIVE and their\nsessions end. Where none is in time, the new one becomes INACTIVE and the old ones stay.\n\nExample:\n  kilter cert rotate tenant001-device1 --tenant tenant001 --out certs-new --within 24h"
    )]
    Rotate(Rotate),
}

#[derive(Debug, clap::Args)]
pub struct Rotate {
    /// The thing
    name: ThingName,
    /// Whose the thing is [default: whoever's it is]
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Where the certificate files go: not where the old ones are
    #[arg(long, default_value = ".", value_name = "DIR")]
    out: PathBuf,
    /// How long the device is waited for: 30m, 24h, 7d; at most 90d
    #[arg(long, default_value = "24h", value_name = "TIME", value_parser = seconds)]
    within: u32,
    /// Wait for the end; exit status 1 where the rotation is rolled back
    #[arg(long)]
    wait: bool,
}

/// A number with s, m, h or d behind it.
fn seconds(text: &str) -> Result<u32, String> {
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let found = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, seconds)));
    let parsed = found.and_then(|(number, seconds)| number.parse::<u32>().ok()?.checked_mul(*seconds));
    parsed.filter(|seconds| *seconds > 0).ok_or_else(|| "use a number with s, m, h or d, such as 24h".to_owned())
}

pub async fn run(shared: &Shared, command: Command) -> anyhow::Result<()> {
    let client = Client::open(shared, Missing::Refuse).await?;
    match command {
        Command::List { tenant, thing } => {
            let tenant = tenant.map(|tenant| format!("tenant={tenant}"));
            let asked: Vec<String> = tenant.into_iter().chain(thing.map(|thing| format!("thing={thing}"))).collect();
            let path = format!("/api/v1/certificates?{}", asked.join("&"));
            let entries: Vec<CertificateEntry> = client.get(&path).await?;
            output::print(shared.output, &entries, |entries| list(entries, SystemClock.now()))
        }
        Command::Rotate(args) => rotate(shared, &client, args).await,
    }
}

async fn rotate(shared: &Shared, client: &Client, args: Rotate) -> anyhow::Result<()> {
    let Rotate { name, out, wait, .. } = args;
    if wait && !client.is_server() {
        bail!("--wait needs a server that devices can connect to: start it with `kilter serve`");
    }
    let key = out.join(format!("private-{name}.key"));
    if key.exists() {
        bail!(
            "{} is there already, and the device needs it should the rotation be rolled back: name another folder with --out",
            key.display()
        );
    }
    let thing = find(client, &name).await?;
    let Some(tenant) = thing.tenant.filter(|own| args.tenant.as_ref().is_none_or(|said| said == own)) else {
        match args.tenant {
            Some(said) => bail!("thing {name} is not tenant {said}'s: see `kilter thing show {name}`"),
            None => bail!("thing {name} has no tenant: give it the attribute `tenant`"),
        }
    };
    let path = format!("/api/v1/tenants/{tenant}/things/{name}/rotation");
    let made: IssuedIdentity = client.post(&path, &RotationRequest { within_seconds: args.within }).await?;
    let id = &made.certificate.id;
    let files = write_identity(&out, &made).with_context(|| {
        format!("the new certificate was lost: `kilter thing revoke {name} --certificate {id}`, and rotate again")
    })?;
    let rotation = if wait { ended(client, &name, id).await? } else { rotation(client, &name, id).await? };
    let facts = serde_json::json!({
        "thing": made.thing, "certificate": made.certificate, "files": files, "rotation": rotation,
    });
    output::print(shared.output, &facts, |_| {
        let names: Vec<String> = files.iter().map(|file| format!("  {}", file.display())).collect();
        let told = told(&rotation, id);
        format!("Certificate {} for {name}:\n{}\nThe rotation: {told}.", made.certificate.arn, names.join("\n"))
    })?;
    if wait && rotation.state == RotationState::RolledBack {
        bail!(
            "{name} has not connected with the new certificate, which is INACTIVE now: see `kilter doctor` for whether it was refused"
        );
    }
    Ok(())
}

async fn rotation(client: &Client, thing: &ThingName, id: &CertificateId) -> anyhow::Result<Rotation> {
    let entries: Vec<CertificateEntry> = client.get(&format!("/api/v1/certificates?thing={thing}")).await?;
    let entry = entries.into_iter().find(|entry| entry.certificate.id == *id);
    entry.and_then(|entry| entry.rotation).with_context(|| format!("the new certificate {id} was deleted meanwhile"))
}

async fn ended(client: &Client, thing: &ThingName, id: &CertificateId) -> anyhow::Result<Rotation> {
    let progress = ProgressBar::new_spinner();
    progress.enable_steady_tick(POLL);
    loop {
        let rotation = rotation(client, thing, id).await?;
        if rotation.state != RotationState::Waiting {
            progress.finish_and_clear();
            return Ok(rotation);
        }
        progress.set_message(format!(
            "waiting until {} for {thing} to connect with certificate {id}",
            rotation.deadline.format("%F %T UTC")
        ));
        tokio::time::sleep(POLL).await;
    }
}

/// What a rotation means for one of its certificates.
fn told(rotation: &Rotation, id: &CertificateId) -> String {
    let deadline = rotation.deadline.format("%F %T UTC");
    let ended = rotation.ended.map(|time| time.format("%F %T UTC")).unwrap_or_default();
    match (rotation.state, rotation.new == *id) {
        (RotationState::Waiting, true) => format!("new, waited for until {deadline}"),
        (RotationState::Waiting, false) => "old, until the new one is used".to_owned(),
        (RotationState::Done, true) => format!("took over at {ended}"),
        (RotationState::Done, false) => format!("replaced at {ended}"),
        (RotationState::RolledBack, true) => format!("rolled back at {ended}, never used"),
        (RotationState::RolledBack, false) => format!("kept: rolled back at {ended}"),
    }
}

fn list(entries: &[CertificateEntry], now: Timestamp) -> String {
    let rows = entries.iter().map(|entry| {
        let c = &entry.certificate;
        let things: Vec<&str> = entry.things.iter().map(ThingName::as_str).collect();
        let day = |time: Timestamp| time.format("%F");
        let left = (c.not_after.seconds_since(now) / DAY_SECONDS).floor();
        let left = if left < 0.0 { "expired".to_owned() } else { format!("{left} days left") };
        vec![
            c.id.as_str().chars().take(12).collect(),
            things.join("\n"),
            c.status.to_string(),
            entry.not_before.map_or_else(|| "-".to_owned(), day),
            format!("{}\n{left}", day(c.not_after)),
            entry.last_used.map_or_else(|| "never".to_owned(), |time| time.format("%F %T UTC")),
            entry.rotation.as_ref().map_or_else(|| "-".to_owned(), |rotation| told(rotation, &c.id)),
        ]
    });
    let head = ["certificate", "thing", "status", "from", "until", "last used", "rotation"];
    output::table(&head, rows.collect(), "No certificates.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_a_bound() {
        assert_eq!(["90s", "30m", "24h", "7d"].map(|text| seconds(text).unwrap()), [90, 1_800, 86_400, 604_800]);
        for text in ["", "h", "0s", "24", "-1h", "1w", "1.5h", "99999999d", "é"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
