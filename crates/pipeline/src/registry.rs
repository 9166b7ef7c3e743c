//! The registry: tenants, things, certificates, policies and rules. Kept in a table, read from memory; a change is
//! durable before it is visible, and visible to the next question asked.

use crate::{
    fleet::{CertificateFacts, facts_of},
    policy::{Policy, PolicyError},
    rules::{CompiledRule, Rule},
    uses::Uses,
};
use kilter_core::{
    AlertBudget, CaCertificate, Certificate, CertificateId, FleetView, PolicyRecord, PolicyVersion, Tags, TenantId,
    Thing, ThingGroup, ThingName, ThingType, Timestamp,
    ports::{
        rules::RuleError,
        table::{Item, Table, TableError, Write},
    },
    topics::TopicTree,
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
/// Single values are kept under this name.
const SETTING: &str = "setting";
const REGISTRATION_CODE: &str = "registration-code";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    pub tenant: TenantId,
    pub created: Timestamp,
    pub budget: AlertBudget,
    pub shards: u32,
}

/// One change; several are made together or not at all.
#[derive(Debug, Clone)]
pub enum Change {
    Tenant(Tenant),
    Thing(Thing),
    Certificate(Certificate),
    Policy(PolicyRecord),
    Type(ThingType),
    Group(ThingGroup),
    Authority(CaCertificate),
    RegistrationCode(String),
    Rule(Rule),
    RemoveTenant(TenantId),
    RemoveThing(ThingName),
    RemoveCertificate(CertificateId),
    RemovePolicy(String),
    RemoveRule(String),
    RemoveType(String),
    RemoveGroup(String),
    RemoveAuthority(CertificateId),
    RemoveRegistrationCode,
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

type Facts = HashMap<CertificateId, Option<Arc<CertificateFacts>>>;

/// The registry as it is now. Cheap to ask; never changes under its holder.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub tenants: BTreeMap<TenantId, Tenant>,
    pub fleet: Arc<FleetView>,
    /// The default versions, parsed.
    policies: Arc<HashMap<String, Arc<Policy>>>,
    /// Of certificates that a policy asked about; an id stands for one text for ever.
    facts: Arc<RwLock<Facts>>,
    pub rules: BTreeMap<String, Arc<CompiledRule>>,
    /// The same rules under their topic filters.
    rule_tree: Arc<TopicTree<Arc<CompiledRule>>>,
}

impl State {
    /// The version in force of a policy.
    pub fn policy(&self, name: &str) -> Option<&Arc<Policy>> {
        self.policies.get(name)
    }

    /// Takes what a certificate says from its device, where an earlier release did not keep its text.
    pub fn learn(&self, id: &CertificateId, der: &[u8]) {
        let learned = |facts: &Facts| facts.get(id).is_some_and(Option::is_some);
        if learned(&self.facts.read().expect("no holder of the facts' lock panics")) {
            return;
        }
        let read = CertificateFacts::of_der(der).ok().map(Arc::new);
        self.facts.write().expect("no holder of the facts' lock panics").insert(id.clone(), read);
    }

    /// What a certificate says about itself; `None` where its text was not kept and no device has shown it yet. Read
    /// once.
    pub fn facts(&self, certificate: &Certificate) -> Option<Arc<CertificateFacts>> {
        let known = |facts: &Facts| facts.get(&certificate.id).cloned();
        if let Some(facts) = known(&self.facts.read().expect("no holder of the facts' lock panics")) {
            return facts;
        }
        let read = certificate.pem.as_deref().and_then(|pem| facts_of(pem).ok()).map(Arc::new);
        let mut facts = self.facts.write().expect("no holder of the facts' lock panics");
        // Certificates that are gone are forgotten together.
        if facts.len() > self.fleet.certificates.len() {
            facts.clear();
        }
        facts.insert(certificate.id.clone(), read.clone());
        read
    }

    /// The rules whose topic filter matches, sorted by name.
    pub fn rules_matching(&self, topic: &str) -> Vec<Arc<CompiledRule>> {
        let mut matching = Vec::new();
        self.rule_tree.matching(topic, |rule: &Arc<CompiledRule>| matching.push(rule.clone()));
        matching.sort_by(|a, b| a.name.cmp(&b.name));
        matching
    }

    fn remove_rule(&mut self, name: &str) {
        if let Some(rule) = self.rules.remove(name)
            && let Some(filter) = rule.topic_filter()
        {
            Arc::make_mut(&mut self.rule_tree).remove(filter, |known| known.name == rule.name);
        }
    }

    fn put_rule(&mut self, rule: Rule) -> Result<(), RuleError> {
        let rule = Arc::new(CompiledRule::compile(rule)?);
        self.remove_rule(&rule.name);
        if let Some(filter) = rule.topic_filter() {
            Arc::make_mut(&mut self.rule_tree).add(filter, rule.clone(), |known| known.name == rule.name);
        }
        self.rules.insert(rule.rule.name.clone(), rule);
        Ok(())
    }

    fn apply(&mut self, change: Change) -> Result<(), RegistryError> {
        fn put<K: Ord + Clone, V>(map: &mut Arc<BTreeMap<K, Arc<V>>>, key: K, value: V) {
            Arc::make_mut(map).insert(key, Arc::new(value));
        }
        fn cut<K: Ord + Clone, V>(map: &mut Arc<BTreeMap<K, Arc<V>>>, key: &K) {
            Arc::make_mut(map).remove(key);
        }
        // Only the maps that change are copied, and of these only the pointers.
        let fleet = Arc::make_mut(&mut self.fleet);
        match change {
            Change::Tenant(t) => drop(self.tenants.insert(t.tenant.clone(), t)),
            Change::Thing(mut t) => {
                if t.id.is_empty() {
                    t.id = crate::fleet::uuid_of(&["thing", t.thing.as_str(), &t.created.sortable()]);
                }
                put(&mut fleet.things, t.thing.clone(), t);
            }
            Change::Certificate(c) => put(&mut fleet.certificates, c.id.clone(), c),
            Change::Type(t) => put(&mut fleet.types, t.name.clone(), t),
            Change::Group(g) => put(&mut fleet.groups, g.name.clone(), g),
            Change::Authority(a) => put(&mut fleet.authorities, a.id.clone(), a),
            Change::RegistrationCode(code) => fleet.registration_code = Some(code.into()),
            Change::Policy(p) => {
                let compiled = Policy::parse(p.document())
                    .map_err(|source| RegistryError::Policy { name: p.name.clone(), source })?;
                Arc::make_mut(&mut self.policies).insert(p.name.clone(), Arc::new(compiled));
                put(&mut fleet.policies, p.name.clone(), p);
            }
            Change::Rule(r) => self.put_rule(r)?,
            Change::RemoveTenant(id) => drop(self.tenants.remove(&id)),
            Change::RemoveThing(id) => cut(&mut fleet.things, &id),
            Change::RemoveCertificate(id) => cut(&mut fleet.certificates, &id),
            Change::RemovePolicy(name) => {
                Arc::make_mut(&mut self.policies).remove(&name);
                cut(&mut fleet.policies, &name);
            }
            Change::RemoveRule(name) => self.remove_rule(&name),
            Change::RemoveType(name) => cut(&mut fleet.types, &name),
            Change::RemoveGroup(name) => cut(&mut fleet.groups, &name),
            Change::RemoveAuthority(id) => cut(&mut fleet.authorities, &id),
            Change::RemoveRegistrationCode => fleet.registration_code = None,
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
            Self::Type(t) => ("thing-type", t.name.clone()),
            Self::Group(g) => ("thing-group", g.name.clone()),
            Self::Authority(a) => ("authority", a.id.to_string()),
            Self::RegistrationCode(_) | Self::RemoveRegistrationCode => (SETTING, REGISTRATION_CODE.to_owned()),
            Self::RemoveType(name) => ("thing-type", name.clone()),
            Self::RemoveGroup(name) => ("thing-group", name.clone()),
            Self::RemoveAuthority(id) => ("authority", id.to_string()),
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
            Self::Type(t) => Write::put(table, kind, name, json(serde_json::to_vec(t))),
            Self::Group(g) => Write::put(table, kind, name, json(serde_json::to_vec(g))),
            Self::Authority(a) => Write::put(table, kind, name, json(serde_json::to_vec(a))),
            Self::RegistrationCode(code) => Write::put(table, kind, name, json(serde_json::to_vec(code))),
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
            "policy" => parse::<PolicyRecord>(item, "policy")
                .or_else(|error| parse::<OldPolicy>(item, "policy").map(OldPolicy::renewed).map_err(|_| error))
                .map(Self::Policy),
            "rule" => parse(item, "rule").map(Self::Rule),
            "thing-type" => parse(item, "thing type").map(Self::Type),
            "thing-group" => parse(item, "thing group").map(Self::Group),
            "authority" => parse(item, "authority").map(Self::Authority),
            SETTING if item.sk == REGISTRATION_CODE => parse(item, "registration code").map(Self::RegistrationCode),
            other => Err(RegistryError::Damaged {
                kind: "entry",
                name: item.sk.clone(),
                why: format!("unknown kind {other:?}"),
            }),
        }
    }
}

/// A policy as it was kept before policies had versions.
#[derive(Deserialize)]
struct OldPolicy {
    name: String,
    document: serde_json::Value,
}

impl OldPolicy {
    fn renewed(self) -> PolicyRecord {
        new_policy(self.name, self.document.to_string(), Timestamp::from_nanos(0), Tags::new())
    }
}

/// A policy with its first version.
pub fn new_policy(name: String, document: String, created: Timestamp, tags: Tags) -> PolicyRecord {
    let versions = BTreeMap::from([(1, PolicyVersion { created, document })]);
    PolicyRecord { name, created, versions, default: 1, next: 2, tags }
}

pub struct Registry {
    table: Arc<dyn Table>,
    name: Arc<str>,
    state: RwLock<Arc<State>>,
    revision: AtomicU64,
    pub uses: Uses,
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
        let uses = Uses::open(&*table)?;
        Ok(Self { table, name: TABLE.into(), state: RwLock::new(Arc::new(state)), revision: AtomicU64::new(1), uses })
    }

    pub fn state(&self) -> Arc<State> {
        self.state.read().expect("no holder of the registry's lock panics").clone()
    }

    /// Writes down when certificates were used. Blocking.
    pub(crate) fn write_uses(&self) -> Result<(), RegistryError> {
        let state = self.state();
        Ok(self.uses.write(&*self.table, |id| state.fleet.certificates.contains_key(id))?)
    }

    /// Writes down what is only in memory.
    pub fn close(&self) {
        if let Err(error) = self.write_uses() {
            tracing::warn!(%error, "when certificates were last used could not be written down");
        }
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
