//! Instruments: noise, quantisation, and the faults that instruments have of their own.

use super::{
    THINGS,
    fault::{Fault, FaultKind},
    physics::PumpState,
    random::Random,
};
use kilter_core::Timestamp;
use std::fmt::Write;

/// An instrument's place in a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Flow,
    Suction,
    Discharge,
    Speed,
    Current,
    BearingTemp,
    Vibration,
    Power,
}

/// How an instrument is built.
struct Make {
    /// Field of the telemetry payload; the unit comes last.
    name: &'static str,
    /// Standard deviation: a fixed part, in the signal's unit, and a part of the value.
    noise: f64,
    noise_of_value: f64,
    /// Resolution: this many decimals are sent.
    decimals: usize,
    /// Size of an offset or a spike, in the signal's unit.
    fault: f64,
}

/// In the order of [`Signal`].
const INSTRUMENTS: [Make; 8] = [
    Make { name: "flow_m3h", noise: 0.6, noise_of_value: 0.0, decimals: 1, fault: -45.0 },
    Make { name: "suction_bar", noise: 0.004, noise_of_value: 0.0, decimals: 3, fault: -0.25 },
    Make { name: "discharge_bar", noise: 0.012, noise_of_value: 0.0, decimals: 3, fault: 0.9 },
    Make { name: "speed_rpm", noise: 1.5, noise_of_value: 0.0, decimals: 0, fault: -180.0 },
    Make { name: "motor_current_a", noise: 0.25, noise_of_value: 0.0, decimals: 2, fault: 14.0 },
    Make { name: "bearing_temp_c", noise: 0.15, noise_of_value: 0.0, decimals: 2, fault: 15.0 },
    Make { name: "vibration_mm_s", noise: 0.01, noise_of_value: 0.05, decimals: 3, fault: 4.0 },
    Make { name: "power_kw", noise: 0.12, noise_of_value: 0.0, decimals: 2, fault: 9.0 },
];

impl Signal {
    pub(super) fn name(self) -> &'static str {
        INSTRUMENTS[self as usize].name
    }
}

/// What one device sends at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct PlantReading {
    /// Index into [`THINGS`].
    pub thing: usize,
    pub event_time: Timestamp,
    values: [f64; INSTRUMENTS.len()],
}

impl PlantReading {
    /// The telemetry payload: `ts` in milliseconds, then the eight signals.
    pub fn json(&self) -> String {
        let mut json = format!("{{\"ts\":{}", self.event_time.as_nanos() / 1_000_000);
        for (make, value) in INSTRUMENTS.iter().zip(self.values) {
            // Writing to a String cannot fail.
            let _ = write!(json, ",\"{}\":{value:.*}", make.name, make.decimals);
        }
        json.push('}');
        json
    }
}

#[cfg(test)]
impl PlantReading {
    pub(super) fn value(&self, signal: Signal) -> f64 {
        self.values[signal as usize]
    }
}

/// The six devices.
pub(super) struct Instruments {
    random: Random,
}

impl Instruments {
    pub(super) fn new(random: &mut Random) -> Self {
        Self { random: Random::new(random.next_u64()) }
    }

    /// Reads every pump; a silent device is left out.
    pub(super) fn read(
        &mut self,
        states: &[PumpState; THINGS.len()],
        faults: &mut [Fault],
        now: Timestamp,
    ) -> Vec<PlantReading> {
        let mut readings = Vec::with_capacity(states.len());
        for (thing, state) in states.iter().enumerate() {
            let mut values = truth(state);
            for (value, make) in values.iter_mut().zip(&INSTRUMENTS) {
                // Drawn for silent devices too, so that a fault does not change the others' noise.
                *value += (make.noise + make.noise_of_value * *value) * self.random.normal();
            }
            let mut silent = false;
            for fault in faults.iter_mut().filter(|fault| fault.thing == thing) {
                silent |= fault.kind == FaultKind::Silence;
                distort(&mut values, fault);
            }
            if !silent {
                let values = std::array::from_fn(|i| quantise(values[i], INSTRUMENTS[i].decimals));
                readings.push(PlantReading { thing, event_time: now, values });
            }
        }
        readings
    }
}

fn truth(state: &PumpState) -> [f64; INSTRUMENTS.len()] {
    [
        state.flow,
        state.suction,
        state.discharge,
        state.speed,
        state.current,
        state.bearing_temp,
        state.vibration,
        state.power,
    ]
}

/// Faults of the instrument itself. The others act on the pump.
fn distort(values: &mut [f64; INSTRUMENTS.len()], fault: &mut Fault) {
    let slot = fault.signal as usize;
    let size = INSTRUMENTS[slot].fault;
    match fault.kind {
        FaultKind::StuckSensor => values[slot] = *fault.frozen.get_or_insert(values[slot]),
        FaultKind::SensorOffset => values[slot] += size,
        // About one reading in six, as a loose contact does.
        FaultKind::SensorSpikes if fault.random.uniform() < 1.0 / 6.0 => {
            values[slot] += size * fault.random.between(0.8, 1.6);
        }
        _ => {}
    }
}

/// Rounded to the resolution; never "-0".
fn quantise(value: f64, decimals: usize) -> f64 {
    let scale = 10f64.powi(decimals as i32);
    (value * scale).round() / scale + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_json_with_units_in_its_names() {
        let reading = PlantReading {
            thing: 0,
            event_time: Timestamp::from_seconds(1_700_000_000),
            values: [214.26, 0.2951, 5.0999, 1451.2, 66.666, 39.456, -0.0001, 38.2]
                .into_iter()
                .zip(&INSTRUMENTS)
                .map(|(value, make)| quantise(value, make.decimals))
                .collect::<Vec<_>>()
                .try_into()
                .unwrap(),
        };
        assert_eq!(
            reading.json(),
            "{\"ts\":1700000000000,\"flow_m3h\":214.3,\"suction_bar\":0.295,\"discharge_bar\":5.100,\
             \"speed_rpm\":1451,\"motor_current_a\":66.67,\"bearing_temp_c\":39.46,\"vibration_mm_s\":0.000,\
             \"power_kw\":38.20}"
        );
    }

    #[test]
    fn instruments_are_listed_in_the_order_of_their_signals() {
        for (signal, name) in [
            (Signal::Flow, "flow_m3h"),
            (Signal::Suction, "suction_bar"),
            (Signal::Discharge, "discharge_bar"),
            (Signal::Speed, "speed_rpm"),
            (Signal::Current, "motor_current_a"),
            (Signal::BearingTemp, "bearing_temp_c"),
            (Signal::Vibration, "vibration_mm_s"),
            (Signal::Power, "power_kw"),
        ] {
            assert_eq!(signal.name(), name);
        }
    }
}
