//! Contrast: samples moved away from or towards a common level.

use std::array;

use image::RgbImage;
use rayon::prelude::*;

use crate::Severity;
use crate::cpu::kernels;
use crate::levels::{PIXELS, mapped, mapped_by_channel, truncated, unit};

/// Moves samples away from the mean luma.
pub(crate) fn strengthen_scale(picture: &RgbImage, severity: Severity) -> RgbImage {
    scaled(picture, severity.pick([1.4, 1.7, 2.1, 2.6, 4.0]))
}

/// Moves samples towards the mean luma.
pub(crate) fn weaken_scale(picture: &RgbImage, severity: Severity) -> RgbImage {
    scaled(picture, severity.pick([0.75, 0.6, 0.45, 0.3, 0.2]))
}

/// Scales the distance to the mean luma, as Pillow's `ImageEnhance.Contrast` does.
fn scaled(picture: &RgbImage, factor: f32) -> RgbImage {
    let mean = f32::from(mean_luma(picture));
    mapped(picture, |level| (mean + factor * (f32::from(level) - mean)).clamp(0.0, 255.0) as u8)
}

/// The mean of the pixels' luma, both rounded half up.
fn mean_luma(picture: &RgbImage) -> u8 {
    let sum = |pixels: &[u8]| {
        let mut sum = 0;
        add_luma(pixels, &mut sum);
        u64::from(sum)
    };
    let sum: u64 = picture.as_raw().par_chunks(3 * PIXELS).map(sum).sum();
    let pixels = u64::from(picture.width()) * u64::from(picture.height());
    (sum as f64 / pixels as f64 + 0.5) as u8
}

kernels! {
    /// Adds the pixels' luma, each rounded half up, to `sum`; up to 2^24 pixels at a time.
    fn add_luma(pixels: &[u8], sum: &mut u32) {
        for pixel in pixels.as_chunks::<3>().0 {
            let [red, green, blue] = pixel.map(u32::from);
            *sum += (19_595 * red + 38_470 * green + 7471 * blue + 32_768) >> 16;
        }
    }
}

/// Pushes samples apart along a curve that is steepest near the channel's mean.
pub(crate) fn strengthen_stretch(picture: &RgbImage, severity: Severity) -> RgbImage {
    stretched(picture, severity.pick([2.0, 4.0, 6.0, 8.0, 10.0]))
}

/// Pulls samples towards the middle along the same curve; strong from the first severity on.
pub(crate) fn weaken_stretch(picture: &RgbImage, severity: Severity) -> RgbImage {
    stretched(picture, severity.pick([1.0, 0.9, 0.8, 0.6, 0.4]))
}

/// Puts each sample x on 1 / (1 + (mean / x)^steepness), the mean taken by channel.
///
/// A channel that is black all over becomes white, as in the reference: its mean is 0.
fn stretched(picture: &RgbImage, steepness: f64) -> RgbImage {
    let curve = |mean: f64, level| {
        let ratio = mean / (unit(level) + 1e-12);
        truncated(1.0 / (1.0 + libm::pow(ratio, steepness)))
    };
    mapped_by_channel(picture, &means(picture).map(|mean| array::from_fn(|level| curve(mean, level as u8))))
}

/// The means of the channels, with white at 1, added up pixel by pixel as `NumPy` does: the last bits decide about a level
/// where the curve meets one, as it does in pictures of few levels.
fn means(picture: &RgbImage) -> [f64; 3] {
    let units: [f64; 256] = array::from_fn(|level| unit(level as u8));
    let mut sums = [0.0; 3];
    for pixel in picture.as_raw().as_chunks::<3>().0 {
        for (sum, &level) in sums.iter_mut().zip(pixel) {
            *sum += units[usize::from(level)];
        }
    }
    sums.map(|sum| sum / (f64::from(picture.width()) * f64::from(picture.height())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_luma_is_the_fixed_point() {
        let picture = RgbImage::from_fn(32, 32, |x, _| image::Rgb([if x < 16 { 50 } else { 101 }; 3]));
        assert_eq!(mean_luma(&picture), 76);
        let weak = weaken_scale(&picture, Severity::ALL[4]);
        // 76 + 0.2 * (50 - 76) = 70.8 and 76 + 0.2 * (101 - 76) = 81, truncated.
        assert_eq!((weak.get_pixel(0, 0).0[0], weak.get_pixel(31, 0).0[0]), (70, 81));
    }
    #[test]
    fn the_mean_of_a_channel_is_put_in_the_middle() {
        let picture = RgbImage::from_fn(40, 40, |x, _| image::Rgb([if x % 2 == 0 { 60 } else { 140 }, 100, 0]));
        for stretched in Severity::ALL.map(|severity| strengthen_stretch(&picture, severity)) {
            assert_eq!(stretched.get_pixel(0, 0).0[1], 127);
        }
        // 255 / (1 + (100 / 60)^2) = 67.5 and 255 / (1 + (100 / 140)^2) = 168.8.
        let mild = strengthen_stretch(&picture, Severity::ALL[0]);
        assert_eq!((mild.get_pixel(0, 0).0[0], mild.get_pixel(1, 0).0[0]), (67, 168));
    }

    #[test]
    fn a_black_channel_is_stretched_to_white() {
        let black = RgbImage::new(32, 32);
        for severity in Severity::ALL {
            assert!(strengthen_stretch(&black, severity).iter().all(|&level| level == 255));
            assert!(weaken_stretch(&black, severity).iter().all(|&level| level == 255));
        }
    }
}
