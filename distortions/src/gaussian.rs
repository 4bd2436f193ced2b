//! Gaussian blur cut off at four sigma, edges repeated, to the level that `scipy.ndimage` gives in double precision.
//!
//! Sums of single floats say which level a sample falls to, but where they come too near to the next one. The few such
//! samples are summed up again as `scipy` does, in its precision and order: columns first, then rows.

use std::ops::Range;

use image::{ImageBuffer, Rgb, RgbImage};
use rayon::prelude::*;

use crate::cpu::kernels;
use crate::estimates::{ROUNDING, runs, take_levels};
use crate::filter::{Border, pairwise_sum};
use crate::levels::{truncated, unit};
use crate::rows::BAND;

/// A picture whose samples are levels and fractions of levels.
pub(crate) type FineImage = ImageBuffer<Rgb<f32>, Vec<f32>>;

/// Samples that are summed up side by side.
const STRIP: usize = 64;

/// A piece of a row, laid out for the widest registers.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Strip([f32; STRIP]);

/// The picture blurred, to the level.
pub(crate) fn blurred(picture: &RgbImage, sigma: f64) -> RgbImage {
    let kernel = Kernel::new(sigma);
    let stride = 3 * picture.width() as usize;
    let flats = std::array::from_fn(|level| kernel.flat(level as u8));
    let rows: Vec<&[u8]> = picture.as_raw().chunks_exact(stride).collect();
    let mut result = RgbImage::new(picture.width(), picture.height());
    result.par_chunks_mut(BAND * stride).enumerate().for_each_init(Buffers::default, |buffers, (band, levels)| {
        let Buffers { sums, doubtful, around, .. } = kernel.blur_band(&rows, widen, band * BAND, buffers);
        for (i, (sums, levels)) in sums.chunks_exact(stride).zip(levels.chunks_exact_mut(stride)).enumerate() {
            take_levels(sums, kernel.error, levels, doubtful);
            for run in runs(doubtful) {
                let levels = &mut levels[3 * run.start..3 * run.end];
                kernel.exact(&rows, band * BAND + i, run, &flats, around, levels);
            }
        }
    });
    result
}

/// The picture blurred, to a few parts in a million.
pub(crate) fn finely_blurred(picture: &RgbImage, sigma: f64) -> FineImage {
    let kernel = Kernel::new(sigma);
    let stride = 3 * picture.width() as usize;
    let rows: Vec<&[u8]> = picture.as_raw().chunks_exact(stride).collect();
    let mut result = FineImage::new(picture.width(), picture.height());
    result.par_chunks_mut(BAND * stride).enumerate().for_each_init(Buffers::default, |buffers, (band, samples)| {
        samples.copy_from_slice(&kernel.blur_band(&rows, widen, band * BAND, buffers).sums);
    });
    result
}

/// The levels of the picture blurred.
pub(crate) fn blurred_levels(picture: &FineImage, sigma: f64) -> RgbImage {
    let kernel = Kernel::new(sigma);
    let stride = 3 * picture.width() as usize;
    let rows: Vec<&[f32]> = picture.as_raw().chunks_exact(stride).collect();
    let mut result = RgbImage::new(picture.width(), picture.height());
    result.par_chunks_mut(BAND * stride).enumerate().for_each_init(Buffers::default, |buffers, (band, levels)| {
        let Buffers { sums, doubtful, .. } = kernel.blur_band(&rows, copy, band * BAND, buffers);
        take_levels(sums, 0.0, levels, doubtful);
    });
    result
}

/// What is worked out for a band of rows, for keeping from one to the next.
#[derive(Default)]
struct Buffers {
    /// A strip of the band's rows and of those around it.
    tile: Vec<Strip>,
    /// A row's sums along the columns, with more on either side.
    columns: Vec<f32>,
    /// The band's sums along columns and rows.
    sums: Vec<f32>,
    /// Samples in a row whose sums do not tell the level.
    doubtful: Vec<usize>,
    around: Around,
}

/// What is worked out around a run of pixels.
#[derive(Default)]
struct Around {
    /// The pixels, row by row.
    levels: Vec<u8>,
    /// The same as numbers from 0 to 1.
    units: Vec<f64>,
    /// Sums along the columns.
    columns: Vec<f64>,
}

/// The weights of a Gaussian at 0, 1, ... up to four sigma; with their mirror images they sum to 1.
struct Kernel {
    weights: Vec<f64>,
    singles: Vec<f32>,
    /// How far, in levels, sums of single floats may lie from the true ones.
    error: f32,
}

impl Kernel {
    fn new(sigma: f64) -> Self {
        let reach = (4.0 * sigma + 0.5) as i32;
        let bell = |x: i32| libm::exp(-0.5 / (sigma * sigma) * f64::from(x * x));
        let both_sides: Vec<f64> = (-reach..=reach).map(bell).collect();
        let sum = pairwise_sum(&both_sides);
        let weights: Vec<f64> = both_sides[reach as usize..].iter().map(|weight| weight / sum).collect();
        // Along each axis one rounding of the weights, and one of each sum: the farthest pair comes first, so that a weight
        // is part of as many sums as it is steps away, and one.
        let sums: f64 = weights.iter().enumerate().map(|(step, weight)| 2.0 * weight * (step + 1) as f64).sum();
        let error = 2.0 * (1.0 + sums) * ROUNDING;
        Self { singles: weights.iter().map(|&weight| weight as f32).collect(), weights, error: error as f32 }
    }

    fn reach(&self) -> usize {
        self.weights.len() - 1
    }

    /// Blurs the rows of the band that begins at row `first`; `fill` writes the rows' samples from a position on into strips.
    fn blur_band<'a, T>(
        &self,
        rows: &[&[T]],
        fill: impl Fn(&[&[T]], usize, &mut [Strip]),
        first: usize,
        buffers: &'a mut Buffers,
    ) -> &'a mut Buffers {
        let (stride, reach) = (rows[0].len(), self.reach());
        let height = BAND.min(rows.len() - first);
        let padded = stride.next_multiple_of(STRIP) + 6 * reach;
        let around: Vec<&[T]> = (first as i64 - reach as i64..(first + height + reach) as i64)
            .map(|y| rows[Border::Nearest.index(y, rows.len())])
            .collect();
        buffers.tile.resize(around.len(), Strip([0.0; STRIP]));
        buffers.columns.resize(height * padded, 0.0);
        buffers.sums.resize(height * stride, 0.0);
        for left in (0..stride).step_by(STRIP) {
            fill(&around, left, &mut buffers.tile);
            add_columns(&buffers.tile, &self.singles, padded, &mut buffers.columns[3 * reach + left..]);
        }
        let rows = buffers.columns.chunks_exact_mut(padded).zip(buffers.sums.chunks_exact_mut(stride));
        for (columns, sums) in rows {
            Border::Nearest.extend(&mut columns[..stride + 6 * reach], reach);
            add_rows(columns, &self.singles, sums);
        }
        buffers
    }

    /// Sets `levels` to those of the pixels `run` in row `y`, in double precision.
    fn exact(
        &self,
        rows: &[&[u8]],
        y: usize,
        run: Range<usize>,
        flats: &[u8; 256],
        around: &mut Around,
        levels: &mut [u8],
    ) {
        let (width, reach) = (rows[0].len() / 3, self.reach() as i64);
        let columns = run.start as i64 - reach..run.end as i64 + reach;
        let inside = 3 * columns.start.max(0) as usize..3 * columns.end.min(width as i64) as usize;
        around.levels.clear();
        for y in y as i64 - reach..=y as i64 + reach {
            let row = rows[Border::Nearest.index(y, rows.len())];
            (columns.start..0).for_each(|_| around.levels.extend_from_slice(&row[..3]));
            around.levels.extend_from_slice(&row[inside.clone()]);
            (width as i64..columns.end).for_each(|_| around.levels.extend_from_slice(&row[3 * width - 3..]));
        }
        if around.levels[3..] == around.levels[..around.levels.len() - 3] {
            for pixel in levels.as_chunks_mut::<3>().0 {
                *pixel = [0, 1, 2].map(|channel| flats[usize::from(around.levels[channel])]);
            }
        } else {
            around.units.resize(around.levels.len(), 0.0);
            around.columns.resize(3 * columns.count(), 0.0);
            add_exactly(&around.levels, &self.weights, &mut around.units, &mut around.columns, levels);
        }
    }

    /// What a level becomes where all pixels around have it.
    fn flat(&self, level: u8) -> u8 {
        let along_axis = |unit: f64| {
            let pairs = self.weights[1..].iter().rev();
            pairs.fold(unit * self.weights[0], |sum, weight| sum + (unit + unit) * weight)
        };
        truncated(along_axis(along_axis(unit(level))))
    }
}

kernels! {
    /// Sets strips to the samples of rows from `left` on.
    fn widen(rows: &[&[u8]], left: usize, tile: &mut [Strip]) {
        for (strip, row) in tile.iter_mut().zip(rows) {
            if let Some(row) = row[left..].first_chunk::<STRIP>() {
                for (wide, &level) in strip.0.iter_mut().zip(row) {
                    *wide = f32::from(level);
                }
            } else {
                for (wide, &level) in strip.0.iter_mut().zip(&row[left..]) {
                    *wide = f32::from(level);
                }
            }
        }
    }

    /// Sets strips to the samples of rows from `left` on.
    fn copy(rows: &[&[f32]], left: usize, tile: &mut [Strip]) {
        for (strip, row) in tile.iter_mut().zip(rows) {
            for (copy, &sample) in strip.0.iter_mut().zip(&row[left..]) {
                *copy = sample;
            }
        }
    }

    /// For each row of `sums`, `stride` apart, adds up the rows of `tile` around it.
    fn add_columns(tile: &[Strip], weights: &[f32], stride: usize, sums: &mut [f32]) {
        let reach = weights.len() - 1;
        for (around, sums) in tile.windows(2 * reach + 1).zip(sums.chunks_mut(stride)) {
            let mut sum = [0.0; STRIP];
            for (step, weight) in weights.iter().enumerate().skip(1).rev() {
                let (above, below) = (&around[reach - step].0, &around[reach + step].0);
                for i in 0..STRIP {
                    sum[i] = (above[i] + below[i]).mul_add(*weight, sum[i]);
                }
            }
            for (sum, &centre) in sum.iter_mut().zip(&around[reach].0) {
                *sum = centre.mul_add(weights[0], *sum);
            }
            sums[..STRIP].copy_from_slice(&sum);
        }
    }

    /// Adds up the pixels of a row around each; `row` has as many more on either side, and a strip at the end.
    fn add_rows(row: &[f32], weights: &[f32], sums: &mut [f32]) {
        let reach = weights.len() - 1;
        for (left, sums) in (0..).step_by(STRIP).zip(sums.chunks_mut(STRIP)) {
            let row = &row[left..left + STRIP + 6 * reach];
            let mut sum = [0.0; STRIP];
            for (step, weight) in weights.iter().enumerate().skip(1).rev() {
                let before = &row[3 * (reach - step)..][..STRIP];
                let after = &row[3 * (reach + step)..][..STRIP];
                for i in 0..STRIP {
                    sum[i] = (before[i] + after[i]).mul_add(*weight, sum[i]);
                }
            }
            let centre = &row[3 * reach..][..STRIP];
            for (sum, &centre) in sum.iter_mut().zip(centre) {
                *sum = centre.mul_add(weights[0], *sum);
            }
            if let Some(sums) = sums.first_chunk_mut::<STRIP>() {
                *sums = sum;
            } else {
                sums.copy_from_slice(&sum[..sums.len()]);
            }
        }
    }

    /// Blurs a run of pixels as `scipy` does: `around` are the rows around it, as many pixels longer on either side.
    fn add_exactly(around: &[u8], weights: &[f64], units: &mut [f64], columns: &mut [f64], levels: &mut [u8]) {
        for (unit, &level) in units.iter_mut().zip(around) {
            *unit = crate::levels::unit(level);
        }
        let units = &*units;
        let (reach, stride) = (weights.len() - 1, columns.len());
        let row = |y: usize| &units[y * stride..(y + 1) * stride];
        for (sum, centre) in columns.iter_mut().zip(row(reach)) {
            *sum = centre * weights[0];
        }
        for (step, weight) in weights.iter().enumerate().skip(1).rev() {
            for ((sum, above), below) in columns.iter_mut().zip(row(reach - step)).zip(row(reach + step)) {
                *sum += (above + below) * weight;
            }
        }
        for (i, level) in levels.iter_mut().enumerate() {
            let mut sum = columns[i + 3 * reach] * weights[0];
            for (step, weight) in weights.iter().enumerate().skip(1).rev() {
                sum += (columns[i + 3 * (reach - step)] + columns[i + 3 * (reach + step)]) * weight;
            }
            *level = truncated(sum);
        }
    }
}
