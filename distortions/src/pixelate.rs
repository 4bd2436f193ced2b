//! Pixelation: blocks of one colour.

use image::RgbImage;

use crate::rows::in_bands;
use crate::{Severity, resize};

/// Shrinks with a box filter and enlarges by taking the nearest pixel, as Pillow does both.
pub(crate) fn pixelate(picture: &RgbImage, severity: Severity) -> RgbImage {
    let scale = severity.pick([0.5, 0.4, 0.3, 0.25, 0.2]);
    let (width, height) = picture.dimensions();
    let shrunk = |length: u32| (f64::from(length) * scale) as u32;
    let small = resize::boxed(picture, shrunk(width), shrunk(height));
    let columns = nearest(small.width(), width);
    let rows = nearest(small.height(), height);
    let stride = 3 * width as usize;
    in_bands(picture, |first, band| {
        let mut drawn = None;
        for (i, &y) in rows[first..first + band.len() / stride].iter().enumerate() {
            let (before, row) = band.split_at_mut(i * stride);
            if drawn == Some(y) {
                row[..stride].copy_from_slice(&before[(i - 1) * stride..]);
                continue;
            }
            let pixels = small.as_raw()[3 * (y * small.width()) as usize..].as_chunks::<3>().0;
            for (pixel, &x) in row.as_chunks_mut::<3>().0.iter_mut().zip(&columns) {
                *pixel = pixels[x as usize];
            }
            drawn = Some(y);
        }
    })
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
