//! Noise: samples changed at random. A row's draws are its own, so rows are made in any order.

use std::array;

use image::RgbImage;
use rayon::prelude::*;

use crate::cpu::kernels;
use crate::draws::Draws;
use crate::filter::Border;
use crate::levels::{level_under, level_under_single, unit};
use crate::rows::{in_bands, join, split};
use crate::{Severity, ycrcb};

/// Adds normal noise to each sample.
pub(crate) fn gaussian_rgb(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let sigma = 255.0 * severity.pick([0.05, 0.1, 0.15, 0.2, 0.25]);
    with_normals(picture, draws, |normals, samples| add(normals, sigma, samples))
}

/// Adds normal noise in proportion to each sample.
pub(crate) fn speckle(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let scale = severity.pick([0.14, 0.21, 0.28, 0.35, 0.42]);
    with_normals(picture, draws, |normals, samples| multiply(normals, scale, samples))
}

/// Adds normal noise in `YCrCb`, up to 2.8 times stronger in chroma.
pub(crate) fn gaussian_ycrcb(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let luma = severity.pick([0.05, 0.06, 0.07, 0.08, 0.09]);
    let chroma = luma * severity.pick([1.0, 1.45, 1.9, 2.35, 2.8]);
    let width = picture.width() as usize;
    with_normals(picture, draws, |normals, samples| {
        let mut planes = vec![0; 3 * width];
        let (red, rest) = planes.split_at_mut(width);
        let (green, blue) = rest.split_at_mut(width);
        split(samples, red, green, blue);
        add_in_ycrcb(normals, [luma, chroma, chroma], red, green, blue);
        join(red, green, blue, samples);
    })
}

/// A copy of `picture` with its rows changed by `change`, which gets a normal number per sample.
fn with_normals(picture: &RgbImage, draws: &Draws, change: impl Fn(&[f32], &mut [u8]) + Sync) -> RgbImage {
    let stride = 3 * picture.width() as usize;
    let mut result = picture.clone();
    result.par_chunks_mut(stride).enumerate().for_each_init(
        || vec![0.0; stride],
        |normals, (y, samples)| {
            draws.normals(y, normals);
            change(normals, samples);
        },
    );
    result
}

kernels! {
    /// Adds numbers times `sigma` levels to samples.
    fn add(normals: &[f32], sigma: f32, samples: &mut [u8]) {
        for (sample, &normal) in samples.iter_mut().zip(normals) {
            *sample = level_under_single((f32::from(*sample) + sigma * normal).clamp(0.0, 255.0));
        }
    }

    /// Adds to samples themselves times numbers times `scale`.
    fn multiply(normals: &[f32], scale: f32, samples: &mut [u8]) {
        for (sample, &normal) in samples.iter_mut().zip(normals) {
            *sample = level_under_single((f32::from(*sample) * (1.0 + scale * normal)).clamp(0.0, 255.0));
        }
    }

    /// Adds numbers times `sigmas` to the Y, Cr and Cb of pixels.
    fn add_in_ycrcb(normals: &[f32], sigmas: [f32; 3], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
        let width = red.len();
        let normals = normals[..width].iter().zip(&normals[width..]).zip(&normals[2 * width..]);
        for (((red, green), blue), ((&luma, &cr), &cb)) in red.iter_mut().zip(green).zip(blue).zip(normals) {
            let mut pixel = ycrcb::from_units([*red, *green, *blue].map(|level| f32::from(level) * (1.0 / 255.0)));
            for ((sample, sigma), normal) in pixel.iter_mut().zip(sigmas).zip([luma, cr, cb]) {
                *sample += sigma * normal;
            }
            let pixel = ycrcb::to_units(pixel).map(|sample| level_under_single(sample.clamp(0.0, 1.0) * 255.0));
            [*red, *green, *blue] = pixel;
        }
    }
}

/// Adds normal noise, unclipped, and takes the mean over 3x3 pixels of picture and noise, the border mirrored.
pub(crate) fn spatially_correlated(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let sigma = 255.0 * severity.pick([0.08, 0.11, 0.14, 0.18, 0.22]);
    let stride = 3 * picture.width() as usize;
    let height = picture.height() as usize;
    let noisy = |y: i64, row: &mut [f32]| {
        let y = Border::Mirrored.index(y, height);
        draws.normals(y, row);
        add_levels(&picture.as_raw()[y * stride..(y + 1) * stride], sigma, row);
    };
    in_bands(picture, |first, band| {
        let [mut above, mut row, mut below] = [-1, 0, 0].map(|step| {
            let mut noisy_row = vec![0.0; stride];
            noisy(first as i64 + step, &mut noisy_row);
            noisy_row
        });
        let mut sums = vec![0.0; stride + 6];
        for (y, samples) in (first as i64..).zip(band.chunks_exact_mut(stride)) {
            noisy(y + 1, &mut below);
            add_rows(&above, &row, &below, &mut sums[3..stride + 3]);
            Border::Mirrored.extend(&mut sums, 1);
            take_means(&sums, samples);
            (above, row, below) = (row, below, above);
        }
    })
}

kernels! {
    /// Turns numbers into noisy levels: `sigma` levels times the number, added to the sample.
    fn add_levels(levels: &[u8], sigma: f32, numbers: &mut [f32]) {
        for (number, &level) in numbers.iter_mut().zip(levels) {
            *number = f32::from(level) + sigma * *number;
        }
    }

    /// Adds three rows.
    fn add_rows(above: &[f32], row: &[f32], below: &[f32], sums: &mut [f32]) {
        for (sum, ((a, b), c)) in sums.iter_mut().zip(above.iter().zip(row).zip(below)) {
            *sum = a + b + c;
        }
    }

    /// Sets samples to the means over three pixels of a row of sums over three rows, with a pixel more on either side.
    fn take_means(sums: &[f32], samples: &mut [u8]) {
        for (sample, ((a, b), c)) in samples.iter_mut().zip(sums.iter().zip(&sums[3..]).zip(&sums[6..])) {
            *sample = level_under_single(((a + b + c) / 9.0).clamp(0.0, 255.0));
        }
    }
}

/// Replaces each sample by a Poisson count with the sample times a factor as its mean.
pub(crate) fn poisson(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let factor = severity.pick([80.0, 60.0, 40.0, 25.0, 15.0]);
    let tables: Vec<AliasTable> =
        (0..256).into_par_iter().map(|level| AliasTable::new(&poisson_chances(unit(level as u8) * factor))).collect();
    // What a count becomes: no count over 255 has a chance worth a draw.
    let levels: [u8; 256] = array::from_fn(|count| level_under((count as f64 / factor).min(1.0) * 255.0));
    with_words(picture, draws, |words, samples| {
        for (sample, &word) in samples.iter_mut().zip(words) {
            *sample = levels[usize::from(tables[usize::from(*sample)].pick(word))];
        }
    })
}

/// A copy of `picture` with its rows changed by `change`, which gets 32 random bits per sample.
fn with_words(picture: &RgbImage, draws: &Draws, change: impl Fn(&[u32], &mut [u8]) + Sync) -> RgbImage {
    let stride = 3 * picture.width() as usize;
    let mut result = picture.clone();
    result.par_chunks_mut(stride).enumerate().for_each_init(
        || vec![0; stride],
        |words, (y, samples)| {
            draws.words(y, words);
            change(words, samples);
        },
    );
    result
}

/// The chances of 0 to 255 counts.
fn poisson_chances(mean: f64) -> [f64; 256] {
    let mut chance = libm::exp(-mean);
    array::from_fn(|count| {
        if count > 0 {
            chance *= mean / count as f64;
        }
        chance
    })
}

/// Draws from 256 outcomes with given chances, at one look at a table (Walker's alias method): the chances are laid out in
/// 256 slots of the same size, with at most two outcomes in each.
struct AliasTable {
    /// Per slot: how much of it belongs to its own outcome, in 24 bits, and the outcome that has the rest, in 8.
    slots: [u32; 256],
}

impl AliasTable {
    fn new(chances: &[f64; 256]) -> Self {
        // What is left of the chances, in slots.
        let mut left = chances.map(|chance| 256.0 * chance);
        let mut slots = array::from_fn(|own| 0xFFFF_FF00 | own as u32);
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..256).partition(|&outcome| left[outcome] < 1.0);
        while let (Some(&own), Some(&other)) = (small.last(), large.last()) {
            small.pop();
            slots[own] = ((left[own] * f64::from(1 << 24)) as u32) << 8 | other as u32;
            left[other] -= 1.0 - left[own];
            if left[other] < 1.0 {
                large.pop();
                small.push(other);
            }
        }
        Self { slots }
    }

    /// The outcome that 32 random bits draw.
    #[inline]
    fn pick(&self, word: u32) -> u8 {
        let own = (word >> 24) as u8;
        let slot = self.slots[usize::from(own)];
        if word & 0x00FF_FFFF < slot >> 8 { own } else { slot as u8 }
    }
}

/// Turns each sample black or white, with even chances, at a given rate: samples, not pixels.
pub(crate) fn impulse(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let rate = severity.pick([0.01, 0.03, 0.05, 0.07, 0.10]) * (1_u64 << 32) as f64;
    let (white, hit) = ((0.5 * rate) as u32, rate as u32);
    with_words(picture, draws, |words, samples| strike(words, white, hit, samples))
}

kernels! {
    /// Turns samples white whose word is under `white`, and others black whose word is under `hit`.
    fn strike(words: &[u32], white: u32, hit: u32, samples: &mut [u8]) {
        for (sample, &word) in samples.iter_mut().zip(words) {
            let struck = if word < white { 255 } else { 0 };
            *sample = if word < hit { struck } else { *sample };
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn poisson_chances_have_the_mean_as_mean_and_variance() {
        for mean in [0.0, 0.3, 7.5, 80.0] {
            let moment = |power| {
                let chances = poisson_chances(mean).into_iter().enumerate();
                chances.map(|(count, chance)| (count as f64).powi(power) * chance).sum::<f64>()
            };
            assert!((moment(0) - 1.0).abs() < 1e-12, "{mean}: {}", moment(0));
            assert!((moment(1) - mean).abs() < 1e-10, "{mean}: {}", moment(1));
            assert!((moment(2) - mean * mean - mean).abs() < 1e-8, "{mean}: {}", moment(2));
        }
    }

    #[test]
    fn an_alias_table_gives_each_outcome_its_chance() {
        for mean in [0.0, 0.3, 7.5, 80.0] {
            let chances = poisson_chances(mean);
            let table = AliasTable::new(&chances);
            let mut given = [0.0; 256];
            for (own, slot) in table.slots.into_iter().enumerate() {
                let share = f64::from(slot >> 8) / f64::from(1 << 24);
                given[own] += share / 256.0;
                given[slot as usize & 255] += (1.0 - share) / 256.0;
            }
            for (outcome, (given, chance)) in given.iter().zip(chances).enumerate() {
                assert!((given - chance).abs() < 1e-7, "{mean}: {outcome} has {given} for {chance}");
            }
        }
    }

    #[test]
    fn noise_on_black_and_white_follows_the_sample() {
        let black = RgbImage::new(64, 64);
        let draws = || Draws::new(&[9; 32]);
        assert_eq!(speckle(&black, Severity::ALL[4], &mut draws()), black);
        assert_eq!(poisson(&black, Severity::ALL[4], &mut draws()), black);
        assert_ne!(gaussian_rgb(&black, Severity::ALL[0], &mut draws()), black);
    }

    #[test]
    fn impulses_hit_samples_at_the_rate_half_of_them_white() {
        let grey = RgbImage::from_pixel(300, 300, Rgb([90; 3]));
        let noisy = impulse(&grey, Severity::ALL[4], &mut Draws::new(&[9; 32]));
        let share = |level| {
            let hits: u32 = noisy.iter().map(|&sample| u32::from(sample == level)).sum();
            f64::from(hits) / noisy.len() as f64
        };
        assert!((share(0) - 0.05).abs() < 0.002, "{}", share(0));
        assert!((share(255) - 0.05).abs() < 0.002, "{}", share(255));
        assert!((share(90) - 0.90).abs() < 0.003, "{}", share(90));
        let touched = noisy.pixels().filter(|pixel| pixel.0 != [90; 3]).count() as f64 / 90_000.0;
        assert!((touched - 0.271).abs() < 0.006, "{touched}");
    }

    #[test]
    fn correlated_noise_is_a_third_as_strong_as_drawn() {
        let grey = RgbImage::from_pixel(300, 300, Rgb([128; 3]));
        let noisy = spatially_correlated(&grey, Severity::ALL[0], &mut Draws::new(&[9; 32]));
        let variance =
            noisy.iter().map(|&sample| (f64::from(sample) - 127.5).powi(2)).sum::<f64>() / noisy.len() as f64;
        assert!((variance.sqrt() / 255.0 - 0.08 / 3.0).abs() < 0.0005, "{}", variance.sqrt());
    }
}
