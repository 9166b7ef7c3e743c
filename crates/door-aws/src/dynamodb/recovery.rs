//! A table as it was: what is there now, with every change since undone by the history; and restoring it.

use super::{
    change::{Before, LIST, current, stamp_key},
    definition::{self, IndexDefinition, Throughput},
    fault::{internal, invalid, missing},
    key::Position,
    request::{check_name, object, read, table_name},
    rows::Source,
    schema::{State, TableDescriptor},
    store::{Store, new_id},
    tables::{describe, taken},
    upkeep::drop_contents,
    value::{AttributeValue, Item, load},
};
use crate::{AwsError, Call};
use kilter_core::{Timestamp, ports::table::SkRange};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::{collections::BTreeMap, sync::Arc};

/// Rows and changes read at a time.
const AT_A_TIME: usize = 64;
/// Items as they were before they changed, held in memory while a table is read: a restore to a time since which more
/// has changed fails and says so.
const UNDONE_BYTES_MAX: usize = 256 << 20;
/// Partition of the service's own table: restores that are not done.
const RESTORES: &str = "restores";

#[derive(Default)]
struct Undone {
    /// `None`: nothing was there, or it has been told already.
    items: BTreeMap<Position, Option<Vec<u8>>>,
    bytes: usize,
    seen: String,
}

impl Undone {
    /// Takes in the changes that were made since it last did. `told`: how far the table has been told.
    fn catch_up(&mut self, store: &Store, history: &str, told: Option<&Position>) -> Result<(), AwsError> {
        loop {
            let range = SkRange { from: &self.seen, to: None, descending: false };
            let page = store.table.range(history, LIST, range, AT_A_TIME)?;
            let Some(last) = page.last() else { return Ok(()) };
            self.seen = format!("{}\0", last.sk);
            for entry in &page {
                let Before { pk, sk, item } = postcard::from_bytes(&entry.value).map_err(internal)?;
                let position = Position { pk, sk };
                if self.items.contains_key(&position) {
                    continue;
                }
                let item = item.filter(|_| told.is_none_or(|told| position > *told));
                self.bytes += position.pk.len() + position.sk.len() + item.as_ref().map_or(0, Vec::len);
                if self.bytes > UNDONE_BYTES_MAX {
                    return Err(internal(format!(
                        "more than {} MiB have changed since that time; choose a later one",
                        UNDONE_BYTES_MAX >> 20
                    )));
                }
                self.items.insert(position, item);
            }
        }
    }
}

/// Tells every item that the table had at `time`, each once, while others go on writing.
///
/// A page is read first and the history after it, so whatever changed before the page was read is known to have changed:
/// its old form is told at the end. What changes later was told as it was.
pub fn items_at(
    store: &Store,
    table: &TableDescriptor,
    time: Timestamp,
    mut tell: impl FnMut(Item) -> Result<(), AwsError>,
) -> Result<(), AwsError> {
    let history = table.history();
    let mut undone = Undone { seen: format!("{}\0", stamp_key(time)), ..Undone::default() };
    let source = Source::of_table(&*store.table, table);
    let mut told: Option<Position> = None;
    loop {
        let page = source.scan(told.as_ref(), AT_A_TIME)?;
        undone.catch_up(store, &history, told.as_ref())?;
        let Some(last) = page.last().map(|row| row.position.clone()) else { break };
        for row in page.iter().filter(|row| !undone.items.contains_key(&row.position)) {
            let item = row.item()?;
            if !is_later(&item, time) {
                tell(item)?;
            }
        }
        told = Some(last);
    }
    let form = |bytes: Vec<u8>| load(&bytes);
    undone.items.into_values().flatten().try_for_each(|bytes| tell(form(bytes)?))
}

/// Whether the pipeline has written this later: its rows have no history, they say themselves when they came.
fn is_later(item: &Item, time: Timestamp) -> bool {
    match item.get("arrival") {
        Some(AttributeValue::S(arrival)) => Timestamp::parse_rfc3339(arrival).is_some_and(|arrival| arrival > time),
        _ => false,
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    source_table_name: Option<String>,
    source_table_arn: Option<String>,
    target_table_name: Option<String>,
    use_latest_restorable_time: Option<bool>,
    restore_date_time: Option<f64>,
    billing_mode_override: Option<String>,
    provisioned_throughput_override: Option<Throughput>,
    global_secondary_index_override: Option<Vec<IndexDefinition>>,
    local_secondary_index_override: Option<Vec<IndexDefinition>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Restore {
    source: String,
    target: String,
    time: Timestamp,
}

/// From a request's number of seconds.
pub fn time_of(seconds: f64) -> Timestamp {
    Timestamp::from_nanos((seconds * 1_000.0).round() as i64 * 1_000_000)
}

/// The time asked for, if the table's history reaches it; without one, the latest.
pub fn reachable(
    table: &TableDescriptor,
    asked: Option<f64>,
    (now, latest): (Timestamp, Timestamp),
    code: &'static str,
) -> Result<Timestamp, AwsError> {
    let Some(recovery) = &table.recovery else {
        return Err(AwsError::new(
            "PointInTimeRecoveryUnavailableException",
            format!("Point in time recovery is not enabled for table '{}'", table.name),
        ));
    };
    let Some(asked) = asked.map(time_of) else { return Ok(latest) };
    // The described bounds are in milliseconds.
    if asked.plus_seconds(1) < recovery.earliest(now) || asked > now {
        let message = format!(
            "The time must lie between {} and {now}, as far as the table's history reaches",
            recovery.earliest(now)
        );
        return Err(AwsError::new(code, message));
    }
    Ok(asked)
}

pub fn restore_table_to_point_in_time(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let source = request.source_table_name.as_deref().or(request.source_table_arn.as_deref());
    let source = table_name(call, source, "sourceTableName")?;
    let target = request.target_table_name.clone().ok_or_else(|| missing("targetTableName"))?;
    check_name(&target, "targetTableName")?;
    let table = store
        .usable(&source)
        .map_err(|_| AwsError::new("TableNotFoundException", format!("Table not found: {source}")))?;
    if request.restore_date_time.is_some() == request.use_latest_restorable_time.unwrap_or(false) {
        return Err(invalid("Exactly one of RestoreDateTime and UseLatestRestorableTime must be given"));
    }
    let now = store.clock.now();
    let time =
        reachable(&table, request.restore_date_time, (now, store.stamps.latest(now)), "InvalidRestoreTimeException")?;
    let restored = request.target(store, &table, &target, time)?;
    let (job, kept) = (store.clone(), restored.clone());
    store.writer.write(move |batch| {
        if job.descriptor_in(batch, &target)?.is_some() {
            return Err(AwsError::new("TableAlreadyExistsException", taken(&target).message));
        }
        Store::keep(batch, &kept)?;
        let restore = Restore { source, target: target.clone(), time };
        batch.put(&Store::own(), RESTORES, &target, serde_json::to_vec(&restore).map_err(internal)?);
        Ok(())
    })?;
    store.wake.wake();
    Ok(json!({ "TableDescription": describe(store, call, &restored)? }))
}

impl Request {
    /// Without what the service does not restore either: tags, time to live, recovery.
    fn target(
        &self,
        store: &Store,
        source: &TableDescriptor,
        name: &str,
        time: Timestamp,
    ) -> Result<TableDescriptor, AwsError> {
        if store.results.is_result_table(name) {
            return Err(invalid(format!("{name} is where a tenant's results are kept: restore to another name")));
        }
        let mut table = TableDescriptor {
            name: name.to_owned(),
            id: new_id()?,
            created: store.clock.now(),
            state: State::Creating,
            ttl: None,
            tags: BTreeMap::new(),
            recovery: None,
            deletion_protected: false,
            restored: Some((source.name.clone(), time)),
            results: false,
            ..source.clone()
        };
        table.indexes.retain(|index| index.filled && !index.deleting);
        if self.billing_mode_override.is_some() || self.provisioned_throughput_override.is_some() {
            table.billing = definition::billing(
                self.billing_mode_override.as_deref(),
                self.provisioned_throughput_override.as_ref(),
            )?;
        }
        for (local, kept) in
            [(false, &self.global_secondary_index_override), (true, &self.local_secondary_index_override)]
        {
            let Some(kept) = kept else { continue };
            let named = |name: &String| kept.iter().any(|index| index.index_name.as_ref() == Some(name));
            table.indexes.retain(|index| index.local != local || named(&index.name));
        }
        let keys: Vec<_> = table.indexes.iter().map(|index| &index.key).chain([&table.key]).cloned().collect();
        table.attributes.retain(|part| keys.iter().any(|key| key.has(&part.name)));
        Ok(table)
    }
}

pub fn carry_out_restores(store: &Arc<Store>) -> Result<(), AwsError> {
    for Restore { source, target, time } in store.all::<Restore>(RESTORES)? {
        let Some(table) = store.descriptor(&target)?.filter(|table| table.state == State::Creating) else {
            forget(store, &target, false)?;
            continue;
        };
        drop_contents(store, &table)?;
        let filled = match store.descriptor(&source)? {
            Some(source) => {
                let mut filler = Filler::new(store, &table);
                items_at(store, &source, time, |item| filler.put(item)).and_then(|()| filler.flush())
            }
            None => Err(internal(format!("the source table {source} is gone"))),
        };
        match filled {
            Ok(()) => activate(store, &target)?,
            Err(error) => {
                tracing::error!(%error, %source, %target, "dynamodb: a table could not be restored and is removed");
                drop_contents(store, &table)?;
            }
        }
        forget(store, &target, true)?;
    }
    Ok(())
}

/// The restore is done; with `unfinished`, a table that is still being made goes too.
fn forget(store: &Arc<Store>, target: &str, unfinished: bool) -> Result<(), AwsError> {
    let (job, target) = (store.clone(), target.to_owned());
    store.writer.write(move |batch| {
        batch.delete(&Store::own(), RESTORES, &target);
        let table = job.descriptor_in(batch, &target)?;
        if unfinished && table.is_some_and(|table| table.state == State::Creating) {
            Store::forget(batch, &target);
        }
        Ok(())
    })
}

pub fn activate(store: &Arc<Store>, name: &str) -> Result<(), AwsError> {
    store.amend(name, |table| {
        table.state = State::Active;
        Ok(())
    })?;
    Ok(())
}

/// Puts many items into a table that nobody uses yet.
pub struct Filler<'a> {
    store: &'a Arc<Store>,
    table: &'a TableDescriptor,
    items: Vec<Item>,
}

impl<'a> Filler<'a> {
    pub fn new(store: &'a Arc<Store>, table: &'a TableDescriptor) -> Self {
        Self { store, table, items: Vec::new() }
    }

    pub fn put(&mut self, item: Item) -> Result<(), AwsError> {
        self.items.push(item);
        if self.items.len() < AT_A_TIME { Ok(()) } else { self.flush() }
    }

    pub fn flush(&mut self) -> Result<(), AwsError> {
        let (job, table, items) = (self.store.clone(), self.table.clone(), std::mem::take(&mut self.items));
        self.store.writer.write(move |batch| {
            for item in &items {
                let position = table.key.of_item(item)?;
                let (old, _) = current(batch, &table, &position)?;
                job.change(&table).apply(batch, &position, (old.as_ref(), false), Some(item))?;
            }
            Ok(())
        })
    }
}
