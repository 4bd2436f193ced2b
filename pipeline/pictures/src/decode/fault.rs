//! Why a file is not taken as a picture.

use std::io::ErrorKind;

use image::ImageError;

/// The longest side that is read, in pixels: a WebP file cannot have a longer one.
const LONGEST_SIDE: u32 = 16_384;
/// The most pixels that are read: 192 MiB in memory, more than any rated data set has by far.
const MOST_PIXELS: u64 = 1 << 26;

/// Why bytes are not a picture. The message follows the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No format that is read begins like this.
    #[error(
        "is not in a format that is read ({found}); expected PNG, JPEG, WebP, TIFF or BMP: convert it or leave it out"
    )]
    Unknown {
        /// What it seems to be.
        found: String,
    },
    /// The format is read, this kind of it is not.
    #[error("is a {format} file {feature}, which is not read: convert it or leave it out")]
    Unsupported {
        /// Its format.
        format: &'static str,
        /// What sets it apart, as in `with a palette`.
        feature: String,
    },
    /// There are more pixels than are read.
    #[error(
        "is a {format} file of {width} x {height} pixels; expected at most {LONGEST_SIDE} a side and {MOST_PIXELS} in all: \
         scale it down or leave it out"
    )]
    TooLarge {
        /// Its format.
        format: &'static str,
        /// Its width, in pixels.
        width: u32,
        /// Its height, in pixels.
        height: u32,
    },
    /// The data end too early.
    #[error("is a {format} file that is cut short after {bytes} bytes: fetch it again or leave it out")]
    Truncated {
        /// Its format.
        format: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// The data are not what the format says.
    #[error("is a {format} file that is damaged ({what}): fetch it again or leave it out")]
    Damaged {
        /// Its format.
        format: &'static str,
        /// What is wrong.
        what: String,
    },
}

impl DecodeError {
    /// The reason in a word, as tables of rejects have it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unknown { .. } | Self::Unsupported { .. } => "unsupported",
            Self::TooLarge { .. } => "too-large",
            Self::Truncated { .. } => "truncated",
            Self::Damaged { .. } => "damaged",
        }
    }
}

/// What is wrong with a file whose format is known.
#[derive(Debug)]
pub(super) enum Fault {
    Unsupported(String),
    TooLarge { width: u32, height: u32 },
    Truncated,
    Damaged(String),
}

impl Fault {
    /// The error of a file in `format` that has `bytes` bytes.
    pub(super) fn of(self, format: &'static str, bytes: usize) -> DecodeError {
        match self {
            Self::Unsupported(feature) => DecodeError::Unsupported { format, feature },
            Self::TooLarge { width, height } => DecodeError::TooLarge { format, width, height },
            Self::Truncated => DecodeError::Truncated { format, bytes },
            Self::Damaged(what) => DecodeError::Damaged { format, what },
        }
    }

    pub(super) fn damaged(what: impl std::fmt::Display) -> Self {
        Self::Damaged(format!("{what}"))
    }
}

impl From<ImageError> for Fault {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => Self::Truncated,
            ImageError::Unsupported(error) => Self::Unsupported(format!("of a kind of its own ({error})")),
            error => Self::damaged(error),
        }
    }
}

/// Refuses a size that is over what is read, before memory is asked for, and one without a pixel.
pub(super) fn check_size(width: u32, height: u32) -> Result<(), Fault> {
    if width == 0 || height == 0 {
        return Err(Fault::Damaged(format!("it has {width} x {height} pixels")));
    }
    if width.max(height) > LONGEST_SIDE || u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(Fault::TooLarge { width, height });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_up_to_the_limits_are_read() {
        for (width, height) in [(1, 1), (16_384, 4096), (8192, 8192)] {
            assert!(check_size(width, height).is_ok(), "{width} x {height}");
        }
        for (width, height) in [(16_385, 1), (1, 16_385), (8193, 8192), (u32::MAX, u32::MAX)] {
            assert!(matches!(check_size(width, height), Err(Fault::TooLarge { .. })), "{width} x {height}");
        }
        for (width, height) in [(0, 5), (5, 0)] {
            assert!(matches!(check_size(width, height), Err(Fault::Damaged(_))), "{width} x {height}");
        }
    }
}
