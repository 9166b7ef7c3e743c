//! What operators may read. Blocking: never call it from an async thread.

use crate::{
    Alert, CertificateEntry, Episode, LedgerLine, Offset, ScoredReading, ShardId, TenantId, TenantView, ThingName,
    ThingView, Timestamp, ports::control::ControlError,
};
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

/// What is there.
pub trait Inventory: Send + Sync {
    fn tenants(&self) -> Result<Vec<TenantView>, ControlError>;
    /// Of one tenant, or all that there are: those without a tenant too.
    fn things(&self, tenant: Option<&TenantId>) -> Result<Vec<ThingView>, ControlError>;
    /// All certificates, or those of a tenant's things, or of one thing; sorted by thing, then by age.
    fn certificates(
        &self,
        tenant: Option<&TenantId>,
        thing: Option<&ThingName>,
    ) -> Result<Vec<CertificateEntry>, ControlError>;
    /// The newest records of the tenant's stream, oldest of them first.
    fn stream_records(&self, tenant: &TenantId, limit: usize) -> Result<Vec<RecordView>, ControlError>;
    /// Objects of the tenant's lake, sorted by key.
    fn lake_objects(&self, tenant: &TenantId) -> Result<Vec<ObjectView>, ControlError>;
}

/// What was found.
pub trait Results: Send + Sync {
    /// The newest `limit` readings up to `before`, oldest of them first.
    fn readings(
        &self,
        tenant: &TenantId,
        thing: &ThingName,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<ScoredReading>, ControlError>;
    /// Newest start first.
    fn anomalies(&self, filter: &Filter) -> Result<Vec<Episode>, ControlError>;
    /// Newest first.
    fn alerts(&self, filter: &Filter) -> Result<Vec<Alert>, ControlError>;
    /// One line per thing that ever sent a message, sorted by tenant and thing.
    fn ledger(&self, tenant: Option<&TenantId>) -> Result<Vec<LedgerLine>, ControlError>;
    /// Events from now on. A reader that falls behind misses events and is told by [`LiveEvent::Missed`].
    fn live(&self) -> BoxStream<'static, LiveEvent>;
}

#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub tenant: Option<TenantId>,
    pub thing: Option<ThingName>,
    pub limit: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordView {
    pub shard: ShardId,
    pub offset: Offset,
    pub thing: ThingName,
    pub arrival: Timestamp,
    pub topic: String,
    /// The payload; bytes that are not UTF-8 are shown as U+FFFD.
    pub data: String,
    /// Why it was rejected, where it was.
    pub rejected: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ObjectView {
    pub bucket: String,
    pub key: String,
    pub bytes: u64,
    pub modified: Timestamp,
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum LiveEvent {
    Reading { tenant: TenantId, reading: ScoredReading },
    Anomaly { episode: Episode },
    Alert { alert: Alert },
    Missed { events: u64 },
}
