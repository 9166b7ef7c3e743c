//! Which of the tenants' resources exist: those of the command line's tenants from the start, those of tenants that
//! were made one AWS command at a time as they come and go.

use crate::{
    checkpoint::table_of,
    consumer::tenant_of,
    control::Failure,
    ingest::PipelineIngest,
    registry::{Change, Registry, Tenant},
};
use kilter_core::{
    AlertBudget, Offset, ShardId, StreamName, TenantId, Timestamp,
    ports::{
        clock::Clock,
        control::{ControlError, ControlErrorKind},
        resources::{Resource, Resources},
        stream::{Stream, StreamError, StreamErrorKind},
        table::{SkRange, Table, Write},
    },
};
use kilter_lake::Lake;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

/// Where it is kept: a partition for each kind, and one for the ends of deleted streams.
const TABLE: &str = "resources";
const STREAM_ENDS: &str = "stream-ends";
/// Rows deleted in one commit.
const PURGE_ITEMS: usize = 2_000;
/// After every partition of a results table that is the pipeline's own (`#…`), before every thing's.
const BEHIND_OWN: (&str, &str) = ("$", "");

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Known {
    exists: bool,
    since: Timestamp,
}

pub struct PipelineResources {
    registry: Arc<Registry>,
    ingest: Arc<PipelineIngest>,
    stream: Arc<dyn Stream>,
    table: Arc<dyn Table>,
    lake: Arc<Lake>,
    clock: Arc<dyn Clock>,
    gate: Arc<RwLock<()>>,
    /// What was made or removed one at a time. A tenant that is not in here has what onboarding makes.
    known: RwLock<HashMap<(TenantId, Resource), Known>>,
}

/// What it is made of.
pub struct ResourcePorts {
    pub registry: Arc<Registry>,
    pub ingest: Arc<PipelineIngest>,
    pub stream: Arc<dyn Stream>,
    pub table: Arc<dyn Table>,
    pub lake: Arc<Lake>,
    pub clock: Arc<dyn Clock>,
    /// Held for writing while a stream is removed.
    pub gate: Arc<RwLock<()>>,
}

fn partition(resource: Resource) -> &'static str {
    match resource {
        Resource::Table => "table",
        Resource::Bucket => "bucket",
        Resource::Topic => "topic",
    }
}

impl PipelineResources {
    /// Blocking.
    pub fn open(ports: ResourcePorts) -> Result<Self, ControlError> {
        let mut known = HashMap::new();
        for resource in [Resource::Table, Resource::Topic] {
            let items = ports.table.range(TABLE, partition(resource), SkRange::ALL, usize::MAX).map_err(internal)?;
            for item in items {
                let tenant = TenantId::new(&item.sk).map_err(internal)?;
                known.insert((tenant, resource), serde_json::from_slice(&item.value).map_err(internal)?);
            }
        }
        let ResourcePorts { registry, ingest, stream, table, lake, clock, gate } = ports;
        Ok(Self { registry, ingest, stream, table, lake, clock, gate, known: RwLock::new(known) })
    }

    /// What onboarding makes exists, whatever was removed before.
    pub fn made_whole(&self, tenant: &TenantId) -> Result<(), ControlError> {
        for resource in [Resource::Table, Resource::Topic] {
            if !self.exists(tenant, resource) {
                self.make(tenant, resource)?;
            }
        }
        Ok(())
    }

    /// Makes the stream, if it is not there, where a deleted one of its name ended.
    pub fn place_stream(&self, stream: &StreamName, shards: u32) -> Result<(), StreamError> {
        if self.stream.list()?.iter().any(|(name, _)| name == stream) {
            // Says whether it has as many shards.
            return self.stream.create(stream, shards);
        }
        let failed = |error: &dyn std::fmt::Display| StreamError::new(StreamErrorKind::Io, "create", error.to_string());
        let first = self.end_of(stream).map_err(|error| failed(&error))?;
        self.stream.create_from(stream, shards, first)
    }

    /// The tenant is gone: nothing of it is known any more.
    pub fn forget(&self, tenant: &TenantId) -> Result<(), ControlError> {
        let name: Arc<str> = TABLE.into();
        let kinds = [Resource::Table, Resource::Topic];
        let mut writes: Vec<Write> =
            kinds.iter().map(|kind| Write::delete(&name, partition(*kind), tenant.as_str())).collect();
        // Its lake is gone too, so its offsets may start anew.
        writes.push(Write::delete(&name, STREAM_ENDS, tenant.stream().as_str()));
        self.table.commit(writes).map_err(internal)?;
        let mut known = self.known.write().expect("no holder of the lock panics");
        known.retain(|(of, _), _| of != tenant);
        Ok(())
    }

    fn note(&self, tenant: &TenantId, resource: Resource, exists: bool) -> Result<(), ControlError> {
        let fact = Known { exists, since: self.clock.now() };
        let value = serde_json::to_vec(&fact).map_err(internal)?;
        let write = Write::put(&TABLE.into(), partition(resource), tenant.as_str(), value);
        self.table.commit(vec![write]).map_err(internal)?;
        self.known.write().expect("no holder of the lock panics").insert((tenant.clone(), resource), fact);
        Ok(())
    }

    fn fact(&self, tenant: &TenantId, resource: Resource) -> Option<Known> {
        let known = self.known.read().expect("no holder of the lock panics");
        let noted = known.get(&(tenant.clone(), resource)).copied();
        let registered = || {
            let state = self.registry.state();
            state.tenants.get(tenant).map(|tenant| Known { exists: true, since: tenant.created })
        };
        noted.or_else(registered)
    }

    /// Deletes a results table's rows; episodes and alerts stay.
    fn purge(&self, tenant: &TenantId) -> Result<(), ControlError> {
        let table: Arc<str> = tenant.table().into();
        loop {
            let items = self.table.scan(&table, Some(BEHIND_OWN), PURGE_ITEMS).map_err(internal)?;
            if items.is_empty() {
                return Ok(());
            }
            let deletes = items.iter().map(|item| Write::delete(&table, &item.pk, &item.sk)).collect();
            self.table.commit(deletes).map_err(internal)?;
        }
    }

    fn end_of(&self, stream: &StreamName) -> Result<Offset, ControlError> {
        let stored = self.table.get(TABLE, STREAM_ENDS, stream.as_str()).map_err(internal)?;
        stored.map_or(Ok(Offset(0)), |bytes| serde_json::from_slice(&bytes).map_err(internal))
    }

    /// The tenant of a stream, which comes into being with it.
    fn adopt(&self, tenant: &TenantId, shards: u32) -> Result<(), ControlError> {
        let known = self.registry.state().tenants.get(tenant).cloned();
        if known.as_ref().is_some_and(|known| known.shards == shards) {
            return Ok(());
        }
        if known.is_none() {
            // Noted first: were it the other way round, a crash in between would leave them made.
            self.note(tenant, Resource::Table, self.exists(tenant, Resource::Table))?;
            self.note(tenant, Resource::Topic, self.exists(tenant, Resource::Topic))?;
        }
        let now = self.clock.now();
        let wanted = match known {
            Some(known) => Tenant { shards, ..known },
            None => Tenant { tenant: tenant.clone(), created: now, budget: AlertBudget::default(), shards },
        };
        let changed = self.registry.change::<(), Failure>(|_| Ok((vec![Change::Tenant(wanted.clone())], ())));
        changed.map_err(|Failure(error)| error)
    }
}

fn internal(error: impl std::error::Error + Send + Sync + 'static) -> ControlError {
    ControlError::internal(error.to_string(), error)
}

impl Resources for PipelineResources {
    fn exists(&self, tenant: &TenantId, resource: Resource) -> bool {
        match resource {
            Resource::Bucket => self.lake.has_bucket(tenant).unwrap_or(false),
            kind => self.fact(tenant, kind).is_some_and(|known| known.exists),
        }
    }

    fn list(&self, resource: Resource) -> Result<Vec<(TenantId, Timestamp)>, ControlError> {
        let mut tenants: Vec<TenantId> = self.registry.state().tenants.keys().cloned().collect();
        let known = self.known.read().expect("no holder of the lock panics");
        tenants.extend(known.keys().filter(|(_, kind)| *kind == resource).map(|(tenant, _)| tenant.clone()));
        drop(known);
        tenants.sort();
        tenants.dedup();
        let there = tenants.into_iter().filter(|tenant| self.exists(tenant, resource));
        Ok(there
            .map(|tenant| {
                let since = self.fact(&tenant, resource).map_or(Timestamp::default(), |known| known.since);
                (tenant, since)
            })
            .collect())
    }

    fn make(&self, tenant: &TenantId, resource: Resource) -> Result<(), ControlError> {
        if self.exists(tenant, resource) {
            return Ok(());
        }
        match resource {
            Resource::Bucket => self.lake.create_bucket(tenant).map(drop).map_err(internal),
            Resource::Table => {
                // What a removal that was cut short has left.
                self.purge(tenant)?;
                self.note(tenant, resource, true)
            }
            Resource::Topic => self.note(tenant, resource, true),
        }
    }

    fn remove(&self, tenant: &TenantId, resource: Resource) -> Result<(), ControlError> {
        match resource {
            Resource::Bucket => {
                let _alone = self.gate.write().expect("no holder of the gate panics");
                self.lake.remove_tenant(tenant).map(drop).map_err(internal)
            }
            Resource::Table => {
                self.note(tenant, resource, false)?;
                // Whoever was writing when it was noted is done once the gate is free.
                drop(self.gate.write().expect("no holder of the gate panics"));
                self.purge(tenant)
            }
            Resource::Topic => self.note(tenant, resource, false),
        }
    }

    fn make_stream(&self, stream: &StreamName, shards: u32) -> Result<(), ControlError> {
        let streams = self.stream.list().map_err(internal)?;
        if streams.iter().any(|(name, _)| name == stream) {
            let message = format!("stream {stream} exists already: delete it first, or choose another name");
            return Err(ControlError::new(ControlErrorKind::Conflict, message));
        }
        self.place_stream(stream, shards).map_err(internal)?;
        tenant_of(stream).map_or(Ok(()), |tenant| self.adopt(&tenant, shards))
    }

    fn remove_stream(&self, stream: &StreamName) -> Result<(), ControlError> {
        let streams = self.stream.list().map_err(internal)?;
        let Some((_, shards)) = streams.into_iter().find(|(name, _)| name == stream) else {
            let message = format!("there is no stream {stream}");
            return Err(ControlError::new(ControlErrorKind::NotFound, message));
        };
        let _alone = self.gate.write().expect("no holder of the gate panics");
        let ends = (0..shards).map(|shard| self.stream.bounds(stream, ShardId(shard)).map(|bounds| bounds.next));
        let ends: Vec<Offset> = ends.collect::<Result<_, _>>().map_err(internal)?;
        // Records that come in between are lost with the stream; their offsets must not be given out again.
        let end = Offset(ends.into_iter().max().unwrap_or_default().0.saturating_add(OFFSETS_SPARE));
        let value = serde_json::to_vec(&end).map_err(internal)?;
        self.table.commit(vec![Write::put(&TABLE.into(), STREAM_ENDS, stream.as_str(), value)]).map_err(internal)?;
        self.stream.delete(stream).map_err(internal)?;
        self.ingest.forget(stream);
        self.table.drop_table(&table_of(stream)).map_err(internal)?;
        Ok(())
    }
}

/// More than can be appended while a stream is being deleted.
const OFFSETS_SPARE: u64 = 1 << 20;
