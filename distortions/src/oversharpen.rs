//! Oversharpening: the difference to a blurred copy, added many times over.

use image::RgbImage;

use crate::Severity;
use crate::cpu::kernels;
use crate::filter::Border;
use crate::rows::in_bands;

/// Unsharp masking with the 5x5 binomial blur [1 4 6 4 1]/16 in integers, the border mirrored; rounded half to even,
/// where most types truncate.
pub(crate) fn oversharpen(picture: &RgbImage, severity: Severity) -> RgbImage {
    let amount = severity.pick([2.0, 2.8, 4.0, 6.0, 8.0]);
    let stride = 3 * picture.width() as usize;
    let row = |y| {
        let y = Border::Mirrored.index(y, picture.height() as usize);
        &picture.as_raw()[y * stride..(y + 1) * stride]
    };
    in_bands(picture, |first, band| {
        let mut sums = vec![0; stride + 12];
        for (y, samples) in (first as i64..).zip(band.chunks_exact_mut(stride)) {
            add_rows([-2, -1, 0, 1, 2].map(|step| row(y + step)), &mut sums[6..stride + 6]);
            Border::Mirrored.extend(&mut sums, 2);
            sharpen(&sums, row(y), amount, samples);
        }
    })
}

kernels! {
    /// Adds five rows, weighted by 1, 4, 6, 4 and 1.
    fn add_rows(rows: [&[u8]; 5], sums: &mut [u16]) {
        let [a, b, c, d, e] = rows.map(|row| &row[..sums.len()]);
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = binomial([a[i], b[i], c[i], d[i], e[i]].map(u16::from));
        }
    }

    /// Sets samples to the original ones with `amount` times the difference to the blurred ones added; `sums` are over
    /// rows, with two pixels more on either side.
    fn sharpen(sums: &[u16], originals: &[u8], amount: f32, samples: &mut [u8]) {
        let [a, b, c, d, e] = [0, 3, 6, 9, 12].map(|start| &sums[start..start + samples.len()]);
        let originals = &originals[..samples.len()];
        for (i, sample) in samples.iter_mut().enumerate() {
            let blurred = (binomial([a[i], b[i], c[i], d[i], e[i]]) + 128) >> 8;
            let sharp = (1.0 + amount) * f32::from(originals[i]) - amount * f32::from(blurred);
            *sample = rounded(sharp.clamp(0.0, 255.0));
        }
    }
}

#[inline]
fn binomial([a, b, c, d, e]: [u16; 5]) -> u16 {
    a + e + 4 * (b + d) + 6 * c
}

/// The level nearest to a number of 0 to 255, the even one of two.
#[inline]
fn rounded(number: f32) -> u8 {
    // At 2^23 a number is rounded to a whole one, which is then its lowest bits.
    (number + (1_u32 << 23) as f32).to_bits() as u8
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
