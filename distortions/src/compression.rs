//! Compression: what is left after coding at a low quality.

use image::RgbImage;

use crate::{Severity, jpeg, jpeg2000};

/// JPEG as Pillow writes and reads it.
pub(crate) fn jpeg(picture: &RgbImage, severity: Severity) -> RgbImage {
    jpeg::coded(picture, severity.pick([25, 18, 12, 8, 5]))
}

/// JPEG 2000 as Pillow writes it for a signal-to-noise ratio, and reads it.
///
/// The ratio that it reaches is a few tenths of a decibel under the one it is asked for.
pub(crate) fn jpeg_2000(picture: &RgbImage, severity: Severity) -> RgbImage {
    jpeg2000::coded(picture, severity.pick([29.0, 27.5, 26.0, 24.5, 23.0]))
}
