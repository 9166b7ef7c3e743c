//! The frequencies at which a damaged rolling bearing knocks.

use serde::{Deserialize, Serialize};

/// A rolling bearing near a sensor, and how fast its shaft turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bearing {
    /// Balls or rollers.
    pub rolling_elements: u32,
    pub element_diameter_mm: f64,
    pub pitch_diameter_mm: f64,
    #[serde(default)]
    pub contact_angle_deg: f64,
    /// Where the shaft turns at one speed …
    #[serde(default)]
    pub speed_rpm: Option<f64>,
    /// … or the signal of the same reading that tells it, in turns a minute.
    #[serde(default)]
    pub speed_signal: Option<Box<str>>,
}

impl Bearing {
    /// By its geometry, without a contact angle; the speed is yet to be told.
    pub fn new(rolling_elements: u32, element_diameter_mm: f64, pitch_diameter_mm: f64) -> Self {
        Self {
            rolling_elements,
            element_diameter_mm,
            pitch_diameter_mm,
            contact_angle_deg: 0.0,
            speed_rpm: None,
            speed_signal: None,
        }
    }

    /// What is wrong with the description, if anything.
    pub fn check(&self) -> Result<(), &'static str> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if self.rolling_elements < 3 {
            return Err("needs at least 3 rolling_elements");
        }
        if !positive(self.element_diameter_mm) || !positive(self.pitch_diameter_mm - self.element_diameter_mm) {
            return Err("needs an element_diameter_mm above 0 and a larger pitch_diameter_mm");
        }
        if !(0.0..90.0).contains(&self.contact_angle_deg) {
            return Err("needs a contact_angle_deg from 0 to below 90");
        }
        match (self.speed_rpm, &self.speed_signal) {
            (Some(rpm), None) if positive(rpm) => Ok(()),
            (None, Some(_)) => Ok(()),
            _ => Err("needs either a speed_rpm above 0 or a speed_signal"),
        }
    }

    /// Turns a second at a reading.
    pub(crate) fn turns_per_second(&self, signals: &[(Box<str>, f64)]) -> Option<f64> {
        let told = self.speed_signal.as_ref().and_then(|name| {
            let at = signals.binary_search_by(|(signal, _)| signal.cmp(name)).ok()?;
            Some(signals[at].1.abs())
        });
        told.or(self.speed_rpm).map(|rpm| rpm / 60.0)
    }

    /// What passes a damaged spot how often: rolling elements the outer race (BPFO) and the inner (BPFI), the spot of an
    /// element a race (BSF), the cage a place (FTF). For an outer race that stands still and no slip (Randall and Antoni
    /// 2011, equations 1 to 4); slip makes it one or two per cent less.
    pub(crate) fn frequencies_hz(&self, turns_per_second: f64) -> [(&'static str, f64); 4] {
        let ratio = self.element_diameter_mm / self.pitch_diameter_mm * self.contact_angle_deg.to_radians().cos();
        let (elements, half) = (f64::from(self.rolling_elements), turns_per_second / 2.0);
        let spin = self.pitch_diameter_mm / self.element_diameter_mm * half * (1.0 - ratio * ratio);
        [
            ("bpfo_db", elements * half * (1.0 - ratio)),
            ("bpfi_db", elements * half * (1.0 + ratio)),
            ("bsf_db", spin),
            ("ftf_db", half * (1.0 - ratio)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The multiples of the shaft's speed that the Case Western Reserve University gives for its SKF 6205.
    #[test]
    fn the_frequencies_are_those_that_are_published() {
        let bearing = Bearing::new(9, 0.3126 * 25.4, 1.537 * 25.4);
        let published = [3.5848, 5.4152, 4.7135 / 2.0, 0.39828];
        for ((name, ours), theirs) in bearing.frequencies_hz(1.0).into_iter().zip(published) {
            assert!((ours - theirs).abs() < 1e-3, "{name} {ours} {theirs}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let good = Bearing { speed_rpm: Some(1_800.0), ..Bearing::new(9, 8.0, 39.0) };
        assert_eq!(good.check(), Ok(()));
        for (bad, why) in [
            (Bearing { rolling_elements: 0, ..good.clone() }, "rolling_elements"),
            (Bearing { element_diameter_mm: 40.0, ..good.clone() }, "pitch_diameter_mm"),
            (Bearing { element_diameter_mm: f64::NAN, ..good.clone() }, "pitch_diameter_mm"),
            (Bearing { contact_angle_deg: 90.0, ..good.clone() }, "contact_angle_deg"),
            (Bearing { speed_rpm: None, ..good.clone() }, "speed_rpm"),
            (Bearing { speed_signal: Some("rpm".into()), ..good.clone() }, "speed_rpm"),
        ] {
            assert!(bad.check().unwrap_err().contains(why), "{bad:?}");
        }
    }
}
