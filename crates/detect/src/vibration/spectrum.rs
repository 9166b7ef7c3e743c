//! The spectrum of a waveform by octaves, and the spectrum of its squared envelope.
//!
//! What knocks rings the machine's resonances, so the knocks are not in the spectrum at the rate at which they come, but
//! in that of the envelope (R. B. Randall, J. Antoni 2011). The envelope is that of the analytic signal above the lowest
//! octave band, where shaft, gears and mains are; squared, because a square of a one-sided spectrum does not fold over
//! and shows knocks in noise better (D. Ho, R. B. Randall, *Optimisation of bearing diagnostic techniques using simulated
//! and actual bearing fault signals*, Mech. Syst. Signal Process. 14, 2000).

use rustfft::{Fft, FftPlannerScalar, num_complex::Complex64};

/// Octave bands: the uppermost is the upper half of what the rate can show, the lowest all that is below the others.
pub(super) const BANDS: usize = 5;
/// Lines of the envelope spectrum that are learned: bearings knock some hundred times a second at most.
pub(super) const LINES_MAX: usize = 256;
/// Multiples of a fault's frequency that are added up: a knock is short, so that its first harmonics are about as strong.
const HARMONICS: usize = 3;
/// How far, as a part of it, a harmonic may be off: rolling elements slip, and a speed is not known to the last digit.
const SLIP: f64 = 0.02;
/// Levels end here on both sides: lines that are nothing but rounding have none.
const LEVEL_DB_MAX: f64 = 100.0;

pub(super) struct Spectrum {
    /// RMS by band, lowest first.
    pub(super) bands: [f64; BANDS],
    /// Of the squared envelope, relative to the median; the first is that of one turn per waveform.
    lines: Vec<f64>,
}

impl Spectrum {
    /// `scaled` has its mean taken out, is within ±2 and not all zero.
    pub(super) fn of(scaled: &[f64]) -> Self {
        let count = scaled.len();
        // Vector code would add up in another order on another processor, and the scores be others.
        let mut planner = FftPlannerScalar::new();
        let (forth, back) = (planner.plan_fft_forward(count), planner.plan_fft_inverse(count));
        let mut values: Vec<Complex64> = scaled.iter().map(|&x| Complex64::new(x, 0.0)).collect();
        forth.process(&mut values);
        let bands = bands(&values);
        let lines = envelope(&mut values, &*forth, &*back);
        Self { bands, lines }
    }

    /// What is learned of the lines, in dB.
    pub(super) fn lines_learned(&self) -> Vec<f32> {
        self.lines.iter().take(LINES_MAX).map(|&line| decibel(line) as f32).collect()
    }

    /// The level of a frequency and its first multiples, in dB above the median line; `place` in lines. `None` where the
    /// waveform is too short, or too coarse, to show it.
    pub(super) fn harmonics(&self, place: f64) -> Option<f64> {
        // Below, its own line and the zeroth are one.
        const PLACE_MIN: f64 = 1.5;
        if !place.is_finite() || place < PLACE_MIN || place > self.lines.len() as f64 {
            return None;
        }
        let strongest_near = |at: f64| {
            let (from, to) = (at * (1.0 - SLIP) - 0.5, at * (1.0 + SLIP) + 0.5);
            let (from, to) = (from.round().max(1.0) as usize, to.round() as usize);
            self.lines.get(from - 1..to.min(self.lines.len())).map(|lines| lines.iter().copied().fold(0.0, f64::max))
        };
        let all = (1..=HARMONICS).filter_map(|multiple| strongest_near(place * multiple as f64));
        Some(decibel(all.map(|line| line * line).sum::<f64>().sqrt()))
    }
}

/// A line of the squared envelope goes with the power of what knocks.
fn decibel(ratio: f64) -> f64 {
    (10.0 * ratio.max(f64::MIN_POSITIVE).log10()).clamp(-LEVEL_DB_MAX, LEVEL_DB_MAX)
}

/// By Parseval's theorem: the bands' squares sum to that of the whole.
fn bands(spectrum: &[Complex64]) -> [f64; BANDS] {
    let count = spectrum.len();
    let mut powers = [0.0; BANDS];
    for (at, value) in spectrum.iter().enumerate().take(count / 2 + 1).skip(1) {
        // All but the very highest stand for their mirror image as well.
        let twice = if 2 * at == count { 1.0 } else { 2.0 };
        powers[band(at, count)] += twice * value.norm_sqr();
    }
    powers.map(|power| power.sqrt() / count as f64)
}

/// Which band the line number `at` of a waveform of `count` samples is in.
fn band(at: usize, count: usize) -> usize {
    let below_top = (0..BANDS - 1).take_while(|octave| (4 * at) << octave <= count).count();
    BANDS - 1 - below_top
}

/// Lines of the squared envelope of what is above the lowest band, from the first on, relative to their median. Empty
/// where nothing is above.
fn envelope(values: &mut [Complex64], forth: &dyn Fft<f64>, back: &dyn Fft<f64>) -> Vec<f64> {
    let count = values.len();
    for (at, value) in values.iter_mut().enumerate() {
        if at == 0 || 2 * at > count || band(at, count) == 0 {
            *value = Complex64::ZERO;
        }
    }
    back.process(values);
    let mut squares: Vec<f64> = values.iter().map(Complex64::norm_sqr).collect();
    let mean = squares.iter().sum::<f64>() / count as f64;
    squares.iter_mut().for_each(|square| *square -= mean);
    // Against the jump between end and start (Hann).
    let hann = |at: usize| 0.5 - 0.5 * (std::f64::consts::TAU * at as f64 / count as f64).cos();
    for (at, (value, square)) in values.iter_mut().zip(squares).enumerate() {
        *value = Complex64::new(square * hann(at), 0.0);
    }
    forth.process(values);
    let mut lines: Vec<f64> = values[1..count / 2].iter().map(|value| value.norm()).collect();
    // What is as small beside the envelope itself is rounding.
    let rounding = mean * count as f64 * 1e-12;
    let mut sorted = lines.clone();
    let middle = sorted.len() / 2;
    let (_, median, _) = sorted.select_nth_unstable_by(middle, f64::total_cmp);
    let median = *median;
    if median <= rounding {
        return Vec::new();
    }
    lines.iter_mut().for_each(|line| *line /= median);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octaves_hold_every_line_once() {
        for (at, expected) in [(1, 0), (64, 0), (65, 1), (128, 1), (129, 2), (256, 2), (257, 3), (512, 3), (513, 4)] {
            assert_eq!(band(at, 2_048), expected, "{at}");
        }
        let noise: Vec<f64> = (0..257).map(|i: u32| f64::from(i * i % 23) / 11.0 - 1.0).collect();
        let mean = noise.iter().sum::<f64>() / 257.0;
        let centred: Vec<f64> = noise.iter().map(|x| x - mean).collect();
        let power = centred.iter().map(|x| x * x).sum::<f64>() / 257.0;
        let sum: f64 = Spectrum::of(&centred).bands.iter().map(|rms| rms * rms).sum();
        assert!((sum - power).abs() < 1e-12, "{sum} {power}");
    }

    #[test]
    fn a_swelling_tone_has_the_line_of_its_swelling() {
        let tau = std::f64::consts::TAU;
        let tone = |i: usize| {
            let at = i as f64 / 1_024.0;
            (1.0 + 0.5 * (tau * 20.0 * at).sin()) * (tau * 300.0 * at).sin()
                + 0.01 * ((i * i % 101) as f64 / 50.0 - 1.0)
        };
        let spectrum = Spectrum::of(&(0..1_024).map(tone).collect::<Vec<_>>());
        let strongest = (0..spectrum.lines.len()).max_by(|a, b| spectrum.lines[*a].total_cmp(&spectrum.lines[*b]));
        assert_eq!(strongest, Some(19), "the twentieth line");
        assert!(spectrum.harmonics(20.0) > spectrum.harmonics(31.0).map(|level| level + 10.0));
        assert_eq!(spectrum.harmonics(0.4), None);
    }
}
