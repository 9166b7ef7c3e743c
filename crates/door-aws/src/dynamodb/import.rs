//! ImportTable: a new table from the lines of an export, or of files made like it.

use super::{
    definition::Definition,
    export::object_fault,
    fault::{internal, invalid, missing, not_supported},
    recovery::{Filler, activate},
    request::{bounded, choice, object, read},
    schema::{State, TableDescriptor, seconds, table_arn},
    store::Store,
    tables::taken,
    upkeep::drop_contents,
    value::item_from_json,
};
use crate::{AwsError, Call};
use flate2::read::MultiGzDecoder;
use kilter_core::{
    Timestamp,
    ports::objects::{Listing, Version, behind_prefix},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use std::{
    io::{BufRead, BufReader, Read},
    sync::Arc,
};

/// Partition of the service's own table.
const IMPORTS: &str = "imports";
const PAGE_MAX: i64 = 25;
/// Objects listed at a time.
const OBJECTS_AT_A_TIME: usize = 200;
/// Longest line: the largest item as JSON, where every byte may be escaped.
const LINE_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Import {
    arn: String,
    id: String,
    table: String,
    table_arn: String,
    table_id: String,
    bucket: String,
    prefix: String,
    gzip: bool,
    /// As it was asked for, for descriptions.
    parameters: Json,
    begun: Timestamp,
    ended: Option<Timestamp>,
    token: Option<String>,
    failure: Option<(String, String)>,
    processed: u64,
    imported: u64,
    errors: u64,
    bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    s3_bucket_source: Option<BucketSource>,
    input_format: Option<String>,
    input_compression_type: Option<String>,
    table_creation_parameters: Option<Map<String, Json>>,
    client_token: Option<String>,
    import_arn: Option<String>,
    table_arn: Option<String>,
    page_size: Option<i64>,
    next_token: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BucketSource {
    s3_bucket: Option<String>,
    s3_key_prefix: Option<String>,
}

impl Import {
    fn status(&self) -> &'static str {
        match (&self.failure, self.ended) {
            (Some(_), _) => "FAILED",
            (None, Some(_)) => "COMPLETED",
            (None, None) => "IN_PROGRESS",
        }
    }

    fn describe(&self) -> Json {
        let mut described = json!({
            "ImportArn": self.arn,
            "ImportStatus": self.status(),
            "TableArn": self.table_arn,
            "TableId": self.table_id,
            "S3BucketSource": { "S3Bucket": self.bucket, "S3KeyPrefix": self.prefix },
            "InputFormat": "DYNAMODB_JSON",
            "InputCompressionType": if self.gzip { "GZIP" } else { "NONE" },
            "TableCreationParameters": self.parameters,
            "StartTime": seconds(self.begun),
            "ErrorCount": self.errors,
            "ProcessedItemCount": self.processed,
            "ImportedItemCount": self.imported,
            "ProcessedSizeBytes": self.bytes,
        });
        let optional = [
            ("ClientToken", self.token.as_ref().map(|token| json!(token))),
            ("EndTime", self.ended.map(|time| json!(seconds(time)))),
            ("FailureCode", self.failure.as_ref().map(|(code, _)| json!(code))),
            ("FailureMessage", self.failure.as_ref().map(|(_, message)| json!(message))),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                described[name] = value;
            }
        }
        described
    }
}

pub fn import_table(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let source = request.s3_bucket_source.as_ref().ok_or_else(|| missing("s3BucketSource"))?;
    let bucket = source.s3_bucket.clone().ok_or_else(|| missing("s3BucketSource.s3Bucket"))?;
    let format = request.input_format.as_deref().ok_or_else(|| missing("inputFormat"))?;
    if choice(Some(format), "", "inputFormat", &["DYNAMODB_JSON", "ION", "CSV"])? != "DYNAMODB_JSON" {
        return Err(not_supported(&format!("InputFormat {format}"), "use DYNAMODB_JSON"));
    }
    let compression = request.input_compression_type.as_deref();
    let compression = choice(compression, "NONE", "inputCompressionType", &["GZIP", "ZSTD", "NONE"])?;
    if compression == "ZSTD" {
        return Err(not_supported("InputCompressionType ZSTD", "use GZIP or NONE"));
    }
    let parameters = request.table_creation_parameters.ok_or_else(|| missing("tableCreationParameters"))?;
    let now = store.clock.now();
    let definition: Definition = read(parameters.clone())?;
    let table = TableDescriptor { state: State::Creating, ..definition.table(now, &*store.results)? };
    if table.results {
        return Err(invalid(format!("{} is where a tenant's results are kept: import to another name", table.name)));
    }
    if let Some(token) = &request.client_token
        && let Some(known) = store.all::<Import>(IMPORTS)?.iter().find(|import| import.token.as_ref() == Some(token))
    {
        return Ok(json!({ "ImportTableDescription": known.describe() }));
    }
    let table_arn = table_arn(&call.region, &call.account, &table.name);
    let id = format!("{:014}-{}", now.as_nanos() / 1_000_000, &table.id[..8]);
    let import = Import {
        arn: format!("{table_arn}/import/{id}"),
        id,
        table: table.name.clone(),
        table_arn,
        table_id: table.id.clone(),
        bucket,
        prefix: source.s3_key_prefix.clone().unwrap_or_default(),
        gzip: compression == "GZIP",
        parameters: Json::Object(parameters),
        begun: now,
        ended: None,
        token: request.client_token,
        failure: None,
        processed: 0,
        imported: 0,
        errors: 0,
        bytes: 0,
    };
    let (job, kept) = (store.clone(), import.clone());
    store.writer.write(move |batch| {
        if job.descriptor_in(batch, &table.name)?.is_some() {
            return Err(taken(&table.name));
        }
        Store::keep(batch, &table)?;
        batch.put(&Store::own(), IMPORTS, &kept.id, serde_json::to_vec(&kept).map_err(internal)?);
        Ok(())
    })?;
    store.wake.wake();
    Ok(json!({ "ImportTableDescription": import.describe() }))
}

pub fn describe_import(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let arn = request.import_arn.ok_or_else(|| missing("importArn"))?;
    let id = arn.rsplit('/').next().unwrap_or_default();
    match store.document::<Import>(IMPORTS, id)?.filter(|import| import.arn == arn) {
        Some(import) => Ok(json!({ "ImportTableDescription": import.describe() })),
        None => Err(AwsError::new("ImportNotFoundException", format!("Import not found: {arn}"))),
    }
}

pub fn list_imports(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let limit = bounded(request.page_size, "pageSize", 1, PAGE_MAX)?.unwrap_or(PAGE_MAX as usize);
    let mut all = store.all::<Import>(IMPORTS)?;
    all.retain(|import| request.table_arn.as_ref().is_none_or(|arn| *arn == import.table_arn));
    all.retain(|import| request.next_token.as_ref().is_none_or(|after| import.id > *after));
    let more = all.len() > limit;
    all.truncate(limit);
    let summary = |import: &Import| {
        let described = import.describe();
        let members =
            ["ImportArn", "ImportStatus", "TableArn", "S3BucketSource", "InputFormat", "StartTime", "EndTime"];
        let there = members.into_iter().filter_map(|name| Some((name.to_owned(), described.get(name)?.clone())));
        Json::Object(there.collect())
    };
    let mut answer = json!({ "ImportSummaryList": all.iter().map(summary).collect::<Vec<_>>() });
    if more {
        answer["NextToken"] = json!(all.last().map(|import| &import.id));
    }
    Ok(answer)
}

/// Carries out what was asked for, from the start where a stop has interrupted it.
pub fn carry_out(store: &Arc<Store>) -> Result<(), AwsError> {
    for mut import in store.all::<Import>(IMPORTS)? {
        if import.status() != "IN_PROGRESS" {
            continue;
        }
        (import.processed, import.imported, import.errors, import.bytes) = (0, 0, 0, 0);
        let outcome = fill(store, &mut import);
        import.ended = Some(store.clock.now());
        if let Err(error) = outcome {
            tracing::warn!(import = %import.arn, %error, "dynamodb: an import failed");
            let code = if error.code == "NoSuchBucket" { "S3NoSuchBucket" } else { "UNKNOWN" };
            import.failure = Some((code.to_owned(), error.message));
        }
        // The service leaves the table there too, with what it got.
        if store.descriptor(&import.table)?.is_some_and(|table| table.state == State::Creating) {
            activate(store, &import.table)?;
        }
        store.keep_document(IMPORTS, &import.id, &import)?;
    }
    Ok(())
}

fn fill(store: &Arc<Store>, import: &mut Import) -> Result<(), AwsError> {
    let table = store.descriptor(&import.table)?.filter(|table| table.id == import.table_id);
    let table = table.ok_or_else(|| invalid(format!("table {} is gone", import.table)))?;
    drop_contents(store, &table)?;
    if store.objects.bucket(&import.bucket).map_err(object_fault)?.is_none() {
        return Err(AwsError::new("NoSuchBucket", format!("The specified bucket does not exist: {}", import.bucket)));
    }
    let mut filler = Filler::new(store, &table);
    let mut from = import.prefix.clone();
    let mut found = false;
    loop {
        let listing = Listing { prefix: import.prefix.clone(), from, limit: OBJECTS_AT_A_TIME, ..Listing::default() };
        let page = store.objects.list(&import.bucket, &listing).map_err(object_fault)?;
        let Some(last) = page.last() else { break };
        from = format!("{}\0", last.key);
        let gzip = import.gzip;
        for object in page.iter().filter(|object| holds_items(&object.key, gzip)) {
            found = true;
            read_object(store, import, object, &table, &mut filler)?;
        }
    }
    if !found {
        let what = if behind_prefix(&import.prefix).is_some() { &import.prefix } else { "the bucket" };
        return Err(AwsError::new("ItemValidationError", format!("There is no object to import below {what}")));
    }
    filler.flush()
}

fn holds_items(key: &str, gzip: bool) -> bool {
    let name = key.rsplit('/').next().unwrap_or_default();
    let manifest = name.starts_with("manifest-") || name == "_started";
    !manifest && !name.is_empty() && gzip == name.ends_with(".gz")
}

fn read_object(
    store: &Arc<Store>,
    import: &mut Import,
    object: &Version,
    table: &TableDescriptor,
    filler: &mut Filler<'_>,
) -> Result<(), AwsError> {
    let bytes = store.objects.read(&object.contents, 0, object.bytes()).map_err(object_fault)?;
    let plain: Box<dyn Read> = if import.gzip { Box::new(MultiGzDecoder::new(bytes)) } else { Box::new(bytes) };
    let mut lines = BufReader::new(plain);
    let unreadable = |error: std::io::Error| invalid(format!("{} cannot be read: {error}", object.key));
    loop {
        let mut line = Vec::new();
        let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(unreadable)?;
        if read == 0 {
            return Ok(());
        }
        if read as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
            return Err(invalid(format!("{} has a line of more than {LINE_BYTES_MAX} bytes", object.key)));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        import.processed += 1;
        import.bytes += read as u64;
        match one_item(&line, table) {
            Some(item) => {
                filler.put(item)?;
                import.imported += 1;
            }
            None => import.errors += 1,
        }
    }
}

/// `None` where the line holds no item of this table.
fn one_item(line: &[u8], table: &TableDescriptor) -> Option<super::value::Item> {
    let json: Json = serde_json::from_slice(line).ok()?;
    let item = item_from_json(json.get("Item")?.as_object()?).ok()?;
    table.key.of_item(&item).ok()?;
    (super::value::item_size(&item) <= super::value::ITEM_BYTES_MAX).then_some(item)
}
