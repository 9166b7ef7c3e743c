//! Waveforms: what a stretch of samples of a vibration says about a machine, as numbers that the detectors watch like
//! any other signal.
//!
//! The features are those of the field's tutorials: RMS, crest factor and kurtosis (D. Dyer, R. M. Stewart, *Detection
//! of rolling element bearing damage by statistical vibration analysis*, J. Mech. Design 100, 1978), the level by
//! octave bands, and lines of the squared envelope spectrum ([`spectrum`]), at the frequencies at which a damaged bearing
//! knocks where its geometry is known ([`Bearing`]), and the one that stands out most from what the machine has shown
//! before ([`Vibration`]). R. B. Randall, J. Antoni, *Rolling element bearing diagnostics: a tutorial*, Mech. Syst.
//! Signal Process. 25, 2011, has them all.

mod bearing;
mod learned;
mod spectrum;

pub use bearing::Bearing;
pub use learned::{LEARN_FIRST, Vibration, WAVEFORMS_MAX};

use spectrum::Spectrum;

/// With fewer, octaves and lines of the envelope are one or two numbers each.
pub const SAMPLES_MIN: usize = 64;
/// As many as a message of 128 KiB holds where a sample is written with six digits.
pub const SAMPLES_MAX: usize = 16_384;
/// One sample a second to ten million: beyond is a mistake of units, and frequencies stay far from the ends of numbers.
pub const RATE_HZ: std::ops::RangeInclusive<f64> = 1.0..=1e7;
/// Deviations from the mean below this part of the largest sample are its rounding.
const ROUNDING: f64 = 1e-12;

/// Evenly spaced samples of one vibration.
#[derive(Debug, Clone, PartialEq)]
pub struct Waveform {
    rate_hz: f64,
    samples: Vec<f64>,
}

/// Why samples are no waveform.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WaveformError {
    #[error("has {found} samples, and {SAMPLES_MIN} are the fewest that say something: send longer ones")]
    Short { found: usize },
    #[error("has {found} samples, and may have {SAMPLES_MAX}: send shorter ones")]
    Long { found: usize },
    #[error("has a rate_hz of {found:?}: give the samples per second, 1 to 10,000,000")]
    Rate { found: f64 },
    #[error("has a sample that is not a finite number")]
    NotFinite,
}

impl Waveform {
    /// # Errors
    /// Too few or too many samples, a rate outside of [`RATE_HZ`], a sample that is not finite.
    pub fn new(rate_hz: f64, samples: Vec<f64>) -> Result<Self, WaveformError> {
        let found = samples.len();
        match found {
            0..SAMPLES_MIN => Err(WaveformError::Short { found }),
            _ if found > SAMPLES_MAX => Err(WaveformError::Long { found }),
            _ if !RATE_HZ.contains(&rate_hz) => Err(WaveformError::Rate { found: rate_hz }),
            _ if !samples.iter().all(|sample| sample.is_finite()) => Err(WaveformError::NotFinite),
            _ => Ok(Self { rate_hz, samples }),
        }
    }

    /// Around zero and within ±2, with the factor that was taken out; `None` where all samples are the same.
    fn scaled(&self) -> Option<(Vec<f64>, f64)> {
        let largest = self.samples.iter().fold(0.0, |largest: f64, sample| largest.max(sample.abs()));
        if largest == 0.0 {
            return None;
        }
        let count = self.samples.len() as f64;
        let mut scaled: Vec<f64> = self.samples.iter().map(|sample| sample / largest).collect();
        let mean = scaled.iter().sum::<f64>() / count;
        scaled.iter_mut().for_each(|sample| *sample -= mean);
        scaled.iter().any(|sample| sample.abs() > ROUNDING).then_some((scaled, largest))
    }
}

/// What was seen in a waveform.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Finite, each name once.
    pub features: Vec<(&'static str, f64)>,
    rate_hz: f64,
    samples: usize,
    /// Lines of the envelope spectrum from the first on, in dB above their median; empty where there is no envelope.
    lines: Vec<f32>,
}

/// The names of the octave bands' levels, lowest first; the last is the upper half of what the rate can show.
const BANDS: [&str; spectrum::BANDS] = ["band_1", "band_2", "band_3", "band_4", "band_5"];

impl Seen {
    /// `bearing` with the speed of its shaft in turns a second.
    fn of(waveform: &Waveform, bearing: Option<(&Bearing, f64)>) -> Self {
        let (rate_hz, samples) = (waveform.rate_hz, waveform.samples.len());
        let Some((scaled, factor)) = waveform.scaled() else {
            let features = std::iter::once("rms").chain(BANDS).map(|name| (name, 0.0)).collect();
            return Self { features, rate_hz, samples, lines: Vec::new() };
        };
        let mean = |power: i32| scaled.iter().map(|x| x.powi(power)).sum::<f64>() / scaled.len() as f64;
        let rms = mean(2).sqrt();
        let peak = scaled.iter().fold(0.0, |peak: f64, x| peak.max(x.abs()));
        // The factor is at most the largest number there is, and twice that would be none.
        let level = |scaled: f64| (scaled * factor).min(f64::MAX);
        let mut features = vec![("rms", level(rms)), ("crest", peak / rms), ("kurtosis", mean(4) / mean(2).powi(2))];
        let spectrum = Spectrum::of(&scaled);
        features.extend(BANDS.into_iter().zip(spectrum.bands.map(level)));
        if let Some((bearing, turns_per_second)) = bearing {
            let resolution_hz = rate_hz / samples as f64;
            for (name, frequency_hz) in bearing.frequencies_hz(turns_per_second) {
                features.extend(spectrum.harmonics(frequency_hz / resolution_hz).map(|level| (name, level)));
            }
        }
        Self { features, rate_hz, samples, lines: spectrum.lines_learned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: f64 = 12_000.0;

    fn feature(seen: &Seen, wanted: &str) -> Option<f64> {
        seen.features.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value)
    }

    fn seen(samples: Vec<f64>) -> Seen {
        Seen::of(&Waveform::new(RATE, samples).unwrap(), None)
    }

    fn sine(hz: f64, amplitude: f64, samples: usize) -> Vec<f64> {
        (0..samples).map(|i| amplitude * (std::f64::consts::TAU * hz * i as f64 / RATE).sin()).collect()
    }

    fn near(value: Option<f64>, expected: f64) {
        assert!(value.is_some_and(|value| (value - expected).abs() < 0.01 * expected.abs()), "{value:?} {expected}");
    }

    #[test]
    fn a_sine_has_the_features_of_a_sine() {
        // 750 Hz is an eighth of what the rate can show: the upper end of the second octave.
        let seen = seen(sine(700.0, 3.0, 1_200).into_iter().map(|x| x + 50.0).collect());
        near(feature(&seen, "rms"), 3.0 / 2f64.sqrt());
        near(feature(&seen, "crest"), 2f64.sqrt());
        near(feature(&seen, "kurtosis"), 1.5);
        near(feature(&seen, "band_2"), 3.0 / 2f64.sqrt());
        assert!(feature(&seen, "band_5").is_some_and(|level| level < 1e-6));
    }

    #[test]
    fn what_is_no_waveform_says_why() {
        let why = |rate, samples| Waveform::new(rate, samples).unwrap_err().to_string();
        assert!(why(RATE, Vec::new()).contains("has 0 samples"));
        assert!(why(RATE, vec![1.0]).contains("has 1 samples"));
        assert!(why(RATE, vec![1.0; SAMPLES_MAX + 1]).contains("may have 16384"));
        assert!(why(0.0, vec![1.0; 64]).contains("rate_hz of 0"));
        assert!(why(f64::NAN, vec![1.0; 64]).contains("NaN"));
        assert!(why(RATE, vec![f64::NAN; 64]).contains("finite"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever numbers: features are finite, and what is learned from them stays sound.
        #[test]
        fn any_samples_give_finite_features(
            ends in proptest::collection::vec(prop_oneof![any::<f64>(), Just(f64::MAX), Just(-f64::MAX), Just(5e-324), -1.0..1.0], 1..9),
            count in prop_oneof![0..4usize, SAMPLES_MIN..700, Just(SAMPLES_MAX), Just(SAMPLES_MAX + 1)],
            rate in any::<f64>(),
            speed in any::<f64>(),
        ) {
            let samples: Vec<f64> = (0..count).map(|i| ends[i * i % ends.len()]).collect();
            let bearing = Bearing::new(9, 7.94, 39.04);
            for rate in [rate, RATE] {
                let Ok(waveform) = Waveform::new(rate, samples.clone()) else { continue };
                let mut vibration = Vibration::default();
                for speed in [speed, 29.95] {
                    let seen = vibration.look("v", &waveform, Some((&bearing, speed)));
                    prop_assert!(seen.features.iter().all(|(_, value)| value.is_finite()), "{:?}", seen.features);
                    (0..=LEARN_FIRST).for_each(|_| vibration.learn("v", &seen));
                    let again = vibration.look("v", &waveform, None);
                    prop_assert!(again.features.iter().all(|(_, value)| value.is_finite()), "{:?}", again.features);
                    prop_assert!(vibration.is_sound());
                }
            }
        }
    }
}
