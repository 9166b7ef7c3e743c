//! UCR anomaly archive (Wu and Keogh 2021): one subtle anomaly per series. Learns the clean prefix; the one reading with the
//! highest score behind it must lie at the anomaly.

use super::{
    Figures, OneSeries, Report, Suite,
    series::{self, Series},
    stream::{self, Cost, Row, Streamed},
};
use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use std::{ops::Range, path::Path};

const SET: &str = "ucr";
/// Readings beside the anomaly that still count as at it; as many as it has itself where those are more.
const NEAR_READINGS: usize = 100;

/// One line of the folder's list of series.
#[derive(Debug, serde::Deserialize)]
struct Entry {
    set: String,
    name: String,
    rows: usize,
    train_rows: usize,
}

struct Found {
    lag: bool,
    causal: bool,
    cost: Cost,
}

pub fn run(data: &Path, bar: &ProgressBar) -> anyhow::Result<Report> {
    let list = series::text(&data.join("series.csv"))?;
    let mut reader = csv::Reader::from_reader(list.as_bytes());
    let entries: Result<Vec<Entry>, _> = reader.deserialize().collect();
    let mut entries = entries.context("series.csv is not understood")?;
    entries.retain(|entry| entry.set == SET);
    // The longest first, so that no core ends up alone with it.
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.rows));
    let found = stream::for_all(&entries, bar, |entry| find(&data.join(SET), entry))?;
    let share = |of: fn(&Found) -> bool| {
        let hits = found.iter().filter(|found| of(found)).count() as f64;
        (!found.is_empty()).then(|| 100.0 * hits / found.len() as f64)
    };
    let ours: Figures = vec![("lag", share(|found| found.lag)), ("causal", share(|found| found.causal))];
    let figure = |hit: bool| Some(f64::from(u8::from(hit)));
    let by_series = entries.iter().zip(&found).map(|(entry, found)| OneSeries {
        name: entry.name.clone(),
        figures: vec![("lag", figure(found.lag)), ("causal", figure(found.causal))],
    });
    let by_series = by_series.collect();
    let cost = Cost::sum(found.iter().map(|found| &found.cost));
    Ok(Report { suite: Suite::Ucr, series: entries.len(), ours, published: Vec::new(), cost, by_series })
}

fn find(folder: &Path, entry: &Entry) -> anyhow::Result<Found> {
    let table = series::table(&folder.join(format!("{}.csv.gz", entry.name)), false)?;
    let labels = table.column("label")?;
    let labelled = |label: &f64| *label > 0.0;
    let first = labels.iter().position(labelled);
    let last = labels.iter().rposition(labelled);
    let (first, last) = first.zip(last).with_context(|| format!("{}: nothing is labelled", entry.name))?;
    ensure!(entry.train_rows <= first, "{}: the anomaly lies in the part that is to be learned", entry.name);
    let mut series = Series::new(entry.name.clone(), table.signals_without(&["label"]), None);
    series.normal_rows = Some(entry.train_rows as u32);
    let Streamed { rows, cost } = stream::stream(&series)?;
    let hit = |of: fn(&Row) -> f64| {
        hits(&rows[entry.train_rows..], of, first - entry.train_rows..last + 1 - entry.train_rows)
    };
    Ok(Found { lag: hit(|row| row.settled), causal: hit(|row| row.oddness), cost })
}

/// Whether the first of the readings with the highest score lies at the anomaly.
fn hits(rows: &[Row], of: fn(&Row) -> f64, anomaly: Range<usize>) -> bool {
    let near = anomaly.len().max(NEAR_READINGS);
    let highest = rows.iter().map(of).enumerate().reduce(|best, one| if one.1 > best.1 { one } else { best });
    let at = anomaly.start.saturating_sub(near)..anomaly.end + near;
    highest.is_some_and(|(row, score)| score > 0.0 && at.contains(&row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_score_must_lie_at_the_anomaly_and_the_first_of_equals_counts() {
        let at = |high: &[usize]| {
            let mut rows = vec![Row::default(); 1_000];
            high.iter().for_each(|&row| rows[row].oddness = 0.9);
            hits(&rows, |row| row.oddness, 500..510)
        };
        assert!(!at(&[]), "nothing stands out");
        assert_eq!([at(&[399]), at(&[400]), at(&[609]), at(&[610])], [false, true, true, false]);
        assert!(!at(&[100, 505]));
        assert!(at(&[505, 900]));
    }
}
