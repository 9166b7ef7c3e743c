//! A simulated pump station for `kilter demo`: six pumps on one header, eight signals each, faults on demand.
//!
//! Pure and seeded: the same seed and the same steps give the same readings. Time is compressed: a "day"
//! of demand lasts [`DAY_SECONDS`], and the thermal lags are scaled to match.
//!
//! ```text
//!            wet well                               header (pressure held by the controller)
//!   level ──► strainer ──► pump (speed) ──► valve ──►║
//!   level ──► strainer ──► pump (speed) ──► valve ──►║──► consumers (demand follows the day)
//!     …  six of them: what one no longer delivers, the controller asks of the others
//! ```

mod fault;
mod physics;
mod random;
mod sensor;

pub use fault::{FaultEvent, FaultKind};
pub use sensor::PlantReading;

use fault::{Fault, Schedule};
use kilter_core::Timestamp;
use physics::Station;
use random::Random;
use sensor::Instruments;
use std::time::Duration;

/// The pumps' thing names, as tenant001 onboards them.
pub const THINGS: [&str; 6] =
    ["tenant001-pump1", "tenant001-pump2", "tenant001-pump3", "tenant001-pump4", "tenant001-pump5", "tenant001-pump6"];

/// Length of a simulated day. At five readings a second the detectors' warming (256 readings) sees more than a
/// whole one; of a longer day they would see a part, and take the rest for a drift.
pub const DAY_SECONDS: f64 = 40.0;

/// The station, its instruments and its faults.
pub struct Plant {
    now: Timestamp,
    station: Station,
    instruments: Instruments,
    faults: Vec<Fault>,
    schedule: Option<Schedule>,
    random: Random,
    /// Of faults injected since the last step.
    pending: Vec<FaultEvent>,
}

/// What one step brought.
pub struct Step {
    /// One per device that publishes; a silent device has none.
    pub readings: Vec<PlantReading>,
    /// Faults that began or ended, oldest first.
    pub events: Vec<FaultEvent>,
}

impl Plant {
    /// A healthy station in its steady state at `start`, with no schedule.
    pub fn new(seed: u64, start: Timestamp) -> Self {
        let mut random = Random::new(seed);
        let station = Station::new(&mut random);
        Self {
            now: start,
            station,
            instruments: Instruments::new(&mut random),
            faults: Vec::new(),
            schedule: None,
            random,
            pending: Vec::new(),
        }
    }

    /// The plant's own time: the event time of the last step's readings.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// From now on faults come by themselves, one at a time: every kind and every thing in turn, 35 to 60
    /// seconds from one beginning to the next, healthy time in between.
    pub fn schedule(&mut self) {
        self.schedule = Some(Schedule::starting_at(self.now));
    }

    /// Makes `THINGS[thing]` ill from now on, for `duration` of plant time.
    pub fn inject(&mut self, thing: usize, kind: FaultKind, duration: Duration) {
        assert!(thing < THINGS.len(), "a fault needs a pump of this station to happen to");
        let fault = Fault::new(thing, kind, self.now, duration, &mut self.random);
        self.pending.push(fault.begun());
        self.faults.push(fault);
    }

    /// Lets `seconds` of plant time pass, then reads every instrument once.
    pub fn step(&mut self, seconds: f64) -> Step {
        self.now = Timestamp::from_nanos(self.now.as_nanos().saturating_add((seconds * 1e9) as i64));
        if let Some(due) = self.schedule.as_mut().and_then(|schedule| schedule.due(self.now, &mut self.random)) {
            self.inject(due.thing, due.kind, due.duration);
        }
        let mut events = std::mem::take(&mut self.pending);
        let now = self.now;
        self.faults.retain(|fault| {
            let active = fault.active(now);
            if !active {
                events.push(fault.ended());
            }
            active
        });
        let states = self.station.advance(seconds, &fault::ailments(&self.faults, now));
        let readings = self.instruments.read(&states, &mut self.faults, now);
        Step { readings, events }
    }
}

#[cfg(test)]
mod tests;
