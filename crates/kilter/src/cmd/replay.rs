//! `kilter replay`: publishes a recorded CSV as a thing, over the same road as any device.

use super::publisher;
use crate::{
    client::Client,
    config::{Output, Shared},
    error::{Code, Coded},
    output,
};
use anyhow::Context;
use bytes::Bytes;
use chrono::NaiveDateTime;
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use kilter_core::{
    Episode, LedgerLine, TenantId, ThingName, ThingView, Timestamp,
    ports::control::{OnboardRequest, Onboarded},
};
use kilter_door_mqtt::QoS;
use serde::Serialize;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Columns of labelled benchmark files that tell the answer.
const LABEL_COLUMNS: &str = "anomaly,changepoint,label,is_anomaly";
const POLL: Duration = Duration::from_millis(200);
/// The first bytes of a gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Rows between two looks at the connection and the progress bar.
const ROWS_PER_STEP: u64 = 200;

/// Publish a recorded CSV as a thing, over MQTT with mutual TLS, QoS 1
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The file may be gzipped, and separated by commas or semicolons. A tenant or thing that does not exist is made.\n\nExample:\n  kilter replay machine_temperature.csv.gz --tenant plant1 --thing press1 --time-column timestamp"
)]
pub struct Args {
    file: PathBuf,
    #[arg(long)]
    tenant: TenantId,
    #[arg(long)]
    thing: ThingName,
    /// The column with the event time: RFC 3339, `YYYY-MM-DD hh:mm:ss` (UTC), or an epoch number
    #[arg(long, value_name = "COLUMN")]
    time_column: String,
    /// Columns that are not sent; labels would give the answer away
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', default_value = LABEL_COLUMNS)]
    ignore: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    tenant: TenantId,
    thing: ThingName,
    published: u64,
    acknowledged: u64,
    scored: u64,
    late: u64,
    rejected: u64,
    anomalies: usize,
}

pub async fn run(shared: &Shared, args: Args) -> anyhow::Result<()> {
    let mut rows = Rows::open(&args)?;
    let client = Client::running(shared).await?;
    prepare(&client, &args, shared.output).await?;
    let before = ledger(&client, &args).await?;
    let identity = publisher::borrow_certificate(&client, &args.tenant, &args.thing).await?;
    let sent = publish(&client, &args, &identity, &mut rows).await;
    publisher::give_back(&client, &identity).await?;
    let published = sent?;
    let after = scored(&client, &args, published, before.received).await?;
    let anomalies: Vec<Episode> =
        client.get(&format!("/api/v1/anomalies?tenant={}&thing={}&limit=10000", args.tenant, args.thing)).await?;
    let report = Report {
        tenant: args.tenant,
        thing: args.thing,
        published,
        acknowledged: published,
        scored: after.scored - before.scored,
        late: after.late - before.late,
        rejected: after.rejected - before.rejected,
        anomalies: anomalies.len(),
    };
    output::print(shared.output, &report, people)
}

fn people(r: &Report) -> String {
    let mut text = format!(
        "{} messages published and acknowledged as {}: {} scored, {} late, {} rejected. Anomalies of the thing: {}; see\n  kilter anomalies list --tenant {} --thing {}",
        r.published, r.thing, r.scored, r.late, r.rejected, r.anomalies, r.tenant, r.thing
    );
    if r.late * 2 > r.published {
        text.push_str("\nMost were late: the thing already has readings of that time. Was this file replayed before? Choose another --thing.");
    }
    text
}

/// Makes the tenant and the thing where they are missing, and says so.
async fn prepare(client: &Client, args: &Args, output: Output) -> anyhow::Result<()> {
    let things: anyhow::Result<Vec<ThingView>> = client.get(&format!("/api/v1/tenants/{}/things", args.tenant)).await;
    if things.is_ok_and(|things| things.iter().any(|thing| thing.thing == args.thing)) {
        return Ok(());
    }
    let request =
        OnboardRequest { tenant: args.tenant.clone(), things: vec![args.thing.clone()], budget: None, shards: None };
    let onboarded: Onboarded = client.post("/api/v1/tenants", &request).await?;
    if output == Output::Table {
        output::line(&format!("Made {}.", onboarded.created.join(", ")))?;
    }
    Ok(())
}

async fn publish(
    client: &Client,
    args: &Args,
    identity: &kilter_core::IssuedIdentity,
    rows: &mut Rows,
) -> anyhow::Result<u64> {
    let mqtt = publisher::connect(client.mqtt_address()?, identity).await?;
    let topic: Arc<str> = args.tenant.telemetry_topic(&args.thing).into();
    let bar =
        ProgressBar::no_length().with_style(ProgressStyle::with_template("{spinner} {human_pos} messages  {per_sec}")?);
    let mut published = 0;
    while let Some(payload) = rows.next_payload()? {
        mqtt.publish(&topic, payload, QoS::AtLeastOnce).await.context("publishing failed")?;
        published += 1;
        if published % ROWS_PER_STEP == 0 {
            bar.set_position(published);
        }
    }
    mqtt.flush().await.context("not every message was acknowledged")?;
    mqtt.disconnect().await?;
    bar.finish_and_clear();
    Ok(published)
}

async fn ledger(client: &Client, args: &Args) -> anyhow::Result<LedgerLine> {
    let lines: Vec<LedgerLine> = client.get(&format!("/api/v1/ledger?tenant={}", args.tenant)).await?;
    let empty = LedgerLine {
        tenant: args.tenant.clone(),
        thing: args.thing.clone(),
        received: 0,
        stored: 0,
        rejected: 0,
        scored: 0,
        late: 0,
        waiting: 0,
    };
    Ok(lines.into_iter().find(|line| line.thing == args.thing).unwrap_or(empty))
}

/// Waits until the scorer has seen everything that was published.
async fn scored(client: &Client, args: &Args, published: u64, received_before: u64) -> anyhow::Result<LedgerLine> {
    let bar = ProgressBar::new(published)
        .with_style(ProgressStyle::with_template("scoring {wide_bar} {human_pos}/{human_len}")?);
    loop {
        let line = ledger(client, args).await?;
        bar.set_position(published.saturating_sub(line.waiting));
        if line.waiting == 0 && line.received >= received_before + published {
            bar.finish_and_clear();
            return Ok(line);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The file's rows as telemetry payloads.
struct Rows {
    path: String,
    reader: csv::Reader<Box<dyn Read + Send>>,
    record: csv::StringRecord,
    /// Name of each column that is sent; `None` for the time column and for those that are left out.
    columns: Vec<Option<String>>,
    time_index: usize,
}

impl Rows {
    fn open(args: &Args) -> anyhow::Result<Self> {
        let path = args.file.display().to_string();
        let unreadable = |why: String| Coded::new(Code::InputUnreadable, format!("{path} cannot be replayed: {why}"));
        let mut text = open_text(&args.file).map_err(|e| unreadable(e.to_string()))?;
        let delimiter = delimiter(text.fill_buf().map_err(|e| unreadable(e.to_string()))?);
        let mut reader =
            csv::ReaderBuilder::new().delimiter(delimiter).from_reader(Box::new(text) as Box<dyn Read + Send>);
        let head = reader.headers().map_err(|e| unreadable(e.to_string()))?.clone();
        let Some(time_index) = head.iter().position(|name| name == args.time_column) else {
            let names: Vec<&str> = head.iter().collect();
            return Err(unreadable(format!(
                "it has no column {:?}; its columns are {}",
                args.time_column,
                names.join(", ")
            ))
            .into());
        };
        let sent = |(index, name): (usize, &str)| {
            (index != time_index && !args.ignore.iter().any(|i| i == name)).then(|| name.to_owned())
        };
        let columns = head.iter().enumerate().map(sent).collect();
        Ok(Self { path, reader, record: csv::StringRecord::new(), columns, time_index })
    }

    fn next_payload(&mut self) -> anyhow::Result<Option<Bytes>> {
        let unreadable = |path: &str, why: String| Coded::new(Code::InputUnreadable, format!("{path}: {why}"));
        match self.reader.read_record(&mut self.record) {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            Err(error) => return Err(unreadable(&self.path, error.to_string()).into()),
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let text = self.record.get(self.time_index).unwrap_or_default();
        let time =
            parse_time(text).ok_or_else(|| unreadable(&self.path, format!("line {line}: {text:?} is not a time")))?;
        let mut payload = serde_json::Map::with_capacity(self.columns.len() + 1);
        payload.insert("ts".to_owned(), time.into());
        for (name, value) in self.columns.iter().zip(&self.record) {
            let Some(name) = name.as_ref().filter(|_| !value.trim().is_empty()) else { continue };
            let number = value.trim().parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            payload.insert(name.clone(), number.map_or_else(|| value.into(), Into::into));
        }
        Ok(Some(serde_json::to_vec(&payload)?.into()))
    }
}

/// Gzip is recognised by its first bytes, whatever the file is called.
fn open_text(path: &Path) -> std::io::Result<BufReader<Box<dyn Read + Send>>> {
    let mut file = BufReader::new(File::open(path)?);
    let gzip = file.fill_buf()?.starts_with(&GZIP_MAGIC);
    let text: Box<dyn Read + Send> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok(BufReader::new(text))
}

/// The separator that the first line has more of.
fn delimiter(start: &[u8]) -> u8 {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |wanted: u8| line.iter().filter(|byte| **byte == wanted).count();
    if count(b';') > count(b',') { b';' } else { b',' }
}

/// As RFC 3339; numbers pass through, since the decoder tells epoch units apart.
fn parse_time(text: &str) -> Option<String> {
    let text = text.trim();
    if text.parse::<f64>().is_ok() {
        return Some(text.to_owned());
    }
    if let Some(time) = Timestamp::parse_rfc3339(text) {
        return Some(time.sortable());
    }
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|pattern| NaiveDateTime::parse_from_str(text, pattern).ok())
        .and_then(|time| time.and_utc().timestamp_nanos_opt())
        .map(|nanos| Timestamp::from_nanos(nanos).sortable())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn payloads(bytes: &[u8], time_column: &str) -> anyhow::Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("in.csv");
        std::fs::write(&file, bytes).unwrap();
        let args = Args {
            file,
            tenant: TenantId::new("t1").unwrap(),
            thing: ThingName::new("x").unwrap(),
            time_column: time_column.into(),
            ignore: LABEL_COLUMNS.split(',').map(str::to_owned).collect(),
        };
        let mut rows = Rows::open(&args)?;
        let mut all = Vec::new();
        while let Some(payload) = rows.next_payload()? {
            all.push(String::from_utf8(payload.to_vec()).unwrap());
        }
        Ok(all)
    }

    #[test]
    fn semicolons_gzip_and_labels() {
        let text = b"datetime;Flow RateRMS;anomaly\n2020-03-09 10:14:33;32.5;1.0\n2020-03-09 10:14:34;;0.0\n";
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text).unwrap();
        let expected = [
            r#"{"Flow RateRMS":32.5,"ts":"2020-03-09T10:14:33.000000000Z"}"#,
            r#"{"ts":"2020-03-09T10:14:34.000000000Z"}"#,
        ];
        assert_eq!(payloads(text, "datetime").unwrap(), expected);
        assert_eq!(payloads(&gzip.finish().unwrap(), "datetime").unwrap(), expected);
    }

    #[test]
    fn commas_numbers_and_text() {
        let all = payloads(b"t,a,b\n1700000000,1.5,on\n", "t").unwrap();
        assert_eq!(all, [r#"{"a":1.5,"b":"on","ts":"1700000000"}"#]);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(payloads(b"a,b\n1,2\n", "t").unwrap_err().to_string().contains("its columns are a, b"));
        assert!(payloads(b"t,b\nyesterday,2\n", "t").unwrap_err().to_string().contains("line 2"));
        assert!(payloads(b"t,b\n1700000000,2,3\n", "t").is_err());
        assert!(payloads(&[0x1f, 0x8b, 0, 0], "t").is_err());
    }
}
