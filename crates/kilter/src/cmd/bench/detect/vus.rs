//! VUS-PR: volume under the precision-recall surface (Paparrizos et al. 2022), as TSB-AD computes it: labels with
//! borders of every width up to the window, 250 thresholds by rank, existence counted in.

/// Thresholds: the scores at so many ranks, evenly spaced.
const THRESHOLDS: usize = 250;

/// A labelled stretch: first and last row.
type Segment = (usize, usize);

/// `labels` and `scores` row by row; `None` where nothing is labelled.
pub fn vus_pr(labels: &[bool], scores: &[f64], window: usize) -> Option<f64> {
    let segments = segments(labels);
    let (rows, positives) = (labels.len(), labels.iter().filter(|&&label| label).count());
    if positives == 0 || scores.len() != rows {
        return None;
    }
    let ranks = Ranks::new(scores);
    let widest = joined(&segments, window, rows);
    let mut buckets = vec![THRESHOLDS; rows];
    for &(first, last) in &widest {
        for row in first..=last {
            buckets[row] = ranks.first_above(scores[row]);
        }
    }
    let mut inside = [0.0; THRESHOLDS + 1];
    labels.iter().zip(&buckets).filter(|(label, _)| **label).for_each(|(_, &bucket)| inside[bucket] += 1.0);
    let volume: f64 = (0..=window)
        .map(|width| {
            let border = border(labels, &segments, width, &buckets);
            let found = found(&joined(&segments, width, rows), &buckets);
            average_precision(&inside, &border, &found, positives as f64, &ranks.predicted)
        })
        .sum();
    Some(volume / (window + 1) as f64)
}

/// Thresholds, and how many rows each of them takes.
struct Ranks {
    /// Descending.
    thresholds: Vec<f64>,
    predicted: Vec<f64>,
}

impl Ranks {
    fn new(scores: &[f64]) -> Self {
        let mut sorted = scores.to_vec();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let last = sorted.len() - 1;
        let rank = |k: usize| if k + 1 == THRESHOLDS { last } else { last * k / (THRESHOLDS - 1) };
        let thresholds: Vec<f64> = (0..THRESHOLDS).map(|k| sorted[rank(k)]).collect();
        let predicted = thresholds.iter().map(|t| sorted.partition_point(|score| score >= t) as f64).collect();
        Self { thresholds, predicted }
    }

    /// The first threshold that takes this score.
    fn first_above(&self, score: f64) -> usize {
        self.thresholds.partition_point(|&threshold| threshold > score)
    }
}

fn segments(labels: &[bool]) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for row in (0..labels.len()).filter(|&row| labels[row]) {
        match segments.last_mut() {
            Some((_, last)) if *last + 1 == row => *last = row,
            _ => segments.push((row, row)),
        }
    }
    segments
}

/// The segments with half a width at each side; what then touches is one.
fn joined(segments: &[Segment], width: usize, rows: usize) -> Vec<Segment> {
    let half = width / 2;
    let mut joined: Vec<Segment> = Vec::new();
    for &(first, last) in segments {
        let wide = (first.saturating_sub(half), (last + half).min(rows - 1));
        match joined.last_mut() {
            Some(before) if before.1 >= wide.0 => before.1 = wide.1,
            _ => joined.push(wide),
        }
    }
    joined
}

/// Weight of the rows beside the labelled ones, by the first threshold that takes them.
fn border(labels: &[bool], segments: &[Segment], width: usize, buckets: &[usize]) -> [f64; THRESHOLDS + 1] {
    let half = width / 2;
    let weight = |distance: usize| (1.0 - distance as f64 / width as f64).sqrt();
    let mut weights = std::collections::BTreeMap::<usize, f64>::new();
    for &(first, last) in segments {
        for row in (last + 1..(last + half + 1).min(labels.len())).filter(|&row| !labels[row]) {
            *weights.entry(row).or_default() += weight(row - last);
        }
        for row in (first.saturating_sub(half)..first).filter(|&row| !labels[row]) {
            *weights.entry(row).or_default() += weight(first - row);
        }
    }
    let mut border = [0.0; THRESHOLDS + 1];
    weights.into_iter().for_each(|(row, weight)| border[buckets[row]] += weight.min(1.0));
    border
}

/// How many segments are found first at each threshold.
fn found(joined: &[Segment], buckets: &[usize]) -> ([f64; THRESHOLDS + 1], f64) {
    let mut found = [0.0; THRESHOLDS + 1];
    for &(first, last) in joined {
        found[buckets[first..=last].iter().copied().min().unwrap_or(THRESHOLDS)] += 1.0;
    }
    (found, joined.len() as f64)
}

fn average_precision(
    inside: &[f64; THRESHOLDS + 1],
    border: &[f64; THRESHOLDS + 1],
    (found, segments): &([f64; THRESHOLDS + 1], f64),
    positives: f64,
    predicted: &[f64],
) -> f64 {
    let (mut hit, mut near, mut seen, mut last, mut sum) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for k in 0..THRESHOLDS {
        hit += inside[k];
        near += border[k];
        seen += found[k];
        let true_positives = hit + near;
        let relevant = (positives + positives + near) / 2.0;
        let recall = (true_positives / relevant).min(1.0) * seen / segments;
        sum += (recall - last) * true_positives / predicted[k];
        last = recall;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::bench::detect::series;

    /// The reference implementation's own numbers for nine score vectors, where the data is there.
    #[test]
    fn equals_the_reference() {
        let Some(folder) = series::tests::data("tsb-ad/golden") else { return };
        let (_, cases) = series::records(&folder.join("cases.csv.gz")).unwrap();
        let (_, expected) = series::records(&folder.join("expected.csv")).unwrap();
        for case in &expected {
            let rows: Vec<&Vec<String>> = cases.iter().filter(|row| row[0] == case[0]).collect();
            let labels: Vec<bool> = rows.iter().map(|row| row[1].parse::<f64>().unwrap() > 0.0).collect();
            let scores: Vec<f64> = rows.iter().map(|row| row[2].parse().unwrap()).collect();
            let ours = vus_pr(&labels, &scores, case[1].parse().unwrap()).unwrap();
            let theirs: f64 = case[4].parse().unwrap();
            assert!((ours - theirs).abs() < 1e-9, "{}: {ours} instead of {theirs}", case[0]);
        }
        assert_eq!(expected.len(), 9);
    }

    #[test]
    fn a_perfect_score_beats_a_late_one_and_that_a_blind_one() {
        let labels: Vec<bool> = (0..2_000).map(|row| (900..950).contains(&row)).collect();
        let score = |peak: f64| -> Vec<f64> { (0..2_000).map(|row| -(f64::from(row) - peak).abs()).collect() };
        let at = |peak| vus_pr(&labels, &score(peak), 40).unwrap();
        assert!(at(924.5) > 0.95 && at(924.5) > at(960.0) && at(960.0) > at(300.0), "{} {}", at(924.5), at(960.0));
        assert_eq!(vus_pr(&[false; 10], &[0.0; 10], 2), None);
    }
}
