//! Pictures made piece by piece, on as many threads as there are: in bands of rows, and in blocks of pixels taken apart
//! into planes. No piece depends on another, nor on the number of threads.

use image::RgbImage;
use rayon::prelude::*;

use crate::cpu::kernels;

/// Rows that a thread takes at a time: a photograph has some dozens of bands, a fraction of a millisecond each.
pub(crate) const BAND: usize = 32;

/// Pixels of a block: few enough for its planes to stay in the first cache.
const BLOCK: usize = 1024;

/// Blocks that a thread takes at a time, at least.
const BLOCKS: usize = 16;

/// A picture of the size of `picture`; `fill` gets the number of a band's first row and its samples to set.
pub(crate) fn in_bands(picture: &RgbImage, fill: impl Fn(usize, &mut [u8]) + Sync) -> RgbImage {
    let mut result = RgbImage::new(picture.width(), picture.height());
    let band = BAND * 3 * picture.width() as usize;
    result.par_chunks_mut(band).enumerate().for_each(|(i, samples)| fill(i * BAND, samples));
    result
}

/// A copy of `picture` with the samples changed by `change`, which gets some of them at a time, whole pixels.
pub(crate) fn in_pieces(picture: &RgbImage, change: impl Fn(&mut [u8]) + Sync) -> RgbImage {
    in_blocks(
        picture,
        || (),
        |(), old, new| {
            new.copy_from_slice(old);
            change(new);
        },
    )
}

/// A copy of `picture` with the samples changed by `change`, which gets the red, green and blue ones of a block of pixels.
pub(crate) fn in_planes(picture: &RgbImage, change: impl Fn([&mut [u8]; 3]) + Sync) -> RgbImage {
    in_blocks(
        picture,
        || [[0; BLOCK]; 3],
        |planes, old, new| {
            let [red, green, blue] = planes.each_mut().map(|plane| &mut plane[..old.len() / 3]);
            split(old, red, green, blue);
            change([&mut *red, &mut *green, &mut *blue]);
            join(red, green, blue, new);
        },
    )
}

/// A picture made of blocks of pixels; `fill` gets the old samples of one, and the new ones to set, beside a `scratch` for
/// keeping.
fn in_blocks<S>(
    picture: &RgbImage,
    scratch: impl Fn() -> S + Sync + Send,
    fill: impl Fn(&mut S, &[u8], &mut [u8]) + Sync,
) -> RgbImage {
    // Collected as arrays, the samples are written once, where zeroes or a copy to begin with would take as long as `fill`.
    let filled = |scratch: &mut S, old: &[u8]| {
        let mut block = [0; 3 * BLOCK];
        fill(scratch, old, &mut block[..old.len()]);
        block
    };
    let blocks = picture.as_raw().par_chunks(3 * BLOCK).with_min_len(BLOCKS);
    let blocks: Vec<[u8; 3 * BLOCK]> = blocks.map_init(scratch, filled).collect();
    let mut samples = blocks.into_flattened();
    samples.truncate(picture.len());
    RgbImage::from_raw(picture.width(), picture.height(), samples).expect("as many samples as before")
}

kernels! {
    /// Takes pixels apart.
    pub(crate) fn split(pixels: &[u8], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
        let planes = red.iter_mut().zip(green).zip(blue);
        for (pixel, ((red, green), blue)) in pixels.as_chunks::<3>().0.iter().zip(planes) {
            [*red, *green, *blue] = *pixel;
        }
    }

    /// Puts pixels together.
    pub(crate) fn join(red: &[u8], green: &[u8], blue: &[u8], pixels: &mut [u8]) {
        let planes = red.iter().zip(green).zip(blue);
        for (pixel, ((&red, &green), &blue)) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(planes) {
            *pixel = [red, green, blue];
        }
    }
}
