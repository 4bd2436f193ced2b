//! Blur: each pixel mixed with, or replaced by, pixels around it.

use image::RgbImage;
use rayon::prelude::*;

use crate::Severity;
use crate::cpu::kernels;
use crate::draws::Draws;
use crate::estimates::{ROUNDING, runs, take_levels};
use crate::filter::{Border, pairwise_sum};
use crate::gaussian;
use crate::levels::level_under;
use crate::rows::in_bands;

/// Samples that motion sums up side by side.
const STRIP: usize = 64;

/// Samples in a row of a strip in which disks are summed up: few enough for all rows of a disk to stay in the first cache.
const LENS_STRIP: usize = 512;

/// Gaussian blur cut off at four sigma.
pub(crate) fn gaussian(picture: &RgbImage, severity: Severity) -> RgbImage {
    let sigma = severity.pick([1.0, 2.0, 3.0, 4.0, 5.0]);
    gaussian::blurred(picture, sigma)
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
    let (stride, height) = (3 * picture.width() as usize, picture.height() as usize);
    let reach = steps.iter().map(|(dx, _, _)| dx.unsigned_abs()).max().unwrap_or(0) as usize;
    // Rows with `reach` pixels more on either side; whole strips are read at the end of the last one.
    let padded_stride = stride + 6 * reach;
    let mut padded = vec![0; height * padded_stride + STRIP];
    padded.par_chunks_exact_mut(padded_stride).zip(picture.as_raw().par_chunks_exact(stride)).for_each(
        |(padded, row)| {
            padded[3 * reach..][..stride].copy_from_slice(row);
            Border::Nearest.extend(padded, reach);
        },
    );
    let weights: Vec<f64> = steps.iter().map(|(_, _, weight)| *weight).collect();
    let singles: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
    // One rounding of the weights, and one of each sum: the last copy comes first, so that a weight is part of as many sums
    // as there are copies before it, and one.
    let sums: f64 = weights.iter().zip(1..).map(|(weight, place)| weight * f64::from(place)).sum();
    let error = ((1.0 + sums) * ROUNDING) as f32;
    in_bands(picture, |first, band| {
        let (mut sums, mut doubtful) = (vec![0.0; stride], Vec::new());
        for (y, levels) in (first as i64..).zip(band.chunks_exact_mut(stride)) {
            let copy = |&(dx, dy, _): &(i64, i64, f64)| {
                let start = Border::Nearest.index(y - dy, height) * padded_stride;
                &padded[start + 3 * (reach as i64 - dx) as usize..]
            };
            let copies: Vec<&[u8]> = steps.iter().map(copy).collect();
            add_copies(&copies, &singles, &mut sums);
            take_levels(&sums, error, levels, &mut doubtful);
            for run in runs(&mut doubtful) {
                add_exactly(&copies, &weights, 3 * run.start, &mut levels[3 * run.start..3 * run.end]);
            }
        }
    })
}

kernels! {
    /// Sets `sums` to weighted sums of copies, the last copy added first.
    fn add_copies(copies: &[&[u8]], weights: &[f32], sums: &mut [f32]) {
        for (left, sums) in (0..).step_by(STRIP).zip(sums.chunks_mut(STRIP)) {
            let mut sum = [0.0; STRIP];
            for (copy, &weight) in copies.iter().zip(weights).rev() {
                if let Some(copy) = copy[left..].first_chunk::<STRIP>() {
                    for (sum, &level) in sum.iter_mut().zip(copy) {
                        *sum = f32::from(level).mul_add(weight, *sum);
                    }
                }
            }
            if let Some(sums) = sums.first_chunk_mut::<STRIP>() {
                *sums = sum;
            } else {
                sums.copy_from_slice(&sum[..sums.len()]);
            }
        }
    }

    /// Sets levels to those of the weighted sums of copies from `left` on, in double precision, the first copy added first.
    fn add_exactly(copies: &[&[u8]], weights: &[f64], left: usize, levels: &mut [u8]) {
        for (left, levels) in (left..).step_by(STRIP).zip(levels.chunks_mut(STRIP)) {
            let mut sum = [0.0; STRIP];
            for (copy, weight) in copies.iter().zip(weights) {
                for (sum, &level) in sum.iter_mut().zip(&copy[left..]) {
                    *sum += weight * f64::from(level);
                }
            }
            for (level, sum) in levels.iter_mut().zip(sum) {
                *level = level_under(sum.clamp(0.0, 255.0));
            }
        }
    }
}

/// The mean over a disk, the border mirrored.
pub(crate) fn lens(picture: &RgbImage, severity: Severity) -> RgbImage {
    let radius: usize = severity.pick([2, 3, 4, 6, 8]);
    // How far the disk reaches to either side, on each of its rows.
    let rows = -(radius as i64)..=radius as i64;
    let halves: Vec<usize> = rows.map(|y| (radius * radius - (y * y) as usize).isqrt()).collect();
    let taps: usize = halves.iter().map(|half| 2 * half + 1).sum();
    // The reference's weights are single floats: some of them fall short of 1 in sum, and flat areas lose a level.
    let weight = f64::from(1.0 / taps as f32);
    let stride = 3 * picture.width() as usize;
    in_bands(picture, |first, band| {
        let rows = band.len() / stride;
        let sums: Vec<Vec<u16>> = (0..rows + 2 * radius)
            .map(|i| {
                let y = Border::Mirrored.index((first + i) as i64 - radius as i64, picture.height() as usize);
                running_sums(&picture.as_raw()[y * stride..(y + 1) * stride], radius)
            })
            .collect();
        for left in (0..stride).step_by(LENS_STRIP) {
            let right = stride.min(left + LENS_STRIP);
            for (i, samples) in band.chunks_exact_mut(stride).enumerate() {
                let mut disks = [0; LENS_STRIP];
                for (sums, half) in sums[i..].iter().zip(&halves) {
                    let before = &sums[3 * (radius - half) + left..];
                    let after = &sums[3 * (radius + half + 1) + left..];
                    add_spans(before, after, &mut disks[..right - left]);
                }
                take_means(&disks, weight, &mut samples[left..right]);
            }
        }
    })
}

/// The sums of a row's samples before each position, channel by channel, the row extended by `reach` mirrored pixels.
/// They wrap around; the largest disk's sum, 197 times 255, does not, so that differences of them are right.
fn running_sums(row: &[u8], reach: usize) -> Vec<u16> {
    let mut padded = vec![0; row.len() + 6 * reach];
    padded[3 * reach..][..row.len()].copy_from_slice(row);
    Border::Mirrored.extend(&mut padded, reach);
    let mut sums = vec![0; padded.len() + 3];
    let mut running = [0_u16; 3];
    for (sums, pixel) in sums[3..].as_chunks_mut::<3>().0.iter_mut().zip(padded.as_chunks::<3>().0) {
        for (running, &level) in running.iter_mut().zip(pixel) {
            *running = running.wrapping_add(u16::from(level));
        }
        *sums = running;
    }
    sums
}

kernels! {
    /// Adds to each disk the span between two running sums.
    fn add_spans(before: &[u16], after: &[u16], disks: &mut [u16]) {
        for ((disk, &before), &after) in disks.iter_mut().zip(before).zip(after) {
            *disk = disk.wrapping_add(after.wrapping_sub(before));
        }
    }

    /// Sets samples to sums times `weight`.
    fn take_means(sums: &[u16], weight: f64, samples: &mut [u8]) {
        for (sample, &sum) in samples.iter_mut().zip(sums) {
            *sample = level_under(f64::from(sum) * weight);
        }
    }
}

/// Gaussian blur, pixels shuffled, and the same blur again.
pub(crate) fn glass(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let (sigma, shift, rounds) = severity.pick([(0.7, 1, 1), (0.9, 2, 1), (1.2, 2, 2), (1.4, 3, 2), (1.6, 4, 2)]);
    let mut blurred = gaussian::finely_blurred(picture, sigma);
    for _ in 0..rounds {
        shuffle(blurred.as_chunks_mut().0, picture.width(), shift, draws);
    }
    gaussian::blurred_levels(&blurred, sigma)
}

/// Pixels shuffled.
pub(crate) fn jitter(picture: &RgbImage, severity: Severity, draws: &mut Draws) -> RgbImage {
    let mut result = picture.clone();
    shuffle(result.as_chunks_mut().0, picture.width(), severity.pick([1, 2, 3, 4, 5]), draws);
    result
}

/// Replaces each pixel by one up to `shift` away, drawn uniformly, from the last row and column backwards; rows are
/// `width` pixels long. The order matters, so this is the work of one thread.
///
/// The reference means to swap the two but copies, so pixels are lost: of a picture of all-different pixels 68, 51, 47, 46
/// and 45 % are left at shifts of 1 to 5.
fn shuffle<T: Copy>(pixels: &mut [[T; 3]], width: u32, shift: u32, draws: &mut Draws) {
    let width = i64::from(width);
    let height = pixels.len() as i64 / width;
    let near = i64::from(shift);
    for y in (near + 1..=height - near).rev() {
        for x in (near + 1..=width - near).rev() {
            let (dx, dy) = draws.steps(shift);
            pixels[(y * width + x) as usize] = pixels[((y + dy) * width + x + dx) as usize];
        }
    }
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
