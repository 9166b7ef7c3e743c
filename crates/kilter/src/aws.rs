//! What the AWS endpoint keeps in the data directory: access keys, the audit log, and the files that `kilter env` names.

use crate::{config::Config, identity::write_secret};
use anyhow::Context;
use kilter_core::ports::{clock::Clock, deliver::Deliver, fleet::Fleet};
use kilter_door_aws::{
    AwsState, Services,
    audit::Audit,
    iam::Iam,
    iot::{Iot, IotData},
    keys::{AccessKey, AccessKeys},
    session::{KEY_BYTES, Sessions},
    sigv4::hex,
};
use kilter_pipeline::{control::PipelineControl, rules::RuleAdmin};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Opens the keys; makes the root key, and the files that use it, where they are missing.
pub fn open_keys(data_dir: &Path, clock: &dyn Clock) -> anyhow::Result<AccessKeys> {
    let path = data_dir.join("identity/access-keys.json");
    Ok(AccessKeys::open(&path, clock.now())?)
}

pub fn state(
    config: &Config,
    services: Services,
    sessions: Sessions,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<AwsState> {
    let audit = config.data_dir.join("audit");
    let audit = Audit::open(&audit).with_context(|| format!("the audit log in {} cannot be used", audit.display()))?;
    Ok(AwsState {
        services,
        keys: Arc::new(open_keys(&config.data_dir, &*clock)?),
        sessions,
        audit,
        clock,
        region: config.site.region.clone(),
        account: config.site.account.clone(),
    })
}

/// Sessions of roles, sealed with a key that is made where it is missing.
pub fn sessions(data_dir: &Path, iam: Iam) -> anyhow::Result<Sessions> {
    let path = data_dir.join("identity/sessions.key");
    if !path.exists() {
        let mut bytes = [0u8; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("the operating system gave no random bytes"))?;
        write_secret(&path, &hex(&bytes))?;
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let text = text.trim();
    let byte = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    let key = (0..text.len().div_ceil(2)).map(byte).collect::<Option<Vec<u8>>>();
    let key = key
        .and_then(|key| <[u8; KEY_BYTES]>::try_from(key).ok())
        .with_context(|| format!("{} is no key of sessions: remove it, and every session ends", path.display()))?;
    Ok(Sessions::new(&key, iam))
}

/// The endpoint's address. Over TLS by a name of the server's certificate.
pub fn url(address: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    let host = match address {
        _ if address.ip().is_unspecified() => format!("localhost:{}", address.port()),
        SocketAddr::V4(_) if address.ip().is_loopback() => format!("127.0.0.1:{}", address.port()),
        other => other.to_string(),
    };
    format!("{scheme}://{host}")
}

/// A profile of the AWS CLI: its configuration and its credentials, both mode 0600.
pub struct Profile {
    pub config: PathBuf,
    pub credentials: PathBuf,
}

impl Profile {
    /// Writes the profile `default` for a key.
    pub fn write(data_dir: &Path, region: &str, key: &AccessKey) -> anyhow::Result<Self> {
        let dir = data_dir.join("aws");
        std::fs::create_dir_all(&dir)?;
        let dir = dir.canonicalize()?;
        let profile = Self { config: dir.join("config"), credentials: dir.join("credentials") };
        write_secret(
            &profile.config,
            &format!("[default]\nregion = {region}\noutput = json\ns3 =\n  signature_version = s3v4\n"),
        )?;
        let text = format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n", key.id, key.secret);
        write_secret(&profile.credentials, &text)?;
        Ok(profile)
    }
}

/// AWS IoT over the pipeline: the control plane and the data plane.
pub fn iot(
    control: &PipelineControl,
    fleet: Arc<dyn Fleet>,
    deliver: Arc<dyn Deliver>,
    config: &Config,
) -> (Iot, IotData) {
    let rules = RuleAdmin {
        registry: control.registry.clone(),
        engine: control.ingest.rules.clone(),
        clock: control.clock.clone(),
    };
    let iot = Iot { fleet, rules: Arc::new(rules), endpoint: device_endpoint(config).into() };
    (iot, IotData { inject: control.ingest.clone(), deliver })
}

/// The host that devices are told to connect to: one that the server's certificate names.
fn device_endpoint(config: &Config) -> String {
    match config.server_names.first() {
        Some(name) if !config.mqtt.ip().is_loopback() => name.clone(),
        _ => "localhost".to_owned(),
    }
}
