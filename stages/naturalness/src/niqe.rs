//! NIQE: how far the features of a picture's blocks lie from those of sharp natural pictures.
//!
//! "Making a completely blind image quality analyzer", Mittal, Soundararajan and Bovik, 2013. Equation numbers are the paper's.

use image::RgbImage;
use nalgebra::{DMatrix, DVector, SymmetricEigen};

use crate::contrast::{Border, deviations, normalised};
use crate::moments::{Beyond, Block, STEPS};
use crate::plane::{Halving, Plane};
use crate::shape::Lopsided;
use crate::{FEATURES, Features, Unmeasurable};

/// The side of a block, as in the release.
const BLOCK: usize = 96;

/// The share of the sharpest block's sharpness that a block needs to take part in a fit (§2.2).
const SHARP: f64 = 0.75;

/// The variables of a parameter file.
const MEAN: &str = "mu_prisparam";
const COVARIANCE: &str = "cov_prisparam";

/// The features of sharp natural pictures: a Gaussian distribution of 36 dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Niqe {
    mean: DVector<f64>,
    covariance: DMatrix<f64>,
}

impl Niqe {
    /// Reads a parameter file: a MATLAB file with the mean `mu_prisparam` (36) and the covariance `cov_prisparam` (36 x 36).
    ///
    /// Errors say what the file lacks; they begin with a verb.
    pub fn read(file: &[u8]) -> Result<Self, String> {
        let numbers = |name: &str, count: usize| {
            let found = evoq_mat5::numbers(file, name)?;
            if found.len() != count {
                return Err(format!("variable `{name}` has {} numbers; expected {count}", found.len()));
            }
            if found.iter().any(|it| !it.is_finite()) {
                return Err(format!("variable `{name}` has a number that is not finite"));
            }
            Ok(found)
        };
        let mean = DVector::from_vec(numbers(MEAN, FEATURES)?);
        let covariance = DMatrix::from_vec(FEATURES, FEATURES, numbers(COVARIANCE, FEATURES * FEATURES)?);
        if covariance != covariance.transpose() {
            return Err(format!("variable `{COVARIANCE}` is not symmetric, so it is no covariance"));
        }
        Ok(Self { mean, covariance })
    }

    /// The parameter file, in the form in which the release has its own.
    pub fn to_file(&self) -> Vec<u8> {
        evoq_mat5::file(&[
            (MEAN, [1, FEATURES], self.mean.as_slice()),
            (COVARIANCE, [FEATURES, FEATURES], self.covariance.as_slice()),
        ])
    }

    /// Fits the distribution to the features of sharp blocks ([`sharp_blocks`]) of natural pictures; at least two blocks.
    pub fn fit(blocks: &[Features]) -> Option<Self> {
        let usable = blocks.iter().filter(|it| is_finite(it)).count();
        let (mean, covariance) = distribution(blocks)?;
        (usable > 1).then_some(Self { mean, covariance })
    }

    /// The score of a picture; lower is better (Eq. 10).
    pub fn score(&self, picture: &RgbImage) -> Result<f64, Unmeasurable> {
        let blocks = niqe_features(picture);
        if blocks.is_empty() {
            return Err(Unmeasurable::TooSmall);
        }
        let (mean, covariance) = distribution(&blocks).ok_or(Unmeasurable::Flat)?;
        let apart = &self.mean - mean;
        let pooled = (&self.covariance + covariance) / 2.0;
        Ok(squared_length(&apart, pooled).sqrt())
    }
}

/// The features of a picture's whole blocks of 96 by 96 pixels, row by row; none for a picture that is smaller. Those of a block
/// without contrast are not numbers.
pub fn niqe_features(picture: &RgbImage) -> Vec<Features> {
    features_of(&in_whole_blocks(picture))
}

/// The features of a picture's sharp blocks: those at least three quarters as sharp as its sharpest.
pub fn sharp_blocks(picture: &RgbImage) -> Vec<Features> {
    let luma = in_whole_blocks(picture);
    let deviations = deviations(&luma, Border::Repeated);
    let sharpness: Vec<f64> = Block::tiles(&deviations, BLOCK).map(|it| it.mean()).collect();
    let sharpest = sharpness.iter().copied().fold(0.0, f64::max);
    let is_sharp = |sharpness: f64| sharpness > SHARP * sharpest;
    features_of(&luma).into_iter().zip(sharpness).filter(|it| is_sharp(it.1)).map(|it| it.0).collect()
}

/// A picture's luma, without what is left of its blocks at the right and below.
fn in_whole_blocks(picture: &RgbImage) -> Plane {
    let luma = Plane::luma(picture);
    luma.cropped(luma.width / BLOCK * BLOCK, luma.height / BLOCK * BLOCK)
}

fn features_of(luma: &Plane) -> Vec<Features> {
    if luma.values.is_empty() {
        return Vec::new();
    }
    // As in the release, the sign of what rounding leaves counts.
    let contrasts = normalised(luma, Border::Repeated, 0.0);
    let half = normalised(&luma.halved(Halving::Antialiased), Border::Repeated, 0.0);
    let fine = Block::tiles(&contrasts, BLOCK);
    let coarse = Block::tiles(&half, BLOCK / 2);
    fine.zip(coarse).map(|(fine, coarse)| joined(features_at(fine), features_at(coarse))).collect()
}

pub(crate) fn joined(fine: [f64; FEATURES / 2], coarse: [f64; FEATURES / 2]) -> Features {
    std::array::from_fn(|at| if at < FEATURES / 2 { fine[at] } else { coarse[at - FEATURES / 2] })
}

/// The features of a block at one scale: of its contrasts, and of the products of neighbouring ones (Eq. 5 to 8).
fn features_at(block: Block) -> [f64; FEATURES / 2] {
    let mut features = [f64::NAN; FEATURES / 2];
    let contrasts = Lopsided::of(&block.moments());
    let (left, right) = contrasts.scales();
    (features[0], features[1]) = (contrasts.shape, f64::midpoint(left, right));
    for (four, step) in features[2..].chunks_exact_mut(4).zip(STEPS) {
        let products = Lopsided::of(&block.products(step, Beyond::OtherEnd));
        let (left, right) = products.scales();
        four.copy_from_slice(&[products.shape, products.mean(), left, right]);
    }
    features
}

fn is_finite(features: &Features) -> bool {
    features.iter().all(|it| it.is_finite())
}

/// Mean and covariance of the blocks' features. As in the release, each mean is over the blocks that have the feature, and the
/// covariance over those that have all; one block varies by nothing. `None` where no block has all.
fn distribution(blocks: &[Features]) -> Option<(DVector<f64>, DMatrix<f64>)> {
    let mean = DVector::from_fn(FEATURES, |at, _| {
        let found = blocks.iter().map(|it| it[at]).filter(|it| it.is_finite());
        let (sum, count) = found.fold((0.0, 0.0), |(sum, count), it| (sum + it, count + 1.0));
        sum / count
    });
    let whole: Vec<&Features> = blocks.iter().filter(|it| is_finite(it)).collect();
    if whole.is_empty() {
        return None;
    }
    let mut rows = DMatrix::from_fn(whole.len(), FEATURES, |row, at| whole[row][at]);
    let centre = rows.row_mean();
    for mut row in rows.row_iter_mut() {
        row -= &centre;
    }
    let covariance = rows.tr_mul(&rows) / (whole.len().max(2) - 1) as f64;
    Some((mean, covariance))
}

/// The square of a difference's length under a covariance, by its pseudo-inverse: directions in which nothing varies, to rounding,
/// do not count.
fn squared_length(apart: &DVector<f64>, covariance: DMatrix<f64>) -> f64 {
    let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(covariance);
    let largest = eigenvalues.iter().fold(0.0, |largest: f64, it| largest.max(it.abs()));
    let smallest = largest * FEATURES as f64 * f64::EPSILON;
    let along = eigenvectors.tr_mul(apart);
    along.iter().zip(&eigenvalues).filter(|(_, value)| value.abs() > smallest).map(|(it, value)| it * it / value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise of a width that depends on the place, so that blocks differ in sharpness.
    fn noise(width: u32, height: u32) -> RgbImage {
        let mut state = 12345_u32;
        RgbImage::from_fn(width, height, |x, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let swing = if x < 96 { 100 } else { 20 };
            image::Rgb([(100 + (state >> 16) % swing) as u8; 3])
        })
    }

    fn fitted() -> Niqe {
        Niqe::fit(&niqe_features(&noise(480, 384))).unwrap()
    }

    #[test]
    fn a_picture_has_a_row_of_features_for_each_whole_block() {
        assert_eq!(niqe_features(&noise(300, 200)).len(), 6);
        assert!(niqe_features(&noise(300, 95)).is_empty());
    }

    #[test]
    fn only_sharp_blocks_take_part_in_a_fit() {
        let picture = noise(288, 192);
        let all = niqe_features(&picture);
        assert_eq!(sharp_blocks(&picture), [all[0], all[3]]);
    }

    #[test]
    fn what_is_fitted_is_written_and_read_back() {
        let niqe = fitted();
        assert_eq!(Niqe::read(&niqe.to_file()), Ok(niqe));
    }

    #[test]
    fn a_picture_like_those_of_the_fit_scores_lower_than_another() {
        let niqe = fitted();
        let even = RgbImage::from_fn(480, 384, |x, y| image::Rgb([(x / 3 + (y * y / 50) % 40) as u8; 3]));
        assert!(niqe.score(&noise(480, 384)).unwrap() < niqe.score(&even).unwrap());
    }

    #[test]
    fn small_and_flat_pictures_have_no_score() {
        let niqe = fitted();
        assert_eq!(niqe.score(&noise(95, 300)), Err(Unmeasurable::TooSmall));
        let flat = RgbImage::from_pixel(200, 200, image::Rgb([90; 3]));
        assert_eq!(niqe.score(&flat), Err(Unmeasurable::Flat));
    }

    #[test]
    fn one_block_makes_no_fit() {
        assert_eq!(Niqe::fit(&niqe_features(&noise(96, 96))), None);
        assert_eq!(Niqe::fit(&[]), None);
    }

    #[test]
    fn files_without_the_parameters_are_refused_by_what_they_lack() {
        let numbers = [0.5; FEATURES * FEATURES];
        let short = evoq_mat5::file(&[(MEAN, [1, 35], &numbers[..35])]);
        assert_eq!(Niqe::read(&short), Err("variable `mu_prisparam` has 35 numbers; expected 36".to_owned()));
        let alone = evoq_mat5::file(&[(MEAN, [1, 36], &numbers[..36])]);
        assert!(Niqe::read(&alone).unwrap_err().contains("no variable `cov_prisparam`"));
        assert!(Niqe::read(b"svm_type").unwrap_err().contains("too short"));
    }

    #[test]
    fn a_covariance_that_is_none_is_refused() {
        let mut numbers = vec![0.5; FEATURES * FEATURES];
        let file = |numbers: &[f64]| {
            evoq_mat5::file(&[(MEAN, [1, 36], &numbers[..36]), (COVARIANCE, [FEATURES, FEATURES], numbers)])
        };
        assert!(Niqe::read(&file(&numbers)).is_ok());
        numbers[1] = 0.7;
        assert!(Niqe::read(&file(&numbers)).unwrap_err().contains("not symmetric"));
        numbers[1] = f64::NAN;
        assert!(Niqe::read(&file(&numbers)).unwrap_err().contains("not finite"));
    }
}
