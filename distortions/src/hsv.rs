//! Between RGB and HSV with the numbers of `OpenCV`: 12-bit integer tables and single floats for levels, single floats for
//! units.
//!
//! Where its vector code fuses a multiplication with an addition, so does this, which makes hues the same to the last bit.
//! Its scalar code, which the last pixels of a row fall to, rounds levels where this truncates: one level of difference.

use image::RgbImage;

use crate::cpu::kernels;
use crate::levels::{level_under_single, unit_single};
use crate::lookup::look_up;
use crate::rows::in_planes;

/// A picture with the saturation of its pixels, 0 to 255, replaced by the table's entries for it.
///
/// The way to HSV and back alone costs up to 6 levels, because hue has but 180.
pub(crate) fn with_saturation_mapped(picture: &RgbImage, table: &[u8; 256]) -> RgbImage {
    with_levels(picture, |saturations, _| look_up(saturations, table))
}

/// A picture with the value of its pixels, 0 to 255, replaced by the table's entries for it.
pub(crate) fn with_value_mapped(picture: &RgbImage, table: &[u8; 256]) -> RgbImage {
    with_levels(picture, |_, values| look_up(values, table))
}

/// A picture with the saturation and the value of its pixels changed by `change`; hue stays.
fn with_levels(picture: &RgbImage, change: impl Fn(&mut [u8], &mut [u8]) + Sync) -> RgbImage {
    in_planes(picture, |[red, green, blue]| {
        to_hsv(red, green, blue);
        change(green, blue);
        to_rgb(red, green, blue);
    })
}

/// A picture with `shift` added to the value of its pixels, with white at 1; clipped and truncated at the end only.
pub(crate) fn with_value_shifted(picture: &RgbImage, shift: f32) -> RgbImage {
    in_planes(picture, |[red, green, blue]| shift_value(red, green, blue, shift))
}

/// The whole number nearest to a quotient under 2^23: an entry of `OpenCV`'s tables, and 0 for a divisor of 0.
#[inline]
fn rounded_quotient(dividend: f32, divisor: i32) -> i32 {
    // Added to 2^23, a number is rounded to a whole one, which is then its lowest bits. Infinity has none of those bits.
    ((dividend / divisor as f32 + 8_388_608.0).to_bits() & 0x007F_FFFF) as i32
}

kernels! {
    /// Replaces R, G and B by hue, 0 to 179, saturation and value.
    fn to_hsv(first: &mut [u8], second: &mut [u8], third: &mut [u8]) {
        for ((first, second), third) in first.iter_mut().zip(second).zip(third) {
            let [red, green, blue] = [*first, *second, *third].map(i32::from);
            let brightest = red.max(green).max(blue);
            let chroma = brightest - red.min(green).min(blue);
            let along = if red == brightest {
                green - blue
            } else if green == brightest {
                blue - red + 2 * chroma
            } else {
                red - green + 4 * chroma
            };
            let turned = (along * rounded_quotient(30.0 * 4096.0, chroma) + 2048) >> 12;
            *first = (if turned < 0 { turned + 180 } else { turned }) as u8;
            *second = ((chroma * rounded_quotient(255.0 * 4096.0, brightest) + 2048) >> 12) as u8;
            *third = brightest as u8;
        }
    }

    /// Replaces hue, saturation and value by R, G and B.
    fn to_rgb(first: &mut [u8], second: &mut [u8], third: &mut [u8]) {
        for ((first, second), third) in first.iter_mut().zip(second).zip(third) {
            let turned = f32::from(*first) * (6.0 / 180.0);
            let sector = level_under_single(turned);
            let saturation = f32::from(*second) * (1.0 / 255.0);
            let value = f32::from(*third) * (1.0 / 255.0);
            let (between, lowest) = lower_samples(turned - f32::from(sector), sector, saturation, value);
            let [between, lowest] = [between, lowest].map(|unit| level_under_single(unit * 255.0));
            [*first, *second, *third] = placed(sector, *third, between, lowest);
        }
    }

    /// Adds to the value of R, G and B.
    fn shift_value(first: &mut [u8], second: &mut [u8], third: &mut [u8], shift: f32) {
        for ((first, second), third) in first.iter_mut().zip(second).zip(third) {
            let [red, green, blue] = [*first, *second, *third].map(unit_single);
            let brightest = red.max(green).max(blue);
            let chroma = brightest - red.min(green).min(blue);
            let saturation = chroma / (brightest + f32::EPSILON);
            let (along, start) = if red == brightest {
                (green - blue, if green < blue { 360.0 } else { 0.0 })
            } else if green == brightest {
                (blue - red, 120.0)
            } else {
                (red - green, 240.0)
            };
            let turned = along.mul_add(60.0 / (chroma + f32::EPSILON), start) * (6.0 / 360.0);
            // Levels are too far apart for a hue to be rounded up to a full turn.
            let sector = level_under_single(turned);
            let value = brightest + shift;
            let (between, lowest) = lower_samples(turned - f32::from(sector), sector, saturation, value);
            [*first, *second, *third] =
                placed(sector, value, between, lowest).map(|unit| level_under_single(unit.clamp(0.0, 1.0) * 255.0));
        }
    }
}

/// The middle one and the lowest of a pixel's samples; the highest is the value.
#[inline]
fn lower_samples(fraction: f32, sector: u8, saturation: f32, value: f32) -> (f32, f32) {
    // In odd sectors the middle sample falls towards the next one, in even sectors it rises.
    let fraction = if sector & 1 == 1 { fraction } else { 1.0 - fraction };
    (value * (-saturation).mul_add(fraction, 1.0), value * (1.0 - saturation))
}

/// Red, green and blue from a pixel's samples, highest first, in one of the six sectors of hue, 0 to 5.
#[inline]
fn placed<T: Copy>(sector: u8, highest: T, between: T, lowest: T) -> [T; 3] {
    let sample = |at_highest: [u8; 2], at_between: [u8; 2]| {
        if sector == at_highest[0] || sector == at_highest[1] {
            highest
        } else if sector == at_between[0] || sector == at_between[1] {
            between
        } else {
            lowest
        }
    };
    [sample([0, 5], [1, 4]), sample([1, 2], [0, 3]), sample([3, 4], [2, 5])]
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    /// Hue, saturation and value of one pixel.
    fn hsv([red, green, blue]: [u8; 3]) -> [u8; 3] {
        let [mut first, mut second, mut third] = [[red], [green], [blue]];
        to_hsv(&mut first, &mut second, &mut third);
        [first[0], second[0], third[0]]
    }

    #[test]
    fn quotients_are_those_of_opencvs_tables() {
        for divisor in 1..=255 {
            let exact = |dividend: f64| (dividend / f64::from(divisor)).round_ties_even() as i32;
            assert_eq!(rounded_quotient(255.0 * 4096.0, divisor), exact(255.0 * 4096.0));
            assert_eq!(rounded_quotient(30.0 * 4096.0, divisor), exact(30.0 * 4096.0));
        }
        assert_eq!(rounded_quotient(255.0 * 4096.0, 0), 0);
    }

    #[test]
    fn primaries_and_their_mixtures_lie_30_apart_from_red_on() {
        let turns = [[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255]];
        for (pixel, hue) in turns.into_iter().zip([0, 30, 60, 90, 120, 150]) {
            assert_eq!(hsv(pixel), [hue, 255, 255]);
        }
        assert_eq!(hsv([200, 100, 110]), [177, 127, 200]);
        assert_eq!(hsv([7, 7, 7]), [0, 0, 7]);
    }

    #[test]
    fn the_way_there_and_back_costs_up_to_six_levels() {
        let cube = RgbImage::from_fn(51 * 51, 51, |x, y| Rgb([x / 51, y, x % 51].map(|n| (n * 5) as u8)));
        let back = with_levels(&cube, |_, _| ());
        assert_eq!(cube.iter().zip(back.iter()).map(|(a, b)| a.abs_diff(*b)).max(), Some(6));
        assert_eq!(with_levels(&RgbImage::from_pixel(1, 1, Rgb([0, 30, 250])), |_, _| ()).as_raw(), &[0, 24, 250]);
    }

    #[test]
    fn grey_stays_grey_however_its_value_is_shifted() {
        let greys = RgbImage::from_fn(256, 32, |x, _| Rgb([x as u8; 3]));
        for shift in [-0.3, 0.2] {
            let shifted = with_value_shifted(&greys, shift);
            for (before, after) in greys.pixels().zip(shifted.pixels()) {
                let unit = (f32::from(before.0[0]) / 255.0 + shift).clamp(0.0, 1.0);
                assert_eq!(after.0, [(unit * 255.0) as u8; 3]);
            }
        }
    }
}
