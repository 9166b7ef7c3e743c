//! `kilter replay`: publishes a recorded CSV as a thing, over the same road as any device.

use super::{
    publisher,
    recording::{LABEL_COLUMNS, Recording},
};
use crate::{
    client::Client,
    config::{Output, Shared},
    output,
};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use kilter_core::{
    Episode, LedgerLine, TenantId, ThingName, ThingView,
    ports::control::{OnboardRequest, Onboarded},
};
use kilter_door_mqtt::QoS;
use serde::Serialize;
use std::{path::PathBuf, sync::Arc, time::Duration};

const POLL: Duration = Duration::from_millis(200);
/// Rows between two looks at the connection and the progress bar.
const ROWS_PER_STEP: u64 = 200;

/// Publish a recorded CSV as a thing, over MQTT with mutual TLS, QoS 1
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The file may be gzipped, and separated by commas or semicolons. A tenant or thing that does not exist is made.\n\nExample:\n  kilter replay machine_temperature.csv.gz --tenant plant1 --thing press1 --time-column timestamp"
)]
pub struct Args {
    file: PathBuf,
    #[arg(long)]
    tenant: TenantId,
    #[arg(long)]
    thing: ThingName,
    /// The column with the event time: RFC 3339, `YYYY-MM-DD hh:mm:ss` (UTC), or an epoch number
    #[arg(long, value_name = "COLUMN")]
    time_column: String,
    /// Columns that are not sent; labels would give the answer away
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', default_value = LABEL_COLUMNS)]
    ignore: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    tenant: TenantId,
    thing: ThingName,
    published: u64,
    acknowledged: u64,
    scored: u64,
    late: u64,
    rejected: u64,
    anomalies: usize,
}

pub async fn run(shared: &Shared, args: Args) -> anyhow::Result<()> {
    let mut rows = Recording::open(&args.file, Some(&args.time_column), &args.ignore)?;
    let client = Client::running(shared).await?;
    prepare(&client, &args, shared.output).await?;
    let before = ledger(&client, &args).await?;
    let identity = publisher::borrow_certificate(&client, &args.tenant, &args.thing).await?;
    let sent = publish(&client, &args, &identity, &mut rows).await;
    publisher::give_back(&client, &identity).await?;
    let published = sent?;
    let after = scored(&client, &args, published, before.received).await?;
    let anomalies: Vec<Episode> =
        client.get(&format!("/api/v1/anomalies?tenant={}&thing={}&limit=10000", args.tenant, args.thing)).await?;
    let report = Report {
        tenant: args.tenant,
        thing: args.thing,
        published,
        acknowledged: published,
        scored: after.scored - before.scored,
        late: after.late - before.late,
        rejected: after.rejected - before.rejected,
        anomalies: anomalies.iter().filter(|episode| episode.withdrawn.is_none()).count(),
    };
    output::print(shared.output, &report, people)
}

fn people(r: &Report) -> String {
    let mut text = format!(
        "{} messages published and acknowledged as {}: {} scored, {} late, {} rejected. Anomalies of the thing: {}; see\n  kilter anomalies list --tenant {} --thing {}",
        r.published, r.thing, r.scored, r.late, r.rejected, r.anomalies, r.tenant, r.thing
    );
    if r.late * 2 > r.published {
        text.push_str("\nMost were late: the thing already has readings of that time. Was this file replayed before? Choose another --thing.");
    }
    text
}

/// Makes the tenant and the thing where they are missing, and says so.
async fn prepare(client: &Client, args: &Args, output: Output) -> anyhow::Result<()> {
    let things: anyhow::Result<Vec<ThingView>> = client.get(&format!("/api/v1/tenants/{}/things", args.tenant)).await;
    if things.is_ok_and(|things| things.iter().any(|thing| thing.thing == args.thing)) {
        return Ok(());
    }
    let request =
        OnboardRequest { tenant: args.tenant.clone(), things: vec![args.thing.clone()], budget: None, shards: None };
    let onboarded: Onboarded = client.post("/api/v1/tenants", &request).await?;
    if output == Output::Table {
        output::line(&format!("Made {}.", onboarded.created.join(", ")))?;
    }
    Ok(())
}

async fn publish(
    client: &Client,
    args: &Args,
    identity: &kilter_core::IssuedIdentity,
    rows: &mut Recording,
) -> anyhow::Result<u64> {
    let mqtt = publisher::connect(client.mqtt_address()?, identity).await?;
    let topic: Arc<str> = args.tenant.telemetry_topic(&args.thing).into();
    let bar =
        ProgressBar::no_length().with_style(ProgressStyle::with_template("{spinner} {human_pos} messages  {per_sec}")?);
    let mut published = 0;
    while let Some(row) = rows.next_row()? {
        let payload = serde_json::to_vec(&row.payload)?;
        mqtt.publish(&topic, payload.into(), QoS::AtLeastOnce).await.context("publishing failed")?;
        published += 1;
        if published % ROWS_PER_STEP == 0 {
            bar.set_position(published);
        }
    }
    mqtt.flush().await.context("not every message was acknowledged")?;
    mqtt.disconnect().await?;
    bar.finish_and_clear();
    Ok(published)
}

async fn ledger(client: &Client, args: &Args) -> anyhow::Result<LedgerLine> {
    let lines: Vec<LedgerLine> = client.get(&format!("/api/v1/ledger?tenant={}", args.tenant)).await?;
    let empty = LedgerLine {
        tenant: args.tenant.clone(),
        thing: args.thing.clone(),
        received: 0,
        stored: 0,
        rejected: 0,
        scored: 0,
        late: 0,
        waiting: 0,
    };
    Ok(lines.into_iter().find(|line| line.thing == args.thing).unwrap_or(empty))
}

/// Waits until the scorer has seen everything that was published.
async fn scored(client: &Client, args: &Args, published: u64, received_before: u64) -> anyhow::Result<LedgerLine> {
    let bar = ProgressBar::new(published)
        .with_style(ProgressStyle::with_template("scoring {wide_bar} {human_pos}/{human_len}")?);
    loop {
        let line = ledger(client, args).await?;
        bar.set_position(published.saturating_sub(line.waiting));
        if line.waiting == 0 && line.received >= received_before + published {
            bar.finish_and_clear();
            return Ok(line);
        }
        tokio::time::sleep(POLL).await;
    }
}
