//! `kilter ledger`: is every received message accounted for?

use crate::{
    client::{Client, Missing},
    config::Shared,
    output,
};
use kilter_core::{LedgerLine, TenantId};
use std::process::ExitCode;

/// Account for every message: received = stored + rejected, stored = scored + late + waiting
#[derive(Debug, clap::Args)]
#[command(after_help = "Exits with 1 when a line does not add up.\n\nExample:\n  kilter ledger --tenant tenant001")]
pub struct Args {
    /// One tenant only
    #[arg(long)]
    tenant: Option<TenantId>,
}

pub async fn run(shared: &Shared, args: Args) -> anyhow::Result<ExitCode> {
    let client = Client::open(shared, Missing::Refuse).await?;
    let filter = args.tenant.map(|tenant| format!("?tenant={tenant}")).unwrap_or_default();
    let lines: Vec<LedgerLine> = client.get(&format!("/api/v1/ledger{filter}")).await?;
    let wrong: Vec<String> = lines
        .iter()
        .filter_map(|line| line.discrepancy().map(|why| format!("{} {}: {why}", line.tenant, line.thing)))
        .collect();
    output::print(shared.output, &lines, |lines| people(lines, &wrong))?;
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn people(lines: &[LedgerLine], wrong: &[String]) -> String {
    let head = ["tenant", "thing", "received", "stored", "rejected", "scored", "late", "waiting", ""];
    let rows = lines.iter().map(|l| {
        let numbers = [l.received, l.stored, l.rejected, l.scored, l.late, l.waiting].map(|n| n.to_string());
        let verdict = if l.discrepancy().is_none() { "adds up" } else { "DOES NOT ADD UP" };
        [l.tenant.to_string(), l.thing.to_string()].into_iter().chain(numbers).chain([verdict.to_owned()]).collect()
    });
    let mut text = output::table(&head, rows.collect(), "No thing has sent anything yet.");
    for why in wrong {
        text.push_str(&format!("\n{why}"));
    }
    text
}
