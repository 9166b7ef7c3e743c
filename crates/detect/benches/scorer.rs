//! Cost of one reading of eight signals: score, then learn, on a warmed-up thing; and of storing its state.

use criterion::{Criterion, criterion_group, criterion_main};
use kilter_core::Timestamp;
use kilter_detect::{Learn, Sample, ScorerConfig, ThingScorer};
use kilter_testkit::detector::Machine;
use std::hint::black_box;

type Reading = (Timestamp, Vec<(Box<str>, f64)>);

/// Two simulated machines side by side: eight signals.
fn readings(count: usize) -> Vec<Reading> {
    let (mut one, mut two) = (Machine::new(1), Machine::new(2));
    (0..count)
        .map(|_| {
            let ((time, a), (_, b)) = (one.read(), two.read());
            let signals = a.iter().chain(&b).enumerate().map(|(i, &value)| (format!("s{i}").into(), value));
            (time, signals.collect())
        })
        .collect()
}

fn feed(scorer: &mut ThingScorer, (event_time, signals): &Reading) {
    let sample = Sample { event_time: *event_time, signals };
    let outcome = scorer.score(&sample);
    scorer.learn(&sample, &outcome, Learn::Full);
}

fn scorer(criterion: &mut Criterion) {
    let readings = readings(20_000);
    let mut scorer = ThingScorer::new(ScorerConfig::default(), 1);
    readings[..10_000].iter().for_each(|reading| feed(&mut scorer, reading));
    let mut next = readings.iter().cycle().skip(10_000);
    criterion.bench_function("score and learn, 8 signals", |bencher| {
        bencher.iter(|| feed(&mut scorer, next.next().expect("a cycle has no end")));
    });
    criterion.bench_function("snapshot, 8 signals", |bencher| bencher.iter(|| black_box(scorer.snapshot())));
    let bytes = scorer.snapshot();
    criterion.bench_function("restore, 8 signals", |bencher| {
        bencher.iter(|| black_box(ThingScorer::restore(ScorerConfig::default(), &bytes)));
    });
}

criterion_group!(benches, scorer);
criterion_main!(benches);
