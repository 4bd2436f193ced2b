//! Contrast: samples moved away from or towards a common level.

use image::RgbImage;

use crate::Severity;
use crate::levels::mapped;

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
    let luma = |[red, green, blue]: [u32; 3]| (19_595 * red + 38_470 * green + 7471 * blue + 32_768) >> 16;
    let sum: u64 = picture.pixels().map(|pixel| u64::from(luma(pixel.0.map(u32::from)))).sum();
    let pixels = u64::from(picture.width()) * u64::from(picture.height());
    (sum as f64 / pixels as f64 + 0.5) as u8
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
}
