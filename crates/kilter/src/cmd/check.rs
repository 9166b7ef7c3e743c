//! `kilter check`: reads a configuration and touches nothing.

use crate::{
    config::{Config, ServeOptions, Shared},
    output,
};

/// Validate a configuration; touches nothing
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kilter check --config /etc/kilter/kilter.toml")]
pub struct Args {
    #[command(flatten)]
    options: ServeOptions,
}

pub fn run(shared: &Shared, args: Args) -> anyhow::Result<()> {
    let config = Config::load(shared, &args.options)?;
    let facts = serde_json::json!({
        "valid": true,
        "data_dir": config.data_dir,
        "mqtt": config.mqtt.to_string(),
        "http": config.http.to_string(),
        "aws": config.aws.to_string(),
        "region": config.site.region,
        "webhooks": config.webhooks.len(),
        "limits": config.limits.len(),
    });
    output::print(shared.output, &facts, |_| {
        format!(
            "The configuration is valid: MQTT on {}, console on {}, AWS endpoint on {}, data in {}.",
            config.mqtt,
            config.http,
            config.aws,
            config.data_dir.display()
        )
    })
}
