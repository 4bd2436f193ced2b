//! Draws from a key: the only source of randomness here.
//!
//! `rand_distr` is not used: under feature unification its logarithms and exponentials come from the C library, which
//! differs between machines.

use std::f32::consts::{FRAC_PI_2, LN_2, SQRT_2};

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cpu::kernels;

/// A stream of draws from one key; the same key gives the same stream everywhere.
pub(crate) struct Draws {
    stream: ChaCha8Rng,
}

impl Draws {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self { stream: ChaCha8Rng::from_seed(*key) }
    }

    /// A number from 0 to under 1, a multiple of 2^-53.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.stream.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Two whole numbers, each uniform over `-reach..reach` (the end is left out).
    pub(crate) fn steps(&mut self, reach: u32) -> (i64, i64) {
        let bits = self.stream.next_u64();
        // The high part of a product with 32 random bits: uneven by no more than 2^-32 of a choice.
        let step = |bits: u64| ((bits * 2 * u64::from(reach)) >> 32) as i64 - i64::from(reach);
        (step(bits & 0xFFFF_FFFF), step(bits >> 32))
    }

    /// Sets `words` to random bits that belong to row `y`. Each row has a stream of its own, apart from the one that the
    /// other draws come from, so that rows can be made in any order.
    pub(crate) fn words(&self, y: usize, words: &mut [u32]) {
        let mut stream = self.stream.clone();
        stream.set_stream(y as u64 + 1);
        stream.set_word_pos(0);
        words.fill_with(|| stream.next_u32());
    }

    /// Sets `numbers` to standard normal numbers that belong to row `y`.
    pub(crate) fn normals(&self, y: usize, numbers: &mut [f32]) {
        let half = numbers.len().div_ceil(2);
        let mut words = vec![0; 2 * half];
        self.words(y, &mut words);
        let (radii, angles) = words.split_at(half);
        let (first, second) = numbers.split_at_mut(half);
        pair_normals(radii, angles, first, second);
    }
}

kernels! {
    /// Turns pairs of random words into pairs of normal numbers (Box and Muller): the coordinates of a point in a random
    /// direction, as far away as one of two normal coordinates is. A last pair may make one number only.
    ///
    /// Good to seven digits, the tail to 6.5 deviations. Sums, products and roots alone, which are the same everywhere.
    fn pair_normals(radii: &[u32], angles: &[u32], first: &mut [f32], second: &mut [f32]) {
        let pairs = first.iter_mut().zip(second.iter_mut());
        for ((&word, &angle), (one, other)) in radii.iter().zip(angles).zip(pairs) {
            let radius = radius(word);
            *one = radius * cosine(angle);
            // The sine is the cosine a quarter of a turn earlier.
            *other = radius * cosine(angle.wrapping_sub(1 << 30));
        }
        for i in second.len()..first.len() {
            first[i] = radius(radii[i]) * cosine(angles[i]);
        }
    }
}

/// The square root of -2 ln p, where p is uniform over the multiples of 2^-31 up to 1.
#[inline]
fn radius(word: u32) -> f32 {
    let p = ((word >> 1) as i32 as f32 + 1.0) / (1_u32 << 31) as f32;
    // p is taken apart into a power of two and a factor between the roots of 1/2 and of 2.
    let bits = p.to_bits() as i32;
    let power = (bits - (0.5 * SQRT_2).to_bits() as i32) >> 23;
    let factor = f32::from_bits((bits - (power << 23)) as u32);
    // The logarithm's series by the inverse hyperbolic tangent; the next term is under 4e-8.
    let s = (factor - 1.0) / (factor + 1.0);
    let square = s * s;
    let series = 1.0 + square * (1.0 / 3.0 + square * (1.0 / 5.0 + square * (1.0 / 7.0)));
    (-2.0 * (power as f32 * LN_2 + 2.0 * s * series)).sqrt()
}

/// The cosine of a number of turns, given in units of 2^-32.
#[inline]
fn cosine(turns: u32) -> f32 {
    // The lower 30 bits, signed, are how far it is from the nearest quarter of a turn.
    let x = (turns << 2) as i32 as f32 * (FRAC_PI_2 / (1_u64 << 32) as f32);
    let square = x * x;
    let sine = x * (1.0 - square * (1.0 / 6.0 - square * (1.0 / 120.0 - square * (1.0 / 5040.0))));
    let cosine =
        1.0 - square * (1.0 / 2.0 - square * (1.0 / 24.0 - square * (1.0 / 720.0 - square * (1.0 / 40_320.0))));
    let quarter = turns.wrapping_add(1 << 29) >> 30;
    let number = if quarter & 1 == 0 { cosine } else { sine };
    if quarter == 1 || quarter == 2 { -number } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_the_moments_of_the_normal_distribution() {
        let mut drawn = vec![0.0; 200_001];
        Draws::new(&[7; 32]).normals(0, &mut drawn);
        let moment = |power| drawn.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / drawn.len() as f64;
        assert!(moment(1).abs() < 0.01, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.015, "{}", moment(2));
        assert!(moment(3).abs() < 0.04, "{}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.1, "{}", moment(4));
        let over_three = drawn.iter().filter(|x| x.abs() > 3.0).count();
        assert!((440..640).contains(&over_three), "{over_three}");
    }

    #[test]
    fn normals_are_distributed_as_the_error_function_says() {
        let mut drawn = vec![0.0; 400_000];
        Draws::new(&[8; 32]).normals(3, &mut drawn);
        drawn.sort_by(f32::total_cmp);
        let expected = |x: f32| 0.5 * libm::erfc(-f64::from(x) / std::f64::consts::SQRT_2);
        let share = |i: usize| (i as f64 + 0.5) / 400_000.0;
        let furthest = drawn.iter().enumerate().map(|(i, &x)| (expected(x) - share(i)).abs()).fold(0.0, f64::max);
        // Kolmogorov and Smirnov: over 1.63 / sqrt(n) in one of a hundred.
        assert!(furthest < 1.63 / 400_000_f64.sqrt(), "{furthest}");
    }

    #[test]
    fn the_two_numbers_of_a_pair_are_not_correlated() {
        let mut drawn = vec![0.0; 200_000];
        Draws::new(&[9; 32]).normals(1, &mut drawn);
        let (first, second) = drawn.split_at(100_000);
        let product = |f: fn(f64) -> f64| {
            first.iter().zip(second).map(|(&a, &b)| f(f64::from(a)) * f(f64::from(b))).sum::<f64>() / 1e5
        };
        assert!(product(|x| x).abs() < 0.012, "{}", product(|x| x));
        assert!(product(|x| x * x - 1.0).abs() < 0.024, "{}", product(|x| x * x - 1.0));
    }

    #[test]
    fn radius_and_cosine_are_those_of_libm() {
        for word in (0..=u32::MAX).step_by(65_521) {
            let p = (f64::from(word >> 1) + 1.0) / f64::from(1_u32 << 31);
            let (square, expected) = (f64::from(radius(word)).powi(2), -2.0 * libm::log(p));
            assert!((square - expected).abs() < 5e-7 * expected.max(1.0), "{word}: {square} {expected}");
            let expected = libm::cos(f64::from(word) / 4_294_967_296.0 * std::f64::consts::TAU);
            assert!((f64::from(cosine(word)) - expected).abs() < 1e-6, "{word}: {} {expected}", cosine(word));
        }
        assert!((radius(0) - 6.556).abs() < 0.001);
        assert_eq!(radius(u32::MAX), 0.0);
    }

    #[test]
    fn steps_reach_every_place_and_leave_out_the_end() {
        let mut draws = Draws::new(&[3; 32]);
        let mut seen = [0_u32; 4];
        for _ in 0..4000 {
            let (x, y) = draws.steps(2);
            seen[usize::try_from(x + 2).unwrap()] += 1;
            seen[usize::try_from(y + 2).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (1850..2150).contains(count)), "{seen:?}");
    }

    #[test]
    fn the_first_draws_of_a_key_stay_what_they_are() {
        let mut draws = Draws::new(&[1; 32]);
        let mut words = [0; 3];
        draws.words(5, &mut words);
        let mut normals = [0.0; 4];
        draws.normals(5, &mut normals);
        assert_eq!(draws.uniform(), 0.299_144_789_076_739_7);
        assert_eq!(words, FIRST_WORDS);
        assert_eq!(normals, FIRST_NORMALS);
    }

    /// What the first run gave: a change breaks every rendered variant.
    const FIRST_WORDS: [u32; 3] = [2_855_707_619, 580_617_505, 2_298_536_632];
    const FIRST_NORMALS: [f32; 4] = [-0.881_495_65, 1.527_935_4, -0.198_025_1, -1.291_366_1];
}
