//! Oversharpening: the difference to a blurred copy, added many times over.

use image::RgbImage;

use crate::Severity;
use crate::filter::Border;

/// Unsharp masking with a 5x5 binomial blur in integers; rounded half to even, where most types truncate.
pub(crate) fn oversharpen(picture: &RgbImage, severity: Severity) -> RgbImage {
    let amount: f32 = severity.pick([2.0, 2.8, 4.0, 6.0, 8.0]);
    let mut result = blurred(picture);
    for (sample, &original) in result.iter_mut().zip(picture.as_raw()) {
        let sharpened = (1.0 + amount) * f32::from(original) - amount * f32::from(*sample);
        *sample = sharpened.round_ties_even().clamp(0.0, 255.0) as u8;
    }
    result
}

/// The binomial blur [1 4 6 4 1]/16 along both axes, rounded once, the border mirrored.
fn blurred(picture: &RgbImage) -> RgbImage {
    let stride = 3 * picture.width() as usize;
    let height = picture.height() as usize;
    let mut padded = Vec::with_capacity(stride + 12);
    let mut rows = Vec::with_capacity(picture.len());
    for row in picture.as_raw().chunks_exact(stride) {
        Border::Mirrored.pad(row, 2, &mut padded);
        let [a, b, c, d, e] = [0, 3, 6, 9, 12].map(|start| &padded[start..start + stride]);
        rows.extend((0..stride).map(|i| binomial([a[i], b[i], c[i], d[i], e[i]].map(u32::from))));
    }
    let mut result = RgbImage::new(picture.width(), picture.height());
    for (y, samples) in result.chunks_exact_mut(stride).enumerate() {
        let [a, b, c, d, e] = [-2, -1, 0, 1, 2].map(|step| {
            let y = Border::Mirrored.index(y as i64 + step, height);
            &rows[y * stride..(y + 1) * stride]
        });
        for (i, sample) in samples.iter_mut().enumerate() {
            *sample = ((binomial([a[i], b[i], c[i], d[i], e[i]]) + 128) >> 8) as u8;
        }
    }
    result
}

fn binomial([a, b, c, d, e]: [u32; 5]) -> u32 {
    a + e + 4 * (b + d) + 6 * c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_picture_stays_flat() {
        let flat = RgbImage::from_pixel(40, 33, image::Rgb([7, 130, 255]));
        assert_eq!(oversharpen(&flat, Severity::ALL[4]), flat);
    }

    #[test]
    fn an_edge_overshoots_by_the_amount() {
        let edge = RgbImage::from_fn(40, 40, |x, _| image::Rgb([if x < 20 { 100 } else { 110 }; 3]));
        let sharp = oversharpen(&edge, Severity::ALL[0]);
        // The blurred level beside the edge is (11 * 100 + 5 * 110) / 16 = 103.125: 3 * 100 - 2 * 103 = 94.
        assert_eq!(sharp.get_pixel(19, 20).0[0], 94);
    }
}
