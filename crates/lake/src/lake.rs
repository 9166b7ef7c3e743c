//! The lake of all tenants: buckets, writing, listing, removing.

use crate::{
    Dataset, LakeError, LakeErrorKind, columns,
    lane::{self, Progress},
    layout::{Keys, Lane, PartName},
    manifest::{self, Manifest},
    part::{self, PART_BYTES_MAX, Part, Row},
    rows::{self, RecordRow, ScoredRow},
    store::Store,
};
use kilter_core::{
    Offset, Record, RecordKind, ScoredReading, ShardId, TenantId, Timestamp,
    ports::{objects::Objects, query::ObjectView},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Media types of objects and of manifests.
const PARQUET: &str = "application/vnd.apache.parquet";
const JSON: &str = "application/json";

/// Longest region name taken: the bucket's name must stay within S3's 63 characters.
const REGION_LEN_MAX: usize = 63 - "iot-data-lake--".len() - TenantId::LEN_MAX;

/// All methods block: never call them from an async thread.
pub struct Lake {
    store: Store,
    region: String,
    /// `None` in a lane: not looked at yet, or a write failed halfway.
    lanes: Mutex<HashMap<Lane, Arc<Mutex<Option<Progress>>>>>,
}

/// An object that a call has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub dataset: Dataset,
    /// Within the tenant's bucket.
    pub key: String,
    pub rows: u64,
    pub bytes: u64,
    /// The object answers for every offset from `first` to `last`.
    pub first: Offset,
    pub last: Offset,
}

impl Lake {
    /// In buckets of this storage, one for each tenant.
    pub fn open(objects: Arc<dyn Objects>, region: &str) -> Result<Self, LakeError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if region.is_empty() || region.len() > REGION_LEN_MAX || !region.chars().all(allowed) {
            let rule = format!("use 1 to {REGION_LEN_MAX} lower-case letters, digits and '-', as in us-east-1");
            return Err(LakeError::new(
                LakeErrorKind::Invalid,
                "open",
                format!("region {region:?} is not valid: {rule}"),
            ));
        }
        Ok(Self { store: Store::new(objects, region), region: region.to_owned(), lanes: Mutex::default() })
    }

    /// Whether this call made it: `false` when it was there.
    pub fn create_bucket(&self, tenant: &TenantId) -> Result<bool, LakeError> {
        self.store.create_bucket(&self.keys(tenant).bucket)
    }

    pub fn has_bucket(&self, tenant: &TenantId) -> Result<bool, LakeError> {
        self.store.has_bucket(&self.keys(tenant).bucket)
    }

    /// Archives neighbouring records of one shard, in order of their offsets, telemetry under `raw/` and the
    /// rest under `rejected/`. Durable on return; answers the objects made by this call.
    ///
    /// Idempotent: records that are archived already are compared and skipped, however the caller cuts its
    /// batches after a crash. On an error some objects may have been made; call again with the same records.
    ///
    /// The caller bounds the records of a call; the lake adds at most about three parts' worth of memory
    /// ([`PART_BYTES_MAX`] each).
    pub fn write_raw(&self, tenant: &TenantId, shard: ShardId, records: &[Record]) -> Result<Vec<Written>, LakeError> {
        let rows = |rejected: bool| -> Vec<_> {
            let is_rejected = |record: &&Record| matches!(record.record.kind, RecordKind::Rejected(_));
            records.iter().filter(|record| is_rejected(record) == rejected).map(RecordRow).collect()
        };
        let all: Vec<_> = records.iter().map(RecordRow).collect();
        part::check_order(&all)?;
        let mut written = self.write(&self.lane(tenant, Dataset::Raw, shard), &rows(false), None)?;
        written.extend(self.write(&self.lane(tenant, Dataset::Rejected, shard), &rows(true), None)?);
        Ok(written)
    }

    /// Archives the scored readings of the records from `first` to `last` of one shard, in order of their
    /// positions (`shard:offset:index`). Otherwise like [`Lake::write_raw`].
    pub fn write_scored(
        &self,
        tenant: &TenantId,
        shard: ShardId,
        first: Offset,
        last: Offset,
        readings: &[ScoredReading],
    ) -> Result<Vec<Written>, LakeError> {
        let rows: Vec<_> = rows::yielding(readings).map(ScoredRow::new).collect::<Result<_, _>>()?;
        part::check_order(&rows)?;
        if rows.iter().any(|row| !(first..=last).contains(&row.offset())) {
            let message = format!("a reading is outside the offsets {} to {} that were named", first.0, last.0);
            return Err(LakeError::new(LakeErrorKind::Invalid, "write", message));
        }
        self.write(&self.lane(tenant, Dataset::Scored, shard), &rows, Some((first, last)))
    }

    /// Everything in the tenant's bucket, manifests too, sorted by key. Empty where there is no bucket.
    pub fn objects(&self, tenant: &TenantId) -> Result<Vec<ObjectView>, LakeError> {
        let keys = self.keys(tenant);
        let mut views = Vec::new();
        for object in self.store.list(&keys.bucket, "")? {
            let (bucket, key, modified) = (keys.bucket.clone(), object.key, object.modified);
            views.push(ObjectView { bucket, key, bytes: object.bytes, modified });
        }
        Ok(views)
    }

    /// Deletes the tenant's bucket with all its objects, says how many those were (manifests too). Stop
    /// writing for the tenant first.
    pub fn remove_tenant(&self, tenant: &TenantId) -> Result<u64, LakeError> {
        let removed = self.store.drop_bucket(&self.keys(tenant).bucket);
        lock(&self.lanes).retain(|lane, _| lane.tenant != *tenant);
        removed
    }

    pub(crate) fn keys(&self, tenant: &TenantId) -> Keys {
        Keys::new(tenant, &self.region)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    fn lane(&self, tenant: &TenantId, dataset: Dataset, shard: ShardId) -> Lane {
        Lane { tenant: tenant.clone(), dataset, shard }
    }

    /// `span`: the offsets that the rows answer for, where that is more than their own.
    fn write<R: Row>(
        &self,
        lane: &Lane,
        rows: &[R],
        span: Option<(Offset, Offset)>,
    ) -> Result<Vec<Written>, LakeError> {
        let keys = self.keys(&lane.tenant);
        if !self.store.has_bucket(&keys.bucket)? {
            let message = format!("tenant {} has no bucket {}; create it first", lane.tenant, keys.bucket);
            return Err(LakeError::new(LakeErrorKind::NoBucket, "write", message));
        }
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let slot = lock(&self.lanes).entry(lane.clone()).or_default().clone();
        let mut slot = lock(&slot);
        // Taken out, so that an error on the way leaves `None` and the next call looks at the disk again.
        let mut progress = match slot.take() {
            Some(progress) => progress,
            None => Progress::recover(&self.store, &keys, lane)?,
        };
        let archived = rows.partition_point(|row| Some(row.offset()) <= progress.archived_to);
        lane::check_archived(&self.store, &keys, lane, &rows[..archived])?;
        let mut parts = part::cut(&rows[archived..], PART_BYTES_MAX);
        if let Some((first, last)) = span {
            let first = progress.archived_to.map_or(first, |to| first.max(to.next()));
            part::stretch(&mut parts, first, last);
        }
        let mut written = Vec::with_capacity(parts.len());
        for part in parts {
            progress.clear(&self.store, &keys, part.first, part.last)?;
            written.push(self.write_part(&keys, lane, &part)?);
            progress.archived_to = Some(part.last);
        }
        *slot = Some(progress);
        Ok(written)
    }

    /// The object, then its manifest: each durable before the next step.
    fn write_part<R: Row>(&self, keys: &Keys, lane: &Lane, part: &Part<'_, R>) -> Result<Written, LakeError> {
        let name = PartName { shard: lane.shard, first: part.first, last: part.last };
        let key = keys.object(lane.dataset, &part.date, name);
        let object = columns::write(lane.dataset, R::columns(part.rows, lane.shard)?)?;
        let (arrival_min, arrival_max) = span(part.rows.iter().map(R::arrival)).unwrap_or_default();
        let event_times = span(part.rows.iter().filter_map(R::event_time));
        let manifest = Manifest {
            version: Manifest::VERSION,
            object: key.clone(),
            dataset: lane.dataset,
            shard: lane.shard,
            rows: part.rows.len() as u64,
            bytes: object.len() as u64,
            first_offset: part.first,
            last_offset: part.last,
            arrival_min,
            arrival_max,
            event_time_min: event_times.map(|(min, _)| min),
            event_time_max: event_times.map(|(_, max)| max),
            sha256: manifest::sha256(&object),
        };
        self.store.put(&keys.bucket, &key, PARQUET, &object)?;
        self.store.put(&keys.bucket, &keys.manifest(lane.dataset, name), JSON, &manifest.to_json()?)?;
        let Manifest { rows, bytes, .. } = manifest;
        Ok(Written { dataset: lane.dataset, key, rows, bytes, first: part.first, last: part.last })
    }
}

fn span(times: impl Iterator<Item = Timestamp>) -> Option<(Timestamp, Timestamp)> {
    times.fold(None, |span, time| match span {
        None => Some((time, time)),
        Some((min, max)) => Some((time.min(min), time.max(max))),
    })
}

/// A panic while a lane was locked left `None` in it, and the map of lanes is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
