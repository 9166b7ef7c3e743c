//! The plant as the demo sees it.

use super::{sensor::Signal, *};

const START: Timestamp = Timestamp::from_seconds(1_763_900_000);
/// Of the demo: five readings a second.
const STEP: f64 = 0.2;

fn plant() -> Plant {
    Plant::new(42, START)
}

/// Runs `seconds` and keeps one thing's values of one signal.
fn run(plant: &mut Plant, seconds: f64) -> Vec<PlantReading> {
    (0..(seconds / STEP).round() as usize).flat_map(|_| plant.step(STEP).readings).collect()
}

fn values(readings: &[PlantReading], thing: usize, signal: Signal) -> Vec<f64> {
    readings.iter().filter(|r| r.thing == thing).map(|r| r.value(signal)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let m = mean(values);
    (values.iter().map(|v| (v - m).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (ma, mb) = (mean(a), mean(b));
    let covariance = a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum::<f64>() / a.len() as f64;
    covariance / (deviation(a) * deviation(b))
}

/// The last 12 of 24 seconds with the fault on thing 3, and the same seconds of a healthy twin.
fn with_and_without(kind: FaultKind) -> (Vec<PlantReading>, Vec<PlantReading>, FaultEvent) {
    let (mut ill, mut healthy) = (plant(), plant());
    run(&mut ill, 30.0);
    run(&mut healthy, 30.0);
    ill.inject(3, kind, Duration::from_secs(24));
    let event = ill.step(STEP).events.remove(0);
    healthy.step(STEP);
    run(&mut ill, 11.8);
    run(&mut healthy, 11.8);
    (run(&mut ill, 11.8), run(&mut healthy, 11.8), event)
}

/// By how many of its healthy, short-term standard deviations the signal's mean moved.
fn shift(kind: FaultKind, signal: Signal) -> f64 {
    let (ill, healthy, _) = with_and_without(kind);
    let (ill, healthy) = (values(&ill, 3, signal), values(&healthy, 3, signal));
    let steps: Vec<f64> = healthy.windows(2).map(|w| w[1] - w[0]).collect();
    (mean(&ill) - mean(&healthy)) / (deviation(&steps) / 2f64.sqrt())
}

#[test]
fn the_same_seed_gives_the_same_readings() {
    let all = |seed| {
        let mut plant = Plant::new(seed, START);
        plant.schedule();
        (0..2000).flat_map(|_| plant.step(STEP).readings).map(|r| r.json()).collect::<Vec<_>>()
    };
    assert_eq!(all(7), all(7));
    assert_ne!(all(7), all(8));
}

#[test]
fn every_healthy_step_reads_every_device_later_than_before() {
    let mut plant = plant();
    let mut last = plant.now();
    for _ in 0..100 {
        let step = plant.step(STEP);
        assert_eq!(step.readings.iter().map(|r| r.thing).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        assert!(step.readings.iter().all(|r| r.event_time > last));
        assert!(step.events.is_empty());
        last = plant.now();
    }
    assert!((last.seconds_since(START) - 20.0).abs() < 1e-6);
}

#[test]
fn signals_depend_on_one_another() {
    let mut plant = plant();
    let day = run(&mut plant, 2.0 * DAY_SECONDS);
    for thing in 0..THINGS.len() {
        let of = |signal| values(&day, thing, signal);
        assert!(correlation(&of(Signal::Flow), &of(Signal::Power)) > 0.9);
        assert!(correlation(&of(Signal::Power), &of(Signal::Current)) > 0.9);
        assert!(correlation(&of(Signal::Flow), &of(Signal::Suction)) < -0.3);
        assert!(correlation(&of(Signal::Flow), &of(Signal::Speed)) > 0.8);
        // The bearing follows the load five seconds later.
        let (power, heat) = (of(Signal::Power), of(Signal::BearingTemp));
        let lagged = correlation(&power[..power.len() - 25], &heat[25..]);
        assert!(lagged > 0.5, "{thing} {lagged}");
    }
}

#[test]
fn no_signal_of_a_healthy_plant_repeats_itself_for_long() {
    // Otherwise a stuck sensor could not be told from a healthy one.
    let day = run(&mut plant(), DAY_SECONDS);
    for signal in [Signal::Discharge, Signal::Power, Signal::Vibration] {
        let values = values(&day, 0, signal);
        let longest = values.chunk_by(|a, b| a == b).map(<[f64]>::len).max();
        assert!(longest < Some(6), "{signal:?} {longest:?}");
    }
}

#[test]
fn bearing_wear_shakes_and_heats() {
    assert!(shift(FaultKind::BearingWear, Signal::Vibration) > 8.0);
    assert!(shift(FaultKind::BearingWear, Signal::BearingTemp) > 8.0);
    assert!(shift(FaultKind::BearingWear, Signal::Flow).abs() < 2.0);
}

#[test]
fn cavitation_roughens_vibration_and_costs_flow() {
    let (ill, healthy, _) = with_and_without(FaultKind::Cavitation);
    let roughness = |readings: &[PlantReading]| deviation(&values(readings, 3, Signal::Vibration));
    assert!(roughness(&ill) > 4.0 * roughness(&healthy), "{} {}", roughness(&ill), roughness(&healthy));
    assert!(shift(FaultKind::Cavitation, Signal::Vibration) > 8.0);
    assert!(shift(FaultKind::Cavitation, Signal::Flow) < -5.0);
}

#[test]
fn a_clogged_strainer_lowers_suction_and_flow_and_loads_the_others() {
    assert!(shift(FaultKind::CloggedStrainer, Signal::Suction) < -8.0);
    assert!(shift(FaultKind::CloggedStrainer, Signal::Flow) < -5.0);
    let (ill, healthy, _) = with_and_without(FaultKind::CloggedStrainer);
    assert!(mean(&values(&ill, 0, Signal::Flow)) > 1.005 * mean(&values(&healthy, 0, Signal::Flow)));
}

#[test]
fn a_seal_leak_costs_flow_but_not_power() {
    assert!(shift(FaultKind::SealLeak, Signal::Flow) < -5.0);
    let (ill, healthy, _) = with_and_without(FaultKind::SealLeak);
    let ratio = mean(&values(&ill, 3, Signal::Power)) / mean(&values(&healthy, 3, Signal::Power));
    assert!(ratio > 0.98, "{ratio}");
}

/// The signals of thing 3 that the fault changed, and nothing of the other things.
fn changed(kind: FaultKind) -> (Vec<Signal>, FaultEvent) {
    let (ill, healthy, event) = with_and_without(kind);
    let all = [
        Signal::Flow,
        Signal::Suction,
        Signal::Discharge,
        Signal::Speed,
        Signal::Current,
        Signal::BearingTemp,
        Signal::Vibration,
        Signal::Power,
    ];
    for signal in all {
        assert_eq!(values(&ill, 0, signal), values(&healthy, 0, signal), "a sensor's fault stays in its sensor");
    }
    (all.into_iter().filter(|s| values(&ill, 3, *s) != values(&healthy, 3, *s)).collect(), event)
}

#[test]
fn faults_of_instruments_touch_the_named_signal_only() {
    for kind in [FaultKind::StuckSensor, FaultKind::SensorSpikes, FaultKind::SensorOffset] {
        let (signals, event) = changed(kind);
        assert_eq!(signals.iter().map(|s| s.name()).collect::<Vec<_>>(), [event.signal.unwrap()], "{kind:?}");
        assert!(event.to_string().starts_with("fault injected: "), "{event}");
        assert!(event.to_string().contains(&format!("{} on tenant001-pump4 (", signals[0].name())), "{event}");
    }
}

#[test]
fn a_stuck_sensor_repeats_and_an_offset_shifts() {
    let (ill, _, event) = with_and_without(FaultKind::StuckSensor);
    let signal =
        [Signal::Discharge, Signal::Power, Signal::Vibration].into_iter().find(|s| Some(s.name()) == event.signal);
    let frozen = values(&ill, 3, signal.unwrap());
    assert!(frozen.iter().all(|value| *value == frozen[0]), "{frozen:?}");

    let (_, _, event) = with_and_without(FaultKind::SensorOffset);
    let signal =
        [Signal::BearingTemp, Signal::Suction, Signal::Current].into_iter().find(|s| Some(s.name()) == event.signal);
    assert!(shift(FaultKind::SensorOffset, signal.unwrap()).abs() > 8.0);
}

#[test]
fn a_silent_device_sends_nothing_and_comes_back() {
    let mut plant = plant();
    plant.inject(3, FaultKind::Silence, Duration::from_secs(2));
    let silent = plant.step(STEP);
    assert_eq!(silent.readings.iter().map(|r| r.thing).collect::<Vec<_>>(), [0, 1, 2, 4, 5]);
    assert_eq!(
        silent.events[0].to_string(),
        "fault injected: silence on tenant001-pump4 (the device stops publishing)"
    );
    let (mut events, mut back) = (Vec::new(), 0);
    for _ in 0..15 {
        let step = plant.step(STEP);
        back += step.readings.iter().filter(|r| r.thing == 3).count();
        events.extend(step.events);
    }
    assert_eq!(events.len(), 1, "it ends once");
    assert_eq!(events[0].to_string(), "fault over: silence on tenant001-pump4");
    assert_eq!((events[0].began, events[0].at), (false, START.plus_seconds(2)));
    assert!(back > 0);
}

#[test]
fn the_schedule_visits_every_kind_and_thing_with_health_in_between() {
    let mut plant = plant();
    assert!(run(&mut plant, 60.0).len() == 300 * THINGS.len(), "no fault before the schedule starts");
    plant.schedule();
    let begin = plant.now();
    let events: Vec<_> = (0..(3600.0 / STEP) as usize).flat_map(|_| plant.step(STEP).events).collect();
    let begun: Vec<_> = events.iter().filter(|e| e.began).collect();
    assert!(begun[0].at.seconds_since(begin) < 10.0, "who watches sees something soon");
    for pair in begun.windows(2) {
        let gap = pair[1].at.seconds_since(pair[0].at);
        assert!((30.0..=60.0).contains(&gap), "{gap}");
        assert_ne!(pair[0].thing, pair[1].thing);
    }
    for pair in events.windows(2).filter(|pair| pair[1].began) {
        assert!(!pair[0].began && pair[1].at.seconds_since(pair[0].at) > 20.0, "one at a time, health in between");
    }
    for kind in FaultKind::ALL {
        let things: std::collections::BTreeSet<_> = begun.iter().filter(|e| e.kind == kind).map(|e| e.thing).collect();
        assert!(things.len() >= 4, "{kind:?} only came to {things:?}");
    }
}
