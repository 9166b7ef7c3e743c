//! The ledger: every received message is accounted for.

use crate::{TenantId, ThingName};
use serde::{Deserialize, Serialize};

/// Counts of messages of one thing. `received = stored + rejected`, `stored = scored + late + waiting`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerLine {
    pub tenant: TenantId,
    pub thing: ThingName,
    /// The thing's own running count, carried in each record: independent of the counts below.
    pub received: u64,
    pub stored: u64,
    pub rejected: u64,
    pub scored: u64,
    /// Stored, but behind what was already scored (or a duplicate of it); kept in the lake, not scored.
    pub late: u64,
    pub waiting: u64,
}

impl LedgerLine {
    /// What does not add up, in words; `None` when all does.
    pub fn discrepancy(&self) -> Option<String> {
        let kept = self.stored + self.rejected;
        let done = self.scored + self.late + self.waiting;
        match (self.received == kept, self.stored == done) {
            (true, true) => None,
            (false, _) => Some(format!("received {} but stored + rejected = {kept}", self.received)),
            (_, false) => Some(format!("stored {} but scored + late + waiting = {done}", self.stored)),
        }
    }
}
