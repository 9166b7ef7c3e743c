//! Operations on groups and streams.

use super::{Input, Result, failed, flag, group, invalid, millis, number, required, text};
use crate::Call;
use kilter_core::ports::logs::{LogStream, Logs};
use serde_json::{Value, json};

const PAGE_MAX: i64 = 50;
/// The retentions that CloudWatch Logs knows, in days.
const RETENTIONS: [i64; 23] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653, 3654];

pub fn create(logs: &dyn Logs, input: &Input) -> Result<()> {
    let given = |name: &str| input.get(name).is_some_and(|value| value.as_object().is_none_or(|tags| !tags.is_empty()));
    if given("tags") || given("kmsKeyId") {
        return Err(invalid("tags and kmsKeyId of log groups are not kept here: leave them out"));
    }
    logs.create_group(required(input, "logGroupName")?).map_err(failed)
}

pub fn delete(logs: &dyn Logs, input: &Input) -> Result<()> {
    logs.delete_group(required(input, "logGroupName")?).map_err(failed)
}

pub fn set_retention(logs: &dyn Logs, input: &Input) -> Result<()> {
    let days = number(input, "retentionInDays", 0, 0..=3654)?;
    if !RETENTIONS.contains(&days) {
        return Err(invalid(format!("retentionInDays {days} is not one of {RETENTIONS:?}")));
    }
    logs.set_retention(required(input, "logGroupName")?, u32::try_from(days).ok()).map_err(failed)
}

pub fn drop_retention(logs: &dyn Logs, input: &Input) -> Result<()> {
    logs.set_retention(required(input, "logGroupName")?, None).map_err(failed)
}

pub fn create_stream(logs: &dyn Logs, input: &Input) -> Result<()> {
    logs.create_stream(required(input, "logGroupName")?, required(input, "logStreamName")?).map_err(failed)
}

pub fn delete_stream(logs: &dyn Logs, input: &Input) -> Result<()> {
    logs.delete_stream(required(input, "logGroupName")?, required(input, "logStreamName")?).map_err(failed)
}

/// A page after the name that the token is, and the next token.
fn page<T>(all: Vec<T>, name: impl Fn(&T) -> String, token: Option<&str>, limit: usize) -> (Vec<T>, Option<String>) {
    let from = token.and_then(|token| all.iter().position(|one| name(one) == token)).map_or(0, |at| at + 1);
    let more = all.len() > from + limit;
    let page: Vec<T> = all.into_iter().skip(from).take(limit).collect();
    let next = page.last().filter(|_| more).map(name);
    (page, next)
}

fn answer(name: &str, all: Vec<Value>, next: Option<String>) -> Value {
    let mut answer = json!({ name: all });
    if let Some(next) = next {
        answer["nextToken"] = next.into();
    }
    answer
}

pub fn describe(logs: &dyn Logs, input: &Input, call: &Call) -> Result<Value> {
    let prefix = text(input, "logGroupNamePrefix")?.unwrap_or_default();
    let part = text(input, "logGroupNamePattern")?.unwrap_or_default().to_lowercase();
    if !prefix.is_empty() && !part.is_empty() {
        return Err(invalid("logGroupNamePrefix and logGroupNamePattern cannot be given together"));
    }
    let limit = number(input, "limit", PAGE_MAX, 1..=PAGE_MAX)? as usize;
    let mut all = logs.groups().map_err(failed)?;
    all.retain(|group| group.name.starts_with(prefix) && group.name.to_lowercase().contains(&part));
    let (groups, next) = page(all, |group| group.name.clone(), text(input, "nextToken")?, limit);
    let shown = groups.into_iter().map(|group| {
        let arn = call.arn("logs", &format!("log-group:{}", group.name));
        let mut shown = json!({
            "logGroupName": group.name,
            "creationTime": millis(group.created),
            "metricFilterCount": 0,
            "arn": format!("{arn}:*"),
            "logGroupArn": arn,
            "logGroupClass": "STANDARD",
            "storedBytes": group.bytes,
        });
        if let Some(days) = group.retention_days {
            shown["retentionInDays"] = days.into();
        }
        shown
    });
    Ok(answer("logGroups", shown.collect(), next))
}

pub fn describe_streams(logs: &dyn Logs, input: &Input, call: &Call) -> Result<Value> {
    let group = group(input)?;
    let prefix = text(input, "logStreamNamePrefix")?.unwrap_or_default();
    let by_time = match text(input, "orderBy")? {
        None | Some("LogStreamName") => false,
        Some("LastEventTime") if prefix.is_empty() => true,
        Some("LastEventTime") => {
            return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
        }
        Some(other) => return Err(invalid(format!("orderBy {other:?} is neither LogStreamName nor LastEventTime"))),
    };
    let limit = number(input, "limit", PAGE_MAX, 1..=PAGE_MAX)? as usize;
    let mut all: Vec<LogStream> = logs.streams(group).map_err(failed)?;
    all.retain(|stream| stream.name.starts_with(prefix));
    if by_time {
        all.sort_by(|a, b| (a.last_event, &a.name).cmp(&(b.last_event, &b.name)));
    }
    if flag(input, "descending") {
        all.reverse();
    }
    let (streams, next) = page(all, |stream| stream.name.clone(), text(input, "nextToken")?, limit);
    let shown = streams.into_iter().map(|stream| {
        let arn = call.arn("logs", &format!("log-group:{group}:log-stream:{}", stream.name));
        let mut shown = json!({
            "logStreamName": stream.name,
            "creationTime": millis(stream.created),
            "arn": arn,
            "storedBytes": stream.bytes,
        });
        let times = [
            ("firstEventTimestamp", stream.first_event),
            ("lastEventTimestamp", stream.last_event),
            ("lastIngestionTime", stream.last_ingestion),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                shown[name] = millis(time);
            }
        }
        shown
    });
    Ok(answer("logStreams", shown.collect(), next))
}
