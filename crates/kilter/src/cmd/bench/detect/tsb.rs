//! TSB-AD (Liu and Paparrizos 2024): mean VUS-PR over series of many sets, univariate and multivariate.
//!
//! Every row is scored, those of the anomaly-free prefix included; that prefix is given as the commissioning.

use super::{
    Figures, OneSeries, Published, Report, Suite,
    series::{self, Series},
    stream::{self, Cost, Streamed},
    vus,
};
use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

/// One line of the manifest.
#[derive(Debug, serde::Deserialize)]
struct Entry {
    track: String,
    tsb_file: String,
    set: String,
    series: String,
    path: String,
    offset: usize,
    length: usize,
    columns: String,
    train_rows: u32,
    anomaly_rows: usize,
    window: usize,
}

struct Scored {
    streamed: Streamed,
    lag: f64,
    causal: f64,
}

pub fn run(data: &Path, bar: &ProgressBar) -> anyhow::Result<Report> {
    let folder = data.join("tsb-ad");
    let manifest = series::text(&folder.join("manifest.csv"))?;
    let mut reader = csv::Reader::from_reader(manifest.as_bytes());
    let entries: Vec<Entry> =
        reader.deserialize().collect::<Result<_, _>>().context("manifest.csv is not understood")?;
    // The longest first, so that no core ends up alone with it.
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by_key(|entry| std::cmp::Reverse(entry.length));
    let scored = stream::for_all(&order, bar, |entry| score(data, entry))?;
    let mean = |track: &str, of: fn(&Scored) -> f64| {
        let figures = order.iter().zip(&scored).filter(|(entry, _)| entry.track == track).map(|(_, scored)| of(scored));
        mean(figures)
    };
    let ours = vec![
        ("u_lag", mean("U", |scored| scored.lag)),
        ("u_causal", mean("U", |scored| scored.causal)),
        ("m_lag", mean("M", |scored| scored.lag)),
        ("m_causal", mean("M", |scored| scored.causal)),
    ];
    let by_series = order.iter().zip(&scored).map(|(entry, scored)| OneSeries {
        name: format!("{} {} {}", entry.track, entry.series, entry.columns),
        figures: vec![("lag", Some(scored.lag)), ("causal", Some(scored.causal))],
    });
    let by_series = by_series.collect();
    let streamed: Vec<Streamed> = scored.into_iter().map(|scored| scored.streamed).collect();
    let published = published(&folder, &entries)?;
    Ok(Report { suite: Suite::Tsb, series: entries.len(), ours, published, cost: Cost::of(&streamed), by_series })
}

fn mean(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = figures.fold((0.0, 0u32), |(sum, count), figure| (sum + figure, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

fn score(data: &Path, entry: &Entry) -> anyhow::Result<Scored> {
    let (series, labels) = load(data, entry).with_context(|| entry.path.clone())?;
    let mut streamed = stream::stream(&series)?;
    let vus = |of: fn(&stream::Row) -> f64| {
        let scores: Vec<f64> = streamed.rows.iter().map(of).collect();
        vus::vus_pr(&labels, &scores, entry.window).with_context(|| format!("{}: nothing is labelled", entry.path))
    };
    let (lag, causal) = (vus(|row| row.settled)?, vus(|row| row.oddness)?);
    streamed.rows = Vec::new();
    Ok(Scored { streamed, lag, causal })
}

fn load(data: &Path, entry: &Entry) -> anyhow::Result<(Series, Vec<bool>)> {
    let timed = entry.set == "nab";
    let table = series::table(&data.join(&entry.path), timed)?;
    let rows = entry.offset..entry.offset + entry.length;
    let all = entry.columns.contains("..");
    let wanted = |name: &str| if all { name != "label" } else { name == entry.columns };
    let mut signals = Vec::new();
    for (name, values) in table.columns.iter().filter(|(name, _)| wanted(name)) {
        let values = values.get(rows.clone()).context("it has fewer rows than the manifest says")?;
        signals.push((name.as_str().into(), values.to_vec()));
    }
    ensure!(!signals.is_empty(), "there is no column {}", entry.columns);
    let labels: Vec<bool> = if timed {
        nab_labels(data, entry, &table)?
    } else {
        table.column("label")?.iter().map(|&label| label > 0.0).collect()
    };
    let labels = labels[rows].to_vec();
    let labelled = labels.iter().filter(|&&label| label).count();
    ensure!(labelled == entry.anomaly_rows, "{labelled} rows are labelled, the manifest says {}", entry.anomaly_rows);
    let mut series = Series::new(entry.tsb_file.clone(), signals, None);
    series.normal_rows = Some(entry.train_rows);
    Ok((series, labels))
}

/// TSB-AD takes NAB's windows as labels, without their first row.
fn nab_labels(data: &Path, entry: &Entry, table: &series::Table) -> anyhow::Result<Vec<bool>> {
    let windows: HashMap<String, Vec<[String; 2]>> =
        serde_json::from_str(&series::text(&data.join("nab/windows.json"))?).context("windows.json")?;
    let windows = windows.get(&entry.series).context("windows.json does not know it")?;
    let mut limits = Vec::new();
    for [first, last] in windows {
        limits.push((series::timestamp(first)?, series::timestamp(last)?));
    }
    let times = table.timestamps()?;
    Ok(times.iter().map(|time| limits.iter().any(|(first, last)| first < time && time <= last)).collect())
}

/// Every published method's mean over the series of the manifest.
fn published(folder: &Path, entries: &[Entry]) -> anyhow::Result<Vec<Published>> {
    let mut methods: BTreeMap<String, Figures> = BTreeMap::new();
    for (track, name, file) in [("U", "u_lag", "published_vus_pr_u.csv"), ("M", "m_lag", "published_vus_pr_m.csv")] {
        let (head, records) = series::records(&folder.join(file))?;
        let wanted: Vec<&str> =
            entries.iter().filter(|entry| entry.track == track).map(|entry| entry.tsb_file.as_str()).collect();
        let rows: Vec<&Vec<String>> = records.iter().filter(|row| wanted.contains(&row[0].as_str())).collect();
        for (at, method) in head.iter().enumerate().skip(1) {
            let figures = rows.iter().filter_map(|row| row[at].parse::<f64>().ok());
            methods.entry(method.clone()).or_default().push((name, mean(figures)));
        }
    }
    let mut published: Vec<Published> =
        methods.into_iter().map(|(name, figures)| Published { name, figures }).collect();
    let best = |one: &Published| one.figures.iter().filter_map(|(_, figure)| *figure).fold(0.0, f64::max);
    published.sort_by(|a, b| best(b).total_cmp(&best(a)));
    Ok(published)
}
