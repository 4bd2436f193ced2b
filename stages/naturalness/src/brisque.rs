//! BRISQUE: a regression on how a picture's contrasts are distributed, trained on human scores of distorted pictures.
//!
//! "No-reference image quality assessment in the spatial domain", Mittal, Moorthy and Bovik, 2012.

use image::RgbImage;

use crate::contrast::{Border, ROUNDING, normalised};
use crate::moments::{Beyond, Block, STEPS};
use crate::niqe::joined;
use crate::plane::{Halving, Plane};
use crate::shape::{Lopsided, even_shape};
use crate::svr::Regression;
use crate::{FEATURES, Features, Unmeasurable, libsvm, opencv};

/// Whose features they are. A model is of use with the features that it was trained on only, so its file's form decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The authors' release, in MATLAB, with LIBSVM's files: zeros beyond the border, an antialiased half size, neighbours that
    /// go round the picture.
    Release,
    /// OpenCV's: the border repeated, a half size without antialiasing, no neighbours beyond the border, and a lopsided fit
    /// where the release has an even one.
    OpenCv,
}

/// A trained model.
#[derive(Debug, Clone, PartialEq)]
pub struct Brisque {
    variant: Variant,
    regression: Regression,
}

impl Brisque {
    /// Reads a model and the ranges that its features are brought to: LIBSVM's text files, or OpenCV's YAML files.
    ///
    /// Errors say in which of the two, and what; they begin with a verb.
    pub fn read(model: &[u8], range: &[u8]) -> Result<Self, ReadError> {
        let is_yaml = |file: &[u8]| file.starts_with(b"%YAML");
        let text = |file| str::from_utf8(file).map_err(|_| "is not text".to_owned());
        let (model_text, range_text) = (text(model).map_err(ReadError::Model)?, text(range).map_err(ReadError::Range)?);
        let (variant, machine, ranges) = match (is_yaml(model), is_yaml(range)) {
            (true, true) => (Variant::OpenCv, opencv::machine(model_text), opencv::ranges(range_text)),
            (false, false) => (Variant::Release, libsvm::machine(model_text), libsvm::ranges(range_text)),
            (true, false) => {
                return Err(ReadError::Range("is not of OpenCV as the model is; give its own range".into()));
            }
            (false, true) => {
                return Err(ReadError::Range("is of OpenCV and the model is not; give its own range".into()));
            }
        };
        let machine = machine.map_err(ReadError::Model)?;
        let ranges = ranges.map_err(ReadError::Range)?;
        Ok(Self { variant, regression: Regression { machine, ranges } })
    }

    /// The score of a picture; lower is better. About 0 to 100, not cut at either end.
    pub fn score(&self, picture: &RgbImage) -> Result<f64, Unmeasurable> {
        brisque_features(picture, self.variant).map(|features| self.regression.value(&features))
    }
}

/// What is wrong with the files of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// With the model.
    #[error("{0}")]
    Model(String),
    /// With the ranges.
    #[error("{0}")]
    Range(String),
}

/// The features of a picture.
pub fn brisque_features(picture: &RgbImage, variant: Variant) -> Result<Features, Unmeasurable> {
    let luma = Plane::luma(picture);
    let half = luma.halved(match variant {
        Variant::Release => Halving::Antialiased,
        Variant::OpenCv => Halving::Interpolated,
    });
    if half.values.is_empty() {
        return Err(Unmeasurable::TooSmall);
    }
    let features = joined(features_at(&luma, variant), features_at(&half, variant));
    if features.iter().all(|it| it.is_finite()) { Ok(features) } else { Err(Unmeasurable::Flat) }
}

/// The features at one scale: of the contrasts, and of the products of neighbouring ones.
fn features_at(plane: &Plane, variant: Variant) -> [f64; FEATURES / 2] {
    // In OpenCV's numbers of 32 bits an even area has no contrast; in the release the sign of what rounding leaves counts.
    let (border, beyond, least) = match variant {
        Variant::Release => (Border::Zero, Beyond::OtherEnd, 0.0),
        Variant::OpenCv => (Border::Repeated, Beyond::Zero, ROUNDING),
    };
    let contrasts = normalised(plane, border, least);
    let block = Block::whole(&contrasts);
    let moments = block.moments();
    let mut features = [f64::NAN; FEATURES / 2];
    (features[0], features[1]) = match variant {
        Variant::Release => (even_shape(&moments), moments.square),
        Variant::OpenCv => {
            let Lopsided { shape, left, right } = Lopsided::of(&moments);
            (shape, f64::midpoint(left * left, right * right))
        }
    };
    for (four, step) in features[2..].chunks_exact_mut(4).zip(STEPS) {
        let products = Lopsided::of(&block.products(step, beyond));
        let Lopsided { shape, left, right } = products;
        four.copy_from_slice(&[shape, products.mean(), left * left, right * right]);
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str =
        "svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nnr_class 2\ntotal_sv 1\nrho -20\nSV\n3 1:0.5 \n";

    fn range() -> String {
        (1..=FEATURES).fold("x\n-1 1\n".to_owned(), |text, at| text + &format!("{at} 0 2\n"))
    }

    #[test]
    fn a_picture_without_contrast_has_no_score() {
        let brisque = Brisque::read(MODEL.as_bytes(), range().as_bytes()).unwrap();
        let black = RgbImage::new(64, 64);
        assert_eq!(brisque.score(&black), Err(Unmeasurable::Flat));
    }

    #[test]
    fn pictures_of_any_size_have_features_or_a_reason() {
        for (width, height) in [(0, 0), (1, 1), (1, 9), (9, 1), (2, 2), (3, 5), (17, 8)] {
            let picture =
                RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 91 + y * 57 + x * y * 13) as u8; 3]));
            for variant in [Variant::Release, Variant::OpenCv] {
                let features = brisque_features(&picture, variant);
                assert!(features.is_ok() || width * height < 20, "{width} {height} {features:?}");
                assert!(width * height > 0 || features == Err(Unmeasurable::TooSmall));
            }
        }
    }

    #[test]
    fn model_and_range_are_of_one_make() {
        let yaml = "%YAML:1.0\n---\n";
        let error = Brisque::read(MODEL.as_bytes(), yaml.as_bytes()).unwrap_err();
        assert_eq!(error, ReadError::Range("is of OpenCV and the model is not; give its own range".to_owned()));
        assert!(matches!(Brisque::read(yaml.as_bytes(), range().as_bytes()), Err(ReadError::Range(_))));
        assert!(matches!(Brisque::read(&[0xff], range().as_bytes()), Err(ReadError::Model(_))));
    }
}
