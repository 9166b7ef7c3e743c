//! The registry: tenants, things, certificates, policies and rules. Kept in a table, read from memory; a change is
//! durable before it is visible, and visible to the next question asked.

use crate::{
    policy::{Policy, PolicyError},
    rules::{Rule, RuleError},
};
use kilter_core::{
    AlertBudget, CertificateId, CertificateStatus, StreamName, TenantId, ThingName, Timestamp,
    ports::table::{Item, Table, TableError, Write},
    topics,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

const TABLE: &str = "registry";
/// Items read at a time while loading.
const LOAD_ITEMS: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    pub tenant: TenantId,
    pub created: Timestamp,
    pub budget: AlertBudget,
    pub shards: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thing {
    pub thing: ThingName,
    pub tenant: TenantId,
    pub created: Timestamp,
    pub certificates: Vec<CertificateId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    pub id: CertificateId,
    pub status: CertificateStatus,
    pub created: Timestamp,
    pub not_after: Timestamp,
    pub things: Vec<ThingName>,
    pub policies: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyDocument {
    pub name: String,
    pub document: serde_json::Value,
}

/// One change; several are made together or not at all.
#[derive(Debug, Clone)]
pub enum Change {
    Tenant(Tenant),
    Thing(Thing),
    Certificate(Certificate),
    Policy(PolicyDocument),
    Rule(Rule),
    RemoveTenant(TenantId),
    RemoveThing(ThingName),
    RemoveCertificate(CertificateId),
    RemovePolicy(String),
    RemoveRule(String),
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    #[error("the registry could not be read or written")]
    Table(#[from] TableError),
    #[error("the registry's {kind} {name:?} cannot be read ({why}): restore the registry from a backup")]
    Damaged { kind: &'static str, name: String, why: String },
    #[error("policy {name:?} is not valid: {source}")]
    Policy { name: String, source: PolicyError },
    #[error(transparent)]
    Rule(#[from] RuleError),
}

/// The registry as it is now. Cheap to ask; never changes under its holder.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub tenants: BTreeMap<TenantId, Tenant>,
    pub things: BTreeMap<ThingName, Thing>,
    pub certificates: HashMap<CertificateId, Certificate>,
    pub policies: BTreeMap<String, (PolicyDocument, Arc<Policy>)>,
    pub rules: BTreeMap<String, (Rule, String)>,
}

impl State {
    /// The policies attached to a certificate; one that is gone allows nothing.
    pub fn policies_of(&self, certificate: &Certificate) -> Vec<Arc<Policy>> {
        certificate
            .policies
            .iter()
            .filter_map(|name| self.policies.get(name))
            .map(|(_, policy)| policy.clone())
            .collect()
    }

    /// The streams that the rules route a topic to.
    pub fn routes(&self, topic: &str) -> Vec<(TenantId, StreamName)> {
        let matching = self.rules.values().filter(|(_, filter)| topics::matches(filter, topic));
        matching.map(|(rule, _)| (rule.tenant.clone(), rule.stream.clone())).collect()
    }

    fn apply(&mut self, change: Change) -> Result<(), RegistryError> {
        match change {
            Change::Tenant(t) => drop(self.tenants.insert(t.tenant.clone(), t)),
            Change::Thing(t) => drop(self.things.insert(t.thing.clone(), t)),
            Change::Certificate(c) => drop(self.certificates.insert(c.id.clone(), c)),
            Change::Policy(p) => {
                let compiled = Policy::parse(&p.document.to_string())
                    .map_err(|source| RegistryError::Policy { name: p.name.clone(), source })?;
                self.policies.insert(p.name.clone(), (p, Arc::new(compiled)));
            }
            Change::Rule(r) => {
                let filter = r.filter()?.to_owned();
                self.rules.insert(r.name.clone(), (r, filter));
            }
            Change::RemoveTenant(id) => drop(self.tenants.remove(&id)),
            Change::RemoveThing(id) => drop(self.things.remove(&id)),
            Change::RemoveCertificate(id) => drop(self.certificates.remove(&id)),
            Change::RemovePolicy(name) => drop(self.policies.remove(&name)),
            Change::RemoveRule(name) => drop(self.rules.remove(&name)),
        }
        Ok(())
    }
}

impl Change {
    fn key(&self) -> (&'static str, String) {
        match self {
            Self::Tenant(t) => ("tenant", t.tenant.to_string()),
            Self::Thing(t) => ("thing", t.thing.to_string()),
            Self::Certificate(c) => ("certificate", c.id.to_string()),
            Self::Policy(p) => ("policy", p.name.clone()),
            Self::Rule(r) => ("rule", r.name.clone()),
            Self::RemoveTenant(id) => ("tenant", id.to_string()),
            Self::RemoveThing(id) => ("thing", id.to_string()),
            Self::RemoveCertificate(id) => ("certificate", id.to_string()),
            Self::RemovePolicy(name) => ("policy", name.clone()),
            Self::RemoveRule(name) => ("rule", name.clone()),
        }
    }

    fn write(&self, table: &Arc<str>) -> Write {
        let json = |value: Result<Vec<u8>, serde_json::Error>| {
            value.expect("registry entries have string keys and finite numbers, so they are JSON")
        };
        let (kind, name) = self.key();
        match self {
            Self::Tenant(t) => Write::put(table, kind, name, json(serde_json::to_vec(t))),
            Self::Thing(t) => Write::put(table, kind, name, json(serde_json::to_vec(t))),
            Self::Certificate(c) => Write::put(table, kind, name, json(serde_json::to_vec(c))),
            Self::Policy(p) => Write::put(table, kind, name, json(serde_json::to_vec(p))),
            Self::Rule(r) => Write::put(table, kind, name, json(serde_json::to_vec(r))),
            _ => Write::delete(table, kind, name),
        }
    }

    fn read(item: &Item) -> Result<Self, RegistryError> {
        fn parse<T: DeserializeOwned>(item: &Item, kind: &'static str) -> Result<T, RegistryError> {
            serde_json::from_slice(&item.value).map_err(|e| RegistryError::Damaged {
                kind,
                name: item.sk.clone(),
                why: e.to_string(),
            })
        }
        match item.pk.as_str() {
            "tenant" => parse(item, "tenant").map(Self::Tenant),
            "thing" => parse(item, "thing").map(Self::Thing),
            "certificate" => parse(item, "certificate").map(Self::Certificate),
            "policy" => parse(item, "policy").map(Self::Policy),
            "rule" => parse(item, "rule").map(Self::Rule),
            other => Err(RegistryError::Damaged {
                kind: "entry",
                name: item.sk.clone(),
                why: format!("unknown kind {other:?}"),
            }),
        }
    }
}

pub struct Registry {
    table: Arc<dyn Table>,
    name: Arc<str>,
    state: RwLock<Arc<State>>,
    revision: AtomicU64,
}

impl Registry {
    pub fn open(table: Arc<dyn Table>) -> Result<Self, RegistryError> {
        let mut state = State::default();
        let mut after: Option<(String, String)> = None;
        loop {
            let from = after.as_ref().map(|(pk, sk)| (pk.as_str(), sk.as_str()));
            let items = table.scan(TABLE, from, LOAD_ITEMS)?;
            for item in &items {
                state.apply(Change::read(item)?)?;
            }
            match items.last() {
                Some(last) if items.len() == LOAD_ITEMS => after = Some((last.pk.clone(), last.sk.clone())),
                _ => break,
            }
        }
        Ok(Self { table, name: TABLE.into(), state: RwLock::new(Arc::new(state)), revision: AtomicU64::new(1) })
    }

    pub fn state(&self) -> Arc<State> {
        self.state.read().expect("no holder of the registry's lock panics").clone()
    }

    /// Grows with every change.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Looks at the registry and changes it in one step: nobody changes it in between. `decide` answers the changes
    /// to make and what to return; they are durable and visible when this returns.
    pub fn change<T, E: From<RegistryError>>(
        &self,
        decide: impl FnOnce(&State) -> Result<(Vec<Change>, T), E>,
    ) -> Result<T, E> {
        let mut current = self.state.write().expect("no holder of the registry's lock panics");
        let (changes, answer) = decide(&current)?;
        if changes.is_empty() {
            return Ok(answer);
        }
        let mut next = State::clone(&current);
        let writes = changes.iter().map(|c| c.write(&self.name)).collect();
        for change in changes {
            next.apply(change)?;
        }
        self.table.commit(writes).map_err(RegistryError::from)?;
        *current = Arc::new(next);
        self.revision.fetch_add(1, Ordering::AcqRel);
        Ok(answer)
    }
}
