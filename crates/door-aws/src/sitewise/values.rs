//! Values in and out: BatchPutAssetPropertyValue, latest, history, aggregates, alone and in batches.

use super::{
    Sitewise,
    assets::property_of,
    compute::{Reader, window_end},
    fault::{invalid, not_found},
    formula::deviation,
    model::{Asset, DataType, Model, Property, interval, list, text},
    store::{Kept, Point, Quality, Store, Variant, partition},
};
use crate::{Answer, AwsError, Call, json::object};
use kilter_core::{NANOS_PER_SECOND, Timestamp, ports::table::Write};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// The service's limits.
const ENTRIES_MAX: usize = 10;
const VALUES_MAX: usize = 10;
const TEXT_BYTES_MAX: usize = 1024;
const BATCH_MAX: usize = 128;
/// How far a value's time may lie behind and ahead.
const PAST_SECONDS_MAX: i64 = 7 * 86_400;
const FUTURE_SECONDS_MAX: i64 = 600;
const RESULTS_DEFAULT: usize = 100;
const RESULTS_MAX: usize = 20_000;

/// A property with what it belongs to.
pub struct Target {
    pub asset: Asset,
    pub model: Model,
    pub property: Property,
}

pub fn find(
    service: &Sitewise,
    asset: Option<&str>,
    property: Option<&str>,
    alias: Option<&str>,
) -> Result<Target, AwsError> {
    let (asset, property) = match (asset, property, alias) {
        (Some(asset), Some(property), None) => (asset.to_owned(), property.to_owned()),
        (None, None, Some(alias)) => service.store.alias(alias)?.ok_or_else(|| not_found("Property alias", alias))?,
        _ => return Err(invalid("either assetId and propertyId or propertyAlias must be given")),
    };
    let asset = service.store.asset(&asset)?;
    let model = service.store.model(&asset.model)?;
    let property = property_of(&model, &property)?.clone();
    Ok(Target { asset, model, property })
}

fn read_value(given: &Map<String, Json>, data_type: DataType) -> Result<Kept, String> {
    let value = given.get("value").and_then(Json::as_object).ok_or("a value must not be null")?;
    let mut variants = value.iter().filter(|(_, value)| !value.is_null());
    let (Some((kind, value)), None) = (variants.next(), variants.next()) else {
        return Err("a value must have exactly one variant".to_owned());
    };
    let variant = match (data_type, kind.as_str()) {
        (DataType::String, "stringValue") => value.as_str().map(|text| Variant::Text(text.to_owned())),
        (DataType::Integer, "integerValue") => value.as_i64().map(Variant::Integer),
        (DataType::Double, "doubleValue") => value.as_f64().filter(|value| value.is_finite()).map(Variant::Double),
        (DataType::Boolean, "booleanValue") => value.as_bool().map(Variant::Boolean),
        _ => None,
    };
    let variant = variant.ok_or_else(|| format!("the value does not match the property's data type {data_type:?}"))?;
    if matches!(&variant, Variant::Text(text) if text.len() > TEXT_BYTES_MAX) {
        return Err(format!("a text has at most {TEXT_BYTES_MAX} bytes"));
    }
    let quality = match text(given, "quality") {
        None | Some("GOOD") => Quality::Good,
        Some("BAD") => Quality::Bad,
        Some("UNCERTAIN") => Quality::Uncertain,
        Some(other) => return Err(format!("the quality {other} is none of GOOD, BAD, UNCERTAIN")),
    };
    Ok(Kept { variant, quality })
}

fn read_time(given: &Map<String, Json>) -> Option<Timestamp> {
    let time = given.get("timestamp")?.as_object()?;
    // Rules fill in templates, which are text.
    let number = |member: &str| match time.get(member)? {
        Json::String(text) => text.parse().ok(),
        other => other.as_i64(),
    };
    let nanos = number("offsetInNanos").unwrap_or(0);
    let seconds = number("timeInSeconds").filter(|seconds| (1..=31_556_889_864_403_199).contains(seconds))?;
    (0..NANOS_PER_SECOND)
        .contains(&nanos)
        .then(|| Timestamp::from_nanos(Timestamp::from_seconds(seconds).as_nanos().saturating_add(nanos)))
}

/// What one entry writes; what is wrong with it by code and words.
fn entry_writes(service: &Sitewise, entry: &Map<String, Json>) -> Result<Vec<Write>, (String, String, Option<Json>)> {
    let fault = |error: AwsError| (error.code, error.message, None);
    let wrong = |message: String| ("InvalidRequestException".to_owned(), message, None);
    let target = find(service, text(entry, "assetId"), text(entry, "propertyId"), text(entry, "propertyAlias"));
    let Target { asset, property, .. } = target.map_err(fault)?;
    if !property.variables().is_empty() {
        return Err(wrong(format!("{} is computed: values cannot be put", property.name)));
    }
    let values = list(entry, "propertyValues").map_err(fault)?;
    if values.is_empty() || values.len() > VALUES_MAX {
        return Err(wrong(format!("an entry has 1 to {VALUES_MAX} values")));
    }
    let now = service.store.clock.now();
    let mut writes = Vec::new();
    for value in values {
        let kept = read_value(value, property.data_type).map_err(wrong)?;
        let time = read_time(value).ok_or_else(|| wrong("the timestamp is missing or out of range".to_owned()))?;
        if time < now.plus_seconds(-PAST_SECONDS_MAX) || time > now.plus_seconds(FUTURE_SECONDS_MAX) {
            let message = "a value's time must lie no more than 7 days back and 10 minutes ahead".to_owned();
            return Err(("TimestampOutOfRangeException".to_owned(), message, value.get("timestamp").cloned()));
        }
        writes.push(Store::value_write(&partition(&asset.id, &property.id), time, &kept).map_err(fault)?);
    }
    Ok(writes)
}

pub fn put(service: &Sitewise, call: &Call) -> Result<Answer, AwsError> {
    let body = object(call)?;
    let entries = list(&body, "entries")?;
    if entries.is_empty() || entries.len() > ENTRIES_MAX {
        return Err(invalid(format!("entries must hold 1 to {ENTRIES_MAX} entries")));
    }
    Ok(Answer::json(&json!({ "errorEntries": put_entries(service, &entries)? })))
}

/// What could be kept is durable on return; answers what could not.
pub fn put_entries(service: &Sitewise, entries: &[&Map<String, Json>]) -> Result<Vec<Json>, AwsError> {
    let (mut writes, mut errors) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry_writes(service, entry) {
            Ok(more) => writes.extend(more),
            Err((code, message, time)) => errors.push(json!({
                "entryId": text(entry, "entryId").unwrap_or_default(),
                "errors": [{
                    "errorCode": code,
                    "errorMessage": message,
                    "timestamps": time.into_iter().collect::<Vec<_>>(),
                }],
            })),
        }
    }
    service.store.commit(writes)?;
    Ok(errors)
}

fn describe(point: &Point) -> Json {
    let nanos = point.time.as_nanos();
    json!({
        "value": match &point.value.variant {
            Variant::Text(text) => json!({ "stringValue": text }),
            Variant::Integer(number) => json!({ "integerValue": number }),
            Variant::Double(number) => json!({ "doubleValue": number }),
            Variant::Boolean(truth) => json!({ "booleanValue": truth }),
        },
        "timestamp": {
            "timeInSeconds": nanos.div_euclid(NANOS_PER_SECOND),
            "offsetInNanos": nanos.rem_euclid(NANOS_PER_SECOND),
        },
        "quality": quality_name(point.value.quality),
    })
}

fn quality_name(quality: Quality) -> &'static str {
    match quality {
        Quality::Good => "GOOD",
        Quality::Bad => "BAD",
        Quality::Uncertain => "UNCERTAIN",
    }
}

/// What a request or an entry of a batch asks for, from the query or the body.
pub struct Asked(pub BTreeMap<String, Vec<String>>);

impl Asked {
    pub fn of_query(call: &Call) -> Self {
        let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &call.query {
            members.entry(name.clone()).or_default().push(value.clone());
        }
        Self(members)
    }

    fn of_entry(entry: &Map<String, Json>) -> Self {
        let texts = |value: &Json| match value {
            Json::Array(all) => all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            Json::String(text) => vec![text.clone()],
            other => vec![other.to_string()],
        };
        Self(entry.iter().map(|(name, value)| (name.clone(), texts(value))).collect())
    }

    fn one(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str)
    }

    fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    fn target(&self, service: &Sitewise) -> Result<Target, AwsError> {
        find(service, self.one("assetId"), self.one("propertyId"), self.one("propertyAlias"))
    }

    /// RFC 3339 in a query, seconds since the epoch in a body.
    fn time(&self, name: &str) -> Result<Option<Timestamp>, AwsError> {
        let Some(text) = self.one(name) else { return Ok(None) };
        let seconds = || text.parse::<f64>().ok().map(|seconds| Timestamp::from_nanos((seconds * 1e9) as i64));
        let time = Timestamp::parse_rfc3339(text).or_else(seconds);
        time.map(Some).ok_or_else(|| invalid(format!("{name} is not a time")))
    }

    fn limit(&self) -> Result<usize, AwsError> {
        match self.one("maxResults").map(str::parse) {
            None => Ok(RESULTS_DEFAULT),
            Some(Ok(limit @ 1..=RESULTS_MAX)) => Ok(limit),
            Some(_) => Err(invalid(format!("maxResults must lie between 1 and {RESULTS_MAX}"))),
        }
    }

    fn descending(&self) -> Result<bool, AwsError> {
        match self.one("timeOrdering").unwrap_or("ASCENDING") {
            "ASCENDING" => Ok(false),
            "DESCENDING" => Ok(true),
            other => Err(invalid(format!("the timeOrdering {other} is none of ASCENDING, DESCENDING"))),
        }
    }

    fn takes(&self, quality: Quality) -> bool {
        let wanted = self.all("qualities");
        wanted.is_empty() || wanted.iter().any(|wanted| wanted == quality_name(quality))
    }
}

pub fn latest(service: &Sitewise, asked: &Asked) -> Result<Json, AwsError> {
    let Target { asset, model, property } = asked.target(service)?;
    let until = service.store.clock.now().plus_seconds(FUTURE_SECONDS_MAX);
    let reader = Reader { store: &service.store };
    let point = reader.latest(&asset, &model, &property, until)?;
    Ok(point.map_or_else(|| json!({}), |point| json!({ "propertyValue": describe(&point) })))
}

/// Cuts a page out of an ordered list; a token is the time of the last one that was answered.
fn page<T>(
    mut all: Vec<T>,
    asked: &Asked,
    time: impl Fn(&T) -> Timestamp,
) -> Result<(Vec<T>, Option<String>), AwsError> {
    let descending = asked.descending()?;
    if descending {
        all.reverse();
    }
    if let Some(token) = asked.one("nextToken") {
        let last = token.parse().map(Timestamp::from_nanos).map_err(|_| invalid("nextToken is not one of ours"))?;
        all.retain(|one| if descending { time(one) < last } else { time(one) > last });
    }
    let limit = asked.limit()?;
    let more = all.len() > limit;
    all.truncate(limit);
    let token = all.last().filter(|_| more).map(|last| time(last).as_nanos().to_string());
    Ok((all, token))
}

pub fn history(service: &Sitewise, asked: &Asked) -> Result<Json, AwsError> {
    let Target { asset, model, property } = asked.target(service)?;
    let from = asked.time("startDate")?.unwrap_or(Timestamp::from_nanos(0));
    let to = asked.time("endDate")?.unwrap_or(service.store.clock.now().plus_seconds(FUTURE_SECONDS_MAX));
    let mut points = Reader { store: &service.store }.series(&asset, &model, &property, (from, to))?;
    points.retain(|point| asked.takes(point.value.quality));
    let (points, token) = page(points, asked, |point| point.time)?;
    let mut answer = json!({ "assetPropertyValueHistory": points.iter().map(describe).collect::<Vec<_>>() });
    if let Some(token) = token {
        answer["nextToken"] = json!(token);
    }
    Ok(answer)
}

pub fn aggregates(service: &Sitewise, asked: &Asked) -> Result<Json, AwsError> {
    let Target { asset, model, property } = asked.target(service)?;
    let (Some(from), Some(to)) = (asked.time("startDate")?, asked.time("endDate")?) else {
        return Err(invalid("startDate and endDate must not be null"));
    };
    let resolution = asked.one("resolution").filter(|text| ["1m", "15m", "1h", "1d"].contains(text));
    let Some(seconds) = resolution.and_then(interval) else {
        return Err(invalid("resolution must be one of 1m, 15m, 1h, 1d"));
    };
    let kinds = asked.all("aggregateTypes");
    let known = ["AVERAGE", "COUNT", "MAXIMUM", "MINIMUM", "SUM", "STANDARD_DEVIATION"];
    if kinds.is_empty() || !kinds.iter().all(|kind| known.contains(&kind.as_str())) {
        return Err(invalid(format!("aggregateTypes must hold some of {}", known.join(", "))));
    }
    let points = Reader { store: &service.store }.series(&asset, &model, &property, (from, to))?;
    let mut windows: BTreeMap<Timestamp, Vec<f64>> = BTreeMap::new();
    let good = |point: &&Point| match asked.all("qualities") {
        [] => point.value.quality == Quality::Good,
        _ => asked.takes(point.value.quality),
    };
    for point in points.iter().filter(good) {
        let end = window_end(point.time, seconds, 0);
        if let Some(number) = point.value.variant.number().filter(|_| end <= service.store.clock.now()) {
            windows.entry(end).or_default().push(number);
        }
    }
    let (windows, token) = page(windows.into_iter().collect(), asked, |(time, _)| *time)?;
    let described: Vec<Json> = windows
        .iter()
        .map(|(time, values)| json!({ "timestamp": crate::json::seconds(*time), "quality": "GOOD", "value": aggregate(values, kinds) }))
        .collect();
    let mut answer = json!({ "aggregatedValues": described });
    if let Some(token) = token {
        answer["nextToken"] = json!(token);
    }
    Ok(answer)
}

/// Of at least one value.
fn aggregate(values: &[f64], kinds: &[String]) -> Json {
    let (count, sum) = (values.len() as f64, values.iter().sum::<f64>());
    let one = |kind: &String| match kind.as_str() {
        "AVERAGE" => ("average", sum / count),
        "COUNT" => ("count", count),
        "MAXIMUM" => ("maximum", values.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        "MINIMUM" => ("minimum", values.iter().copied().fold(f64::INFINITY, f64::min)),
        "SUM" => ("sum", sum),
        _ => ("standardDeviation", deviation(values)),
    };
    Json::Object(kinds.iter().map(one).map(|(name, value)| (name.to_owned(), json!(value))).collect())
}

/// Each entry by itself: one that fails does not keep the others from their answers.
pub fn batch(
    service: &Sitewise,
    call: &Call,
    one: fn(&Sitewise, &Asked) -> Result<Json, AwsError>,
) -> Result<Answer, AwsError> {
    let body = object(call)?;
    let entries = list(&body, "entries")?;
    if entries.is_empty() || entries.len() > BATCH_MAX {
        return Err(invalid(format!("entries must hold 1 to {BATCH_MAX} entries")));
    }
    let (mut successes, mut errors) = (Vec::new(), Vec::new());
    for entry in entries {
        let id = text(entry, "entryId").unwrap_or_default();
        match one(service, &Asked::of_entry(entry)) {
            Ok(mut answer) => {
                // What is left of an entry is asked for by itself.
                if let Json::Object(members) = &mut answer {
                    members.remove("nextToken");
                    if let Some(value) = members.remove("propertyValue") {
                        members.insert("assetPropertyValue".to_owned(), value);
                    }
                }
                answer["entryId"] = json!(id);
                successes.push(answer);
            }
            Err(error) => {
                errors.push(json!({ "entryId": id, "errorCode": error.code, "errorMessage": error.message }));
            }
        }
    }
    Ok(Answer::json(&json!({ "successEntries": successes, "errorEntries": errors, "skippedEntries": [] })))
}
