//! BMP: with and without a palette, 1 to 32 bits a pixel, run-length coded or not.

use std::io::Cursor;

use image::DynamicImage;
use image::codecs::bmp::BmpDecoder;

use super::fault::{Fault, check_size};

pub(super) fn upright(bytes: &[u8]) -> Result<DynamicImage, Fault> {
    let (width, height) = size(bytes).ok_or(Fault::Truncated)?;
    check_size(width, height)?;
    Ok(DynamicImage::from_decoder(BmpDecoder::new(Cursor::new(bytes))?)?)
}

/// Width and height as the header has them: in 16 bits in the oldest, in 32 in all others, where rows from the top down make
/// the height negative.
fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = bytes.get(14..)?;
    let short = |at: usize| Some(u32::from(u16::from_le_bytes(*header.get(at..)?.first_chunk()?)));
    let long = |at: usize| Some(i32::from_le_bytes(*header.get(at..)?.first_chunk()?).unsigned_abs());
    if long(0)? == 12 { Some((short(4)?, short(6)?)) } else { Some((long(4)?, long(8)?)) }
}
