//! Compression: what is left after coding at a low quality.

use image::RgbImage;

use crate::{Severity, jpeg};

/// JPEG as Pillow writes and reads it.
pub(crate) fn jpeg(picture: &RgbImage, severity: Severity) -> RgbImage {
    jpeg::coded(picture, severity.pick([25, 18, 12, 8, 5]))
}
