//! What every operation works on: the tables that there are, and the writer.

use super::{
    change::{Change, LIST, Stamps},
    fault::{internal, no_table},
    key::{KeyPart, KeySchema, KeyType},
    schema::{Billing, Counts, State, TableDescriptor},
    writer::{Batch, Writer},
};
use crate::AwsError;
use kilter_core::{
    Timestamp,
    ports::{
        clock::Clock,
        objects::Objects,
        table::{SkRange, Table},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

/// The service's own table in the port.
const OWN: &str = "dynamodb";
const TABLES: &str = "tables";
/// Descriptors read at a time.
const PAGE_ITEMS: usize = 500;

/// The tables that the pipeline keeps for its tenants; whether one exists is said there, not here.
pub trait ResultTables: Send + Sync {
    /// Whether a table of this name, whether it exists or not, is a tenant's results table.
    fn is_result_table(&self, name: &str) -> bool;
    /// Those that exist, with the time since when.
    fn tables(&self) -> Vec<(String, Timestamp)>;
    /// From now on the tenant's results are kept there.
    fn create(&self, name: &str) -> Result<(), String>;
    /// From now on they are not, and those that were are gone.
    fn delete(&self, name: &str) -> Result<(), String>;
}

pub struct Store {
    pub table: Arc<dyn Table>,
    pub writer: Writer,
    pub clock: Arc<dyn Clock>,
    pub stamps: Stamps,
    pub results: Arc<dyn ResultTables>,
    pub objects: Arc<dyn Objects>,
    pub wake: Wake,
}

/// Says to the thread that does the long work that there is some.
#[derive(Default)]
pub struct Wake(Mutex<bool>, Condvar);

impl Wake {
    pub fn wake(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_all();
    }

    /// Until somebody wakes it, at most so long.
    pub fn wait(&self, most: Duration) {
        let woken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.1.wait_timeout_while(woken, most, |woken| !*woken);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, AwsError> {
    serde_json::from_slice(bytes)
        .map_err(|error| internal(format!("what is known of a table cannot be read ({error})")))
}

/// A results table as the pipeline makes it, where nobody has made one here.
fn result_table(name: &str, created: Timestamp) -> TableDescriptor {
    let part = |name: &str| KeyPart { name: name.to_owned(), kind: KeyType::S };
    TableDescriptor {
        name: name.to_owned(),
        id: stable_id(name),
        created,
        key: KeySchema { hash: part("pk"), range: Some(part("sk")) },
        attributes: vec![part("pk"), part("sk")],
        billing: Billing::OnDemand,
        indexes: Vec::new(),
        state: State::Active,
        ttl: None,
        tags: Default::default(),
        recovery: None,
        deletion_protected: false,
        class: None,
        restored: None,
        results: true,
    }
}

/// A UUID that is always the same for a name.
fn stable_id(name: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    uuid_text(&super::key::hex(&hash.as_ref()[..16]))
}

pub fn uuid_text(hex: &str) -> String {
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

/// A random UUID.
pub fn new_id() -> Result<String, AwsError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| internal("the machine has no randomness"))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(uuid_text(&super::key::hex(&bytes)))
}

impl Store {
    pub fn own() -> Arc<str> {
        OWN.into()
    }

    fn complete(&self, name: &str, kept: Option<Vec<u8>>) -> Result<Option<TableDescriptor>, AwsError> {
        let kept: Option<TableDescriptor> = kept.map(|bytes| parse(&bytes)).transpose()?;
        if !self.results.is_result_table(name) {
            return Ok(kept);
        }
        let there = self.results.tables().into_iter().find(|(table, _)| table == name);
        Ok(match (there, kept) {
            (Some(_), Some(kept)) => Some(kept),
            (Some((_, since)), None) => Some(result_table(name, since)),
            // Its removal is not finished; otherwise the tenant has gone, and the table with it.
            (None, kept) => kept.filter(|table| table.state != State::Active),
        })
    }

    pub fn descriptor(&self, name: &str) -> Result<Option<TableDescriptor>, AwsError> {
        self.complete(name, self.table.get(OWN, TABLES, name)?)
    }

    pub fn descriptor_in(&self, batch: &Batch<'_>, name: &str) -> Result<Option<TableDescriptor>, AwsError> {
        self.complete(name, batch.get(&Self::own(), TABLES, name)?)
    }

    /// For operations on items.
    pub fn usable(&self, name: &str) -> Result<TableDescriptor, AwsError> {
        self.descriptor(name)?.filter(|table| table.state == State::Active).ok_or_else(no_table)
    }

    pub fn usable_in(&self, batch: &Batch<'_>, name: &str) -> Result<TableDescriptor, AwsError> {
        self.descriptor_in(batch, name)?.filter(|table| table.state == State::Active).ok_or_else(no_table)
    }

    pub fn keep(batch: &mut Batch<'_>, table: &TableDescriptor) -> Result<(), AwsError> {
        batch.put(&Self::own(), TABLES, &table.name, serde_json::to_vec(table).map_err(internal)?);
        Ok(())
    }

    pub fn forget(batch: &mut Batch<'_>, name: &str) {
        batch.delete(&Self::own(), TABLES, name);
    }

    /// Changes a table's descriptor as it is when the change is made.
    pub fn amend(
        self: &Arc<Self>,
        name: &str,
        change: impl FnOnce(&mut TableDescriptor) -> Result<(), AwsError> + Send + 'static,
    ) -> Result<TableDescriptor, AwsError> {
        let (store, name) = (self.clone(), name.to_owned());
        self.writer.write(move |batch| {
            let found = store.descriptor_in(batch, &name)?;
            let mut table = found.ok_or_else(|| super::fault::table_not_found(&name))?;
            change(&mut table)?;
            Self::keep(batch, &table)?;
            Ok(table)
        })
    }

    /// Names of all tables, sorted.
    pub fn names(&self) -> Result<Vec<String>, AwsError> {
        let mut names: BTreeSet<String> = self.results.tables().into_iter().map(|(name, _)| name).collect();
        for table in self.descriptors()? {
            names.insert(table.name);
        }
        Ok(names.into_iter().collect())
    }

    /// All that were made here, whatever their state.
    pub fn descriptors(&self) -> Result<Vec<TableDescriptor>, AwsError> {
        let mut all = Vec::new();
        for (name, bytes) in self.documents::<Vec<u8>>(TABLES, Ok)? {
            all.extend(self.complete(&name, Some(bytes))?);
        }
        Ok(all)
    }

    fn documents<T>(
        &self,
        kind: &str,
        read: impl Fn(Vec<u8>) -> Result<T, AwsError>,
    ) -> Result<Vec<(String, T)>, AwsError> {
        let mut all = Vec::new();
        let mut from = String::new();
        loop {
            let range = SkRange { from: &from, to: None, descending: false };
            let page = self.table.range(OWN, kind, range, PAGE_ITEMS)?;
            let Some(last) = page.last() else { return Ok(all) };
            from = format!("{}\0", last.sk);
            for item in page {
                all.push((item.sk, read(item.value)?));
            }
        }
    }

    /// Documents of another kind than descriptors: exports, imports.
    pub fn all<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>, AwsError> {
        Ok(self.documents(kind, |bytes| parse(&bytes))?.into_iter().map(|(_, document)| document).collect())
    }

    pub fn document<T: DeserializeOwned>(&self, kind: &str, name: &str) -> Result<Option<T>, AwsError> {
        self.table.get(OWN, kind, name)?.map(|bytes| parse(&bytes)).transpose()
    }

    pub fn keep_document<T: Serialize>(&self, kind: &'static str, name: &str, document: &T) -> Result<(), AwsError> {
        let (name, bytes) = (name.to_owned(), serde_json::to_vec(document).map_err(internal)?);
        self.writer.write(move |batch| {
            batch.put(&Self::own(), kind, &name, bytes);
            Ok(())
        })
    }

    pub fn change<'a>(&'a self, table: &'a TableDescriptor) -> Change<'a> {
        Change { table, stamps: &self.stamps, now: self.clock.now() }
    }

    /// Of the table, then of its indexes.
    pub fn counts(&self, table: &TableDescriptor) -> Result<Vec<Counts>, AwsError> {
        let name = table.counts();
        let of = |which: &str| -> Result<Counts, AwsError> {
            let kept = self.table.get(&name, LIST, which)?;
            Ok(kept.map(|bytes| postcard::from_bytes(&bytes)).transpose().map_err(internal)?.unwrap_or_default())
        };
        std::iter::once("").chain(table.indexes.iter().map(|index| index.name.as_str())).map(of).collect()
    }
}
