//! One commit of the scorer: rows, episodes, alerts, counts, states and the checkpoint, all or nothing. Also the one
//! place that knows under which keys the results table keeps them.

use crate::{
    checkpoint::partition,
    episodes::{self, Change},
};
use kilter_core::{
    Alert, AlertEvent, Episode, Offset, ScoredReading, ShardId, TenantId, Timestamp,
    ports::{
        query::LiveEvent,
        table::{Table, TableError, Write},
    },
};
use std::{collections::HashMap, sync::Arc};

/// Episodes of a tenant, by start. `#` cannot stand in a thing's name.
pub const EPISODES: &str = "#anomalies";
/// Alerts of a tenant, by the time they were raised.
pub const ALERTS: &str = "#alerts";
/// Alerts that still have to be delivered somewhere, of all tenants.
pub const OUTBOX: &str = "outbox";

/// The sort key of a row: event time, then position, so that rows of one moment stay apart.
pub fn row_key(row: &ScoredReading) -> String {
    format!("{}#{}", row.event_time.sortable(), row.position)
}

pub fn episode_key(episode: &Episode) -> String {
    format!("{}#{}", episode.start.sortable(), episode.id)
}

/// By time; of one moment (a device that sends what it has kept) what opened comes before what closed, and that before
/// what late data has changed.
pub fn alert_key(alert: &Alert) -> String {
    let order = match alert.event {
        AlertEvent::Opened => 0,
        AlertEvent::Closed => 1,
        AlertEvent::Amended => 2,
        AlertEvent::Withdrawn => 3,
    };
    format!("{}#{order}#{}", alert.raised.sortable(), alert.key)
}

/// Rows that the lake has not archived yet: partition of the stream's scoring table, by offset.
pub fn archive_partition(shard_partition: &str) -> String {
    format!("{shard_partition}/unarchived")
}

pub fn archive_key(offset: Offset, index: usize) -> String {
    format!("{:020}:{index:06}", offset.0)
}

/// Partition and sort key under which a reading's first row waits for the lake.
fn archive_place(row: &ScoredReading) -> (String, String) {
    let mut fields = row.position.split(':').map_while(|field| field.parse::<u64>().ok());
    let (Some(shard), Some(offset), Some(index)) = (fields.next(), fields.next(), fields.next()) else {
        unreachable!("the scorer makes positions of shard, offset and index; found {:?}", row.position)
    };
    (archive_partition(&partition(ShardId(shard as u32))), archive_key(Offset(offset), index as usize))
}

/// What waits for the lake is a row itself, or says under which keys the results table has it. No thing's name begins
/// like a row.
pub fn is_row(waiting: &[u8]) -> bool {
    waiting.starts_with(b"{")
}

pub fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("results have string keys and finite numbers, so they are JSON")
}

/// Gathers writes and, for after the commit, what to tell those who watch.
#[derive(Default)]
pub struct Commit {
    writes: Vec<Write>,
    /// Where among `writes` a row is, and what of it waits for the lake.
    rows: HashMap<String, (usize, usize)>,
    events: Vec<LiveEvent>,
    alerts: bool,
}

/// Where rows go: to the results table, if there is one, and to what waits for the lake.
pub struct RowTables<'a> {
    pub tenant: &'a TenantId,
    pub results: Option<&'a Arc<str>>,
    pub scoring: &'a Arc<str>,
    pub table: &'a dyn Table,
    /// Whether somebody looks on.
    pub watched: bool,
}

impl Commit {
    pub fn push(&mut self, write: Write) {
        self.writes.push(write);
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// A reading's first row.
    pub fn row(&mut self, to: &RowTables<'_>, row: ScoredReading) {
        let (partition, key) = archive_place(&row);
        let value = json(&row);
        match to.results {
            Some(results) => {
                let (sk, waiting) = (row_key(&row), self.writes.len());
                let reference = format!("{}\0{sk}", row.thing);
                self.writes.push(Write::put(to.scoring, partition, key, reference.clone().into_bytes()));
                self.writes.push(Write::put(results, row.thing.as_str(), sk, value));
                self.rows.insert(reference, (waiting + 1, waiting));
            }
            None => self.writes.push(Write::put(to.scoring, partition, key, value)),
        }
        self.tell(to, row);
    }

    /// A row in another's place. The lake gets both: the one that was, if it still waits, as it was, and this one
    /// under `(partition, key)`.
    pub fn corrected(
        &mut self,
        to: &RowTables<'_>,
        row: ScoredReading,
        (partition, key): (&str, String),
    ) -> Result<(), TableError> {
        let value = json(&row);
        if let Some(results) = to.results {
            let sk = row_key(&row);
            let reference = format!("{}\0{sk}", row.thing);
            if let Some(&(at, waiting)) = self.rows.get(&reference) {
                let before = self.writes[at].value.replace(value.clone());
                if self.writes[waiting].value.as_deref().is_some_and(|waits| !is_row(waits)) {
                    self.writes[waiting].value = before;
                }
            } else {
                self.keep_first(to, results, &row, &sk)?;
                self.rows.insert(reference, (self.writes.len(), self.writes.len() + 1));
                self.writes.push(Write::put(results, row.thing.as_str(), sk, value.clone()));
            }
        }
        self.writes.push(Write::put(to.scoring, partition, key, value));
        self.tell(to, row);
        Ok(())
    }

    /// Where a row that is replaced waits for the lake by its keys only, it waits as it is from now on.
    fn keep_first(
        &mut self,
        to: &RowTables<'_>,
        results: &Arc<str>,
        row: &ScoredReading,
        sk: &str,
    ) -> Result<(), TableError> {
        // What was corrected before waits as a row of its own.
        if row.corrected.is_none_or(|corrected| corrected.revision > 1) {
            return Ok(());
        }
        let (partition, key) = archive_place(row);
        let waits = to.table.get(to.scoring, &partition, &key)?;
        if waits.is_some_and(|waits| !is_row(&waits))
            && let Some(before) = to.table.get(results, row.thing.as_str(), sk)?
        {
            self.writes.push(Write::put(to.scoring, partition, key, before));
        }
        Ok(())
    }

    fn tell(&mut self, to: &RowTables<'_>, row: ScoredReading) {
        if to.watched {
            self.events.push(LiveEvent::Reading { tenant: to.tenant.clone(), reading: row });
        }
    }

    pub fn change(&mut self, table: &Arc<str>, outbox: &Arc<str>, change: &Change, raised: Timestamp) {
        let episode = &change.episode;
        if let Some(start) = change.moved_from {
            let before = Episode { start, ..episode.clone() };
            self.writes.push(Write::delete(table, EPISODES, episode_key(&before)));
        }
        self.writes.push(Write::put(table, EPISODES, episode_key(episode), json(episode)));
        if let Some(alert) = episodes::alert(change, raised) {
            let value = json(&alert);
            self.writes.push(Write::put(table, ALERTS, alert_key(&alert), value.clone()));
            self.writes.push(Write::put(outbox, "alert", alert_key(&alert), value));
            self.events.push(LiveEvent::Alert { alert });
            self.alerts = true;
        }
        self.events.push(LiveEvent::Anomaly { episode: episode.clone() });
    }

    /// Makes it all durable; answers what to tell, and whether an alert waits in the outbox.
    pub fn write(self, table: &dyn Table) -> Result<(Vec<LiveEvent>, bool), TableError> {
        table.commit(self.writes)?;
        Ok((self.events, self.alerts))
    }
}
