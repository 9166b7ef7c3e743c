//! Bytes to readings: every payload has an outcome, and what is a reading keeps the promises that scoring relies on.
#![no_main]

use kilter_core::Timestamp;
use kilter_detect::vibration::{Vibration, WAVEFORMS_MAX};
use kilter_pipeline::decode::{AHEAD_SECONDS_MAX, BATCH_READINGS_MAX, EVENT_TIME_MIN, decode};
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

fuzz_target!(|payload: &[u8]| {
    match decode(payload, NOW) {
        Err(reason) => assert!(!reason.is_empty()),
        Ok(readings) => {
            assert!((1..=BATCH_READINGS_MAX).contains(&readings.len()));
            for decoded in readings {
                let reading = decoded.reading;
                assert!(reading.event_time >= EVENT_TIME_MIN);
                assert!(reading.event_time <= NOW.plus_seconds(AHEAD_SECONDS_MAX));
                assert!(!reading.signals.is_empty() || !decoded.waveforms.is_empty());
                assert!(decoded.waveforms.len() <= WAVEFORMS_MAX);
                for (name, waveform) in &decoded.waveforms {
                    let seen = Vibration::default().look(name, waveform, None);
                    assert!(seen.features.iter().all(|(_, value)| value.is_finite()));
                }
                assert!(reading.signals.iter().all(|(_, value)| value.is_finite()));
                assert!(reading.signals.windows(2).all(|pair| pair[0].0 < pair[1].0));
            }
        }
    }
});
