//! `kilter access-key`: who may use the AWS endpoint, and for what.

use crate::{aws, config::Shared, output};
use anyhow::{Context, bail};
use kilter_core::ports::clock::{Clock, SystemClock};
use kilter_door_aws::{
    keys::{AccessKey, AccessKeys},
    policy::Policy,
};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Keys that sign requests to the AWS endpoint; a running server sees a change at once
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a key that may do what an IAM policy document says; its secret is shown this once
    #[command(
        after_help = "Example:\n  kilter access-key create reports --policy reports.json\n\nreports.json:\n  {\"Version\": \"2012-10-17\", \"Statement\": [\n    {\"Effect\": \"Allow\", \"Action\": [\"dynamodb:Query\", \"dynamodb:Scan\"], \"Resource\": \"*\"}]}"
    )]
    Create {
        /// What it is for
        name: String,
        /// An IAM policy document; what it does not allow is denied
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
    },
    /// List keys, without their secrets
    #[command(after_help = "Example:\n  kilter access-key list")]
    List,
    /// Make one more key of the same name and policy; the old one stays valid until it is revoked
    #[command(
        after_help = "Example:\n  kilter access-key rotate AKIA…\n  kilter access-key revoke AKIA…   # the old one, once nobody uses it"
    )]
    Rotate { id: String },
    /// Revoke a key, for good
    #[command(after_help = "Example:\n  kilter access-key revoke AKIA…")]
    Revoke { id: String },
}

pub fn run(shared: &Shared, command: Command) -> anyhow::Result<()> {
    let keys = open(shared)?;
    let now = SystemClock.now();
    match command {
        Command::Create { name, policy } => {
            let text = std::fs::read_to_string(&policy)
                .with_context(|| format!("the policy {} cannot be read", policy.display()))?;
            let policy = Policy::parse(&text).with_context(|| policy.display().to_string())?;
            secret(shared, &keys.create(&name, policy, now)?)
        }
        Command::Rotate { id } => secret(shared, &keys.rotate(&id, now)?),
        Command::Revoke { id } => {
            output::print(shared.output, &view(&keys.revoke(&id)?), |_| format!("Revoked access key {id}."))
        }
        Command::List => {
            let all = keys.all()?;
            let facts: Vec<Value> = all.iter().map(view).collect();
            output::print(shared.output, &facts, |_| list(&all))
        }
    }
}

/// The keys of a data directory that is there.
pub fn open(shared: &Shared) -> anyhow::Result<AccessKeys> {
    if !shared.data_dir.join("identity").exists() {
        bail!(
            "there is no data directory {}, or nothing was started on it yet: name it with --data-dir, or start with `kilter serve`",
            shared.data_dir.display()
        );
    }
    aws::open_keys(&shared.data_dir, &SystemClock)
}

fn view(key: &AccessKey) -> Value {
    json!({ "id": key.id, "name": key.name, "status": key.status, "created": key.created, "policy": key.policy })
}

fn secret(shared: &Shared, key: &AccessKey) -> anyhow::Result<()> {
    let mut facts = view(key);
    facts["secret"] = key.secret.as_str().into();
    output::print(shared.output, &facts, |_| {
        format!("Access key {} ({})\n  id      {}\n  secret  {}", key.name, key.created, key.id, key.secret)
    })
}

fn list(keys: &[AccessKey]) -> String {
    let rows = keys.iter().map(|key| {
        let status = view(key)["status"].as_str().unwrap_or_default().to_owned();
        vec![
            key.id.clone(),
            key.name.clone(),
            status,
            key.created.to_string(),
            key.policy.document()["Statement"].to_string(),
        ]
    });
    output::table(&["id", "name", "status", "created", "may"], rows.collect(), "No access keys.")
}
