//! ExportTableToPointInTime: a table as it was, in a bucket, in the service's own layout of manifests and gzipped lines.

use super::{
    fault::{internal, invalid, missing, not_supported},
    key::hex,
    recovery::{items_at, reachable},
    request::{bounded, choice, object, read, table_name},
    schema::{seconds, table_arn},
    store::{Store, new_id},
    value::item_to_json,
};
use crate::{AwsError, Call};
use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use kilter_core::{
    Timestamp,
    ports::objects::{Content, Meta, ObjectError, PutCondition, Staging},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::{
    io::{self, Write},
    sync::Arc,
};

/// Partition of the service's own table.
const EXPORTS: &str = "exports";
/// Items of one data file: some tens of megabytes of usual items.
const FILE_ITEMS_MAX: u64 = 100_000;
const PAGE_MAX: i64 = 25;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Export {
    arn: String,
    id: String,
    table: String,
    table_arn: String,
    table_id: String,
    bucket: String,
    prefix: Option<String>,
    time: Timestamp,
    begun: Timestamp,
    ended: Option<Timestamp>,
    token: Option<String>,
    /// What went wrong, once it is certain.
    failure: Option<(String, String)>,
    items: u64,
    bytes: u64,
    manifest: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    table_arn: Option<String>,
    s3_bucket: Option<String>,
    s3_prefix: Option<String>,
    s3_sse_algorithm: Option<String>,
    export_time: Option<f64>,
    export_format: Option<String>,
    export_type: Option<String>,
    client_token: Option<String>,
    export_arn: Option<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

impl Export {
    fn status(&self) -> &'static str {
        match (&self.failure, self.ended) {
            (Some(_), _) => "FAILED",
            (None, Some(_)) => "COMPLETED",
            (None, None) => "IN_PROGRESS",
        }
    }

    fn describe(&self) -> Json {
        let mut described = json!({
            "ExportArn": self.arn,
            "ExportStatus": self.status(),
            "StartTime": seconds(self.begun),
            "TableArn": self.table_arn,
            "TableId": self.table_id,
            "ExportTime": seconds(self.time),
            "S3Bucket": self.bucket,
            "S3SseAlgorithm": "AES256",
            "ExportFormat": "DYNAMODB_JSON",
            "ExportType": "FULL_EXPORT",
        });
        let optional = [
            ("S3Prefix", self.prefix.as_ref().map(|prefix| json!(prefix))),
            ("ClientToken", self.token.as_ref().map(|token| json!(token))),
            ("EndTime", self.ended.map(|time| json!(seconds(time)))),
            ("ExportManifest", self.manifest.as_ref().map(|key| json!(key))),
            ("FailureCode", self.failure.as_ref().map(|(code, _)| json!(code))),
            ("FailureMessage", self.failure.as_ref().map(|(_, message)| json!(message))),
            ("ItemCount", self.ended.map(|_| json!(self.items))),
            ("BilledSizeBytes", self.ended.map(|_| json!(self.bytes))),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                described[name] = value;
            }
        }
        described
    }

    fn folder(&self) -> String {
        match &self.prefix {
            Some(prefix) => format!("{}/AWSDynamoDB/{}", prefix.trim_end_matches('/'), self.id),
            None => format!("AWSDynamoDB/{}", self.id),
        }
    }
}

pub fn export_table_to_point_in_time(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let arn = request.table_arn.as_deref().ok_or_else(|| missing("tableArn"))?;
    let name = table_name(call, Some(arn), "tableArn")?;
    let bucket = request.s3_bucket.clone().ok_or_else(|| missing("s3Bucket"))?;
    if choice(request.export_format.as_deref(), "DYNAMODB_JSON", "exportFormat", &["DYNAMODB_JSON", "ION"])? == "ION" {
        return Err(not_supported("ExportFormat ION", "use DYNAMODB_JSON"));
    }
    let kinds = ["FULL_EXPORT", "INCREMENTAL_EXPORT"];
    if choice(request.export_type.as_deref(), "FULL_EXPORT", "exportType", &kinds)? == "INCREMENTAL_EXPORT" {
        return Err(not_supported("ExportType INCREMENTAL_EXPORT", "use FULL_EXPORT"));
    }
    if request.s3_sse_algorithm.as_deref() == Some("KMS") {
        return Err(not_supported("S3SseAlgorithm KMS", "use AES256, or the bucket's own encryption"));
    }
    let table =
        store.usable(&name).map_err(|_| AwsError::new("TableNotFoundException", format!("Table not found: {arn}")))?;
    let all = store.all::<Export>(EXPORTS)?;
    if let Some(token) = &request.client_token
        && let Some(known) = all.iter().find(|export| export.token.as_ref() == Some(token))
    {
        if known.bucket != bucket || known.table != name || known.prefix != request.s3_prefix {
            return Err(AwsError::new("ExportConflictException", "The client token was used for another export"));
        }
        return Ok(json!({ "ExportDescription": known.describe() }));
    }
    let now = store.clock.now();
    let time = reachable(&table, request.export_time, (now, store.stamps.latest(now)), "InvalidExportTimeException")?;
    let id = format!("{:014}-{}", now.as_nanos() / 1_000_000, &new_id()?[..8]);
    let table_arn = table_arn(&call.region, &call.account, &name);
    let export = Export {
        arn: format!("{table_arn}/export/{id}"),
        id: id.clone(),
        table: name,
        table_arn,
        table_id: table.id.clone(),
        bucket,
        prefix: request.s3_prefix,
        time,
        begun: now,
        ended: None,
        token: request.client_token,
        failure: None,
        items: 0,
        bytes: 0,
        manifest: None,
    };
    store.keep_document(EXPORTS, &id, &export)?;
    store.wake.wake();
    Ok(json!({ "ExportDescription": export.describe() }))
}

pub fn describe_export(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let arn = request.export_arn.ok_or_else(|| missing("exportArn"))?;
    let id = arn.rsplit('/').next().unwrap_or_default();
    match store.document::<Export>(EXPORTS, id)?.filter(|export| export.arn == arn) {
        Some(export) => Ok(json!({ "ExportDescription": export.describe() })),
        None => Err(AwsError::new("ExportNotFoundException", format!("Export not found: {arn}"))),
    }
}

pub fn list_exports(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let limit = bounded(request.max_results, "maxResults", 1, PAGE_MAX)?.unwrap_or(PAGE_MAX as usize);
    let mut all = store.all::<Export>(EXPORTS)?;
    all.retain(|export| request.table_arn.as_ref().is_none_or(|arn| *arn == export.table_arn));
    all.retain(|export| request.next_token.as_ref().is_none_or(|after| export.id > *after));
    let more = all.len() > limit;
    all.truncate(limit);
    let summaries: Vec<Json> = all
        .iter()
        .map(|export| json!({ "ExportArn": export.arn, "ExportStatus": export.status(), "ExportType": "FULL_EXPORT" }))
        .collect();
    let mut answer = json!({ "ExportSummaries": summaries });
    if more {
        answer["NextToken"] = json!(all.last().map(|export| &export.id));
    }
    Ok(answer)
}

/// Carries out what was asked for, from the start where a stop has interrupted it.
pub fn carry_out(store: &Arc<Store>) -> Result<(), AwsError> {
    for mut export in store.all::<Export>(EXPORTS)? {
        if export.status() != "IN_PROGRESS" {
            continue;
        }
        if let Err(error) = write(store, &mut export) {
            tracing::warn!(export = %export.arn, %error, "dynamodb: an export failed");
            export.failure = Some(match error.code.as_str() {
                "NoSuchBucket" => ("S3NoSuchBucket".to_owned(), error.message),
                _ => ("UNKNOWN".to_owned(), error.message),
            });
            export.ended = Some(store.clock.now());
        }
        store.keep_document(EXPORTS, &export.id, &export)?;
    }
    Ok(())
}

fn write(store: &Arc<Store>, export: &mut Export) -> Result<(), AwsError> {
    let table = store.descriptor(&export.table)?.filter(|table| table.id == export.table_id);
    let table = table.ok_or_else(|| invalid(format!("table {} is gone", export.table)))?;
    let target = Target::open(store, &export.bucket)?;
    let folder = export.folder();
    target.put(&format!("{folder}/_started"), &[])?;
    let mut files: Vec<Json> = Vec::new();
    let mut file: Option<DataFile> = None;
    let (mut items, mut bytes) = (0u64, 0u64);
    items_at(store, &table, export.time, |item| {
        let mut line = json!({ "Item": item_to_json(&item) }).to_string();
        line.push('\n');
        (items, bytes) = (items + 1, bytes + line.len() as u64);
        if file.is_none() {
            file = Some(DataFile::create(&target)?);
        }
        if let Some(open) = &mut file
            && open.write(line.as_bytes())? == FILE_ITEMS_MAX
        {
            files.extend(file.take().map(|full| full.finish(&target, &folder)).transpose()?);
        }
        Ok(())
    })?;
    files.extend(file.map(|rest| rest.finish(&target, &folder)).transpose()?);
    (export.items, export.bytes) = (items, bytes);
    export.ended = Some(store.clock.now());
    let lines: String = files.iter().map(|file| format!("{file}\n")).collect();
    target.put_with_md5(&format!("{folder}/manifest-files"), &lines)?;
    let summary = export.summary(&folder, bytes, items);
    target.put_with_md5(&format!("{folder}/manifest-summary"), &summary.to_string())?;
    export.manifest = Some(format!("{folder}/manifest-summary.json"));
    tracing::info!(export = %export.arn, items, "dynamodb: table exported");
    Ok(())
}

impl Export {
    fn summary(&self, folder: &str, bytes: u64, items: u64) -> Json {
        let time = |time: Timestamp| time.format("%Y-%m-%dT%H:%M:%S%.3fZ");
        json!({
            "version": "2020-06-30",
            "exportArn": self.arn,
            "startTime": time(self.begun),
            "endTime": self.ended.map(time),
            "tableArn": self.table_arn,
            "tableId": self.table_id,
            "exportTime": time(self.time),
            "s3Bucket": self.bucket,
            "s3Prefix": self.prefix,
            "s3SseAlgorithm": "AES256",
            "s3SseKmsKeyId": null,
            "manifestFilesS3Key": format!("{folder}/manifest-files.json"),
            "billedSizeBytes": bytes,
            "itemCount": items,
            "outputFormat": "DYNAMODB_JSON",
            "exportType": "FULL_EXPORT",
        })
    }
}

pub fn object_fault(error: ObjectError) -> AwsError {
    use kilter_core::ports::objects::ObjectErrorKind;
    match error.kind {
        ObjectErrorKind::NoBucket => AwsError::new("NoSuchBucket", "The specified bucket does not exist"),
        _ => internal(error),
    }
}

fn io_fault(error: io::Error) -> AwsError {
    internal(format!("the export cannot be written ({error})"))
}

struct Target<'a> {
    store: &'a Store,
    bucket: String,
}

impl<'a> Target<'a> {
    fn open(store: &'a Store, bucket: &str) -> Result<Self, AwsError> {
        match store.objects.bucket(bucket).map_err(object_fault)? {
            Some(found) => Ok(Self { store, bucket: found.name }),
            None => Err(AwsError::new("NoSuchBucket", format!("The specified bucket does not exist: {bucket}"))),
        }
    }

    /// Always encrypted, as an export says of itself.
    fn stage(&self) -> Result<Hashing, AwsError> {
        let inner = self.store.objects.stage(true).map_err(object_fault)?;
        Ok(Hashing { inner, hash: md5::Context::new() })
    }

    fn publish(&self, key: &str, content: Content, etag: String) -> Result<(), AwsError> {
        let headers = [("content-type".to_owned(), "application/octet-stream".to_owned())].into();
        let meta = Meta { etag, headers, ..Meta::default() };
        self.store
            .objects
            .publish(&self.bucket, key, vec![content], meta, PutCondition::Always)
            .map(drop)
            .map_err(object_fault)
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<[u8; 16], AwsError> {
        let mut staged = self.stage()?;
        staged.write_all(bytes).map_err(io_fault)?;
        let (content, hash) = staged.finish()?;
        self.publish(key, content, hex(&hash))?;
        Ok(hash)
    }

    /// The text as `.json`, its checksum beside it as `.md5`.
    fn put_with_md5(&self, key: &str, text: &str) -> Result<(), AwsError> {
        let hash = self.put(&format!("{key}.json"), text.as_bytes())?;
        self.put(&format!("{key}.md5"), STANDARD.encode(hash).as_bytes()).map(drop)
    }
}

struct Hashing {
    inner: Box<dyn Staging>,
    hash: md5::Context,
}

impl Hashing {
    fn finish(self) -> Result<(Content, [u8; 16]), AwsError> {
        Ok((self.inner.finish().map_err(object_fault)?, self.hash.finalize().0))
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.consume(&bytes[..written]);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// One gzipped file of lines.
struct DataFile {
    name: String,
    gzip: GzEncoder<Hashing>,
    items: u64,
}

impl DataFile {
    fn create(target: &Target<'_>) -> Result<Self, AwsError> {
        let name = new_id()?.replace('-', "");
        Ok(Self { name, gzip: GzEncoder::new(target.stage()?, Compression::default()), items: 0 })
    }

    /// Says how many items are in it.
    fn write(&mut self, line: &[u8]) -> Result<u64, AwsError> {
        self.gzip.write_all(line).map_err(io_fault)?;
        self.items += 1;
        Ok(self.items)
    }

    /// Its line of the manifest.
    fn finish(self, target: &Target<'_>, folder: &str) -> Result<Json, AwsError> {
        let (content, hash) = self.gzip.finish().map_err(io_fault)?.finish()?;
        let key = format!("{folder}/data/{}.json.gz", self.name);
        target.publish(&key, content, hex(&hash))?;
        Ok(json!({
            "itemCount": self.items,
            "md5Checksum": STANDARD.encode(hash),
            "etag": hex(&hash),
            "dataFileS3Key": key,
        }))
    }
}
