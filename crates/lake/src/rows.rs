//! The three kinds of rows and their columns.

use crate::{
    LakeError, LakeErrorKind,
    columns::{self, Column},
    part::{ROW_BYTES_MIN, Row},
};
use kilter_core::{Direction, Offset, Record, RecordKind, Score, ScoredReading, ShardId, Timestamp, Verdict};

const ROWS_BETWEEN_YIELDS: usize = 256;

fn beyond(what: &str) -> LakeError {
    LakeError::new(LakeErrorKind::Invalid, "write", format!("{what} is beyond the largest number a column can hold"))
}

fn signed(value: u64, what: &str) -> Result<i64, LakeError> {
    i64::try_from(value).map_err(|_| beyond(what))
}

/// A record of the stream, as `raw` and `rejected` hold it. All rows of a batch are of one kind.
#[derive(Clone, Copy)]
pub(crate) struct RecordRow<'a>(pub &'a Record);

impl RecordRow<'_> {
    fn reason(&self) -> Option<&str> {
        match &self.0.record.kind {
            RecordKind::Telemetry => None,
            RecordKind::Rejected(reason) => Some(reason),
        }
    }
}

impl Row for RecordRow<'_> {
    const MANY_PER_RECORD: bool = false;

    fn offset(&self) -> Offset {
        self.0.offset
    }
    fn arrival(&self) -> Timestamp {
        self.0.record.arrival
    }
    fn event_time(&self) -> Option<Timestamp> {
        None
    }
    fn size(&self) -> usize {
        let record = &self.0.record;
        ROW_BYTES_MIN + record.topic.len() + record.data.len() + self.reason().map_or(0, str::len)
    }
    fn identity(&self) -> String {
        columns::record_identity(self.offset(), self.0.record.thing_sequence, self.arrival().as_nanos())
    }

    fn columns(rows: &[Self], shard: ShardId) -> Result<Vec<Column>, LakeError> {
        let shard = i32::try_from(shard.0).map_err(|_| beyond("the shard's number"))?;
        let offsets: Result<Vec<_>, _> = yielding(rows).map(|row| signed(row.offset().0, "an offset")).collect();
        let sequences: Result<Vec<_>, _> =
            yielding(rows).map(|row| signed(row.0.record.thing_sequence, "a thing's sequence number")).collect();
        let mut columns = vec![
            Column::text(yielding(rows).map(|row| row.0.record.thing.as_str())),
            Column::text(yielding(rows).map(|row| &*row.0.record.topic)),
            Column::int64(yielding(rows).map(|row| row.arrival().as_nanos()).collect()),
            Column::int32(vec![shard; rows.len()]),
            Column::int64(offsets?),
            Column::int64(sequences?),
            Column::bytes(yielding(rows).map(|row| row.0.record.data.clone())),
        ];
        if rows.iter().any(|row| row.reason().is_some()) {
            columns.push(Column::text(rows.iter().map(|row| row.reason().unwrap_or_default())));
        }
        Ok(columns)
    }
}

/// A scored reading with the offset of the record that made it known: its own, or the late one that corrected it.
#[derive(Clone, Copy)]
pub(crate) struct ScoredRow<'a> {
    offset: Offset,
    reading: &'a ScoredReading,
}

impl<'a> ScoredRow<'a> {
    pub fn new(reading: &'a ScoredReading) -> Result<Self, LakeError> {
        let offset = columns::scored_offset(&reading.position).ok_or_else(|| {
            let message = format!("position {:?} is not shard:offset:index", reading.position);
            LakeError::new(LakeErrorKind::Invalid, "write", message)
        })?;
        let offset = reading.corrected.map_or(offset, |corrected| corrected.offset);
        Ok(Self { offset, reading })
    }
}

impl Row for ScoredRow<'_> {
    const MANY_PER_RECORD: bool = true;

    fn offset(&self) -> Offset {
        self.offset
    }
    /// Of the record that made it known: with its offset goes its time.
    fn arrival(&self) -> Timestamp {
        self.reading.corrected.map_or(self.reading.arrival, |corrected| corrected.known)
    }
    fn event_time(&self) -> Option<Timestamp> {
        Some(self.reading.event_time)
    }
    fn size(&self) -> usize {
        let values: usize = self.reading.values.keys().map(|name| name.len() + ROW_BYTES_MIN).sum();
        ROW_BYTES_MIN + values + self.reading.causes.len() * 2 * ROW_BYTES_MIN
    }
    fn identity(&self) -> String {
        columns::scored_identity(&self.reading.position, self.reading.arrival.as_nanos())
    }

    fn columns(rows: &[Self], _shard: ShardId) -> Result<Vec<Column>, LakeError> {
        let readings = || yielding(rows).map(|row| row.reading);
        let warming = |reading: &ScoredReading| match reading.verdict {
            Verdict::Warming { seen, needed } => Some((i64::from(seen), i64::from(needed))),
            Verdict::Normal | Verdict::Anomalous | Verdict::Paused => None,
        };
        let signals: Vec<usize> = readings().map(|reading| reading.values.len()).collect();
        let causes: Vec<usize> = readings().map(|reading| reading.causes.len()).collect();
        let cause = || readings().flat_map(|reading| &reading.causes);
        let offsets: Result<Vec<_>, _> = yielding(rows).map(|row| signed(row.offset.0, "an offset")).collect();
        let revision = |reading: &ScoredReading| {
            let revision = reading.corrected.map_or(0, |corrected| corrected.revision);
            i32::try_from(revision).map_err(|_| beyond("a revision"))
        };
        Ok(vec![
            Column::text(readings().map(|reading| reading.thing.as_str())),
            Column::int64(readings().map(|reading| reading.event_time.as_nanos()).collect()),
            Column::int64(readings().map(|reading| reading.arrival.as_nanos()).collect()),
            Column::text(readings().map(|reading| &*reading.position)),
            Column::text(readings().map(|reading| verdict_name(reading.verdict))),
            Column::optional_int64(readings().map(|reading| warming(reading).map(|(seen, _)| seen))),
            Column::optional_int64(readings().map(|reading| warming(reading).map(|(_, needed)| needed))),
            Column::optional_double(readings().map(|reading| reading.score.map(Score::value))),
            Column::optional_double(readings().map(|reading| reading.threshold.map(Score::value))),
            Column::repeated_text(&signals, readings().flat_map(|reading| reading.values.keys().map(|name| &**name))),
            Column::repeated_double(&signals, readings().flat_map(|reading| reading.values.values().copied())),
            Column::repeated_text(&causes, cause().map(|cause| &*cause.signal)),
            Column::repeated_double(&causes, cause().map(|cause| cause.share)),
            Column::repeated_text(&causes, cause().map(|cause| direction_name(cause.direction))),
            Column::repeated_double(&causes, cause().map(|cause| cause.value)),
            Column::repeated_double(&causes, cause().map(|cause| cause.expected[0])),
            Column::repeated_double(&causes, cause().map(|cause| cause.expected[1])),
            Column::repeated_text(&causes, cause().map(|cause| &*cause.detector)),
            Column::int64(yielding(rows).map(|row| row.arrival().as_nanos()).collect()),
            Column::int64(offsets?),
            Column::int32(readings().map(revision).collect::<Result<_, _>>()?),
        ])
    }
}

/// To walk through the rows of a large object takes milliseconds: others have the processor every few hundred.
pub(crate) fn yielding<R>(rows: &[R]) -> impl Iterator<Item = &R> {
    rows.iter().enumerate().map(|(index, row)| {
        if index.is_multiple_of(ROWS_BETWEEN_YIELDS) {
            std::thread::yield_now();
        }
        row
    })
}

const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Warming { .. } => "warming",
        Verdict::Normal => "normal",
        Verdict::Anomalous => "anomalous",
        Verdict::Paused => "paused",
    }
}

const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::High => "high",
        Direction::Low => "low",
        Direction::Odd => "odd",
    }
}
