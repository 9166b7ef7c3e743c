//! `kilter thing`: identities and certificates.

use super::tenant::write_identity;
use crate::{
    client::{Client, Missing},
    config::Shared,
    output,
};
use anyhow::bail;
use axum::http::Method;
use kilter_core::{
    CertificateStatus, CertificateView, IssuedIdentity, TenantId, ThingName, ThingView,
    ports::control::VALID_HOURS_DEFAULT,
};
use kilter_door_console::{CertificateRequest, StatusRequest, ThingRequest};
use std::path::PathBuf;

/// Devices, their certificates, and whether those may be used
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a thing with its certificate
    #[command(after_help = "Example:\n  kilter thing create tenant001-device2 --tenant tenant001 --out certs")]
    Create {
        name: ThingName,
        #[arg(long)]
        tenant: TenantId,
        /// Where the certificate files go
        #[arg(long, default_value = ".", value_name = "DIR")]
        out: PathBuf,
    },
    /// List things
    #[command(after_help = "Example:\n  kilter thing list --tenant tenant001")]
    List {
        /// One tenant only
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// Show a thing and its certificates
    #[command(after_help = "Example:\n  kilter thing show tenant001-device1")]
    Show { name: ThingName },
    /// Issue one more certificate; the old ones stay valid until they are revoked
    #[command(
        after_help = "Example:\n  kilter thing rotate tenant001-device1 --out certs\n  kilter thing revoke tenant001-device1 --certificate <the old one>"
    )]
    Rotate {
        name: ThingName,
        /// Where the certificate files go
        #[arg(long, default_value = ".", value_name = "DIR")]
        out: PathBuf,
    },
    /// Revoke certificates, for good; open sessions end within a second
    #[command(after_help = "Example:\n  kilter thing revoke tenant001-device1")]
    Revoke {
        name: ThingName,
        /// Only this one [default: all of the thing's]
        #[arg(long, value_name = "ID")]
        certificate: Option<String>,
    },
}

pub async fn run(shared: &Shared, command: Command) -> anyhow::Result<()> {
    let client = Client::open(shared, Missing::Refuse).await?;
    match command {
        Command::Create { name, tenant, out } => {
            let body = ThingRequest { thing: name };
            let made: IssuedIdentity = client.post(&format!("/api/v1/tenants/{tenant}/things"), &body).await?;
            issued(shared, &made, &out)
        }
        Command::List { tenant } => {
            let things = all(&client, tenant.as_ref()).await?;
            output::print(shared.output, &things, |things| list(things))
        }
        Command::Show { name } => {
            let thing = find(&client, &name).await?;
            output::print(shared.output, &thing, show)
        }
        Command::Rotate { name, out } => {
            let thing = find(&client, &name).await?;
            let Some(tenant) = thing.tenant else {
                bail!(
                    "thing {name} has no tenant: give it the attribute `tenant`, whose policy its certificate then gets"
                )
            };
            let path = format!("/api/v1/tenants/{tenant}/things/{name}/certificates");
            let made: IssuedIdentity =
                client.post(&path, &CertificateRequest { valid_hours: VALID_HOURS_DEFAULT }).await?;
            issued(shared, &made, &out)
        }
        Command::Revoke { name, certificate } => {
            let revoked = revoke(&client, &name, certificate.as_deref()).await?;
            output::print(shared.output, &revoked, |revoked| {
                let ids: Vec<&str> = revoked.iter().map(|c| c.id.as_str()).collect();
                if ids.is_empty() { "Nothing to revoke.".to_owned() } else { format!("Revoked {}.", ids.join(", ")) }
            })
        }
    }
}

async fn all(client: &Client, tenant: Option<&TenantId>) -> anyhow::Result<Vec<ThingView>> {
    match tenant {
        Some(tenant) => client.get(&format!("/api/v1/tenants/{tenant}/things")).await,
        None => client.get("/api/v1/things").await,
    }
}

pub async fn find(client: &Client, name: &ThingName) -> anyhow::Result<ThingView> {
    match all(client, None).await?.into_iter().find(|thing| thing.thing == *name) {
        Some(thing) => Ok(thing),
        None => bail!(
            "there is no thing {name}: see `kilter thing list`, or make it with `kilter thing create {name} --tenant …`"
        ),
    }
}

async fn revoke(client: &Client, name: &ThingName, only: Option<&str>) -> anyhow::Result<Vec<CertificateView>> {
    let thing = find(client, name).await?;
    if let Some(id) = only.filter(|id| !thing.certificates.iter().any(|c| c.id.as_str() == *id)) {
        bail!("thing {name} has no certificate {id}: see `kilter thing show {name}`");
    }
    let mut revoked = Vec::new();
    for certificate in thing.certificates {
        let chosen = only.is_none_or(|id| certificate.id.as_str() == id);
        if chosen && certificate.status != CertificateStatus::Revoked {
            let path = format!("/api/v1/certificates/{}", certificate.id);
            let body = StatusRequest { status: CertificateStatus::Revoked };
            revoked.push(client.call(Method::PUT, &path, Some(&body)).await?);
        }
    }
    Ok(revoked)
}

fn issued(shared: &Shared, made: &IssuedIdentity, out: &std::path::Path) -> anyhow::Result<()> {
    let files = write_identity(out, made)?;
    let facts = serde_json::json!({ "thing": made.thing, "certificate": made.certificate, "files": files });
    output::print(shared.output, &facts, |_| {
        let names: Vec<String> = files.iter().map(|file| format!("  {}", file.display())).collect();
        format!("Certificate {} for {}:\n{}", made.certificate.arn, made.thing, names.join("\n"))
    })
}

fn owner(thing: &ThingView) -> String {
    thing.tenant.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn list(things: &[ThingView]) -> String {
    let rows = things.iter().map(|t| {
        let certificates: Vec<String> =
            t.certificates.iter().map(|c| format!("{} {}", &c.id.as_str()[..12], c.status)).collect();
        vec![owner(t), t.thing.to_string(), t.created.to_string(), certificates.join("\n")]
    });
    output::table(&["tenant", "thing", "created", "certificates"], rows.collect(), "No things.")
}

fn show(t: &ThingView) -> String {
    let mut text = format!("{}\n  tenant {}\n  arn {}\n  created {}\n", t.thing, owner(t), t.arn, t.created);
    for c in &t.certificates {
        text.push_str(&format!(
            "  certificate {}\n    {}, until {}, policies {}\n",
            c.id,
            c.status,
            c.not_after,
            c.policies.join(", ")
        ));
    }
    text
}
