//! WebP: lossy and lossless, with alpha or without.

use std::io::Cursor;

use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder};

use super::fault::{Fault, check_size};

pub(super) fn upright(bytes: &[u8]) -> Result<DynamicImage, Fault> {
    let exif = walked(bytes)?;
    let decoder = WebPDecoder::new(Cursor::new(bytes))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    if decoder.has_animation() {
        return Err(Fault::Unsupported("that moves".to_owned()));
    }
    let mut picture = DynamicImage::from_decoder(decoder)?;
    // Some writers put the words before it with which it begins in a JPEG file.
    let orientation = exif.map(|it| it.strip_prefix(b"Exif\0\0").unwrap_or(it)).and_then(Orientation::from_exif_chunk);
    picture.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(picture)
}

/// Goes over all chunks, each of which must be whole, and gives the EXIF data, if there are any.
fn walked(bytes: &[u8]) -> Result<Option<&[u8]>, Fault> {
    let length = |at: &[u8]| Some(u32::from_le_bytes(*at.get(4..)?.first_chunk()?) as usize);
    let size = length(bytes).ok_or(Fault::Truncated)?;
    let whole = bytes.get(..8 + size).ok_or(Fault::Truncated)?;
    let mut rest = whole.get(12..).ok_or(Fault::Truncated)?;
    let mut exif = None;
    while !rest.is_empty() {
        let length = length(rest).ok_or(Fault::Truncated)?;
        let data = rest.get(8..8 + length).ok_or(Fault::Truncated)?;
        if rest.starts_with(b"EXIF") {
            exif = Some(data);
        }
        // Chunks begin at even positions; the last filling may be missing.
        rest = rest.get(8 + length + length % 2..).unwrap_or_default();
    }
    Ok(exif)
}
