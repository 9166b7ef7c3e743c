//! Every detector of the catalog, and the scorer made of them, under the detector contract.

use kilter_core::Timestamp;
use kilter_detect::{
    Learn, Limits, SIGNALS_MAX, Sample, ScorerConfig, StateError, ThingScorer, UNSEEN_READINGS, cusum::Cusum,
    forest::Forest, gap::Gap, limits::LimitsDetector, rate::Rate, reference::Reference, stuck::Stuck, windows::Windows,
};
use kilter_testkit::detector::{Expected, Fault, Feeder, Machine, check, check_scorer};
use proptest::prelude::*;

/// One statistic's tail and a little more.
const SIGNAL_BYTES_MAX: usize = 1_024;

#[test]
fn limits() {
    let make = || LimitsDetector::new(Limits { low: Some(0.0), high: Some(100.0) });
    check(make, &Expected { signals: 0..1, fault: Fault::Excess, memory_bytes_max: 64 });
}

#[test]
fn rate() {
    check(Rate::default, &Expected { signals: 1..2, fault: Fault::Spike, memory_bytes_max: SIGNAL_BYTES_MAX });
}

#[test]
fn stuck() {
    check(Stuck::default, &Expected { signals: 1..2, fault: Fault::Stuck, memory_bytes_max: SIGNAL_BYTES_MAX });
}

#[test]
fn cusum() {
    check(Cusum::default, &Expected { signals: 2..3, fault: Fault::Shift, memory_bytes_max: 4 * SIGNAL_BYTES_MAX });
}

#[test]
fn windows() {
    check(Windows::default, &Expected { signals: 1..2, fault: Fault::Spike, memory_bytes_max: 250_000 });
}

#[test]
fn gap() {
    check(Gap::default, &Expected { signals: 0..0, fault: Fault::Silence, memory_bytes_max: SIGNAL_BYTES_MAX });
}

#[test]
fn forest() {
    check(|| Forest::new(7), &Expected { signals: 0..4, fault: Fault::Decoupled, memory_bytes_max: 150_000 });
}

#[test]
fn reference() {
    check(|| Reference::new(7), &Expected { signals: 0..4, fault: Fault::Decoupled, memory_bytes_max: 150_000 });
}

#[test]
fn scorer() {
    check_scorer(|| ThingScorer::new(ScorerConfig::default(), 7), 2_500_000);
}

fn trained(readings: usize) -> Feeder {
    let mut feeder = Feeder::new(ThingScorer::new(ScorerConfig::default(), 3), 60);
    let mut machine = Machine::new(11);
    for _ in 0..readings {
        let (event_time, values) = machine.read();
        feeder.feed(&Sample { event_time, signals: &[("a".into(), values[0]), ("b".into(), values[1])] });
    }
    feeder
}

#[test]
fn a_limit_speaks_from_the_first_reading() {
    let limits = [("p".into(), Limits { low: None, high: Some(10.0) })].into();
    let scorer = ThingScorer::new(ScorerConfig { limits, ..ScorerConfig::default() }, 1);
    let at = |value| scorer.score(&Sample { event_time: Timestamp::from_seconds(0), signals: &[("p".into(), value)] });
    assert_eq!(at(10.0).score, None);
    let outcome = at(10.1);
    assert_eq!(outcome.verdict, kilter_core::Verdict::Anomalous);
    assert_eq!(&*outcome.causes[0].detector, "limits");
    assert_eq!(outcome.causes[0].expected, [10.0, 10.0]);
}

/// Constant, binary and quantised signals are ordinary: alone they never alarm, and their combinations stay within
/// the budget.
#[test]
fn dull_signals_do_not_alarm() {
    let mut feeder = Feeder::new(ThingScorer::new(ScorerConfig::default(), 5), 60);
    let mut flagged = 0;
    for i in 0..12_000i64 {
        let signals = [
            ("binary".into(), f64::from(u8::from(i / 37 % 3 == 0))),
            ("constant".into(), 5.0),
            ("quantised".into(), (i as f64 / 50.0).sin().mul_add(4.0, 0.5).round()),
        ];
        let sample = Sample { event_time: Timestamp::from_seconds(i * 60), signals: &signals };
        let outcome = feeder.feed(&sample);
        if outcome.verdict == kilter_core::Verdict::Anomalous {
            flagged += 1;
        }
    }
    assert!(flagged <= 3, "{flagged}");
}

/// A device that sends a new field with every message stays bounded and keeps being watched.
#[test]
fn new_fields_without_end() {
    let mut feeder = Feeder::new(ThingScorer::new(ScorerConfig::default(), 5), 60);
    let mut machine = Machine::new(12);
    let mut last = None;
    for i in 0..4_000 {
        let (event_time, values) = machine.read();
        let mut signals: Vec<(Box<str>, f64)> = vec![("flow".into(), values[1]), ("load".into(), values[0])];
        signals.push((format!("x{i:06}").into(), 1.0));
        last = Some(feeder.feed(&Sample { event_time, signals: &signals }));
    }
    assert_eq!(feeder.scorer.signals(), SIGNALS_MAX);
    assert!(feeder.scorer.memory_bytes() < 2_500_000, "{}", feeder.scorer.memory_bytes());
    assert!(feeder.scorer.snapshot().len() < 1_000_000, "{}", feeder.scorer.snapshot().len());
    assert!(last.is_some_and(|outcome| outcome.score.is_some()));
    let found = (0..40).any(|since| {
        let (event_time, values) = machine.read_faulty(Fault::Decoupled, since);
        let signals = [("flow".into(), values[1]), ("load".into(), values[0])];
        feeder.feed(&Sample { event_time, signals: &signals }).verdict == kilter_core::Verdict::Anomalous
    });
    assert!(found);
}

#[test]
fn a_full_thing_says_what_it_does_not_score() {
    let mut scorer = ThingScorer::new(ScorerConfig::default(), 5);
    let all: Vec<(Box<str>, f64)> = (0..SIGNALS_MAX + 10).map(|i| (format!("s{i:04}").into(), 1.0)).collect();
    let mut feed = |i: u64, signals: &[(Box<str>, f64)]| {
        let sample = Sample { event_time: Timestamp::from_seconds(i as i64 * 60), signals };
        let outcome = scorer.score(&sample);
        scorer.learn(&sample, &outcome, Learn::Full);
        (outcome.unscored_signals, scorer.signals())
    };
    assert_eq!(feed(0, &all), (10, SIGNALS_MAX));
    let few = &all[SIGNALS_MAX - 1..];
    for i in 1..UNSEEN_READINGS {
        assert_eq!(feed(i, few), (10, SIGNALS_MAX), "{i}");
    }
    assert_eq!(feed(UNSEEN_READINGS, few), (0, SIGNALS_MAX), "places of signals that have gone are given away");
}

#[test]
fn snapshots_of_another_version_or_damaged_are_refused() {
    let bytes = trained(300).scorer.snapshot();
    let restore = |bytes: &[u8]| ThingScorer::restore(ScorerConfig::default(), bytes).map(|_| ());
    assert_eq!(restore(&[]), Err(StateError::Empty));
    assert!(matches!(restore(&[99, 1, 2]), Err(StateError::Version { found: 99, .. })));
    assert!(matches!(restore(&bytes[..bytes.len() - 1]), Err(StateError::Damaged { .. })));
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    assert!(matches!(restore(&flipped), Err(StateError::Damaged { .. })));
    assert_eq!(restore(&bytes), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_are_refused_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), seal in any::<bool>()) {
        if seal && bytes.len() > 5 {
            // A right checksum, so that the decoder itself is reached.
            let checksum = crc32fast::hash(&bytes[5..]).to_le_bytes();
            bytes[0] = 2;
            bytes[1..5].copy_from_slice(&checksum);
        }
        let _ = ThingScorer::restore(ScorerConfig::default(), &bytes);
    }

    /// Sealed, readable and damaged: refused, or works.
    #[test]
    fn damaged_snapshots_do_not_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = trained(300).scorer.snapshot();
        for (at, value) in changes {
            let at = 5 + at.index(bytes.len() - 5);
            bytes[at] = value;
        }
        let checksum = crc32fast::hash(&bytes[5..]).to_le_bytes();
        bytes[1..5].copy_from_slice(&checksum);
        if let Ok(mut scorer) = ThingScorer::restore(ScorerConfig::default(), &bytes) {
            for i in 0..10 {
                let sample = Sample { event_time: Timestamp::from_seconds(i), signals: &[("a".into(), 50.0), ("b".into(), 100.0)] };
                let outcome = scorer.score(&sample);
                scorer.learn(&sample, &outcome, Learn::Full);
            }
        }
    }
}

/// What the crate's README promises for a thing of eight signals.
#[test]
fn eight_signals_are_compact() {
    let mut feeder = Feeder::new(ThingScorer::new(ScorerConfig::default(), 5), 60);
    let (mut one, mut two) = (Machine::new(1), Machine::new(2));
    for _ in 0..9_000 {
        let ((event_time, a), (_, b)) = (one.read(), two.read());
        let signals: Vec<(Box<str>, f64)> =
            a.iter().chain(&b).enumerate().map(|(i, &value)| (format!("signal{i}").into(), value)).collect();
        feeder.feed(&Sample { event_time, signals: &signals });
    }
    let (memory, stored) = (feeder.scorer.memory_bytes(), feeder.scorer.snapshot().len());
    assert!(memory < 220_000 && stored < 130_000, "{memory} bytes in memory, {stored} stored");
}
