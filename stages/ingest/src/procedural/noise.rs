//! Textures with natural spectra: periodic tiles of noise whose amplitude falls as 1/f^slope.

use evoq_schemas::draws;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Pixels along each side of a tile, a power of two.
const SIDE: usize = 512;

/// A square of noise of mean 0 and variance 1 that goes on without a seam on all sides.
#[derive(Debug)]
pub(super) struct Tile(Vec<f32>);

impl Tile {
    /// The noise at a pixel; coordinates wrap.
    pub(super) fn at(&self, x: usize, y: usize) -> f32 {
        self.0[(y % SIDE) * SIDE + x % SIDE]
    }
}

/// Two tiles of each slope from 0.8 to 1.6, in steps of a tenth: the range of natural pictures.
pub(super) fn tiles(seed: u64) -> Vec<Tile> {
    let slopes: Vec<u32> = (8..=16).collect();
    slopes.par_iter().flat_map_iter(|tenths| pair(seed, *tenths)).collect()
}

/// Two independent tiles of one slope: the real and the imaginary part of the transform of a complex white spectrum.
fn pair(seed: u64, tenths: u32) -> [Tile; 2] {
    let mut random = ChaCha8Rng::from_seed(draws::key(seed, "texture", &[&tenths.to_string()]));
    let slope = tenths as f32 / 10.0;
    let frequency = |k: usize| k.min(SIDE - k) as f32;
    let mut field: Vec<Complex> = (0..SIDE * SIDE)
        .map(|at| {
            let (kx, ky) = (frequency(at % SIDE), frequency(at / SIDE));
            let squared = kx * kx + ky * ky;
            let amplitude = if squared > 0.0 { libm::powf(squared, -slope / 2.0) } else { 0.0 };
            // Uniform draws do: a pixel is a sum of many.
            Complex { re: amplitude * random.random_range(-1.0..1.0), im: amplitude * random.random_range(-1.0..1.0) }
        })
        .collect();
    let roots = roots();
    for _ in 0..2 {
        field.chunks_exact_mut(SIDE).for_each(|row| transform(row, &roots));
        transpose(&mut field);
    }
    [tile(field.iter().map(|it| it.re)), tile(field.iter().map(|it| it.im))]
}

/// A tile of `values`, whose mean is 0 (their spectrum has no constant part), brought to variance 1.
fn tile(values: impl Iterator<Item = f32>) -> Tile {
    let values: Vec<f32> = values.collect();
    let energy: f64 = values.iter().map(|it| f64::from(*it) * f64::from(*it)).sum();
    let scale = (values.len() as f64 / energy).sqrt() as f32;
    Tile(values.into_iter().map(|it| it * scale).collect())
}

#[derive(Debug, Clone, Copy)]
struct Complex {
    re: f32,
    im: f32,
}

/// exp(2πi k / SIDE) for k below half of SIDE.
fn roots() -> Vec<Complex> {
    let root = |k: usize| {
        let (sin, cos) = libm::sincos(std::f64::consts::TAU * k as f64 / SIDE as f64);
        Complex { re: cos as f32, im: sin as f32 }
    };
    (0..SIDE / 2).map(root).collect()
}

/// The inverse Fourier transform of `row` in place, without the factor 1/SIDE (radix 2, decimation in time).
fn transform(row: &mut [Complex], roots: &[Complex]) {
    for i in 0..SIDE {
        let j = i.reverse_bits() >> (usize::BITS - SIDE.trailing_zeros());
        if i < j {
            row.swap(i, j);
        }
    }
    let mut half = 1;
    while half < SIDE {
        let step = SIDE / (2 * half);
        for block in row.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for ((a, b), root) in low.iter_mut().zip(high).zip(roots.iter().step_by(step)) {
                let turned = Complex { re: b.re * root.re - b.im * root.im, im: b.re * root.im + b.im * root.re };
                *b = Complex { re: a.re - turned.re, im: a.im - turned.im };
                *a = Complex { re: a.re + turned.re, im: a.im + turned.im };
            }
        }
        half *= 2;
    }
}

fn transpose(field: &mut [Complex]) {
    for y in 0..SIDE {
        for x in 0..y {
            field.swap(y * SIDE + x, x * SIDE + y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transformed_impulse_is_a_wave() {
        let mut row = vec![Complex { re: 0.0, im: 0.0 }; SIDE];
        row[3].re = 1.0;
        transform(&mut row, &roots());
        for (x, it) in row.iter().enumerate() {
            let (sin, cos) = libm::sincos(std::f64::consts::TAU * 3.0 * x as f64 / SIDE as f64);
            assert!((it.re - cos as f32).abs() < 1e-5 && (it.im - sin as f32).abs() < 1e-5, "{x}: {it:?}");
        }
    }

    #[test]
    fn the_steeper_the_slope_the_smaller_the_steps_between_neighbours() {
        let roughness = |tile: &Tile| {
            let steps = (0..SIDE * SIDE).map(|at| (tile.0[at] - tile.at(at % SIDE + 1, at / SIDE)).powi(2));
            steps.sum::<f32>() / (SIDE * SIDE) as f32
        };
        let rough: Vec<f32> = [8, 10, 12, 14, 16].map(|tenths| roughness(&pair(1, tenths)[0])).to_vec();
        assert!(rough.is_sorted_by(|a, b| *a > 1.3 * *b), "{rough:?}");
    }

    #[test]
    fn tiles_have_mean_0_and_variance_1_and_differ() {
        let pair = pair(1, 10);
        for tile in &pair {
            let mean = tile.0.iter().sum::<f32>() / (SIDE * SIDE) as f32;
            let square = tile.0.iter().map(|it| it * it).sum::<f32>() / (SIDE * SIDE) as f32;
            assert!(mean.abs() < 1e-3 && (square - 1.0).abs() < 1e-3, "{mean} {square}");
        }
        let product: f32 = pair[0].0.iter().zip(&pair[1].0).map(|(a, b)| a * b).sum();
        assert!(product.abs() / ((SIDE * SIDE) as f32) < 0.3, "{product}");
    }
}
