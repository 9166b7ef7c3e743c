//! `kilter env`: what a shell needs so that the AWS CLI and the mosquitto clients speak to this installation.

use super::access_key;
use crate::{
    app::ServerFile,
    aws::{self, Profile},
    config::{Config, ServeOptions, Shared},
    output,
};
use anyhow::Context;
use serde_json::{Map, Value};

/// Where the other region would be: the cookbook names one even where no second site is joined.
const OTHER_REGIONS: [&str; 2] = ["us-west-2", "us-east-1"];

/// Print shell exports for the AWS CLI, the mosquitto clients and kilter itself
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  eval \"$(kilter env)\"\n  aws kinesis list-streams\n\nThe exports hold secrets: do not print them where others read."
)]
pub struct Args {
    #[command(flatten)]
    options: ServeOptions,
}

pub fn run(shared: &Shared, args: Args) -> anyhow::Result<()> {
    let config = Config::load(shared, &args.options)?;
    let keys = access_key::open(shared)?;
    let root = keys.root()?.context("there is no active root key; restore identity/access-keys.json from a backup")?;
    let profile = Profile::write(&config.data_dir, &config.site.region, &root)?;
    let server = server(&config)?;
    let token = config.data_dir.join("identity/token");
    let token = std::fs::read_to_string(&token).with_context(|| format!("{} cannot be read", token.display()))?;
    let port = server.mqtt.rsplit(':').next().unwrap_or_default();
    let other = OTHER_REGIONS.into_iter().find(|region| *region != config.site.region).unwrap_or_default();
    let mut exports: Vec<(&str, String)> = vec![
        ("AWS_ENDPOINT_URL", server.aws.clone()),
        ("AWS_CONFIG_FILE", profile.config.display().to_string()),
        ("AWS_SHARED_CREDENTIALS_FILE", profile.credentials.display().to_string()),
        ("AWS_PROFILE", "default".to_owned()),
        // Also in the environment: tools that write a profile of their own take the key from here.
        ("AWS_ACCESS_KEY_ID", root.id.clone()),
        ("AWS_SECRET_ACCESS_KEY", root.secret.clone()),
        ("AWS_DEFAULT_REGION", config.site.region.clone()),
        ("AWS_PRIMARY_REGION", config.site.region.clone()),
        ("AWS_DR_REGION", other.to_owned()),
        ("AWS_ACCOUNT_ID", config.site.account.clone()),
        ("AWS_PAGER", String::new()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        // SiteWise would be looked for at api.127.0.0.1, which no resolver knows.
        ("AWS_DISABLE_HOST_PREFIX_INJECTION", "true".to_owned()),
        ("IOT_ENDPOINT", "localhost".to_owned()),
        ("IOT_PORT", port.to_owned()),
        ("ROOT_CA_URL", format!("{}/AmazonRootCA1.pem", server.url)),
        ("KILTER_URL", server.url.clone()),
        ("KILTER_TOKEN", token.trim().to_owned()),
    ];
    if config.aws_tls {
        let ca = config.data_dir.join("identity/ca.pem").canonicalize()?;
        exports.push(("AWS_CA_BUNDLE", ca.display().to_string()));
    }
    let facts: Map<String, Value> =
        exports.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    output::print(shared.output, &facts, |_| {
        let lines = exports.iter().map(|(name, value)| format!("export {name}={}", quoted(value)));
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// Where the running server is, or where it will be by its configuration.
fn server(config: &Config) -> anyhow::Result<ServerFile> {
    let path = ServerFile::path(&config.data_dir);
    if let Ok(text) = std::fs::read_to_string(&path) {
        return serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display()));
    }
    Ok(ServerFile {
        url: format!("http://{}", config.http),
        mqtt: config.mqtt.to_string(),
        aws: aws::url(config.aws, config.aws_tls),
        process: 0,
    })
}

/// For a POSIX shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}
