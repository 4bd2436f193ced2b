//! TIFF: one page of grey, RGB or CMYK in 8 or 16 bits a sample (grey in 1 as well), with alpha or without; strips or tiles, as
//! they are or packed without loss.

use std::io::Cursor;

use image::codecs::tiff::TiffDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, Limits};
use tiff::decoder::Decoder;
use tiff::tags::{CompressionMethod, PhotometricInterpretation, SampleFormat, Tag};
use tiff::{ColorType, TiffError};

use super::fault::{Fault, check_size};

pub(super) fn upright(bytes: &[u8]) -> Result<DynamicImage, Fault> {
    check(bytes)?;
    let mut decoder = TiffDecoder::new(Cursor::new(bytes))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let mut limits = Limits::no_limits();
    // Pixels, and as much again for what is unpacked on the way to them.
    limits.max_alloc = Some(16 * u64::from(width) * u64::from(height) + bytes.len() as u64);
    decoder.set_limits(limits)?;
    let orientation = decoder.orientation().ok();
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(picture)
}

/// Refuses by name what is not read, and data that lie behind the end of the file.
fn check(bytes: &[u8]) -> Result<(), Fault> {
    let mut tiff = Decoder::new(Cursor::new(bytes)).map_err(fault)?;
    let mut number = |tag| tiff.find_tag_unsigned::<u16>(tag).map_err(fault);
    let photometric = number(Tag::PhotometricInterpretation)?.and_then(PhotometricInterpretation::from_u16);
    let compression = CompressionMethod::from_u16_exhaustive(number(Tag::Compression)?.unwrap_or(1));
    let list = |tiff: &mut Decoder<_>, tag| tiff.find_tag_unsigned_vec::<u64>(tag).map(Option::unwrap_or_default);
    let formats = list(&mut tiff, Tag::SampleFormat).map_err(fault)?;
    let extra = list(&mut tiff, Tag::ExtraSamples).map_err(fault)?;
    let feature = match photometric {
        Some(PhotometricInterpretation::RGBPalette) => "with a palette",
        Some(PhotometricInterpretation::TransparencyMask) => "that is a mask",
        Some(PhotometricInterpretation::YCbCr) => "in YCbCr",
        Some(
            PhotometricInterpretation::CIELab | PhotometricInterpretation::IccLab | PhotometricInterpretation::ItuLab,
        ) => "in Lab",
        _ if formats.contains(&u64::from(SampleFormat::IEEEFP.to_u16())) => "with floating-point samples",
        _ if formats.iter().any(|it| *it != u64::from(SampleFormat::Uint.to_u16())) => "with signed samples",
        _ if extra.contains(&PREMULTIPLIED) => "with premultiplied alpha",
        _ if !matches!(
            compression,
            CompressionMethod::None
                | CompressionMethod::LZW
                | CompressionMethod::Deflate
                | CompressionMethod::OldDeflate
                | CompressionMethod::PackBits
        ) =>
        {
            return Err(Fault::Unsupported(format!("that is packed as {compression:?}")));
        }
        _ => "",
    };
    if !feature.is_empty() {
        return Err(Fault::Unsupported(feature.to_owned()));
    }
    match tiff.colortype().map_err(fault)? {
        ColorType::Gray(1 | 8 | 16)
        | ColorType::GrayA(8 | 16)
        | ColorType::RGB(8 | 16)
        | ColorType::RGBA(8 | 16)
        | ColorType::CMYK(8 | 16) => {}
        other => return Err(Fault::Unsupported(format!("of the colours {other:?}"))),
    }
    for (offsets, counts) in [(Tag::StripOffsets, Tag::StripByteCounts), (Tag::TileOffsets, Tag::TileByteCounts)] {
        let (offsets, counts) = (list(&mut tiff, offsets).map_err(fault)?, list(&mut tiff, counts).map_err(fault)?);
        if offsets.iter().zip(counts).any(|(from, count)| from.saturating_add(count) > bytes.len() as u64) {
            return Err(Fault::Truncated);
        }
    }
    if tiff.more_images() {
        return Err(Fault::Unsupported("of several pages".to_owned()));
    }
    Ok(())
}

/// What the tag of extra samples says of alpha that the colours are multiplied with already.
const PREMULTIPLIED: u64 = 1;

fn fault(error: TiffError) -> Fault {
    match error {
        TiffError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Fault::Truncated,
        TiffError::UnsupportedError(error) => Fault::Unsupported(format!("of a kind of its own ({error})")),
        error => Fault::damaged(error),
    }
}
