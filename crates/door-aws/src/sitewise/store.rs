//! What is kept: models, assets, aliases and values, through the port `Table`.

use super::{
    fault::{internal, not_found, of_table},
    model::{Asset, Model},
};
use crate::AwsError;
use kilter_core::{
    Timestamp,
    ports::{
        clock::Clock,
        table::{SkRange, Table, Write},
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::{Arc, Mutex};

const OWN: &str = "sitewise";
/// Values of properties: a partition each, by time.
const VALUES: &str = "sitewise/values";
pub const MODELS: &str = "models";
pub const ASSETS: &str = "assets";
/// From a property's alias to its asset and id.
const ALIASES: &str = "aliases";
const PAGE_ITEMS: usize = 500;

pub struct Store {
    pub table: Arc<dyn Table>,
    pub clock: Arc<dyn Clock>,
    /// Held while models and assets change.
    pub changes: Mutex<()>,
}

/// A value with its time and how good it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub time: Timestamp,
    pub value: Kept,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub variant: Variant,
    pub quality: Quality,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Variant {
    Text(String),
    Integer(i64),
    Double(f64),
    Boolean(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quality {
    Good,
    Bad,
    Uncertain,
}

impl Variant {
    /// For expressions; text has none.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Text(_) => None,
            Self::Integer(number) => Some(*number as f64),
            Self::Double(number) => Some(*number),
            Self::Boolean(truth) => Some(f64::from(u8::from(*truth))),
        }
    }
}

pub fn partition(asset: &str, property: &str) -> String {
    format!("{asset}/{property}")
}

/// Sorts as the times do, those before 1970 too.
pub fn time_key(time: Timestamp) -> String {
    format!("{:020}", i128::from(time.as_nanos()) - i128::from(i64::MIN))
}

fn time_of(key: &str) -> Option<Timestamp> {
    let shifted: i128 = key.parse().ok()?;
    i64::try_from(shifted + i128::from(i64::MIN)).ok().map(Timestamp::from_nanos)
}

impl Store {
    fn own() -> Arc<str> {
        OWN.into()
    }

    fn get<T: DeserializeOwned>(&self, kind: &str, id: &str) -> Result<Option<T>, AwsError> {
        let kept = self.table.get(OWN, kind, id).map_err(of_table)?;
        kept.map(|bytes| serde_json::from_slice(&bytes).map_err(internal)).transpose()
    }

    pub fn all<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>, AwsError> {
        let (mut all, mut from) = (Vec::new(), String::new());
        loop {
            let range = SkRange { from: &from, to: None, descending: false };
            let page = self.table.range(OWN, kind, range, PAGE_ITEMS).map_err(of_table)?;
            let Some(last) = page.last() else { return Ok(all) };
            from = format!("{}\0", last.sk);
            for item in &page {
                all.push(serde_json::from_slice(&item.value).map_err(internal)?);
            }
        }
    }

    pub fn model(&self, id: &str) -> Result<Model, AwsError> {
        self.get(MODELS, id)?.ok_or_else(|| not_found("Asset model", id))
    }

    pub fn asset(&self, id: &str) -> Result<Asset, AwsError> {
        self.get(ASSETS, id)?.ok_or_else(|| not_found("Asset", id))
    }

    pub fn alias(&self, alias: &str) -> Result<Option<(String, String)>, AwsError> {
        self.get(ALIASES, alias)
    }

    pub fn write<T: Serialize>(kind: &str, id: &str, document: Option<&T>) -> Result<Write, AwsError> {
        Ok(match document {
            Some(document) => Write::put(&Self::own(), kind, id, serde_json::to_vec(document).map_err(internal)?),
            None => Write::delete(&Self::own(), kind, id),
        })
    }

    /// An asset as it shall be, with the aliases that it gains and loses. `None`: it goes.
    pub fn asset_writes(before: Option<&Asset>, after: Option<&Asset>) -> Result<Vec<Write>, AwsError> {
        let id = before.or(after).map(|asset| asset.id.as_str()).unwrap_or_default();
        let mut writes = vec![Self::write(ASSETS, id, after)?];
        for alias in before.iter().flat_map(|asset| asset.aliases.values()) {
            writes.push(Self::write::<()>(ALIASES, alias, None)?);
        }
        for (property, alias) in after.iter().flat_map(|asset| &asset.aliases) {
            writes.push(Self::write(ALIASES, alias, Some(&(id, property)))?);
        }
        Ok(writes)
    }

    pub fn commit(&self, writes: Vec<Write>) -> Result<(), AwsError> {
        self.table.commit(writes).map_err(of_table)
    }

    pub fn value_write(partition: &str, time: Timestamp, kept: &Kept) -> Result<Write, AwsError> {
        let bytes = postcard::to_stdvec(kept).map_err(internal)?;
        Ok(Write::put(&VALUES.into(), partition, time_key(time), bytes))
    }

    /// Values of one property with `from <= time < to`, at most `limit`.
    pub fn values(
        &self,
        partition: &str,
        (from, to): (Timestamp, Option<Timestamp>),
        descending: bool,
        limit: usize,
    ) -> Result<Vec<Point>, AwsError> {
        let (from, to) = (time_key(from), to.map(time_key));
        let range = SkRange { from: &from, to: to.as_deref(), descending };
        let items = self.table.range(VALUES, partition, range, limit).map_err(of_table)?;
        let point = |item: kilter_core::ports::table::Item| {
            let time = time_of(&item.sk).ok_or_else(|| internal("a value's time cannot be read"))?;
            Ok(Point { time, value: postcard::from_bytes(&item.value).map_err(internal)? })
        };
        items.into_iter().map(point).collect()
    }

    /// Removes all values of a property.
    pub fn drop_values(&self, partition: &str) -> Result<(), AwsError> {
        loop {
            let page = self.table.range(VALUES, partition, SkRange::ALL, PAGE_ITEMS).map_err(of_table)?;
            if page.is_empty() {
                return Ok(());
            }
            let name: Arc<str> = VALUES.into();
            self.commit(page.into_iter().map(|item| Write::delete(&name, item.pk, item.sk)).collect())?;
        }
    }
}
