//! Groups, streams and events over a table. Groups and streams are in memory as well; events are read from the table.

use kilter_core::{
    Timestamp,
    ports::{
        clock::Clock,
        logs::{LogAdmin, LogError, LogErrorKind, LogEvent, LogGroup, LogQuery, LogStream, Logs, StoredEvent},
        table::{Item, SkRange, Table, TableError, Write},
    },
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

const TABLE: &str = "logs";
const GROUPS: &str = "groups";
/// Groups of one installation: a rule and a tenant have one each.
pub const GROUPS_MAX: usize = 10_000;
/// Streams of one group: one for each day and start of the server.
pub const STREAMS_MAX: usize = 2_000;
/// Messages of one group; beyond it the oldest go.
pub const GROUP_BYTES_MAX: u64 = 16 << 20;
/// One message (CloudWatch Logs' limit).
pub const EVENT_BYTES_MAX: usize = 256 << 10;
/// What an event counts beside its message (CloudWatch Logs' figure).
const EVENT_OVERHEAD_BYTES: u64 = 26;
/// Where a group has no retention of its own.
const RETENTION_DAYS_DEFAULT: u32 = 30;
/// Events deleted, or read, in one step.
const STEP_EVENTS: usize = 500;
/// How often what is too old is looked for, in a group that is written to.
const SWEEP_SECONDS: f64 = 600.0;

pub struct TableLogs {
    table: Arc<dyn Table>,
    name: Arc<str>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    groups: BTreeMap<String, Group>,
    /// Tells events of one moment apart; starts anew above what was given out before.
    next: u64,
}

struct Group {
    meta: LogGroup,
    streams: BTreeMap<String, LogStream>,
    swept: Timestamp,
}

/// An event as it is kept.
#[derive(Serialize, Deserialize)]
struct Stored {
    stream: String,
    ingested: Timestamp,
    time: Timestamp,
    message: String,
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        Self(LogError::new(LogErrorKind::Internal, error.to_string()))
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self(error)
    }
}

/// Lets `?` turn the table's errors into this port's.
struct Failure(LogError);

fn fail<T>(kind: LogErrorKind, message: String) -> Result<T, LogError> {
    Err(LogError::new(kind, message))
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("log entries have string keys, so they are JSON")
}

fn streams_of(group: &str) -> String {
    format!("streams {group}")
}

fn events_of(group: &str) -> String {
    format!("events {group}")
}

fn time_key(time: Timestamp) -> String {
    format!("{:020}", time.as_nanos().max(0))
}

/// Letters, digits and `_-/.#`, as CloudWatch Logs has it for groups.
fn check_group(name: &str) -> Result<(), LogError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-/.#".contains(c);
    if name.is_empty() || name.len() > 512 || !name.chars().all(allowed) {
        return fail(
            LogErrorKind::Invalid,
            format!("a log group cannot be named {name:?}: use 1 to 512 letters, digits and any of _-/.#"),
        );
    }
    Ok(())
}

fn check_stream(name: &str) -> Result<(), LogError> {
    if name.is_empty() || name.len() > 512 || name.contains([':', '*', '\0']) {
        return fail(
            LogErrorKind::Invalid,
            format!("a log stream cannot be named {name:?}: use 1 to 512 characters without ':' and '*'"),
        );
    }
    Ok(())
}

impl State {
    fn group(&mut self, name: &str) -> Result<&mut Group, LogError> {
        match self.groups.get_mut(name) {
            Some(group) => Ok(group),
            None => fail(LogErrorKind::NotFound, "The specified log group does not exist.".to_owned()),
        }
    }
}

impl TableLogs {
    pub fn open(table: Arc<dyn Table>, clock: Arc<dyn Clock>) -> Result<Self, LogError> {
        Self::load(table, clock).map_err(|Failure(error)| error)
    }

    fn load(table: Arc<dyn Table>, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let damaged =
            |e: serde_json::Error| LogError::new(LogErrorKind::Internal, format!("a log cannot be read: {e}"));
        let now = clock.now();
        let mut groups = BTreeMap::new();
        for item in table.range(TABLE, GROUPS, SkRange::ALL, GROUPS_MAX)? {
            let meta: LogGroup = serde_json::from_slice(&item.value).map_err(damaged)?;
            let mut streams = BTreeMap::new();
            for item in table.range(TABLE, &streams_of(&meta.name), SkRange::ALL, STREAMS_MAX)? {
                streams.insert(item.sk, serde_json::from_slice(&item.value).map_err(damaged)?);
            }
            groups.insert(item.sk, Group { meta, streams, swept: now });
        }
        let next = now.as_nanos().max(0) as u64;
        Ok(Self { table, name: TABLE.into(), clock, state: Mutex::new(State { groups, next }) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the logs' lock panics")
    }

    /// Events of several groups in one commit; groups and streams are made where they are missing.
    pub fn put_all(&self, events: Vec<(String, String, LogEvent)>) -> Result<(), LogError> {
        self.write(events, true).map_err(|Failure(error)| error)
    }

    fn write(&self, events: Vec<(String, String, LogEvent)>, make: bool) -> Result<(), Failure> {
        let mut state = self.lock();
        let now = self.clock.now();
        let mut writes = Vec::new();
        let mut touched: BTreeMap<(String, String), ()> = BTreeMap::new();
        if make {
            events.iter().try_for_each(|(group, stream, _)| ensure(&mut state, group, stream, now))?;
        }
        for (group, stream, mut event) in events {
            clip(&mut event.message);
            state.next += 1;
            let key = format!("{}#{:016x}", time_key(event.time), state.next);
            let known = state.group(&group)?;
            let Some(of) = known.streams.get_mut(&stream) else {
                return Err(LogError::new(LogErrorKind::NotFound, "The specified log stream does not exist.").into());
            };
            let bytes = event.message.len() as u64 + EVENT_OVERHEAD_BYTES;
            known.meta.bytes += bytes;
            of.bytes += bytes;
            of.first_event = Some(of.first_event.map_or(event.time, |first| first.min(event.time)));
            of.last_event = of.last_event.max(Some(event.time));
            of.last_ingestion = Some(now);
            let stored = Stored { stream: stream.clone(), ingested: now, time: event.time, message: event.message };
            writes.push(Write::put(&self.name, events_of(&group), key, json(&stored)));
            touched.insert((group, stream), ());
        }
        for name in touched.keys().map(|(group, _)| group.clone()).collect::<std::collections::BTreeSet<_>>() {
            self.trim(state.group(&name)?, now, &mut writes)?;
        }
        for (group, stream) in touched.into_keys() {
            let known = state.group(&group)?;
            writes.push(Write::put(&self.name, GROUPS, group.as_str(), json(&known.meta)));
            if let Some(of) = known.streams.get(&stream) {
                writes.push(Write::put(&self.name, streams_of(&group), stream, json(of)));
            }
        }
        Ok(self.table.commit(writes)?)
    }

    /// Deletes the oldest events of a group that is too large or has some that are too old.
    fn trim(&self, group: &mut Group, now: Timestamp, writes: &mut Vec<Write>) -> Result<(), TableError> {
        if group.meta.bytes <= GROUP_BYTES_MAX && now.seconds_since(group.swept) < SWEEP_SECONDS {
            return Ok(());
        }
        let days = group.meta.retention_days.unwrap_or(RETENTION_DAYS_DEFAULT);
        let oldest = time_key(now.plus_seconds(-i64::from(days) * 86_400));
        let pk = events_of(&group.meta.name);
        let mut more = false;
        for item in self.table.range(TABLE, &pk, SkRange::ALL, STEP_EVENTS)? {
            more = item.sk < oldest;
            if group.meta.bytes <= GROUP_BYTES_MAX && !more {
                break;
            }
            let Ok(stored) = serde_json::from_slice::<Stored>(&item.value) else { continue };
            let bytes = stored.message.len() as u64 + EVENT_OVERHEAD_BYTES;
            group.meta.bytes = group.meta.bytes.saturating_sub(bytes);
            if let Some(stream) = group.streams.get_mut(&stored.stream) {
                stream.bytes = stream.bytes.saturating_sub(bytes);
                writes.push(Write::put(&self.name, streams_of(&group.meta.name), stored.stream, json(stream)));
            }
            writes.push(Write::delete(&self.name, pk.as_str(), item.sk));
        }
        // As long as there may be more, the next writer goes on.
        if !more {
            group.swept = now;
        }
        Ok(())
    }

    /// Deletes a partition's items, in steps.
    fn clear(&self, pk: &str, of_stream: Option<&str>) -> Result<u64, TableError> {
        let (mut from, mut bytes) = (String::new(), 0);
        loop {
            let range = SkRange { from: &from, to: None, descending: false };
            let items = self.table.range(TABLE, pk, range, STEP_EVENTS)?;
            let Some(last) = items.last() else { return Ok(bytes) };
            from = format!("{}\0", last.sk);
            let mut writes = Vec::new();
            for item in items {
                if let Some(stream) = of_stream {
                    match serde_json::from_slice::<Stored>(&item.value) {
                        Ok(stored) if stored.stream == stream => {
                            bytes += stored.message.len() as u64 + EVENT_OVERHEAD_BYTES;
                        }
                        _ => continue,
                    }
                }
                writes.push(Write::delete(&self.name, pk, item.sk));
            }
            self.table.commit(writes)?;
        }
    }

    fn read(&self, group: &str, query: &LogQuery<'_>) -> Result<Vec<StoredEvent>, Failure> {
        self.lock().group(group)?;
        let pk = events_of(group);
        let mut from = query.from.map_or(String::new(), time_key);
        let mut to = query.to.map(time_key);
        match (query.after, query.descending) {
            (Some(after), false) => from = from.max(format!("{after}\0")),
            (Some(after), true) => to = Some(to.map_or(after.to_owned(), |to| to.min(after.to_owned()))),
            (None, _) => {}
        }
        let mut found = Vec::new();
        loop {
            let range = SkRange { from: &from, to: to.as_deref(), descending: query.descending };
            let items = self.table.range(TABLE, &pk, range, STEP_EVENTS)?;
            let Some(last) = items.last().map(|item| item.sk.clone()) else { return Ok(found) };
            for event in items.into_iter().filter_map(event) {
                if query.stream.is_none_or(|stream| stream == event.stream) {
                    found.push(event);
                }
                if found.len() >= query.limit {
                    return Ok(found);
                }
            }
            match query.descending {
                true => to = Some(last),
                false => from = format!("{last}\0"),
            }
        }
    }
}

fn event(item: Item) -> Option<StoredEvent> {
    let stored: Stored = serde_json::from_slice(&item.value).ok()?;
    let event = LogEvent { time: stored.time, message: stored.message };
    Some(StoredEvent { key: item.sk, stream: stored.stream, ingested: stored.ingested, event })
}

/// A longer message is cut, at a character's edge.
fn clip(message: &mut String) {
    if message.len() > EVENT_BYTES_MAX {
        message.truncate(message.floor_char_boundary(EVENT_BYTES_MAX));
    }
}

fn ensure(state: &mut State, group: &str, stream: &str, now: Timestamp) -> Result<(), LogError> {
    if !state.groups.contains_key(group) {
        check_group(group)?;
        if state.groups.len() >= GROUPS_MAX {
            return fail(LogErrorKind::Limit, format!("there are {GROUPS_MAX} log groups: delete some"));
        }
        let meta = LogGroup { name: group.to_owned(), created: now, retention_days: None, bytes: 0 };
        state.groups.insert(group.to_owned(), Group { meta, streams: BTreeMap::new(), swept: now });
    }
    let known = state.group(group)?;
    if !known.streams.contains_key(stream) {
        check_stream(stream)?;
        if known.streams.len() >= STREAMS_MAX {
            return fail(LogErrorKind::Limit, format!("the log group has {STREAMS_MAX} streams: delete some"));
        }
        let made = LogStream {
            name: stream.to_owned(),
            created: now,
            first_event: None,
            last_event: None,
            last_ingestion: None,
            bytes: 0,
        };
        known.streams.insert(stream.to_owned(), made);
    }
    Ok(())
}

impl LogAdmin for TableLogs {
    fn create_group(&self, group: &str) -> Result<(), LogError> {
        let mut state = self.lock();
        check_group(group)?;
        if state.groups.contains_key(group) {
            return fail(LogErrorKind::Exists, "The specified log group already exists".to_owned());
        }
        if state.groups.len() >= GROUPS_MAX {
            return fail(LogErrorKind::Limit, format!("there are {GROUPS_MAX} log groups: delete some"));
        }
        let now = self.clock.now();
        let meta = LogGroup { name: group.to_owned(), created: now, retention_days: None, bytes: 0 };
        let write = Write::put(&self.name, GROUPS, group, json(&meta));
        self.table.commit(vec![write]).map_err(|e| Failure::from(e).0)?;
        state.groups.insert(group.to_owned(), Group { meta, streams: BTreeMap::new(), swept: now });
        Ok(())
    }

    fn delete_group(&self, group: &str) -> Result<(), LogError> {
        let mut state = self.lock();
        state.group(group)?;
        let cleared = self
            .clear(&events_of(group), None)
            .and_then(|_| self.clear(&streams_of(group), None))
            .and_then(|_| self.table.commit(vec![Write::delete(&self.name, GROUPS, group)]));
        cleared.map_err(|e| Failure::from(e).0)?;
        state.groups.remove(group);
        Ok(())
    }

    fn create_stream(&self, group: &str, stream: &str) -> Result<(), LogError> {
        let mut state = self.lock();
        if state.group(group)?.streams.contains_key(stream) {
            return fail(LogErrorKind::Exists, "The specified log stream already exists".to_owned());
        }
        ensure(&mut state, group, stream, self.clock.now())?;
        let made = state.group(group)?.streams.get(stream).map(json).unwrap_or_default();
        let write = Write::put(&self.name, streams_of(group), stream, made);
        self.table.commit(vec![write]).map_err(|e| Failure::from(e).0)
    }

    fn delete_stream(&self, group: &str, stream: &str) -> Result<(), LogError> {
        let mut state = self.lock();
        let known = state.group(group)?;
        if !known.streams.contains_key(stream) {
            return fail(LogErrorKind::NotFound, "The specified log stream does not exist.".to_owned());
        }
        let bytes = self.clear(&events_of(group), Some(stream)).map_err(|e| Failure::from(e).0)?;
        known.meta.bytes = known.meta.bytes.saturating_sub(bytes);
        let meta = Write::put(&self.name, GROUPS, group, json(&known.meta));
        let gone = Write::delete(&self.name, streams_of(group), stream);
        self.table.commit(vec![meta, gone]).map_err(|e| Failure::from(e).0)?;
        known.streams.remove(stream);
        Ok(())
    }

    fn set_retention(&self, group: &str, days: Option<u32>) -> Result<(), LogError> {
        let mut state = self.lock();
        let known = state.group(group)?;
        known.meta.retention_days = days;
        // What is too old now goes with the next event.
        known.swept = Timestamp::default();
        let write = Write::put(&self.name, GROUPS, group, json(&known.meta));
        self.table.commit(vec![write]).map_err(|e| Failure::from(e).0)
    }
}

impl Logs for TableLogs {
    fn put(&self, group: &str, stream: &str, events: Vec<LogEvent>, make: bool) -> Result<(), LogError> {
        let events = events.into_iter().map(|event| (group.to_owned(), stream.to_owned(), event)).collect();
        self.write(events, make).map_err(|Failure(error)| error)
    }

    fn groups(&self) -> Result<Vec<LogGroup>, LogError> {
        Ok(self.lock().groups.values().map(|group| group.meta.clone()).collect())
    }

    fn streams(&self, group: &str) -> Result<Vec<LogStream>, LogError> {
        Ok(self.lock().group(group)?.streams.values().cloned().collect())
    }

    fn events(&self, group: &str, query: &LogQuery<'_>) -> Result<Vec<StoredEvent>, LogError> {
        self.read(group, query).map_err(|Failure(error)| error)
    }
}
