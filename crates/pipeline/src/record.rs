//! One commit of the scorer: rows, episodes, alerts, counts, states and the checkpoint, all or nothing. Also the one
//! place that knows under which keys the results table keeps them.

use crate::episodes::{self, Change};
use kilter_core::{
    Alert, AlertEvent, Episode, Offset, ScoredReading, TenantId, Timestamp,
    ports::{
        query::LiveEvent,
        table::{Table, TableError, Write},
    },
};
use std::sync::Arc;

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

/// By time; of one moment (a device that sends what it has kept) what opened comes before what closed.
pub fn alert_key(alert: &Alert) -> String {
    let order = match alert.event {
        AlertEvent::Opened => 0,
        AlertEvent::Closed => 1,
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

pub fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("results have string keys and finite numbers, so they are JSON")
}

/// Gathers writes and, for after the commit, what to tell those who watch.
#[derive(Default)]
pub struct Commit {
    writes: Vec<Write>,
    events: Vec<LiveEvent>,
    alerts: bool,
}

impl Commit {
    pub fn push(&mut self, write: Write) {
        self.writes.push(write);
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// `table`: where the row is kept, if anywhere.
    pub fn row(&mut self, tenant: &TenantId, table: Option<&Arc<str>>, row: ScoredReading, watched: bool) {
        if let Some(table) = table {
            self.writes.push(Write::put(table, row.thing.as_str(), row_key(&row), json(&row)));
        }
        if watched {
            self.events.push(LiveEvent::Reading { tenant: tenant.clone(), reading: row });
        }
    }

    pub fn change(&mut self, table: &Arc<str>, outbox: &Arc<str>, change: Change, raised: Timestamp) {
        let episode = &change.episode;
        self.writes.push(Write::put(table, EPISODES, episode_key(episode), json(episode)));
        if let Some(alert) = episodes::alert(&change, raised) {
            let value = json(&alert);
            self.writes.push(Write::put(table, ALERTS, alert_key(&alert), value.clone()));
            self.writes.push(Write::put(outbox, "alert", alert_key(&alert), value));
            self.events.push(LiveEvent::Alert { alert });
            self.alerts = true;
        }
        self.events.push(LiveEvent::Anomaly { episode: change.episode });
    }

    /// Makes it all durable; answers what to tell, and whether an alert waits in the outbox.
    pub fn write(self, table: &dyn Table) -> Result<(Vec<LiveEvent>, bool), TableError> {
        table.commit(self.writes)?;
        Ok((self.events, self.alerts))
    }
}
