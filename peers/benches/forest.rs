//! Prints how the scores agree, then measures a reading's cost: score it, then learn it.

use criterion::{Criterion, criterion_group, criterion_main};
use kilter_detect::forest::RandomCutForest;
use kilter_peers::{Peer, SHINGLE, correlation, signal};
use std::hint::black_box;

/// Readings that every forest has learned before anything is measured.
const WARM: usize = 4_000;

fn scores<P: Peer>(signal: &[f64], seed: u64) -> Vec<f64> {
    let mut forest = P::new(seed);
    signal.windows(SHINGLE).map(|shingle| forest.read(shingle)).skip(WARM).collect()
}

fn cost<P: Peer>(criterion: &mut Criterion, signal: &[f64]) {
    let mut forest = P::new(1);
    let mut readings = signal.windows(SHINGLE).cycle();
    for shingle in readings.by_ref().take(WARM) {
        forest.read(shingle);
    }
    criterion.bench_function(P::NAME, |bencher| {
        bencher.iter(|| black_box(forest.read(readings.next().expect("a cycle has no end"))));
    });
}

fn forest(criterion: &mut Criterion) {
    let signal = signal(20_000);
    let kilter = [1, 2].map(|seed| scores::<RandomCutForest>(&signal, seed));
    let krcf = [1, 2].map(|seed| scores::<krcf::RandomCutForest>(&signal, seed));
    let rcf3 = [1, 2].map(|seed| scores::<rcf3::Forest>(&signal, seed));
    // What two seeds of one forest differ by is chance, and the most that two forests can agree.
    for (pair, a, b) in [
        ("kilter, krcf", &kilter[0], &krcf[0]),
        ("kilter, rcf3", &kilter[0], &rcf3[0]),
        ("krcf, rcf3", &krcf[0], &rcf3[0]),
        ("kilter, kilter", &kilter[0], &kilter[1]),
        ("krcf, krcf", &krcf[0], &krcf[1]),
        ("rcf3, rcf3", &rcf3[0], &rcf3[1]),
    ] {
        println!("correlation {pair:15} {:.4}", correlation(a, b));
    }
    cost::<RandomCutForest>(criterion, &signal);
    cost::<krcf::RandomCutForest>(criterion, &signal);
    cost::<rcf3::Forest>(criterion, &signal);
}

criterion_group!(benches, forest);
criterion_main!(benches);
