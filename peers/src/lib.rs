//! The same forest three times: 50 trees, 256 samples that fade over 2,560 readings, shingles of 8 readings of one signal,
//! one thread; every box is kept in each, which is the default of `krcf` and the only way of `rcf3`.

use kilter_detect::forest::{Parameters, RandomCutForest};

pub const TREES: usize = 50;
pub const SAMPLES: usize = 256;
pub const SHINGLE: usize = 8;

/// A forest that scores a shingle, the newest reading last, then learns it.
pub trait Peer {
    const NAME: &'static str;

    fn new(seed: u64) -> Self;

    /// 0 while the forest is not ready.
    fn read(&mut self, shingle: &[f64]) -> f64;
}

impl Peer for RandomCutForest {
    const NAME: &'static str = "kilter";

    fn new(seed: u64) -> Self {
        let parameters = Parameters { features: SHINGLE, trees: TREES, samples: SAMPLES };
        Self::new(parameters, seed).expect("parameters within bounds")
    }

    fn read(&mut self, shingle: &[f64]) -> f64 {
        let score = self.score(shingle).unwrap_or(0.0);
        self.learn(shingle);
        score
    }
}

impl Peer for krcf::RandomCutForest {
    const NAME: &'static str = "krcf";

    fn new(seed: u64) -> Self {
        Self::new(krcf::RandomCutForestOptions {
            dimensions: 1,
            shingle_size: SHINGLE,
            num_trees: Some(TREES),
            sample_size: Some(SAMPLES),
            lambda: Some(0.1 / SAMPLES as f64),
            random_seed: Some(seed),
            internal_shingling: Some(false),
            parallel_execution_enabled: Some(false),
            ..Default::default()
        })
        .expect("options within bounds")
    }

    fn read(&mut self, shingle: &[f64]) -> f64 {
        let point = narrow(shingle);
        let score = self.score(&point).expect("a whole shingle");
        self.update(&point).expect("a whole shingle");
        score
    }
}

impl Peer for rcf3::Forest {
    const NAME: &'static str = "rcf3";

    fn new(seed: u64) -> Self {
        let forest = Self::builder(1).shingle_size(SHINGLE).num_trees(TREES).capacity(SAMPLES);
        let forest = forest.time_decay(0.1 / SAMPLES as f64);
        forest.internal_shingling(false).seed(seed).build().expect("options within bounds")
    }

    fn read(&mut self, shingle: &[f64]) -> f64 {
        let point = narrow(shingle);
        let score = self.score(&point).expect("a whole shingle");
        self.update(&point).expect("a whole shingle");
        score
    }
}

fn narrow(shingle: &[f64]) -> [f32; SHINGLE] {
    std::array::from_fn(|i| shingle[i] as f32)
}

/// A daily swing, noise of a twentieth of it, a spike every few hundred readings, a shifted stretch now and then.
pub fn signal(count: usize) -> Vec<f64> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count)
        .map(|i| {
            let noise = 0.05 * (random() + random() + random() + random() - 2.0);
            let spike = if random() < 0.003 { 1.0 + random() } else { 0.0 };
            let shift = if i % 5_000 > 4_950 { 0.7 } else { 0.0 };
            (i as f64 * std::f64::consts::TAU / 144.0).sin() + noise + spike + shift
        })
        .collect()
}

/// Pearson's correlation.
pub fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (x - mean_a, y - mean_b);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    ab / (aa * bb).sqrt()
}
