//! Variants with their pixels: recipes rendered on all cores, in units of work that a restart or another machine goes on with.

use std::io::Cursor;

use evoq_pictures::{Pictures, encode_png, is_grey, variant};
use evoq_schemas::{Image, Picture};
use evoq_stage::{Job, UnitEnd, bad_input, in_order};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageResult, RgbImage};

/// Pixels in a unit: seconds of work and a few parts; what a restart has to do anew at most.
const UNIT_PIXELS: u64 = 200_000_000;
/// Variants in a unit at most, however small they are.
const UNIT_VARIANTS: u64 = 512;

/// What file a variant's pixels are put into. Both are lossless and take the same time to write. PNG is written with fast
/// settings: zlib's level 6 would take twenty times as long to save a sixth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum File {
    /// PNG: read everywhere, and in half the time of WebP.
    Png,
    /// Lossless WebP: a fifth smaller than PNG.
    Webp,
}

impl File {
    /// The format, as the table calls it, and the file's extension.
    fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }

    /// `picture` as a file; equal pictures give equal bytes.
    fn encode(self, picture: &RgbImage) -> ImageResult<Vec<u8>> {
        match self {
            Self::Png => Ok(encode_png(picture)),
            Self::Webp => {
                let mut bytes = Cursor::new(Vec::new());
                let (width, height) = picture.dimensions();
                WebPEncoder::new_lossless(&mut bytes).encode(picture, width, height, ExtendedColorType::Rgb8)?;
                Ok(bytes.into_inner())
            }
        }
    }
}

/// Renders `recipes` and writes them with their pixels; says how many of them equal their reference.
///
/// The recipes of one reference stand together, so the pictures that are kept decoded serve all of them.
pub(crate) fn store(job: &mut Job, pictures: &Pictures, recipes: &[&Image], file: File) -> anyhow::Result<()> {
    let units = job.units("rendering variants", recipes.len(), unit_variants(recipes), |unit, rows, progress| {
        let mut unchanged = 0_u64;
        let take = |(row, is_unchanged)| {
            unchanged += u64::from(is_unchanged);
            unit.push(row)?;
            progress.add(1);
            Ok(())
        };
        in_order(&recipes[rows], |recipe| stored(pictures, recipe, file), take)?;
        unit.note(unchanged);
        Ok(UnitEnd::Done)
    })?;
    let Some(units) = units else { return Ok(()) };
    let unchanged: u64 = units.notes::<u64>()?.iter().sum();
    if unchanged > 0 {
        tracing::warn!(
            "{unchanged} of {} variants equal their reference: the distortion does nothing there",
            recipes.len()
        );
    }
    job.close_units::<Image>(&units)
}

/// How many of `recipes` make a unit: the larger their pictures, the fewer, so that units are alike in work and size.
fn unit_variants(recipes: &[&Image]) -> usize {
    let pixels: u64 = recipes.iter().map(|it| u64::from(it.width) * u64::from(it.height)).sum();
    (UNIT_PIXELS * recipes.len() as u64 / pixels.max(1)).clamp(1, UNIT_VARIANTS) as usize
}

/// A recipe with its pixels in a file, and whether they are the reference's although the severity is not 0.
fn stored(pictures: &Pictures, recipe: &Image, file: File) -> anyhow::Result<(Image, bool)> {
    let reference = pictures.reference(recipe)?;
    let rendered = variant(recipe, &reference).map_err(|error| bad_input(format!("{} {error}", recipe.image_id)))?;
    let bytes = file.encode(&rendered).map_err(|error| {
        let (width, height) = rendered.dimensions();
        bad_input(format!(
            "{} of {width} x {height} pixels cannot be put into a {} file ({error}): store it --as png",
            recipe.image_id,
            file.name()
        ))
    })?;
    let row = Image {
        format: file.name().to_owned(),
        digest: blake3::hash(&bytes).to_hex().to_string(),
        grey: is_grey(&rendered),
        image: Some(Picture { bytes: Some(bytes), path: Some(format!("{}.{}", recipe.name, file.name())) }),
        ..recipe.clone()
    };
    Ok((row, rendered == *reference && recipe.severity != Some(0)))
}

#[cfg(test)]
mod tests {
    use evoq_pictures::decode;
    use image::Rgb;

    use super::*;
    use crate::variants::tests::original;

    #[test]
    fn either_file_gives_the_pixels_back_and_says_what_it_is() {
        let picture = RgbImage::from_fn(70, 33, |x, y| Rgb([(x * y % 256) as u8, (x * 3) as u8, (y * 5) as u8]));
        for file in [File::Png, File::Webp] {
            let decoded = decode(&file.encode(&picture).unwrap()).unwrap();
            assert_eq!((decoded.picture, decoded.format), (picture.clone(), file.name()));
        }
    }

    #[test]
    fn a_unit_has_fewer_variants_the_larger_the_pictures_are() {
        let count = |width, height| {
            let recipe = Image { width, height, ..original("a", false) };
            unit_variants(&[&recipe; 3])
        };
        assert_eq!([count(64, 64), count(1024, 768), count(6000, 4000), count(20_000, 20_000)], [512, 254, 8, 1]);
    }

    #[test]
    fn a_picture_that_webp_cannot_hold_is_an_error_and_no_panic() {
        assert!(File::Webp.encode(&RgbImage::new(16_385, 1)).is_err());
        assert!(File::Png.encode(&RgbImage::new(16_385, 1)).is_ok());
    }
}
