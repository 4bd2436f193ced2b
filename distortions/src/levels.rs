//! Between 8-bit levels and the unit interval, the way the reference rounds: it truncates.

use std::array;

use image::RgbImage;
use rayon::prelude::*;

use crate::lookup::look_up;
use crate::rows::{in_pieces, in_planes};

/// Pixels that one thread takes at a time.
pub(crate) const PIXELS: usize = 1 << 14;

/// Every level as a number from 0 to 1.
const UNITS: [f64; 256] = {
    let mut units = [0.0; 256];
    let mut level = 0;
    while level < 256 {
        units[level] = level as f64 / 255.0;
        level += 1;
    }
    units
};

/// A level as a number from 0 to 1.
#[inline]
pub(crate) fn unit(level: u8) -> f64 {
    UNITS[usize::from(level)]
}

/// [`unit`] as a single float: a product, corrected by what it leaves over, which is faster than a quotient and as exact.
#[inline]
pub(crate) fn unit_single(level: u8) -> f32 {
    let level = f32::from(level);
    let near = level * (1.0 / 255.0);
    (-near).mul_add(255.0, level).mul_add(1.0 / 255.0, near)
}

/// The level under a number, which is clipped to 0 to 1 first.
#[inline]
pub(crate) fn truncated(unit: f64) -> u8 {
    level_under(unit.clamp(0.0, 1.0) * 255.0)
}

/// The whole number under one of 0 to 255: what a cast gives, in operations that vectors have.
#[inline]
pub(crate) fn level_under(number: f64) -> u8 {
    const SHIFT: f64 = (1_u64 << 52) as f64;
    // At 2^52 a number is rounded to a whole one, which is then its lowest bits.
    let rounded = number + SHIFT;
    (rounded.to_bits() as u8).wrapping_sub(u8::from(rounded - SHIFT > number))
}

/// [`level_under`] a single float.
#[inline]
pub(crate) fn level_under_single(number: f32) -> u8 {
    const SHIFT: f32 = (1_u32 << 23) as f32;
    let rounded = number + SHIFT;
    (rounded.to_bits() as u8).wrapping_sub(u8::from(rounded - SHIFT > number))
}

/// A picture with each level replaced by what `f` makes of it; `f` is asked once per level.
pub(crate) fn mapped(picture: &RgbImage, f: impl Fn(u8) -> u8) -> RgbImage {
    let table = array::from_fn(|level| f(level as u8));
    in_pieces(picture, |samples| look_up(samples, &table))
}

/// A picture with each level replaced by the one that its channel's table has for it.
pub(crate) fn mapped_by_channel(picture: &RgbImage, tables: &[[u8; 256]; 3]) -> RgbImage {
    in_planes(picture, |planes| {
        for (plane, table) in planes.into_iter().zip(tables) {
            look_up(plane, table);
        }
    })
}

/// How many samples of each level a channel has.
pub(crate) type Counts = [u32; 256];

/// The counts of each channel.
pub(crate) fn counts_by_channel(picture: &RgbImage) -> [Counts; 3] {
    let count = |samples: &[u8]| {
        let mut counts = [[0; 256]; 3];
        for pixel in samples.as_chunks::<3>().0 {
            for (counts, &level) in counts.iter_mut().zip(pixel) {
                counts[usize::from(level)] += 1;
            }
        }
        counts
    };
    let sum = |mut sums: [Counts; 3], counts: [Counts; 3]| {
        for (sum, count) in sums.as_flattened_mut().iter_mut().zip(counts.as_flattened()) {
            *sum += count;
        }
        sums
    };
    picture.as_raw().par_chunks(3 * PIXELS).map(count).reduce(|| [[0; 256]; 3], sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_survives_the_way_there_and_back() {
        for level in 0..=255 {
            assert_eq!(truncated(unit(level)), level);
        }
    }

    #[test]
    fn a_unit_in_single_precision_is_the_quotient() {
        for level in 0..=255 {
            assert_eq!(unit_single(level), f32::from(level) / 255.0);
            assert_eq!(unit_single(level), unit(level) as f32);
        }
    }

    #[test]
    fn the_level_under_a_number_is_what_a_cast_gives() {
        for number in (0..=255_000).map(|thousandths| f64::from(thousandths) / 1000.0) {
            for near in [number, number.next_up(), number.next_down().max(0.0)] {
                assert_eq!(level_under(near), near as u8, "{near}");
                assert_eq!(level_under_single(near as f32), near as f32 as u8, "{near}");
            }
        }
    }

    #[test]
    fn levels_are_truncated_not_rounded() {
        assert_eq!(truncated(100.9 / 255.0), 100);
        assert_eq!(truncated(-0.1), 0);
        assert_eq!(truncated(1.1), 255);
    }
}
