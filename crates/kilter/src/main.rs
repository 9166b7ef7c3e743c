//! The `kilter` binary: parses the command line, starts the runtime, prints what went wrong.

mod app;
mod aws;
mod client;
mod cmd;
mod config;
mod error;
mod identity;
mod notify;
mod open_files;
mod output;
mod plant;
mod post;
mod reload;
mod results_tables;

use clap::Parser;
use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

fn main() -> ExitCode {
    // Before anything that speaks TLS.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return fail("the TLS library was set up twice");
    }
    let cli = cmd::Cli::parse();
    start_log(cli.default_log());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    match runtime.block_on(cli.run()) {
        Ok(code) => code,
        Err(error) => fail(&format!("{error:#}")),
    }
}

fn fail(what: &str) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "kilter: {what}");
    ExitCode::FAILURE
}

/// To standard error: words on a terminal, JSON lines otherwise. KILTER_LOG chooses what (`info`, `kilter=debug`, …).
fn start_log(default: &str) {
    let filter = EnvFilter::try_from_env("KILTER_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer =
        if std::io::stderr().is_terminal() { log.compact().boxed() } else { log.json().flatten_event(true).boxed() };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}
