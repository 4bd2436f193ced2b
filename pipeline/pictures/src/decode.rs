//! Files to pixels and back: upright 8-bit RGB from any format that is read, PNG from pixels.
//!
//! What a file means, the same for all formats:
//! - The EXIF orientation is applied: width, height and pixels are those of the upright picture.
//! - Transparent pixels lie on white, as vision-language models are shown them. Grey becomes three equal channels. 16 bits are
//!   rounded to the nearest of 8. CMYK becomes RGB by ink on white: `(1 - c)(1 - k)`.
//! - Colour profiles and gamma are left aside: the numbers of the file are the pixels, as data sets are used.
//! - A file holds one picture: what moves, or has several pages, is refused. Bytes behind the end of a file do no harm.
//! - A file that is cut short is refused, and where the format has checksums they are checked: nothing is filled in.

mod bmp;
mod fault;
mod jpeg;
mod png;
mod tiff;
mod webp;

use ::image::codecs::png::{CompressionType, FilterType, PngEncoder};
use ::image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat, RgbImage};

pub use fault::DecodeError;
use fault::Fault;

/// A picture that was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The pixels: upright, on white where the file is transparent, grey replicated to three channels, 16 bits rounded to 8.
    pub picture: RgbImage,
    /// The file's format: `png`, `jpeg`, `webp`, `tiff` or `bmp`.
    pub format: &'static str,
    /// Whether red, green and blue are equal throughout.
    pub grey: bool,
}

/// A format that is read: its name, and what decodes it.
type Format = (&'static str, fn(&[u8]) -> Result<DynamicImage, Fault>);

/// Decodes a file's bytes; the format is told by the bytes, not by a name.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let (format, upright) = format_of(bytes)?;
    let picture = upright(bytes).map_err(|fault| fault.of(format, bytes.len()))?;
    let picture = if picture.color().has_alpha() { on_white(picture) } else { picture.into_rgb8() };
    let grey = is_grey(&picture);
    Ok(Decoded { picture, format, grey })
}

fn format_of(bytes: &[u8]) -> Result<Format, DecodeError> {
    match ::image::guess_format(bytes).ok() {
        Some(ImageFormat::Png) => Ok(("png", png::upright)),
        Some(ImageFormat::Jpeg) => Ok(("jpeg", jpeg::upright)),
        Some(ImageFormat::WebP) => Ok(("webp", webp::upright)),
        Some(ImageFormat::Tiff) => Ok(("tiff", tiff::upright)),
        Some(ImageFormat::Bmp) => Ok(("bmp", bmp::upright)),
        other => Err(DecodeError::Unknown { found: looks(bytes, other) }),
    }
}

/// What bytes that are in no format that is read seem to be.
fn looks(bytes: &[u8], guess: Option<ImageFormat>) -> String {
    let starts = |with: &[u8]| bytes.starts_with(with);
    let brand = bytes.get(4..12).unwrap_or_default();
    let known = if starts(b"\xFF\x0A") || brand == b"JXL \r\n\x87\n" {
        Some("JPEG XL")
    } else if starts(b"\xFF\x4F\xFF\x51") || brand == b"jP  \r\n\x87\n" {
        Some("JPEG 2000")
    } else if [&b"ftypheic"[..], b"ftypheix", b"ftypmif1", b"ftypmsf1"].contains(&brand) {
        Some("HEIF")
    } else if starts(b"<") {
        Some("a page of text, such as a server's message in place of the file")
    } else {
        None
    };
    match (known, guess) {
        (Some(known), _) => format!("it looks like {known}"),
        (None, Some(other)) => format!("it looks like {other:?}"),
        (None, None) if bytes.is_empty() => "it is empty".to_owned(),
        (None, None) => format!("it starts with {:02x?}", &bytes[..bytes.len().min(4)]),
    }
}

/// Straight alpha over white, rounded to the nearest level.
fn on_white(picture: DynamicImage) -> RgbImage {
    let transparent = picture.into_rgba8();
    let mut opaque = RgbImage::new(transparent.width(), transparent.height());
    for (from, to) in transparent.pixels().zip(opaque.pixels_mut()) {
        let [red, green, blue, alpha] = from.0.map(u32::from);
        to.0 = [red, green, blue].map(|level| ((level * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    opaque
}

/// Whether red, green and blue are equal throughout.
pub fn is_grey(picture: &RgbImage) -> bool {
    picture.pixels().all(|pixel| pixel.0[0] == pixel.0[1] && pixel.0[1] == pixel.0[2])
}

/// The picture as a PNG file; equal pictures give equal bytes.
pub fn encode_png(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .expect("a picture with a pixel can be written to memory");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn png_made_here_gives_its_pixels_back() {
        let ramp = RgbImage::from_fn(40, 36, |x, y| ::image::Rgb([(x * 6) as u8, (y * 7) as u8, (x * y % 251) as u8]));
        let decoded = decode(&encode_png(&ramp)).unwrap();
        assert_eq!(decoded, Decoded { picture: ramp, format: "png", grey: false });
    }

    #[test]
    fn other_bytes_are_refused_with_what_they_are() {
        for (bytes, found) in [
            (&b"GIF89a.."[..], "it looks like Gif"),
            (b"", "it is empty"),
            (b"hello", "[68, 65, 6c, 6c]"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "it looks like HEIF"),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "it looks like Avif"),
            (b"\0\0\0\x0cJXL \r\n\x87\n", "it looks like JPEG XL"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "it looks like JPEG 2000"),
            (b"#?RADIANCE\n", "it looks like Hdr"),
            (b"\x76\x2f\x31\x01\x02\0\0\0", "it looks like OpenExr"),
            (b"<!DOCTYPE html>", "a server's message"),
        ] {
            let error = decode(bytes).unwrap_err();
            assert!(matches!(error, DecodeError::Unknown { .. }) && error.to_string().contains(found), "{error}");
        }
    }
}
