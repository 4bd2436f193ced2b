//! Measures of quality that need no policy and no human score: NIQE (Mittal, Soundararajan and Bovik 2013) and BRISQUE (Mittal,
//! Moorthy and Bovik 2012). Both ask how far a picture's local contrasts are from those of natural pictures; **lower is better**.
//!
//! Parameter files are read, not shipped: NIQE's is a MATLAB file or fitted here on sharp pictures, BRISQUE's are a model and a
//! range, of LIBSVM or of OpenCV. Nothing here knows a table or a file: bytes and pixels come in, numbers go out.

mod brisque;
mod contrast;
mod libsvm;
mod moments;
#[cfg(test)]
mod mutations;
mod niqe;
mod opencv;
mod plane;
mod shape;
mod svr;

pub use brisque::{Brisque, ReadError, Variant, brisque_features};
pub use niqe::{Niqe, niqe_features, sharp_blocks};

/// Numbers that describe a picture, or a block of one, at two scales: 18 at its own size, 18 at half of it.
pub const FEATURES: usize = 36;

/// The numbers that describe a picture, or a block of one.
pub type Features = [f64; FEATURES];

/// Why a picture has no score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmeasurable {
    /// It is too small for the measure.
    #[error("too_small")]
    TooSmall,
    /// It is even: no block, or no scale, has contrasts to which distributions could be fitted.
    #[error("flat")]
    Flat,
}

/// The beginning of a word or a line of a file, as it can stand in one line of text.
fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let beginning: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() { format!("`{beginning}…`") } else { format!("`{beginning}`") }
}
