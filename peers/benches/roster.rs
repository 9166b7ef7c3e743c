//! What every detector costs per reading, and what state takes per signal. *Hot* ones look at one signal and are to take
//! at most a microsecond of each together; *warm* ones are to take at most 50 µs of a reading.

use criterion::{Criterion, criterion_group, criterion_main};
use kilter_core::Timestamp;
use kilter_detect::{
    Learn, Limits, Sample, ScorerConfig, ThingScorer,
    cusum::Cusum,
    detector::{Detector, Input, Slot},
    forest::Forest,
    gap::Gap,
    limits::LimitsDetector,
    rate::Rate,
    reference::Reference,
    stuck::Stuck,
    vibration::{Vibration, Waveform},
    windows::Windows,
};
use kilter_testkit::detector::Machine;
use std::hint::black_box;

/// Readings that are learned before anything is measured: reservoirs are full, tails have their peaks.
const WARM: usize = 10_000;
/// Readings before state is measured: windows have their reservoir's commissioning, and tails most of their peaks.
const STATE_READINGS: usize = 3_000;
const SIGNALS: usize = 8;
/// Numbers of signals that a thing is measured with.
const THINGS: [usize; 6] = [1, 2, 3, 4, 8, 64];
/// A thing of more signals has no `windows`.
const WINDOWED: usize = 4;
const MINUTES_PER_WEEK: f64 = 10_080.0;

type Reading = (Timestamp, Vec<(Slot, f64)>);

/// Two simulated machines side by side: eight signals, a reading a minute.
fn readings() -> Vec<Reading> {
    let (mut one, mut two) = (Machine::new(1), Machine::new(2));
    let read = || {
        let ((time, a), (_, b)) = (one.read(), two.read());
        (time, a.into_iter().chain(b).enumerate().map(|(slot, value)| (slot as Slot, value)).collect())
    };
    std::iter::repeat_with(read).take(2 * WARM).collect()
}

/// A detector behind its own readings.
struct Fed<D> {
    detector: D,
    fed: usize,
}

impl<D: Detector> Fed<D> {
    fn new(detector: D, signals: usize, readings: &[Reading]) -> Self {
        let mut fed = Self { detector, fed: 0 };
        (0..WARM).for_each(|_| fed.feed(signals, readings));
        fed
    }

    fn feed(&mut self, signals: usize, readings: &[Reading]) {
        let (event_time, values) = &readings[self.fed % readings.len()];
        let commissioning = self.fed < 512;
        let values = &values[..signals];
        let input = Input { event_time: *event_time, values, readings_per_week: MINUTES_PER_WEEK, commissioning };
        let reaction = black_box(self.detector.score(&input));
        self.detector.learn(&input, &reaction, Learn::Full);
        self.fed += 1;
    }
}

fn hot(criterion: &mut Criterion) {
    let readings = readings();
    let limits = || LimitsDetector::new(Limits { low: Some(-1e9), high: Some(1e9) });
    macro_rules! each {
        ($($make:expr),+) => {$({
            let mut fed = Fed::new($make, 1, &readings);
            let name = format!("hot/{}", name_of(&fed.detector));
            criterion.bench_function(&name, |bencher| bencher.iter(|| fed.feed(1, &readings)));
        })+};
    }
    each!(limits(), Rate::default(), Stuck::default(), Cusum::default(), Gap::default());
    let mut all = (
        Fed::new(limits(), 1, &readings),
        Fed::new(Rate::default(), 1, &readings),
        Fed::new(Stuck::default(), 1, &readings),
        Fed::new(Cusum::default(), 1, &readings),
    );
    criterion.bench_function("hot/all of a signal", |bencher| {
        bencher.iter(|| {
            all.0.feed(1, &readings);
            all.1.feed(1, &readings);
            all.2.feed(1, &readings);
            all.3.feed(1, &readings);
        });
    });
}

fn name_of<D: Detector>(_: &D) -> &'static str {
    D::NAME
}

fn warm(criterion: &mut Criterion) {
    let readings = readings();
    let mut windows = Fed::new(Windows::default(), 1, &readings);
    criterion.bench_function("warm/windows, of a signal", |bencher| bencher.iter(|| windows.feed(1, &readings)));
    let mut forest = Fed::new(Forest::new(1), SIGNALS, &readings);
    criterion.bench_function("warm/forest, 8 signals", |bencher| bencher.iter(|| forest.feed(SIGNALS, &readings)));
    let mut reference = Fed::new(Reference::new(1), SIGNALS, &readings);
    let name = "warm/reference, 8 signals";
    criterion.bench_function(name, |bencher| bencher.iter(|| reference.feed(SIGNALS, &readings)));
}

/// Readings of so many signals: the eight of [`readings`], and again, each time larger.
fn widened(readings: &[Reading], signals: usize) -> Vec<Reading> {
    let value = |values: &[(Slot, f64)], i: usize| values[i % SIGNALS].1 * (1.0 + (i / SIGNALS) as f64);
    let widen = |values: &[(Slot, f64)]| (0..signals).map(|i| (i as Slot, value(values, i))).collect();
    readings.iter().map(|(time, values)| (*time, widen(values))).collect()
}

/// The same as a device names them.
fn named(readings: &[Reading]) -> Vec<(Timestamp, Vec<(Box<str>, f64)>)> {
    let name = |(slot, value): &(Slot, f64)| (format!("s{slot:03}").into(), *value);
    readings.iter().map(|(time, values)| (*time, values.iter().map(name).collect())).collect()
}

fn feed(scorer: &mut ThingScorer, (event_time, signals): &(Timestamp, Vec<(Box<str>, f64)>)) {
    let sample = Sample { event_time: *event_time, signals };
    let outcome = scorer.score(&sample);
    scorer.learn(&sample, &outcome, Learn::Full);
}

/// All that is warm of a reading, and the whole scorer's reading, hot detectors and verdict included.
fn things(criterion: &mut Criterion) {
    let readings = readings();
    for signals in THINGS {
        let readings = widened(&readings, signals);
        let mut forest = Fed::new(Forest::new(1), signals, &readings);
        let mut reference = Fed::new(Reference::new(1), signals, &readings);
        let alone = |i: usize| readings.iter().map(|(time, values)| (*time, vec![values[i]])).collect::<Vec<_>>();
        let windowed = if signals <= WINDOWED { signals } else { 0 };
        let mut windows: Vec<_> =
            (0..windowed).map(alone).map(|alone| (Fed::new(Windows::default(), 1, &alone), alone)).collect();
        criterion.bench_function(&format!("warm/all of a reading of {signals} signals"), |bencher| {
            bencher.iter(|| {
                windows.iter_mut().for_each(|(windows, alone)| windows.feed(1, alone));
                forest.feed(signals, &readings);
                reference.feed(signals, &readings);
            });
        });
        let readings = named(&readings);
        let mut scorer = ThingScorer::new(ScorerConfig::default(), 1);
        readings[..WARM].iter().for_each(|reading| feed(&mut scorer, reading));
        let mut next = readings.iter().cycle().skip(WARM);
        criterion.bench_function(&format!("whole/reading of {signals} signals"), |bencher| {
            bencher.iter(|| feed(&mut scorer, next.next().expect("a cycle has no end")));
        });
    }
}

fn waveforms(criterion: &mut Criterion) {
    for samples in [2_048u32, 2_047, 16_384] {
        let noise = (0..samples).map(|i| f64::from(i.wrapping_mul(2_654_435_761) >> 8)).collect();
        let waveform = Waveform::new(48_000.0, noise).expect("the samples are a waveform");
        let mut vibration = Vibration::default();
        criterion.bench_function(&format!("waveform/{samples} samples"), |bencher| {
            bencher.iter(|| {
                let seen = vibration.look("v", &waveform, None);
                vibration.learn("v", black_box(&seen));
            });
        });
    }
}

/// Prints what a thing's state takes: in memory, and as it is stored.
fn state(_: &mut Criterion) {
    let readings = readings();
    for signals in THINGS {
        let mut scorer = ThingScorer::new(ScorerConfig::default(), 1);
        let readings = named(&widened(&readings[..STATE_READINGS], signals));
        readings.iter().for_each(|reading| feed(&mut scorer, reading));
        let (memory, stored) = (scorer.memory_bytes(), scorer.snapshot().len());
        let of = |bytes: usize| bytes / signals;
        println!("state/{signals} signals: {} bytes in memory per signal, {} stored", of(memory), of(stored));
    }
}

criterion_group!(benches, hot, warm, things, waveforms, state);
criterion_main!(benches);
