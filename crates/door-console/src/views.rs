//! Bodies that only this door speaks; everything else is core's own types.

use kilter_core::{CertificateStatus, LedgerLine, TenantId, ThingName};
use serde::{Deserialize, Serialize};

/// `GET /api/v1/overview`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    pub version: String,
    pub ready: bool,
    pub tenants: Vec<TenantOverview>,
    /// Of all tenants.
    pub ledger: LedgerTotals,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantOverview {
    pub tenant: TenantId,
    pub things: usize,
    /// Anomalies that have not ended.
    pub open_anomalies: EventCounts,
    /// Alerts that an opening anomaly raised in the last seven days.
    pub alerts_last_week: EventCounts,
    pub ledger: LedgerTotals,
}

/// A count among the newest events of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EventCounts {
    pub count: u64,
    /// There were more events than are looked at: the true number may be higher.
    pub at_least: bool,
}

/// Sums of ledger lines, in messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerTotals {
    pub received: u64,
    pub stored: u64,
    pub rejected: u64,
    pub scored: u64,
    pub late: u64,
    pub waiting: u64,
    /// Every line adds up.
    pub adds_up: bool,
}

impl LedgerTotals {
    pub(crate) fn of<'a>(lines: impl Iterator<Item = &'a LedgerLine>) -> Self {
        let mut sum = Self { received: 0, stored: 0, rejected: 0, scored: 0, late: 0, waiting: 0, adds_up: true };
        for line in lines {
            sum.received += line.received;
            sum.stored += line.stored;
            sum.rejected += line.rejected;
            sum.scored += line.scored;
            sum.late += line.late;
            sum.waiting += line.waiting;
            sum.adds_up &= line.discrepancy().is_none();
        }
        sum
    }
}

/// `GET /api/v1/ledger`: a ledger line and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    #[serde(flatten)]
    pub line: LedgerLine,
    /// What does not add up, in words; `None` when all does.
    pub discrepancy: Option<String>,
}

impl From<LedgerLine> for LedgerEntry {
    fn from(line: LedgerLine) -> Self {
        let discrepancy = line.discrepancy();
        Self { line, discrepancy }
    }
}

/// `POST /api/v1/tenants/{t}/things`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThingRequest {
    pub thing: ThingName,
}

/// `POST /api/v1/tenants/{t}/things/{n}/certificates`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// From now on.
    pub valid_hours: u32,
}

/// `POST /api/v1/tenants/{t}/things/{n}/rotation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationRequest {
    /// How long the device is waited for.
    pub within_seconds: u32,
}

/// `PUT /api/v1/certificates/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRequest {
    pub status: CertificateStatus,
}
