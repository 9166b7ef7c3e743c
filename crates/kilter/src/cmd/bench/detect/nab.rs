//! NAB: univariate streams with windows around what is anomalous. Nothing is known beforehand: no minimum, no maximum,
//! no stretch of normal readings.

use super::{
    Figures, OneSeries, Published, Report, Suite,
    budget::Recording,
    nab_score::{self, File, Profile},
    series::{self, Series},
    stream::{self, Cost},
};
use anyhow::Context;
use indicatif::ProgressBar;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

/// A figure's name, and the profile's in `profiles.json`.
const PROFILES: [(&str, &str); 3] =
    [("standard", "standard"), ("low_fp", "reward_low_FP_rate"), ("low_fn", "reward_low_FN_rate")];

/// A file of the benchmark.
struct Labelled {
    series: Series,
    windows: Vec<(usize, usize)>,
}

pub fn run(data: &Path, bar: &ProgressBar) -> anyhow::Result<Report> {
    let folder = data.join("nab");
    let files = files(&folder)?;
    let streamed = stream::for_all(&files, bar, |file| stream::stream(&file.series))?;
    let profiles = profiles(&folder)?;
    let scores: Vec<Vec<f64>> = streamed.iter().map(|one| one.rows.iter().map(|row| row.onset).collect()).collect();
    let ours = figures(&files, &scores, &profiles);
    let mut by_series = Vec::new();
    for (file, scores) in files.iter().zip(&scores) {
        let one = [File { scores, windows: &file.windows }];
        let own = (!file.windows.is_empty()).then(|| nab_score::score(&one, profiles[0]));
        by_series.push(OneSeries { name: file.series.name.clone(), figures: vec![("own_threshold", own)] });
    }
    let published = published(&folder, &files, &profiles)?;
    Ok(Report { suite: Suite::Nab, series: files.len(), ours, published, cost: Cost::of(&streamed), by_series })
}

fn figures(files: &[Labelled], scores: &[Vec<f64>], profiles: &[Profile]) -> Figures {
    let all: Vec<File<'_>> =
        files.iter().zip(scores).map(|(file, scores)| File { scores, windows: &file.windows }).collect();
    PROFILES.iter().zip(profiles).map(|((name, _), profile)| (*name, Some(nab_score::score(&all, *profile)))).collect()
}

/// The files that `windows.json` names and that are there.
fn files(folder: &Path) -> anyhow::Result<Vec<Labelled>> {
    let windows: BTreeMap<String, Vec<[String; 2]>> =
        serde_json::from_str(&series::text(&folder.join("windows.json"))?).context("windows.json is not understood")?;
    let mut files = Vec::new();
    for (name, windows) in windows {
        let path = folder.join(format!("{name}.gz"));
        if !path.exists() {
            continue;
        }
        let table = series::table(&path, true)?;
        let times = table.timestamps()?;
        let mut rows = Vec::new();
        for [first, last] in &windows {
            let (first, last) = (series::timestamp(first)?, series::timestamp(last)?);
            let inside: Vec<usize> =
                (0..times.len()).filter(|&row| first <= times[row] && times[row] <= last).collect();
            let ends = inside.first().zip(inside.last()).with_context(|| format!("{name}: a window has no rows"))?;
            rows.push((*ends.0, *ends.1));
        }
        let signals = vec![("value".into(), table.column("value")?.to_vec())];
        files.push(Labelled { series: Series::new(name, signals, Some(times)), windows: rows });
    }
    Ok(files)
}

/// The files with their windows, for who wants to know what lies outside.
pub fn recordings(folder: &Path) -> anyhow::Result<Vec<Recording>> {
    let within = |file: &Labelled, row| file.windows.iter().any(|&(first, last)| (first..=last).contains(&row));
    let recording = |file: Labelled| {
        let anomalous = (0..file.series.rows()).map(|row| within(&file, row)).collect();
        Recording { series: file.series, anomalous }
    };
    Ok(files(folder)?.into_iter().map(recording).collect())
}

fn profiles(folder: &Path) -> anyhow::Result<Vec<Profile>> {
    let json: serde_json::Value = serde_json::from_str(&series::text(&folder.join("profiles.json"))?)?;
    let profile = |(_, name): &(&str, &str)| {
        let weight = |weight: &str| {
            json[name]["CostMatrix"][weight].as_f64().with_context(|| format!("profiles.json lacks {name} {weight}"))
        };
        Ok(Profile {
            true_positive: weight("tpWeight")?,
            false_negative: weight("fnWeight")?,
            false_positive: weight("fpWeight")?,
        })
    };
    PROFILES.iter().map(profile).collect()
}

/// The detectors whose scores of every row are published, scored anew on the files that are there.
fn published(folder: &Path, files: &[Labelled], profiles: &[Profile]) -> anyhow::Result<Vec<Published>> {
    let mut published = Vec::new();
    let detections = folder.join("published_detections");
    let listed = fs::read_dir(&detections).with_context(|| format!("{} cannot be read", detections.display()))?;
    for entry in listed {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = name.strip_suffix(".csv.gz") else { continue };
        let (_, records) = series::records(&path)?;
        let mut by_file: HashMap<&str, Vec<f64>> = HashMap::new();
        for record in &records {
            by_file.entry(&record[0]).or_default().push(record[2].parse().context("a score is no number")?);
        }
        let scores: Option<Vec<Vec<f64>>> = files.iter().map(|file| by_file.remove(&*file.series.name)).collect();
        let Some(scores) = scores else { continue };
        published.push(Published { name: name.to_owned(), figures: figures(files, &scores, profiles) });
    }
    published.sort_by(|a, b| b.figures[0].1.unwrap_or(0.0).total_cmp(&a.figures[0].1.unwrap_or(0.0)));
    Ok(published)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published detections give the published numbers.
    #[test]
    fn published_detections_give_the_published_scores() {
        let Some(folder) = series::tests::data("nab") else { return };
        let files = files(&folder).unwrap();
        let ours = published(&folder, &files, &profiles(&folder).unwrap()).unwrap();
        let (_, rows) = series::records(&folder.join("published_scores.csv")).unwrap();
        assert_eq!(ours.len(), 4);
        for detector in ours {
            let row = rows.iter().find(|row| row[0] == detector.name).unwrap();
            for (at, (profile, figure)) in detector.figures.iter().enumerate() {
                let theirs: f64 = row[4 + at].parse().unwrap();
                assert!((figure.unwrap() - theirs).abs() < 0.006, "{} {profile}: {figure:?} {theirs}", detector.name);
            }
        }
    }
}
