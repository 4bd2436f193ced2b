//! How a recipe becomes pixels, in one place: the reference's pixels, short side and crop, then the distortion.

use evoq_distortions::{Distortion, Severity, distort, fit};
use evoq_schemas::{Image, draws};
use image::RgbImage;

use crate::{DecodeError, decode};

/// Why a recipe could not be rendered. The message follows the variant's id.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The reference's bytes are not a picture.
    #[error("has a reference that {0}")]
    Reference(#[from] DecodeError),
    /// The row is an original's.
    #[error("has no {0}: it is not a variant")]
    NotAVariant(&'static str),
    /// The type or severity is not known, or the picture too small.
    #[error("cannot be rendered: {0}")]
    Distortion(#[from] evoq_distortions::Error),
}

/// The pixels of the variant `row` from its reference's file.
pub fn render(row: &Image, reference: &[u8]) -> Result<RgbImage, RenderError> {
    let reference = decode(reference)?.picture;
    variant(row, &fit(&reference, row.short_side, row.crop.unwrap_or(false)))
}

/// The pixels of the variant `row` from its reference after [`evoq_distortions::fit`]; severity 0 is that reference itself.
pub fn variant(row: &Image, fitted: &RgbImage) -> Result<RgbImage, RenderError> {
    let reference = row.reference_id.as_ref().ok_or(RenderError::NotAVariant("reference_id"))?;
    let name = row.distortion.as_deref().ok_or(RenderError::NotAVariant("distortion"))?;
    let severity = row.severity.ok_or(RenderError::NotAVariant("severity"))?;
    let seed = row.distortion_seed.ok_or(RenderError::NotAVariant("distortion_seed"))?;
    Ok(distorted(fitted, name.parse()?, severity, (seed, reference.as_str()), None)?)
}

/// `fitted` with a distortion; severity 0 leaves it as it is. The draws are those of `(seed, id of the reference)`, the type
/// and the severity. `angle`, in degrees, is for `blur_motion`, which otherwise draws it.
pub fn distorted(
    fitted: &RgbImage,
    distortion: Distortion,
    severity: u8,
    (seed, reference): (u64, &str),
    angle: Option<f64>,
) -> Result<RgbImage, evoq_distortions::Error> {
    if severity == 0 {
        return Ok(fitted.clone());
    }
    let key = draws::key(seed, "distort", &[reference, distortion.name(), &severity.to_string()]);
    distort(fitted, distortion, Severity::new(severity)?, &key, angle)
}

/// The digest of a recipe: blake3 in hex over the digest of the reference's bytes and all that the pixels depend on.
///
/// `row` is the recipe; its `digest` is not read.
pub fn recipe_digest(row: &Image, reference_digest: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("evoq recipe 1");
    let fields = [
        reference_digest.to_owned(),
        row.reference_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        row.distortion.clone().unwrap_or_default(),
        row.severity.map(|it| it.to_string()).unwrap_or_default(),
        row.distortion_seed.map(|it| it.to_string()).unwrap_or_default(),
        row.short_side.map(|it| it.to_string()).unwrap_or_default(),
        row.crop.unwrap_or(false).to_string(),
    ];
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode_png;
    use crate::pictures::tests::{picture, recipe};

    #[test]
    fn severity_0_is_the_fitted_reference() {
        let mut row = recipe("set/a", "blur_lens", 0);
        (row.short_side, row.crop) = (Some(40), Some(true));
        let rendered = render(&row, &encode_png(&picture(90, 70, 1))).unwrap();
        assert_eq!(rendered, fit(&picture(90, 70, 1), Some(40), true));
    }

    #[test]
    fn draws_depend_on_reference_seed_and_severity_and_on_nothing_else() {
        let fitted = picture(48, 48, 1);
        let base = recipe("set/a", "noise_gaussian_RGB", 2);
        let pixels = variant(&base, &fitted).unwrap();
        let mut renamed = base.clone();
        renamed.image_id = "another/name".into();
        assert_eq!(variant(&renamed, &fitted).unwrap(), pixels);
        let mut reseeded = base.clone();
        reseeded.distortion_seed = Some(2);
        for other in [reseeded, recipe("set/b", "noise_gaussian_RGB", 2), recipe("set/a", "noise_gaussian_RGB", 3)] {
            assert_ne!(variant(&other, &fitted).unwrap(), pixels);
        }
    }

    #[test]
    fn a_recipe_has_its_own_digest() {
        let base = recipe("set/a", "blur_lens", 2);
        let mut smaller = base.clone();
        smaller.short_side = Some(40);
        let digests = [
            recipe_digest(&base, "1"),
            recipe_digest(&base, "2"),
            recipe_digest(&smaller, "1"),
            recipe_digest(&recipe("set/a", "blur_lens", 3), "1"),
        ];
        let all: std::collections::BTreeSet<_> = digests.iter().collect();
        assert_eq!(all.len(), digests.len());
    }

    #[test]
    fn an_original_is_not_rendered_and_an_unknown_type_is_named() {
        let mut row = recipe("set/a", "blur_lense", 2);
        let error = variant(&row, &picture(40, 40, 0)).unwrap_err();
        assert!(error.to_string().contains("blur_lense"), "{error}");
        row.reference_id = None;
        assert!(matches!(variant(&row, &picture(40, 40, 0)), Err(RenderError::NotAVariant("reference_id"))));
    }
}
