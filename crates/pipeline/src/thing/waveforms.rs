//! What waveforms show, as signals of their reading. It is looked at once, as it arrives: what is judged again later has
//! the numbers of then, and what comes late is not learned.

use super::ThingState;
use kilter_core::Reading;
use kilter_detect::vibration::{Seen, Vibration, Waveform};

impl ThingState {
    /// Adds what the waveforms show to the reading's signals. What the device says itself counts.
    pub(super) fn look<'a>(
        &self,
        waveforms: &'a [(Box<str>, Waveform)],
        reading: &mut Reading,
    ) -> Vec<(&'a str, Seen)> {
        if waveforms.is_empty() {
            return Vec::new();
        }
        let bearings = &self.scorer().config().bearings;
        let sent = reading.signals.len();
        let seen: Vec<(&str, Seen)> = waveforms
            .iter()
            .map(|(name, waveform)| {
                let turning = bearings.get(name).and_then(|b| Vibration::turning(b, &reading.signals[..sent]));
                (&**name, self.vibration.look(name, waveform, turning))
            })
            .collect();
        for (name, seen) in &seen {
            reading.signals.extend(seen.features.iter().map(|(of, value)| (format!("{name}.{of}").into(), *value)));
        }
        // Stable, so that of equal names the one that was sent stands first and stays.
        reading.signals.sort_by(|a, b| a.0.cmp(&b.0));
        reading.signals.dedup_by(|later, kept| later.0 == kept.0);
        seen
    }
}
