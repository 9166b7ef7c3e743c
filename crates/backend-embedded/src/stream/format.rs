//! The bytes on disk: how a segment file starts and how a record lies in it. Everything is little-endian.
//!
//! ```text
//! segment file = header, then frames one after the other; in the one being written, zeros for those to come
//!
//! header (40 bytes)
//!   0  8  magic "KLTRSEG\0"
//!   8  4  version, 1
//!  12  4  shard number
//!  16  8  offset of the first record
//!  24  8  salt: random, one per file
//!  32  4  zero
//!  36  4  CRC-32 of the 36 bytes before
//!
//! frame (20 bytes and the body)
//!   0  4  length of the body; 0 in a mark
//!   4  4  CRC-32 of body, length, offset, back, salt, in this order
//!   8  8  offset of the record
//!  16  4  back: all records before `offset - back` were durable when this frame was written
//!  20  …  body
//!
//! body
//!   0  1  kind: 0 telemetry, 1 rejected
//!   1  8  arrival, nanoseconds since the epoch
//!   9  8  the thing's sequence number
//!  17  2  length of the partition key   21  2  length of the topic
//!  19  2  length of the thing's name    23  2  length of the reason (0 for telemetry)
//!  25  …  partition key, thing, topic, reason, then the data to the frame's end
//! ```
//!
//! A *mark* is a frame without a body and without an offset of its own (it bears that of the record to come).
//! It is written on an orderly close and says, by its `back` of 0, that every record before it was durable.
//!
//! Why `back`: after a power cut the file system may have kept a later page of a write and lost an earlier one.
//! A good frame behind a bad one tells, by `back`, whether the bad one had been acknowledged (damage) or was
//! part of the same, never acknowledged write (a torn tail).
//!
//! Why the salt: payloads come from outside. Without knowing the salt nobody can craft a payload whose bytes
//! pass for a frame when recovery searches behind a torn write.

use bytes::Bytes;
use kilter_core::{NewRecord, RecordKind, ThingName, Timestamp};

pub(crate) const SEGMENT_HEADER_BYTES: usize = 40;
pub(crate) const FRAME_HEADER_BYTES: usize = 20;
const BODY_FIXED_BYTES: usize = 25;
const MAGIC: [u8; 8] = *b"KLTRSEG\0";
const VERSION: u32 = 1;

/// Largest `data` of one record, in bytes: the limit that Kinesis' users know.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Longest partition key, topic or reason, in bytes: what its 16-bit length field can say, which is also
/// the longest topic that MQTT allows.
pub const RECORD_TEXT_BYTES_MAX: usize = u16::MAX as usize;
/// No frame's body is longer: a length field beyond it is damage and never makes us allocate.
pub(crate) const BODY_BYTES_MAX: usize =
    BODY_FIXED_BYTES + 3 * RECORD_TEXT_BYTES_MAX + ThingName::LEN_MAX + RECORD_BYTES_MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub shard: u32,
    pub base: u64,
    pub salt: u64,
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.shard.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..36]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Says in words what is wrong.
    pub fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<Self, &'static str> {
        if bytes[0..8] != MAGIC {
            return Err("it does not start like a segment of a stream");
        }
        if crc32fast::hash(&bytes[..36]) != u32_at(bytes, 36) {
            return Err("the checksum of its header does not hold");
        }
        if u32_at(bytes, 8) != VERSION {
            return Err("it was written by a later version of kilter");
        }
        Ok(Self { shard: u32_at(bytes, 12), base: u64_at(bytes, 16), salt: u64_at(bytes, 24) })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub body_bytes: usize,
    pub crc: u32,
    pub offset: u64,
    pub back: u32,
}

impl FrameHeader {
    pub fn parse(bytes: &[u8; FRAME_HEADER_BYTES]) -> Self {
        Self {
            body_bytes: u32_at(bytes, 0) as usize,
            crc: u32_at(bytes, 4),
            offset: u64_at(bytes, 8),
            back: u32_at(bytes, 16),
        }
    }

    pub fn frame_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.body_bytes
    }

    pub fn is_mark(&self) -> bool {
        self.body_bytes == 0
    }

    /// The length is one that we write.
    pub fn plausible(&self) -> bool {
        self.is_mark() || (BODY_FIXED_BYTES..=BODY_BYTES_MAX).contains(&self.body_bytes)
    }

    pub fn holds(&self, body: &[u8], salt: u64) -> bool {
        finish_crc(crc32fast::hash(body), self.body_bytes as u32, self.offset, self.back, salt) == self.crc
    }
}

fn finish_crc(body_crc: u32, body_bytes: u32, offset: u64, back: u32, salt: u64) -> u32 {
    let mut tail = [0; 24];
    tail[0..4].copy_from_slice(&body_bytes.to_le_bytes());
    tail[4..12].copy_from_slice(&offset.to_le_bytes());
    tail[12..16].copy_from_slice(&back.to_le_bytes());
    tail[16..24].copy_from_slice(&salt.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new_with_initial(body_crc);
    hasher.update(&tail);
    hasher.finalize()
}

/// Bytes that the frame of `record` takes; `None` when one of its parts is beyond its bound.
pub(crate) fn frame_bytes(record: &NewRecord) -> Option<usize> {
    let reason = reason(record);
    let fits = record.data.len() <= RECORD_BYTES_MAX
        && [record.partition_key.len(), record.topic.len(), reason.len()]
            .iter()
            .all(|length| *length <= RECORD_TEXT_BYTES_MAX);
    let text = record.partition_key.len() + record.thing.as_str().len() + record.topic.len() + reason.len();
    fits.then_some(FRAME_HEADER_BYTES + BODY_FIXED_BYTES + text + record.data.len())
}

fn reason(record: &NewRecord) -> &str {
    match &record.kind {
        RecordKind::Telemetry => "",
        RecordKind::Rejected(reason) => reason,
    }
}

/// Appends the frame of a record for which [`frame_bytes`] found room, as far as it can be written before its
/// offset is known: the checksum field holds that of the body alone until [`place_frame`].
pub(crate) fn encode_frame(record: &NewRecord, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    let reason = reason(record);
    out.push(match record.kind {
        RecordKind::Telemetry => 0,
        RecordKind::Rejected(_) => 1,
    });
    out.extend_from_slice(&record.arrival.as_nanos().to_le_bytes());
    out.extend_from_slice(&record.thing_sequence.to_le_bytes());
    for text in [&*record.partition_key, record.thing.as_str(), &*record.topic, reason] {
        // The caller has asked `frame_bytes`, so the length fits into its field.
        out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    }
    for text in [&*record.partition_key, record.thing.as_str(), &*record.topic, reason] {
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(&record.data);
    let body = start + FRAME_HEADER_BYTES;
    let (length, crc) = ((out.len() - body) as u32, crc32fast::hash(&out[body..]));
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// The partition key of a frame that [`encode_frame`] has made.
pub(crate) fn partition_key(frame: &[u8]) -> &str {
    let body = &frame[FRAME_HEADER_BYTES..];
    let length = usize::from(u16::from_le_bytes([body[17], body[18]]));
    std::str::from_utf8(&body[BODY_FIXED_BYTES..BODY_FIXED_BYTES + length]).unwrap_or_default()
}

/// Writes what was not known to [`encode_frame`] into the frame at the start of `frame`.
pub(crate) fn place_frame(frame: &mut [u8], offset: u64, back: u32, salt: u64) {
    let crc = finish_crc(u32_at(frame, 4), u32_at(frame, 0), offset, back, salt);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame[8..16].copy_from_slice(&offset.to_le_bytes());
    frame[16..20].copy_from_slice(&back.to_le_bytes());
}

/// The frame that says "everything before me is durable".
pub(crate) fn mark(next: u64, salt: u64) -> [u8; FRAME_HEADER_BYTES] {
    let mut frame = [0; FRAME_HEADER_BYTES];
    place_frame(&mut frame, next, 0, salt);
    frame
}

/// When the record of a body whose checksum holds arrived.
pub(crate) fn arrival(body: &[u8]) -> Timestamp {
    Timestamp::from_nanos(u64_at(body, 1) as i64)
}

/// The record of a body whose checksum holds. `None`: the body is none that we write.
pub(crate) fn decode_body(body: &[u8]) -> Option<NewRecord> {
    if body.len() < BODY_FIXED_BYTES {
        return None;
    }
    let mut rest = &body[BODY_FIXED_BYTES..];
    let mut text = |at: usize| -> Option<&str> {
        let (text, after) = rest.split_at_checked(usize::from(u16::from_le_bytes([body[at], body[at + 1]])))?;
        rest = after;
        std::str::from_utf8(text).ok()
    };
    let (partition_key, thing, topic, reason) = (text(17)?, text(19)?, text(21)?, text(23)?);
    let kind = match body[0] {
        0 => RecordKind::Telemetry,
        1 => RecordKind::Rejected(reason.into()),
        _ => return None,
    };
    Some(NewRecord {
        kind,
        partition_key: partition_key.into(),
        hash_key: None,
        thing: ThingName::new(thing).ok()?,
        thing_sequence: u64_at(body, 9),
        arrival: arrival(body),
        topic: topic.into(),
        data: Bytes::copy_from_slice(rest),
    })
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_record() -> impl Strategy<Value = NewRecord> {
        (
            prop::option::of(".{0,40}"),
            ".{1,40}",
            "[a-zA-Z0-9:_-]{1,128}",
            any::<u64>(),
            any::<i64>(),
            ".{0,80}",
            prop::collection::vec(any::<u8>(), 0..300),
        )
            .prop_map(|(reason, key, thing, thing_sequence, arrival, topic, data)| NewRecord {
                kind: reason.map_or(RecordKind::Telemetry, |reason| RecordKind::Rejected(reason.into())),
                partition_key: key.into(),
                hash_key: None,
                thing: ThingName::new(&thing).unwrap(),
                thing_sequence,
                arrival: Timestamp::from_nanos(arrival),
                topic: topic.into(),
                data: data.into(),
            })
    }

    fn header_of(frame: &[u8]) -> FrameHeader {
        FrameHeader::parse(frame[..FRAME_HEADER_BYTES].try_into().unwrap())
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was(record in any_record(), offset: u64, back: u32, salt: u64) {
            let mut frame = Vec::new();
            encode_frame(&record, &mut frame);
            prop_assert_eq!(Some(frame.len()), frame_bytes(&record));
            prop_assert_eq!(partition_key(&frame), &*record.partition_key);
            place_frame(&mut frame, offset, back, salt);
            let (header, body) = (header_of(&frame), &frame[FRAME_HEADER_BYTES..]);
            prop_assert!(header.plausible() && header.holds(body, salt) && !header.is_mark());
            prop_assert_eq!((header.offset, header.back, header.frame_bytes()), (offset, back, frame.len()));
            prop_assert_eq!(decode_body(body), Some(record));
        }

        #[test]
        fn a_flipped_bit_is_seen(record in any_record(), place: prop::sample::Index, bit in 0..8u8) {
            let mut frame = Vec::new();
            encode_frame(&record, &mut frame);
            place_frame(&mut frame, 7, 1, 99);
            let place = place.index(frame.len());
            frame[place] ^= 1 << bit;
            let header = header_of(&frame);
            let body = &frame[FRAME_HEADER_BYTES..];
            prop_assert!(header.body_bytes != body.len() || !header.holds(body, 99));
        }

        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_body(&body);
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was() {
        let header = SegmentHeader { shard: 3, base: 1 << 40, salt: u64::MAX - 1 };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for at in 0..SEGMENT_HEADER_BYTES {
            let mut bad = bytes;
            bad[at] ^= 0x10;
            assert!(SegmentHeader::decode(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_is_too_large_has_no_frame() {
        let record = NewRecord {
            kind: RecordKind::Telemetry,
            partition_key: "k".into(),
            hash_key: None,
            thing: ThingName::new("t").unwrap(),
            thing_sequence: 1,
            arrival: Timestamp::MIN,
            topic: "t".into(),
            data: vec![0; RECORD_BYTES_MAX].into(),
        };
        assert!(frame_bytes(&record).is_some());
        assert!(frame_bytes(&NewRecord { data: vec![0; RECORD_BYTES_MAX + 1].into(), ..record.clone() }).is_none());
        let topic = "t".repeat(RECORD_TEXT_BYTES_MAX + 1);
        assert!(frame_bytes(&NewRecord { topic: topic.into(), ..record }).is_none());
    }
}
