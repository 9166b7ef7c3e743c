//! Consumed capacity, as requests ask to be told.

use super::{change::Spent, request::choice};
use crate::AwsError;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    None,
    Total,
    Indexes,
}

impl Wanted {
    pub fn read(given: Option<&str>) -> Result<Self, AwsError> {
        let given = choice(given, "NONE", "returnConsumedCapacity", &["INDEXES", "TOTAL", "NONE"])?;
        Ok(match given {
            "TOTAL" => Self::Total,
            "INDEXES" => Self::Indexes,
            _ => Self::None,
        })
    }

    pub fn describe(self, table: &str, spent: &Spent, local: impl Fn(&str) -> bool) -> Option<Json> {
        if self == Self::None {
            return None;
        }
        let total = spent.table + spent.indexes.iter().map(|(_, units)| units).sum::<f64>();
        let mut described = json!({ "TableName": table, "CapacityUnits": total });
        if self == Self::Indexes {
            described["Table"] = json!({ "CapacityUnits": spent.table });
            for (index, units) in &spent.indexes {
                let kind = if local(index) { "LocalSecondaryIndexes" } else { "GlobalSecondaryIndexes" };
                described[kind][index] = json!({ "CapacityUnits": units });
            }
        }
        Some(described)
    }

    /// Of several tables.
    pub fn describe_all(self, spent: &BTreeMap<String, Spent>) -> Option<Json> {
        let all: Vec<Json> = spent.iter().filter_map(|(table, spent)| self.describe(table, spent, |_| false)).collect();
        (self != Self::None).then_some(Json::Array(all))
    }
}

/// One for every 4 KB begun, half of that where an older state would have done.
pub fn read_units(bytes: usize, consistent: bool) -> f64 {
    let units = bytes.div_ceil(4096).max(1) as f64;
    if consistent { units } else { units / 2.0 }
}

/// An answer with the members that are there.
pub fn answer<const N: usize>(members: [(&str, Option<Json>); N]) -> Json {
    let there = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Json::Object(there.collect::<Map<String, Json>>())
}

impl Spent {
    pub fn add(&mut self, other: Self) {
        self.table += other.table;
        for (index, units) in other.indexes {
            match self.indexes.iter_mut().find(|(known, _)| *known == index) {
                Some((_, sum)) => *sum += units,
                None => self.indexes.push((index, units)),
            }
        }
    }

    /// Transactions cost twice as much.
    pub fn twice(mut self) -> Self {
        self.table *= 2.0;
        self.indexes.iter_mut().for_each(|(_, units)| *units *= 2.0);
        self
    }
}
