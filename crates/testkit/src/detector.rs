//! The detector contract as a suite: every detector, and the scorer made of them, passes it.
//!
//! `check` and `check_scorer` feed healthy, faulty and hostile readings of a simulated machine and panic with what
//! was violated: same seed same scores, scoring changes nothing, a stored state goes on bit for bit, hostile values
//! and clocks are survived and forgotten, memory stays within what is declared, and a fault is told from healthy
//! readings at least as well as three sigmas tell it.

use kilter_core::{Score, Timestamp, Verdict};
use kilter_detect::detector::{Detector, Input, Judgement, Reaction, Slot};
use kilter_detect::{Learn, Outcome, Sample, ThingScorer};

/// Seconds between the machine's readings.
const INTERVAL_SECONDS: i64 = 60;
/// Readings of the machine's daily cycle, shortened so that a test sees many.
const CYCLE: f64 = 288.0;
const READINGS_PER_WEEK: f64 = 10_080.0;
/// What is learned before a fault, what healthy readings it is compared with, and how long it lasts.
const TRAINING: usize = 3_000;
const HEALTHY: usize = 1_000;
const FAULT: usize = 40;
/// Signals of the machine: a load with a daily cycle, a flow that follows it, a slow temperature, a quantised state.
pub const SIGNALS: [&str; 4] = ["a_load", "b_flow", "c_temperature", "d_state"];

/// What can go wrong with the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// One value of the flow far from its neighbours, within its daily range.
    Spike,
    /// The temperature moves up and stays.
    Shift,
    /// The flow repeats one value.
    Stuck,
    /// The flow stops following the load; each alone looks ordinary.
    Decoupled,
    /// No reading for 30 intervals.
    Silence,
    /// The load leaves the range 0 to 100.
    Excess,
}

/// A simulated machine, deterministic by its seed.
pub struct Machine {
    state: u64,
    reading: usize,
    load: f64,
    temperature: f64,
    frozen: f64,
}

impl Machine {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, reading: 0, load: 0.0, temperature: 0.0, frozen: 0.0 }
    }

    /// SplitMix64 (Steele, Lea and Flood 2014), as 53 random bits.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Nearly normal, variance 1.
    fn noise(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// The next reading: its time and the values of [`SIGNALS`].
    pub fn read(&mut self) -> (Timestamp, [f64; 4]) {
        let phase = self.reading as f64 / CYCLE * std::f64::consts::TAU;
        self.load = 0.8 * self.load + self.noise();
        self.temperature = 0.95 * self.temperature + 0.3 * self.noise();
        let load = 50.0 + 15.0 * phase.sin() + 2.0 * self.load;
        let flow = 2.0 * load + 0.5 * self.noise();
        let time = Timestamp::from_seconds(1_700_000_000 + self.reading as i64 * INTERVAL_SECONDS);
        self.reading += 1;
        (time, [load, flow, 70.0 + self.temperature, (load / 20.0).round()])
    }

    /// The next reading, `since` readings into the fault.
    pub fn read_faulty(&mut self, fault: Fault, since: usize) -> (Timestamp, [f64; 4]) {
        let (mut time, mut values) = self.read();
        if since == 0 {
            self.frozen = values[1];
        }
        match fault {
            Fault::Spike if since == 5 => values[1] += if values[1] > 100.0 { -50.0 } else { 50.0 },
            Fault::Spike => {}
            Fault::Shift => values[2] += 8.0,
            Fault::Stuck => values[1] = self.frozen,
            Fault::Decoupled => values[1] = 200.0 - values[1] + if values[1] > 100.0 { -20.0 } else { 20.0 },
            Fault::Silence => time = time.plus_seconds(30 * INTERVAL_SECONDS),
            Fault::Excess => values[0] = 101.0,
        }
        (time, values)
    }
}

/// What the suite has to know of a detector.
pub struct Expected {
    /// How many of the machine's signals it is given: from the first one on, or only the one at `first`.
    pub signals: std::ops::Range<usize>,
    /// What it is made for.
    pub fault: Fault,
    pub memory_bytes_max: usize,
}

/// The contract of one detector; `make` gives a fresh one, always with the same seed.
pub fn check<D: Detector + PartialEq + std::fmt::Debug>(make: impl Fn() -> D, expected: &Expected) {
    scoring_changes_nothing_and_repeats(&make, expected);
    stored_state_goes_on(&make, expected);
    damaged_state_does_not_panic(&make, expected);
    hostile_input_is_survived(&make, expected);
    fault_stands_out(make(), expected, 0);
}

fn step<D: Detector>(
    detector: &mut D,
    time: Timestamp,
    values: &[f64; 4],
    signals: &std::ops::Range<usize>,
) -> Reaction {
    step_in(detector, time, values, signals, Learn::Full)
}

fn step_in<D: Detector>(
    detector: &mut D,
    event_time: Timestamp,
    values: &[f64; 4],
    signals: &std::ops::Range<usize>,
    mode: Learn,
) -> Reaction {
    let values: Vec<(Slot, f64)> = signals.clone().map(|i| (i as Slot, values[i])).collect();
    let input = Input { event_time, values: &values, readings_per_week: READINGS_PER_WEEK, commissioning: false };
    let reaction = detector.score(&input);
    detector.learn(&input, &reaction, mode);
    reaction
}

fn scoring_changes_nothing_and_repeats<D: Detector + PartialEq + std::fmt::Debug>(
    make: &impl Fn() -> D,
    expected: &Expected,
) {
    let (mut one, mut two) = (make(), make());
    let (mut machine, mut same) = (Machine::new(1), Machine::new(1));
    for _ in 0..700 {
        let (time, values) = machine.read();
        let before = one.clone();
        let input: Vec<(Slot, f64)> = expected.signals.clone().map(|i| (i as Slot, values[i])).collect();
        one.score(&Input {
            event_time: time,
            values: &input,
            readings_per_week: READINGS_PER_WEEK,
            commissioning: false,
        });
        assert_eq!(one, before, "{}: score() changed the detector", D::NAME);
        let (time_two, values_two) = same.read();
        assert_eq!(
            step(&mut one, time, &values, &expected.signals),
            step(&mut two, time_two, &values_two, &expected.signals),
            "{}: the same seed gave another score",
            D::NAME
        );
    }
}

fn stored<D: Detector>(detector: &D) -> Vec<u8> {
    postcard::to_stdvec(detector).expect("a detector's state is serialisable: its contract")
}

fn stored_state_goes_on<D: Detector>(make: &impl Fn() -> D, expected: &Expected) {
    let mut detector = make();
    let mut machine = Machine::new(2);
    for reading in 0..900 {
        if [0, 1, 30, 63, 64, 65, 250, 700].contains(&reading) {
            let mut restored: D = postcard::from_bytes(&stored(&detector)).expect("what was stored can be read");
            assert!(restored.is_sound(), "{}: calls its own state unsound at reading {reading}", D::NAME);
            let mut original = detector.clone();
            let mut ahead = Machine { ..machine };
            for _ in 0..150 {
                let (time, values) = ahead.read();
                let (a, b) = (
                    step(&mut original, time, &values, &expected.signals),
                    step(&mut restored, time, &values, &expected.signals),
                );
                assert_eq!(a, b, "{}: went on differently after reading {reading}", D::NAME);
            }
            assert_eq!(stored(&original), stored(&restored), "{}: not bit-identical", D::NAME);
        }
        let (time, values) = machine.read();
        step(&mut detector, time, &values, &expected.signals);
    }
}

/// Bytes changed at random either cannot be read, are called unsound, or give a detector that works.
fn damaged_state_does_not_panic<D: Detector>(make: &impl Fn() -> D, expected: &Expected) {
    let mut detector = make();
    let mut machine = Machine::new(3);
    for _ in 0..300 {
        let (time, values) = machine.read();
        step(&mut detector, time, &values, &expected.signals);
    }
    let whole = stored(&detector);
    for _ in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..1 + (machine.uniform() * 4.0) as usize {
            let at = (machine.uniform() * bytes.len() as f64) as usize;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = (machine.uniform() * 256.0) as u8;
            }
        }
        if machine.uniform() < 0.2 {
            bytes.truncate((machine.uniform() * bytes.len() as f64) as usize);
        }
        let Ok(mut damaged) = postcard::from_bytes::<D>(&bytes) else { continue };
        if damaged.is_sound() {
            for _ in 0..20 {
                let (time, values) = machine.read();
                assert_ordinary::<D>(&step(&mut damaged, time, &values, &expected.signals));
            }
        }
    }
}

fn assert_ordinary<D: Detector>(reaction: &Reaction) {
    assert!(reaction.raw.is_finite(), "{}: raw statistic {}", D::NAME, reaction.raw);
    match reaction.judgement {
        Judgement::Warming { seen, needed } => assert!(seen <= needed && needed > 0, "{}: {seen} of {needed}", D::NAME),
        Judgement::Scored(score) => assert!((0.0..=Score::MAX).contains(&score.value()), "{}: {score:?}", D::NAME),
    }
    let mut shares = 0.0;
    for part in reaction.parts.iter().flatten() {
        assert!(part.value.is_finite() && part.expected.iter().all(|x| x.is_finite()), "{}: {part:?}", D::NAME);
        assert!(part.expected[0] <= part.expected[1], "{}: {part:?}", D::NAME);
        assert!((0.0..=1.0 + 1e-9).contains(&part.share), "{}: {part:?}", D::NAME);
        shares += part.share;
    }
    assert!(shares <= 1.0 + 1e-6, "{}: shares sum to {shares}", D::NAME);
}

/// Values at and beyond the edges of what arithmetic bears, within the bounds that a detector is promised.
const HOSTILE: [f64; 10] = [1e300, -1e300, 5e-324, 0.0, -0.0, 1e-300, 42.0, 1e300, 1e15, -1e-9];

fn hostile_time(reading: usize) -> Timestamp {
    match reading % 7 {
        0 => Timestamp::MIN,
        1 => Timestamp::from_nanos(i64::MAX),
        2 | 3 => Timestamp::from_seconds(1_700_000_000),
        4 => Timestamp::from_nanos(1_700_000_000_000_000_000 + reading as i64),
        5 => Timestamp::from_seconds(-1),
        _ => Timestamp::from_seconds(1_600_000_000 + reading as i64),
    }
}

fn hostile_input_is_survived<D: Detector>(make: &impl Fn() -> D, expected: &Expected) {
    let mut detector = make();
    for reading in 0..600 {
        let values = std::array::from_fn(|signal| HOSTILE[(reading * (signal + 1) + signal) % HOSTILE.len()]);
        let mode = if reading % 11 == 0 { Learn::Hold } else { Learn::Full };
        let reaction = step_in(&mut detector, hostile_time(reading), &values, &expected.signals, mode);
        assert_ordinary::<D>(&reaction);
        assert!(detector.is_sound(), "{}: unsound after hostile reading {reading}", D::NAME);
        let memory = detector.memory_bytes();
        assert!(memory <= expected.memory_bytes_max, "{}: declares {memory} bytes", D::NAME);
    }
    // Nothing of it may stay for ever.
    fault_stands_out(detector, expected, 20_000);
}

/// The share of healthy readings that look at least as odd as the fault's oddest, by the detector and by a naive
/// three-sigma rule that has seen the same.
fn fault_stands_out<D: Detector>(mut detector: D, expected: &Expected, before: usize) {
    let mut machine = Machine::new(4);
    let mut naive = Naive::default();
    let signals = &expected.signals;
    for _ in 0..before + TRAINING {
        let (time, values) = machine.read();
        step(&mut detector, time, &values, signals);
        naive.learn(time, &values);
    }
    let (mut healthy, mut healthy_naive) = (Vec::new(), Vec::new());
    for _ in 0..HEALTHY {
        let (time, values) = machine.read();
        healthy_naive.push(naive.odd(time, &values));
        naive.learn(time, &values);
        let reaction = step(&mut detector, time, &values, signals);
        assert_ordinary::<D>(&reaction);
        healthy.push(reaction.score().expect("4,000 readings are enough for every detector").value());
    }
    let (mut oddest, mut oddest_naive) = (0f64, 0f64);
    for since in 0..FAULT {
        let (time, values) = machine.read_faulty(expected.fault, since);
        oddest_naive = oddest_naive.max(naive.odd(time, &values));
        naive.last = Some(time);
        let reaction = step_in(&mut detector, time, &values, signals, Learn::Hold);
        oddest = oddest.max(reaction.score().map_or(0.0, Score::value));
    }
    let share = |of: &[f64], least: f64| of.iter().filter(|&&x| x >= least).count() as f64 / of.len() as f64;
    let (ours, theirs) = (share(&healthy, oddest), share(&healthy_naive, oddest_naive));
    let what = format!("{} on {:?} ({before} readings after hostile ones)", D::NAME, expected.fault);
    assert!(ours <= 0.002, "{what}: {ours} of healthy readings look as odd; the fault scored {oddest}");
    assert!(ours <= theirs, "{what}: worse ({ours}) than three sigmas ({theirs})");
    assert!(oddest >= 2.0, "{what}: the fault scored only {oddest}");
}

/// The rule to beat: distance from the mean in standard deviations, of values and of the interval.
#[derive(Default)]
struct Naive {
    count: f64,
    means: [f64; 5],
    squares: [f64; 5],
    last: Option<Timestamp>,
}

impl Naive {
    fn features(&self, time: Timestamp, values: &[f64; 4]) -> [f64; 5] {
        let seconds = self.last.map_or(INTERVAL_SECONDS as f64, |last| time.seconds_since(last));
        [values[0], values[1], values[2], values[3], seconds]
    }

    fn odd(&self, time: Timestamp, values: &[f64; 4]) -> f64 {
        let features = self.features(time, values);
        (0..5)
            .map(|i| (features[i] - self.means[i]).abs() / (self.squares[i] / self.count).sqrt().max(1e-9))
            .fold(0.0, f64::max)
    }

    /// Welford 1962.
    fn learn(&mut self, time: Timestamp, values: &[f64; 4]) {
        let features = self.features(time, values);
        self.count += 1.0;
        for ((mean, squares), feature) in self.means.iter_mut().zip(&mut self.squares).zip(features) {
            let error = feature - *mean;
            *mean += error / self.count;
            *squares += error * (feature - *mean);
        }
        self.last = Some(time);
    }
}

/// Feeds a scorer as the pipeline does: what is flagged is held while young, then accepted.
pub struct Feeder {
    pub scorer: ThingScorer,
    hold: u32,
    held: u32,
}

impl Feeder {
    /// `hold` is how many flagged readings in a row are kept from being learned.
    pub fn new(scorer: ThingScorer, hold: u32) -> Self {
        Self { scorer, hold, held: 0 }
    }

    pub fn feed(&mut self, sample: &Sample<'_>) -> Outcome {
        let outcome = self.scorer.score(sample);
        self.held = if outcome.verdict == Verdict::Anomalous { self.held + 1 } else { 0 };
        let mode = if (1..=self.hold).contains(&self.held) { Learn::Hold } else { Learn::Full };
        self.scorer.learn(sample, &outcome, mode);
        assert_well_formed(&outcome);
        outcome
    }

    fn feed_machine(&mut self, (event_time, values): (Timestamp, [f64; 4])) -> Outcome {
        self.feed(&Sample { event_time, signals: &named(&values) })
    }
}

fn named(values: &[f64; 4]) -> Vec<(Box<str>, f64)> {
    SIGNALS.iter().zip(values).map(|(&name, &value)| (name.into(), value)).collect()
}

fn assert_well_formed(outcome: &Outcome) {
    let warming = matches!(outcome.verdict, Verdict::Warming { .. });
    assert_eq!(outcome.score.is_none(), warming, "a score exactly when not warming: {outcome:?}");
    assert_eq!(outcome.threshold.is_none(), warming, "{outcome:?}");
    let (Some(score), Some(threshold)) = (outcome.score, outcome.threshold) else { return };
    assert_eq!(score >= threshold, outcome.verdict == Verdict::Anomalous, "{outcome:?}");
    assert!(outcome.causes.len() <= kilter_detect::CAUSES_MAX);
    if !outcome.causes.is_empty() {
        let shares: f64 = outcome.causes.iter().map(|cause| cause.share).sum();
        assert!((shares - 1.0).abs() < 1e-9, "shares sum to {shares}");
    }
    for cause in &outcome.causes {
        assert!(cause.value.is_finite() && cause.expected.iter().all(|x| x.is_finite()), "{cause:?}");
    }
}

/// The contract of the scorer of a thing; `make` gives a fresh one, always with the same seed and budget.
pub fn check_scorer(make: impl Fn() -> ThingScorer, memory_bytes_max: usize) {
    scorer_goes_on_after_restore(&make);
    scorer_survives_hostile_input(&make, memory_bytes_max);
    for fault in [Fault::Spike, Fault::Shift, Fault::Stuck, Fault::Decoupled, Fault::Silence] {
        scorer_finds(Feeder::new(make(), 60), fault, TRAINING);
    }
}

fn scorer_goes_on_after_restore(make: &impl Fn() -> ThingScorer) {
    let mut feeder = Feeder::new(make(), 60);
    let mut machine = Machine::new(5);
    for reading in 0..700 {
        if [0, 1, 64, 65, 128, 255, 256, 600].contains(&reading) {
            let bytes = feeder.scorer.snapshot();
            let config = feeder.scorer.config().clone();
            let mut restored = Feeder::new(ThingScorer::restore(config, &bytes).expect("its own snapshot"), 60);
            let mut original = Feeder::new(feeder.scorer.clone(), 60);
            let mut ahead = Machine { ..machine };
            for since in 0..120 {
                let read = if since < 100 { ahead.read() } else { ahead.read_faulty(Fault::Decoupled, since) };
                let sample_outcome = original.feed_machine(read);
                assert_eq!(sample_outcome, restored.feed_machine(read), "differs after reading {reading}");
            }
            assert_eq!(original.scorer.snapshot(), restored.scorer.snapshot(), "not bit-identical from {reading}");
        }
        let before = feeder.scorer.snapshot();
        let (event_time, values) = Machine { ..machine }.read();
        feeder.scorer.score(&Sample { event_time, signals: &named(&values) });
        assert_eq!(before, feeder.scorer.snapshot(), "score() changed the scorer");
        feeder.feed_machine(machine.read());
    }
}

fn scorer_survives_hostile_input(make: &impl Fn() -> ThingScorer, memory_bytes_max: usize) {
    /// The largest finite values, which a reading may well carry.
    const EXTREME: [f64; 6] = [f64::MAX, f64::MIN, 1e308, f64::MIN_POSITIVE, 5e-324, -0.0];
    let mut feeder = Feeder::new(make(), 20);
    for reading in 0..800usize {
        let values = std::array::from_fn(|signal| {
            let at = reading * (signal + 3) + signal;
            if reading % 5 == 0 { EXTREME[at % EXTREME.len()] } else { HOSTILE[at % HOSTILE.len()] }
        });
        let mut signals = named(&values);
        signals.truncate(reading % 5);
        signals.push((format!("z{reading}").into(), 1.0));
        feeder.feed(&Sample { event_time: hostile_time(reading), signals: &signals });
        let memory = feeder.scorer.memory_bytes();
        assert!(memory <= memory_bytes_max, "declares {memory} bytes after {reading} readings");
    }
    let bytes = feeder.scorer.snapshot();
    let config = feeder.scorer.config().clone();
    assert!(ThingScorer::restore(config, &bytes).is_ok(), "cannot restore what hostile input left");
    scorer_finds(feeder, Fault::Shift, 30_000);
}

/// The fault is flagged, and what was flagged before it stays within the weekly budget.
fn scorer_finds(mut feeder: Feeder, fault: Fault, training: usize) {
    let mut machine = Machine::new(6);
    for _ in 0..training {
        feeder.feed_machine(machine.read());
    }
    let (mut episodes, mut quiet) = (0, u32::MAX);
    let healthy = READINGS_PER_WEEK as usize;
    for _ in 0..healthy {
        let outcome = feeder.feed_machine(machine.read());
        if outcome.verdict == Verdict::Anomalous {
            episodes += u32::from(quiet > 30);
            quiet = 0;
        } else {
            quiet = quiet.saturating_add(1);
        }
    }
    let budget = feeder.scorer.config().budget.per_asset_and_week;
    assert!(f64::from(episodes) <= budget, "{episodes} episodes in a healthy week, {budget} are bearable");
    let found = (0..FAULT).any(|since| {
        let read = machine.read_faulty(fault, since);
        feeder.feed_machine(read).verdict == Verdict::Anomalous
    });
    assert!(found, "{fault:?} was not flagged within {FAULT} readings");
}
