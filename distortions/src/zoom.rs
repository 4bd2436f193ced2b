//! Zoom blur: the picture mixed with enlarged copies of its middle.

//!
//! Single floats say which level a sample falls to, but where they come too near to the next one; there the sums are those
//! of `SciPy` and `NumPy`, in their precision and order.

use std::array;

use image::RgbImage;

use crate::Severity;
use crate::cpu::kernels;
use crate::estimates::{ROUNDING, take_levels};
use crate::levels::{level_under_single, unit_single};
use crate::rows::in_bands;

/// Samples that are summed up side by side.
const LANES: usize = 16;

/// Samples in doubt from which on a whole row is done again: faster than so many one by one.
const MANY: usize = 128;

/// The mean of the picture, counted twice, and of copies of its middle, each enlarged by 2 % more and laid at the top
/// left.
///
/// The reference means to centre the copies, but cuts what they have over at the bottom and on the right.
pub(crate) fn zoom(picture: &RgbImage, severity: Severity) -> RgbImage {
    let copies = severity.pick([1, 3, 5, 7, 10]);
    // NumPy takes its steps from the first two factors, and the second is rounded.
    let step = (1.0 + 0.02) - 1.0;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let copies: Vec<Copy> = (1..=copies).map(|copy| Copy::new(width, height, 1.0 + f64::from(copy) * step)).collect();
    let count = (copies.len() + 2) as f32;
    // Six roundings of weights and samples here and four there, one of each sum here and half of one there, and two there of
    // the mean: no more than so many.
    let error = ((12.0 + 2.0 * f64::from(count)) * ROUNDING) as f32;
    let stride = 3 * width;

    in_bands(picture, |first, band| {
        let [mut mixed, mut sums] = [(); 2].map(|()| vec![0.0; stride + 2 * LANES]);
        let mut doubtful = Vec::new();
        for (y, new) in (first..).zip(band.chunks_exact_mut(stride)) {
            start(row(picture, y), 2.0 / count, &mut sums);
            for copy in &copies {
                let Tap { source, weights } = &copy.rows[y];
                let [upper, lower] = [row(picture, *source), row(picture, source + 1)];
                mix(upper, lower, weights.map(|weight| weight as f32 / count), &mut mixed);
                add_stretched(&copy.runs, &mixed, &mut sums);
            }
            take_levels(&sums[..stride], error, new, &mut doubtful);
            if doubtful.len() > MANY {
                exact_row(picture, &copies, y, new);
            } else {
                for &i in &doubtful {
                    new[i] = exact(picture, &copies, y, i);
                }
            }
            doubtful.clear();
        }
    })
}

fn row(picture: &RgbImage, y: usize) -> &[u8] {
    let stride = 3 * picture.width() as usize;
    &picture.as_raw()[y * stride..(y + 1) * stride]
}

/// The middle of a picture, enlarged.
struct Copy {
    rows: Vec<Tap>,
    columns: Vec<Tap>,
    /// The columns once more, laid out for whole runs of samples.
    runs: Vec<Run>,
}

/// Where a position of an enlarged copy lies: between the position `source` of the picture and the next one.
struct Tap {
    source: usize,
    weights: [f64; 2],
}

/// Samples whose sources follow one another as they do.
struct Run {
    first: usize,
    source: usize,
    /// The weights of the samples at the sources, and of those a pixel on; filled up with 0.
    weights: Vec<[[f32; LANES]; 2]>,
}

impl Copy {
    fn new(width: usize, height: usize, factor: f64) -> Self {
        let columns = taps(width, factor);
        let mut first = 0;
        let run = |taps: &[Tap]| {
            let samples: Vec<[f64; 2]> = taps.iter().flat_map(|tap| [tap.weights; 3]).collect();
            let lanes = |samples: &[[f64; 2]]| {
                let weight = |side: usize, lane: usize| samples.get(lane).map_or(0.0, |weights| weights[side] as f32);
                [0, 1].map(|side| array::from_fn(|lane| weight(side, lane)))
            };
            first += samples.len();
            let weights = samples.chunks(LANES).map(lanes).collect();
            Run { first: first - samples.len(), source: 3 * taps[0].source, weights }
        };
        let runs = columns.chunk_by(|tap, next| tap.source + 1 == next.source).map(run).collect();
        Self { rows: taps(height, factor), columns, runs }
    }
}

/// The taps along a side for the first `length` positions of its middle enlarged, the ends laid on the ends.
fn taps(length: usize, factor: f64) -> Vec<Tap> {
    let cut = (length as f64 / factor).ceil();
    let start = (length - cut as usize) / 2;
    let enlarged = (cut * factor).round_ties_even();
    let ratio = (cut - 1.0) / (enlarged - 1.0);
    let tap = |position| {
        let at = position as f64 * ratio;
        let source = start + at as usize;
        let weight = at - at.floor();
        // A last position that rounding puts past the end counts as outside, and is black.
        let weights = if at > cut - 1.0 { [0.0; 2] } else { [1.0 - weight, weight] };
        Tap { source, weights }
    };
    (0..length).map(tap).collect()
}

/// One sample of row `y`.
fn exact(picture: &RgbImage, copies: &[Copy], y: usize, sample: usize) -> u8 {
    let (x, channel) = (sample / 3, sample % 3);
    let level = row(picture, y)[sample];
    let mut sum = unit_single(level);
    for copy in copies {
        let (tap, column) = (&copy.rows[y], &copy.columns[x]);
        let at = 3 * column.source + channel;
        let [upper, lower] = [0, 1].map(|step| {
            let row = row(picture, tap.source + step);
            [row[at], row[at + 3]].map(|level| f64::from(unit_single(level)) * tap.weights[step])
        });
        sum += stretched(upper, lower, column.weights);
    }
    finished(level, sum, (copies.len() + 2) as f32)
}

/// All samples of row `y`.
fn exact_row(picture: &RgbImage, copies: &[Copy], y: usize, levels: &mut [u8]) {
    let mut sums: Vec<f32> = row(picture, y).iter().map(|&level| unit_single(level)).collect();
    let [mut upper, mut lower] = [(); 2].map(|()| vec![0.0; sums.len()]);
    for copy in copies {
        let tap = &copy.rows[y];
        weigh(row(picture, tap.source), tap.weights[0], &mut upper);
        weigh(row(picture, tap.source + 1), tap.weights[1], &mut lower);
        add_exactly(&copy.columns, &upper, &lower, &mut sums);
    }
    finish(row(picture, y), &sums, (copies.len() + 2) as f32, levels);
}

/// A sample between two of the row above and two of the row below, both weighed already; in the order of `SciPy`'s sums.
#[inline]
fn stretched(upper: [f64; 2], lower: [f64; 2], weights: [f64; 2]) -> f32 {
    let [left, right] = weights;
    (upper[0] * left + upper[1] * right + lower[0] * left + lower[1] * right) as f32
}

/// The level under the mean of a sample and of a sum over all copies but one.
#[inline]
fn finished(level: u8, sum: f32, count: f32) -> u8 {
    level_under_single(((unit_single(level) + sum) / count).clamp(0.0, 1.0) * 255.0)
}

kernels! {
    /// Sets sums to the levels of a row times a weight.
    fn start(row: &[u8], weight: f32, sums: &mut [f32]) {
        for (sum, &level) in sums.iter_mut().zip(row) {
            *sum = f32::from(level) * weight;
        }
    }

    /// Mixes two rows.
    fn mix(upper: &[u8], lower: &[u8], weights: [f32; 2], mixed: &mut [f32]) {
        for ((mixed, &upper), &lower) in mixed.iter_mut().zip(upper).zip(lower) {
            *mixed = f32::from(lower).mul_add(weights[1], f32::from(upper) * weights[0]);
        }
    }

    /// Adds a row of a copy to the sums: a row of the picture, stretched run by run; both have two registers more.
    fn add_stretched(runs: &[Run], mixed: &[f32], sums: &mut [f32]) {
        for Run { first, source, weights } in runs {
            for (weights, start) in weights.iter().zip((0..).step_by(LANES)) {
                let left: &[f32; LANES] = mixed[source + start..].first_chunk().expect("two registers more");
                let right: &[f32; LANES] = mixed[source + start + 3..].first_chunk().expect("two registers more");
                let sums: &mut [f32; LANES] = sums[first + start..].first_chunk_mut().expect("two registers more");
                for lane in 0..LANES {
                    sums[lane] += left[lane].mul_add(weights[0][lane], right[lane] * weights[1][lane]);
                }
            }
        }
    }

    /// The samples of a row, with white at 1, times a weight.
    fn weigh(row: &[u8], weight: f64, weighed: &mut [f64]) {
        for (weighed, &level) in weighed.iter_mut().zip(row) {
            *weighed = f64::from(unit_single(level)) * weight;
        }
    }

    /// Adds a row of a copy to the sums: the rows above and below it, weighed, stretched along the row.
    fn add_exactly(columns: &[Tap], upper: &[f64], lower: &[f64], sums: &mut [f32]) {
        for (sums, column) in sums.as_chunks_mut::<3>().0.iter_mut().zip(columns) {
            for (channel, sum) in sums.iter_mut().enumerate() {
                let at = 3 * column.source + channel;
                *sum += stretched([upper[at], upper[at + 3]], [lower[at], lower[at + 3]], column.weights);
            }
        }
    }

    /// The levels of a row.
    fn finish(row: &[u8], sums: &[f32], count: f32, new: &mut [u8]) {
        for ((new, &level), &sum) in new.iter_mut().zip(row).zip(sums) {
            *new = finished(level, sum, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn ends_lie_on_ends() {
        // 50 of 60 positions, from the fifth on, are enlarged to 60.
        let taps = taps(60, 1.2);
        assert_eq!((taps[0].source, taps[0].weights), (5, [1.0, 0.0]));
        let at = |tap: &Tap| tap.source as f64 + tap.weights[1];
        assert!((at(&taps[30]) - (5.0 + 30.0 * 49.0 / 59.0)).abs() < 1e-12);
        assert!((at(&taps[59]) - 54.0).abs() < 1e-12);
    }

    #[test]
    fn a_point_is_smeared_away_from_the_middle() {
        let mut point = RgbImage::new(100, 100);
        point.put_pixel(70, 50, Rgb([255; 3]));
        let lit: Vec<u32> =
            zoom(&point, Severity::ALL[4]).enumerate_pixels().filter(|(.., p)| p.0[0] > 0).map(|(x, ..)| x).collect();
        assert!(lit.iter().all(|x| (70..=75).contains(x)), "{lit:?}");
        assert!(lit.contains(&73));
    }

    #[test]
    fn a_flat_picture_loses_a_level_at_most() {
        for severity in Severity::ALL {
            let zoomed = zoom(&RgbImage::from_pixel(57, 33, Rgb([200; 3])), severity);
            assert!(zoomed.iter().all(|level| (199..=200).contains(level)));
        }
    }
}
