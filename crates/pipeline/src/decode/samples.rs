//! A waveform's samples on their way out of a payload: kept while they are numbers and not too many.

use kilter_detect::vibration::{SAMPLES_MAX, Waveform};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

#[derive(Debug, Default)]
pub struct Samples {
    /// The first few more than a waveform may have.
    numbers: Vec<f64>,
    count: usize,
    /// Whether something else than numbers was among them.
    mixed: bool,
}

impl Samples {
    pub fn take<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        let mut samples = Self::default();
        while let Some(Sample(number)) = seq.next_element()? {
            samples.count += 1;
            samples.mixed |= number.is_none();
            if samples.count <= SAMPLES_MAX {
                samples.numbers.extend(number);
            }
        }
        Ok(samples)
    }

    pub fn into_waveform(self, rate_hz: f64) -> Result<Waveform, String> {
        if self.mixed {
            return Err("needs samples that are one array of numbers; axes are waveforms of their own".to_owned());
        }
        if self.count > SAMPLES_MAX {
            return Err(kilter_detect::vibration::WaveformError::Long { found: self.count }.to_string());
        }
        Waveform::new(rate_hz, self.numbers).map_err(|why| why.to_string())
    }
}

/// A number, or anything else.
struct Sample(Option<f64>);

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything).map(Self)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Option<f64>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number")
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Option<f64>, E> {
        Ok(Some(value as f64))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Option<f64>, E> {
        Ok(Some(value as f64))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Option<f64>, E> {
        Ok(Some(value))
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<Option<f64>, E> {
        Ok(None)
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<Option<f64>, E> {
        Ok(None)
    }
    fn visit_unit<E: Error>(self) -> Result<Option<f64>, E> {
        Ok(None)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<f64>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<f64>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}
