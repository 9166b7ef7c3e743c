//! When certificates were last used. In memory, because devices come and go far more often than the registry
//! changes; written down now and then, so that a crash costs the last minute of it.

use kilter_core::{
    CertificateId, Timestamp,
    ports::table::{Table, TableError, Write},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

const TABLE: &str = "certificate-use";
const PARTITION: &str = "last";
/// Items read at a time.
const LOAD_ITEMS: usize = 1_000;

/// Holds registered certificates only: as many as the registry has.
pub struct Uses(Mutex<Known>);

#[derive(Default)]
struct Known {
    last: HashMap<CertificateId, Timestamp>,
    unwritten: HashSet<CertificateId>,
}

impl Uses {
    pub fn open(table: &dyn Table) -> Result<Self, TableError> {
        let mut last = HashMap::new();
        let mut after: Option<String> = None;
        loop {
            let from = after.as_deref().map(|sk| (PARTITION, sk));
            let items = table.scan(TABLE, from, LOAD_ITEMS)?;
            let read = items.iter().filter_map(|item| {
                let time = std::str::from_utf8(&item.value).ok().and_then(Timestamp::parse_rfc3339)?;
                Some((CertificateId::new(&item.sk).ok()?, time))
            });
            last.extend(read);
            match items.last() {
                Some(item) if items.len() == LOAD_ITEMS => after = Some(item.sk.clone()),
                _ => break,
            }
        }
        Ok(Self(Mutex::new(Known { last, unwritten: HashSet::new() })))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("no holder of the uses' lock panics")
    }

    pub fn last(&self, certificate: &CertificateId) -> Option<Timestamp> {
        self.known().last.get(certificate).copied()
    }

    pub fn saw(&self, certificate: &CertificateId, now: Timestamp) {
        let mut known = self.known();
        known.last.insert(certificate.clone(), now);
        known.unwritten.insert(certificate.clone());
    }

    /// Writes down what is new, and forgets certificates that are gone. Blocking.
    pub fn write(&self, table: &dyn Table, exists: impl Fn(&CertificateId) -> bool) -> Result<(), TableError> {
        let name: Arc<str> = TABLE.into();
        let mut writes = Vec::new();
        let mut known = self.known();
        for id in std::mem::take(&mut known.unwritten) {
            if let Some(time) = known.last.get(&id) {
                writes.push(Write::put(&name, PARTITION, id.as_str(), time.to_string().into_bytes()));
            }
        }
        known.last.retain(|id, _| {
            let there = exists(id);
            if !there {
                writes.push(Write::delete(&name, PARTITION, id.as_str()));
            }
            there
        });
        drop(known);
        if writes.is_empty() { Ok(()) } else { table.commit(writes) }
    }
}
