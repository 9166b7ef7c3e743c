//! How the scores agree, recording by recording: every `timestamp,value` CSV below a folder, its first readings.
//!
//! What two seeds of one forest differ by is chance. The mean over several seeds has less of it, and shows whether the
//! algorithms are the same.
//!
//!   cargo run --release --manifest-path peers/Cargo.toml --example agreement -- FOLDER

use kilter_detect::forest::RandomCutForest;
use kilter_peers::{Peer, SHINGLE, correlation};
use std::{fs, path::Path, path::PathBuf};

const READINGS_MAX: usize = 3_000;
/// Scores that count begin when every forest has its samples.
const SKIPPED: usize = 512;
/// Forests whose scores are averaged.
const SEEDS: u64 = 8;

fn scores<P: Peer>(signal: &[f64], seed: u64) -> Vec<f64> {
    let mut forest = P::new(seed);
    signal.windows(SHINGLE).map(|shingle| forest.read(shingle)).skip(SKIPPED).collect()
}

fn mean(scores: &[Vec<f64>]) -> Vec<f64> {
    (0..scores[0].len()).map(|at| scores.iter().map(|one| one[at]).sum::<f64>() / scores.len() as f64).collect()
}

/// Spearman's correlation: that of the ranks, equal values sharing theirs.
fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    correlation(&ranks(a), &ranks(b))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let first = order.partition_point(|&at| values[at] < values[equal[0]]);
        equal.iter().for_each(|&at| ranks[at] = first as f64 + (equal.len() - 1) as f64 / 2.0);
    }
    ranks
}

fn recordings(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            recordings(&path, found)?;
        } else if path.extension().is_some_and(|ending| ending == "csv") {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

/// The second column; `None` if that is no number throughout.
fn values(path: &Path) -> Option<Vec<f64>> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().skip(1).take(READINGS_MAX).map(|line| line.split(',').nth(1)?.trim().parse().ok()).collect()
}

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("usage: agreement FOLDER (of CSV files: timestamp,value)");
        std::process::exit(2);
    };
    let mut found = Vec::new();
    recordings(Path::new(&folder), &mut found)?;
    println!(
        "| recording | kilter, krcf | krcf, krcf | kilter, krcf, means of {SEEDS} | krcf, krcf, means of {SEEDS} |"
    );
    println!("|---|---|---|---|---|");
    let mut columns: [Vec<f64>; 8] = Default::default();
    for path in found {
        let Some(signal) = values(&path).filter(|signal| signal.len() > SKIPPED + 100) else { continue };
        let kilter: Vec<_> = (1..=SEEDS).map(|seed| scores::<RandomCutForest>(&signal, seed)).collect();
        let krcf: Vec<_> = (1..=2 * SEEDS).map(|seed| scores::<krcf::RandomCutForest>(&signal, seed)).collect();
        let (first, second) = krcf.split_at(SEEDS as usize);
        let means = [mean(&kilter), mean(first), mean(second)];
        let pairs = [(&kilter[0], &first[0]), (&second[0], &first[0]), (&means[0], &means[1]), (&means[2], &means[1])];
        let found = pairs.map(|(a, b)| [correlation(a, b), rank_correlation(a, b)]);
        let cell = |[pearson, spearman]: [f64; 2]| format!("{pearson:.3} / {spearman:.3}");
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        println!("| {name} | {} | {} | {} | {} |", cell(found[0]), cell(found[1]), cell(found[2]), cell(found[3]));
        // A constant score correlates with nothing.
        if found.iter().flatten().all(|value| value.is_finite()) {
            columns.iter_mut().zip(found.into_iter().flatten()).for_each(|(column, value)| column.push(value));
        }
    }
    for (name, part) in [("median", 0.5), ("least", 0.0)] {
        let at = |column: &mut Vec<f64>| {
            column.sort_by(f64::total_cmp);
            column.get((column.len().saturating_sub(1) as f64 * part) as usize).copied().unwrap_or(f64::NAN)
        };
        let mut cells = columns.iter_mut().map(at).map(|value| format!("{value:.3}"));
        let mut cell = || format!("{} / {}", cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        println!("| **{name}** | {} | {} | {} | {} |", cell(), cell(), cell(), cell());
    }
    Ok(())
}
