//! Flags, each with its environment variable.

use super::Config;
use clap::{Args, ValueEnum};
use std::{net::SocketAddr, path::PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Shared {
    /// Where everything is kept
    #[arg(long, global = true, env = "KILTER_DATA_DIR", default_value = "./kilter-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// A table for people, JSON for scripts
    #[arg(long, global = true, value_enum, default_value = "table", value_name = "FORMAT")]
    pub output: Output,
}

/// How the server listens; the rest is in kilter.toml.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeOptions {
    /// A configuration file [default: kilter.toml in the data directory, if there]
    #[arg(long, env = "KILTER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where devices connect: MQTT 3.1.1 and 5 over mutual TLS [default: 127.0.0.1:8883]
    #[arg(long, env = "KILTER_MQTT", value_name = "ADDRESS")]
    pub mqtt: Option<SocketAddr>,
    /// Where MQTT over WebSocket and, by ALPN x-amzn-mqtt-ca, plain MQTT is served, as on AWS IoT's port 443 [default: off]
    #[arg(long, env = "KILTER_MQTT_WS", value_name = "ADDRESS")]
    pub mqtt_ws: Option<SocketAddr>,
    /// Where the console and the REST API are served [default: 127.0.0.1:8080]
    #[arg(long, env = "KILTER_HTTP", value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Where the AWS endpoint is served; requests are signed with an access key [default: 127.0.0.1:4566]
    #[arg(long, env = "KILTER_AWS", value_name = "ADDRESS")]
    pub aws: Option<SocketAddr>,
    /// Serve the AWS endpoint over TLS, with the certificate that devices see
    #[arg(long, env = "KILTER_AWS_TLS")]
    pub aws_tls: bool,
    /// Region name, part of bucket names and ARNs [default: us-east-1]
    #[arg(long, env = "KILTER_REGION", value_name = "NAME")]
    pub region: Option<String>,
}

impl ServeOptions {
    pub(super) fn apply(&self, config: &mut Config) {
        if let Some(mqtt) = self.mqtt {
            config.mqtt = mqtt;
        }
        config.mqtt_ws = self.mqtt_ws.or(config.mqtt_ws);
        if let Some(http) = self.http {
            config.http = http;
        }
        if let Some(aws) = self.aws {
            config.aws = aws;
        }
        config.aws_tls |= self.aws_tls;
        if let Some(region) = &self.region {
            config.site.region.clone_from(region);
        }
    }
}
