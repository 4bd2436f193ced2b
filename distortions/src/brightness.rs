//! Brightness: a constant added or a power taken, sample by sample.

use image::RgbImage;

use crate::Severity;
use crate::levels::{mapped, truncated, unit};

const SHIFTS: [f32; 5] = [0.1, 0.15, 0.2, 0.27, 0.35];

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

/// Takes a power over 1.
pub(crate) fn darken_gamma_rgb(picture: &RgbImage, severity: Severity) -> RgbImage {
    let gamma = severity.pick([1.4, 1.7, 2.1, 2.6, 3.2]);
    mapped(picture, |level| truncated(libm::pow(unit(level), gamma)))
}
