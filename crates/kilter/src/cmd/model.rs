//! `kilter model`: trains what SageMaker endpoints serve.

use super::recording::{LABEL_COLUMNS, TIME_COLUMNS, delimiter, open_text, row_error, unreadable};
use crate::{config::Shared, output};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use kilter_detect::forest::{Parameters, RandomCutForest};
use kilter_pipeline::model::archive;
use serde::Serialize;
use std::{
    io::{BufRead, Read},
    path::{Path, PathBuf},
};

/// The same file makes the same model.
const SEED: u64 = 1;
/// Between two moves of the progress bar.
const ROWS_PER_STEP: u64 = 256;

/// Models for SageMaker endpoints
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Train(Args),
}

/// Train a random cut forest on a CSV of numbers, for an endpoint to serve
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each row is a point, each column a feature, in this order. A header is recognised; a column called ts, timestamp, time, datetime or date is left out. The file may be gzipped, and separated by commas or semicolons. Rows with an empty cell are left out, and counted. Needs no server.\n\nExample:\n  kilter model train pump.csv --out model.tar.gz --num-trees 100\n  aws s3 cp model.tar.gz s3://models/pump/model.tar.gz"
)]
pub struct Args {
    /// The points, in order of time: what was learned early fades
    file: PathBuf,
    /// The archive to write
    #[arg(long, value_name = "FILE.tar.gz")]
    out: PathBuf,
    /// Trees of the forest, 1 to 1000
    #[arg(long, value_name = "TREES", default_value_t = 100)]
    num_trees: usize,
    /// Points that each tree holds, 1 to 256
    #[arg(long, value_name = "POINTS", default_value_t = 256)]
    num_samples_per_tree: usize,
    /// Columns that are not looked at
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', default_value = LABEL_COLUMNS)]
    ignore: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    model: PathBuf,
    bytes: usize,
    /// Names of the columns, where the file has them.
    features: Vec<String>,
    feature_dim: usize,
    num_trees: usize,
    num_samples_per_tree: usize,
    points: u64,
    /// Rows with an empty cell.
    incomplete: u64,
}

pub async fn run(shared: &Shared, command: Command) -> anyhow::Result<()> {
    let Command::Train(args) = command;
    let report = tokio::task::spawn_blocking(move || train(&args)).await??;
    output::print(shared.output, &report, |report| {
        format!(
            "A forest of {} trees over {} features, trained on {} points ({} rows with an empty cell left out), is in {}, {} bytes.",
            report.num_trees,
            report.feature_dim,
            report.points,
            report.incomplete,
            report.model.display(),
            report.bytes
        )
    })
}

fn train(args: &Args) -> anyhow::Result<Report> {
    let mut table = Points::open(&args.file, &args.ignore)?;
    let parameters =
        Parameters { features: table.columns.len(), trees: args.num_trees, samples: args.num_samples_per_tree };
    let mut forest = RandomCutForest::new(parameters, SEED)
        .map_err(|error| unreadable(&args.file, &format!("no forest can be made for it: {error}")))?;
    let bar =
        ProgressBar::no_length().with_style(ProgressStyle::with_template("{spinner} {human_pos} points  {per_sec}")?);
    let mut points = 0;
    while let Some(point) = table.next_point()? {
        forest.learn(&point);
        points += 1;
        if points % ROWS_PER_STEP == 0 {
            bar.set_position(points);
        }
    }
    bar.finish_and_clear();
    if points == 0 {
        return Err(unreadable(&args.file, "it has no row in which every cell is a number").into());
    }
    let bytes = archive(&forest).context("the model cannot be packed")?;
    std::fs::write(&args.out, &bytes).with_context(|| format!("{} cannot be written", args.out.display()))?;
    Ok(Report {
        model: args.out.clone(),
        bytes: bytes.len(),
        features: table.names,
        feature_dim: parameters.features,
        num_trees: parameters.trees,
        num_samples_per_tree: parameters.samples,
        points,
        incomplete: table.incomplete,
    })
}

/// Rows of numbers.
struct Points {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read + Send>>,
    record: csv::StringRecord,
    /// Whether `record` is a row that was read and not given yet.
    waits: bool,
    columns: Vec<usize>,
    names: Vec<String>,
    incomplete: u64,
}

impl Points {
    fn open(path: &Path, ignore: &[String]) -> anyhow::Result<Self> {
        let why = |why: String| unreadable(path, &why);
        let mut text = open_text(path).map_err(|error| why(error.to_string()))?;
        let delimiter = delimiter(text.fill_buf().map_err(|error| why(error.to_string()))?);
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .from_reader(Box::new(text) as Box<dyn Read + Send>);
        let mut record = csv::StringRecord::new();
        if !reader.read_record(&mut record).map_err(|error| why(row_error(&error)))? {
            return Err(why("it is empty".to_owned()).into());
        }
        let header = record.iter().any(|cell| !cell.trim().is_empty() && cell.trim().parse::<f64>().is_err());
        let left_out = |name: &str| {
            TIME_COLUMNS.contains(&name.trim().to_lowercase().as_str()) || ignore.iter().any(|ignored| ignored == name)
        };
        let taken = |(_, name): &(usize, &str)| !header || !left_out(name);
        let columns: Vec<usize> = record.iter().enumerate().filter(taken).map(|(index, _)| index).collect();
        let name = |index: &usize| record.get(*index).map(str::to_owned).filter(|_| header);
        let names = columns.iter().filter_map(name).collect();
        Ok(Self { path: path.to_owned(), reader, waits: !header, record, columns, names, incomplete: 0 })
    }

    fn next_point(&mut self) -> anyhow::Result<Option<Vec<f64>>> {
        loop {
            if !std::mem::take(&mut self.waits) {
                let read = self.reader.read_record(&mut self.record);
                if !read.map_err(|error| unreadable(&self.path, &row_error(&error)))? {
                    return Ok(None);
                }
            }
            let cell = |index: &usize| self.record.get(*index).unwrap_or_default().trim();
            if self.columns.iter().any(|index| cell(index).is_empty()) {
                self.incomplete += 1;
                continue;
            }
            let number = |index: &usize| {
                let text = cell(index);
                let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
                number.ok_or_else(|| {
                    let line = self.record.position().map_or(1, csv::Position::line);
                    let column = self.names.get(self.columns.iter().position(|known| known == index).unwrap_or(0));
                    let column = column.map_or_else(|| format!("column {}", index + 1), Clone::clone);
                    let why = format!(
                        "line {line}: {column} is {text:?}, which is no number; leave the column out by --ignore, or the \
                         cell empty"
                    );
                    unreadable(&self.path, &why)
                })
            };
            return Ok(Some(self.columns.iter().map(number).collect::<Result<_, _>>()?));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_core::ports::function::Models;
    use kilter_pipeline::model::ModelArchives;

    fn trained(text: &str, change: impl FnOnce(&mut Args)) -> anyhow::Result<(Report, Vec<u8>)> {
        let dir = tempfile::tempdir().unwrap();
        let (file, out) = (dir.path().join("in.csv"), dir.path().join("model.tar.gz"));
        std::fs::write(&file, text).unwrap();
        let ignore = LABEL_COLUMNS.split(',').map(str::to_owned).collect();
        let mut args = Args { file, out: out.clone(), num_trees: 20, num_samples_per_tree: 32, ignore };
        change(&mut args);
        let report = train(&args)?;
        Ok((report, std::fs::read(out).unwrap()))
    }

    fn rows(head: &str) -> String {
        let row = |n: u32| format!("2026-01-01T00:00:{:02}Z;{};{};0\n", n % 60, n % 7, n % 5);
        head.to_owned() + &(0..200).map(row).collect::<String>()
    }

    #[test]
    fn what_was_trained_scores_and_is_the_same_each_time() {
        let text = rows("time;flow;pressure;label\n") + "2026-01-01T00:00:00Z;;1;0\n";
        let (report, bytes) = trained(&text, |_| ()).unwrap();
        assert_eq!((report.points, report.incomplete, report.features.join(" ").as_str()), (200, 1, "flow pressure"));
        let model = ModelArchives.open(&mut &bytes[..]).unwrap();
        assert!(model.score(&[3.0, 90.0]) > 2.0 * model.score(&[3.0, 2.0]));
        assert_eq!(trained(&text, |_| ()).unwrap().1, bytes);
        let (report, _) = trained("1,2,3\n2,3,4\n", |_| ()).unwrap();
        assert_eq!((report.points, report.feature_dim, report.features.len()), (2, 3, 0));
    }

    #[test]
    fn mistakes_are_named() {
        let wide = (0..40).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        type Case<'a> = (&'a str, fn(&mut Args), &'a str);
        let cases: [Case<'_>; 7] = [
            ("", |_| (), "it is empty"),
            ("a,b\n", |_| (), "no row in which"),
            ("a,b\n1,2\n1,off\n", |_| (), "line 3: b is \"off\""),
            ("1,2\n1,NaN\n", |_| (), "line 2: column 2 is \"NaN\""),
            ("a,b\n1,2\n1,2,3\n", |_| (), "line 3: 3 cells instead of the 2"),
            ("1,2\n", |args| args.num_trees = 0, "0 trees: a forest has 1 to 1000"),
            (&wide, |_| (), "40 features: a point has 1 to 32"),
        ];
        for (text, change, why) in cases {
            let error = trained(text, change).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(trained("time,a\n1,2\n", |args| args.ignore = vec!["a".into()]).is_err(), "no column is left");
    }
}
