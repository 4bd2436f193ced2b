//! Image distortions at five severities, after the reference of `DepictQA`, `x_distortion`: pure functions on 8-bit RGB pixels.
//!
//! The same picture, type, severity and key give the same samples on every machine: draws come from `ChaCha8` keyed by the
//! caller, and transcendental functions from the `libm` crate. Nothing here knows files, tables or encodings.
//!
//! To add a type: one row in the table of `distortion.rs` and one function in its group's file.

mod blur;
mod brightness;
mod compression;
mod contrast;
mod cpu;
mod dct;
mod distortion;
mod draws;
mod equalization;
mod estimates;
mod filter;
mod gaussian;
mod hsv;
mod jpeg;
mod jpeg2000;
mod levels;
mod lookup;
mod noise;
mod otsu;
mod oversharpen;
mod pixelate;
mod quantization;
pub mod resize;
mod rows;
mod saturation;
mod ycrcb;
mod zoom;

use image::RgbImage;
use image::imageops;

pub use distortion::{Distortion, Group, Severity};

use distortion::Render;
use draws::Draws;

/// The shortest side that can be distorted, in pixels.
pub const SHORTEST_SIDE: u32 = 32;

/// Why a picture could not be distorted, or a name or number not be read.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    /// A side is under [`SHORTEST_SIDE`].
    #[error("picture is {width}x{height} pixels, expected at least {SHORTEST_SIDE} a side: leave it out or enlarge it")]
    TooSmall {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A severity outside 1 to 5.
    #[error("severity is {0}, expected 1 to 5 (the picture itself, severity 0, is not distorted)")]
    Severity(u8),
    /// No distortion has this name.
    #[error("no distortion is named `{name}`, did you mean {}?", near.join(", "))]
    UnknownName {
        /// The name as given.
        name: String,
        /// Names a few letters away, nearest first.
        near: Vec<&'static str>,
    },
    /// An angle was given to a type that has no direction.
    #[error("{0} takes no angle: give one to blur_motion only")]
    AngleNotTaken(Distortion),
    /// The angle is not a number or infinite.
    #[error("angle is {0}, expected a finite number of degrees")]
    AngleNotFinite(f64),
}

/// Distorts `picture`; the size stays.
///
/// `key` seeds `ChaCha8`; it should be unique to the picture, type and severity. Types that are not
/// [`random`](Distortion::random) ignore it. `angle`, in degrees, is the direction of `blur_motion`, which otherwise
/// draws it from the key, uniformly from -90 to 90.
///
/// # Errors
/// [`Error::TooSmall`], [`Error::AngleNotTaken`] and [`Error::AngleNotFinite`].
pub fn distort(
    picture: &RgbImage,
    distortion: Distortion,
    severity: Severity,
    key: &[u8; 32],
    angle: Option<f64>,
) -> Result<RgbImage, Error> {
    let (width, height) = picture.dimensions();
    if width.min(height) < SHORTEST_SIDE {
        return Err(Error::TooSmall { width, height });
    }
    match (distortion.render(), angle) {
        (Render::Directed(_), Some(angle)) if !angle.is_finite() => Err(Error::AngleNotFinite(angle)),
        (Render::Directed(render), angle) => {
            let angle = angle.unwrap_or_else(|| Draws::new(key).uniform() * 180.0 - 90.0);
            Ok(render(picture, severity, angle))
        }
        (Render::Fixed(_) | Render::Drawn(_), Some(_)) => Err(Error::AngleNotTaken(distortion)),
        (Render::Fixed(render), None) => Ok(render(picture, severity)),
        (Render::Drawn(render), None) => Ok(render(picture, severity, &mut Draws::new(key))),
    }
}

/// Brings a picture to the size at which it is to be distorted; `DepictQA` uses a short side of 224 pixels.
///
/// Without `crop`, a short side over `short_side` is brought down to it, bicubically, and a smaller picture stays as it
/// is. With `crop`, the short side is brought to exactly `short_side`, enlarging if need be, and the square in the centre
/// is cut. Without a `short_side` the picture stays as it is.
pub fn fit(picture: &RgbImage, short_side: Option<u32>, crop: bool) -> RgbImage {
    let (width, height) = picture.dimensions();
    let shortest = width.min(height);
    let Some(side) = short_side.filter(|side| shortest > 0 && (crop || *side < shortest)) else {
        return picture.clone();
    };
    let (width, height) = scaled(width, height, side);
    let resized = resize::bicubic(picture, width, height);
    if !crop {
        return resized;
    }
    let (left, top) = ((width - side) / 2, (height - side) / 2);
    imageops::crop_imm(&resized, left, top, side, side).to_image()
}

/// The width and height that [`fit`] gives a picture of `width` x `height` pixels.
pub fn fitted_size(width: u32, height: u32, short_side: Option<u32>, crop: bool) -> (u32, u32) {
    let shortest = width.min(height);
    match short_side.filter(|side| shortest > 0 && (crop || *side < shortest)) {
        Some(side) if crop => (side, side),
        Some(side) => scaled(width, height, side),
        None => (width, height),
    }
}

/// The size at which the short side is `side`. The reference rounds a half to the even length.
fn scaled(width: u32, height: u32, side: u32) -> (u32, u32) {
    let ratio = f64::from(side) / f64::from(width.min(height));
    let scaled = |length: u32| (f64::from(length) * ratio).round_ties_even() as u32;
    (scaled(width), scaled(height))
}
