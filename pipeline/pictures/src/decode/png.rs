//! PNG: every colour type and depth, interlaced or not.

use std::io::Cursor;

use image::codecs::png::PngDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, Limits};

use super::fault::{Fault, check_size};

/// What may be taken for profiles and texts when they are unpacked, in bytes.
const METADATA: u64 = 64 << 20;

pub(super) fn upright(bytes: &[u8]) -> Result<DynamicImage, Fault> {
    let chunks = walked(bytes)?;
    let (width, height) = chunks.size;
    check_size(width, height)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(8 * u64::from(width) * u64::from(height) + METADATA);
    let mut picture = DynamicImage::from_decoder(PngDecoder::with_limits(Cursor::new(bytes), limits)?)?;
    let orientation = chunks.exif.and_then(Orientation::from_exif_chunk);
    picture.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(picture)
}

/// What is wanted of a file's chunks beside its pixels.
struct Chunks<'a> {
    size: (u32, u32),
    /// It may stand behind the pixels, where the decoder does not look.
    exif: Option<&'a [u8]>,
}

/// Goes over all chunks up to the end chunk; each must be whole and have the checksum that it states.
fn walked(bytes: &[u8]) -> Result<Chunks<'_>, Fault> {
    let mut rest = bytes.get(8..).ok_or(Fault::Truncated)?;
    let (mut size, mut exif) = (None, None);
    loop {
        let length = u32::from_be_bytes(*rest.first_chunk().ok_or(Fault::Truncated)?) as usize;
        let chunk = rest.get(4..8 + length).ok_or(Fault::Truncated)?;
        let stated = rest[8 + length..].first_chunk().ok_or(Fault::Truncated)?;
        if crc32fast::hash(chunk) != u32::from_be_bytes(*stated) {
            return Err(Fault::Damaged(format!("the checksum of its chunk {} is wrong", chunk[..4].escape_ascii())));
        }
        let (kind, data) = chunk.split_at(4);
        match kind {
            b"IHDR" => size = data.first_chunk::<8>(),
            b"eXIf" => exif = Some(data),
            b"acTL" => return Err(Fault::Unsupported("that moves".to_owned())),
            b"IEND" => break,
            _ => {}
        }
        rest = &rest[12 + length..];
    }
    let Some([a, b, c, d, e, f, g, h]) = size.copied() else { return Err(Fault::damaged("it has no header")) };
    Ok(Chunks { size: (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])), exif })
}
