//! Linear filters with the borders and the order of additions of the libraries that the reference calls.

use crate::levels::UnitImage;

/// What lies beyond the edge of a picture.
#[derive(Clone, Copy)]
pub(crate) enum Border {
    /// The sample at the edge: aaa|abcd|ddd.
    Nearest,
    /// The picture mirrored about the sample at the edge: dcb|abcd|cba.
    Mirrored,
}

impl Border {
    /// The position inside a side of `length` that stands for `position`, at most one side away from it.
    pub(crate) fn index(self, position: i64, length: usize) -> usize {
        let last = length as i64 - 1;
        let inside = match self {
            Self::Nearest => position.clamp(0, last),
            Self::Mirrored => last - (last - position.abs()).abs(),
        };
        inside as usize
    }

    /// Writes a row of RGB pixels with `reach` pixels more on either side into `padded`.
    pub(crate) fn pad<T: Copy>(self, row: &[T], reach: usize, padded: &mut Vec<T>) {
        let width = row.len() / 3;
        let pixel = |position| {
            let at = 3 * self.index(position, width);
            [row[at], row[at + 1], row[at + 2]]
        };
        padded.clear();
        padded.extend((-(reach as i64)..0).flat_map(pixel));
        padded.extend_from_slice(row);
        padded.extend((width as i64..(width + reach) as i64).flat_map(pixel));
    }
}

/// Gaussian blur cut off at four sigma, edges repeated: columns first, then rows, as `scipy.ndimage` adds them up.
pub(crate) fn gaussian(picture: &UnitImage, sigma: f64) -> UnitImage {
    let weights = gaussian_weights(sigma);
    let reach = weights.len() - 1;
    let stride = 3 * picture.width() as usize;
    let height = picture.height() as usize;
    let mut columns = UnitImage::new(picture.width(), picture.height());
    for (y, sums) in columns.chunks_exact_mut(stride).enumerate() {
        let row = |position| {
            let y = Border::Nearest.index(position, height);
            &picture.as_raw()[y * stride..(y + 1) * stride]
        };
        let y = y as i64;
        add_pairs(sums, &weights, row(y), |step| (row(y - step as i64), row(y + step as i64)));
    }
    let mut rows = UnitImage::new(picture.width(), picture.height());
    let mut padded = Vec::with_capacity(stride + 6 * reach);
    for (sums, row) in rows.chunks_exact_mut(stride).zip(columns.as_raw().chunks_exact(stride)) {
        Border::Nearest.pad(row, reach, &mut padded);
        let shifted = |start: usize| &padded[3 * start..3 * start + stride];
        add_pairs(sums, &weights, shifted(reach), |step| (shifted(reach - step), shifted(reach + step)));
    }
    rows
}

/// The weights of a Gaussian at 0, 1, ... up to four sigma; with their mirror images they sum to 1.
fn gaussian_weights(sigma: f64) -> Vec<f64> {
    let reach = (4.0 * sigma + 0.5) as i32;
    let bell = |x: i32| libm::exp(-0.5 / (sigma * sigma) * f64::from(x * x));
    let both_sides: Vec<f64> = (-reach..=reach).map(bell).collect();
    let sum = pairwise_sum(&both_sides);
    both_sides[reach as usize..].iter().map(|weight| weight / sum).collect()
}

/// The sum of up to 128 numbers in `NumPy`'s order.
///
/// Flat areas make it matter: the last bit of a kernel's sum decides whether they keep their level or lose one.
pub(crate) fn pairwise_sum(numbers: &[f64]) -> f64 {
    let eights = numbers.chunks_exact(8);
    let rest = eights.remainder();
    let mut lanes = [0.0; 8];
    for eight in eights {
        for (lane, number) in lanes.iter_mut().zip(eight) {
            *lane += number;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, number| sum + number)
}

/// Sets `sums` to the weighted sum of the `centre` and of the `pair` at each distance, the farthest added first.
fn add_pairs<'a>(sums: &mut [f64], weights: &[f64], centre: &[f64], pair: impl Fn(usize) -> (&'a [f64], &'a [f64])) {
    for (sum, sample) in sums.iter_mut().zip(centre) {
        *sum = sample * weights[0];
    }
    for (step, weight) in weights.iter().enumerate().skip(1).rev() {
        let (before, after) = pair(step);
        for ((sum, a), b) in sums.iter_mut().zip(before).zip(after) {
            *sum += (a + b) * weight;
        }
    }
}

/// The mean over 3x3 pixels, the border mirrored.
pub(crate) fn box3(picture: &UnitImage) -> UnitImage {
    let stride = 3 * picture.width() as usize;
    let height = picture.height() as usize;
    let mut result = UnitImage::new(picture.width(), picture.height());
    let mut column_sums = vec![0.0; stride];
    let mut padded = Vec::with_capacity(stride + 6);
    for (y, means) in result.chunks_exact_mut(stride).enumerate() {
        let y = y as i64;
        let [above, row, below] = [y - 1, y, y + 1].map(|position| {
            let y = Border::Mirrored.index(position, height);
            &picture.as_raw()[y * stride..(y + 1) * stride]
        });
        for (sum, ((a, b), c)) in column_sums.iter_mut().zip(above.iter().zip(row).zip(below)) {
            *sum = a + b + c;
        }
        Border::Mirrored.pad(&column_sums, 1, &mut padded);
        for (mean, ((a, b), c)) in means.iter_mut().zip(padded.iter().zip(&padded[3..]).zip(&padded[6..])) {
            *mean = (a + b + c) / 9.0;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::levels::{truncated, unit};

    #[test]
    fn borders_repeat_or_mirror_the_edge() {
        let row = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3];
        let reds = |border: Border| {
            let mut padded = Vec::new();
            border.pad(&row, 2, &mut padded);
            padded.iter().step_by(3).copied().collect::<Vec<_>>()
        };
        assert_eq!(reds(Border::Nearest), [0, 0, 0, 1, 2, 3, 3, 3]);
        assert_eq!(reds(Border::Mirrored), [2, 1, 0, 1, 2, 3, 2, 1]);
    }

    #[test]
    fn a_gaussian_keeps_the_sum_of_a_point_away_from_edges() {
        let mut point = UnitImage::new(41, 45);
        point.put_pixel(20, 22, image::Rgb([1.0, 0.5, 0.0]));
        let blurred = gaussian(&point, 3.0);
        let sum = |channel: usize| blurred.pixels().map(|pixel| pixel.0[channel]).sum::<f64>();
        assert!((sum(0) - 1.0).abs() < 1e-12);
        assert!((sum(1) - 0.5).abs() < 1e-12);
        assert_eq!(sum(2), 0.0);
        assert_eq!(blurred.get_pixel(14, 22), blurred.get_pixel(26, 22));
        assert_eq!(blurred.get_pixel(7, 22).0[0], 0.0);
        assert!(blurred.get_pixel(8, 22).0[0] > 0.0);
    }

    #[test]
    fn a_flat_area_keeps_or_loses_a_level_as_with_the_reference() {
        // The levels that scipy lost over NumPy's weights; with the sum added up in order, sigma 5 loses 236.
        for (sigma, expected) in [(1.0, 4), (3.0, 7), (4.0, 0), (5.0, 4)] {
            let flat = |level: u8| {
                let picture = UnitImage::from_pixel(32, 32, image::Rgb([unit(level); 3]));
                truncated(gaussian(&picture, sigma).get_pixel(16, 16).0[0])
            };
            let lost = (0..=255).filter(|&level| flat(level) != level).count();
            assert_eq!(lost, expected, "sigma {sigma}");
        }
    }

    #[test]
    fn a_box_takes_the_mean_of_nine() {
        let mut point = UnitImage::new(32, 32);
        point.put_pixel(1, 5, image::Rgb([9.0, 0.0, 0.0]));
        let blurred = box3(&point);
        let reds: Vec<f64> = (0..4).map(|x| blurred.get_pixel(x, 6).0[0]).collect();
        // Seen twice from the first column: once itself and once mirrored.
        assert_eq!(reds, [2.0, 1.0, 1.0, 0.0]);
    }
}
