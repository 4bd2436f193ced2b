//! What baseline JPEG coding does to pixels, in libjpeg's integers: 4:2:0, the standard tables, the slow integer
//! transform, and triangle upsampling of chroma.
//!
//! Entropy coding loses nothing and is left out, so no byte stream is written. The samples are those of libjpeg-turbo on
//! any machine; a coder with vector instructions of its own would give others on others.

use image::RgbImage;
use rayon::prelude::*;

use crate::cpu::kernels;
use crate::dct::{LANES, Steps, quantize_blocks};
use crate::rows::{in_bands, join, split};

/// The standard's luma table (ITU-T T.81, K.1), row by row.
const LUMA_TABLE: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// The standard's chroma table (ITU-T T.81, K.2), row by row.
const CHROMA_TABLE: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99,
];

/// The picture after coding at `quality`, 1 to 49, and decoding.
pub(crate) fn coded(picture: &RgbImage, quality: u16) -> RgbImage {
    let [luma_steps, chroma_steps] = [LUMA_TABLE, CHROMA_TABLE].map(|table| Steps::new(scaled(&table, quality)));
    let planes = Planes::coded(picture, &luma_steps, &chroma_steps);
    let width = picture.width() as usize;
    in_bands(picture, |first, band| {
        let mut rgb = [(); 3].map(|()| vec![0; width + 1]);
        let mut sums = vec![0; width.div_ceil(2) + 2];
        for (y, samples) in (first..).zip(band.chunks_exact_mut(3 * width)) {
            let [red, green, blue] = &mut rgb;
            planes.double(&planes.cr, y, &mut sums, red);
            planes.double(&planes.cb, y, &mut sums, blue);
            let luma = &planes.luma[y * planes.stride..][..width];
            to_rgb(luma, &mut red[..width], &mut green[..width], &mut blue[..width]);
            join(&red[..width], &green[..width], &blue[..width], samples);
        }
    })
}

/// A table's steps at a quality under 50, at most 255 as baseline coding demands.
fn scaled(table: &[u16; 64], quality: u16) -> [i32; 64] {
    let percent = 5000 / i32::from(quality);
    table.map(|step| ((i32::from(step) * percent + 50) / 100).clamp(1, 255))
}

/// The components of a picture, row by row; chroma has half as many rows as luma and half as long ones.
struct Planes {
    /// Samples in a row of luma, whole blocks with more to fill the last lanes.
    stride: usize,
    luma: Vec<u8>,
    cb: Vec<u8>,
    cr: Vec<u8>,
    /// Rows of chroma that belong to the picture.
    chroma_height: usize,
}

impl Planes {
    /// Takes a picture apart and rounds each block's transform to multiples of the steps, 16 rows at a time.
    fn coded(picture: &RgbImage, luma_steps: &Steps, chroma_steps: &Steps) -> Self {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let chroma_stride = width.div_ceil(2).next_multiple_of(8 * LANES);
        let stride = 2 * chroma_stride;
        let units = height.div_ceil(16);
        let mut planes = Self {
            stride,
            luma: vec![0; units * 16 * stride],
            cb: vec![0; units * 8 * chroma_stride],
            cr: vec![0; units * 8 * chroma_stride],
            chroma_height: height.div_ceil(2),
        };
        let luma = planes.luma.par_chunks_mut(16 * stride);
        let chroma = planes.cb.par_chunks_mut(8 * chroma_stride).zip(planes.cr.par_chunks_mut(8 * chroma_stride));
        luma.zip(chroma).enumerate().for_each(|(unit, (luma, (cb, cr)))| {
            fill_unit(picture, 16 * unit, luma, cb, cr);
            for luma in luma.chunks_exact_mut(8 * stride) {
                quantize_blocks(luma, stride, width.next_multiple_of(8 * LANES), luma_steps);
            }
            for chroma in [cb, cr] {
                quantize_blocks(chroma, chroma_stride, chroma_stride, chroma_steps);
            }
        });
        planes
    }

    /// Row `y` of a chroma plane with both sides doubled, each sample three parts the nearer and one part the farther of
    /// two along each axis. `sums` is for keeping, two longer than a row of chroma.
    fn double(&self, plane: &[u8], y: usize, sums: &mut [u16], row: &mut [u8]) {
        let near = y / 2;
        let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(self.chroma_height - 1) };
        let width = sums.len() - 2;
        let [near, far] = [near, far].map(|y| &plane[y * self.stride / 2..][..width]);
        weigh(near, far, &mut sums[1..=width]);
        // At the edges both are the same.
        (sums[0], sums[width + 1]) = (sums[1], sums[width]);
        double_row(sums, row);
    }
}

/// Fills 16 rows of luma and 8 of chroma from the picture's row `top` on, edges repeated.
fn fill_unit(picture: &RgbImage, top: usize, luma: &mut [u8], cb: &mut [u8], cr: &mut [u8]) {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let stride = luma.len() / 16;
    // libjpeg fills rows to the right before chroma is halved.
    let filled = width.next_multiple_of(16);
    let mut rgb = [(); 3].map(|()| vec![0; filled]);
    let mut chroma = [(); 4].map(|()| vec![0; filled]);
    let pairs = (height - top).min(16).div_ceil(2);
    for (i, luma) in luma.chunks_exact_mut(2 * stride).enumerate().take(pairs) {
        let y = top + 2 * i;
        let [cb_above, cr_above, cb_below, cr_below] = &mut chroma;
        let pairs = [(y, cb_above, cr_above), (y + 1, cb_below, cr_below)];
        for ((y, cb, cr), luma) in pairs.into_iter().zip(luma.chunks_exact_mut(stride)) {
            let row = &picture.as_raw()[y.min(height - 1) * 3 * width..][..3 * width];
            let [red, green, blue] = &mut rgb;
            split(row, red, green, blue);
            for plane in [&mut *red, green, blue] {
                let last = plane[width - 1];
                plane[width..].fill(last);
            }
            from_rgb(red, green, blue, luma, cb, cr);
        }
        let [cb_above, cr_above, cb_below, cr_below] = &chroma;
        halve(cb_above, cb_below, &mut cb[i * stride / 2..]);
        halve(cr_above, cr_below, &mut cr[i * stride / 2..]);
    }
    // It fills downwards after: each plane repeats its own last row.
    for (plane, rows, stride) in [(luma, 2 * pairs, stride), (cb, pairs, stride / 2), (cr, pairs, stride / 2)] {
        let (filled, rest) = plane.split_at_mut(rows * stride);
        rest.chunks_exact_mut(stride).for_each(|row| row.copy_from_slice(&filled[(rows - 1) * stride..]));
    }
}

kernels! {
    /// Y, Cb and Cr of pixels, with weights in 16 fractional bits.
    fn from_rgb(red: &[u8], green: &[u8], blue: &[u8], luma: &mut [u8], cb: &mut [u8], cr: &mut [u8]) {
        // Chroma's half is one unit short, which rounds ties down.
        const CHROMA: i32 = (128 << 16) + (1 << 15) - 1;
        let old = red.iter().zip(green).zip(blue);
        for (((luma, cb), cr), ((&red, &green), &blue)) in luma.iter_mut().zip(cb).zip(cr).zip(old) {
            let [red, green, blue] = [red, green, blue].map(i32::from);
            *luma = ((19_595 * red + 38_470 * green + 7471 * blue + (1 << 15)) >> 16) as u8;
            *cb = ((-11_059 * red - 21_709 * green + 32_768 * blue + CHROMA) >> 16) as u8;
            *cr = ((32_768 * red - 27_439 * green - 5329 * blue + CHROMA) >> 16) as u8;
        }
    }

    /// R, G and B of pixels; `red` holds Cr and `blue` Cb to begin with.
    fn to_rgb(luma: &[u8], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
        const HALF: i32 = 1 << 15;
        for (((red, green), blue), &luma) in red.iter_mut().zip(green).zip(blue).zip(luma) {
            let (luma, cb, cr) = (i32::from(luma), i32::from(*blue) - 128, i32::from(*red) - 128);
            *red = (luma + ((91_881 * cr + HALF) >> 16)).clamp(0, 255) as u8;
            *green = (luma + ((-22_554 * cb - 46_802 * cr + HALF) >> 16)).clamp(0, 255) as u8;
            *blue = (luma + ((116_130 * cb + HALF) >> 16)).clamp(0, 255) as u8;
        }
    }

    /// Means over 2x2 samples, halves rounded down and up in turn.
    fn halve(above: &[u8], below: &[u8], halved: &mut [u8]) {
        let pairs = above.as_chunks::<4>().0.iter().zip(below.as_chunks::<4>().0);
        for (halved, (above, below)) in halved.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
            let [a, b, c, d] = above.map(u16::from);
            let [e, f, g, h] = below.map(u16::from);
            *halved = [((a + b + e + f + 1) >> 2) as u8, ((c + d + g + h + 2) >> 2) as u8];
        }
    }

    /// Three parts of the near samples and one part of the far ones.
    fn weigh(near: &[u8], far: &[u8], sums: &mut [u16]) {
        for ((sum, &near), &far) in sums.iter_mut().zip(near).zip(far) {
            *sum = 3 * u16::from(near) + u16::from(far);
        }
    }

    /// Two samples from each sum, of it and of its neighbour on that side; ties are rounded up on the left and down on the
    /// right.
    fn double_row(sums: &[u16], row: &mut [u8]) {
        let neighbours = sums.iter().zip(&sums[1..]).zip(&sums[2..]);
        for (pair, ((&left, &sum), &right)) in row.as_chunks_mut::<2>().0.iter_mut().zip(neighbours) {
            *pair = [((3 * sum + left + 8) >> 4) as u8, ((3 * sum + right + 7) >> 4) as u8];
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn steps_are_scaled_and_at_most_a_byte() {
        assert_eq!(scaled(&LUMA_TABLE, 25)[..3], [32, 22, 20]);
        assert_eq!(scaled(&CHROMA_TABLE, 5)[..5], [170, 180, 240, 255, 255]);
    }

    #[test]
    fn chroma_is_halved_with_alternating_rounding() {
        let mut halved = [0; 4];
        // 2 / 4 rounds down in the first column and up in the second.
        halve(&[0, 1, 0, 1, 8, 8, 8, 8], &[1, 0, 1, 0, 8, 8, 8, 8], &mut halved);
        assert_eq!(halved, [0, 1, 8, 8]);
    }

    #[test]
    fn chroma_is_doubled_by_triangles() {
        let mut sums = [0; 4];
        weigh(&[0, 16], &[0, 16], &mut sums[1..3]);
        (sums[0], sums[3]) = (sums[1], sums[2]);
        let mut row = [0; 4];
        double_row(&sums, &mut row);
        assert_eq!(row, [0, 4, 12, 16]);
    }

    #[test]
    fn odd_sizes_keep_flat_colours() {
        let flat = RgbImage::from_pixel(35, 33, Rgb([128; 3]));
        assert_eq!(coded(&flat, 25), flat);
    }
}
