//! Recorded CSV files, row by row, as the telemetry payloads that a device would have sent.

use crate::error::{Code, Coded};
use chrono::NaiveDateTime;
use flate2::read::MultiGzDecoder;
use kilter_core::Timestamp;
use serde_json::{Map, Value};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// Columns of labelled benchmark files that tell the answer.
pub const LABEL_COLUMNS: &str = "anomaly,changepoint,label,is_anomaly";
/// Names of a time column, where nobody has said which one it is.
pub(super) const TIME_COLUMNS: [&str; 5] = ["ts", "timestamp", "time", "datetime", "date"];
/// The first bytes of a gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// In the file, the header being the first.
    pub line: u64,
    /// `ts`, and every cell that is not empty: as a number where it is one, else as text.
    pub payload: Map<String, Value>,
}

impl Row {
    /// Whether no cell is a number.
    pub fn is_empty(&self) -> bool {
        !self.payload.values().any(Value::is_number)
    }
}

/// An open file.
pub struct Recording {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read + Send>>,
    record: csv::StringRecord,
    /// Name of each column that is taken; `None` for the time column and for those that are left out.
    columns: Vec<Option<String>>,
    time_index: usize,
}

impl Recording {
    /// `time_column` is looked for by the usual names where it is not given.
    pub fn open(path: &Path, time_column: Option<&str>, ignore: &[String]) -> anyhow::Result<Self> {
        let why = |why: String| unreadable(path, &why);
        let mut text = open_text(path).map_err(|e| why(e.to_string()))?;
        let delimiter = delimiter(text.fill_buf().map_err(|e| why(e.to_string()))?);
        let mut reader =
            csv::ReaderBuilder::new().delimiter(delimiter).from_reader(Box::new(text) as Box<dyn Read + Send>);
        let head = reader.headers().map_err(|e| why(e.to_string()))?.clone();
        let is_time = |name: &str| match time_column {
            Some(wanted) => name == wanted,
            None => TIME_COLUMNS.contains(&name.trim().to_lowercase().as_str()),
        };
        let Some(time_index) = head.iter().position(is_time) else {
            let wanted =
                time_column.map_or_else(|| format!("of {}", TIME_COLUMNS.join(", ")), |name| format!("{name:?}"));
            let names: Vec<&str> = head.iter().collect();
            let names = names.join(", ");
            return Err(why(format!(
                "it has no column {wanted}; its columns are {names}. Name the one with the time by --time-column"
            ))
            .into());
        };
        let taken = |(index, name): (usize, &str)| {
            (index != time_index && !ignore.iter().any(|i| i == name)).then(|| name.to_owned())
        };
        let columns = head.iter().enumerate().map(taken).collect();
        Ok(Self { path: path.to_owned(), reader, record: csv::StringRecord::new(), columns, time_index })
    }

    pub fn next_row(&mut self) -> anyhow::Result<Option<Row>> {
        match self.reader.read_record(&mut self.record) {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            Err(error) => return Err(unreadable(&self.path, &row_error(&error)).into()),
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let text = self.record.get(self.time_index).unwrap_or_default();
        let time = parse_time(text).ok_or_else(|| self.at(line, &format!("{text:?} is not a time")))?;
        let mut payload = Map::with_capacity(self.columns.len() + 1);
        payload.insert("ts".to_owned(), time.into());
        for (name, value) in self.columns.iter().zip(&self.record) {
            let Some(name) = name.as_ref().filter(|_| !value.trim().is_empty()) else { continue };
            let number = value.trim().parse::<f64>().ok();
            if number.is_some_and(|number| !number.is_finite()) {
                let why = format!(
                    "{name} is {value}, which is no measurement; leave the cell empty where nothing was measured"
                );
                return Err(self.at(line, &why).into());
            }
            let number = number.and_then(serde_json::Number::from_f64);
            payload.insert(name.clone(), number.map_or_else(|| value.into(), Into::into));
        }
        Ok(Some(Row { line, payload }))
    }

    /// What is wrong with a line.
    pub fn at(&self, line: u64, why: &str) -> Coded {
        unreadable(&self.path, &format!("line {line}: {why}"))
    }
}

pub(super) fn unreadable(path: &Path, why: &str) -> Coded {
    Coded::new(Code::InputUnreadable, format!("{} cannot be used: {why}", path.display()))
}

pub(super) fn row_error(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos: Some(pos), expected_len, len } => {
            format!("line {}: {len} cells instead of the {expected_len} of the header", pos.line())
        }
        _ => error.to_string(),
    }
}

/// Gzip is recognised by its first bytes, whatever the file is called.
pub(super) fn open_text(path: &Path) -> std::io::Result<BufReader<Box<dyn Read + Send>>> {
    let mut file = BufReader::new(File::open(path)?);
    let gzip = file.fill_buf()?.starts_with(&GZIP_MAGIC);
    let text: Box<dyn Read + Send> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok(BufReader::new(text))
}

/// The separator that the first line has more of.
pub(super) fn delimiter(start: &[u8]) -> u8 {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |wanted: u8| line.iter().filter(|byte| **byte == wanted).count();
    if count(b';') > count(b',') { b';' } else { b',' }
}

/// As RFC 3339; numbers pass through, since the decoder tells epoch units apart.
fn parse_time(text: &str) -> Option<String> {
    let text = text.trim();
    if text.parse::<f64>().is_ok() {
        return Some(text.to_owned());
    }
    if let Some(time) = Timestamp::parse_rfc3339(text) {
        return Some(time.sortable());
    }
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|pattern| NaiveDateTime::parse_from_str(text, pattern).ok())
        .and_then(|time| time.and_utc().timestamp_nanos_opt())
        .map(|nanos| Timestamp::from_nanos(nanos).sortable())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn payloads(bytes: &[u8], time_column: Option<&str>) -> anyhow::Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("in.csv");
        std::fs::write(&file, bytes).unwrap();
        let ignore: Vec<String> = LABEL_COLUMNS.split(',').map(str::to_owned).collect();
        let mut recording = Recording::open(&file, time_column, &ignore)?;
        let mut all = Vec::new();
        while let Some(row) = recording.next_row()? {
            all.push(serde_json::to_string(&row.payload)?);
        }
        Ok(all)
    }

    #[test]
    fn semicolons_gzip_and_labels() {
        let text = b"datetime;Flow RateRMS;anomaly\n2020-03-09 10:14:33;32.5;1.0\n2020-03-09 10:14:34;;0.0\n";
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text).unwrap();
        let expected = [
            r#"{"Flow RateRMS":32.5,"ts":"2020-03-09T10:14:33.000000000Z"}"#,
            r#"{"ts":"2020-03-09T10:14:34.000000000Z"}"#,
        ];
        assert_eq!(payloads(text, Some("datetime")).unwrap(), expected);
        assert_eq!(payloads(&gzip.finish().unwrap(), Some("datetime")).unwrap(), expected);
    }

    #[test]
    fn commas_numbers_and_text() {
        let all = payloads(b"t,a,b\n1700000000,1.5,on\n", Some("t")).unwrap();
        assert_eq!(all, [r#"{"a":1.5,"b":"on","ts":"1700000000"}"#]);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(payloads(b"a,b\n1,2\n", Some("t")).unwrap_err().to_string().contains("its columns are a, b"));
        for (file, why) in [
            (&b"a,b\n1,2\n"[..], "no column of ts, timestamp"),
            (b"time,b\nyesterday,2\n", "line 2: \"yesterday\" is not a time"),
            (b"time,b\n1700000000,2\n1700000001,2,3\n", "line 3: 3 cells instead of the 2"),
            (b"time,b\n1700000000,NaN\n", "line 2: b is NaN"),
            (&[0x1f, 0x8b, 0, 0], "cannot be used"),
        ] {
            let error = payloads(file, None).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
