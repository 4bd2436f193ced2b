//! Resizing with the samples that Pillow gives: filters stretched over the input when a side shrinks, weights in fixed
//! point with 22 fractional bits, the horizontal pass first, and 8-bit samples between the passes.
//!
//! Pillow up to 12.0 gives these samples bit for bit; 13.0 does the vertical pass first for some shapes.

use image::RgbImage;

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
    let mut resized = picture.clone();
    if width != old_width {
        resized = horizontal(&resized, width, &Taps::new(old_width, width, support, &filter));
    }
    if height != old_height {
        resized = vertical(&resized, height, &Taps::new(old_height, height, support, &filter));
    }
    resized
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

/// For each output position, the first input position it reads and its fixed-point weights.
struct Taps {
    /// Weights of all positions, one after the other.
    weights: Vec<i32>,
    /// Per output position: first input position, and where its weights begin and end in `weights`.
    spans: Vec<(usize, usize, usize)>,
}

impl Taps {
    fn new(old: u32, new: u32, support: f64, filter: &impl Fn(f64) -> f64) -> Self {
        let scale = f64::from(old) / f64::from(new);
        let stretch = scale.max(1.0);
        let support = support * stretch;
        let inverse = 1.0 / stretch;
        let mut weights = Vec::new();
        let mut spans = Vec::with_capacity(new as usize);
        let mut exact = Vec::new();
        for position in 0..new {
            let centre = (f64::from(position) + 0.5) * scale;
            // The cast truncates and saturates: what lies before the picture starts at 0.
            let first = (centre - support + 0.5) as u32;
            let last = ((centre + support + 0.5) as u32).min(old);
            exact.clear();
            exact.extend((first..last).map(|j| filter((f64::from(j) - centre + 0.5) * inverse)));
            let sum: f64 = exact.iter().sum();
            let start = weights.len();
            weights.extend(exact.iter().map(|&weight| {
                let weight = if sum == 0.0 { weight } else { weight / sum };
                (weight * f64::from(1_u32 << PRECISION)).round() as i32
            }));
            spans.push((first as usize, start, weights.len()));
        }
        Self { weights, spans }
    }

    /// Each output position's first input position with its weights.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.spans.iter().map(|&(first, start, end)| (first, &self.weights[start..end]))
    }
}

/// Rounds a fixed-point sum half up and clips it to a level.
fn level(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

fn horizontal(picture: &RgbImage, width: u32, taps: &Taps) -> RgbImage {
    let mut resized = RgbImage::new(width, picture.height());
    let stride = 3 * picture.width() as usize;
    for (old, new) in picture.as_raw().chunks_exact(stride).zip(resized.chunks_exact_mut(3 * width as usize)) {
        for ((first, weights), pixel) in taps.iter().zip(new.chunks_exact_mut(3)) {
            let mut sums = [0_i32; 3];
            for (sample, weight) in old[3 * first..].chunks_exact(3).zip(weights) {
                for (sum, &level) in sums.iter_mut().zip(sample) {
                    *sum += i32::from(level) * weight;
                }
            }
            for (sample, sum) in pixel.iter_mut().zip(sums) {
                *sample = level(sum);
            }
        }
    }
    resized
}

fn vertical(picture: &RgbImage, height: u32, taps: &Taps) -> RgbImage {
    let mut resized = RgbImage::new(picture.width(), height);
    let stride = 3 * picture.width() as usize;
    let mut sums = vec![0_i32; stride];
    for ((first, weights), new) in taps.iter().zip(resized.chunks_exact_mut(stride)) {
        sums.fill(0);
        for (old, &weight) in picture.as_raw().chunks_exact(stride).skip(first).zip(weights) {
            for (sum, &level) in sums.iter_mut().zip(old) {
                *sum += i32::from(level) * weight;
            }
        }
        for (sample, &sum) in new.iter_mut().zip(&sums) {
            *sample = level(sum);
        }
    }
    resized
}
