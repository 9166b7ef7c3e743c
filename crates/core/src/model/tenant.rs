//! Tenants: who owns things, streams and results, and how many alerts they can bear.

use crate::{CertificateId, TenantId, ThingName, Timestamp};
use serde::{Deserialize, Serialize};

/// How many alerts per asset (thing) and week are bearable; every threshold follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AlertBudget {
    pub per_asset_and_week: f64,
}

impl AlertBudget {
    /// A month, here as wherever alerts are counted.
    pub const MONTH_DAYS: f64 = 30.0;
    const WEEK_DAYS: f64 = 7.0;

    pub fn monthly(per_asset_and_month: f64) -> Self {
        Self { per_asset_and_week: per_asset_and_month * Self::WEEK_DAYS / Self::MONTH_DAYS }
    }

    pub fn per_asset_and_month(&self) -> f64 {
        self.per_asset_and_week * Self::MONTH_DAYS / Self::WEEK_DAYS
    }
}

impl Default for AlertBudget {
    fn default() -> Self {
        Self { per_asset_and_week: 3.0 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantView {
    pub tenant: TenantId,
    pub created: Timestamp,
    pub budget: AlertBudget,
    pub things: Vec<ThingName>,
    pub stream: String,
    pub table: String,
    pub bucket: String,
    pub lake_prefix: String,
    pub alert_topic: String,
    pub rule: RuleView,
    pub policy: PolicyView,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleView {
    pub name: String,
    /// `SELECT * FROM '<topic filter>'`.
    pub sql: String,
    pub stream: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyView {
    pub name: String,
    pub document: serde_json::Value,
}

/// What `tenant offboard` removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Removed {
    pub things: Vec<ThingName>,
    pub certificates: Vec<CertificateId>,
    pub policies: Vec<String>,
    pub rules: Vec<String>,
    pub streams: Vec<String>,
    pub stream_records: u64,
    pub tables: Vec<String>,
    pub table_items: u64,
    pub lake_objects: u64,
}
