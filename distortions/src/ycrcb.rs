//! Between RGB and `YCrCb` with the numbers of `OpenCV`: 14-bit integers for levels, single floats for units.

use image::RgbImage;

use crate::cpu::kernels;
use crate::lookup::look_up;
use crate::rows::in_planes;

/// A picture with its Cr and Cb, 0 to 255 with grey at 128, replaced by the table's entries for them.
pub(crate) fn with_chroma_mapped(picture: &RgbImage, table: &[u8; 256]) -> RgbImage {
    in_planes(picture, |[red, green, blue]| {
        to_ycrcb(red, green, blue);
        look_up(green, table);
        look_up(blue, table);
        to_rgb(red, green, blue);
    })
}

kernels! {
    /// Replaces R, G and B by Y, Cr and Cb.
    fn to_ycrcb(first: &mut [u8], second: &mut [u8], third: &mut [u8]) {
        for ((first, second), third) in first.iter_mut().zip(second).zip(third) {
            [*first, *second, *third] = from_levels([*first, *second, *third]);
        }
    }

    /// Replaces Y, Cr and Cb by R, G and B.
    fn to_rgb(first: &mut [u8], second: &mut [u8], third: &mut [u8]) {
        for ((first, second), third) in first.iter_mut().zip(second).zip(third) {
            [*first, *second, *third] = to_levels([*first, *second, *third]);
        }
    }
}

/// Rounds a number with 14 fractional bits half up.
#[inline]
fn descale(number: i32) -> i16 {
    ((number + (1 << 13)) >> 14) as i16
}

/// A factor with 14 fractional bits times a number of up to 2^13, rounded half up. The upper and the lower half of a
/// product of short integers are one instruction each.
#[inline]
fn product(number: i16, factor: i16) -> i16 {
    let upper = ((i32::from(4 * number) * i32::from(factor)) >> 16) as i16;
    let lower = (4 * number).wrapping_mul(factor) as u16;
    upper + (lower >> 15) as i16
}

/// A pixel's Y, Cr and Cb, each 0 to 255; grey has Cr = Cb = 128.
#[inline]
fn from_levels([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let luma = descale(4899 * i32::from(red) + 9617 * i32::from(green) + 1868 * i32::from(blue));
    let cr = 128 + product(i16::from(red) - luma, 11_682);
    let cb = 128 + product(i16::from(blue) - luma, 9241);
    [luma, cr, cb].map(|number| number.clamp(0, 255) as u8)
}

/// The RGB levels of a pixel given as Y, Cr and Cb.
#[inline]
fn to_levels([luma, cr, cb]: [u8; 3]) -> [u8; 3] {
    let (luma, cr, cb) = (i16::from(luma), i16::from(cr) - 128, i16::from(cb) - 128);
    let red = luma + product(cr, 22_987);
    let green = luma + descale(-5636 * i32::from(cb) - 11_698 * i32::from(cr));
    let blue = luma + product(cb, 29_049);
    [red, green, blue].map(|number| number.clamp(0, 255) as u8)
}

/// A pixel's Y, Cr and Cb from samples of 0 to 1; grey has Cr = Cb = 0.5.
#[inline]
pub(crate) fn from_units([red, green, blue]: [f32; 3]) -> [f32; 3] {
    let luma = red * 0.299 + green * 0.587 + blue * 0.114;
    [luma, (red - luma) * 0.713 + 0.5, (blue - luma) * 0.564 + 0.5]
}

/// The RGB samples of a pixel given as Y, Cr and Cb; not clipped.
#[inline]
pub(crate) fn to_units([luma, cr, cb]: [f32; 3]) -> [f32; 3] {
    let (cr, cb) = (cr - 0.5, cb - 0.5);
    [luma + 1.403 * cr, luma - 0.714 * cr - 0.344 * cb, luma + 1.773 * cb]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_stays_grey() {
        for level in 0..=255 {
            assert_eq!(from_levels([level; 3]), [level, 128, 128]);
            assert_eq!(to_levels([level, 128, 128]), [level; 3]);
        }
    }

    #[test]
    fn primaries_have_opencvs_numbers() {
        assert_eq!(from_levels([255, 0, 0]), [76, 255, 85]);
        assert_eq!(from_levels([0, 255, 0]), [150, 21, 43]);
        assert_eq!(from_levels([0, 0, 255]), [29, 107, 255]);
    }

    #[test]
    fn units_come_back() {
        let back = to_units(from_units([0.9, 0.2, 0.4]));
        for (sample, expected) in back.iter().zip([0.9, 0.2, 0.4]) {
            assert!((sample - expected).abs() < 2e-3, "{back:?}");
        }
    }
}
