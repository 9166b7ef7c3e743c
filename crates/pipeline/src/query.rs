//! What operators may read: the inventory from the registry, the results from the table.

use crate::{
    checkpoint::{Counts, Progress},
    control::{Failure, tenant_view, thing_view, unknown_tenant, unknown_thing},
    ingest::Site,
    live::Live,
    record::{ALERTS, EPISODES, alert_key},
    registry::{Registry, State},
    rotation::certificate_entry,
    sequence::{self, Waiting},
};
use futures::stream::BoxStream;
use kilter_core::{
    Alert, CertificateEntry, Episode, LedgerLine, Offset, RecordKind, ScoredReading, ShardId, TenantId, TenantView,
    ThingName, ThingView, Timestamp,
    ports::{
        control::ControlError,
        query::{Filter, Inventory, LiveEvent, ObjectView, RecordView, Results},
        stream::{ReadLimit, Stream},
        table::{Item, SkRange, Table},
    },
};
use kilter_lake::Lake;
use serde::de::DeserializeOwned;
use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

/// Items read at a time while looking for those that a filter wants.
const PAGE_ITEMS: usize = 500;

pub struct PipelineQuery {
    pub registry: Arc<Registry>,
    pub stream: Arc<dyn Stream>,
    pub table: Arc<dyn Table>,
    pub lake: Arc<Lake>,
    pub site: Site,
    pub live: Live,
    /// Held for writing while counts are read, so that no commit falls in between.
    pub gate: Arc<RwLock<()>>,
}

impl PipelineQuery {
    fn known(&self, tenant: &TenantId) -> Result<Arc<State>, Failure> {
        let state = self.registry.state();
        if state.tenants.contains_key(tenant) { Ok(state) } else { Err(unknown_tenant(tenant).into()) }
    }

    fn chosen(&self, tenant: Option<&TenantId>) -> Result<Vec<TenantId>, Failure> {
        match tenant {
            Some(tenant) => self.known(tenant).map(|_| vec![tenant.clone()]),
            None => Ok(self.registry.state().tenants.keys().cloned().collect()),
        }
    }

    fn shards(&self, tenant: &TenantId) -> Result<u32, Failure> {
        let name = tenant.stream();
        Ok(self.stream.list()?.into_iter().find(|(stream, _)| *stream == name).map_or(0, |(_, shards)| shards))
    }

    /// The newest items of a partition that `wanted` takes, newest first.
    fn newest<T: DeserializeOwned>(
        &self,
        tenant: &TenantId,
        pk: &str,
        limit: usize,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, Failure> {
        let table = tenant.table();
        let mut found = Vec::new();
        let mut to: Option<String> = None;
        while found.len() < limit {
            let range = SkRange { from: "", to: to.as_deref(), descending: true };
            let items = self.table.range(&table, pk, range, PAGE_ITEMS)?;
            let end = items.len() < PAGE_ITEMS;
            to = items.last().map(|item| item.sk.clone());
            found.extend(items.iter().map(parse::<T>).collect::<Result<Vec<T>, _>>()?.into_iter().filter(&wanted));
            if end {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    fn ledger_of(&self, tenant: &TenantId) -> Result<Vec<LedgerLine>, Failure> {
        let name = tenant.stream();
        // A thing's records lie in several shards where one took over from another.
        let mut lines: BTreeMap<ThingName, LedgerLine> = BTreeMap::new();
        for shard in (0..self.shards(tenant)?).map(ShardId) {
            let progress = Progress::of(&name, shard);
            let (checkpoint, mut counts) = {
                let _alone = self.gate.write().expect("no holder of the gate panics");
                (progress.checkpoint(&*self.table)?, progress.all_counts(&*self.table)?)
            };
            let mut waiting = sequence::waiting(&*self.stream, &name, shard, checkpoint.next)?;
            for thing in waiting.keys() {
                counts.entry(thing.clone()).or_default();
            }
            for (thing, counts) in counts {
                let waiting = waiting.remove(&thing).unwrap_or_default();
                let line = lines.entry(thing.clone()).or_insert_with(|| empty_line(tenant, thing));
                count(line, &counts, &waiting);
            }
        }
        Ok(lines.into_values().collect())
    }

    fn tail(&self, tenant: &TenantId, limit: usize) -> Result<Vec<RecordView>, Failure> {
        self.known(tenant)?;
        let name = tenant.stream();
        let mut views = Vec::new();
        for shard in (0..self.shards(tenant)?).map(ShardId) {
            let bounds = self.stream.bounds(&name, shard)?;
            let from = Offset(bounds.next.0.saturating_sub(limit as u64)).max(bounds.first);
            let records = self.stream.read(&name, shard, from, ReadLimit { records: limit, bytes: 16 << 20 })?;
            views.extend(records.into_iter().map(|record| RecordView {
                shard,
                offset: record.offset,
                thing: record.record.thing,
                arrival: record.record.arrival,
                topic: record.record.topic.into(),
                data: String::from_utf8_lossy(&record.record.data).into_owned(),
                rejected: match record.record.kind {
                    RecordKind::Telemetry => None,
                    RecordKind::Rejected(reason) => Some(reason.into()),
                },
            }));
        }
        views.sort_by_key(|view| (view.arrival, view.shard, view.offset));
        let surplus = views.len().saturating_sub(limit);
        Ok(views.split_off(surplus))
    }
}

fn empty_line(tenant: &TenantId, thing: ThingName) -> LedgerLine {
    let tenant = tenant.clone();
    LedgerLine { tenant, thing, received: 0, stored: 0, rejected: 0, scored: 0, late: 0, waiting: 0 }
}

/// Adds what one shard knows of the thing.
fn count(line: &mut LedgerLine, counts: &Counts, waiting: &Waiting) {
    line.received = line.received.max(counts.received).max(waiting.last_sequence);
    line.stored += counts.scored + counts.late + waiting.telemetry;
    line.rejected += counts.rejected + waiting.rejected;
    line.scored += counts.scored;
    line.late += counts.late;
    line.waiting += waiting.telemetry;
}

fn parse<T: DeserializeOwned>(item: &Item) -> Result<T, Failure> {
    serde_json::from_slice(&item.value).map_err(|error| {
        Failure(ControlError::internal(format!("the result {} {} cannot be read: {error}", item.pk, item.sk), error))
    })
}

impl Inventory for PipelineQuery {
    fn tenants(&self) -> Result<Vec<TenantView>, ControlError> {
        let state = self.registry.state();
        Ok(state.tenants.values().map(|tenant| tenant_view(&self.site, &state, tenant)).collect())
    }

    fn things(&self, tenant: Option<&TenantId>) -> Result<Vec<ThingView>, ControlError> {
        let state = match tenant {
            Some(tenant) => self.known(tenant).map_err(|Failure(error)| error)?,
            None => self.registry.state(),
        };
        let wanted = state.fleet.things.values().filter(|thing| tenant.is_none() || thing.tenant.as_ref() == tenant);
        Ok(wanted.map(|thing| thing_view(&self.site, &state, thing)).collect())
    }

    fn certificates(
        &self,
        tenant: Option<&TenantId>,
        thing: Option<&ThingName>,
    ) -> Result<Vec<CertificateEntry>, ControlError> {
        let state = match tenant {
            Some(tenant) => self.known(tenant).map_err(|Failure(error)| error)?,
            None => self.registry.state(),
        };
        if let Some(name) = thing.filter(|name| !state.fleet.things.contains_key(*name)) {
            return Err(unknown_thing(name));
        }
        let of = |name: &ThingName| {
            let whose = state.fleet.things.get(name).and_then(|thing| thing.tenant.as_ref());
            thing.is_none_or(|wanted| wanted == name) && (tenant.is_none() || whose == tenant)
        };
        let all = thing.is_none() && tenant.is_none();
        let wanted = state.fleet.certificates.values().filter(|c| all || c.things.iter().any(of));
        let mut entries: Vec<CertificateEntry> =
            wanted.map(|c| certificate_entry(&self.site, &state, &self.registry.uses, c)).collect();
        entries.sort_by(|a, b| (&a.things, a.certificate.created).cmp(&(&b.things, b.certificate.created)));
        Ok(entries)
    }

    fn stream_records(&self, tenant: &TenantId, limit: usize) -> Result<Vec<RecordView>, ControlError> {
        self.tail(tenant, limit).map_err(|Failure(error)| error)
    }

    fn lake_objects(&self, tenant: &TenantId) -> Result<Vec<ObjectView>, ControlError> {
        let inner = || -> Result<Vec<ObjectView>, Failure> {
            self.known(tenant)?;
            Ok(self.lake.objects(tenant)?)
        };
        inner().map_err(|Failure(error)| error)
    }
}

impl Results for PipelineQuery {
    fn readings(
        &self,
        tenant: &TenantId,
        thing: &ThingName,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<ScoredReading>, ControlError> {
        let inner = || -> Result<Vec<ScoredReading>, Failure> {
            self.known(tenant)?;
            let to = before.map(|time| format!("{}$", time.sortable()));
            let range = SkRange { from: "", to: to.as_deref(), descending: true };
            let items = self.table.range(&tenant.table(), thing.as_str(), range, limit)?;
            items.iter().rev().map(parse).collect()
        };
        inner().map_err(|Failure(error)| error)
    }

    fn anomalies(&self, filter: &Filter) -> Result<Vec<Episode>, ControlError> {
        let inner = || -> Result<Vec<Episode>, Failure> {
            let mut all = Vec::new();
            for tenant in self.chosen(filter.tenant.as_ref())? {
                let wanted = |e: &Episode| filter.thing.as_ref().is_none_or(|thing| e.thing == *thing);
                all.extend(self.newest(&tenant, EPISODES, filter.limit, wanted)?);
            }
            all.sort_by(|a, b| (b.start, &b.id).cmp(&(a.start, &a.id)));
            all.truncate(filter.limit);
            Ok(all)
        };
        inner().map_err(|Failure(error)| error)
    }

    fn alerts(&self, filter: &Filter) -> Result<Vec<Alert>, ControlError> {
        let inner = || -> Result<Vec<Alert>, Failure> {
            let mut all = Vec::new();
            for tenant in self.chosen(filter.tenant.as_ref())? {
                let wanted = |a: &Alert| filter.thing.as_ref().is_none_or(|thing| a.episode.thing == *thing);
                all.extend(self.newest(&tenant, ALERTS, filter.limit, wanted)?);
            }
            all.sort_by_cached_key(|alert| std::cmp::Reverse(alert_key(alert)));
            all.truncate(filter.limit);
            Ok(all)
        };
        inner().map_err(|Failure(error)| error)
    }

    fn ledger(&self, tenant: Option<&TenantId>) -> Result<Vec<LedgerLine>, ControlError> {
        let inner = || -> Result<Vec<LedgerLine>, Failure> {
            let mut lines = Vec::new();
            for tenant in self.chosen(tenant)? {
                lines.extend(self.ledger_of(&tenant)?);
            }
            Ok(lines)
        };
        inner().map_err(|Failure(error)| error)
    }

    fn live(&self) -> BoxStream<'static, LiveEvent> {
        self.live.subscribe()
    }
}
