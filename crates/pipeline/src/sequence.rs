//! Each thing's own count of received messages. It travels in every record, so that the ledger can be audited
//! against something that the counting of stored and scored records knows nothing of.

use crate::checkpoint::{CheckpointError, Progress};
use kilter_core::{
    Offset, RecordKind, ShardId, StreamName, ThingName,
    ports::{
        stream::{ReadLimit, Stream},
        table::Table,
    },
};
use std::collections::HashMap;

/// How much of a stream is read at a time where all of it is looked at.
pub const SCAN: ReadLimit = ReadLimit { records: 10_000, bytes: 8 << 20 };

/// The last number given to each thing of a stream.
#[derive(Debug, Default)]
pub struct Sequences(HashMap<ThingName, u64>);

impl Sequences {
    /// Takes up where the stream's durable records end: the scorer's counts up to its checkpoint, then the records
    /// behind it.
    pub fn recover(
        stream: &dyn Stream,
        table: &dyn Table,
        name: &StreamName,
        shards: u32,
    ) -> Result<Self, CheckpointError> {
        let mut sequences = Self::default();
        for shard in (0..shards).map(ShardId) {
            let progress = Progress::of(name, shard);
            for (thing, counts) in progress.all_counts(table)? {
                sequences.reach(thing, counts.received);
            }
            let mut next = progress.checkpoint(table)?.next;
            next = next.max(stream.bounds(name, shard)?.first);
            loop {
                let records = stream.read(name, shard, next, SCAN)?;
                let Some(last) = records.last() else { break };
                next = last.offset.next();
                for r in records {
                    sequences.reach(r.record.thing, r.record.thing_sequence);
                }
            }
        }
        Ok(sequences)
    }

    /// A thing's records may lie in several shards: a child's behind its parents'.
    fn reach(&mut self, thing: ThingName, number: u64) {
        let last = self.0.entry(thing).or_default();
        *last = number.max(*last);
    }

    pub fn next(&mut self, thing: &ThingName) -> u64 {
        match self.0.get_mut(thing) {
            Some(last) => {
                *last += 1;
                *last
            }
            None => {
                self.0.insert(thing.clone(), 1);
                1
            }
        }
    }

    /// Takes back the numbers of messages that the stream refused at once.
    pub fn take_back<'a>(&mut self, things: impl Iterator<Item = &'a ThingName>) {
        for thing in things {
            if let Some(last) = self.0.get_mut(thing) {
                *last = last.saturating_sub(1);
            }
        }
    }
}

/// Records of each thing from `next` on, as (telemetry, rejected): what waits for the scorer.
pub fn waiting(
    stream: &dyn Stream,
    name: &StreamName,
    shard: ShardId,
    mut next: Offset,
) -> Result<HashMap<ThingName, Waiting>, CheckpointError> {
    let mut waiting: HashMap<ThingName, Waiting> = HashMap::new();
    next = next.max(stream.bounds(name, shard)?.first);
    loop {
        let records = stream.read(name, shard, next, SCAN)?;
        let Some(last) = records.last() else { return Ok(waiting) };
        next = last.offset.next();
        for r in records {
            let of_thing = waiting.entry(r.record.thing).or_default();
            of_thing.last_sequence = r.record.thing_sequence;
            match r.record.kind {
                RecordKind::Telemetry => of_thing.telemetry += 1,
                RecordKind::Rejected(_) => of_thing.rejected += 1,
            }
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Waiting {
    pub telemetry: u64,
    pub rejected: u64,
    pub last_sequence: u64,
}
