//! One item's change, and everything that has to change with it in the same commit: its places in indexes, the order of
//! expiry, the counts, and the history that a table is restored from.

use super::{
    fault::{internal, invalid},
    key::{HASH_BYTES_MAX, KeyPart, Position, RANGE_BYTES_MAX, index_sk, sortable},
    number::Number,
    rows::result_item,
    schema::{Counts, Index, TableDescriptor},
    value::{AttributeValue, ITEM_BYTES_MAX, Item, item_size, load, store},
    writer::Batch,
};
use crate::AwsError;
use kilter_core::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

/// The only partition of tables that are one ordered list.
pub const LIST: &str = "list";

/// Before a change, at its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    pub pk: String,
    pub sk: String,
    /// As it was kept; `None` where nothing was.
    pub item: Option<Vec<u8>>,
}

/// Times of changes, each later than the one before, in nanoseconds since the epoch.
#[derive(Debug, Default)]
pub struct Stamps(AtomicI64);

impl Stamps {
    /// No change that is made was made later.
    pub fn latest(&self, now: Timestamp) -> Timestamp {
        now.max(Timestamp::from_nanos(self.0.load(Ordering::Relaxed)))
    }

    fn next(&self, now: Timestamp) -> Timestamp {
        let next = |last: i64| Some(now.as_nanos().max(last.saturating_add(1)));
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        Timestamp::from_nanos(now.as_nanos().max(last.saturating_add(1)))
    }
}

/// The key of a change in the history.
pub fn stamp_key(time: Timestamp) -> String {
    format!("{:020}", time.as_nanos())
}

/// What is at a place now, and whether the pipeline has put it there.
pub fn current(
    batch: &Batch<'_>,
    table: &TableDescriptor,
    position: &Position,
) -> Result<(Option<Item>, bool), AwsError> {
    if let Some(rows) = table.rows()
        && let Some(json) = batch.get(&Arc::from(rows), &position.pk, &position.sk)?
    {
        return Ok((Some(result_item(position, &json)?), true));
    }
    let kept = batch.get(&table.items(), &position.pk, &position.sk)?;
    Ok((kept.map(|bytes| load(&bytes)).transpose()?, false))
}

/// Capacity units, by what they are spent on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spent {
    pub table: f64,
    pub indexes: Vec<(String, f64)>,
}

pub struct Change<'a> {
    pub table: &'a TableDescriptor,
    pub stamps: &'a Stamps,
    pub now: Timestamp,
}

impl Change<'_> {
    /// Puts (`Some`) or removes an item. `old` is what [`current`] has found there.
    pub fn apply(
        &self,
        batch: &mut Batch<'_>,
        position: &Position,
        old: (Option<&Item>, bool),
        new: Option<&Item>,
    ) -> Result<Spent, AwsError> {
        let (old, is_result) = old;
        if let Some(new) = new {
            if is_result {
                return Err(AwsError::new(
                    "AccessDeniedException",
                    format!(
                        "{} {} of {} is a result that Kilter has written: it can be deleted, not changed; put your own item under another key",
                        position.pk, position.sk, self.table.name
                    ),
                ));
            }
            if item_size(new) > ITEM_BYTES_MAX {
                return Err(invalid("Item size has exceeded the maximum allowed size"));
            }
            self.check_index_keys(new)?;
        }
        let kept = |item: Option<&Item>| item.map(store);
        let (before, after) = (kept(old), kept(new));
        if is_result {
            if old.is_some() {
                batch.delete(&Arc::from(self.table.name.as_str()), &position.pk, &position.sk);
            }
        } else {
            match &after {
                Some(bytes) => batch.put(&self.table.items(), &position.pk, &position.sk, bytes.clone()),
                None if old.is_some() => batch.delete(&self.table.items(), &position.pk, &position.sk),
                None => {}
            }
            self.count(batch, "", old, new)?;
        }
        let mut spent = Spent { table: write_units(old, new), indexes: Vec::new() };
        for index in self.table.indexes.iter().filter(|index| !index.deleting) {
            if self.index(batch, index, position, old, new)? {
                spent.indexes.push((index.name.clone(), write_units(old, new)));
            }
        }
        self.expiry(batch, position, old, new);
        if self.table.recovery.is_some() && before != after {
            let key = stamp_key(self.stamps.next(self.now));
            let entry = Before { pk: position.pk.clone(), sk: position.sk.clone(), item: before };
            let bytes = postcard::to_stdvec(&entry).map_err(internal)?;
            batch.put(&self.table.history(), LIST, &key, bytes);
        }
        Ok(spent)
    }

    fn check_index_keys(&self, item: &Item) -> Result<(), AwsError> {
        for index in &self.table.indexes {
            for (at, part) in index.key.parts().enumerate() {
                let Some(value) = item.get(&part.name) else { continue };
                if !part.matches(value) {
                    return Err(invalid(format!(
                        "One or more parameter values were invalid: Type mismatch for Index Key {} Expected: {} Actual: {} IndexName: {}",
                        part.name,
                        part.kind.name(),
                        value.kind(),
                        index.name
                    )));
                }
                let (most, which) = if at == 0 { (HASH_BYTES_MAX, "hashkey") } else { (RANGE_BYTES_MAX, "rangekey") };
                if value.size() > most {
                    return Err(invalid(format!(
                        "One or more parameter values were invalid: Size of {which} has exceeded the maximum size limit of{most} bytes IndexName: {}",
                        index.name
                    )));
                }
                if value.size() == 0 {
                    return Err(invalid(format!(
                        "One or more parameter values are not valid. A value specified for a secondary index key is not supported. The AttributeValue for a key attribute cannot contain an empty string value. IndexName: {}, IndexKey: {}",
                        index.name, part.name
                    )));
                }
            }
        }
        Ok(())
    }

    fn count(
        &self,
        batch: &mut Batch<'_>,
        which: &str,
        old: Option<&Item>,
        new: Option<&Item>,
    ) -> Result<(), AwsError> {
        let name = self.table.counts();
        let counts = batch.get(&name, LIST, which)?.map(|bytes| postcard::from_bytes(&bytes)).transpose();
        let mut counts: Counts = counts.map_err(internal)?.unwrap_or_default();
        let size = |item: Option<&Item>| item.map_or(0, item_size) as u64;
        counts.items = counts.items.saturating_add(u64::from(new.is_some())).saturating_sub(u64::from(old.is_some()));
        counts.bytes = counts.bytes.saturating_add(size(new)).saturating_sub(size(old));
        batch.put(&name, LIST, which, postcard::to_stdvec(&counts).map_err(internal)?);
        Ok(())
    }

    /// Whether the index had to change.
    pub fn index(
        &self,
        batch: &mut Batch<'_>,
        index: &Index,
        position: &Position,
        old: Option<&Item>,
        new: Option<&Item>,
    ) -> Result<bool, AwsError> {
        let place = |item: Option<&Item>| item.and_then(|item| index_place(self.table, index, position, item));
        let (before, after) = (place(old), place(new));
        if before == after {
            return Ok(false);
        }
        let name = self.table.index_items(&index.name);
        if let Some((there, _)) = &before {
            batch.delete(&name, &there.pk, &there.sk);
        }
        if let Some((there, projected)) = &after {
            batch.put(&name, &there.pk, &there.sk, store(projected));
        }
        let projected = |place: Option<&(Position, Item)>| place.map(|(_, item)| item.clone());
        let (before, after) = (projected(before.as_ref()), projected(after.as_ref()));
        self.count(batch, &index.name, before.as_ref(), after.as_ref())?;
        Ok(true)
    }

    pub fn expiry(&self, batch: &mut Batch<'_>, position: &Position, old: Option<&Item>, new: Option<&Item>) {
        let Some(ttl) = &self.table.ttl else { return };
        let key = |item: Option<&Item>| item.and_then(|item| expiry_key(&ttl.attribute, position, item));
        let (before, after) = (key(old), key(new));
        if before == after {
            return;
        }
        let name = self.table.expiry();
        if let Some(before) = before {
            batch.delete(&name, LIST, &before);
        }
        if let Some(after) = after {
            let place = postcard::to_stdvec(&(&position.pk, &position.sk)).expect("two texts always serialise");
            batch.put(&name, LIST, &after, place);
        }
    }
}

/// Where an item is in an index, and what is kept of it there; `None` where it lacks a key of the index, or has one that
/// cannot be one (items that were there before the index).
pub fn index_place(
    table: &TableDescriptor,
    index: &Index,
    position: &Position,
    item: &Item,
) -> Option<(Position, Item)> {
    let value = |name: &str| item.get(name);
    let key = |part: &KeyPart, most: usize| {
        value(&part.name).filter(|value| part.matches(value) && (1..=most).contains(&value.size()))
    };
    let hash = key(&index.key.hash, HASH_BYTES_MAX)?;
    let range = match &index.key.range {
        Some(range) => Some(key(range, RANGE_BYTES_MAX)?),
        None => None,
    };
    let place = Position { pk: sortable(hash), sk: index_sk(range, position) };
    let projected = match index.attributes(&table.key) {
        None => item.clone(),
        Some(names) => names.iter().filter_map(|name| Some(((*name).to_owned(), value(name)?.clone()))).collect(),
    };
    Some((place, projected))
}

/// When an item expires, in seconds since the epoch; `None` where its attribute is no number.
pub fn expires(attribute: &str, item: &Item) -> Option<Number> {
    match item.get(attribute)? {
        AttributeValue::N(seconds) => Some(*seconds),
        _ => None,
    }
}

fn expiry_key(attribute: &str, position: &Position, item: &Item) -> Option<String> {
    expires(attribute, item)?;
    Some(index_sk(item.get(attribute), position))
}

/// One for every 1 KB begun of the larger of both.
fn write_units(old: Option<&Item>, new: Option<&Item>) -> f64 {
    let size = |item: Option<&Item>| item.map_or(0, item_size);
    size(old).max(size(new)).div_ceil(1024).max(1) as f64
}
