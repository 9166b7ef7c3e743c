//! `kilter alerts`: what people were told, and whether it reached them.

use super::anomalies::{FilterArgs, severity};
use crate::{
    client::{Client, Missing},
    config::Shared,
    output,
};
use kilter_core::{Alert, Delivery};

/// What people were told about episodes
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    List(ListArgs),
}

/// List alerts and their deliveries, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kilter alerts list --tenant tenant001")]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
}

pub async fn run(shared: &Shared, command: Command) -> anyhow::Result<()> {
    let Command::List(args) = command;
    let client = Client::open(shared, Missing::Refuse).await?;
    let alerts: Vec<Alert> = client.get(&format!("/api/v1/alerts{}", args.filter.query())).await?;
    output::print(shared.output, &alerts, |alerts| {
        let head = ["raised", "severity", "what", "delivered to"];
        let rows = alerts.iter().map(|a| {
            let deliveries: Vec<String> = a.deliveries.iter().map(delivery).collect();
            vec![a.raised.to_string(), severity(&a.episode), a.summary.clone(), deliveries.join(", ")]
        });
        output::table(&head, rows.collect(), "No alerts.")
    })
}

fn delivery(delivery: &Delivery) -> String {
    match &delivery.error {
        None => delivery.to.clone(),
        Some(error) => format!("{} FAILED ({error})", delivery.to),
    }
}
