//! Filters against those of `imageproc`: the same kernels, written down here from the types' descriptions, on another
//! implementation of the sums and the borders.

use evoq_distortions::{Distortion, Severity, distort};
use image::{ImageBuffer, Rgb, RgbImage};
use imageproc::filter::{filter, gaussian_blur_f32, separable_filter_equal};
use imageproc::kernel::Kernel;

/// Slopes, an edge and fine texture.
fn picture() -> RgbImage {
    RgbImage::from_fn(73, 58, |x, y| {
        let texture = (x * x * 7 + y * y * 11 + x * y * 13) % 61;
        Rgb([x * 2 + texture, if x + y > 60 { 220 } else { 35 }, 255 - y * 3 - texture].map(|level| level as u8))
    })
}

fn distorted(distortion: Distortion, severity: usize) -> RgbImage {
    distort(&picture(), distortion, Severity::ALL[severity - 1], &[0; 32], None).unwrap()
}

/// The largest difference of two pictures in levels, `margin` pixels at the edges left out.
fn furthest(one: &RgbImage, other: &RgbImage, margin: u32) -> u8 {
    assert_eq!(one.dimensions(), other.dimensions());
    let (width, height) = one.dimensions();
    let inside = |x, y| x >= margin && y >= margin && x + margin < width && y + margin < height;
    let pixels = one.enumerate_pixels().filter(|&(x, y, _)| inside(x, y));
    let off = pixels.flat_map(|(x, y, ours)| {
        let theirs = other.get_pixel(x, y);
        (0..3).map(move |channel| ours.0[channel].abs_diff(theirs.0[channel]))
    });
    off.max().unwrap()
}

/// The picture in floats between 0 and 255, for sums that are not cut to levels between the two axes.
fn floats(picture: &RgbImage) -> ImageBuffer<Rgb<f32>, Vec<f32>> {
    ImageBuffer::from_fn(picture.width(), picture.height(), |x, y| Rgb(picture.get_pixel(x, y).0.map(f32::from)))
}

#[test]
fn gaussian_blur_is_a_peers_over_the_same_kernel() {
    for (severity, sigma) in (1..).zip([1.0_f32, 2.0, 3.0, 4.0, 5.0]) {
        let reach = (4.0 * sigma).round() as i32;
        let bell: Vec<f32> = (-reach..=reach).map(|x| (-0.5 * (x as f32 / sigma).powi(2)).exp()).collect();
        let sum: f32 = bell.iter().sum();
        let kernel: Vec<f32> = bell.iter().map(|weight| weight / sum).collect();
        let theirs = separable_filter_equal(&floats(&picture()), &kernel);
        let theirs = RgbImage::from_fn(73, 58, |x, y| Rgb(theirs.get_pixel(x, y).0.map(|level| level as u8)));
        // Both truncate, of sums that differ in the last bits: one level where a sum is all but whole.
        let off = furthest(&distorted(Distortion::BlurGaussian, severity), &theirs, 0);
        assert!(off <= 1, "severity {severity}: {off} levels");
    }
}

#[test]
fn gaussian_blur_is_near_a_peers_of_the_same_sigma() {
    for (severity, sigma) in (1..).zip([1.0, 2.0, 3.0, 4.0, 5.0]) {
        // The peer cuts its bell off at two sigma, where 4.6 % of it are left, half of them on one side of the edge of
        // 185 levels; and it truncates twice.
        let off = furthest(&distorted(Distortion::BlurGaussian, severity), &gaussian_blur_f32(&picture(), sigma), 0);
        assert!(off <= 6, "severity {severity}: {off} levels");
    }
}

#[test]
fn lens_blur_is_a_peers_mean_over_a_disk() {
    for (severity, radius) in (1..).zip([2_i32, 3, 4, 6, 8]) {
        let side = 2 * radius + 1;
        let within = |i: i32| (i % side - radius).pow(2) + (i / side - radius).pow(2) <= radius * radius;
        let disk: Vec<f64> = (0..side * side).map(|i| f64::from(u8::from(within(i)))).collect();
        let pixels: f64 = disk.iter().sum();
        let kernel = Kernel::new(&disk, side as u32, side as u32);
        let theirs: RgbImage = filter(&picture(), kernel, |sum: f64| (sum / pixels) as u8);
        // Inside alone, for the peer repeats the edge and the reference mirrors it. One level where a mean is whole.
        let off = furthest(&distorted(Distortion::BlurLens, severity), &theirs, radius as u32);
        assert!(off <= 1, "severity {severity}: {off} levels");
    }
}

#[test]
fn oversharpening_is_unsharp_masking_with_a_peers_binomial_blur() {
    let row = [1_u32, 4, 6, 4, 1];
    let square: Vec<u32> = row.iter().flat_map(|a| row.map(|b| a * b)).collect();
    let blurred: RgbImage = filter(&picture(), Kernel::new(&square, 5, 5), |sum: u32| ((sum + 128) / 256) as u8);
    for (severity, amount) in (1..).zip([2.0, 2.8, 4.0, 6.0, 8.0]) {
        let sharp = |original: u8, blurred: u8| {
            let level = f64::from(original) + amount * (f64::from(original) - f64::from(blurred));
            level.round().clamp(0.0, 255.0) as u8
        };
        let theirs = RgbImage::from_fn(73, 58, |x, y| {
            let (original, blurred) = (picture().get_pixel(x, y).0, blurred.get_pixel(x, y).0);
            Rgb([0, 1, 2].map(|channel| sharp(original[channel], blurred[channel])))
        });
        let off = furthest(&distorted(Distortion::Oversharpen, severity), &theirs, 2);
        assert!(off == 0, "severity {severity}: {off} levels");
    }
}
