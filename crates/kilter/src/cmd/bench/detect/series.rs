//! Benchmark series as they lie in the folder: gzipped CSV.

use anyhow::{Context, bail};
use flate2::read::MultiGzDecoder;
use kilter_core::Timestamp;
use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

/// A file's columns; cells that are not numbers are NaN.
pub struct Table {
    /// The first column's texts, where it is a time.
    pub times: Vec<String>,
    pub columns: Vec<(String, Vec<f64>)>,
}

/// One recording as it is streamed.
pub struct Series {
    pub name: String,
    /// Sorted by name, as a sample's signals are.
    pub signals: Vec<(Box<str>, Vec<f64>)>,
    /// Event times; one reading a minute where the set has none.
    pub times: Vec<Timestamp>,
    /// First rows that are known to be normal.
    pub normal_rows: Option<u32>,
}

impl Series {
    pub fn new(name: String, mut signals: Vec<(Box<str>, Vec<f64>)>, times: Option<Vec<Timestamp>>) -> Self {
        const MINUTE_SECONDS: i64 = 60;
        signals.sort_by(|a, b| a.0.cmp(&b.0));
        let rows = signals.first().map_or(0, |(_, values)| values.len());
        let minute = |row: usize| Timestamp::from_seconds(row as i64 * MINUTE_SECONDS);
        let times = times.unwrap_or_else(|| (0..rows).map(minute).collect());
        Self { name, signals, times, normal_rows: None }
    }

    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// What the reading of a row carried.
    pub fn signals_at(&self, row: usize) -> Vec<(Box<str>, f64)> {
        let values = self.signals.iter().map(|(name, values)| (name.clone(), values[row]));
        values.filter(|(_, value)| value.is_finite()).collect()
    }

    /// Sets the time between readings, where the set has no times but says how often it was read.
    pub fn space(&mut self, seconds: i64) {
        for (row, time) in self.times.iter_mut().enumerate() {
            *time = Timestamp::from_seconds(row as i64 * seconds);
        }
    }

    /// The median time between two readings.
    pub fn usual_seconds(&self) -> f64 {
        let mut apart: Vec<f64> = self.times.windows(2).map(|pair| pair[1].seconds_since(pair[0])).collect();
        apart.sort_by(f64::total_cmp);
        apart.get(apart.len() / 2).copied().unwrap_or(0.0)
    }
}

impl Table {
    /// The rows of another file below these, which has the same columns and perhaps more.
    pub fn extend(&mut self, below: &Self) -> anyhow::Result<()> {
        for (name, values) in &mut self.columns {
            values.extend_from_slice(below.column(name)?);
        }
        Ok(())
    }

    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, values)| values.len())
    }

    /// The columns but for some, as signals.
    pub fn signals_without(&self, labels: &[&str]) -> Vec<(Box<str>, Vec<f64>)> {
        let signals = self.columns.iter().filter(|(name, _)| !labels.contains(&name.as_str()));
        signals.map(|(name, values)| (name.as_str().into(), values.clone())).collect()
    }

    pub fn column(&self, name: &str) -> anyhow::Result<&[f64]> {
        let found = self.columns.iter().find(|(column, _)| column == name);
        found.map(|(_, values)| values.as_slice()).with_context(|| format!("there is no column {name}"))
    }

    /// The first column as times.
    pub fn timestamps(&self) -> anyhow::Result<Vec<Timestamp>> {
        self.times.iter().map(|text| timestamp(text)).collect()
    }
}

/// `YYYY-MM-DD hh:mm:ss`, as all the sets have it, taken as UTC.
pub fn timestamp(text: &str) -> anyhow::Result<Timestamp> {
    let text = text.trim().replacen(' ', "T", 1);
    // Some label files have parts of a second that the series does not have.
    let whole = text.split('.').next().unwrap_or(&text);
    Timestamp::parse_rfc3339(&format!("{whole}Z")).with_context(|| format!("{text} is not a time"))
}

pub fn text(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let opened = File::open(path).and_then(|file| match path.extension() {
        Some(extension) if extension == "gz" => MultiGzDecoder::new(file).read_to_string(&mut text),
        _ => (&file).read_to_string(&mut text),
    });
    opened.with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(text)
}

/// Reads a CSV with a header, separated by commas or semicolons; `timed` says that the first column is a time.
pub fn table(path: &Path, timed: bool) -> anyhow::Result<Table> {
    let text = text(path)?;
    let separator = if text.lines().next().is_some_and(|head| head.contains(';')) { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(text.as_bytes());
    let skipped = usize::from(timed);
    let mut columns: Vec<(String, Vec<f64>)> =
        reader.headers()?.iter().skip(skipped).map(|name| (name.to_owned(), Vec::new())).collect();
    let mut times = Vec::new();
    for record in reader.records() {
        let record = record.with_context(|| format!("{} is not the CSV that its header says", path.display()))?;
        if timed {
            times.push(record.get(0).unwrap_or_default().to_owned());
        }
        for ((_, values), cell) in columns.iter_mut().zip(record.iter().skip(skipped)) {
            values.push(cell.trim().parse().unwrap_or(f64::NAN));
        }
    }
    if columns.is_empty() {
        bail!("{} has no columns", path.display());
    }
    Ok(Table { times, columns })
}

/// The names of a folder's files that end so, without that ending, sorted.
pub fn stems(folder: &Path, ending: &str) -> anyhow::Result<Vec<String>> {
    let listed = fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut stems = Vec::new();
    for entry in listed {
        let name = entry?.file_name();
        stems.extend(name.to_str().and_then(|name| name.strip_suffix(ending)).map(str::to_owned));
    }
    stems.sort();
    Ok(stems)
}

/// All records of a CSV file as texts, header first.
pub fn records(path: &Path) -> anyhow::Result<(Vec<String>, Vec<Vec<String>>)> {
    let text = text(path)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers()?.iter().map(str::to_owned).collect();
    let records = reader.records().map(|record| Ok(record?.iter().map(str::to_owned).collect()));
    Ok((head, records.collect::<Result<_, csv::Error>>()?))
}

#[cfg(test)]
pub mod tests {
    use std::path::PathBuf;

    /// A folder of the benchmark data, or a note that the test cannot run without it. Required where CI says so.
    #[allow(clippy::print_stdout)] // Never a silent skip.
    pub fn data(folder: &str) -> Option<PathBuf> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let path = std::env::var_os("KILTER_BENCH_DATA")
            .map_or_else(|| root.join("../../../shared/data"), PathBuf::from)
            .join(folder);
        if path.exists() {
            return Some(path);
        }
        assert!(std::env::var_os("KILTER_REQUIRE_TOOLS").is_none(), "{} is required", path.display());
        println!("SKIPPED: {} is not there", path.display());
        None
    }
}
