//! A picture as a server takes it: a data URI of the file as it was found, or of a PNG.

use std::io::Cursor;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use evoq_pictures::{Pictures, RECIPE, encode_png};
use evoq_schemas::ImageId;
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageFormat, ImageReader};

/// The picture `id`: the file as it was found where every server reads the same pixels from it, else a PNG of the upright pixels.
pub(crate) fn data_uri(pictures: &Pictures, id: &ImageId) -> anyhow::Result<String> {
    if pictures.row(id)?.format != RECIPE {
        let file = pictures.bytes(id)?;
        if let Some(kind) = plain(&file) {
            return Ok(uri(kind, &file));
        }
    }
    Ok(png_uri(&encode_png(&pictures.load(id)?)))
}

/// The data URI of a PNG file.
pub(crate) fn png_uri(file: &[u8]) -> String {
    uri("png", file)
}

fn uri(kind: &str, file: &[u8]) -> String {
    format!("data:image/{kind};base64,{}", BASE64_STANDARD.encode(file))
}

/// The kind of a file that says one thing to all: a JPEG or PNG of 8 bits, opaque, and upright without being turned. Servers
/// differ in what they do about transparency, depth and orientation, and some read no other formats.
fn plain(file: &[u8]) -> Option<&'static str> {
    let reader = ImageReader::new(Cursor::new(file)).with_guessed_format().ok()?;
    let kind = match reader.format()? {
        ImageFormat::Jpeg => "jpeg",
        // A PNG's orientation may stand behind its pixels, where a decoder that has read the header does not see it.
        ImageFormat::Png if !file.windows(4).any(|four| four == b"eXIf") => "png",
        _ => return None,
    };
    let mut decoder = reader.into_decoder().ok()?;
    let is_upright = decoder.orientation().ok()? == Orientation::NoTransforms;
    (is_upright && matches!(decoder.color_type(), ColorType::Rgb8 | ColorType::L8)).then_some(kind)
}

#[cfg(test)]
mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::codecs::png::PngEncoder;
    use image::{DynamicImage, ImageEncoder, RgbImage};

    use super::*;

    /// An EXIF block that says "turned by 90 degrees".
    const TURNED: [u8; 26] = *b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";

    fn ramp() -> RgbImage {
        RgbImage::from_fn(40, 32, |x, y| image::Rgb([(x * 6) as u8, (y * 7) as u8, (x + y) as u8]))
    }

    fn jpeg(exif: Option<&[u8]>) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = JpegEncoder::new(&mut file);
        exif.map_or(Ok(()), |exif| encoder.set_exif_metadata(exif.to_vec())).unwrap();
        encoder.encode_image(&ramp()).unwrap();
        file
    }

    fn png(picture: &DynamicImage, exif: Option<&[u8]>) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = PngEncoder::new(&mut file);
        exif.map_or(Ok(()), |exif| encoder.set_exif_metadata(exif.to_vec())).unwrap();
        picture.write_with_encoder(encoder).unwrap();
        file
    }

    #[test]
    fn an_upright_opaque_file_of_8_bits_is_sent_as_it_is() {
        let picture = DynamicImage::from(ramp());
        assert_eq!(plain(&jpeg(None)), Some("jpeg"));
        assert_eq!(plain(&png(&picture, None)), Some("png"));
        assert_eq!(plain(&png(&picture.to_luma8().into(), None)), Some("png"));
    }

    #[test]
    fn what_servers_would_read_differently_is_not() {
        let picture = DynamicImage::from(ramp());
        for file in [
            jpeg(Some(&TURNED)),
            png(&picture, Some(&TURNED)),
            png(&picture.to_rgba8().into(), None),
            png(&picture.to_rgb16().into(), None),
            b"GIF89a".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(plain(&file), None);
        }
    }
}
