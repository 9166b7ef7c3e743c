//! `kilter policy`: what the policies say.

use super::thing::find;
use crate::{
    client::{Client, Missing},
    config::Shared,
    output,
};
use anyhow::bail;
use kilter_core::{
    Action, CertificateId, CertificateStatus, ThingName,
    ports::fleet::{PolicyQuestion, PolicyVerdict},
};
use std::{net::IpAddr, process::ExitCode};

/// What devices may do
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// May this device do that, and which statement says so? Exit status 1 where it may not
    #[command(
        after_help = "Example:\n  kilter policy simulate --thing tenant001-device1 --action iot:Publish tenants/tenant001/devices/tenant001-device1/telemetry"
    )]
    Simulate(Simulate),
}

#[derive(Debug, clap::Args)]
pub struct Simulate {
    /// The topic; for iot:Subscribe the topic filter, for iot:Connect the client id
    subject: String,
    /// The device: its newest ACTIVE certificate is asked for, unless --certificate names one
    #[arg(long, required_unless_present = "certificate")]
    thing: Option<ThingName>,
    /// The certificate's id
    #[arg(long, value_name = "ID")]
    certificate: Option<CertificateId>,
    /// iot:Connect, iot:Publish, iot:Subscribe, iot:Receive or iot:RetainPublish
    #[arg(long, value_parser = action)]
    action: Action,
    /// [default: the thing's name]
    #[arg(long)]
    client_id: Option<String>,
    /// The device's address, for policies that ask for it
    #[arg(long, value_name = "IP")]
    source_ip: Option<IpAddr>,
}

fn action(text: &str) -> Result<Action, String> {
    let all = [Action::Connect, Action::Publish, Action::Subscribe, Action::Receive, Action::RetainPublish];
    let short = |action: &Action| action.name().trim_start_matches("iot:").to_owned();
    let named = |action: &Action| action.name() == text || short(action).eq_ignore_ascii_case(text);
    all.into_iter().find(named).ok_or_else(|| format!("use one of {}", all.map(Action::name).join(", ")))
}

pub async fn run(shared: &Shared, Command::Simulate(args): Command) -> anyhow::Result<ExitCode> {
    let client = Client::open(shared, Missing::Refuse).await?;
    let certificate = match (&args.certificate, &args.thing) {
        (Some(id), _) => id.clone(),
        (None, Some(name)) => newest(&client, name).await?,
        (None, None) => bail!("name the device with --thing, or its certificate with --certificate"),
    };
    let own_name = args.thing.as_ref().map(ToString::to_string);
    let named = if args.action == Action::Connect { Some(args.subject.clone()) } else { None };
    let Some(client_id) = args.client_id.or(named).or(own_name) else {
        bail!("which client is it? Name it with --client-id, or the device with --thing")
    };
    let question =
        PolicyQuestion { certificate, action: args.action, subject: args.subject, client_id, source: args.source_ip };
    let verdict: PolicyVerdict = client.post("/api/v1/policies/simulate", &question).await?;
    output::print(shared.output, &verdict, |verdict| show(&question, verdict))?;
    Ok(if verdict.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn newest(client: &Client, name: &ThingName) -> anyhow::Result<CertificateId> {
    let thing = find(client, name).await?;
    let active = thing.certificates.iter().filter(|c| c.status == CertificateStatus::Active);
    match active.max_by_key(|c| c.created) {
        Some(certificate) => Ok(certificate.id.clone()),
        None => bail!("thing {name} has no ACTIVE certificate: issue one with `kilter thing rotate {name}`"),
    }
}

fn show(question: &PolicyQuestion, verdict: &PolicyVerdict) -> String {
    let asked = verdict.policies.join(", ");
    format!(
        "{}: {} on {}\n  {}\n  client id {}, certificate {}\n  policies asked: {}",
        verdict.decision,
        question.action.name(),
        verdict.resource,
        verdict.reason,
        question.client_id,
        question.certificate,
        if asked.is_empty() { "none" } else { &asked },
    )
}
