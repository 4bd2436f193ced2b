//! JPEG: baseline and progressive, grey, YCbCr, RGB, CMYK and YCCK, 8 bits a sample.
//!
//! The decoder is used in its strict mode, and its leniency about the end of a file is worked around: it takes the end marker
//! wherever it comes and fills what is missing.

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::fault::{Fault, check_size};

/// The end marker.
const END: [u8; 2] = [0xFF, 0xD9];
/// What the decoder may read ahead of the bits that it needs, in bytes.
const AHEAD: usize = 8;

pub(super) fn upright(bytes: &[u8]) -> Result<DynamicImage, Fault> {
    let frame = walked(bytes)?;
    let (width, height) = frame.size;
    check_size(width, height)?;
    let whole = bytes.get(..frame.end).ok_or(Fault::Truncated)?;
    // In a baseline file whose end marker stands in place of data, zeros would be decoded. Without the marker, and with just
    // enough zeros to look ahead, there is an end of data to run into.
    let unended = [whole.strip_suffix(&END).unwrap_or(whole), &[0; AHEAD]].concat();
    let mut decoder = opened(if frame.progressive { whole } else { &unended })?;
    let color = if decoder.input_colorspace() == Some(ColorSpace::Luma) { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(decoder.options().jpeg_set_out_colorspace(color));
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let samples = decoder.decode().map_err(fault)?;
    let picture = if color == ColorSpace::Luma {
        GrayImage::from_raw(width, height, samples).map(DynamicImage::from)
    } else {
        RgbImage::from_raw(width, height, samples).map(DynamicImage::from)
    };
    let mut picture = picture.ok_or_else(|| Fault::damaged("it states two sizes"))?;
    picture.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(picture)
}

/// A decoder that has read the headers.
fn opened(bytes: &[u8]) -> Result<JpegDecoder<ZCursor<&[u8]>>, Fault> {
    // Sizes are checked with those of the other formats.
    let options = DecoderOptions::default().set_strict_mode(true).set_max_width(65_535).set_max_height(65_535);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(fault)?;
    Ok(decoder)
}

fn fault(error: DecodeErrors) -> Fault {
    match error {
        DecodeErrors::ExhaustedData | DecodeErrors::FormatStatic("Premature end of buffer") => Fault::Truncated,
        error => Fault::damaged(error),
    }
}

/// What is known of a file before it is decoded.
struct Frame {
    size: (u32, u32),
    progressive: bool,
    /// The position behind the end marker.
    end: usize,
}

/// Walks the segments, and the entropy-coded data after each scan header, up to the end marker.
fn walked(bytes: &[u8]) -> Result<Frame, Fault> {
    let (mut at, mut frame) = (2, None);
    loop {
        at = behind_marker(bytes, at).ok_or(Fault::Truncated)?;
        match bytes.get(at - 1).ok_or(Fault::Truncated)? {
            0xD9 => break,
            // A stuffed 0xFF, restarts: no segment follows.
            0x00 | 0x01 | 0xD0..=0xD7 => continue,
            0xC4 | 0xCC => {}
            kind @ 0xC0..=0xCF => frame = Some(frame_header(*kind, bytes.get(at..).unwrap_or_default())?),
            _ => {}
        }
        let length = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Fault::Truncated)?;
        at += usize::from(u16::from_be_bytes(*length));
    }
    let (size, progressive) = frame.ok_or_else(|| Fault::damaged("it has no frame"))?;
    Ok(Frame { size, progressive, end: at })
}

/// The position behind the next marker at or after `at`. Anything before it is coded data, or filling, which decoders skip.
fn behind_marker(bytes: &[u8], mut at: usize) -> Option<usize> {
    at += bytes.get(at..)?.iter().position(|byte| *byte == 0xFF)?;
    Some(at + bytes.get(at..)?.iter().position(|byte| *byte != 0xFF)? + 1)
}

/// Size and kind of the frame whose header has the marker `kind`.
fn frame_header(kind: u8, header: &[u8]) -> Result<((u32, u32), bool), Fault> {
    let &[_, _, bits, a, b, c, d] = header.first_chunk().ok_or(Fault::Truncated)?;
    match kind {
        0xC9..=0xCF => return Err(Fault::Unsupported("with arithmetic coding".to_owned())),
        0xC3 | 0xC7 => return Err(Fault::Unsupported("with lossless coding".to_owned())),
        0xC5 | 0xC6 => return Err(Fault::Unsupported("in layers of several sizes".to_owned())),
        _ if bits != 8 => return Err(Fault::Unsupported(format!("of {bits} bits a sample"))),
        _ => {}
    }
    let (height, width) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ok(((width.into(), height.into()), kind == 0xC2))
}
