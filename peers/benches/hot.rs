//! The hot detectors of one signal beside the same statistics on watermill's means, variances and quantiles: what a reading
//! costs, in one run. Watermill's side ends with a quantile per statistic; Kilter's goes on to a chance beyond what was
//! seen, with causes.

use criterion::{Criterion, criterion_group, criterion_main};
use kilter_core::Timestamp;
use kilter_detect::{
    Learn,
    cusum::Cusum,
    detector::{Detector, Input},
    rate::Rate,
    stuck::Stuck,
};
use kilter_peers::signal;
use std::hint::black_box;
use watermill::{ewmean::EWMean, ewvariance::EWVariance, quantile::Quantile, stats::Univariate};

const READINGS: usize = 20_000;
const WARM: usize = 10_000;
const INTERVAL_SECONDS: i64 = 60;
const READINGS_PER_WEEK: f64 = 10_080.0;

#[derive(Default)]
struct Hot {
    rate: Rate,
    stuck: Stuck,
    cusum: Cusum,
}

fn feed(detector: &mut impl Detector, input: &Input<'_>) {
    let reaction = black_box(detector.score(input));
    detector.learn(input, &reaction, Learn::Full);
}

impl Hot {
    fn read(&mut self, at: i64, value: f64) {
        let event_time = Timestamp::from_seconds(1_700_000_000 + at * INTERVAL_SECONDS);
        let values = [(0, value)];
        let input = Input { event_time, values: &values, readings_per_week: READINGS_PER_WEEK, commissioning: false };
        feed(&mut self.rate, &input);
        feed(&mut self.stuck, &input);
        feed(&mut self.cusum, &input);
    }
}

/// A mean and a variance for each of the two levels and the rate, a quantile for each of the six statistics.
struct Peer {
    levels: [(EWMean<f64>, EWVariance<f64>); 2],
    rate: EWMean<f64>,
    tails: [Quantile<f64>; 6],
    sums: [f64; 2],
    last: f64,
    run: f64,
}

impl Peer {
    fn new() -> Self {
        let level = |memory: f64| (EWMean::new(1.0 / memory), EWVariance::new(1.0 / memory));
        Self {
            levels: [level(8.0), level(512.0)],
            rate: EWMean::new(1.0 / 512.0),
            tails: std::array::from_fn(|_| Quantile::new(0.999).expect("a part of one")),
            sums: [0.0; 2],
            last: 0.0,
            run: 0.0,
        }
    }

    /// How many of the statistics are beyond their quantile.
    fn read(&mut self, value: f64) -> usize {
        let residual = |(mean, variance): &(EWMean<f64>, EWVariance<f64>)| {
            ((value - mean.get()) / variance.get().sqrt().max(f64::MIN_POSITIVE)).clamp(-1e6, 1e6)
        };
        let [short, long] = [residual(&self.levels[0]), residual(&self.levels[1])];
        let sum = |sum: f64, step: f64| (sum - sum / 128.0 + step.min(4.0) - 0.75).max(0.0);
        self.sums = [sum(self.sums[0], long), sum(self.sums[1], -long)];
        let moved = (value - self.last).abs() / INTERVAL_SECONDS as f64;
        self.run = if value == self.last { self.run + 1.0 } else { 1.0 };
        let rate = (moved / self.rate.get().max(f64::MIN_POSITIVE)).ln_1p();
        let statistics = [short, -short, self.sums[0], self.sums[1], rate, self.run.ln()];
        // A quantile of nothing panics, so each is asked after it has learned.
        self.tails.iter_mut().zip(statistics).for_each(|(tail, x)| tail.update(x));
        let beyond = self.tails.iter().zip(statistics).filter(|(tail, x)| *x > tail.get()).count();
        for (mean, variance) in &mut self.levels {
            mean.update(value);
            variance.update(value);
        }
        self.rate.update(moved);
        self.last = value;
        beyond
    }
}

fn hot(criterion: &mut Criterion) {
    let readings = signal(READINGS);
    let (mut kilter, mut peer) = (Hot::default(), Peer::new());
    for (at, value) in readings.iter().take(WARM).enumerate() {
        kilter.read(at as i64, *value);
        peer.read(*value);
    }
    let mut next = (WARM as i64..).zip(readings.iter().cycle());
    criterion.bench_function("hot, kilter", |bencher| {
        bencher.iter(|| {
            let (at, value) = next.next().expect("a cycle has no end");
            kilter.read(at, *value);
        });
    });
    let mut next = readings.iter().cycle();
    criterion.bench_function("hot, watermill", |bencher| {
        bencher.iter(|| black_box(peer.read(*next.next().expect("a cycle has no end"))));
    });
}

criterion_group!(benches, hot);
criterion_main!(benches);
