//! Cuts a batch of rows into parts: one object each, of one day, of bounded size.

use crate::{LakeError, LakeErrorKind, columns::Column, layout};
use kilter_core::{Offset, ShardId, Timestamp};

/// Most bytes of rows in one part. It bounds what a call holds in memory beside the caller's rows to about
/// three times this (column values, encoded object, compression), and keeps a column's bytes far below
/// the 2 GiB that readers with 32-bit offsets can hold.
pub const PART_BYTES_MAX: usize = 64 << 20;

/// What each row costs at least, so that [`PART_BYTES_MAX`] bounds the number of rows as well.
pub(crate) const ROW_BYTES_MIN: usize = 64;

const NANOS_PER_DAY: i64 = 86_400 * kilter_core::NANOS_PER_SECOND;

/// A row of one dataset, in order of its record's offset.
pub(crate) trait Row: Sized {
    /// Whether a record may have several rows.
    const MANY_PER_RECORD: bool;

    fn offset(&self) -> Offset;
    fn arrival(&self) -> Timestamp;
    /// `None` where the payload was not decoded.
    fn event_time(&self) -> Option<Timestamp>;
    /// Estimate of the bytes it takes in memory.
    fn size(&self) -> usize;
    /// Tells this row from any other that could have its offset (a stream deleted and made anew counts
    /// from 0 again). `columns::read_identities` reads the same text from an object.
    fn identity(&self) -> String;
    fn columns(rows: &[Self], shard: ShardId) -> Result<Vec<Column>, LakeError>;
}

/// Rows that become one object, and the offsets it answers for.
pub(crate) struct Part<'a, R> {
    pub first: Offset,
    pub last: Offset,
    /// UTC day of arrival, `YYYY-MM-DD`.
    pub date: String,
    pub rows: &'a [R],
}

/// Refuses rows that are not in order of their offsets, or whose record has two arrival times.
pub(crate) fn check_order<R: Row>(rows: &[R]) -> Result<(), LakeError> {
    for pair in rows.windows(2) {
        let (one, next) = (&pair[0], &pair[1]);
        let same_record = R::MANY_PER_RECORD && one.offset() == next.offset() && one.arrival() == next.arrival();
        if !same_record && one.offset() >= next.offset() {
            let message = format!(
                "rows must come in order of their offsets, each record once: {} follows {}",
                next.offset().0,
                one.offset().0
            );
            return Err(LakeError::new(LakeErrorKind::Invalid, "write", message));
        }
    }
    Ok(())
}

/// A part ends where the day of arrival changes and where it would exceed `bytes_max`, never within a
/// record. Parts are runs of neighbours, so their offsets ascend and never overlap even where the clock
/// steps back over midnight.
pub(crate) fn cut<R: Row>(rows: &[R], bytes_max: usize) -> Vec<Part<'_, R>> {
    let day = |row: &R| row.arrival().as_nanos().div_euclid(NANOS_PER_DAY);
    let mut parts = Vec::new();
    let (mut start, mut end, mut bytes) = (0, 0, 0);
    for record in rows.chunk_by(|one, next| one.offset() == next.offset()) {
        let size: usize = record.iter().map(R::size).sum();
        if end > start && (day(&record[0]) != day(&rows[start]) || bytes + size > bytes_max) {
            parts.push(part(&rows[start..end]));
            (start, bytes) = (end, 0);
        }
        end += record.len();
        bytes += size;
    }
    if start < rows.len() {
        parts.push(part(&rows[start..]));
    }
    parts
}

fn part<R: Row>(rows: &[R]) -> Part<'_, R> {
    let (first, last) = (&rows[0], &rows[rows.len() - 1]);
    Part { first: first.offset(), last: last.offset(), date: layout::date(first.arrival()), rows }
}

/// Makes the parts answer for every offset from `first` to `last`: records without a row lie in between.
pub(crate) fn stretch<R>(parts: &mut [Part<'_, R>], first: Offset, last: Offset) {
    let mut end = last;
    for part in parts.iter_mut().rev() {
        part.last = end;
        end = Offset(part.first.0.saturating_sub(1));
    }
    if let Some(part) = parts.first_mut() {
        part.first = first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    struct Dot {
        offset: u64,
        arrival: i64,
        size: usize,
    }

    impl Row for Dot {
        const MANY_PER_RECORD: bool = true;
        fn offset(&self) -> Offset {
            Offset(self.offset)
        }
        fn arrival(&self) -> Timestamp {
            Timestamp::from_nanos(self.arrival)
        }
        fn event_time(&self) -> Option<Timestamp> {
            None
        }
        fn size(&self) -> usize {
            self.size
        }
        fn identity(&self) -> String {
            String::new()
        }
        fn columns(_: &[Self], _: ShardId) -> Result<Vec<Column>, LakeError> {
            Ok(Vec::new())
        }
    }

    fn dot(offset: u64, arrival: &str) -> Dot {
        Dot { offset, arrival: Timestamp::parse_rfc3339(arrival).unwrap().as_nanos(), size: 1 }
    }

    #[test]
    fn midnight_parts_and_a_clock_that_steps_back() {
        let rows = [
            dot(3, "2026-11-23T23:59:59Z"),
            dot(4, "2026-11-24T00:00:00Z"),
            dot(6, "2026-11-23T23:59:59.5Z"),
            dot(8, "2026-11-24T00:00:01Z"),
        ];
        let mut parts = cut(&rows, 100);
        let spans: Vec<_> = parts.iter().map(|p| (p.first.0, p.last.0, p.date.clone())).collect();
        let (d23, d24) = ("2026-11-23".to_owned(), "2026-11-24".to_owned());
        assert_eq!(spans, [(3, 3, d23.clone()), (4, 4, d24.clone()), (6, 6, d23), (8, 8, d24)]);
        stretch(&mut parts, Offset(1), Offset(9));
        let spans: Vec<_> = parts.iter().map(|p| (p.first.0, p.last.0)).collect();
        assert_eq!(spans, [(1, 3), (4, 5), (6, 7), (8, 9)]);
    }

    #[test]
    fn years_before_1970_are_days_too() {
        let rows = [dot(0, "1969-12-31T23:59:59Z"), dot(1, "1970-01-01T00:00:00Z")];
        assert_eq!(cut(&rows, 100).len(), 2);
    }

    #[test]
    fn order_is_checked() {
        let (a, b) = (dot(1, "2026-01-01T00:00:00Z"), dot(2, "2026-01-01T00:00:00Z"));
        assert!(check_order(&[a.clone(), a.clone(), b.clone()]).is_ok());
        assert_eq!(check_order(&[b, a.clone()]).unwrap_err().kind, LakeErrorKind::Invalid);
        assert!(check_order(&[a, dot(1, "2026-01-01T00:00:01Z")]).is_err(), "one record, two arrivals");
    }

    proptest! {
        #[test]
        fn parts_are_a_partition_in_order(
            steps in prop::collection::vec((0u64..3, -20i64..20, 1usize..50), 0..60),
            bytes_max in 1usize..200,
        ) {
            let (mut offset, mut arrival) = (0, 0);
            let mut rows: Vec<Dot> = Vec::new();
            for (step, hours, size) in steps {
                if step > 0 || rows.is_empty() {
                    offset += step;
                    arrival += hours * 3_600_000_000_000;
                }
                rows.push(Dot { offset, arrival, size });
            }
            prop_assert!(check_order(&rows).is_ok());
            let parts = cut(&rows, bytes_max);
            prop_assert_eq!(parts.iter().map(|p| p.rows.len()).sum::<usize>(), rows.len());
            for part in &parts {
                prop_assert!(part.rows.iter().all(|r| layout::date(r.arrival()) == part.date));
                let bytes: usize = part.rows.iter().map(|r| r.size).sum();
                prop_assert!(bytes <= bytes_max || part.first == part.last);
            }
            for pair in parts.windows(2) {
                prop_assert!(pair[0].last < pair[1].first);
            }
        }
    }
}
