//! Between RGB and `YCrCb` with the numbers of `OpenCV`: 14-bit integers for levels, single floats for units.

/// Rounds a number with 14 fractional bits half up.
fn descale(number: i32) -> i32 {
    (number + (1 << 13)) >> 14
}

/// A pixel's Y, Cr and Cb, each 0 to 255; grey has Cr = Cb = 128.
pub(crate) fn from_levels([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = [red, green, blue].map(i32::from);
    let luma = descale(4899 * red + 9617 * green + 1868 * blue);
    let cr = descale((red - luma) * 11_682 + (128 << 14));
    let cb = descale((blue - luma) * 9241 + (128 << 14));
    [luma, cr, cb].map(|number| number.clamp(0, 255) as u8)
}

/// The RGB levels of a pixel given as Y, Cr and Cb.
pub(crate) fn to_levels([luma, cr, cb]: [u8; 3]) -> [u8; 3] {
    let (luma, cr, cb) = (i32::from(luma), i32::from(cr) - 128, i32::from(cb) - 128);
    let red = luma + descale(22_987 * cr);
    let green = luma + descale(-5636 * cb - 11_698 * cr);
    let blue = luma + descale(29_049 * cb);
    [red, green, blue].map(|number| number.clamp(0, 255) as u8)
}

/// A pixel's Y, Cr and Cb from samples of 0 to 1; grey has Cr = Cb = 0.5.
pub(crate) fn from_units([red, green, blue]: [f32; 3]) -> [f32; 3] {
    let luma = red * 0.299 + green * 0.587 + blue * 0.114;
    [luma, (red - luma) * 0.713 + 0.5, (blue - luma) * 0.564 + 0.5]
}

/// The RGB samples of a pixel given as Y, Cr and Cb; not clipped.
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
