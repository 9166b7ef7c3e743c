//! One configuration: defaults, then `kilter.toml`, then flags and environment. Reading and checking touch nothing.

mod assets;
mod mqtt;
mod options;

pub use assets::Whose;
pub use options::{Output, ServeOptions, Shared};

use crate::error::{Code, Coded};
use assets::AssetConfig;
use kilter_backend_embedded::StreamConfig;
use kilter_core::{TenantId, ThingName};
use kilter_detect::{Limits, ScorerConfig};
use kilter_pipeline::{Horizon, archive::ArchiveConfig, ingest::Site};
use mqtt::MqttLimits;
use serde::Deserialize;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

const DEFAULTS: &str = include_str!("defaults.toml");
const DAY_SECONDS: u64 = 86_400;

/// `kilter.toml` as it is written; unknown keys are errors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    mqtt: SocketAddr,
    mqtt_ws: Option<SocketAddr>,
    mqtt_limits: MqttLimits,
    http: SocketAddr,
    aws: SocketAddr,
    aws_tls: bool,
    region: String,
    account: String,
    server_names: Vec<String>,
    stream: RawStream,
    lake: RawLake,
    results: RawResults,
    late: RawLate,
    #[serde(default)]
    webhook: Vec<WebhookConfig>,
    #[serde(default)]
    limit: Vec<LimitConfig>,
    #[serde(default)]
    asset: Vec<AssetConfig>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStream {
    segment_bytes: u64,
    retention_days: u64,
    retention_bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLake {
    flush_seconds: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResults {
    retention_days: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLate {
    horizon_seconds: u32,
    horizon_readings: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    pub name: String,
    pub url: String,
    pub secret_file: PathBuf,
    pub tenant: Option<TenantId>,
    #[serde(default)]
    pub allow_private: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitConfig {
    pub tenant: TenantId,
    pub thing: Option<ThingName>,
    pub signal: Box<str>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// What the server is built from: checked, but nothing opened.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub mqtt: SocketAddr,
    pub mqtt_ws: Option<SocketAddr>,
    pub mqtt_limits: MqttLimits,
    pub http: SocketAddr,
    pub aws: SocketAddr,
    pub aws_tls: bool,
    pub site: Site,
    pub server_names: Vec<String>,
    pub stream: StreamConfig,
    pub archive: ArchiveConfig,
    pub horizon: Horizon,
    pub webhooks: Vec<WebhookConfig>,
    pub limits: Vec<LimitConfig>,
    pub assets: Vec<AssetConfig>,
}

impl Config {
    /// Reads the file that is named, or `kilter.toml` in the data directory where there is one.
    pub fn load(shared: &Shared, options: &ServeOptions) -> Result<Self, Coded> {
        let found = shared.data_dir.join("kilter.toml");
        let file = options.config.clone().or_else(|| found.is_file().then_some(found));
        let text = file.as_deref().map(read).transpose()?;
        let name = file.as_ref().map_or_else(|| "the defaults".to_owned(), |path| path.display().to_string());
        let mut config = Self::parse(text.as_deref().unwrap_or(""), &name, &shared.data_dir)?;
        options.apply(&mut config);
        config.check().map_err(|why| invalid(&name, &why))?;
        Ok(config)
    }

    fn parse(text: &str, name: &str, data_dir: &Path) -> Result<Self, Coded> {
        let mut table: toml::Table = DEFAULTS.parse().expect("the built-in defaults are TOML; a test reads them");
        let own: toml::Table = text.parse().map_err(|e: toml::de::Error| invalid(name, &e.to_string()))?;
        merge(&mut table, own);
        let raw: Raw = table.try_into().map_err(|e: toml::de::Error| invalid(name, &e.to_string()))?;
        Ok(Self {
            data_dir: data_dir.to_owned(),
            mqtt: raw.mqtt,
            mqtt_ws: raw.mqtt_ws,
            mqtt_limits: raw.mqtt_limits,
            http: raw.http,
            aws: raw.aws,
            aws_tls: raw.aws_tls,
            site: Site { region: raw.region, account: raw.account },
            server_names: raw.server_names,
            stream: StreamConfig {
                segment_bytes: raw.stream.segment_bytes,
                retention_age: Duration::from_secs(raw.stream.retention_days.saturating_mul(DAY_SECONDS)),
                retention_bytes: raw.stream.retention_bytes,
                ..StreamConfig::default()
            },
            archive: ArchiveConfig {
                flush_age: Duration::from_secs(raw.lake.flush_seconds),
                results_age: Duration::from_secs(raw.results.retention_days.saturating_mul(DAY_SECONDS)),
            },
            horizon: Horizon { seconds: raw.late.horizon_seconds, readings: raw.late.horizon_readings },
            webhooks: raw.webhook,
            limits: raw.limit,
            assets: raw.asset,
        })
    }

    fn check(&self) -> Result<(), String> {
        if !self.http.ip().is_loopback() {
            return Err(format!(
                "http = {} is not a loopback address: the console has no users yet, so it is served to this machine only; use 127.0.0.1 and a tunnel",
                self.http
            ));
        }
        if !self.aws.ip().is_loopback() && !self.aws_tls {
            return Err(format!(
                "aws = {} is not a loopback address: everybody on the way could read what is sent; set aws_tls = true, or use 127.0.0.1",
                self.aws
            ));
        }
        let region_ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.site.region.is_empty() || self.site.region.len() > 32 || !self.site.region.chars().all(region_ok) {
            return Err(format!("region {:?} is not valid: use lower-case letters, digits and '-'", self.site.region));
        }
        if self.site.account.len() != 12 || !self.site.account.chars().all(|c| c.is_ascii_digit()) {
            return Err(format!("account {:?} is not valid: use twelve digits", self.site.account));
        }
        if !(1 << 20..=1 << 32).contains(&self.stream.segment_bytes) {
            return Err("stream.segment_bytes must be between 1 MiB and 4 GiB".to_owned());
        }
        if self.stream.retention_bytes < 2 * self.stream.segment_bytes {
            return Err("stream.retention_bytes must hold at least two segments".to_owned());
        }
        if self.stream.retention_age.is_zero() || self.archive.results_age.is_zero() || self.archive.flush_age.is_zero()
        {
            return Err("retention_days and flush_seconds must be at least 1".to_owned());
        }
        if self.horizon.seconds > Horizon::SECONDS_MAX || !(1..=Horizon::READINGS_MAX).contains(&self.horizon.readings)
        {
            return Err(format!(
                "late.horizon_seconds must be at most {}, late.horizon_readings 1 to {}: so many readings of every thing are kept in memory; to put nothing in order set horizon_seconds = 0",
                Horizon::SECONDS_MAX,
                Horizon::READINGS_MAX
            ));
        }
        self.mqtt_limits.check()?;
        self.assets.iter().try_for_each(AssetConfig::check)?;
        self.check_limits()
    }

    fn check_limits(&self) -> Result<(), String> {
        for limit in &self.limits {
            let ordered = match (limit.low, limit.high) {
                (None, None) => false,
                (Some(low), Some(high)) => low < high,
                (bound, other) => bound.or(other).is_some_and(f64::is_finite),
            };
            if !ordered {
                return Err(format!("the limit of {} needs low, high, or low below high", limit.signal));
            }
        }
        Ok(())
    }

    /// What is configured for a thing's detectors.
    pub fn scorer(&self, whose: &Whose<'_>) -> ScorerConfig {
        let holds = |l: &&LimitConfig| l.tenant == *whose.tenant && l.thing.as_ref().is_none_or(|t| t == whose.thing);
        let own = self.limits.iter().filter(holds);
        let limits = own.map(|l| (l.signal.clone(), Limits { low: l.low, high: l.high })).collect();
        let mut scorer = ScorerConfig { limits, ..ScorerConfig::default() };
        self.assets.iter().filter(|asset| asset.holds(whose)).for_each(|asset| asset.apply(&mut scorer));
        scorer
    }
}

fn read(path: &Path) -> Result<String, Coded> {
    std::fs::read_to_string(path).map_err(|e| invalid(&path.display().to_string(), &format!("it cannot be read: {e}")))
}

fn invalid(name: &str, why: &str) -> Coded {
    Coded::new(Code::ConfigurationInvalid, format!("the configuration ({name}) is not valid: {}", why.trim_end()))
}

/// Tables are merged key by key, everything else is replaced.
fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let config = Config::parse(text, "test", Path::new("x")).map_err(|e| e.to_string())?;
        config.check().map(|()| config)
    }

    #[test]
    fn the_defaults_are_valid_and_can_be_overridden() {
        let defaults = parse("").unwrap();
        assert_eq!(defaults.mqtt.port(), 8883);
        let door = defaults.mqtt_limits.door(defaults.mqtt, None);
        let constants = kilter_door_mqtt::MqttConfig::new(defaults.mqtt);
        assert_eq!(format!("{door:?}"), format!("{constants:?}"), "the file says what the constants say");
        let config = parse(
            "mqtt = \"0.0.0.0:1\"\n[lake]\nflush_seconds = 2\n[[limit]]\ntenant = \"t1\"\nsignal = \"a\"\nhigh = 3.0",
        )
        .unwrap();
        assert_eq!(config.archive.flush_age, Duration::from_secs(2));
        assert_eq!(defaults.horizon, Horizon::default(), "the file says what the constants say");
        assert_eq!(config.stream.segment_bytes, defaults.stream.segment_bytes);
        assert_eq!((scorer(&config, "t1", None).limits.len(), scorer(&config, "t2", None).limits.len()), (1, 0));
    }

    fn scorer(config: &Config, tenant: &str, thing_type: Option<&str>) -> ScorerConfig {
        let (tenant, thing) = (TenantId::new(tenant).unwrap(), ThingName::new("x").unwrap());
        config.scorer(&Whose { tenant: &tenant, thing: &thing, thing_type })
    }

    #[test]
    fn what_is_known_of_a_machine_holds_for_its_tenant_and_type() {
        let config = parse(
            "[[asset]]\ntenant = \"t1\"\ncommissioning_readings = 400\noff = { signal = \"rpm\", below = 50.0 }\n\
             maintenance = [{ from = \"2026-03-01T08:00:00Z\", until = \"2026-03-01T12:00:00Z\" }]\n\
             [[asset]]\ntenant = \"t1\"\nthing_type = \"pump\"\n\
             [asset.tolerance.temp]\ndifference = 2.0\nonly = \"above\"\n[asset.bearing.vibration]\n\
             rolling_elements = 9\nelement_diameter_mm = 7.94\npitch_diameter_mm = 39.04\nspeed_signal = \"rpm\"",
        )
        .unwrap();
        let (pump, fan, other) =
            (scorer(&config, "t1", Some("pump")), scorer(&config, "t1", None), scorer(&config, "t2", Some("pump")));
        assert_eq!((pump.tolerances.len(), fan.tolerances.len()), (1, 0));
        assert_eq!((pump.bearings.len(), fan.bearings.len()), (1, 0));
        assert_eq!((pump.commissioning_readings, fan.maintenance.len()), (Some(400), 1));
        assert!(fan.off.is_some_and(|off| off.start_up_seconds == 0.0));
        assert_eq!(other, ScorerConfig::default());
    }

    #[test]
    fn mistakes_are_refused() {
        for (text, why) in [
            ("mqt = 1", "mqt"),
            ("http = \"0.0.0.0:8080\"", "loopback"),
            ("mqtt = \"nonsense\"", "mqtt"),
            ("aws = \"0.0.0.0:4566\"", "aws_tls"),
            ("account = \"12\"", "twelve"),
            ("[stream]\nsegment_bytes = 1", "segment_bytes"),
            ("[results]\nretention_days = 0", "at least 1"),
            ("[late]\nhorizon_readings = 5000", "horizon_readings 1 to 4096"),
            ("[late]\nhorizon_readings = 0", "horizon_seconds = 0"),
            ("[mqtt_limits]\ntopic_levels_max = 9", "topic_levels_max"),
            ("[mqtt_limits]\nqueue_messages_max = 0", "queue_messages_max"),
            ("[mqtt_limits]\nno_such_limit = 1", "no_such_limit"),
            ("[[limit]]\ntenant = \"t1\"\nsignal = \"a\"", "low"),
            (
                "[[asset]]\ntenant = \"t1\"\nmaintenance = [{ from = \"2026-03-01T08:00:00Z\", until = \"2026-03-01T08:00:00Z\" }]",
                "before it begins",
            ),
            ("[[asset]]\ntenant = \"t1\"\n[asset.tolerance.a]\npercent = -1.0", "0 or more"),
            ("[[asset]]\ntenant = \"t1\"\n[asset.tolerance.a]\nonly = \"up\"", "only"),
            (
                "[[asset]]\ntenant = \"t1\"\n[asset.bearing.v]\nrolling_elements = 9\nelement_diameter_mm = 7.9\npitch_diameter_mm = 39.0",
                "speed_rpm",
            ),
            ("[[limit]]\ntenant = \"T 1\"\nsignal = \"a\"\nlow = 1.0", "tenant"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
