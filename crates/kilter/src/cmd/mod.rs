//! The commands, one file each.

mod access_key;
mod alerts;
mod anomalies;
mod bench;
mod budget;
mod cert;
mod check;
mod demo;
mod detect;
mod doctor;
mod env;
mod ledger;
mod model;
mod policy;
mod publisher;
mod recording;
mod replay;
mod serve;
mod tenant;
mod thing;
mod validate;

use crate::config::Shared;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Industrial anomaly detection in one binary: devices connect over MQTT with mutual TLS, their telemetry is kept in
/// a durable stream, scored, and explained.
#[derive(Debug, Parser)]
#[command(name = "kilter", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    #[command(subcommand)]
    Tenant(tenant::Command),
    #[command(subcommand)]
    Thing(thing::Command),
    #[command(subcommand)]
    Cert(cert::Command),
    #[command(subcommand)]
    Policy(policy::Command),
    #[command(subcommand)]
    Model(model::Command),
    Replay(replay::Args),
    Detect(detect::Args),
    #[command(subcommand)]
    Anomalies(anomalies::Command),
    #[command(subcommand)]
    Alerts(alerts::Command),
    Ledger(ledger::Args),
    #[command(subcommand)]
    Bench(bench::Command),
    #[command(subcommand)]
    AccessKey(access_key::Command),
    Env(env::Args),
    Check(check::Args),
    Doctor(doctor::Args),
}

impl Cli {
    /// What is logged unless KILTER_LOG says otherwise: a server tells its day, other commands only what goes wrong.
    pub fn default_log(&self) -> &'static str {
        if matches!(self.command, Command::Serve(_)) { "info" } else { "error" }
    }

    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let shared = self.shared;
        match self.command {
            Command::Serve(args) => serve::run(&shared, args).await?,
            Command::Demo(args) => demo::run(&shared, args).await?,
            Command::Tenant(command) => tenant::run(&shared, command).await?,
            Command::Thing(command) => thing::run(&shared, command).await?,
            Command::Cert(command) => cert::run(&shared, command).await?,
            Command::Policy(command) => return policy::run(&shared, command).await,
            Command::Model(command) => model::run(&shared, command).await?,
            Command::Replay(args) => replay::run(&shared, args).await?,
            Command::Detect(args) => detect::run(&shared, args).await?,
            Command::Anomalies(command) => anomalies::run(&shared, command).await?,
            Command::Alerts(command) => alerts::run(&shared, command).await?,
            Command::Bench(command) => bench::run(&shared, command).await?,
            Command::Ledger(args) => return ledger::run(&shared, args).await,
            Command::AccessKey(command) => access_key::run(&shared, command)?,
            Command::Env(args) => env::run(&shared, args)?,
            Command::Check(args) => check::run(&shared, args)?,
            Command::Doctor(args) => return doctor::run(&shared, args).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}
