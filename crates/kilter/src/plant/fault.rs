//! Faults: what can go wrong with a pump or its instruments, and the schedule on which the demo lets it.

use super::{THINGS, physics::Ailments, random::Random, sensor::Signal};
use kilter_core::Timestamp;
use std::{fmt, time::Duration};

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Vibration and bearing temperature climb.
    BearingWear,
    /// A sensor repeats its last value.
    StuckSensor,
    /// Vapour in the impeller: rough vibration, flow and pressure lost.
    Cavitation,
    /// A loose contact: single wild readings.
    SensorSpikes,
    /// The inlet clogs: suction pressure and flow fall.
    CloggedStrainer,
    /// The device stops publishing.
    Silence,
    /// Water escapes before the flow meter: less flow for the same power.
    SealLeak,
    /// A sensor reads too high or too low throughout.
    SensorOffset,
    /// The pump stops, the others take its load.
    Trip,
}

impl FaultKind {
    /// In the order in which the schedule takes them: one that climbs, one of an instrument, in turn.
    pub const ALL: [Self; 9] = [
        Self::BearingWear,
        Self::StuckSensor,
        Self::Cavitation,
        Self::SensorSpikes,
        Self::CloggedStrainer,
        Self::Silence,
        Self::SealLeak,
        Self::SensorOffset,
        Self::Trip,
    ];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BearingWear => "bearing wear",
            Self::StuckSensor => "stuck sensor",
            Self::Cavitation => "cavitation",
            Self::SensorSpikes => "loose sensor contact",
            Self::CloggedStrainer => "clogged strainer",
            Self::Silence => "silence",
            Self::SealLeak => "seal leak",
            Self::SensorOffset => "sensor offset",
            Self::Trip => "trip",
        }
    }

    /// What it does, for people.
    const fn effect(self) -> &'static str {
        match self {
            Self::BearingWear => "vibration and bearing temperature climb",
            Self::StuckSensor => "repeats its last value",
            Self::Cavitation => "vibration turns rough, flow and pressure fall",
            Self::SensorSpikes => "single wild readings",
            Self::CloggedStrainer => "suction pressure and flow fall",
            Self::Silence => "the device stops publishing",
            Self::SealLeak => "less flow for the same power",
            Self::SensorOffset => "reads wrong throughout",
            Self::Trip => "the pump stops, the others take its load",
        }
    }

    /// The instruments that the fault may befall; empty where it befalls the pump itself.
    fn signals(self) -> &'static [Signal] {
        match self {
            Self::StuckSensor => &[Signal::Discharge, Signal::Power, Signal::Vibration],
            Self::SensorSpikes => &[Signal::Vibration, Signal::Flow, Signal::Speed],
            Self::SensorOffset => &[Signal::BearingTemp, Signal::Suction, Signal::Current],
            _ => &[],
        }
    }

    /// How long the schedule lets it last.
    const fn seconds(self) -> u64 {
        match self {
            // These climb over a third of their time.
            Self::BearingWear | Self::Cavitation | Self::CloggedStrainer => 24,
            Self::SealLeak | Self::StuckSensor | Self::SensorSpikes | Self::SensorOffset => 16,
            // Longer than what the pipeline takes for an ordinary pause.
            Self::Silence => 26,
            Self::Trip => 14,
        }
    }

    const fn climbs(self) -> bool {
        matches!(self, Self::BearingWear | Self::Cavitation | Self::CloggedStrainer)
    }
}

/// One fault of one thing.
pub(super) struct Fault {
    pub(super) thing: usize,
    pub(super) kind: FaultKind,
    /// The instrument it befalls; of no meaning for faults of the pump.
    pub(super) signal: Signal,
    /// What a stuck sensor repeats, from its first reading on.
    pub(super) frozen: Option<f64>,
    /// Of its own, so that a fault does not change the rest of the plant's noise.
    pub(super) random: Random,
    begin: Timestamp,
    end: Timestamp,
}

/// A fault began or ended. `Display` says it in words, without a final stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultEvent {
    pub at: Timestamp,
    /// Index into [`THINGS`].
    pub thing: usize,
    pub kind: FaultKind,
    /// Whether it began just now; otherwise it ended.
    pub began: bool,
    /// The instrument, for faults of an instrument.
    pub signal: Option<&'static str>,
}

impl fmt::Display for FaultEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.began { "fault injected: " } else { "fault over: " })?;
        f.write_str(self.kind.name())?;
        if let Some(signal) = self.signal {
            write!(f, " {signal}")?;
        }
        write!(f, " on {}", THINGS[self.thing])?;
        if self.began { write!(f, " ({})", self.kind.effect()) } else { Ok(()) }
    }
}

impl Fault {
    pub(super) fn new(
        thing: usize,
        kind: FaultKind,
        begin: Timestamp,
        duration: Duration,
        random: &mut Random,
    ) -> Self {
        let mut random = Random::new(random.next_u64());
        let signals = kind.signals();
        let signal = if signals.is_empty() { Signal::Flow } else { random.pick(signals) };
        let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let end = Timestamp::from_nanos(begin.as_nanos().saturating_add(nanos));
        Self { thing, kind, signal, frozen: None, random, begin, end }
    }

    pub(super) fn active(&self, now: Timestamp) -> bool {
        now < self.end
    }

    pub(super) fn begun(&self) -> FaultEvent {
        self.event(self.begin, true)
    }

    pub(super) fn ended(&self) -> FaultEvent {
        self.event(self.end, false)
    }

    fn event(&self, at: Timestamp, began: bool) -> FaultEvent {
        let signal = (!self.kind.signals().is_empty()).then(|| self.signal.name());
        FaultEvent { at, thing: self.thing, kind: self.kind, began, signal }
    }

    /// From 0 to 1: climbing faults reach 1 after a third of their time, the others at once.
    fn severity(&self, now: Timestamp) -> f64 {
        if !self.kind.climbs() {
            return 1.0;
        }
        (3.0 * now.seconds_since(self.begin) / self.end.seconds_since(self.begin)).clamp(0.0, 1.0)
    }
}

/// What the active faults do to each pump.
pub(super) fn ailments(faults: &[Fault], now: Timestamp) -> [Ailments; THINGS.len()] {
    let mut ailments = [Ailments::default(); THINGS.len()];
    for fault in faults {
        let ill = &mut ailments[fault.thing];
        let severity = fault.severity(now);
        match fault.kind {
            FaultKind::BearingWear => ill.bearing = ill.bearing.max(severity),
            FaultKind::Cavitation => ill.vapour = ill.vapour.max(severity),
            FaultKind::CloggedStrainer => ill.strainer = ill.strainer.max(severity),
            FaultKind::SealLeak => ill.leak = ill.leak.max(severity),
            FaultKind::Trip => ill.tripped = true,
            // Faults of the instruments leave the pump alone.
            FaultKind::StuckSensor | FaultKind::SensorSpikes | FaultKind::SensorOffset | FaultKind::Silence => {}
        }
    }
    ailments
}

/// Which fault comes next, and when.
pub(super) struct Schedule {
    next: Timestamp,
    count: usize,
}

/// A fault that the schedule wants now.
pub(super) struct Due {
    pub(super) thing: usize,
    pub(super) kind: FaultKind,
    pub(super) duration: Duration,
}

/// Who watches the demo shall see the first fault soon.
const FIRST_SECONDS: i64 = 8;
/// Healthy time after a fault: long enough for bearings to cool and episodes to close.
const HEALTHY_SECONDS: (f64, f64) = (21.0, 34.0);
/// Has no factor in common with the number of things: neighbours in the schedule are not neighbours in the station.
const STRIDE: usize = 5;

impl Schedule {
    pub(super) fn starting_at(now: Timestamp) -> Self {
        Self { next: now.plus_seconds(FIRST_SECONDS), count: 0 }
    }

    /// The fault that is due at `now`, if one is.
    pub(super) fn due(&mut self, now: Timestamp, random: &mut Random) -> Option<Due> {
        if now < self.next {
            return None;
        }
        let kind = FaultKind::ALL[self.count % FaultKind::ALL.len()];
        // Two more per round: each kind then moves on by 9 · 5 + 2 = 47, so by five of six things, and gets to all.
        let thing = (STRIDE * self.count + 2 * (self.count / FaultKind::ALL.len()) + 2) % THINGS.len();
        let duration = Duration::from_secs(kind.seconds());
        let pause = random.between(HEALTHY_SECONDS.0, HEALTHY_SECONDS.1) as i64;
        self.next = now.plus_seconds(kind.seconds() as i64 + pause);
        self.count += 1;
        Some(Due { thing, kind, duration })
    }
}
