//! One shard's part of the scoring: from its checkpoint on, or from where its parents ended.

use super::{BATCH, ScorerPorts};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, Counts, Progress, Snapshot},
    decode::BATCH_READINGS_MAX,
    record::{Commit, RowTables, archive_key, archive_partition},
    thing::{Processed, ThingState},
};
use kilter_core::{
    Offset, Record, RecordKind, ShardId, ShardView, Shards, StreamName, TenantId, ThingName, Timestamp, hash_key,
    ports::{
        stream::{Stream, StreamErrorKind},
        table::Table,
    },
};
use std::{collections::HashMap, sync::Arc};

/// A thing's state is written after this many of its records: what a restart has to learn again, per thing.
const SNAPSHOT_RECORDS: u32 = 256;
/// But not more often than this: while a backlog is worked off, states would be more than a third of what the disk writes. What is
/// scored in this time is learned again in less.
const SNAPSHOT_SECONDS_MIN: f64 = 2.0;
/// States written in one commit. Together with [`SNAPSHOT_RECORDS`] it bounds how much the disk writes.
const SNAPSHOT_BYTES: usize = 4 << 20;
/// Readings that one batch judges again: late data of one stream must not keep the others waiting. What is left of the
/// batch is the next one.
const REJUDGED_MAX: u64 = 10_000;

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
    /// When the snapshot was stored, or found.
    stored: Timestamp,
}

/// A thing's state, and where it was found.
type Stored<'a> = (Snapshot, &'a Progress);

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
    /// The state, and the marks that it relies on. Answers how many bytes that writes.
    pub fn snapshot(&mut self, progress: &Progress, thing: &ThingName, now: Timestamp, commit: &mut Commit) -> usize {
        self.dirty_from = None;
        self.dirty_records = 0;
        self.stored = now;
        let marks = self.state.take_marks();
        let state = progress.write_snapshot(thing, &Snapshot { as_of: self.as_of, state: self.state.snapshot() });
        let put = marks.put.into_iter().map(|(number, bytes)| progress.write_mark(thing, number, bytes));
        let delete = marks.delete.into_iter().map(|number| progress.delete_mark(thing, number));
        let mut bytes = 0;
        for write in put.chain(delete).chain([state]) {
            bytes += write.value.as_ref().map_or(0, Vec::len);
            commit.push(write);
        }
        bytes
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
        let (mut newest, mut count, mut rejudged) = (None, 0, 0);
        for record in records {
            // Whoever else wants this processor has it now, not at the end of a time slice: devices wait for answers.
            std::thread::yield_now();
            self.next = record.offset.next();
            let emit = record.offset >= self.committed;
            rejudged += self.take(id, &record, ports, emit.then_some((&mut *commit, outbox)), watched)?;
            newest = Some(record.record.arrival);
            count += 1;
            if rejudged >= REJUDGED_MAX {
                break;
            }
        }
        if self.next >= self.committed {
            self.committed = self.next;
            self.checkpoint(commit, ports.clock.now(), last);
        }
        metrics::counter!("kilter_score_records_total").increment(count as u64);
        Ok((count, newest))
    }

    /// Answers how many readings were judged again.
    fn take(
        &mut self,
        id: ShardId,
        record: &Record,
        ports: &ScorerPorts,
        emit: Option<(&mut Commit, &Arc<str>)>,
        watched: bool,
    ) -> Result<u64, CheckpointError> {
        let (thing, hash_keys) = (&record.record.thing, self.hash_keys);
        if !self.things.contains_key(thing) {
            let resident = self.load(thing, ports)?;
            self.things.insert(thing.clone(), resident);
            self.arrived.push(thing.clone());
        }
        let resident = self.things.get_mut(thing).expect("the thing was loaded just above");
        if record.offset < resident.as_of {
            return Ok(0);
        }
        resident.as_of = record.offset.next();
        resident.dirty_from.get_or_insert(record.offset);
        resident.dirty_records += 1;
        if record.record.kind != RecordKind::Telemetry {
            if emit.is_some() {
                resident.count(record, hash_keys, |counts| counts.rejected += 1);
            }
            return Ok(0);
        }
        let (table, progress) = (&*ports.table, &self.progress);
        let done = resident.state.process(id, record, &|number| progress.mark(table, thing, number))?;
        let rejudged = done.rejudged;
        if let Some((commit, outbox)) = emit {
            resident.count(
                record,
                hash_keys,
                |counts| if done.rows.is_empty() { counts.late += 1 } else { counts.scored += 1 },
            );
            for change in &done.changes {
                commit.change(&self.results, outbox, change, record.record.arrival);
            }
            self.write_rows(record.offset, done, ports, commit, watched)?;
        }
        Ok(rejudged)
    }

    fn write_rows(
        &self,
        offset: Offset,
        done: Processed,
        ports: &ScorerPorts,
        commit: &mut Commit,
        watched: bool,
    ) -> Result<(), CheckpointError> {
        metrics::counter!("kilter_score_readings_total").increment(done.rows.len() as u64);
        metrics::counter!("kilter_score_late_readings_total").increment(done.late_readings);
        metrics::counter!("kilter_score_corrected_readings_total").increment(done.corrected.len() as u64);
        metrics::counter!("kilter_score_unscored_signals_total").increment(done.unscored_signals);
        let to = RowTables {
            tenant: &self.tenant,
            results: (ports.keeps_rows)(&self.tenant).then_some(&self.results),
            scoring: &self.scoring,
            table: &*ports.table,
            watched,
        };
        for row in done.rows {
            commit.row(&to, row);
        }
        // Behind the record's own rows: the lake takes them in the order in which they became known.
        for (index, row) in done.corrected.into_iter().enumerate() {
            commit.corrected(&to, row, (&self.archive_pk, archive_key(offset, BATCH_READINGS_MAX + index)))?;
        }
        Ok(())
    }

    fn load(&self, thing: &ThingName, ports: &ScorerPorts) -> Result<Resident, CheckpointError> {
        let config = (ports.config_for)(&self.tenant, thing);
        let (stored, counts) = self.stored(&*ports.table, thing)?;
        let new = || ThingState::new(self.tenant.clone(), thing.clone(), config.clone(), ports.horizon);
        let (state, as_of) = match stored {
            None => (new(), Offset(0)),
            Some((Snapshot { as_of, state }, at)) => {
                let (tenant, name) = (self.tenant.clone(), thing.clone());
                match ThingState::restore(tenant, name, config.clone(), ports.horizon, &state) {
                    Ok(mut state) => {
                        self.bring_marks(&mut state, thing, at, &*ports.table)?;
                        (state, as_of)
                    }
                    Err(error) => {
                        tracing::warn!(%thing, %error, "the thing's detectors start afresh");
                        (new(), as_of)
                    }
                }
            }
        };
        let (dirty_from, stored) = (None, ports.clock.now());
        Ok(Resident { state, counts, counts_changed: false, as_of, dirty_from, dirty_records: 0, stored })
    }

    /// What a thing has marked in the shard that it comes from is written here with its next state.
    fn bring_marks(
        &self,
        state: &mut ThingState,
        thing: &ThingName,
        at: &Progress,
        table: &dyn Table,
    ) -> Result<(), CheckpointError> {
        if at.partition() != self.progress.partition() {
            for number in state.marks() {
                if let Some(bytes) = at.mark(table, thing, number)? {
                    state.adopt_mark(number, bytes);
                }
            }
        }
        Ok(())
    }

    /// A thing's state with where it was found, and its counts; where it has none here, it goes on with those of the
    /// shard that it comes from.
    fn stored(&self, table: &dyn Table, thing: &ThingName) -> Result<(Option<Stored<'_>>, Counts), CheckpointError> {
        let mut counts = self.progress.counts(table, thing)?;
        let mut snapshot = self.progress.snapshot(table, thing)?.map(|snapshot| (snapshot, &self.progress));
        let mut ancestors = self.ancestors.iter();
        while snapshot.is_none()
            && let Some((_, ancestor)) = ancestors.next()
        {
            snapshot = ancestor.snapshot(table, thing)?.map(|snapshot| (snapshot, ancestor));
            if let (Some(_), None) = (&snapshot, counts) {
                let received = ancestor.counts(table, thing)?.unwrap_or_default().received;
                counts = Some(Counts { received, ..Counts::default() });
            }
        }
        Ok((snapshot, counts.unwrap_or_default()))
    }

    /// The checkpoint, the counts that changed, and the states that are due: all of them where the shard has ended.
    fn checkpoint(&mut self, commit: &mut Commit, now: Timestamp, all: bool) {
        let ended = self.end == Some(self.next);
        for (thing, resident) in &mut self.things {
            if std::mem::take(&mut resident.counts_changed) {
                commit.push(self.progress.write_counts(thing, &resident.counts));
            }
        }
        let mut due: Vec<(Offset, ThingName)> = self
            .things
            .iter()
            .filter(|(_, r)| all || ended || r.is_due(now))
            .filter_map(|(thing, r)| r.dirty_from.map(|from| (from, thing.clone())))
            .collect();
        due.sort();
        let mut bytes = 0;
        for (_, thing) in due {
            if bytes > SNAPSHOT_BYTES && !all {
                break;
            }
            std::thread::yield_now();
            if let Some(resident) = self.things.get_mut(&thing) {
                bytes += resident.snapshot(&self.progress, &thing, now, commit);
            }
        }
        let relearn_from = self.things.values().filter_map(|r| r.dirty_from).min().unwrap_or(self.next);
        self.drained = ended && relearn_from == self.next;
        commit.push(self.progress.write_checkpoint(&Checkpoint { next: self.next, relearn_from }));
    }
}

impl Resident {
    fn is_due(&self, now: Timestamp) -> bool {
        // Either way: a clock that was set back must not keep it from being written.
        self.dirty_records >= SNAPSHOT_RECORDS && now.seconds_since(self.stored).abs() >= SNAPSHOT_SECONDS_MIN
    }

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
