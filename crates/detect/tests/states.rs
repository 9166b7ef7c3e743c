//! States as they were stored: what this build reads goes on bit for bit, and what it does not read is refused by name.
//!
//! `states/` has, per case, a snapshot (gzipped) and what was said of the readings after it. They stay as they are as long
//! as [`ThingScorer::restore`] reads their version. Where a change of the layout, or of what is computed, makes a new
//! version in `src/state.rs`: set `VERSION` here, then
//!
//! ```text
//! KILTER_MAKE_STATES=1 cargo test --test states
//! ```
//!
//! and commit the new files. The old ones go, unless the new build migrates them: then their case stays, with its version.
//! The words are exact to the last bit, so they hold where `ln` and `exp` are rounded as the GNU C library rounds them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use kilter_core::Timestamp;
use kilter_detect::{Learn, Outcome, Sample, ScorerConfig, StateError, ThingScorer};
use std::{fmt::Write as _, fs, io::Read as _, io::Write as _, path::PathBuf};

const VERSION: u8 = 3;
/// Readings whose words are kept.
const AFTER: u32 = 60;
/// From this one of them on, the first signal is off.
const OFF_AFTER: u32 = 40;

struct Case {
    name: &'static str,
    signals: usize,
    /// Readings before the snapshot.
    before: u32,
}

/// One signal with its windows; and a thing too wide for them, with forest and reference.
const CASES: [Case; 2] =
    [Case { name: "windows", signals: 1, before: 520 }, Case { name: "thing", signals: 5, before: 300 }];

impl Case {
    fn path(&self, ending: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/states/{}-{VERSION}.{ending}", self.name))
    }

    fn config(&self) -> ScorerConfig {
        ScorerConfig { commissioning_readings: Some(self.before / 2), ..ScorerConfig::default() }
    }

    /// Whole numbers and quarters alone: the same on every machine.
    fn reading(&self, at: u32) -> Vec<(Box<str>, f64)> {
        let mut state = at.wrapping_mul(2_654_435_761).wrapping_add(12_345);
        let load = f64::from(at % 24) - f64::from(at % 24 / 12) * 2.0 * f64::from(at % 12);
        let signal = |i: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let off = if i == 0 && at >= self.before + OFF_AFTER { 40.0 } else { 0.0 };
            (format!("s{i}").into(), 50.0 + load * (i as f64 + 1.0) / 4.0 + f64::from(state >> 28) / 4.0 + off)
        };
        (0..self.signals).map(signal).collect()
    }

    fn feed(&self, scorer: &mut ThingScorer, at: u32) -> Outcome {
        let signals = self.reading(at);
        let sample =
            Sample { event_time: Timestamp::from_seconds(1_700_000_000 + i64::from(at) * 60), signals: &signals };
        let outcome = scorer.score(&sample);
        // Some of what follows is held, as in an episode.
        let mode = if at >= self.before + OFF_AFTER { Learn::Hold } else { Learn::Full };
        scorer.learn(&sample, &outcome, mode);
        outcome
    }

    /// What is said of the readings after the snapshot, a line each.
    fn words(&self, scorer: &mut ThingScorer) -> String {
        let mut words = String::new();
        for at in self.before..self.before + AFTER {
            let outcome = self.feed(scorer, at);
            let bits = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{:016x}", x.to_bits()));
            let (score, oddness) = (outcome.score.map(|s| s.value()), outcome.oddness);
            let settled = outcome.settled.map(|settled| settled.oddness);
            let _ = write!(words, "{at} {} {} {} {}", bits(score), bits(oddness), bits(settled), bits(outcome.onset));
            outcome.causes.iter().for_each(|cause| {
                let _ = write!(words, " {}:{}:{}", cause.signal, cause.detector, bits(Some(cause.share)));
            });
            words.push('\n');
        }
        words
    }
}

fn stored(case: &Case) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(case.path("gz")).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Writes what the tests read: see the top.
fn make() {
    for case in &CASES {
        let mut scorer = ThingScorer::new(case.config(), 7);
        (0..case.before).for_each(|at| drop(case.feed(&mut scorer, at)));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&scorer.snapshot()).unwrap();
        fs::write(case.path("gz"), gzip.finish().unwrap()).unwrap();
        fs::write(case.path("words"), case.words(&mut scorer)).unwrap();
    }
}

#[test]
fn what_was_stored_goes_on_bit_for_bit() {
    if std::env::var_os("KILTER_MAKE_STATES").is_some() {
        make();
    }
    for case in &CASES {
        let bytes = stored(case);
        assert_eq!(bytes[0], VERSION, "{}", case.name);
        let mut scorer = ThingScorer::restore(case.config(), &bytes).unwrap();
        let (now, then) = (case.words(&mut scorer), fs::read_to_string(case.path("words")).unwrap());
        assert!(then.lines().any(|line| line.contains(" s0:")), "{}: somebody is blamed", case.name);
        for (now, then) in now.lines().zip(then.lines()) {
            assert_eq!(now, then, "{}", case.name);
        }
        assert_eq!(now.lines().count(), then.lines().count());
    }
}

#[test]
fn every_other_version_is_refused_by_its_number() {
    let mut bytes = stored(&CASES[0]);
    for version in (0..=u8::MAX).filter(|version| *version != VERSION) {
        bytes[0] = version;
        let error = ThingScorer::restore(ScorerConfig::default(), &bytes).map(|_| ()).unwrap_err();
        assert_eq!(error, StateError::Version { found: version, known: VERSION });
        let said = error.to_string();
        assert!(said.contains(&format!("version {version}")) && said.contains("start the thing afresh"), "{said}");
    }
}
