//! `kilter tenant`: cookbook §7, §8, §12 and §17 in one command each.

use super::validate::{self, Check};
use crate::{
    app::ServerFile,
    client::{Client, Missing},
    config::Shared,
    identity::write_secret,
    output,
};
use anyhow::{Context, bail};
use axum::http::Method;
use kilter_core::{
    IssuedIdentity, Removed, TenantId, TenantView, ThingName,
    ports::control::{OnboardRequest, Onboarded},
};
use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    path::{Path, PathBuf},
};

/// Tenants: onboard, look at, validate, offboard
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Onboard(OnboardArgs),
    /// List tenants
    #[command(after_help = "Example:\n  kilter tenant list --output json")]
    List,
    /// Show a tenant's resources and policy
    #[command(after_help = "Example:\n  kilter tenant show tenant001")]
    Show {
        tenant: TenantId,
    },
    /// Publish a real message and follow it to stream, table and lake (cookbook §8, §17.2)
    #[command(
        after_help = "Needs a running server. Exits with 1 when a check fails.\n\nExample:\n  kilter tenant validate tenant001"
    )]
    Validate {
        tenant: TenantId,
    },
    Offboard(OffboardArgs),
}

/// Make a tenant's stream, table, lake prefix, alert topic, policy and rule, its things and their certificates
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Writes the certificate files and the onboarding ticket (cookbook §17.4) into --out. A second run changes nothing.\n\nExample:\n  kilter tenant onboard tenant001 --thing tenant001-device1 --out certs"
)]
pub struct OnboardArgs {
    tenant: TenantId,
    /// A thing to make; may be repeated
    #[arg(long = "thing", value_name = "NAME")]
    things: Vec<ThingName>,
    /// Where certificate files and ticket go
    #[arg(long, default_value = ".", value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    budget: super::budget::BudgetArgs,
    /// Shards of the stream [default: 1]
    #[arg(long)]
    shards: Option<u32>,
}

/// Remove everything that belongs to a tenant
#[derive(Debug, clap::Args)]
#[command(after_help = "Cannot be undone. Asks first.\n\nExample:\n  kilter tenant offboard tenant001")]
pub struct OffboardArgs {
    tenant: TenantId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub async fn run(shared: &Shared, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Onboard(args) => onboard(shared, args).await,
        Command::List => {
            let client = Client::open(shared, Missing::Refuse).await?;
            let tenants: Vec<TenantView> = client.get("/api/v1/tenants").await?;
            output::print(shared.output, &tenants, |tenants| list(tenants))
        }
        Command::Show { tenant } => {
            let client = Client::open(shared, Missing::Refuse).await?;
            let tenant: TenantView = client.get(&format!("/api/v1/tenants/{tenant}")).await?;
            output::print(shared.output, &tenant, show)
        }
        Command::Validate { tenant } => {
            let client = Client::running(shared).await?;
            let checks = validate::run(&client, &tenant, validate::Depth::Lake).await?;
            output::print(shared.output, &checks, |checks| validate::people(checks))?;
            let failed = checks.iter().filter(|check| !check.passed).count();
            if failed > 0 {
                bail!("{failed} of {} checks failed for {tenant}", checks.len());
            }
            Ok(())
        }
        Command::Offboard(args) => offboard(shared, args).await,
    }
}

async fn onboard(shared: &Shared, args: OnboardArgs) -> anyhow::Result<()> {
    let client = Client::open(shared, Missing::Make).await?;
    let (tenant, budget) = (args.tenant.clone(), args.budget.budget());
    let request = OnboardRequest { tenant, things: args.things, budget, shards: args.shards };
    let onboarded: Onboarded = client.post("/api/v1/tenants", &request).await?;
    let mut files = Vec::new();
    for identity in &onboarded.identities {
        files.extend(write_identity(&args.out, identity)?);
    }
    let checks = if ServerFile::path(&shared.data_dir).exists() {
        Some(validate::run(&client, &args.tenant, validate::Depth::Table).await?)
    } else {
        None
    };
    let ticket = args.out.join(format!("onboarding-{}.md", args.tenant));
    std::fs::create_dir_all(&args.out)?;
    let text = ticket_text(&onboarded, checks.as_deref());
    std::fs::write(&ticket, text).with_context(|| format!("{} cannot be written", ticket.display()))?;
    files.push(ticket);
    let facts = serde_json::json!({
        "tenant": onboarded.tenant, "created": onboarded.created, "files": files, "checks": checks,
    });
    output::print(shared.output, &facts, |_| onboarded_text(&onboarded, &files, checks.as_deref()))?;
    match checks.iter().flatten().find(|check| !check.passed) {
        Some(failed) => {
            bail!("{} was onboarded, but this does not hold: {} ({})", args.tenant, failed.what, failed.evidence)
        }
        None => Ok(()),
    }
}

fn onboarded_text(onboarded: &Onboarded, files: &[PathBuf], checks: Option<&[Check]>) -> String {
    let mut text = match onboarded.created.as_slice() {
        [] => format!("{} is as asked for already; nothing was changed.\n", onboarded.tenant.tenant),
        created => format!("Made:\n  {}\n", created.join("\n  ")),
    };
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let _ = write!(text, "Wrote:\n  {}\n", names.join("\n  "));
    match checks {
        Some(checks) => text.push_str(&validate::people(checks)),
        None => text.push_str("Not validated, because no server runs: start one, then `kilter tenant validate`."),
    }
    text
}

/// Cookbook §17.4.
fn ticket_text(onboarded: &Onboarded, checks: Option<&[Check]>) -> String {
    let t = &onboarded.tenant;
    let things: Vec<&str> = t.things.iter().map(ThingName::as_str).collect();
    let mut text = format!(
        "# Onboarding ticket: {}\n\n- Tenant: {} (created {})\n- Things: {}\n",
        t.tenant,
        t.tenant,
        t.created,
        things.join(", ")
    );
    for identity in &onboarded.identities {
        let _ = writeln!(text, "- Certificate of {}: {}", identity.thing, identity.certificate.arn);
    }
    let _ = write!(
        text,
        "- Rule: {}: `{}`, action: stream {}\n- Data plane: stream {}, table {}, lake s3://{}/{}\n- Alert topic: {}, budget {} alerts per thing and week\n\n## Policy {}\n\n```json\n{:#}\n```\n\n## Validation\n\n",
        t.rule.name,
        t.rule.sql,
        t.rule.stream,
        t.stream,
        t.table,
        t.bucket,
        t.lake_prefix,
        t.alert_topic,
        t.budget.per_asset_and_week,
        t.policy.name,
        t.policy.document
    );
    match checks {
        None => text.push_str("Not validated: no server was running. Run `kilter tenant validate`.\n"),
        Some(checks) => {
            for check in checks {
                let mark = if check.passed { 'x' } else { ' ' };
                let _ = writeln!(text, "- [{mark}] {}: {}", check.what, check.evidence);
            }
        }
    }
    text.push_str("\n## Disaster recovery\n\nNo replica is set up in this release.\n");
    text
}

async fn offboard(shared: &Shared, args: OffboardArgs) -> anyhow::Result<()> {
    let client = Client::open(shared, Missing::Refuse).await?;
    let tenant: TenantView = client.get(&format!("/api/v1/tenants/{}", args.tenant)).await?;
    if !args.yes {
        ask(&tenant)?;
    }
    let removed: Removed =
        client.call(Method::DELETE, &format!("/api/v1/tenants/{}", args.tenant), None::<&()>).await?;
    output::print(shared.output, &removed, |r| {
        let things: Vec<&str> = r.things.iter().map(ThingName::as_str).collect();
        format!(
            "Removed {}:\n  {} things ({}) with {} certificates\n  policies {}, rules {}\n  stream {} with {} records\n  table {} with {} items\n  {} lake objects",
            args.tenant,
            r.things.len(),
            things.join(", "),
            r.certificates.len(),
            r.policies.join(", "),
            r.rules.join(", "),
            r.streams.join(", "),
            r.stream_records,
            r.tables.join(", "),
            r.table_items,
            r.lake_objects
        )
    })
}

/// Only the tenant's name, typed out, is a yes.
fn ask(tenant: &TenantView) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!(
            "offboarding {} cannot be undone and there is no terminal to ask on: add --yes if you mean it",
            tenant.tenant
        );
    }
    let mut terminal = std::io::stderr();
    write!(
        terminal,
        "This removes {} for good: {} things, stream {}, table {}, lake {}/{}.\nType the tenant's name to go on: ",
        tenant.tenant,
        tenant.things.len(),
        tenant.stream,
        tenant.table,
        tenant.bucket,
        tenant.lake_prefix
    )?;
    terminal.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() != tenant.tenant.as_str() {
        bail!("{:?} is not {}: nothing was removed", answer.trim(), tenant.tenant);
    }
    Ok(())
}

/// Writes the files under the cookbook's names, mode 0600.
pub fn write_identity(out: &Path, identity: &IssuedIdentity) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let thing = &identity.thing;
    let files = [
        (format!("cert-{thing}.pem"), &identity.certificate_pem),
        (format!("private-{thing}.key"), &identity.private_key_pem),
        (format!("public-{thing}.key"), &identity.public_key_pem),
        ("AmazonRootCA1.pem".to_owned(), &identity.ca_pem),
    ];
    let mut written = Vec::new();
    for (name, text) in files {
        let path = out.join(name);
        write_secret(&path, text)?;
        written.push(path);
    }
    Ok(written)
}

fn list(tenants: &[TenantView]) -> String {
    let rows = tenants.iter().map(|t| {
        vec![
            t.tenant.to_string(),
            t.created.to_string(),
            t.things.len().to_string(),
            t.budget.per_asset_and_week.to_string(),
        ]
    });
    output::table(&["tenant", "created", "things", "alerts per thing and week"], rows.collect(), "No tenants.")
}

fn show(t: &TenantView) -> String {
    let things: Vec<&str> = t.things.iter().map(ThingName::as_str).collect();
    format!(
        "{}\n  created {}\n  things {}\n  stream {}\n  table {}\n  lake s3://{}/{}\n  alert topic {}\n  alert budget {} per thing and week\n  rule {}: {}\n  policy {}:\n{:#}",
        t.tenant,
        t.created,
        things.join(", "),
        t.stream,
        t.table,
        t.bucket,
        t.lake_prefix,
        t.alert_topic,
        t.budget.per_asset_and_week,
        t.rule.name,
        t.rule.sql,
        t.policy.name,
        t.policy.document
    )
}
