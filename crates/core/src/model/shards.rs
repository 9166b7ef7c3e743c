//! A stream's shards: which hash keys each owns, and which took over from which.

use crate::{Offset, ShardId, Timestamp};
use serde::{Deserialize, Serialize};

/// The MD5 of a partition key as a number: what chooses the shard, as Kinesis has it.
pub fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(md5::compute(partition_key).0)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardView {
    pub id: ShardId,
    /// The first and the last hash key that it owns.
    pub hash_keys: (u128, u128),
    /// The offset of its first record: no less than the end of its parents.
    pub start: Offset,
    pub opened: Timestamp,
    /// Whose hash keys it took over: one shard's after a split, two shards' after a merge.
    pub parents: Vec<ShardId>,
    /// The end of its records, and since when nothing is appended to it any more.
    pub closed: Option<(Offset, Timestamp)>,
}

/// A step from one set of open shards to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reshard {
    /// In two, the second of which begins at a hash key.
    Split { shard: ShardId, at: u128 },
    /// Two open shards whose hash keys are neighbours.
    Merge { shard: ShardId, adjacent: ShardId },
}

/// All shards that a stream ever had, by number. The open ones own every hash key once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<ShardView>", into = "Vec<ShardView>")]
pub struct Shards {
    all: Vec<ShardView>,
    /// By hash key.
    open: Vec<ShardId>,
}

impl Shards {
    /// Closed ones counted: every shard has its own open file.
    pub const COUNT_MAX: u32 = 4096;

    /// `count` is at least 1. What cannot be shared evenly belongs to the last one.
    pub fn even(count: u32, start: Offset, opened: Timestamp) -> Self {
        let shards = u128::from(count.max(1));
        // 2^128 / shards, rounded down; it needs a 129th bit where there is one.
        let width = u128::MAX / shards + u128::from(shards > 1 && u128::MAX % shards == shards - 1);
        let of = |number: u128| {
            let first = if number == 0 { 0 } else { width * number };
            let last = if number + 1 == shards { u128::MAX } else { width * (number + 1) - 1 };
            (ShardId(number as u32), (first, last))
        };
        let fresh = |(id, hash_keys)| ShardView { id, hash_keys, start, opened, parents: Vec::new(), closed: None };
        (0..shards).map(of).map(fresh).collect::<Vec<_>>().into()
    }

    pub fn all(&self) -> &[ShardView] {
        &self.all
    }

    pub fn get(&self, id: ShardId) -> Option<&ShardView> {
        self.all.get(id.0 as usize)
    }

    /// By hash key.
    pub fn open(&self) -> impl ExactSizeIterator<Item = &ShardView> {
        self.open.iter().map(|id| &self.all[id.0 as usize])
    }

    /// The open shard that owns a hash key, which is not asked for where there is one shard only.
    pub fn owner(&self, hash_key: impl FnOnce() -> u128) -> ShardId {
        if let [only] = self.open[..] {
            return only;
        }
        let key = hash_key();
        let after = self.open.partition_point(|id| self.all[id.0 as usize].hash_keys.0 <= key);
        self.open[after - 1]
    }

    /// Takes one step; `end` says where the records of a shard end that is now closed. Says why it cannot be.
    pub fn step(&mut self, step: Reshard, end: impl Fn(ShardId) -> Offset, now: Timestamp) -> Result<(), String> {
        let (parents, ranges) = match step {
            Reshard::Split { shard, at } => {
                let (first, last) = self.open_shard(shard)?.hash_keys;
                if at <= first || at > last {
                    return Err(format!("hash key {at} does not split shard {}, which has {first} to {last}", shard.0));
                }
                (vec![shard], vec![(first, at - 1), (at, last)])
            }
            Reshard::Merge { shard, adjacent } => {
                let (one, other) = (self.open_shard(shard)?.hash_keys, self.open_shard(adjacent)?.hash_keys);
                if one.1.checked_add(1) != Some(other.0) && other.1.checked_add(1) != Some(one.0) {
                    return Err(format!("shards {} and {} are not neighbours", shard.0, adjacent.0));
                }
                (vec![shard, adjacent], vec![(one.0.min(other.0), one.1.max(other.1))])
            }
        };
        if self.all.len() + ranges.len() > Self::COUNT_MAX as usize {
            return Err(format!("the stream has had {} shards, and may have {}", self.all.len(), Self::COUNT_MAX));
        }
        // A shard of an earlier step has no records yet.
        let ends: Vec<Offset> = parents.iter().map(|id| end(*id).max(self.all[id.0 as usize].start)).collect();
        for (id, end) in parents.iter().zip(&ends) {
            self.all[id.0 as usize].closed = Some((*end, now));
        }
        let start = ends.into_iter().max().unwrap_or_default();
        for hash_keys in ranges {
            let id = ShardId(self.all.len() as u32);
            self.all.push(ShardView { id, hash_keys, start, opened: now, parents: parents.clone(), closed: None });
        }
        self.open = open_of(&self.all);
        Ok(())
    }

    fn open_shard(&self, id: ShardId) -> Result<&ShardView, String> {
        let shard = self.get(id).ok_or_else(|| format!("there is no shard {}", id.0))?;
        if shard.closed.is_some() { Err(format!("shard {} is closed", id.0)) } else { Ok(shard) }
    }
}

fn open_of(all: &[ShardView]) -> Vec<ShardId> {
    let mut open: Vec<&ShardView> = all.iter().filter(|shard| shard.closed.is_none()).collect();
    open.sort_unstable_by_key(|shard| shard.hash_keys);
    open.into_iter().map(|shard| shard.id).collect()
}

impl From<Vec<ShardView>> for Shards {
    fn from(all: Vec<ShardView>) -> Self {
        Self { open: open_of(&all), all }
    }
}

impl From<Shards> for Vec<ShardView> {
    fn from(shards: Shards) -> Self {
        shards.all
    }
}
