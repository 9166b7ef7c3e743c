//! Episodes: a run of anomalous readings of one thing, told as one event.

use crate::{Cause, Correction, Score, TenantId, ThingName, Timestamp};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

/// What `kilter anomalies list` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// `<thing>@<position of its first reading>`: the same however often the stream is scored.
    pub id: Box<str>,
    pub tenant: TenantId,
    pub thing: ThingName,
    pub start: Timestamp,
    /// When the highest score was seen.
    pub peak: Timestamp,
    /// `None` while open.
    pub end: Option<Timestamp>,
    pub severity: Severity,
    pub peak_score: Score,
    /// The threshold in force at the start.
    pub threshold: Score,
    /// Number of anomalous readings.
    pub readings: u64,
    /// Of the peak, largest share first.
    pub causes: Vec<Cause>,
    /// Arrival time of the record by which it was first known.
    #[serde(default)]
    pub known: Timestamp,
    #[serde(default)]
    pub corrected: Option<Correction>,
    /// Arrival time of the late record by which it never was; `end` is there then.
    #[serde(default)]
    pub withdrawn: Option<Timestamp>,
}
