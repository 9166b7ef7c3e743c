//! What is seen in a waveform of a bearing that knocks, and what is learned of one that does not.

use kilter_detect::{
    NAME_BYTES_MAX,
    vibration::{Bearing, LEARN_FIRST, Seen, Vibration, Waveform},
};

const RATE: f64 = 12_000.0;
const SPEED_RPM: f64 = 1_797.0;
/// Of the bearing below at that speed: its outer race.
const OUTER_HZ: f64 = 107.4;

fn bearing() -> Bearing {
    Bearing { speed_rpm: Some(SPEED_RPM), ..Bearing::new(9, 7.94, 39.04) }
}

/// A resonance at 3 kHz that rings at every knock, in noise: as a pit in a race would sound.
fn knocking(hz: f64, amplitude: f64, seed: u32) -> Vec<f64> {
    let mut state = seed.wrapping_mul(2_654_435_761);
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24) - 0.5
    };
    let knocks = |i: usize| {
        let since = (i as f64 / RATE).rem_euclid(1.0 / hz);
        (-since * 1_500.0).exp() * (std::f64::consts::TAU * 3_000.0 * since).sin()
    };
    (0..4_096).map(|i| noise() + amplitude * knocks(i)).collect()
}

fn feature(seen: &Seen, wanted: &str) -> Option<f64> {
    seen.features.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value)
}

#[test]
fn a_damaged_race_shows_at_its_own_frequency() {
    let bearing = bearing();
    let of = |samples: Vec<f64>| {
        Vibration::default().look("v", &Waveform::new(RATE, samples).unwrap(), Vibration::turning(&bearing, &[]))
    };
    let (healthy, damaged) = (of(knocking(OUTER_HZ, 0.0, 1)), of(knocking(OUTER_HZ, 2.0, 2)));
    let line = |seen: &Seen, name| feature(seen, name).unwrap();
    assert!(line(&damaged, "bpfo_db") > line(&healthy, "bpfo_db") + 6.0, "{damaged:?}\n{healthy:?}");
    // Three times the one is nearly twice the other, so that the others rise as well, but less.
    for other in ["bpfi_db", "bsf_db", "ftf_db"] {
        assert!(line(&damaged, "bpfo_db") > line(&damaged, other) + 1.0, "{other}: {damaged:?}");
    }
    assert!(feature(&of(knocking(OUTER_HZ, 0.0, 1)[..64].to_vec()), "ftf_db").is_none(), "too short to tell");
}

#[test]
fn a_line_that_was_not_there_before_stands_out() {
    let mut vibration = Vibration::default();
    let mut line = |samples: Vec<f64>, learn: bool| {
        let seen = vibration.look("v", &Waveform::new(RATE, samples).unwrap(), None);
        if learn {
            vibration.learn("v", &seen);
        }
        feature(&seen, "envelope_line_db")
    };
    // A line at 40 Hz that has always been there is ordinary.
    for seed in 0..LEARN_FIRST {
        assert_eq!(line(knocking(40.0, 0.6, seed), true), None);
    }
    let ordinary = (100..140).filter_map(|seed| line(knocking(40.0, 0.6, seed), true)).fold(0.0, f64::max);
    let other = knocking(OUTER_HZ, 2.4, 501);
    let both: Vec<f64> = knocking(40.0, 0.6, 500).iter().zip(&other).map(|(a, b)| a + b).collect();
    let other = line(both, false).unwrap();
    assert!(other > ordinary + 1.0, "{other} {ordinary}");
}

#[test]
fn another_rate_or_length_is_learned_anew_and_places_are_few() {
    let mut vibration = Vibration::default();
    let noise = |count: usize| Waveform::new(RATE, knocking(40.0, 0.0, 1)[..count].to_vec()).unwrap();
    let mut knows = |name: &str, count: usize| {
        let seen = vibration.look(name, &noise(count), None);
        vibration.learn(name, &seen);
        feature(&seen, "envelope_line_db").is_some()
    };
    (0..LEARN_FIRST).for_each(|_| assert!(!knows("a", 1_024)));
    assert!(knows("a", 1_024) && !knows("a", 512) && !knows("a", 1_024));
    (0..LEARN_FIRST * 2).for_each(|i| assert!(!knows(&format!("x{i}"), 128)));
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    (0..LEARN_FIRST * 2).for_each(|_| assert!(!knows(&long, 128)));
    assert!(vibration.is_sound() && vibration.memory_bytes() < 20_000, "{}", vibration.memory_bytes());
}
