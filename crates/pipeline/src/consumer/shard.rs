//! One shard's part of the scoring: from its checkpoint on, or from where its parents ended.

use super::{BATCH, ScorerPorts};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, Counts, Progress, Snapshot},
    record::{Commit, archive_key, archive_partition, json, row_key},
    thing::ThingState,
};
use kilter_core::{
    Offset, Record, RecordKind, ShardId, ShardView, Shards, StreamName, TenantId, ThingName, Timestamp, hash_key,
    ports::{
        stream::{Stream, StreamErrorKind},
        table::{Table, Write},
    },
};
use std::{collections::HashMap, sync::Arc};

/// A thing's state is written after this many of its records: what a restart has to learn again, per thing.
const SNAPSHOT_RECORDS: u32 = 256;
/// States written in one commit. Together with [`SNAPSHOT_RECORDS`] it bounds how much the disk writes.
const SNAPSHOT_BYTES: usize = 4 << 20;

pub(super) struct Shard {
    /// Whose records come before this shard's.
    pub parents: Vec<ShardId>,
    /// Where the things may have their state that have none here yet: the nearest first.
    pub ancestors: Vec<(ShardId, Progress)>,
    /// Things that have come here from an ancestor since the last round.
    pub arrived: Vec<ThingName>,
    hash_keys: (u128, u128),
    /// Where a closed shard ends.
    pub end: Option<Offset>,
    /// It has ended, and the states of its things are committed: its children may go on with them.
    pub drained: bool,
    pub tenant: TenantId,
    pub results: Arc<str>,
    scoring: Arc<str>,
    archive_pk: String,
    pub progress: Progress,
    pub next: Offset,
    /// Records before it have their results committed: they are only learned again.
    committed: Offset,
    pub things: HashMap<ThingName, Resident>,
    pub failed: bool,
}

pub(super) struct Resident {
    pub state: ThingState,
    counts: Counts,
    counts_changed: bool,
    /// The stored snapshot has seen every record of the thing before it.
    pub as_of: Offset,
    /// First record that the stored snapshot has not seen.
    dirty_from: Option<Offset>,
    dirty_records: u32,
}

/// The shards that came before, the nearest first.
fn ancestors(shards: &Shards, view: &ShardView) -> Vec<ShardId> {
    let mut found = view.parents.clone();
    let mut next = 0;
    while let Some(id) = found.get(next) {
        let parents = shards.get(*id).map_or(&[][..], |shard| &shard.parents);
        let new: Vec<ShardId> = parents.iter().filter(|parent| !found.contains(parent)).copied().collect();
        found.extend(new);
        next += 1;
    }
    found
}

impl Resident {
    pub fn snapshot(&mut self, progress: &Progress, thing: &ThingName) -> Write {
        self.dirty_from = None;
        self.dirty_records = 0;
        progress.write_snapshot(thing, &Snapshot { as_of: self.as_of, state: self.state.snapshot() })
    }
}

impl Shard {
    pub fn open(
        table: &dyn Table,
        stream: &dyn Stream,
        tenant: &TenantId,
        name: &StreamName,
        shards: &Shards,
        view: &ShardView,
    ) -> Result<Self, CheckpointError> {
        let progress = Progress::of(name, view.id);
        let Checkpoint { next, relearn_from } = progress.checkpoint(table)?;
        let (next, relearn_from) = (next.max(view.start), relearn_from.max(view.start));
        let first = stream.bounds(name, view.id)?.first;
        if next < first {
            tracing::error!(stream = %name, shard = view.id.0, from = next.0, to = first.0, "records were deleted before they were scored");
        }
        let end = view.closed.map(|(end, _)| end);
        let ancestors = ancestors(shards, view).into_iter().map(|id| (id, Progress::of(name, id))).collect();
        Ok(Self {
            parents: view.parents.clone(),
            ancestors,
            arrived: Vec::new(),
            hash_keys: view.hash_keys,
            end,
            drained: end == Some(relearn_from.max(first)),
            tenant: tenant.clone(),
            results: tenant.table().into(),
            scoring: crate::checkpoint::table_of(name).into(),
            archive_pk: archive_partition(progress.partition()),
            progress,
            next: relearn_from.max(first),
            committed: next,
            things: HashMap::new(),
            failed: false,
        })
    }

    /// One batch; answers the number of records and the newest arrival among them.
    #[expect(clippy::too_many_arguments, reason = "the scorer's own parts, borrowed apart")]
    pub fn round(
        &mut self,
        stream: &StreamName,
        id: ShardId,
        ports: &ScorerPorts,
        outbox: &Arc<str>,
        commit: &mut Commit,
        watched: bool,
        last: bool,
    ) -> Result<(usize, Option<Timestamp>), CheckpointError> {
        let records = match ports.stream.read(stream, id, self.next, BATCH) {
            Ok(records) => records,
            // Deleted since the list was made: the next round does not see it.
            Err(error) if error.kind == StreamErrorKind::NotFound => return Ok((0, None)),
            Err(error) => return Err(error.into()),
        };
        let hands_over = self.end == Some(self.next) && !self.drained;
        if records.is_empty() && !last && !hands_over {
            return Ok((0, None));
        }
        let newest = records.last().map(|r| r.record.arrival);
        let count = records.len();
        for record in records {
            self.next = record.offset.next();
            let emit = record.offset >= self.committed;
            self.take(id, &record, ports, emit.then_some((&mut *commit, outbox)), watched)?;
        }
        if self.next >= self.committed {
            self.committed = self.next;
            self.checkpoint(commit, last);
        }
        metrics::counter!("kilter_score_records_total").increment(count as u64);
        Ok((count, newest))
    }

    fn take(
        &mut self,
        id: ShardId,
        record: &Record,
        ports: &ScorerPorts,
        emit: Option<(&mut Commit, &Arc<str>)>,
        watched: bool,
    ) -> Result<(), CheckpointError> {
        let (thing, hash_keys) = (&record.record.thing, self.hash_keys);
        if !self.things.contains_key(thing) {
            let resident = self.load(thing, ports)?;
            self.things.insert(thing.clone(), resident);
            self.arrived.push(thing.clone());
        }
        let resident = self.things.get_mut(thing).expect("the thing was loaded just above");
        if record.offset < resident.as_of {
            return Ok(());
        }
        resident.as_of = record.offset.next();
        resident.dirty_from.get_or_insert(record.offset);
        resident.dirty_records += 1;
        if record.record.kind != RecordKind::Telemetry {
            if emit.is_some() {
                resident.count(record, hash_keys, |counts| counts.rejected += 1);
            }
            return Ok(());
        }
        let done = resident.state.process(id, record);
        let Some((commit, outbox)) = emit else { return Ok(()) };
        resident.count(
            record,
            hash_keys,
            |counts| if done.rows.is_empty() { counts.late += 1 } else { counts.scored += 1 },
        );
        metrics::counter!("kilter_score_readings_total").increment(done.rows.len() as u64);
        metrics::counter!("kilter_score_late_readings_total").increment(done.late_readings);
        metrics::counter!("kilter_score_unscored_signals_total").increment(done.unscored_signals);
        for change in done.changes {
            commit.change(&self.results, outbox, change, record.record.arrival);
        }
        let kept = (ports.keeps_rows)(&self.tenant);
        for (index, row) in done.rows.into_iter().enumerate() {
            // The lake takes a row from the table; where there is none, the row waits for the lake by itself.
            let waits = if kept { format!("{}\0{}", row.thing, row_key(&row)).into_bytes() } else { json(&row) };
            let key = archive_key(record.offset, index);
            commit.push(Write::put(&self.scoring, self.archive_pk.as_str(), key, waits));
            commit.row(&self.tenant, kept.then_some(&self.results), row, watched);
        }
        Ok(())
    }

    fn load(&self, thing: &ThingName, ports: &ScorerPorts) -> Result<Resident, CheckpointError> {
        let config = (ports.config_for)(&self.tenant, thing);
        let (stored, counts) = self.stored(&*ports.table, thing)?;
        let (state, as_of) = match stored {
            None => (ThingState::new(self.tenant.clone(), thing.clone(), config), Offset(0)),
            Some(Snapshot { as_of, state }) => {
                match ThingState::restore(self.tenant.clone(), thing.clone(), config.clone(), &state) {
                    Ok(state) => (state, as_of),
                    Err(error) => {
                        tracing::warn!(%thing, %error, "the thing's detectors start afresh");
                        (ThingState::new(self.tenant.clone(), thing.clone(), config), as_of)
                    }
                }
            }
        };
        Ok(Resident { state, counts, counts_changed: false, as_of, dirty_from: None, dirty_records: 0 })
    }

    /// A thing's state and counts; where it has none here, it goes on with those of the shard that it comes from.
    fn stored(&self, table: &dyn Table, thing: &ThingName) -> Result<(Option<Snapshot>, Counts), CheckpointError> {
        let (mut snapshot, mut counts) = (self.progress.snapshot(table, thing)?, self.progress.counts(table, thing)?);
        let mut ancestors = self.ancestors.iter();
        while snapshot.is_none()
            && let Some((_, ancestor)) = ancestors.next()
        {
            snapshot = ancestor.snapshot(table, thing)?;
            if let (Some(_), None) = (&snapshot, counts) {
                let received = ancestor.counts(table, thing)?.unwrap_or_default().received;
                counts = Some(Counts { received, ..Counts::default() });
            }
        }
        Ok((snapshot, counts.unwrap_or_default()))
    }

    /// The checkpoint, the counts that changed, and the states that are due: all of them where the shard has ended.
    fn checkpoint(&mut self, commit: &mut Commit, all: bool) {
        let ended = self.end == Some(self.next);
        for (thing, resident) in &mut self.things {
            if std::mem::take(&mut resident.counts_changed) {
                commit.push(self.progress.write_counts(thing, &resident.counts));
            }
        }
        let mut due: Vec<(Offset, ThingName)> = self
            .things
            .iter()
            .filter(|(_, r)| all || ended || r.dirty_records >= SNAPSHOT_RECORDS)
            .filter_map(|(thing, r)| r.dirty_from.map(|from| (from, thing.clone())))
            .collect();
        due.sort();
        let mut bytes = 0;
        for (_, thing) in due {
            if bytes > SNAPSHOT_BYTES && !all {
                break;
            }
            if let Some(resident) = self.things.get_mut(&thing) {
                let write = resident.snapshot(&self.progress, &thing);
                bytes += write.value.as_ref().map_or(0, Vec::len);
                commit.push(write);
            }
        }
        let relearn_from = self.things.values().filter_map(|r| r.dirty_from).min().unwrap_or(self.next);
        self.drained = ended && relearn_from == self.next;
        commit.push(self.progress.write_checkpoint(&Checkpoint { next: self.next, relearn_from }));
    }
}

impl Resident {
    /// Counts a record, and checks that the thing's own number follows the last one, unless a hash key of its own has
    /// brought the record here: then others of the thing may be elsewhere.
    fn count(&mut self, record: &Record, hash_keys: (u128, u128), add: impl FnOnce(&mut Counts)) {
        let expected = self.counts.received + 1;
        let at_home = || (hash_keys.0..=hash_keys.1).contains(&hash_key(&record.record.partition_key));
        if record.record.thing_sequence != expected && at_home() {
            metrics::counter!("kilter_ledger_gaps_total").increment(1);
            let thing = &record.record.thing;
            tracing::error!(%thing, offset = record.offset.0, expected, found = record.record.thing_sequence, "the ledger has a gap");
        }
        self.counts.received = record.record.thing_sequence;
        add(&mut self.counts);
        self.counts_changed = true;
    }
}
