//! Rows to Parquet and back. Nothing outside this file knows the format's crate.
//!
//! The types are the ones that every reader takes comfortably: times are nanoseconds UTC, integers are
//! signed, signals are a `map<string, double>` and causes a `list<struct>`.

use crate::{Dataset, LakeError, LakeErrorKind};
use bytes::Bytes;
use kilter_core::Offset;
use parquet::{
    basic::{Compression, Encoding, GzipLevel},
    column::reader::ColumnReader,
    data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        reader::{FileReader, RowGroupReader},
        serialized_reader::SerializedFileReader,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::{parser::parse_message_type, types::ColumnPath},
};
use std::sync::Arc;

const RAW: &str = "message raw {
  required binary thing (STRING);
  required binary topic (STRING);
  required int64 arrival (TIMESTAMP(NANOS,true));
  required int32 shard;
  required int64 offset;
  required int64 thing_sequence;
  required binary payload;
}";

const REJECTED: &str = "message rejected {
  required binary thing (STRING);
  required binary topic (STRING);
  required int64 arrival (TIMESTAMP(NANOS,true));
  required int32 shard;
  required int64 offset;
  required int64 thing_sequence;
  required binary payload;
  required binary reason (STRING);
}";

const SCORED: &str = "message scored {
  required binary thing (STRING);
  required int64 event_time (TIMESTAMP(NANOS,true));
  required int64 arrival (TIMESTAMP(NANOS,true));
  required binary position (STRING);
  required binary verdict (STRING);
  optional int64 warming_seen;
  optional int64 warming_needed;
  optional double score;
  optional double threshold;
  required group signals (MAP) {
    repeated group key_value {
      required binary key (STRING);
      required double value;
    }
  }
  required group causes (LIST) {
    repeated group list {
      required group element {
        required binary signal (STRING);
        required double share;
        required binary direction (STRING);
        required double value;
        required double expected_low;
        required double expected_high;
        required binary detector (STRING);
      }
    }
  }
  required int64 known (TIMESTAMP(NANOS,true));
  required int64 known_offset;
  required int32 revision;
}";

/// Columns that count upwards: their differences are small, the values themselves never repeat.
const RISING: [&str; 6] = ["arrival", "event_time", "known", "known_offset", "offset", "thing_sequence"];

/// Never the same twice, so a dictionary of them is a waste.
const UNIQUE: [&str; 2] = ["payload", "position"];

/// Of JSON payloads, gzip at level 4 leaves about half of what snappy leaves and about what zstd at level 1 does;
/// zstd would cost the build a C library (40 s of CPU), gzip is in the product already.
const GZIP_LEVEL: u32 = 4;

/// Of a page before compression: about half a millisecond of work. Larger ones compress no better.
const PAGE_BYTES_MAX: usize = 32 << 10;

/// Values, or levels where some are missing or repeated, that are encoded at once: a fraction of a millisecond of work.
const LEVELS_AT_ONCE: usize = 512;

/// One leaf column of all rows of a part, in the order of the schema.
pub(crate) struct Column {
    values: Values,
    /// Definition levels: whether a value is there. Empty for required columns.
    defined: Vec<i16>,
    /// Repetition levels: 0 where a row starts. Empty for columns with one value per row.
    repeated: Vec<i16>,
}

enum Values {
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }
}

impl Column {
    pub fn int32(values: Vec<i32>) -> Self {
        Self::required(Values::Int32(values))
    }
    pub fn int64(values: Vec<i64>) -> Self {
        Self::required(Values::Int64(values))
    }
    pub fn text<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        Self::required(Values::Bytes(values.map(ByteArray::from).collect()))
    }
    /// Shares the bytes, copies none.
    pub fn bytes(values: impl Iterator<Item = Bytes>) -> Self {
        Self::required(Values::Bytes(values.map(ByteArray::from).collect()))
    }
    pub fn optional_int64(values: impl Iterator<Item = Option<i64>>) -> Self {
        let (defined, values) = optional(values);
        Self { values: Values::Int64(values), defined, repeated: Vec::new() }
    }
    pub fn optional_double(values: impl Iterator<Item = Option<f64>>) -> Self {
        let (defined, values) = optional(values);
        Self { values: Values::Double(values), defined, repeated: Vec::new() }
    }
    /// `lengths`: number of values of each row.
    pub fn repeated_text<'a>(lengths: &[usize], values: impl Iterator<Item = &'a str>) -> Self {
        Self::repeated(lengths, Values::Bytes(values.map(ByteArray::from).collect()))
    }
    pub fn repeated_double(lengths: &[usize], values: impl Iterator<Item = f64>) -> Self {
        Self::repeated(lengths, Values::Double(values.collect()))
    }

    fn required(values: Values) -> Self {
        Self { values, defined: Vec::new(), repeated: Vec::new() }
    }

    fn repeated(lengths: &[usize], values: Values) -> Self {
        let (mut defined, mut repeated) = (Vec::new(), Vec::new());
        for &length in lengths {
            // A row without values takes one level that says so.
            for i in 0..length.max(1) {
                defined.push(i16::from(length > 0));
                repeated.push(i16::from(i > 0));
            }
        }
        Self { values, defined, repeated }
    }

    /// In portions of whole rows; others have the processor between them.
    fn write(&self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = if self.defined.is_empty() { self.values.len() } else { self.defined.len() };
        let (mut level, mut value) = (0, 0);
        while level < levels {
            std::thread::yield_now();
            let begins_row = |at: &usize| self.repeated.get(*at).is_none_or(|repeated| *repeated == 0);
            let end = (level + LEVELS_AT_ONCE..levels).find(begins_row).unwrap_or(levels);
            let defined = self.defined.get(level..end);
            let values = value..value + defined.map_or(end - level, |d| d.iter().filter(|level| **level > 0).count());
            let (repeated, range) = (self.repeated.get(level..end), values.clone());
            match &self.values {
                Values::Int32(all) => writer.typed::<Int32Type>().write_batch(&all[range], defined, repeated),
                Values::Int64(all) => writer.typed::<Int64Type>().write_batch(&all[range], defined, repeated),
                Values::Double(all) => writer.typed::<DoubleType>().write_batch(&all[range], defined, repeated),
                Values::Bytes(all) => writer.typed::<ByteArrayType>().write_batch(&all[range], defined, repeated),
            }?;
            (level, value) = (end, values.end);
        }
        Ok(())
    }
}

fn optional<T>(values: impl Iterator<Item = Option<T>>) -> (Vec<i16>, Vec<T>) {
    let mut present = Vec::new();
    let defined = values
        .map(|value| {
            let level = i16::from(value.is_some());
            present.extend(value);
            level
        })
        .collect();
    (defined, present)
}

/// One object: a Parquet file with one row group.
pub(crate) fn write(dataset: Dataset, columns: Vec<Column>) -> Result<Vec<u8>, LakeError> {
    try_write(dataset, columns).map_err(|source| {
        LakeError::new(LakeErrorKind::Invalid, "write", format!("the {dataset} rows do not fit the Parquet format"))
            .with_source(source)
    })
}

fn try_write(dataset: Dataset, columns: Vec<Column>) -> Result<Vec<u8>, ParquetError> {
    let schema = match dataset {
        Dataset::Raw => RAW,
        Dataset::Scored => SCORED,
        Dataset::Rejected => REJECTED,
    };
    let schema = Arc::new(parse_message_type(schema)?);
    let mut writer = SerializedFileWriter::new(Yielding(Vec::new()), schema, Arc::new(properties()?))?;
    let mut group = writer.next_row_group()?;
    let mut columns = columns.into_iter();
    while let Some(mut column) = group.next_column()? {
        let given = columns.next().ok_or_else(|| ParquetError::General("a column is missing".into()))?;
        given.write(&mut column)?;
        column.close()?;
    }
    group.close()?;
    Ok(writer.into_inner()?.0)
}

/// An object in memory. To encode one takes long, so others have the processor between its pages.
struct Yielding(Vec<u8>);

impl std::io::Write for Yielding {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::thread::yield_now();
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn properties() -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_data_page_size_limit(PAGE_BYTES_MAX)
        .set_compression(Compression::GZIP(GzipLevel::try_new(GZIP_LEVEL)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("kilter ", env!("CARGO_PKG_VERSION")).into());
    for column in RISING {
        let path = ColumnPath::from(column);
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    for column in UNIQUE {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    Ok(properties.set_column_statistics_enabled(ColumnPath::from("payload"), EnabledStatistics::None).build())
}

/// What tells each row of an object from any other (`Row::identity`), with its offset, in order.
pub(crate) fn read_identities(dataset: Dataset, key: &str, object: Bytes) -> Result<Vec<(Offset, String)>, LakeError> {
    try_read_identities(dataset, object).map_err(|source| {
        let message = format!("{key} is not a Parquet file of the {dataset} dataset; restore it from a backup");
        LakeError::new(LakeErrorKind::Damaged, "read", message).with_source(source)
    })
}

fn try_read_identities(dataset: Dataset, object: Bytes) -> Result<Vec<(Offset, String)>, ParquetError> {
    let odd = || ParquetError::General("a value is not what the column holds".into());
    let reader = SerializedFileReader::new(object)?;
    let mut identities = Vec::new();
    for i in 0..reader.num_row_groups() {
        let group = reader.get_row_group(i)?;
        let arrivals = read_int64(group.as_ref(), "arrival")?;
        if dataset == Dataset::Scored {
            let positions = read_bytes(group.as_ref(), "position")?;
            let positions = positions.iter().map(ByteArray::as_utf8).collect::<Result<Vec<_>, _>>()?;
            let offsets = match column(group.as_ref(), "known_offset") {
                Ok(_) => {
                    read_int64(group.as_ref(), "known_offset")?.into_iter().map(|o| u64::try_from(o).ok()).collect()
                }
                // Of an earlier build: nothing was corrected.
                Err(_) => positions.iter().map(|position| Some(scored_offset(position)?.0)).collect::<Vec<_>>(),
            };
            for ((position, offset), arrival) in positions.into_iter().zip(offsets).zip(arrivals) {
                identities.push((Offset(offset.ok_or_else(odd)?), scored_identity(position, arrival)));
            }
        } else {
            let offsets = read_int64(group.as_ref(), "offset")?;
            let sequences = read_int64(group.as_ref(), "thing_sequence")?;
            for ((offset, sequence), arrival) in offsets.into_iter().zip(sequences).zip(arrivals) {
                let offset = Offset(u64::try_from(offset).map_err(|_| odd())?);
                identities.push((offset, record_identity(offset, sequence as u64, arrival)));
            }
        }
    }
    Ok(identities)
}

pub(crate) fn record_identity(offset: Offset, thing_sequence: u64, arrival: i64) -> String {
    format!("{}/{thing_sequence}/{arrival}", offset.0)
}

pub(crate) fn scored_identity(position: &str, arrival: i64) -> String {
    format!("{position}/{arrival}")
}

/// Of a position `shard:offset:index`.
pub(crate) fn scored_offset(position: &str) -> Option<Offset> {
    let mut fields = position.split(':');
    let (_shard, offset, _index) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?);
    Some(Offset(offset))
}

fn column(group: &dyn RowGroupReader, name: &str) -> Result<ColumnReader, ParquetError> {
    let columns = group.metadata().columns();
    let index = columns.iter().position(|column| column.column_path().string() == name);
    group.get_column_reader(index.ok_or_else(|| ParquetError::General(format!("column {name} is missing")))?)
}

fn read_int64(group: &dyn RowGroupReader, name: &str) -> Result<Vec<i64>, ParquetError> {
    let ColumnReader::Int64ColumnReader(mut reader) = column(group, name)? else {
        return Err(ParquetError::General(format!("column {name} is not int64")));
    };
    let mut values = Vec::new();
    while reader.read_records(usize::MAX, None, None, &mut values)?.0 > 0 {}
    Ok(values)
}

fn read_bytes(group: &dyn RowGroupReader, name: &str) -> Result<Vec<ByteArray>, ParquetError> {
    let ColumnReader::ByteArrayColumnReader(mut reader) = column(group, name)? else {
        return Err(ParquetError::General(format!("column {name} is not binary")));
    };
    let mut values = Vec::new();
    while reader.read_records(usize::MAX, None, None, &mut values)?.0 > 0 {}
    Ok(values)
}
