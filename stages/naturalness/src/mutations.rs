//! Every reader of parameters against files that are cut, flipped, spliced or made up. It may not panic; what it refuses it says
//! in one line, and what it takes has numbers that scores can be made of.

use evoq_test_support::accidents::{accidents, after, try_all};
use image::{Rgb, RgbImage};
use proptest::prelude::*;

use crate::{Brisque, FEATURES, Niqe, ReadError, niqe_features};

/// Noise of 300 by 200 pixels.
fn noise() -> RgbImage {
    let mut state = 1_u32;
    RgbImage::from_fn(300, 200, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Rgb([(state >> 24) as u8; 3])
    })
}

/// A model and its ranges as LIBSVM writes them, with as many support vectors.
fn libsvm(vectors: usize) -> [Vec<u8>; 2] {
    let head = format!(
        "svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nnr_class 2\ntotal_sv {vectors}\nrho -153.591\nprobA 5.70\nSV\n"
    );
    let vector = |at: usize| format!("-{}.5 1:-0.5 7:0.25 {}:1e-2 \n", 100 * at + 1, at % FEATURES + 8);
    let model = (0..vectors).fold(head, |text, at| text + &vector(at));
    let ranges = (1..=FEATURES).fold("x\n-1 1\n".to_owned(), |text, at| text + &format!("{at} 0.{at} 1.5e+001\n"));
    [model.into_bytes(), ranges.into_bytes()]
}

/// The same as OpenCV writes them.
fn opencv() -> [Vec<u8>; 2] {
    let numbers = |count: usize, number: &str| format!("[ {} ]", vec![number; count].join(", "));
    let vector = numbers(FEATURES, "-5.5e-01");
    let model = format!(
        "%YAML:1.0\n---\nopencv_ml_svm:\n   format: 3\n   svmType: EPS_SVR\n   kernel:\n      type: RBF\n      gamma: 5.0e-02\n   \
         C: 1024.\n   support_vectors:\n      - {vector}\n      - {vector}\n   decision_functions:\n      -\n         sv_count: 2\n         \
         rho: -1.5e+02\n         alpha: [ -1024., 3.5 ]\n"
    );
    let data = numbers(2 * FEATURES, "0.").replacen("0., 0.", "-1., 0.", 1);
    let data = data.rsplitn(FEATURES + 1, "0.").collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("1.5");
    let ranges =
        format!("%YAML:1.0\n---\nrange: !!opencv-matrix\n   rows: 2\n   cols: 36\n   dt: f\n   data: {data}\n");
    [model.into_bytes(), ranges.into_bytes()]
}

/// Fails where a refusal is not one line that begins with what the file is or has.
fn is_one_line(said: &str) -> Result<(), TestCaseError> {
    prop_assert!(!said.is_empty() && said.chars().all(|it| !it.is_control()), "{said:?}");
    prop_assert!(said.chars().count() < 400, "{} characters: {said}", said.chars().count());
    Ok(())
}

/// What becomes of a model and its ranges: refused in one line, or scores that are numbers wherever kernels are.
fn is_read_or_refused(model: &[u8], ranges: &[u8]) -> Result<(), TestCaseError> {
    match Brisque::read(model, ranges) {
        Ok(brisque) => prop_assert!(!brisque.score(&noise()).unwrap().is_nan()),
        Err(ReadError::Model(said) | ReadError::Range(said)) => is_one_line(&said)?,
    }
    Ok(())
}

#[test]
fn damaged_models_and_ranges_are_refused_in_one_line_or_can_score() {
    for [model, ranges] in [libsvm(3), opencv()] {
        let sound = Brisque::read(&model, &ranges).map(|it| it.score(&noise()).unwrap());
        assert!(sound.is_ok_and(f64::is_finite));
        try_all((accidents(), any::<bool>()), |(accidents, hits_model)| {
            let (model, ranges) = if hits_model {
                (after(model.clone(), &accidents), ranges.clone())
            } else {
                (model.clone(), after(ranges.clone(), &accidents))
            };
            is_read_or_refused(&model, &ranges)
        });
        // The first bytes are what a reader knows a file by; what follows is made up.
        let random =
            prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\n 0123:[]-,.!&*".to_vec())], 0..300);
        try_all((0..=200_usize, random), |(kept, random)| {
            let begun = |whole: &[u8]| [&whole[..kept.min(whole.len())], &random].concat();
            is_read_or_refused(&begun(&model), &ranges)?;
            is_read_or_refused(&model, &begun(&ranges))
        });
    }
}

#[test]
fn damaged_parameters_of_niqe_are_refused_in_one_line_or_can_score() {
    let whole = Niqe::fit(&niqe_features(&noise())).unwrap().to_file();
    try_all(accidents(), |accidents| {
        match Niqe::read(&after(whole.clone(), &accidents)) {
            Ok(niqe) => drop(niqe.score(&noise())),
            Err(said) => is_one_line(&said)?,
        }
        Ok(())
    });
    try_all((0..=160_usize, prop::collection::vec(any::<u8>(), 0..600)), |(kept, random)| {
        if let Err(said) = Niqe::read(&[&whole[..kept.min(whole.len())], &random].concat()) {
            is_one_line(&said)?;
        }
        Ok(())
    });
}
