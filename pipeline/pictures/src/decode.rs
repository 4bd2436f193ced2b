//! Files to pixels and back: upright 8-bit RGB from any format that is read, PNG from pixels.

use std::io::{Cursor, ErrorKind};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageFormat, ImageReader, RgbImage,
};

/// A picture that was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The pixels: upright (the EXIF orientation is applied), on white where the file is transparent, grey replicated to
    /// three channels, 16 bits rounded to 8.
    pub picture: RgbImage,
    /// The file's format: `png`, `jpeg`, `webp`, `tiff` or `bmp`.
    pub format: &'static str,
    /// Whether red, green and blue are equal throughout.
    pub grey: bool,
}

/// Why bytes are not a picture. The message follows the file's name.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No format that is read begins like this.
    #[error(
        "is not in a format that is read ({found}); expected PNG, JPEG, WebP, TIFF or BMP: convert it or leave it out"
    )]
    Unsupported {
        /// What it seems to be.
        found: String,
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
    #[error("is a {format} file that cannot be decoded ({source}): fetch it again or leave it out")]
    Broken {
        /// Its format.
        format: &'static str,
        /// What the decoder says.
        source: ImageError,
    },
}

/// Decodes a file's bytes; the format is told by the bytes, not by a name.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let (format, name) = known_format(bytes)?;
    // The JPEG decoder fills what is missing with grey and says nothing.
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(DecodeError::Truncated { format: name, bytes: bytes.len() });
    }
    let picture = upright(bytes, format).map_err(|source| match source {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: name, bytes: bytes.len() }
        }
        source => DecodeError::Broken { format: name, source },
    })?;
    let picture = if picture.color().has_alpha() { on_white(picture) } else { picture.into_rgb8() };
    let grey = is_grey(&picture);
    Ok(Decoded { picture, format: name, grey })
}

fn known_format(bytes: &[u8]) -> Result<(ImageFormat, &'static str), DecodeError> {
    let guess = image::guess_format(bytes).ok();
    let name = match guess {
        Some(ImageFormat::Png) => "png",
        Some(ImageFormat::Jpeg) => "jpeg",
        Some(ImageFormat::WebP) => "webp",
        Some(ImageFormat::Tiff) => "tiff",
        Some(ImageFormat::Bmp) => "bmp",
        _ => {
            let found = match guess {
                Some(other) => format!("it looks like {other:?}"),
                None if bytes.is_empty() => "it is empty".to_owned(),
                None => format!("it starts with {:02x?}", &bytes[..bytes.len().min(4)]),
            };
            return Err(DecodeError::Unsupported { found });
        }
    };
    // `guess` is one of the five here.
    Ok((guess.unwrap_or(ImageFormat::Png), name))
}

fn upright(bytes: &[u8], format: ImageFormat) -> Result<DynamicImage, ImageError> {
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder()?;
    // A broken orientation is no reason to refuse a picture that can be seen.
    let orientation = decoder.orientation().ok();
    let mut picture = DynamicImage::from_decoder(decoder)?;
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    Ok(picture)
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

/// Whether a JPEG file reaches its end marker: the segments are walked, and the entropy-coded data after each scan header.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const STANDALONE: [u8; 10] = [0x00, 0x01, 0xD0, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7];
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        // Anything before a marker is coded data (or filling, which is skipped as decoders do).
        let Some(start) = rest.windows(2).position(|pair| pair[0] == 0xFF && pair[1] != 0xFF) else { return false };
        let marker = rest[start + 1];
        rest = &rest[start + 2..];
        if marker == 0xD9 {
            return true;
        }
        if STANDALONE.contains(&marker) {
            continue;
        }
        let Some([high, low]) = rest.first_chunk() else { return false };
        let Some(after) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else { return false };
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::{ImageBuffer, Luma, Rgb, Rgba};

    fn file(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn ramp() -> RgbImage {
        RgbImage::from_fn(40, 36, |x, y| Rgb([(x * 6) as u8, (y * 7) as u8, (x * y % 251) as u8]))
    }

    /// A JPEG of 40 x 36 pixels whose EXIF says: turn by 90 degrees to the right.
    fn turned_jpeg() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        encoder.encode_image(&ramp()).unwrap();
        bytes
    }

    #[test]
    fn lossless_files_give_their_pixels_and_their_format() {
        let picture = DynamicImage::from(ramp());
        for (format, name) in [
            (ImageFormat::Png, "png"),
            (ImageFormat::Tiff, "tiff"),
            (ImageFormat::Bmp, "bmp"),
            (ImageFormat::WebP, "webp"),
        ] {
            let decoded = decode(&file(&picture, format)).unwrap();
            assert_eq!(decoded, Decoded { picture: ramp(), format: name, grey: false });
        }
    }

    #[test]
    fn png_made_here_gives_its_pixels_back() {
        assert_eq!(decode(&encode_png(&ramp())).unwrap().picture, ramp());
    }

    #[test]
    fn a_turned_photograph_is_decoded_upright() {
        let decoded = decode(&turned_jpeg()).unwrap();
        assert_eq!((decoded.format, decoded.picture.dimensions()), ("jpeg", (36, 40)));
        // What was the top left is the top right now: dark; the old bottom left, which is green, is the top left.
        let [red, green, _] = decoded.picture.get_pixel(1, 1).0;
        assert!(green > 200 && red < 60, "{red} {green}");
    }

    #[test]
    fn transparent_pixels_lie_on_white() {
        let picture = ImageBuffer::from_fn(4, 4, |x, _| Rgba([0_u8, 100, 200, [0, 128, 255, 255][x as usize]]));
        let decoded = decode(&file(&DynamicImage::from(picture), ImageFormat::Png)).unwrap();
        assert_eq!(decoded.picture.get_pixel(0, 0).0, [255, 255, 255]);
        assert_eq!(decoded.picture.get_pixel(1, 0).0, [127, 177, 227]);
        assert_eq!(decoded.picture.get_pixel(2, 0).0, [0, 100, 200]);
    }

    #[test]
    fn sixteen_bits_of_grey_become_eight_in_three_channels() {
        let picture: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_fn(4, 4, |x, _| Luma([257 * 60 * x as u16 + 100]));
        let decoded = decode(&file(&DynamicImage::from(picture), ImageFormat::Png)).unwrap();
        assert_eq!(decoded.picture.get_pixel(3, 0).0, [180, 180, 180]);
        assert!(decoded.grey);
    }

    #[test]
    fn a_jpeg_cut_anywhere_is_refused_as_cut_short() {
        let whole = turned_jpeg();
        assert!(decode(&whole).is_ok());
        for length in [whole.len() - 1, whole.len() / 2, whole.len() / 4, 30] {
            let error = decode(&whole[..length]).unwrap_err();
            assert!(matches!(error, DecodeError::Truncated { format: "jpeg", .. }), "{length}: {error}");
        }
    }

    #[test]
    fn bytes_behind_the_end_of_a_jpeg_do_no_harm() {
        let mut bytes = turned_jpeg();
        bytes.extend_from_slice(b"\xFF\xE0\0\x10 a trailer");
        assert!(decode(&bytes).is_ok());
    }

    #[test]
    fn a_png_cut_in_half_is_refused_as_cut_short() {
        let whole = encode_png(&ramp());
        let error = decode(&whole[..whole.len() / 2]).unwrap_err();
        assert!(matches!(error, DecodeError::Truncated { format: "png", .. }), "{error}");
    }

    #[test]
    fn other_bytes_are_refused_with_what_they_are() {
        for (bytes, found) in
            [(&b"GIF89a.."[..], "it looks like Gif"), (b"", "it is empty"), (b"hello", "[68, 65, 6c, 6c]")]
        {
            let error = decode(bytes).unwrap_err();
            assert!(error.to_string().contains(found), "{error}");
        }
    }
}
