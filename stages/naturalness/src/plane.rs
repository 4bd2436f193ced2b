//! A picture's luma as numbers, and how it is brought to half its size.

use image::RgbImage;

/// Weights of the four taps on each side of a sample's centre at half size: the cubic kernel (a = -1/2) stretched to 8 pixels,
/// at distances of 0.5 to 3.5 pixels. They add up to 1/2.
const ANTIALIASED: [f64; 4] = [0.433_593_75, 0.113_281_25, -0.035_156_25, -0.011_718_75];

/// How a plane is halved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halving {
    /// MATLAB's `imresize(…, 0.5)`: a cubic kernel of 8 taps, the border mirrored, sizes rounded up.
    Antialiased,
    /// OpenCV's `INTER_CUBIC`: 4 taps (a = -3/4) wherever the sample falls, the border repeated, sizes rounded down.
    Interpolated,
}

/// Numbers in rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plane {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Row by row.
    pub(crate) values: Vec<f64>,
}

impl Plane {
    /// The luma of BT.601, 0..255, rounded as in a picture of 8 bits.
    pub(crate) fn luma(picture: &RgbImage) -> Self {
        let luma = |[r, g, b]: [u8; 3]| {
            let thousandths = 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
            f64::from((thousandths + 500) / 1000)
        };
        let values = picture.as_raw().as_chunks::<3>().0.iter().map(|it| luma(*it)).collect();
        Self { width: picture.width() as usize, height: picture.height() as usize, values }
    }

    /// The part of `width` by `height` at the upper left.
    pub(crate) fn cropped(&self, width: usize, height: usize) -> Self {
        let values = (0..height).flat_map(|y| self.row(y)[..width].iter().copied()).collect();
        Self { width, height, values }
    }

    pub(crate) fn row(&self, y: usize) -> &[f64] {
        &self.values[y * self.width..(y + 1) * self.width]
    }

    /// At half the size.
    pub(crate) fn halved(&self, halving: Halving) -> Self {
        let (columns, rows) = (taps(self.width, halving), taps(self.height, halving));
        let (width, height) = (columns.len(), rows.len());
        let mut values = vec![0.0; width * height];
        let mut mixed = vec![0.0; self.width];
        for (out, taps) in values.chunks_exact_mut(width.max(1)).zip(&rows) {
            mixed.fill(0.0);
            for (y, weight) in taps {
                for (sum, value) in mixed.iter_mut().zip(self.row(*y)) {
                    *sum += weight * value;
                }
            }
            for (value, taps) in out.iter_mut().zip(&columns) {
                *value = taps.iter().map(|(x, weight)| weight * mixed[*x]).sum();
            }
        }
        Self { width, height, values }
    }
}

/// For each sample along a side of `size`, when it is halved: the samples it is mixed from, with their weights.
fn taps(size: usize, halving: Halving) -> Vec<Vec<(usize, f64)>> {
    match halving {
        Halving::Antialiased => {
            let near = |to: usize, step: usize| {
                [(2 * to as i64 - step as i64), (2 * to + 1 + step) as i64]
                    .map(|at| (mirrored(at, size), ANTIALIASED[step]))
            };
            (0..size.div_ceil(2)).map(|to| (0..4).flat_map(|step| near(to, step)).collect()).collect()
        }
        Halving::Interpolated => {
            let count = size / 2;
            let tap = |to: usize| {
                let at = (to as f64 + 0.5) * size as f64 / count as f64 - 0.5;
                let first = at.floor() as i64 - 1;
                let weights = cubic_weights(at - at.floor());
                (first..).zip(weights).map(|(at, weight)| (at.clamp(0, size as i64 - 1) as usize, weight)).collect()
            };
            (0..count).map(tap).collect()
        }
    }
}

/// Where position `at` beside a side of `size` comes to lie when the border is mirrored, its own samples twice.
fn mirrored(at: i64, size: usize) -> usize {
    let size = size as i64;
    let at = at.rem_euclid(2 * size);
    at.min(2 * size - 1 - at) as usize
}

/// The weights of four neighbours for a sample that lies `part` of the way from the second to the third; a = -3/4.
fn cubic_weights(part: f64) -> [f64; 4] {
    const A: f64 = -0.75;
    let outer = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let inner = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let [first, second, third] = [outer(part + 1.0), inner(part), inner(1.0 - part)];
    [first, second, third, 1.0 - first - second - third]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(width: usize, height: usize, value: impl Fn(usize, usize) -> f64) -> Plane {
        let values = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| value(x, y)).collect();
        Plane { width, height, values }
    }

    #[test]
    fn half_of_an_even_plane_stays_even() {
        for halving in [Halving::Antialiased, Halving::Interpolated] {
            let half = plane(13, 6, |_, _| 7.0).halved(halving);
            assert!(half.values.iter().all(|it| (it - 7.0).abs() < 1e-12), "{halving:?}");
        }
    }

    #[test]
    fn a_ramp_is_sampled_between_its_pixels() {
        for halving in [Halving::Antialiased, Halving::Interpolated] {
            let half = plane(32, 32, |x, _| x as f64).halved(halving);
            assert!((half.row(8)[8] - 16.5).abs() < 1e-12, "{halving:?}");
        }
    }

    #[test]
    fn odd_sizes_are_rounded_up_by_one_and_down_by_the_other() {
        let odd = plane(13, 7, |x, y| (x * y) as f64);
        let size = |it: Plane| (it.width, it.height);
        assert_eq!(size(odd.halved(Halving::Antialiased)), (7, 4));
        assert_eq!(size(odd.halved(Halving::Interpolated)), (6, 3));
    }

    #[test]
    fn planes_of_one_pixel_can_be_halved() {
        let one = plane(1, 1, |_, _| 3.0);
        assert_eq!(one.halved(Halving::Antialiased).values, [3.0]);
        assert!(one.halved(Halving::Interpolated).values.is_empty());
    }

    #[test]
    fn luma_is_that_of_bt_601() {
        let picture = RgbImage::from_raw(2, 1, vec![255, 0, 0, 10, 20, 30]).unwrap();
        assert_eq!(Plane::luma(&picture).values, [76.0, 18.0]);
    }
}
