//! Splitting and merging shards. Each change is one step for the stream: `UPDATING` is over before it is answered.

use super::{Request, argument, invalid, names::hash_key_of, stream_error, streams::SHARDS_MAX};
use crate::{Answer, AwsError};
use kilter_core::{Offset, Reshard, Shards, StreamName, ports::stream::StreamView};
use serde_json::json as object;

impl Request<'_> {
    pub(super) fn split_shard(&self) -> Result<Answer, AwsError> {
        let (name, view) = self.known_stream()?;
        let shard = self.known_shard(&name, &view, "ShardToSplit")?.id;
        let given = self.needed_text("NewStartingHashKey")?;
        let at = hash_key_of(given).ok_or_else(|| {
            invalid(format!(
                "1 validation error detected: Value '{given:.64}' at 'newStartingHashKey' failed to satisfy constraint: \
                 Member must satisfy regular expression pattern: 0|([1-9]\\d{{0,38}})"
            ))
        })?;
        self.reshard(&name, &view, &[Reshard::Split { shard, at }])?;
        Ok(Answer::empty())
    }

    pub(super) fn merge_shards(&self) -> Result<Answer, AwsError> {
        let (name, view) = self.known_stream()?;
        let shard = self.known_shard(&name, &view, "ShardToMerge")?.id;
        let adjacent = self.known_shard(&name, &view, "AdjacentShardToMerge")?.id;
        self.reshard(&name, &view, &[Reshard::Merge { shard, adjacent }])?;
        Ok(Answer::empty())
    }

    pub(super) fn update_shard_count(&self) -> Result<Answer, AwsError> {
        let (name, view) = self.known_stream()?;
        let scaling = self.needed_text("ScalingType")?;
        if scaling != "UNIFORM_SCALING" {
            return Err(invalid(format!(
                "1 validation error detected: Value '{scaling:.64}' at 'scalingType' failed to satisfy constraint: Member \
                 must satisfy enum value set: [UNIFORM_SCALING]"
            )));
        }
        let target = self.number("TargetShardCount", 1, i64::from(Shards::COUNT_MAX), None)?;
        let current = view.shards.open().len() as i64;
        if target > 2 * current || 2 * target < current {
            return Err(argument(format!(
                "UpdateShardCount cannot scale to more than double or less than half of the open shards: there are \
                 {current}, and the target is {target}"
            )));
        }
        self.reshard(&name, &view, &plan(&view.shards, target as u32))?;
        Ok(Answer::json(&object!({
            "StreamName": name, "StreamARN": self.arn(&name), "CurrentShardCount": current, "TargetShardCount": target,
        })))
    }

    fn reshard(&self, name: &StreamName, view: &StreamView, steps: &[Reshard]) -> Result<(), AwsError> {
        let exceeded = |message: String| Err(AwsError::new("LimitExceededException", message));
        let ever = view.shards.all().len() + 2 * steps.len();
        if ever > Shards::COUNT_MAX as usize {
            let max = Shards::COUNT_MAX;
            return exceeded(format!("Stream {name} would have had {ever} shards, and may have {max}: make it anew"));
        }
        let mut after = view.shards.clone();
        for step in steps {
            take(&mut after, *step).map_err(argument)?;
        }
        let (before, open) = (view.shards.open().len(), after.open().len());
        if open > SHARDS_MAX as usize && open > before {
            return exceeded(format!("Stream {name} would have {open} open shards, and may have {SHARDS_MAX}"));
        }
        self.ports.stream.reshard(name, steps).map_err(stream_error)
    }
}

/// The step as far as it concerns hash keys.
fn take(shards: &mut Shards, step: Reshard) -> Result<(), String> {
    shards.step(step, |_| Offset(0), kilter_core::Timestamp::default())
}

/// From the open shards to as many equal ones: first every boundary that is missing, then away with those too many.
fn plan(shards: &Shards, target: u32) -> Vec<Reshard> {
    let wanted = Shards::even(target, Offset(0), kilter_core::Timestamp::default());
    let wanted: Vec<u128> = wanted.open().map(|shard| shard.hash_keys.0).collect();
    let (mut now, mut steps) = (shards.clone(), Vec::new());
    loop {
        let missing = wanted.iter().find(|at| now.open().all(|shard| shard.hash_keys.0 != **at));
        let surplus = || now.open().zip(now.open().skip(1)).find(|(_, next)| !wanted.contains(&next.hash_keys.0));
        let step = match (missing, surplus()) {
            (Some(at), _) => Reshard::Split { shard: now.owner(|| *at), at: *at },
            (None, Some((shard, next))) => Reshard::Merge { shard: shard.id, adjacent: next.id },
            (None, None) => return steps,
        };
        take(&mut now, step).expect("an open shard is split within, or merged with its neighbour");
        steps.push(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_ends_in_equal_shards() {
        for (from, to) in [(1, 1), (1, 2), (2, 3), (3, 2), (5, 9), (64, 63), (7, 4), (4, 8)] {
            let mut shards = Shards::even(from, Offset(0), kilter_core::Timestamp::default());
            for step in plan(&shards, to) {
                take(&mut shards, step).unwrap();
            }
            let wanted = Shards::even(to, Offset(0), kilter_core::Timestamp::default());
            let ranges = |shards: &Shards| shards.open().map(|shard| shard.hash_keys).collect::<Vec<_>>();
            assert_eq!(ranges(&shards), ranges(&wanted), "{from} to {to}");
        }
    }
}
