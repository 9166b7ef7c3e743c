//! A trained forest as a file: a name, a version, a checksum, and the forest's state.

use super::cut_forest::RandomCutForest;
use super::ensemble::Fading;
use crate::StateError;
use crate::state::{damaged, seal, unseal};

/// What every model file begins with.
const NAME: &[u8] = b"kilter-forest\n";
/// Of the layout below and of what becomes of it: another one gets another number, and a file of its own in
/// `tests/models.rs`. Files of version 1 go on fading as they did.
const VERSION: u8 = 2;
const VERSION_LATE: u8 = 1;
/// Of a model file: the largest forest takes less.
pub const MODEL_BYTES_MAX: usize = 64 << 20;

impl RandomCutForest {
    /// All that was learned, the random generator included.
    pub fn to_file(&self) -> Vec<u8> {
        let version = if self.fading == Fading::Late { VERSION_LATE } else { VERSION };
        [NAME, &seal(version, self)].concat()
    }

    /// The forest of a file, bit for bit the one that made it.
    ///
    /// # Errors
    /// Bytes that are no model file, one of another version, and a forest that has learned nothing.
    pub fn from_file(bytes: &[u8]) -> Result<Self, StateError> {
        if bytes.len() > MODEL_BYTES_MAX {
            return Err(damaged("it is larger than any model"));
        }
        let sealed = bytes.strip_prefix(NAME).ok_or_else(|| damaged("it does not begin as model files do"))?;
        let is_late = sealed.first() == Some(&VERSION_LATE);
        let mut forest: Self = unseal(if is_late { VERSION_LATE } else { VERSION }, sealed)?;
        forest.fading = if is_late { Fading::Late } else { Fading::Always };
        if !forest.is_sound() {
            return Err(damaged("its parts contradict one another"));
        }
        if forest.score(&vec![0.0; forest.parameters().features]).is_none() {
            return Err(damaged("it has learned nothing"));
        }
        forest.keep_boxes();
        Ok(forest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FEATURES_MAX, Parameters};
    use super::*;

    fn learned(parameters: Parameters, points: u32) -> RandomCutForest {
        let mut forest = RandomCutForest::new(parameters, 7).unwrap();
        for i in 0..points {
            let point: Vec<f64> = (1..=parameters.features as u32).map(|n| f64::from(i * n * 13 % 1_009)).collect();
            assert!(forest.learn(&point));
        }
        forest
    }

    #[test]
    fn a_file_holds_the_forest_and_nothing_else_is_taken_for_one() {
        let forest = learned(Parameters { features: 3, trees: 20, samples: 64 }, 300);
        let file = forest.to_file();
        assert_eq!(RandomCutForest::from_file(&file).unwrap(), forest);
        let refused = |bytes: &[u8]| RandomCutForest::from_file(bytes).unwrap_err();
        for bytes in [&b""[..], b"kilter-forest\r", b"onnx", &file[1..]] {
            assert!(refused(bytes).to_string().contains("does not begin"));
        }
        assert_eq!(refused(NAME), StateError::Empty);
        let mut other = file.clone();
        other[NAME.len()] = 9;
        assert_eq!(refused(&other), StateError::Version { found: 9, known: VERSION });
        for at in (NAME.len() + 1..file.len()).step_by(97) {
            let mut other = file.clone();
            other[at] ^= 0x10;
            assert!(refused(&other).to_string().contains("checksum"));
            assert!(RandomCutForest::from_file(&file[..at]).is_err());
        }
        let empty = RandomCutForest::new(Parameters { features: 3, trees: 20, samples: 64 }, 7).unwrap();
        assert!(refused(&empty.to_file()).to_string().contains("learned nothing"));
    }

    /// A checksum is no secret: whoever writes files may give a right one to a wrong forest.
    #[test]
    fn a_right_checksum_over_wrong_parts_is_refused_or_scores() {
        let file = learned(Parameters { features: 3, trees: 5, samples: 16 }, 60).to_file();
        let head = NAME.len() + 5;
        for at in head..file.len() {
            for bits in [0x01, 0x80, 0xff] {
                let mut payload = file[head..].to_vec();
                payload[at - head] ^= bits;
                let checksum = crc32fast::hash(&payload).to_le_bytes();
                let other = [NAME, &[VERSION], &checksum[..], &payload].concat();
                if let Ok(forest) = RandomCutForest::from_file(&other) {
                    let point = vec![1.0; forest.parameters().features];
                    assert!(forest.score(&point).is_some_and(f64::is_finite));
                }
            }
        }
    }

    #[test]
    fn the_largest_forest_fits() {
        let tree = |trees| learned(Parameters { features: FEATURES_MAX, trees, samples: 256 }, 256).to_file().len();
        let (one, three) = (tree(1), tree(3));
        assert!(one + 999 * (three - one) / 2 < MODEL_BYTES_MAX, "{one} {three}");
    }
}
