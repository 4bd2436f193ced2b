//! Brightness: a constant added or a power taken, sample by sample.

use std::array;

use image::RgbImage;

use crate::Severity;
use crate::hsv;
use crate::levels::{mapped, truncated, unit};

const SHIFTS: [f32; 5] = [0.1, 0.15, 0.2, 0.27, 0.35];
const VALUE_SHIFTS: [f32; 5] = [0.1, 0.2, 0.3, 0.4, 0.5];

/// Adds a constant to the value in HSV.
pub(crate) fn brighten_shift_hsv(picture: &RgbImage, severity: Severity) -> RgbImage {
    hsv::with_value_shifted(picture, severity.pick(VALUE_SHIFTS))
}

/// Subtracts a constant from the value in HSV.
pub(crate) fn darken_shift_hsv(picture: &RgbImage, severity: Severity) -> RgbImage {
    hsv::with_value_shifted(picture, -severity.pick(VALUE_SHIFTS))
}

/// Adds a constant.
pub(crate) fn brighten_shift_rgb(picture: &RgbImage, severity: Severity) -> RgbImage {
    shifted(picture, severity.pick(SHIFTS))
}

/// Subtracts a constant.
pub(crate) fn darken_shift_rgb(picture: &RgbImage, severity: Severity) -> RgbImage {
    shifted(picture, -severity.pick(SHIFTS))
}

/// Adds `shift`, in the reference's single precision.
fn shifted(picture: &RgbImage, shift: f32) -> RgbImage {
    mapped(picture, |level| ((unit(level) as f32 + shift).clamp(0.0, 1.0) * 255.0) as u8)
}

/// Takes a power under 1 of each sample.
pub(crate) fn brighten_gamma_rgb(picture: &RgbImage, severity: Severity) -> RgbImage {
    let gamma = severity.pick([0.8, 0.7, 0.6, 0.45, 0.3]);
    mapped(picture, |level| powered(level, gamma))
}

/// Takes a power over 1 of each sample.
pub(crate) fn darken_gamma_rgb(picture: &RgbImage, severity: Severity) -> RgbImage {
    let gamma = severity.pick([1.4, 1.7, 2.1, 2.6, 3.2]);
    mapped(picture, |level| powered(level, gamma))
}

/// Takes a power under 1 of the value in HSV.
pub(crate) fn brighten_gamma_hsv(picture: &RgbImage, severity: Severity) -> RgbImage {
    value_powered(picture, severity.pick([0.7, 0.58, 0.47, 0.36, 0.25]))
}

/// Takes a power over 1 of the value in HSV.
pub(crate) fn darken_gamma_hsv(picture: &RgbImage, severity: Severity) -> RgbImage {
    value_powered(picture, severity.pick([1.5, 1.8, 2.2, 2.7, 3.5]))
}

fn value_powered(picture: &RgbImage, gamma: f64) -> RgbImage {
    hsv::with_value_mapped(picture, &array::from_fn(|level| powered(level as u8, gamma)))
}

/// A power of a level, with white at 1.
fn powered(level: u8, gamma: f64) -> u8 {
    truncated(libm::pow(unit(level), gamma))
}
