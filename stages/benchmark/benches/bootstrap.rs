//! Bootstrap intervals of all four coefficients on eight sets of the sizes at which the paper evaluates.
//!
//! `cargo bench -p evoq-benchmark --bench bootstrap`; `bootstrap.py` runs it beside numpy and scipy.

use std::time::Instant;

use evoq_benchmark::bootstrap::{interval, resampled};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Pictures of KonIQ-10k, SPAQ, AGIQA-3K, LIVE in the Wild, KADID-10k, PIPAL, TID2013 and CSIQ in the paper's tables.
const SIZES: [usize; 8] = [2010, 2224, 2982, 1162, 2000, 4640, 3000, 866];
const RESAMPLES: u32 = 10_000;

fn main() {
    let mut random = ChaCha8Rng::from_seed([1; 32]);
    let mut uniform = || f64::from(random.next_u32()) / f64::from(u32::MAX);
    let start = Instant::now();
    for size in SIZES {
        let (scores, truths): (Vec<f64>, Vec<f64>) = (0..size)
            .map(|_| {
                let truth = 1.0 + 4.0 * uniform();
                (((truth + 2.0 * uniform()) * 100.0).round() / 100.0, truth)
            })
            .unzip();
        let found = resampled(&[&scores], &truths, 1, &size.to_string(), RESAMPLES);
        let srcc = interval(found[0].iter().map(|it| it[1])).map_or(f64::NAN, |it| it.high - it.low);
        println!("{size} pictures: the interval of SRCC is {srcc:.4} wide");
    }
    println!("seconds {:.3}", start.elapsed().as_secs_f64());
}
