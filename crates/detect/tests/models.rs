//! Model files as they were stored: what this build reads goes on bit for bit.
//!
//! `states/` has a file per version, and the scores of the points after it, which are learned too. They stay as long as
//! [`RandomCutForest::from_file`] reads their version. Where a change of the layout, or of what is computed, makes a new version in
//! `src/forest/model_file.rs`: add it here, then
//!
//! ```text
//! KILTER_MAKE_STATES=1 cargo test --test models
//! ```
//!
//! and commit the new files.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use kilter_detect::forest::{Parameters, RandomCutForest};
use std::{fmt::Write as _, fs, path::PathBuf};

const VERSIONS: [u8; 2] = [1, 2];
const FEATURES: usize = 6;
const BEFORE: u32 = 400;
const AFTER: u32 = 100;

fn path(version: u8, ending: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/states/forest-{version}.{ending}"))
}

/// Quarters alone: the same on every machine. Every ninth point is one that was there before.
fn point(at: u32) -> [f64; FEATURES] {
    let at = if at % 9 == 8 && at >= 24 { at - 24 } else { at };
    let mut state = at.wrapping_mul(2_654_435_761);
    std::array::from_fn(|i| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(at % 24 * i as u32) + f64::from(state >> 27) / 4.0
    })
}

fn words(forest: &mut RandomCutForest) -> String {
    (BEFORE..BEFORE + AFTER).fold(String::new(), |mut words, at| {
        let _ = writeln!(words, "{at} {:016x}", forest.score(&point(at)).unwrap().to_bits());
        assert!(forest.learn(&point(at)));
        words
    })
}

#[test]
fn what_was_stored_goes_on_bit_for_bit() {
    if std::env::var_os("KILTER_MAKE_STATES").is_some() {
        let mut forest = RandomCutForest::new(Parameters { features: FEATURES, trees: 6, samples: 48 }, 7).unwrap();
        (0..BEFORE).for_each(|at| assert!(forest.learn(&point(at))));
        let version = VERSIONS[VERSIONS.len() - 1];
        fs::write(path(version, "model"), forest.to_file()).unwrap();
        fs::write(path(version, "words"), words(&mut forest)).unwrap();
    }
    for version in VERSIONS {
        let file = fs::read(path(version, "model")).unwrap();
        let mut forest = RandomCutForest::from_file(&file).unwrap();
        assert_eq!(forest.to_file(), file, "version {version}");
        assert_eq!(words(&mut forest), fs::read_to_string(path(version, "words")).unwrap(), "version {version}");
    }
}
