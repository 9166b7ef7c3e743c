//! Making, changing and removing streams. Kinesis takes its time for each; a call ends when it is done.

use super::{
    AwsStream, Shared,
    failure::{error, failed},
    numbers::{FIRST_TAG, Known, shard_name},
};
use crate::{READY_LOOKS, READY_PAUSE, words};
use aws_sdk_kinesis::{
    error::ProvideErrorMetadata,
    types::{StreamDescriptionSummary, StreamStatus},
};
use kilter_core::{
    Offset, Reshard, ShardView, Shards, StreamName, Timestamp,
    ports::stream::{StreamAdmin, StreamError, StreamErrorKind, StreamView},
};
use std::time::Duration;

const HOUR: u64 = 3_600;

impl Shared {
    async fn summary(&self, stream: &StreamName) -> Result<Option<StreamDescriptionSummary>, StreamError> {
        match self.client.describe_stream_summary().stream_name(stream.as_str()).send().await {
            Ok(answer) => Ok(answer.stream_description_summary),
            Err(cause) if cause.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(cause) => Err(failed("describe", stream, cause)),
        }
    }

    async fn needed(&self, stream: &StreamName) -> Result<StreamDescriptionSummary, StreamError> {
        let missing = || error(StreamErrorKind::NotFound, "describe", format!("there is no stream {stream}"));
        self.summary(stream).await?.ok_or_else(missing)
    }

    /// Waits until a stream is there to be used, or is gone.
    async fn settled(&self, stream: &StreamName, there: bool) -> Result<(), StreamError> {
        for _ in 0..READY_LOOKS {
            let status = self.summary(stream).await?.map(|summary| summary.stream_status);
            match status {
                None if !there => return Ok(()),
                Some(StreamStatus::Active) if there => return Ok(()),
                _ => tokio::time::sleep(READY_PAUSE).await,
            }
        }
        let message = format!("stream {stream} is still being changed: look at it, then try again");
        Err(error(StreamErrorKind::Io, "wait for a change", message))
    }

    async fn create(&self, stream: &StreamName, shards: u32, first: Offset) -> Result<(), StreamError> {
        let conflict = |message| Err(error(StreamErrorKind::Conflict, "create", message));
        let _turn = self.turn.lock().await;
        self.check_open("create")?;
        if shards == 0 {
            return conflict(format!("stream {stream} was to have no shard; at least 1 is needed"));
        }
        if let Some(there) = self.summary(stream).await? {
            let open = there.open_shard_count();
            if u32::try_from(open) == Ok(shards) {
                return Ok(());
            }
            return conflict(format!("stream {stream} is there with {open} shards, not {shards}: split or merge them"));
        }
        let made = self.client.create_stream().stream_name(stream.as_str()).shard_count(shards as i32);
        let made = made.tags(FIRST_TAG, first.0.to_string()).send().await;
        made.map_err(|cause| failed("create", stream, cause))?;
        self.settled(stream, true).await?;
        self.known().remove(stream);
        self.tell();
        Ok(())
    }

    async fn delete(&self, stream: &StreamName) -> Result<u64, StreamError> {
        let _turn = self.turn.lock().await;
        self.check_open("delete")?;
        self.learn(stream).await?;
        let shards: Vec<ShardView> =
            self.known().get(stream).map(|known| known.shards.all().to_vec()).unwrap_or_default();
        let mut records = 0;
        for shard in shards {
            let bounds = self.bounds(stream, shard.id).await?;
            records += bounds.next.0 - bounds.first.0;
        }
        let gone = self.client.delete_stream().stream_name(stream.as_str()).enforce_consumer_deletion(true);
        gone.send().await.map_err(|cause| failed("delete", stream, cause))?;
        self.known().remove(stream);
        self.settled(stream, false).await?;
        self.tell();
        Ok(records)
    }

    async fn list(&self) -> Result<Vec<(StreamName, u32)>, StreamError> {
        let mut pages = self.client.list_streams().into_paginator().send();
        let mut all = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|cause| {
                let message = format!("Kinesis: {}", words(&cause));
                error(StreamErrorKind::Io, "list", message)
            })?;
            // Others of the account may have names that Kilter's cannot be.
            for stream in page.stream_names.iter().filter_map(|name| StreamName::new(name).ok()) {
                let shards = self.listed(&stream).await?.len();
                all.push((stream, shards as u32));
            }
        }
        all.sort_unstable();
        Ok(all)
    }

    async fn reshard(&self, stream: &StreamName, steps: &[Reshard]) -> Result<(), StreamError> {
        let _turn = self.turn.lock().await;
        self.check_open("reshard")?;
        self.learn(stream).await?;
        let known = self.known().get(stream).cloned();
        let mut known = known.ok_or_else(|| {
            error(StreamErrorKind::NotFound, "reshard", format!("stream {stream} was deleted just now"))
        })?;
        let mut plan = known.shards.clone();
        let mut after: Vec<Shards> = Vec::new();
        for step in steps {
            let done = plan.step(*step, |id| known.next(id), Timestamp::MIN);
            done.map_err(|message| error(StreamErrorKind::Conflict, "reshard", message))?;
            after.push(plan.clone());
        }
        for (step, after) in steps.iter().zip(&after) {
            self.take(stream, *step).await?;
            self.settled(stream, true).await?;
            known = self.look(stream, Some(&known)).await?;
            if !same(&known, after) {
                self.known().remove(stream);
                let message = format!("stream {stream} has other shards now than it was to have: look at them");
                return Err(error(StreamErrorKind::Conflict, "reshard", message));
            }
            self.known().insert(stream.clone(), known.clone());
        }
        self.tell();
        Ok(())
    }

    async fn take(&self, stream: &StreamName, step: Reshard) -> Result<(), StreamError> {
        match step {
            Reshard::Split { shard, at } => {
                let split = self.client.split_shard().stream_name(stream.as_str()).shard_to_split(shard_name(shard));
                let split = split.new_starting_hash_key(at.to_string()).send().await;
                split.map(drop).map_err(|cause| failed("reshard", stream, cause))
            }
            Reshard::Merge { shard, adjacent } => {
                let merge = self.client.merge_shards().stream_name(stream.as_str()).shard_to_merge(shard_name(shard));
                let merge = merge.adjacent_shard_to_merge(shard_name(adjacent)).send().await;
                merge.map(drop).map_err(|cause| failed("reshard", stream, cause))
            }
        }
    }

    async fn set_retention(&self, stream: &StreamName, age: Duration) -> Result<(), StreamError> {
        let _turn = self.turn.lock().await;
        self.check_open("set retention")?;
        let existing = self.needed(stream).await?.retention_period_hours;
        let hours = i32::try_from(age.as_secs().div_ceil(HOUR)).unwrap_or(i32::MAX);
        let (client, name) = (&self.client, stream.as_str());
        if hours > existing {
            let set = client.increase_stream_retention_period().stream_name(name).retention_period_hours(hours);
            set.send().await.map(drop).map_err(|cause| failed("set retention", stream, cause))
        } else if hours < existing {
            let set = client.decrease_stream_retention_period().stream_name(name).retention_period_hours(hours);
            set.send().await.map(drop).map_err(|cause| failed("set retention", stream, cause))
        } else {
            Ok(())
        }
    }

    async fn describe(&self, stream: &StreamName) -> Result<StreamView, StreamError> {
        let hours = self.needed(stream).await?.retention_period_hours;
        self.learn(stream).await?;
        let shards = self.known().get(stream).map(|known| known.shards.clone());
        let shards = shards.ok_or_else(|| {
            error(StreamErrorKind::NotFound, "describe", format!("stream {stream} was deleted just now"))
        })?;
        Ok(StreamView { shards, retention: Duration::from_secs(hours.max(0) as u64 * HOUR) })
    }
}

/// Whether the service numbers shards as the plan does.
fn same(known: &Known, plan: &Shards) -> bool {
    let facts = |shards: &Shards| -> Vec<_> { shards.open().map(|shard| (shard.id, shard.hash_keys)).collect() };
    facts(&known.shards) == facts(plan)
}

impl StreamAdmin for AwsStream {
    fn create_from(&self, stream: &StreamName, shards: u32, first: Offset) -> Result<(), StreamError> {
        self.shared.runtime.block_on(self.shared.create(stream, shards, first))
    }

    fn delete(&self, stream: &StreamName) -> Result<u64, StreamError> {
        self.shared.runtime.block_on(self.shared.delete(stream))
    }

    fn list(&self) -> Result<Vec<(StreamName, u32)>, StreamError> {
        self.shared.runtime.block_on(self.shared.list())
    }

    fn describe(&self, stream: &StreamName) -> Result<StreamView, StreamError> {
        self.shared.runtime.block_on(self.shared.describe(stream))
    }

    fn reshard(&self, stream: &StreamName, steps: &[Reshard]) -> Result<(), StreamError> {
        self.shared.runtime.block_on(self.shared.reshard(stream, steps))
    }

    fn set_retention(&self, stream: &StreamName, age: Duration) -> Result<(), StreamError> {
        self.shared.runtime.block_on(self.shared.set_retention(stream, age))
    }
}
