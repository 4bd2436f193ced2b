//! Saturation: chroma scaled.

use image::RgbImage;

use crate::{Severity, ycrcb};

/// Scales chroma up in `YCrCb`; a grey picture stays as it is.
pub(crate) fn strengthen_ycrcb(picture: &RgbImage, severity: Severity) -> RgbImage {
    let factor = severity.pick([2, 3, 5, 8, 16]);
    let scaled = |chroma: u8| (128 + (i32::from(chroma) - 128) * factor).clamp(0, 255) as u8;
    let mut result = picture.clone();
    for pixel in result.pixels_mut() {
        let [luma, cr, cb] = ycrcb::from_levels(pixel.0);
        pixel.0 = ycrcb::to_levels([luma, scaled(cr), scaled(cb)]);
    }
    result
}
