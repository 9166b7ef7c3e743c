//! `kilter anomalies`: the episodes that were found.

use crate::{
    client::{Client, Missing},
    config::Shared,
    output,
};
use anyhow::bail;
use kilter_core::{Episode, TenantId, ThingName};
use kilter_pipeline::{cause_in_words, rarity_in_words};

/// What was found: episodes with start, peak, end and causes
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    List(ListArgs),
    Show(ShowArgs),
}

/// List episodes, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kilter anomalies list --tenant tenant001 --output json")]
pub struct ListArgs {
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// What to list.
#[derive(Debug, clap::Args)]
pub struct FilterArgs {
    /// One tenant only
    #[arg(long)]
    tenant: Option<TenantId>,
    /// One thing only
    #[arg(long)]
    thing: Option<ThingName>,
    /// At most this many
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
}

impl FilterArgs {
    pub fn query(&self) -> String {
        let mut query = format!("?limit={}", self.limit);
        if let Some(tenant) = &self.tenant {
            query.push_str(&format!("&tenant={tenant}"));
        }
        if let Some(thing) = &self.thing {
            query.push_str(&format!("&thing={thing}"));
        }
        query
    }
}

/// Show one episode with all its causes
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kilter anomalies show pump1@0:4711:0")]
pub struct ShowArgs {
    /// As `anomalies list` gives it
    id: String,
    #[command(flatten)]
    filter: FilterArgs,
}

pub async fn run(shared: &Shared, command: Command) -> anyhow::Result<()> {
    let client = Client::open(shared, Missing::Refuse).await?;
    match command {
        Command::List(args) => {
            let episodes: Vec<Episode> = client.get(&format!("/api/v1/anomalies{}", args.filter.query())).await?;
            output::print(shared.output, &episodes, |episodes| list(episodes))
        }
        Command::Show(args) => {
            let episodes: Vec<Episode> = client.get(&format!("/api/v1/anomalies{}", args.filter.query())).await?;
            let Some(episode) = episodes.into_iter().find(|episode| *episode.id == *args.id) else {
                bail!(
                    "there is no anomaly {:?} among the newest {}: see `kilter anomalies list`",
                    args.id,
                    args.filter.limit
                );
            };
            output::print(shared.output, &episode, show)
        }
    }
}

pub fn list(episodes: &[Episode]) -> String {
    let head = ["id", "severity", "start", "peak", "end", "readings", "first cause"];
    let rows = episodes.iter().map(|e| {
        vec![
            e.id.to_string(),
            severity(e),
            e.start.to_string(),
            e.peak.to_string(),
            ended(e),
            e.readings.to_string(),
            e.causes.first().map(cause_in_words).unwrap_or_default(),
        ]
    });
    output::table(&head, rows.collect(), "No anomalies.")
}

fn ended(e: &Episode) -> String {
    match (e.withdrawn, e.end) {
        (Some(_), _) => "withdrawn".to_owned(),
        (None, Some(end)) => end.to_string(),
        (None, None) => "open".to_owned(),
    }
}

/// When it was known, beside when it happened.
pub fn known(e: &Episode) -> String {
    let mut text = format!("known {}", e.known);
    if let Some(corrected) = e.corrected {
        let what = if e.withdrawn.is_some() { "withdrawn" } else { "amended" };
        text.push_str(&format!("  {what} {} (revision {})", corrected.known, corrected.revision));
    }
    text
}

fn show(e: &Episode) -> String {
    let end = e.end.map_or_else(|| "still open".to_owned(), |end| end.to_string());
    let mut text = format!(
        "{}  ({} severity)\n  tenant {}  thing {}\n  start {}  peak {}  end {end}\n  {}\n  peak score {:.2}, threshold {:.2}, {} anomalous readings\n",
        e.id,
        severity(e),
        e.tenant,
        e.thing,
        e.start,
        e.peak,
        known(e),
        e.peak_score.value(),
        e.threshold.value(),
        e.readings
    );
    if let Some(rarity) = rarity_in_words(e) {
        text.push_str(&format!("  {rarity}\n"));
    }
    for c in &e.causes {
        text.push_str(&format!("  {} (seen by {})\n", cause_in_words(c), c.detector));
    }
    text
}

pub fn severity(episode: &Episode) -> String {
    format!("{:?}", episode.severity).to_lowercase()
}
