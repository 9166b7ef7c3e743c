//! SKAB's two scoring rules: rows (F1, false and missed alarms), and change points by a rule after NAB's.

/// The profile's worth of a change point found at once, of a false one, and of a missed one.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    pub found: f64,
    pub false_alarm: f64,
    pub missed: f64,
}

pub const STANDARD: Profile = Profile { found: 1.0, false_alarm: -0.11, missed: -1.0 };
pub const LOW_FP: Profile = Profile { found: 1.0, false_alarm: -0.22, missed: -1.0 };
pub const LOW_FN: Profile = Profile { found: 1.0, false_alarm: -0.11, missed: -2.0 };

/// A change point is found within this time after it.
const WINDOW_SECONDS: f64 = 60.0;

/// The test rows of one experiment.
pub struct Experiment {
    /// Seconds, ascending.
    pub times: Vec<f64>,
    pub anomalous: Vec<bool>,
    pub changes: Vec<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rows {
    pub f1: f64,
    /// Per cent of normal rows that were flagged.
    pub false_alarms: f64,
    /// Per cent of anomalous rows that were not.
    pub missed: f64,
}

/// Over the rows of all experiments together.
pub fn rows(experiments: &[(&Experiment, &[bool])]) -> Rows {
    let (mut tp, mut fp, mut tn, mut fn_) = (0.0, 0.0, 0.0, 0.0);
    for (experiment, flagged) in experiments {
        for (&truth, &flagged) in experiment.anomalous.iter().zip(*flagged) {
            match (truth, flagged) {
                (true, true) => tp += 1.0,
                (false, true) => fp += 1.0,
                (false, false) => tn += 1.0,
                (true, false) => fn_ += 1.0,
            }
        }
    }
    let part = |a: f64, b: f64| if a + b > 0.0 { 100.0 * a / (a + b) } else { 0.0 };
    let f1 = if tp > 0.0 { tp / (tp + (fp + fn_) / 2.0) } else { 0.0 };
    Rows { f1, false_alarms: part(fp, tn), missed: part(fn_, tp) }
}

/// Rows at which flags begin or end: the changes that detectors of outliers tell.
pub fn flips(flagged: &[bool]) -> Vec<bool> {
    (0..flagged.len()).map(|row| row > 0 && flagged[row] != flagged[row - 1]).collect()
}

/// Over all experiments together: 0 for silence, 100 for perfection. Marked are the rows at which a change is told.
pub fn changes(experiments: &[(&Experiment, &[bool])], profile: Profile) -> f64 {
    let (mut sum, mut windows) = (0.0, 0.0);
    for (experiment, told) in experiments {
        let found: Vec<f64> = (0..told.len()).filter(|&row| told[row]).map(|row| experiment.times[row]).collect();
        let limits = limits(experiment);
        windows += limits.len() as f64;
        let outside = found.iter().filter(|&&time| !limits.iter().any(|&(first, last)| first <= time && time <= last));
        sum += profile.false_alarm * outside.count() as f64;
        for &(first, last) in &limits {
            sum += match found.iter().find(|&&time| first <= time && time <= last) {
                Some(time) => worth((time - first) / (last - first), profile),
                None => profile.missed,
            };
        }
    }
    let (null, perfect) = (profile.missed * windows, profile.found * windows);
    if windows > 0.0 { 100.0 * (sum - null) / (perfect - null) } else { 0.0 }
}

/// Windows after the change points; one that begins within another begins where that ends.
fn limits(experiment: &Experiment) -> Vec<(f64, f64)> {
    let mut limits: Vec<(f64, f64)> = Vec::new();
    for (&time, _) in experiment.times.iter().zip(&experiment.changes).filter(|(_, change)| **change) {
        let first = limits.last().map_or(time, |&(_, last)| time.max(last));
        limits.push((first, time + WINDOW_SECONDS));
    }
    limits
}

/// Falls from the worth of a find at once to that of a false alarm, along a hyperbolic tangent in 1,000 steps.
fn worth(place: f64, profile: Profile) -> f64 {
    const STEPS: f64 = 1_000.0;
    let step = (place * STEPS).floor().min(STEPS - 1.0);
    let x = std::f64::consts::FRAC_PI_2 * (2.0 * step / (STEPS - 1.0) - 1.0);
    let half = (profile.found - profile.false_alarm) / 2.0;
    half * (1.0 - x.tanh() / std::f64::consts::FRAC_PI_2.tanh()) + profile.false_alarm
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment() -> Experiment {
        let inside = |row: &i32| (300..500).contains(row);
        Experiment {
            times: (0..1_000).map(f64::from).collect(),
            anomalous: (0..1_000).map(|row| inside(&row)).collect(),
            changes: (0..1_000).map(|row| row == 300 || row == 500).collect(),
        }
    }

    #[test]
    fn silence_and_perfection() {
        let truth = experiment();
        let perfect = truth.anomalous.clone();
        assert_eq!(rows(&[(&truth, &perfect)]), Rows { f1: 1.0, false_alarms: 0.0, missed: 0.0 });
        assert!((changes(&[(&truth, &flips(&perfect))], STANDARD) - 100.0).abs() < 1e-9);
        assert!(changes(&[(&truth, &[false; 1_000])], STANDARD).abs() < 1e-9);
        let late: Vec<bool> = (0..1_000).map(|row| (330..530).contains(&row)).collect();
        assert!((40.0..80.0).contains(&changes(&[(&truth, &flips(&late))], STANDARD)));
    }
}
