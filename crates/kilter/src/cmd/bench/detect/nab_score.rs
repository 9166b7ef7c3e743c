//! The scoring rule of the Numenta Anomaly Benchmark (Lavin and Ahmad 2015; NAB 1.1): earlier is better within a
//! window, once; what is outside costs; one threshold for all files, the one that scores best.

/// Weights of an application profile.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    pub true_positive: f64,
    pub false_negative: f64,
    pub false_positive: f64,
}

/// One file: scores by row, and its windows as first and last rows.
pub struct File<'a> {
    pub scores: &'a [f64],
    pub windows: &'a [(usize, usize)],
}

/// The first rows are not scored: this part of the file, but no more than of 5,000 rows.
const PROBATION: f64 = 0.15;
const PROBATION_ROWS_MAX: f64 = 5_000.0;

/// What a detection would be worth at its row.
struct Point {
    score: f64,
    worth: f64,
    /// Number of the window, over all files.
    window: Option<usize>,
}

/// 0 for a detector that says nothing, 100 for a perfect one.
pub fn score(files: &[File<'_>], profile: Profile) -> f64 {
    let mut points = Vec::new();
    let mut windows = 0;
    for file in files {
        points.extend(worth(file, windows, profile));
        windows += file.windows.len();
    }
    points.sort_by(|a, b| b.score.total_cmp(&a.score));
    let perfect = profile.true_positive * windows as f64;
    let null = -profile.false_negative * windows as f64;
    100.0 * (best(&points, windows, profile) - null) / (perfect - null)
}

/// The best sum over all thresholds; each window counts by its best point.
fn best(points: &[Point], windows: usize, profile: Profile) -> f64 {
    let mut earned = vec![-profile.false_negative; windows];
    let mut sum = -profile.false_negative * windows as f64;
    let mut best = sum;
    for (at, point) in points.iter().enumerate() {
        match point.window {
            Some(window) => {
                let before = earned[window];
                earned[window] = before.max(point.worth);
                sum += earned[window] - before;
            }
            None => sum += point.worth,
        }
        if points.get(at + 1).is_none_or(|next| next.score != point.score) {
            best = best.max(sum);
        }
    }
    best
}

fn worth(file: &File<'_>, windows_before: usize, profile: Profile) -> Vec<Point> {
    let rows = file.scores.len();
    let probation = (PROBATION * rows as f64).floor().min(PROBATION * PROBATION_ROWS_MAX) as usize;
    let earliest = sigmoid(-1.0);
    let point = |row: usize| {
        let score = file.scores[row];
        if let Some(at) = file.windows.iter().position(|&(first, last)| (first..=last).contains(&row)) {
            let (first, last) = file.windows[at];
            let place = -((last - row + 1) as f64) / (last - first + 1) as f64;
            let worth = sigmoid(place) * profile.true_positive / earliest;
            return Point { score, worth, window: Some(windows_before + at) };
        }
        let before = file.windows.iter().rfind(|&&(_, last)| last < row);
        let unweighted = before.map_or(-1.0, |&(first, last)| sigmoid((row - last) as f64 / (last - first) as f64));
        Point { score, worth: unweighted * profile.false_positive, window: None }
    };
    (probation..rows).map(point).collect()
}

/// From nearly 1 at the left end of a window (−1) over 0 at its right end to −1 far beyond.
fn sigmoid(place: f64) -> f64 {
    const STEEPNESS: f64 = 5.0;
    const FAR: f64 = 3.0;
    if place > FAR { -1.0 } else { 2.0 / (1.0 + (STEEPNESS * place).exp()) - 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDARD: Profile = Profile { true_positive: 1.0, false_negative: 1.0, false_positive: 0.11 };

    #[test]
    fn perfect_null_and_late() {
        let score_of = |row: Option<usize>| {
            let mut scores = vec![0.0; 1_000];
            if let Some(row) = row {
                scores[row] = 1.0;
            }
            super::score(&[File { scores: &scores, windows: &[(500, 599)] }], STANDARD)
        };
        assert!((score_of(Some(500)) - 100.0).abs() < 1e-9);
        assert!(score_of(None).abs() < 1e-9);
        assert!((50.0..60.0).contains(&score_of(Some(595))), "{}", score_of(Some(595)));
        // Better no threshold at all than one that only fires outside.
        assert!(score_of(Some(300)).abs() < 1e-9);
    }

    #[test]
    fn probation_is_not_scored() {
        let mut scores = vec![0.0; 1_000];
        scores[100] = 2.0;
        scores[500] = 1.0;
        let file = File { scores: &scores, windows: &[(500, 599)] };
        assert!((score(&[file], STANDARD) - 100.0).abs() < 1e-9);
    }
}
