//! What is known of a stream: its shards, where the numbers of each end, and where to find some of them.

use super::{
    Shared,
    batch::Batch,
    failure::{error, failed},
    read::Start,
};
use aws_sdk_kinesis::types::Shard;
use kilter_core::{
    Offset, ShardId, ShardView, Shards, StreamName, Timestamp,
    ports::{
        clock::{Clock, SystemClock},
        stream::{StreamError, StreamErrorKind},
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
};

/// A tag of the stream: the offset that it was made with.
pub const FIRST_TAG: &str = "kilter-first-offset";
/// Places of batches that are remembered for each shard; every second one is forgotten when there are more.
const PLACES_MAX: usize = 1_024;
/// Seconds back to where the last batch of a shard is looked for; then from its beginning.
const LOOK_BACK: [i64; 4] = [60, 3_600, 86_400, 7 * 86_400];

#[derive(Clone)]
pub struct Known {
    pub shards: Shards,
    numbers: HashMap<ShardId, Numbers>,
}

#[derive(Clone)]
struct Numbers {
    next: Offset,
    /// Sequence numbers of batches by the offset of their first record.
    places: BTreeMap<Offset, String>,
    /// Whether a batch was sent of which nobody knows whether it arrived.
    failed: bool,
}

/// Where to read a shard.
pub struct Spot {
    /// Before it there never was a record.
    pub start: Offset,
    pub next: Offset,
    /// Of a batch that has the wanted offset, or is before it.
    pub sequence_number: Option<String>,
}

impl Known {
    pub fn next(&self, shard: ShardId) -> Offset {
        self.numbers.get(&shard).map(|numbers| numbers.next).unwrap_or_default()
    }

    pub fn failed(&self, shard: ShardId) -> bool {
        self.numbers.get(&shard).is_some_and(|numbers| numbers.failed)
    }

    pub fn fail(&mut self, shard: ShardId) {
        if let Some(numbers) = self.numbers.get_mut(&shard) {
            numbers.failed = true;
        }
    }

    /// A batch is there: the shard goes on behind it.
    pub fn appended(&mut self, shard: ShardId, first: Offset, next: Offset, sequence_number: String) {
        self.remember(shard, first, sequence_number);
        if let Some(numbers) = self.numbers.get_mut(&shard) {
            numbers.next = next;
        }
    }

    pub fn remember(&mut self, shard: ShardId, first: Offset, sequence_number: String) {
        let Some(numbers) = self.numbers.get_mut(&shard) else { return };
        // Of a batch that came twice the first counts.
        numbers.places.entry(first).or_insert(sequence_number);
        if numbers.places.len() > PLACES_MAX {
            let mut keep = false;
            numbers.places.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
    }

    pub fn spot(&self, shard: ShardId, from: Offset) -> Option<Spot> {
        let view = self.shards.get(shard)?;
        let numbers = self.numbers.get(&shard)?;
        let place = numbers.places.range(..=from).next_back();
        Some(Spot { start: view.start, next: numbers.next, sequence_number: place.map(|(_, number)| number.clone()) })
    }
}

impl Shared {
    /// Reads what must be known of a stream, unless it is.
    pub async fn learn(&self, stream: &StreamName) -> Result<(), StreamError> {
        if !self.known().contains_key(stream) {
            let known = self.look(stream, None).await?;
            self.known().entry(stream.clone()).or_insert(known);
        }
        Ok(())
    }

    pub async fn place(&self, stream: &StreamName, shard: ShardId, from: Offset) -> Result<Spot, StreamError> {
        self.learn(stream).await?;
        let spot = self.known().get(stream).and_then(|known| known.spot(shard, from));
        spot.ok_or_else(|| {
            let message = format!("stream {stream} has no shard {}", shard.0);
            error(StreamErrorKind::NotFound, "find a shard", message)
        })
    }

    /// The stream's shards as the service lists them, closed ones included.
    pub async fn listed(&self, stream: &StreamName) -> Result<Vec<Shard>, StreamError> {
        let (mut all, mut token) = (Vec::new(), None);
        loop {
            let asked = self.client.list_shards();
            let asked = match token {
                None => asked.stream_name(stream.as_str()),
                Some(_) => asked.set_next_token(token),
            };
            let page = asked.send().await.map_err(|cause| failed("list shards", stream, cause))?;
            all.extend(page.shards.unwrap_or_default());
            token = page.next_token;
            if token.is_none() {
                return Ok(all);
            }
        }
    }

    /// `before` is what was known before a reshard: all numbers of its shards are still right.
    pub async fn look(&self, stream: &StreamName, before: Option<&Known>) -> Result<Known, StreamError> {
        let mut listed = self.listed(stream).await?.into_iter().map(view_of).collect::<Option<Vec<_>>>();
        let views = listed.as_mut().ok_or_else(|| {
            error(StreamErrorKind::Damaged, "list shards", format!("stream {stream} has shards with unknown names"))
        })?;
        views.sort_unstable_by_key(|view| view.id);
        let first = self.first_offset(stream).await?;
        let (mut all, mut numbers) = (Vec::<ShardView>::new(), HashMap::new());
        for mut view in views.drain(..) {
            // Shards whose records are all deleted are not listed any more.
            while all.len() < view.id.0 as usize {
                all.push(forgotten(ShardId(all.len() as u32)));
            }
            let parents = view.parents.iter().filter_map(|parent| all.get(parent.0 as usize));
            let inherited = parents.filter_map(|parent| parent.closed.map(|(end, _)| end)).max();
            view.start = inherited.unwrap_or(first);
            let known = match before.and_then(|before| before.numbers.get(&view.id)) {
                Some(known) => known.clone(),
                None if before.is_some() => Numbers { next: view.start, places: BTreeMap::new(), failed: false },
                None => self.count(stream, view.id, view.start).await?,
            };
            view.closed = view.closed.map(|(_, at)| (known.next, at));
            numbers.insert(view.id, known);
            all.push(view);
        }
        Ok(Known { shards: all.into(), numbers })
    }

    async fn first_offset(&self, stream: &StreamName) -> Result<Offset, StreamError> {
        let tags = self.client.list_tags_for_stream().stream_name(stream.as_str()).send().await;
        let tags = tags.map_err(|cause| failed("read tags", stream, cause))?.tags;
        let tag = tags.iter().find(|tag| tag.key() == FIRST_TAG).and_then(|tag| tag.value());
        Ok(Offset(tag.and_then(|value| value.parse().ok()).unwrap_or_default()))
    }

    /// Looks for the end of a shard, from a short time ago, and from longer and longer ago where there is nothing.
    async fn count(&self, stream: &StreamName, shard: ShardId, start: Offset) -> Result<Numbers, StreamError> {
        let mut numbers = Numbers { next: start, places: BTreeMap::new(), failed: false };
        let back = LOOK_BACK.iter().map(|seconds| Start::Time(SystemClock.now().plus_seconds(-seconds)));
        for from in back.chain([Start::Beginning]) {
            let mut seen = |batch: Batch, sequence_number: &str| {
                // A batch that came twice, or late, is not counted again.
                if batch.first >= numbers.next {
                    numbers.next = Offset(batch.first.0 + batch.records.len() as u64);
                    numbers.places = BTreeMap::from([(batch.first, sequence_number.to_owned())]);
                }
                ControlFlow::Continue(())
            };
            self.walk(stream, shard, from, &mut seen).await?;
            if !numbers.places.is_empty() {
                break;
            }
        }
        Ok(numbers)
    }
}

pub fn shard_name(shard: ShardId) -> String {
    format!("shardId-{:012}", shard.0)
}

pub fn shard_of(name: &str) -> Option<ShardId> {
    name.strip_prefix("shardId-")?.parse().ok().map(ShardId)
}

/// Numbers are filled in later. The service does not say when a shard was opened or closed.
fn view_of(shard: Shard) -> Option<ShardView> {
    let keys = shard.hash_key_range.as_ref()?;
    let closed = shard.sequence_number_range.as_ref().and_then(|range| range.ending_sequence_number());
    let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
    Some(ShardView {
        id: shard_of(shard.shard_id())?,
        hash_keys: (keys.starting_hash_key().parse().ok()?, keys.ending_hash_key().parse().ok()?),
        start: Offset(0),
        opened: Timestamp::MIN,
        parents: parents.into_iter().flatten().filter_map(shard_of).collect(),
        closed: closed.map(|_| (Offset(0), Timestamp::MIN)),
    })
}

fn forgotten(id: ShardId) -> ShardView {
    let closed = Some((Offset(0), Timestamp::MIN));
    ShardView { id, hash_keys: (0, 0), start: Offset(0), opened: Timestamp::MIN, parents: Vec::new(), closed }
}
