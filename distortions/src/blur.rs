//! Blur: each pixel mixed with, or replaced by, pixels around it.

use image::RgbImage;

use crate::Severity;
use crate::draws::Draws;
use crate::filter::{self, Border, pairwise_sum};
use crate::levels::{truncate, units};

/// Gaussian blur cut off at four sigma.
pub(crate) fn gaussian(picture: &RgbImage, severity: Severity) -> RgbImage {
    let sigma = severity.pick([1.0, 2.0, 3.0, 4.0, 5.0]);
    truncate(&filter::gaussian(&units(picture), sigma))
}

/// Half a Gaussian laid along the direction `angle`, in degrees, by whole pixels; the edges are repeated.
///
/// The sum stops at the first step longer than the picture, which darkens pictures with a side under 41 pixels: so does
/// the reference.
pub(crate) fn motion(picture: &RgbImage, severity: Severity, angle: f64) -> RgbImage {
    let (radius, sigma) = severity.pick([(5, 3.0), (10, 5.0), (15, 7.0), (15, 9.0), (20, 12.0)]);
    let taps = 2 * radius + 1;
    let bell: Vec<f64> = (0..taps).map(|i| libm::exp(-f64::from(i * i) / (2.0 * sigma * sigma))).collect();
    let sum = pairwise_sum(&bell);
    let direction = angle.to_radians();
    let length = f64::from(taps);
    let (down, right) = (length * libm::sin(direction), length * libm::cos(direction));
    let norm = libm::hypot(down, right);
    let step = |i: i32, along: f64| -((f64::from(i) * along / norm - 0.5).ceil() as i64);
    let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
    let steps: Vec<(i64, i64, f64)> = (0..taps)
        .zip(bell)
        .map(|(i, weight)| (step(i, right), step(i, down), weight / sum))
        .take_while(|(dx, dy, _)| dx.abs() < width && dy.abs() < height)
        .collect();
    mixed_along(picture, &steps)
}

/// The weighted sum of copies of the picture moved by (dx, dy) pixels, edges repeated; truncated.
fn mixed_along(picture: &RgbImage, steps: &[(i64, i64, f64)]) -> RgbImage {
    let stride = 3 * picture.width() as usize;
    let height = picture.height() as usize;
    let reach = steps.iter().map(|(dx, _, _)| dx.unsigned_abs()).max().unwrap_or(0) as usize;
    let mut padded_rows = Vec::with_capacity(height);
    for row in picture.as_raw().chunks_exact(stride) {
        let mut padded = Vec::with_capacity(stride + 6 * reach);
        Border::Nearest.pad(row, reach, &mut padded);
        padded_rows.push(padded);
    }
    let mut result = RgbImage::new(picture.width(), picture.height());
    let mut sums = vec![0.0; stride];
    for (y, samples) in result.chunks_exact_mut(stride).enumerate() {
        sums.fill(0.0);
        for &(dx, dy, weight) in steps {
            let row = &padded_rows[Border::Nearest.index(y as i64 - dy, height)];
            let start = 3 * (reach as i64 - dx) as usize;
            for (sum, &level) in sums.iter_mut().zip(&row[start..]) {
                *sum += weight * f64::from(level);
            }
        }
        for (sample, sum) in samples.iter_mut().zip(&sums) {
            *sample = sum.clamp(0.0, 255.0) as u8;
        }
    }
    result
}

/// The mean over a disk, the border mirrored.
pub(crate) fn lens(picture: &RgbImage, severity: Severity) -> RgbImage {
    let radius: usize = severity.pick([2, 3, 4, 6, 8]);
    // How far the disk reaches to either side, on its middle row and on each row away from it.
    let halves: Vec<usize> = (0..=radius).map(|y| (radius * radius - y * y).isqrt()).collect();
    let taps: usize = halves.iter().map(|half| 2 * half + 1).sum::<usize>() * 2 - (2 * halves[0] + 1);
    // The reference's weights are single floats: some of them fall short of 1 in sum, and flat areas lose a level.
    let weight = f64::from(1.0 / taps as f32);

    let stride = 3 * picture.width() as usize;
    let height = picture.height() as usize;
    let sums_per_row = running_sums(picture, radius);
    let mut result = RgbImage::new(picture.width(), picture.height());
    let mut disks = vec![0_u32; stride];
    for (y, samples) in result.chunks_exact_mut(stride).enumerate() {
        disks.fill(0);
        for dy in -(radius as i64)..=radius as i64 {
            let half = halves[dy.unsigned_abs() as usize];
            let sums = &sums_per_row[Border::Mirrored.index(y as i64 + dy, height)];
            let before = &sums[3 * (radius - half)..];
            let after = &sums[3 * (radius + half + 1)..];
            for ((disk, before), after) in disks.iter_mut().zip(before).zip(after) {
                *disk += after - before;
            }
        }
        for (sample, &disk) in samples.iter_mut().zip(&disks) {
            *sample = (f64::from(disk) * weight) as u8;
        }
    }
    result
}

/// For each row, padded by `reach` mirrored pixels, the sums of the samples before each position, channel by channel.
fn running_sums(picture: &RgbImage, reach: usize) -> Vec<Vec<u32>> {
    let stride = 3 * picture.width() as usize;
    let mut padded = Vec::with_capacity(stride + 6 * reach);
    let row_sums = |row| {
        Border::Mirrored.pad(row, reach, &mut padded);
        let mut sums = Vec::with_capacity(padded.len() + 3);
        sums.extend([0; 3]);
        let mut running = [0_u32; 3];
        for pixel in padded.chunks_exact(3) {
            for (sum, &level) in running.iter_mut().zip(pixel) {
                *sum += u32::from(level);
            }
            sums.extend(running);
        }
        sums
    };
    picture.as_raw().chunks_exact(stride).map(row_sums).collect()
}

/// Each pixel replaced by one nearby, drawn uniformly, from the last row and column backwards.
///
/// The reference means to swap the two but copies, so pixels are lost: of a picture of all-different pixels 68, 51, 47, 46
/// and 45 % are left at severities 1 to 5.
pub(crate) fn jitter(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let shift = severity.pick([1, 2, 3, 4, 5]);
    let width = i64::from(picture.width());
    let near = i64::from(shift);
    let mut result = picture.clone();
    for y in (near + 1..=i64::from(picture.height()) - near).rev() {
        for x in (near + 1..=width - near).rev() {
            let (dx, dy) = draws.steps(shift);
            let from = 3 * ((y + dy) * width + x + dx) as usize;
            let to = 3 * (y * width + x) as usize;
            result.copy_within(from..from + 3, to);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use image::Rgb;

    use super::*;

    #[test]
    fn jitter_leaves_the_share_of_pixels_that_the_reference_leaves() {
        let different = RgbImage::from_fn(256, 256, |x, y| Rgb([x as u8, y as u8, 0]));
        for (severity, expected) in Severity::ALL.into_iter().zip([0.684, 0.514, 0.472, 0.456, 0.450]) {
            let jittered = jitter(&different, severity, &mut Draws::new(&[5; 32]));
            let left = jittered.pixels().map(|pixel| pixel.0).collect::<HashSet<_>>().len();
            let share = left as f64 / (256.0 * 256.0);
            // The untouched frame, up to 4 % of this picture, keeps all of its pixels.
            assert!((share - expected).abs() < 0.025, "severity {severity}: {share} left, expected {expected}");
        }
    }

    #[test]
    fn jitter_leaves_the_first_rows_and_columns_alone() {
        let different = RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8, y as u8, 0]));
        let jittered = jitter(&different, Severity::ALL[1], &mut Draws::new(&[5; 32]));
        for (x, y, pixel) in jittered.enumerate_pixels() {
            assert!(x > 2 && y > 2 || pixel == different.get_pixel(x, y), "{x}, {y}");
        }
    }

    #[test]
    fn motion_at_zero_degrees_smears_along_the_row() {
        let mut point = RgbImage::new(64, 64);
        point.put_pixel(30, 30, Rgb([255; 3]));
        let smeared = motion(&point, Severity::ALL[0], 0.0);
        let lit: Vec<(u32, u32)> =
            smeared.enumerate_pixels().filter(|(_, _, p)| p.0[0] > 0).map(|(x, y, _)| (x, y)).collect();
        assert!(lit.iter().all(|&(x, y)| y == 30 && (20..=30).contains(&x)), "{lit:?}");
        // 1 over the sum of exp(-i^2/18), i = 0 to 10, is 0.2346.
        assert_eq!(smeared.get_pixel(30, 30).0[0], 59);
    }

    #[test]
    fn motion_past_the_edge_darkens_a_small_picture() {
        let flat = RgbImage::from_pixel(32, 64, Rgb([200; 3]));
        assert!(motion(&flat, Severity::ALL[4], 0.0).pixels().all(|pixel| pixel.0[0] < 199));
        assert!(motion(&flat, Severity::ALL[4], 90.0).pixels().all(|pixel| pixel.0[0] >= 199));
    }

    #[test]
    fn a_lens_spreads_a_point_over_a_disk() {
        let mut point = RgbImage::new(64, 64);
        point.put_pixel(30, 30, Rgb([255; 3]));
        for (severity, taps) in Severity::ALL.into_iter().zip([13_u32, 29, 49, 113, 197]) {
            let disk = lens(&point, severity);
            let lit = disk.pixels().filter(|pixel| pixel.0[0] > 0).count();
            assert_eq!(lit, taps as usize);
            assert!(u32::from(disk.get_pixel(30, 30).0[0]).abs_diff(255 / taps) <= 1);
        }
    }
}
