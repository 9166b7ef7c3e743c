//! Operations on events.

use super::{Input, Result, failed, flag, group, invalid, millis, number, required, text, time};
use crate::AwsError;
use kilter_core::{
    Timestamp,
    ports::logs::{LogEvent, LogQuery, Logs, StoredEvent},
};
use serde_json::{Value, json};

/// Events of one request (CloudWatch Logs' limit).
const EVENTS_MAX: i64 = 10_000;
/// Events that one FilterLogEvents looks at; where there are more it answers with a token.
const LOOKED_AT_MAX: usize = 50_000;
/// An event may be so old, and so far ahead, in seconds.
const OLD_SECONDS_MAX: i64 = 14 * 86_400;
const AHEAD_SECONDS_MAX: i64 = 2 * 3_600;

pub fn put(logs: &dyn Logs, input: &Input, now: Timestamp) -> Result<Value> {
    let (group, stream) = (group(input)?, required(input, "logStreamName")?);
    let given = input.get("logEvents").and_then(Value::as_array).filter(|events| !events.is_empty());
    let given = given.ok_or_else(|| invalid("logEvents must be a list of at least one event"))?;
    if given.len() > EVENTS_MAX as usize {
        return Err(invalid(format!("a request has at most {EVENTS_MAX} events")));
    }
    let mut events = Vec::with_capacity(given.len());
    for event in given {
        let members = event.as_object().ok_or_else(|| invalid("each of logEvents must be an object"))?;
        let at = time(members, "timestamp")?.ok_or_else(|| invalid("an event has no timestamp"))?;
        events.push(LogEvent { time: at, message: required(members, "message")?.to_owned() });
    }
    if events.windows(2).any(|pair| pair[0].time > pair[1].time) {
        return Err(invalid("Log events in a single PutLogEvents request must be in chronological order."));
    }
    let too_old = events.iter().take_while(|event| event.time < now.plus_seconds(-OLD_SECONDS_MAX)).count();
    let in_time = events.iter().take_while(|event| event.time <= now.plus_seconds(AHEAD_SECONDS_MAX)).count();
    let mut answer = json!({"nextSequenceToken": format!("{:056}", now.as_nanos())});
    if too_old > 0 {
        answer["rejectedLogEventsInfo"]["tooOldLogEventEndIndex"] = too_old.into();
    }
    if in_time < events.len() {
        answer["rejectedLogEventsInfo"]["tooNewLogEventStartIndex"] = in_time.into();
    }
    let kept: Vec<LogEvent> = events.drain(too_old.min(in_time)..in_time).collect();
    logs.put(group, stream, kept, false).map_err(failed)?;
    Ok(answer)
}

fn shown(event: &StoredEvent) -> Value {
    json!({
        "timestamp": millis(event.event.time),
        "message": event.event.message,
        "ingestionTime": millis(event.ingested),
    })
}

/// Tokens are a direction and the key of the event that they go on from: `f/…` after it, `b/…` before it.
pub fn get(logs: &dyn Logs, input: &Input) -> Result<Value> {
    let (group, stream) = (group(input)?, required(input, "logStreamName")?);
    if !logs.streams(group).map_err(failed)?.iter().any(|known| known.name == stream) {
        return Err(AwsError::new("ResourceNotFoundException", "The specified log stream does not exist."));
    }
    let token = text(input, "nextToken")?.map(|token| token.split_once('/').unwrap_or((token, "")));
    let (forward, after) = match token {
        None => (flag(input, "startFromHead"), None),
        Some(("f", key)) => (true, Some(key)),
        Some(("b", key)) => (false, Some(key)),
        Some(_) => return Err(invalid("The specified nextToken is invalid.")),
    };
    let query = LogQuery {
        stream: Some(stream),
        from: time(input, "startTime")?,
        to: time(input, "endTime")?,
        after: after.filter(|key| !key.is_empty()),
        descending: !forward,
        limit: number(input, "limit", EVENTS_MAX, 1..=EVENTS_MAX)? as usize,
    };
    let mut events = logs.events(group, &query).map_err(failed)?;
    if !forward {
        events.reverse();
    }
    // Where nothing more is found the tokens stay: whoever polls goes on from there.
    let here = after.unwrap_or_default();
    let edge = |event: Option<&StoredEvent>| event.map_or(here.to_owned(), |event| event.key.clone());
    Ok(json!({
        "events": events.iter().map(shown).collect::<Vec<_>>(),
        "nextForwardToken": format!("f/{}", edge(events.last())),
        "nextBackwardToken": format!("b/{}", edge(events.first())),
    }))
}

pub fn filter(logs: &dyn Logs, input: &Input) -> Result<Value> {
    let group = group(input)?;
    let streams: Option<Vec<&str>> = match input.get("logStreamNames") {
        None | Some(Value::Null) => None,
        Some(Value::Array(names)) => Some(names.iter().filter_map(Value::as_str).collect()),
        Some(_) => return Err(invalid("logStreamNames must be a list")),
    };
    let prefix = text(input, "logStreamNamePrefix")?.unwrap_or_default();
    if streams.is_some() && !prefix.is_empty() {
        return Err(invalid("logStreamNames and logStreamNamePrefix cannot be given together"));
    }
    let pattern = Pattern::read(text(input, "filterPattern")?.unwrap_or_default())?;
    let limit = number(input, "limit", EVENTS_MAX, 1..=EVENTS_MAX)? as usize;
    let (from, to) = (time(input, "startTime")?, time(input, "endTime")?);
    // The end of the range counts here, unlike in GetLogEvents.
    let to = to.map(|to| Timestamp::from_nanos(to.as_nanos().saturating_add(super::NANOS_PER_MILLI)));
    let mut after = text(input, "nextToken")?.map(str::to_owned);
    let (mut found, mut looked_at) = (Vec::new(), 0);
    let next = loop {
        let query = LogQuery { stream: None, from, to, after: after.as_deref(), descending: false, limit: 1_000 };
        let events = logs.events(group, &query).map_err(failed)?;
        let Some(last) = events.last().map(|event| event.key.clone()) else { break None };
        looked_at += events.len();
        let mut full = None;
        for event in events {
            let wanted = streams.as_ref().is_none_or(|names| names.contains(&event.stream.as_str()))
                && event.stream.starts_with(prefix)
                && pattern.matches(&event.event.message);
            if wanted {
                let mut shown = shown(&event);
                shown["logStreamName"] = event.stream.as_str().into();
                shown["eventId"] = event.key.as_str().into();
                found.push(shown);
                if found.len() == limit {
                    full = Some(event.key);
                    break;
                }
            }
        }
        if full.is_some() || looked_at >= LOOKED_AT_MAX {
            break full.or(Some(last));
        }
        after = Some(last);
    };
    let mut answer = json!({"events": found, "searchedLogStreams": []});
    if let Some(next) = next {
        answer["nextToken"] = next.into();
    }
    Ok(answer)
}

/// Terms of a filter pattern: all plain ones must be there, one of those with `?`, and none of those with `-`.
#[derive(Debug, Default, PartialEq)]
struct Pattern {
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
}

impl Pattern {
    fn read(pattern: &str) -> Result<Self> {
        let pattern = pattern.trim();
        if pattern.starts_with(['{', '[', '%']) {
            return Err(invalid(
                "Invalid filter pattern: only terms are supported here, not JSON, spaces or regular expressions",
            ));
        }
        let mut read = Self::default();
        let mut rest = pattern;
        while !rest.is_empty() {
            let (list, term) = match rest.chars().next() {
                Some('?') => (&mut read.any, &rest[1..]),
                Some('-') => (&mut read.none, &rest[1..]),
                _ => (&mut read.all, rest),
            };
            let (term, after) = match term.strip_prefix('"') {
                Some(quoted) => {
                    quoted.split_once('"').ok_or_else(|| invalid("Invalid filter pattern: a quote is open"))?
                }
                None => term.split_once(char::is_whitespace).unwrap_or((term, "")),
            };
            list.push(term.to_owned());
            rest = after.trim_start();
        }
        Ok(read)
    }

    fn matches(&self, message: &str) -> bool {
        self.all.iter().all(|term| message.contains(term))
            && (self.any.is_empty() || self.any.iter().any(|term| message.contains(term)))
            && !self.none.iter().any(|term| message.contains(term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_terms() {
        for (pattern, message, expected) in [
            ("", "x", true),
            ("ERROR", "an ERROR here", true),
            ("ERROR", "an error here", false),
            ("ERROR here", "here is an ERROR", true),
            ("\"an ERROR\" -harmless", "an ERROR here", true),
            ("ERROR -harmless", "a harmless ERROR", false),
            ("?WARN ?ERROR", "a WARN", true),
            ("?WARN ?ERROR", "fine", false),
        ] {
            assert_eq!(Pattern::read(pattern).unwrap().matches(message), expected, "{pattern} on {message}");
        }
        assert!(Pattern::read("{ $.a = 1 }").is_err() && Pattern::read("\"open").is_err());
    }
}
