//! Between 8-bit levels and the unit interval, the way the reference rounds: it truncates.

use image::{ImageBuffer, Rgb, RgbImage};

/// A picture whose samples stand for 0 to 1 and may lie outside.
pub(crate) type UnitImage = ImageBuffer<Rgb<f64>, Vec<f64>>;

/// A level as a number from 0 to 1.
pub(crate) fn unit(level: u8) -> f64 {
    f64::from(level) / 255.0
}

/// The level under a number, which is clipped to 0 to 1 first.
pub(crate) fn truncated(unit: f64) -> u8 {
    (unit.clamp(0.0, 1.0) * 255.0) as u8
}

/// A picture's samples as numbers from 0 to 1.
pub(crate) fn units(picture: &RgbImage) -> UnitImage {
    let mut units = UnitImage::new(picture.width(), picture.height());
    for (new, &level) in units.iter_mut().zip(picture.as_raw()) {
        *new = unit(level);
    }
    units
}

/// The levels under the samples.
pub(crate) fn truncate(picture: &UnitImage) -> RgbImage {
    let mut levels = RgbImage::new(picture.width(), picture.height());
    for (new, &unit) in levels.iter_mut().zip(picture.as_raw()) {
        *new = truncated(unit);
    }
    levels
}

/// A picture with each level replaced by what `f` makes of it; `f` is asked once per level.
pub(crate) fn mapped(picture: &RgbImage, f: impl Fn(u8) -> u8) -> RgbImage {
    let table: Vec<u8> = (0..=255).map(f).collect();
    let mut result = picture.clone();
    for sample in result.iter_mut() {
        *sample = table[usize::from(*sample)];
    }
    result
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
    fn levels_are_truncated_not_rounded() {
        assert_eq!(truncated(100.9 / 255.0), 100);
        assert_eq!(truncated(-0.1), 0);
        assert_eq!(truncated(1.1), 255);
    }
}
