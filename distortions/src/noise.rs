//! Noise: samples changed at random.

use image::RgbImage;

use crate::draws::Draws;
use crate::levels::{UnitImage, truncate, truncated, unit, units};
use crate::{Severity, filter, ycrcb};

/// Adds normal noise to each sample.
pub(crate) fn gaussian_rgb(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let sigma = severity.pick([0.05, 0.1, 0.15, 0.2, 0.25]);
    each_sample(picture, |level| truncated(unit(level) + sigma * draws.normal()))
}

/// Adds normal noise in `YCrCb`, up to 2.8 times stronger in chroma.
pub(crate) fn gaussian_ycrcb(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let luma_sigma = severity.pick([0.05, 0.06, 0.07, 0.08, 0.09]);
    let chroma_sigma = luma_sigma * severity.pick([1.0, 1.45, 1.9, 2.35, 2.8]);
    let mut result = picture.clone();
    for pixel in result.pixels_mut() {
        let mut noisy = ycrcb::from_units(pixel.0.map(|level| unit(level) as f32));
        for (sample, sigma) in noisy.iter_mut().zip([luma_sigma, chroma_sigma, chroma_sigma]) {
            *sample = (f64::from(*sample) + sigma * draws.normal()) as f32;
        }
        pixel.0 = ycrcb::to_units(noisy).map(|sample| truncated(f64::from(sample)));
    }
    result
}

/// Adds normal noise in proportion to each sample.
pub(crate) fn speckle(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let scale = severity.pick([0.14, 0.21, 0.28, 0.35, 0.42]);
    each_sample(picture, |level| truncated(unit(level) * (1.0 + scale * draws.normal())))
}

/// Adds normal noise, unclipped, and takes the mean over 3x3 pixels of picture and noise.
pub(crate) fn spatially_correlated(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let sigma = severity.pick([0.08, 0.11, 0.14, 0.18, 0.22]);
    let mut noisy: UnitImage = units(picture);
    for sample in noisy.iter_mut() {
        *sample += sigma * draws.normal();
    }
    truncate(&filter::box3(&noisy))
}

/// Replaces each sample by a Poisson count with the sample times a factor as its mean.
pub(crate) fn poisson(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let factor = severity.pick([80.0, 60.0, 40.0, 25.0, 15.0]);
    let tables: Vec<Vec<f64>> = (0..=255).map(|level| poisson_table(unit(level) * factor)).collect();
    each_sample(picture, |level| {
        let draw = draws.uniform();
        let count = tables[usize::from(level)].partition_point(|&cumulated| cumulated <= draw);
        truncated(count as f64 / factor)
    })
}

/// The probabilities of at most 0, 1, ... counts, up to where they no longer grow.
fn poisson_table(mean: f64) -> Vec<f64> {
    let mut probability = libm::exp(-mean);
    let mut cumulated = probability;
    let mut table = vec![cumulated];
    // Past the mean, a term too small to be added is followed by smaller ones.
    while (table.len() as f64) <= mean || cumulated + probability > cumulated {
        probability *= mean / table.len() as f64;
        cumulated += probability;
        table.push(cumulated);
    }
    table
}

/// Turns each sample black or white, with even chances, at a given rate: samples, not pixels.
pub(crate) fn impulse(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let rate = severity.pick([0.01, 0.03, 0.05, 0.07, 0.10]);
    each_sample(picture, |level| {
        let draw = draws.uniform();
        if draw >= rate {
            level
        } else if draw < 0.5 * rate {
            255
        } else {
            0
        }
    })
}

/// A picture with each sample replaced by what `f` makes of it, in order.
fn each_sample(picture: &RgbImage, mut f: impl FnMut(u8) -> u8) -> RgbImage {
    let mut result = picture.clone();
    for sample in result.iter_mut() {
        *sample = f(*sample);
    }
    result
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn poisson_tables_have_the_mean_as_mean_and_variance() {
        for mean in [0.0, 0.3, 7.5, 80.0] {
            let table = poisson_table(mean);
            let mut before = 0.0;
            let (mut first, mut second) = (0.0, 0.0);
            for (count, &cumulated) in table.iter().enumerate() {
                let (count, probability) = (count as f64, cumulated - before);
                first += count * probability;
                second += count * count * probability;
                before = cumulated;
            }
            assert!((before - 1.0).abs() < 1e-12, "{mean}: {before}");
            assert!((first - mean).abs() < 1e-10, "{mean}: {first}");
            assert!((second - first * first - mean).abs() < 1e-8, "{mean}: {second}");
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
