//! Findings as people read them, in alerts and on the terminal.

use kilter_core::{Cause, Direction, Episode};

/// Readings beyond which the estimate of a tail only says "never seen": no history of a week or two tells more apart.
const READINGS_MAX: f64 = 1e6;

/// How rare the peak is, where the score is a chance. Limits, silences and what is off its reference are measured, not
/// rare, and so nothing is said of them.
pub fn rarity_in_words(episode: &Episode) -> Option<String> {
    let measured = ["limits", "silence", "reference"];
    episode.causes.first().filter(|cause| !measured.contains(&&*cause.detector))?;
    let readings = 10f64.powf(episode.peak_score.value());
    Some(match readings >= READINGS_MAX {
        true => "seen less than once in 1,000,000 readings of normal running".to_owned(),
        false => format!("seen once in {} readings of normal running", thousands(readings)),
    })
}

/// Two significant digits, in groups of three: `39,000`.
fn thousands(count: f64) -> String {
    let unit = 10f64.powf((count.max(1.0).log10().floor() - 1.0).max(0.0));
    let digits = format!("{:.0}", (count / unit).round() * unit);
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A cause as people read it, in alerts and on the terminal: `pressure_bar low: 2.927, expected 3.831 to 4.040 (92 %)`.
pub fn cause_in_words(cause: &Cause) -> String {
    let (signal, value) = (&cause.signal, number(cause.value));
    let share = cause.share * 100.0;
    let [low, high] = cause.expected;
    let ordinary = (low..=high).contains(&cause.value);
    let (low, high) = (number(low), number(high));
    let direction = match cause.direction {
        Direction::High => "high",
        Direction::Low => "low",
        Direction::Odd => "odd",
    };
    match &*cause.detector {
        "silence" => format!("no data for {:.0} s", cause.value),
        "gap" => format!("no data for {value} s, usually at most {high} s"),
        "limits" => {
            let limit = if cause.direction == Direction::Low { low } else { high };
            format!("{signal} {value}, beyond the limit {limit} ({share:.0} %)")
        }
        "stuck" => format!("{signal} stuck at {value} ({share:.0} %)"),
        "forest" if ordinary => {
            format!("{signal} {value}, ordinary alone, unusual with the other signals ({share:.0} %)")
        }
        _ => format!("{signal} {direction}: {value}, expected {low} to {high} ({share:.0} %)"),
    }
}

/// Four significant digits: what an operator reads at a glance.
fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e6).contains(&size) {
        return format!("{value:.3e}");
    }
    let decimals = if size >= 1000.0 {
        0
    } else if size >= 100.0 {
        1
    } else if size >= 10.0 {
        2
    } else {
        3
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_core::{Score, Severity, TenantId, ThingName, Timestamp};

    fn cause(detector: &str, value: f64, expected: [f64; 2]) -> Cause {
        let (signal, direction) = ("speed".into(), Direction::High);
        Cause { signal, share: 0.61, direction, value, expected, detector: detector.into() }
    }

    #[test]
    fn a_chance_is_told_as_once_in_so_many_readings() {
        let said = |detector: &str, score: f64| {
            let at = Timestamp::from_seconds(0);
            rarity_in_words(&Episode {
                id: "pump1@0:1:0".into(),
                tenant: TenantId::new("t1").unwrap(),
                thing: ThingName::new("pump1").unwrap(),
                start: at,
                peak: at,
                end: None,
                severity: Severity::Low,
                peak_score: Score::new(score),
                threshold: Score::new(2.0),
                readings: 1,
                causes: vec![cause(detector, 1.0, [0.0, 0.5])],
                known: at,
                corrected: None,
                withdrawn: None,
            })
        };
        let once = |readings: &str| Some(format!("seen once in {readings} readings of normal running"));
        assert_eq!(said("cusum", 4.59), once("39,000"));
        assert_eq!(said("forest", 1.3), once("20"));
        assert_eq!(said("windows", 2.999), once("1,000"));
        assert_eq!(said("rate", 9.0), Some("seen less than once in 1,000,000 readings of normal running".to_owned()));
        for measured in ["limits", "silence", "reference"] {
            assert_eq!(said(measured, 20.0), None, "{measured} is no chance");
        }
    }

    #[test]
    fn a_cause_says_what_is_odd_even_where_the_range_does_not() {
        let said = |detector, value, expected| cause_in_words(&cause(detector, value, expected));
        assert_eq!(said("cusum", 1601.2, [1440.0, 1460.0]), "speed high: 1601, expected 1440 to 1460 (61 %)");
        assert_eq!(said("silence", 26.4, [0.0, 15.0]), "no data for 26 s");
        assert_eq!(said("gap", 26.2, [0.0, 0.6]), "no data for 26.20 s, usually at most 0.600 s");
        assert_eq!(said("stuck", 1441.0, [1441.0, 1441.0]), "speed stuck at 1441 (61 %)");
        assert_eq!(said("limits", 1601.0, [1600.0, 1600.0]), "speed 1601, beyond the limit 1600 (61 %)");
        let combined = "speed 1450, ordinary alone, unusual with the other signals (61 %)";
        assert_eq!(said("forest", 1450.0, [1440.0, 1460.0]), combined);
        assert_eq!(said("forest", 1470.0, [1440.0, 1460.0]), "speed high: 1470, expected 1440 to 1460 (61 %)");
    }
}
