//! Pixelation: blocks of one colour.

use image::RgbImage;

use crate::{Severity, resize};

/// Shrinks with a box filter and enlarges by taking the nearest pixel, as Pillow does both.
pub(crate) fn pixelate(picture: &RgbImage, severity: Severity) -> RgbImage {
    let scale = severity.pick([0.5, 0.4, 0.3, 0.25, 0.2]);
    let (width, height) = picture.dimensions();
    let shrunk = |length: u32| (f64::from(length) * scale) as u32;
    let small = resize::boxed(picture, shrunk(width), shrunk(height));
    let columns = nearest(small.width(), width);
    let rows = nearest(small.height(), height);
    let mut result = RgbImage::new(width, height);
    for (row, &y) in result.chunks_exact_mut(3 * width as usize).zip(&rows) {
        for (pixel, &x) in row.chunks_exact_mut(3).zip(&columns) {
            pixel.copy_from_slice(&small.get_pixel(x, y).0);
        }
    }
    result
}

/// For each of `large` positions the nearest of `small`, with Pillow's rounding: the position is added up step by step.
fn nearest(small: u32, large: u32) -> Vec<u32> {
    let step = f64::from(small) / f64::from(large);
    let mut position = step * 0.5;
    let mut indices = Vec::with_capacity(large as usize);
    for _ in 0..large {
        indices.push((position as u32).min(small - 1));
        position += step;
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_one_colour_the_mean_of_what_it_covers() {
        let ramp = RgbImage::from_fn(40, 40, |x, y| image::Rgb([4 * x as u8, 4 * y as u8, 9]));
        let blocks = pixelate(&ramp, Severity::ALL[4]);
        for (x, y, pixel) in blocks.enumerate_pixels() {
            let centre = |position: u32| 4 * (position / 5 * 5 + 2) as u8;
            assert_eq!(pixel.0, [centre(x), centre(y), 9]);
        }
    }
}
