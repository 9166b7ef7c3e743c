//! SKAB: a water rig with eight sensors. Each experiment on its own: 400 rows to learn from, the rest is judged.

use super::{
    Figures, Published, Report, Suite,
    budget::Recording,
    series::{self, Series},
    skab_score::{self, Experiment, LOW_FN, LOW_FP, STANDARD},
    stream::{self, Cost, Row},
};
use anyhow::Context;
use indicatif::ProgressBar;
use std::{collections::HashMap, fs, path::Path};

const TRAIN_ROWS: usize = 400;
/// Folders with labelled experiments.
const FOLDERS: [&str; 3] = ["valve1", "valve2", "other"];
/// The time, then sensors, and these two.
const LABELS: [&str; 2] = ["anomaly", "changepoint"];

struct Labelled {
    series: Series,
    truth: Experiment,
}

pub fn run(data: &Path, bar: &ProgressBar) -> anyhow::Result<Report> {
    let folder = data.join("skab");
    let experiments = experiments(&folder)?;
    let streamed = stream::for_all(&experiments, bar, |one| stream::stream(&one.series))?;
    let of = |what: fn(&Row) -> bool| -> Vec<Vec<bool>> {
        streamed.iter().map(|one| one.rows.iter().skip(TRAIN_ROWS).map(what).collect()).collect()
    };
    let ours = figures(&experiments, &of(|row| row.anomalous), &of(|row| row.changed));
    let mut published = published(&folder, &experiments)?;
    published.push(metronome(&experiments));
    let cost = Cost::of(&streamed);
    Ok(Report { suite: Suite::Skab, series: experiments.len(), ours, published, cost, by_series: Vec::new() })
}

fn figures(experiments: &[Labelled], flagged: &[Vec<bool>], changed: &[Vec<bool>]) -> Figures {
    let (rows, pairs) = (skab_score::rows(&marked(experiments, flagged)), marked(experiments, changed));
    vec![
        ("f1", Some(rows.f1)),
        ("far", Some(rows.false_alarms)),
        ("mar", Some(rows.missed)),
        ("changepoint_standard", Some(skab_score::changes(&pairs, STANDARD))),
        ("changepoint_low_fp", Some(skab_score::changes(&pairs, LOW_FP))),
        ("changepoint_low_fn", Some(skab_score::changes(&pairs, LOW_FN))),
    ]
}

fn marked<'a>(experiments: &'a [Labelled], marks: &'a [Vec<bool>]) -> Vec<(&'a Experiment, &'a [bool])> {
    experiments.iter().map(|one| &one.truth).zip(marks.iter().map(Vec::as_slice)).collect()
}

fn experiments(folder: &Path) -> anyhow::Result<Vec<Labelled>> {
    let mut paths = Vec::new();
    for name in FOLDERS {
        let Ok(listed) = fs::read_dir(folder.join(name)) else { continue };
        for entry in listed {
            let path = entry?.path();
            let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
            if let Some(number) = file.strip_suffix(".csv.gz") {
                paths.push((format!("{name}/{number}"), path));
            }
        }
    }
    paths.sort();
    paths.into_iter().map(|(name, path)| experiment(name.clone(), &path).context(name)).collect()
}

fn experiment(name: String, path: &Path) -> anyhow::Result<Labelled> {
    let table = series::table(path, true)?;
    let times = table.timestamps()?;
    let label = |name: &str| anyhow::Ok(table.column(name)?.iter().skip(TRAIN_ROWS).map(|&x| x > 0.0).collect());
    let seconds = times.iter().skip(TRAIN_ROWS).map(|time| time.seconds_since(times[0]));
    let truth = Experiment { times: seconds.collect(), anomalous: label(LABELS[0])?, changes: label(LABELS[1])? };
    let mut series = Series::new(name, table.signals_without(&LABELS), Some(times));
    series.normal_rows = Some(TRAIN_ROWS as u32);
    Ok(Labelled { series, truth })
}

/// What the rule for change points gives to who tells one every so often, whatever the data: read it beside any figure.
fn metronome(experiments: &[Labelled]) -> Published {
    const EVERY_ROWS: usize = 60;
    let rows = |one: &Labelled| one.truth.times.len();
    let silent: Vec<Vec<bool>> = experiments.iter().map(|one| vec![false; rows(one)]).collect();
    let beats: Vec<Vec<bool>> =
        experiments.iter().map(|one| (0..rows(one)).map(|row| row % EVERY_ROWS == 0).collect()).collect();
    Published { name: "(a change every 60 rows)".to_owned(), figures: figures(experiments, &silent, &beats) }
}

/// The rig without anomaly.
pub fn normal(folder: &Path) -> anyhow::Result<Vec<Recording>> {
    let table = series::table(&folder.join("anomaly-free/anomaly-free.csv.gz"), true)?;
    let series = Series::new("anomaly-free".to_owned(), table.signals_without(&LABELS), Some(table.timestamps()?));
    Ok(vec![Recording { anomalous: vec![false; series.rows()], series }])
}

/// The detectors whose answers for every row are published, scored anew on the experiments that are there.
fn published(folder: &Path, experiments: &[Labelled]) -> anyhow::Result<Vec<Published>> {
    let (head, records) = series::records(&folder.join("published_predictions.csv.gz"))?;
    let mut published = Vec::new();
    for (at, name) in head.iter().enumerate().skip(2) {
        let mut by_row: HashMap<(&str, usize), bool> = HashMap::new();
        for record in &records {
            by_row.insert((&record[0], record[1].parse()?), record[at].parse::<f64>().is_ok_and(|x| x > 0.0));
        }
        let flagged = experiments.iter().map(|one| {
            let row = |row: usize| by_row.get(&(&*one.series.name, row + TRAIN_ROWS)).copied().unwrap_or(false);
            (0..one.truth.times.len()).map(row).collect()
        });
        let flagged: Vec<Vec<bool>> = flagged.collect();
        let changed: Vec<Vec<bool>> = flagged.iter().map(|flagged| skab_score::flips(flagged)).collect();
        published.push(Published { name: name.clone(), figures: figures(experiments, &flagged, &changed) });
    }
    published.sort_by(|a, b| b.figures[0].1.unwrap_or(0.0).total_cmp(&a.figures[0].1.unwrap_or(0.0)));
    Ok(published)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published predictions give the published numbers.
    #[test]
    fn published_predictions_give_the_published_scores() {
        let Some(folder) = series::tests::data("skab") else { return };
        let experiments = experiments(&folder).unwrap();
        let ours = published(&folder, &experiments).unwrap();
        let (_, rows) = series::records(&folder.join("published_scores.csv")).unwrap();
        assert_eq!(ours.len(), 7);
        for detector in ours {
            let row = rows.iter().find(|row| row[0] == detector.name && row[1] == "shared").unwrap();
            for (at, (name, figure)) in detector.figures.iter().enumerate() {
                // The isolation forest's change points were smoothed in its own notebook.
                if detector.name == "Isolation-forest" && name.starts_with("changepoint") {
                    continue;
                }
                let theirs: f64 = row[2 + at].parse().unwrap();
                assert!((figure.unwrap() - theirs).abs() < 0.006, "{} {name}: {figure:?} {theirs}", detector.name);
            }
        }
    }
}
