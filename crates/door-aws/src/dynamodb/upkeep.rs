//! The long work, done by one thread that goes on after a restart where it has stopped: tables and indexes are removed
//! and filled, items expire, history is trimmed, exports, imports and restores are carried out.

use super::{
    change::{LIST, current, expires, index_place, stamp_key},
    export, import,
    key::{Position, index_prefix},
    number::Number,
    recovery,
    rows::{Row, Source, each_page},
    schema::{State, TableDescriptor},
    store::Store,
    transact::{TOKEN_SECONDS, TOKENS, Token},
    value::AttributeValue,
};
use crate::{AwsError, dynamodb::fault::internal};
use kilter_core::{NANOS_PER_SECOND, ports::table::SkRange};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long an expired item or an old change may stay at most, beside the time that the work itself takes.
const INTERVAL: Duration = Duration::from_secs(5);
/// Items that one commit changes: short enough not to keep requests waiting.
const ITEMS_AT_A_TIME: usize = 64;
/// What expired longer ago stays, as the service has it: such a time is a mistake.
const EXPIRED_SECONDS_MAX: i64 = 5 * 365 * 86_400;

/// Runs until it is told to stop.
pub fn run(store: &Arc<Store>, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        if let Err(error) = round(store) {
            tracing::error!(%error, "dynamodb: upkeep failed, it is tried again");
        }
        store.wake.wait(INTERVAL);
    }
}

/// Does what there is to do.
pub fn round(store: &Arc<Store>) -> Result<(), AwsError> {
    for table in store.descriptors()? {
        match table.state {
            State::Deleting => remove_table(store, &table)?,
            State::Creating => {}
            State::Active => keep_up(store, &table)?,
        }
    }
    forget_tokens(store)?;
    recovery::carry_out_restores(store)?;
    export::carry_out(store)?;
    import::carry_out(store)
}

/// Everything of a table but its descriptor.
pub fn drop_contents(store: &Store, table: &TableDescriptor) -> Result<(), AwsError> {
    for index in &table.indexes {
        store.table.drop_table(&table.index_items(&index.name))?;
    }
    for name in [table.items(), table.expiry(), table.history(), table.counts()] {
        store.table.drop_table(&name)?;
    }
    Ok(())
}

fn remove_table(store: &Arc<Store>, table: &TableDescriptor) -> Result<(), AwsError> {
    drop_contents(store, table)?;
    let name = table.name.clone();
    tracing::info!(table = %name, "dynamodb: table deleted");
    store.writer.write(move |batch| {
        Store::forget(batch, &name);
        Ok(())
    })
}

fn keep_up(store: &Arc<Store>, table: &TableDescriptor) -> Result<(), AwsError> {
    for index in table.indexes.iter().filter(|index| index.deleting) {
        let name = index.name.clone();
        store.table.drop_table(&table.index_items(&name))?;
        store.amend(&table.name, move |table| {
            table.indexes.retain(|index| index.name != name);
            let keys: Vec<_> = table.indexes.iter().map(|index| &index.key).chain([&table.key]).cloned().collect();
            table.attributes.retain(|part| keys.iter().any(|key| key.has(&part.name)));
            Ok(())
        })?;
    }
    for index in table.indexes.iter().filter(|index| !index.filled && !index.deleting) {
        fill(store, table, Some(index.name.clone()))?;
        let name = index.name.clone();
        store.amend(&table.name, move |table| {
            table.indexes.iter_mut().filter(|index| index.name == name).for_each(|index| index.filled = true);
            Ok(())
        })?;
    }
    match &table.ttl {
        Some(ttl) if !ttl.filled => {
            fill(store, table, None)?;
            store.amend(&table.name, |table| {
                table.ttl.iter_mut().for_each(|ttl| ttl.filled = true);
                Ok(())
            })?;
        }
        Some(_) => expire(store, table)?,
        None => drop(store.table.drop_table(&table.expiry())?),
    }
    trim_history(store, table)
}

/// Brings the items that were there before into an index (`Some`) or into the order of expiry.
fn fill(store: &Arc<Store>, table: &TableDescriptor, index: Option<String>) -> Result<(), AwsError> {
    // Rows of the pipeline are in neither.
    let own = TableDescriptor { results: false, ..table.clone() };
    let source = Source::of_table(&*store.table, &own);
    each_page(
        |after| source.scan(after, ITEMS_AT_A_TIME),
        |rows| {
            let places: Vec<Position> = rows.iter().map(|row: &Row| row.position.clone()).collect();
            let (job, name, index) = (store.clone(), table.name.clone(), index.clone());
            store.writer.write(move |batch| {
                let table = job.usable_in(batch, &name)?;
                let change = job.change(&table);
                for place in &places {
                    let (Some(item), false) = current(batch, &table, place)? else { continue };
                    let Some(index) = &index else {
                        change.expiry(batch, place, None, Some(&item));
                        continue;
                    };
                    let Some(index) = table.index(index) else { return Ok(()) };
                    // What was written since the index is there is in it already, and counted.
                    let there = index_place(&table, index, place, &item).map(|(there, _)| there);
                    let known = match &there {
                        Some(there) => batch.get(&table.index_items(&index.name), &there.pk, &there.sk)?.is_some(),
                        None => true,
                    };
                    if !known {
                        change.index(batch, index, place, None, Some(&item))?;
                    }
                }
                Ok(())
            })
        },
    )
}

fn expire(store: &Arc<Store>, table: &TableDescriptor) -> Result<(), AwsError> {
    let Some(ttl) = &table.ttl else { return Ok(()) };
    let now = store.clock.now().as_nanos() / NANOS_PER_SECOND;
    let at = |seconds: i64| index_prefix(Some(&AttributeValue::N(Number::from(seconds.max(0) as u64))));
    let (from, to) = (at(now - EXPIRED_SECONDS_MAX), format!("{}g", at(now)));
    loop {
        let range = SkRange { from: &from, to: Some(&to), descending: false };
        let due = store.table.range(&table.expiry(), LIST, range, ITEMS_AT_A_TIME)?;
        if due.is_empty() {
            return Ok(());
        }
        let (job, name, attribute) = (store.clone(), table.name.clone(), ttl.attribute.clone());
        let expired = store.writer.write(move |batch| {
            let table = job.usable_in(batch, &name)?;
            let mut expired = 0u64;
            for entry in &due {
                let (pk, sk) = postcard::from_bytes(&entry.value).map_err(internal)?;
                let place = Position { pk, sk };
                let (old, is_result) = current(batch, &table, &place)?;
                batch.delete(&table.expiry(), LIST, &entry.sk);
                let time = old.as_ref().and_then(|item| expires(&attribute, item)?.as_i64());
                if !is_result && time.is_some_and(|time| time <= now) {
                    job.change(&table).apply(batch, &place, (old.as_ref(), false), None)?;
                    expired += 1;
                }
            }
            Ok(expired)
        })?;
        metrics::counter!("kilter_dynamodb_expired_items_total").increment(expired);
    }
}

fn trim_history(store: &Arc<Store>, table: &TableDescriptor) -> Result<(), AwsError> {
    let Some(recovery) = &table.recovery else {
        store.table.drop_table(&table.history())?;
        return Ok(());
    };
    let to = stamp_key(recovery.earliest(store.clock.now()));
    loop {
        let range = SkRange { from: "", to: Some(&to), descending: false };
        let old = store.table.range(&table.history(), LIST, range, ITEMS_AT_A_TIME)?;
        if old.is_empty() {
            return Ok(());
        }
        let history = table.history();
        store.writer.write(move |batch| {
            old.iter().for_each(|entry| batch.delete(&history, LIST, &entry.sk));
            Ok(())
        })?;
    }
}

fn forget_tokens(store: &Arc<Store>) -> Result<(), AwsError> {
    let now = store.clock.now();
    let mut from = String::new();
    loop {
        let range = SkRange { from: &from, to: None, descending: false };
        let page = store.table.range(&Store::own(), TOKENS, range, ITEMS_AT_A_TIME)?;
        let Some(last) = page.last() else { return Ok(()) };
        from = format!("{}\0", last.sk);
        let old = |value: &[u8]| {
            serde_json::from_slice(value).is_ok_and(|token: Token| token.time.plus_seconds(TOKEN_SECONDS) <= now)
        };
        let gone: Vec<String> = page.into_iter().filter(|item| old(&item.value)).map(|item| item.sk).collect();
        if !gone.is_empty() {
            store.writer.write(move |batch| {
                gone.iter().for_each(|token| batch.delete(&Store::own(), TOKENS, token));
                Ok(())
            })?;
        }
    }
}
