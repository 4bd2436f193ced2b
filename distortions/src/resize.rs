//! Resizing with the samples that Pillow gives: filters stretched over the input when a side shrinks, weights in fixed
//! point with 22 fractional bits, the horizontal pass first, and 8-bit samples between the passes.
//!
//! Pillow up to 12.0 gives these samples bit for bit; 13.0 does the vertical pass first for some shapes.

use image::RgbImage;
use rayon::prelude::*;

use crate::cpu::kernels;
use crate::rows::{join, split};

/// Rows that a thread takes at a time.
const ROWS: usize = 32;

/// Fractional bits of a weight.
const PRECISION: u32 = 22;

/// Resizes to `width` x `height` pixels with Pillow's bicubic filter (a = -0.5, support 2, antialiased).
///
/// A side that keeps its length is not filtered. The result is empty when either picture has an empty side.
pub fn bicubic(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    resize(picture, width, height, 2.0, cubic)
}

/// Resizes to `width` x `height` pixels with Pillow's box filter: means over areas when shrinking.
pub fn boxed(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    resize(picture, width, height, 0.5, |x| if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 })
}

fn resize(picture: &RgbImage, width: u32, height: u32, support: f64, filter: impl Fn(f64) -> f64) -> RgbImage {
    let (old_width, old_height) = picture.dimensions();
    if old_width == 0 || old_height == 0 || width == 0 || height == 0 {
        return RgbImage::new(width, height);
    }
    match (width == old_width, height == old_height) {
        (true, true) => picture.clone(),
        (true, false) => vertical(picture, height, &spans(old_height, height, support, &filter)),
        (false, true) => horizontal(picture, width, &spans(old_width, width, support, &filter)),
        (false, false) => {
            let narrow = horizontal(picture, width, &spans(old_width, width, support, &filter));
            vertical(&narrow, height, &spans(old_height, height, support, &filter))
        }
    }
}

/// Pillow's cubic kernel with a = -0.5, in its own order of operations.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Output positions that are summed up side by side.
const LANES: usize = 16;

/// What some output positions in a row read: each a span of input positions.
struct Spans {
    /// Where the spans begin.
    firsts: [u32; LANES],
    /// The fixed-point weights of the spans' first positions, of their second ones, and so on; 0 past the end of a span.
    weights: Vec<[i32; LANES]>,
}

/// What each of `new` output positions reads of `old` ones; the last group is filled up with weights of 0.
fn spans(old: u32, new: u32, support: f64, filter: &impl Fn(f64) -> f64) -> Vec<Spans> {
    let scale = f64::from(old) / f64::from(new);
    let stretch = scale.max(1.0);
    let support = support * stretch;
    let inverse = 1.0 / stretch;
    let mut exact = Vec::new();
    let mut group = |start: u32| {
        let mut spans = Spans { firsts: [0; LANES], weights: Vec::new() };
        for (lane, position) in (start..new).take(LANES).enumerate() {
            let centre = (f64::from(position) + 0.5) * scale;
            // The cast truncates and saturates: what lies before the picture starts at 0.
            let first = (centre - support + 0.5) as u32;
            let last = ((centre + support + 0.5) as u32).min(old);
            exact.clear();
            exact.extend((first..last).map(|j| filter((f64::from(j) - centre + 0.5) * inverse)));
            let sum: f64 = exact.iter().sum();
            spans.firsts[lane] = first;
            spans.weights.resize(spans.weights.len().max(exact.len()), [0; LANES]);
            for (weights, &weight) in spans.weights.iter_mut().zip(&exact) {
                let weight = if sum == 0.0 { weight } else { weight / sum };
                weights[lane] = (weight * f64::from(1_u32 << PRECISION)).round() as i32;
            }
        }
        spans
    };
    (0..new).step_by(LANES).map(&mut group).collect()
}

fn horizontal(picture: &RgbImage, width: u32, spans: &[Spans]) -> RgbImage {
    let mut resized = RgbImage::new(width, picture.height());
    let (old_stride, stride) = (3 * picture.width() as usize, 3 * width as usize);
    let rows = resized.par_chunks_mut(ROWS * stride).zip(picture.as_raw().par_chunks(ROWS * old_stride));
    rows.for_each(|(resized, old)| {
        let mut pixels = vec![0; picture.width() as usize];
        let mut old_planes = [(); 3].map(|()| vec![0; pixels.len()]);
        let mut planes = [(); 3].map(|()| vec![0; LANES * spans.len()]);
        for (resized, old) in resized.chunks_exact_mut(stride).zip(old.chunks_exact(old_stride)) {
            let [red, green, blue] = &mut old_planes;
            split(old, red, green, blue);
            pack(red, green, blue, &mut pixels);
            let [red, green, blue] = &mut planes;
            mix_pixels(&pixels, spans, red, green, blue);
            join(red, green, blue, resized);
        }
    });
    resized
}

fn vertical(picture: &RgbImage, height: u32, spans: &[Spans]) -> RgbImage {
    let mut resized = RgbImage::new(picture.width(), height);
    let stride = 3 * picture.width() as usize;
    resized.par_chunks_mut(LANES * stride).zip(spans).for_each(|(rows, spans)| {
        for (lane, row) in rows.chunks_exact_mut(stride).enumerate() {
            let weights: Vec<i32> = spans.weights.iter().map(|weights| weights[lane]).collect();
            mix_rows(&picture.as_raw()[spans.firsts[lane] as usize * stride..], &weights, row);
        }
    });
    resized
}

kernels! {
    /// Packs each pixel's samples into one number, red lowest.
    fn pack(red: &[u8], green: &[u8], blue: &[u8], pixels: &mut [u32]) {
        for (pixel, ((&red, &green), &blue)) in pixels.iter_mut().zip(red.iter().zip(green).zip(blue)) {
            *pixel = u32::from(red) | u32::from(green) << 8 | u32::from(blue) << 16;
        }
    }

    /// Sets samples to weighted sums of packed pixels.
    fn mix_pixels(pixels: &[u32], spans: &[Spans], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
        let [red, green, blue] = [red, green, blue].map(|plane| plane.as_chunks_mut::<LANES>().0);
        let Some(last) = pixels.len().checked_sub(1) else { return };
        for (spans, ((red, green), blue)) in spans.iter().zip(red.iter_mut().zip(green).zip(blue)) {
            let (mut reds, mut greens, mut blues) = ([HALF; LANES], [HALF; LANES], [HALF; LANES]);
            for (tap, weights) in spans.weights.iter().enumerate() {
                let mut read = [0; LANES];
                for (read, &first) in read.iter_mut().zip(&spans.firsts) {
                    // Past the end of a span the weight is 0, whatever is read.
                    *read = pixels[(first as usize + tap).min(last)];
                }
                for lane in 0..LANES {
                    reds[lane] += (read[lane] & 0xFF) as i32 * weights[lane];
                    greens[lane] += (read[lane] >> 8 & 0xFF) as i32 * weights[lane];
                    blues[lane] += (read[lane] >> 16) as i32 * weights[lane];
                }
            }
            for lane in 0..LANES {
                red[lane] = level(reds[lane]);
                green[lane] = level(greens[lane]);
                blue[lane] = level(blues[lane]);
            }
        }
    }

    /// Sets `resized` to the weighted sum of as many rows as there are weights.
    fn mix_rows(rows: &[u8], weights: &[i32], resized: &mut [u8]) {
        const STRIP: usize = 64;
        let stride = resized.len();
        for (i, strip) in resized.chunks_mut(STRIP).enumerate() {
            let mut sums = [HALF; STRIP];
            for (row, weight) in rows.chunks_exact(stride).zip(weights) {
                for (sum, &level) in sums.iter_mut().zip(&row[i * STRIP..]) {
                    *sum += i32::from(level) * weight;
                }
            }
            for (sample, sum) in strip.iter_mut().zip(sums) {
                *sample = level(sum);
            }
        }
    }
}

/// Half a level in fixed point, for rounding half up.
const HALF: i32 = 1 << (PRECISION - 1);

/// Cuts a fixed-point sum to a whole number and clips it to a level.
#[inline]
fn level(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}
