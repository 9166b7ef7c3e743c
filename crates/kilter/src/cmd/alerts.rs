//! `kilter alerts`: what people were told, and whether it reached them.

use super::anomalies::{FilterArgs, known, severity};
use crate::{
    client::{Client, Missing},
    config::Shared,
    output,
};
use anyhow::bail;
use kilter_core::{Alert, AlertEvent, Delivery};

/// What people were told about episodes
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    List(ListArgs),
    Show(ShowArgs),
}

/// Show one alert: when it happened, when it was known, where it went
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kilter alerts show pump1@0:4711:0/opened")]
pub struct ShowArgs {
    /// Its key, as `alerts list` gives it
    key: String,
    #[command(flatten)]
    filter: FilterArgs,
}

/// List alerts and their deliveries, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kilter alerts list --tenant tenant001")]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
}

pub async fn run(shared: &Shared, command: Command) -> anyhow::Result<()> {
    let (Command::List(ListArgs { filter }) | Command::Show(ShowArgs { filter, .. })) = &command;
    let client = Client::open(shared, Missing::Refuse).await?;
    let alerts: Vec<Alert> = client.get(&format!("/api/v1/alerts{}", filter.query())).await?;
    let Command::Show(args) = command else {
        return output::print(shared.output, &alerts, |alerts| list(alerts));
    };
    let Some(alert) = alerts.into_iter().find(|alert| *alert.key == *args.key) else {
        bail!("there is no alert {:?} among those looked at: see `kilter alerts list --output json`", args.key);
    };
    output::print(shared.output, &alert, show)
}

fn list(alerts: &[Alert]) -> String {
    let head = ["raised", "severity", "event", "what", "delivered to"];
    let rows = alerts.iter().map(|a| {
        let (raised, event) = (a.raised.to_string(), event(a).to_owned());
        vec![raised, severity(&a.episode), event, a.summary.clone(), delivered(a)]
    });
    output::table(&head, rows.collect(), "No alerts.")
}

fn show(a: &Alert) -> String {
    let end = a.episode.end.map_or_else(|| "open".to_owned(), |end| end.to_string());
    format!(
        "{}  ({}, {} severity)\n  {}\n  raised {}  start {}  end {end}\n  anomaly {}  {}\n  delivered to {}\n",
        a.key,
        event(a),
        severity(&a.episode),
        a.summary,
        a.raised,
        a.episode.start,
        a.episode.id,
        known(&a.episode),
        delivered(a)
    )
}

fn event(alert: &Alert) -> &'static str {
    match alert.event {
        AlertEvent::Opened => "opened",
        AlertEvent::Closed => "closed",
        AlertEvent::Amended => "amended",
        AlertEvent::Withdrawn => "withdrawn",
    }
}

fn delivered(alert: &Alert) -> String {
    let told: Vec<String> = alert.deliveries.iter().map(delivery).collect();
    if told.is_empty() { "nobody yet".to_owned() } else { told.join(", ") }
}

fn delivery(delivery: &Delivery) -> String {
    match &delivery.error {
        None => delivery.to.clone(),
        Some(error) => format!("{} FAILED ({error})", delivery.to),
    }
}
