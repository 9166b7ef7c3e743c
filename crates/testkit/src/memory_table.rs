//! The port `Table` in memory.

use kilter_core::ports::table::{Condition, Item, SkRange, Table, TableError, TableErrorKind, Write};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

type Items = BTreeMap<(String, String, String), Vec<u8>>;

#[derive(Debug, Default)]
pub struct MemoryTable(Mutex<Items>);

impl MemoryTable {
    /// Longest table name, pk or sk in bytes: DynamoDB's longest partition key, in hexadecimal.
    pub const KEY_BYTES_MAX: usize = 4096;
    /// Largest value in bytes.
    pub const VALUE_BYTES_MAX: usize = 16 << 20;

    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Items> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(table: &str, pk: &str, sk: &str) -> (String, String, String) {
    (table.to_owned(), pk.to_owned(), sk.to_owned())
}

fn item(((_, pk, sk), value): (&(String, String, String), &Vec<u8>)) -> Item {
    Item { pk: pk.clone(), sk: sk.clone(), value: value.clone() }
}

impl Table for MemoryTable {
    fn get(&self, table: &str, pk: &str, sk: &str) -> Result<Option<Vec<u8>>, TableError> {
        Ok(self.lock().get(&key(table, pk, sk)).cloned())
    }

    fn commit(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let mut items = self.lock();
        for write in &writes {
            let longest = [write.table.len(), write.pk.len(), write.sk.len()].into_iter().max();
            if longest > Some(Self::KEY_BYTES_MAX)
                || write.value.as_ref().is_some_and(|value| value.len() > Self::VALUE_BYTES_MAX)
            {
                return Err(TableError::new(TableErrorKind::TooLarge, "commit", "a key or value is too large"));
            }
            let present = items.contains_key(&key(&write.table, &write.pk, &write.sk));
            if write.condition != Condition::Always && present != (write.condition == Condition::Present) {
                let message = format!("item {} / {}: present is {present}", write.pk, write.sk);
                return Err(TableError::new(TableErrorKind::ConditionFailed, "commit", message));
            }
        }
        for write in writes {
            let key = key(&write.table, &write.pk, &write.sk);
            match write.value {
                Some(value) => items.insert(key, value),
                None => items.remove(&key),
            };
        }
        Ok(())
    }

    fn range(&self, table: &str, pk: &str, range: SkRange<'_>, limit: usize) -> Result<Vec<Item>, TableError> {
        let items = self.lock();
        let inside = |(key, _): &(&(String, String, String), &Vec<u8>)| {
            key.0 == table && key.1 == pk && *key.2 >= *range.from && range.to.is_none_or(|to| &*key.2 < to)
        };
        let found = items.iter().filter(inside);
        Ok(match range.descending {
            true => found.rev().take(limit).map(item).collect(),
            false => found.take(limit).map(item).collect(),
        })
    }

    fn scan(&self, table: &str, after: Option<(&str, &str)>, limit: usize) -> Result<Vec<Item>, TableError> {
        let items = self.lock();
        let inside = |(key, _): &(&(String, String, String), &Vec<u8>)| {
            key.0 == table && after.is_none_or(|after| (&*key.1, &*key.2) > after)
        };
        Ok(items.iter().filter(inside).take(limit).map(item).collect())
    }

    fn drop_table(&self, table: &str) -> Result<u64, TableError> {
        let mut items = self.lock();
        let before = items.len();
        items.retain(|key, _| key.0 != table);
        Ok((before - items.len()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Subject, check};
    use std::sync::Arc;

    struct Memory;

    impl Subject for Memory {
        fn fresh(&mut self) -> Arc<dyn Table> {
            Arc::new(MemoryTable::new())
        }
        fn reopen(&mut self, table: Arc<dyn Table>) -> Arc<dyn Table> {
            table
        }
        fn key_bytes_max(&self) -> usize {
            MemoryTable::KEY_BYTES_MAX
        }
        fn value_bytes_max(&self) -> usize {
            MemoryTable::VALUE_BYTES_MAX
        }
    }

    #[test]
    fn keeps_the_contract() {
        check(&mut Memory);
    }
}
