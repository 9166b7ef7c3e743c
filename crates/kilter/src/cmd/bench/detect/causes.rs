//! Causes, on two sets of servers (SMD, ASD) where experts named the signals behind each anomaly: does what Kilter
//! says at the peak of an anomaly name them?

use super::{
    Figures, OneSeries, Report, Suite,
    alarms::{self, Alarms},
    series::{self, Series},
    stream::Cost,
};
use anyhow::Context;
use indicatif::ProgressBar;
use kilter_detect::ScorerConfig;
use std::path::Path;

const SETS: [&str; 2] = ["smd", "asd"];
const LABEL: &str = "label";

/// A server: rows to learn from, then labelled ones.
struct Labelled {
    set: &'static str,
    series: Series,
    segments: Vec<Segment>,
}

/// An anomaly: its first and last row, and the signals that experts blame.
struct Segment {
    first: usize,
    last: usize,
    blamed: Vec<Box<str>>,
}

/// Of one segment: whether the first causes told contain a true one, and the part of the true signals among the first
/// so many of the ranking: as many as there are, and half as many again.
#[derive(Debug, Clone, Copy)]
struct Hits {
    among_told: f64,
    at_100: f64,
    at_150: f64,
}

pub fn run(data: &Path, bar: &ProgressBar) -> anyhow::Result<Report> {
    let mut servers = Vec::new();
    for set in SETS {
        servers.extend(load(data, set)?);
    }
    let judged = super::stream::for_all(&servers, bar, judge)?;
    let mut by_series = Vec::new();
    for set in SETS {
        let of_set = servers.iter().zip(&judged).filter(|(server, _)| server.set == set);
        let hits: Vec<Hits> = of_set.flat_map(|(_, (hits, _))| hits).copied().collect();
        by_series.push(OneSeries { name: set.to_owned(), figures: figures(&hits) });
    }
    let all: Vec<Hits> = judged.iter().flat_map(|(hits, _)| hits).copied().collect();
    let cost = Cost::sum(judged.iter().map(|(_, cost)| cost));
    let ours = figures(&all);
    Ok(Report { suite: Suite::Causes, series: servers.len(), ours, published: Vec::new(), cost, by_series })
}

fn figures(hits: &[Hits]) -> Figures {
    let mean =
        |of: fn(&Hits) -> f64| (!hits.is_empty()).then(|| 100.0 * hits.iter().map(of).sum::<f64>() / hits.len() as f64);
    vec![
        ("segments", Some(hits.len() as f64)),
        ("first_three", mean(|hits| hits.among_told)),
        ("hit_rate_100", mean(|hits| hits.at_100)),
        ("hit_rate_150", mean(|hits| hits.at_150)),
    ]
}

fn load(data: &Path, set: &'static str) -> anyhow::Result<Vec<Labelled>> {
    let folder = data.join(set);
    let (_, records) = series::records(&folder.join("interpretation.csv"))?;
    let mut servers = Vec::new();
    for name in series::stems(&folder, "_train.csv.gz")? {
        let mut table = series::table(&folder.join(format!("{name}_train.csv.gz")), false)?;
        let learned = table.rows();
        table.extend(&series::table(&folder.join(format!("{name}_test.csv.gz")), false)?)?;
        let own = records.iter().filter(|record| record[0] == name);
        let segments = own.map(|record| segment(record, learned)).collect::<anyhow::Result<_>>();
        let mut series = Series::new(name.clone(), table.signals_without(&[LABEL]), None);
        series.normal_rows = Some(learned as u32);
        servers.push(Labelled { set, series, segments: segments.context(name)? });
    }
    Ok(servers)
}

fn segment(record: &[String], learned: usize) -> anyhow::Result<Segment> {
    let row = |at: usize| anyhow::Ok(learned + record[at].parse::<usize>()?);
    let blamed = record[3].split_whitespace().map(|number| format!("f{number}").into()).collect();
    Ok(Segment { first: row(1)?, last: row(2)?, blamed })
}

fn judge(server: &Labelled) -> anyhow::Result<(Vec<Hits>, Cost)> {
    let config = ScorerConfig { commissioning_readings: server.series.normal_rows, ..ScorerConfig::default() };
    let mut rankings: Vec<Vec<Box<str>>> = vec![Vec::new(); server.series.rows()];
    let alarms = alarms::alarms(&server.series, config, |row, scorer, sample| {
        if server.segments.iter().any(|segment| (segment.first..=segment.last).contains(&row)) {
            rankings[row] = scorer.ranking(sample).into_iter().map(|(name, _)| name.into()).collect();
        }
    })?;
    let rows = server.series.rows();
    let hits = server.segments.iter().filter(|segment| segment.last < rows);
    let hits = hits.filter_map(|segment| hits_of(segment, &alarms, &rankings)).collect();
    Ok((hits, alarms.cost))
}

/// As an episode is told: by the causes of its peak, the first reading with the highest score.
fn hits_of(segment: &Segment, alarms: &Alarms, rankings: &[Vec<Box<str>>]) -> Option<Hits> {
    let scores = (segment.first..=segment.last).filter_map(|row| Some((row, alarms.rows[row].as_ref()?)));
    let (peak, told) = scores.reduce(|best, next| if next.1.score > best.1.score { next } else { best })?;
    let is_true = |name: &str| segment.blamed.iter().any(|blamed| **blamed == *name);
    let part = |count: usize| {
        let found = rankings[peak].iter().take(count).filter(|name| is_true(name)).count();
        found as f64 / segment.blamed.len() as f64
    };
    let told = told.causes.iter().any(|name| is_true(name));
    let true_signals = segment.blamed.len();
    Some(Hits { among_told: f64::from(u8::from(told)), at_100: part(true_signals), at_150: part(true_signals * 3 / 2) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::bench::detect::alarms::Told;
    use kilter_core::Score;

    #[test]
    fn the_peak_speaks_for_a_segment() {
        let names = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect::<Vec<Box<str>>>();
        let told = |score, causes: &[&str]| {
            Some(Told { anomalous: true, score: Some(Score::new(score)), causes: names(causes) })
        };
        let rows = vec![told(9.0, &["f9"]), told(2.0, &["f1"]), None, told(5.0, &["f4", "f2"]), told(5.0, &["f1"])];
        let alarms = Alarms { rows, ..Alarms::default() };
        let rankings = vec![names(&["f4", "f2", "f3", "f1"]); 5];
        let segment = |blamed: &[&str]| Segment { first: 1, last: 4, blamed: names(blamed) };
        let hits = hits_of(&segment(&["f2", "f1"]), &alarms, &rankings).unwrap();
        assert_eq!((hits.among_told, hits.at_100, hits.at_150), (1.0, 0.5, 0.5));
        assert_eq!(hits_of(&segment(&["f1"]), &alarms, &rankings).unwrap().among_told, 0.0, "the first of equal peaks");
    }
}
