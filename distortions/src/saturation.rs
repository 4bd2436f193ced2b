//! Saturation: the distance to grey scaled. A grey picture stays as it is.

use std::array;

use image::RgbImage;

use crate::{Severity, hsv, ycrcb};

/// Scales saturation up in HSV.
pub(crate) fn strengthen_hsv(picture: &RgbImage, severity: Severity) -> RgbImage {
    saturation_scaled(picture, severity.pick([3.0, 6.0, 12.0, 20.0, 64.0]))
}

/// Scales saturation down in HSV, to grey at last.
pub(crate) fn weaken_hsv(picture: &RgbImage, severity: Severity) -> RgbImage {
    saturation_scaled(picture, severity.pick([0.7, 0.55, 0.4, 0.2, 0.0]))
}

fn saturation_scaled(picture: &RgbImage, factor: f32) -> RgbImage {
    let table = array::from_fn(|saturation| (saturation as f32 * factor) as u8);
    hsv::with_saturation_mapped(picture, &table)
}

/// Scales chroma up in `YCrCb`.
pub(crate) fn strengthen_ycrcb(picture: &RgbImage, severity: Severity) -> RgbImage {
    chroma_scaled(picture, severity.pick([2.0, 3.0, 5.0, 8.0, 16.0]))
}

/// Scales chroma down in `YCrCb`, to grey at last.
pub(crate) fn weaken_ycrcb(picture: &RgbImage, severity: Severity) -> RgbImage {
    chroma_scaled(picture, severity.pick([0.6, 0.4, 0.2, 0.1, 0.0]))
}

fn chroma_scaled(picture: &RgbImage, factor: f32) -> RgbImage {
    let table = array::from_fn(|chroma| (128.0 + (chroma as f32 - 128.0) * factor) as u8);
    ycrcb::with_chroma_mapped(picture, &table)
}
