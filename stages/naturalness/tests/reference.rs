//! Features and scores of generated pictures against what pyiqa and OpenCV find (`reference.json`, written by
//! `benches/against_pyiqa.py reference`).

use std::path::{Path, PathBuf};

use evoq_artifacts::read_file;
use evoq_naturalness::{Brisque, Features, Niqe, Variant, brisque_features, niqe_features};
use image::{Rgb, RgbImage};
use serde_json::Value;

fn reference() -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference.json");
    serde_json::from_slice(&read_file(&file).unwrap()).unwrap()
}

/// The folder of the releases' parameter files, which this project does not have.
fn parameters() -> Option<PathBuf> {
    let shared = std::env::var_os("EVOQ_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let folder = shared.join("data/params");
    if !folder.exists() {
        println!("SKIPPED: {} is not there; point EVOQ_SHARED at the folder that has data/params", folder.display());
    }
    folder.exists().then_some(folder)
}

fn number(row: &Value, key: &str) -> u32 {
    row[key].as_u64().unwrap() as u32
}

/// Numbers from 0 to 255 that depend on the place alone.
fn noise(x: u32, y: u32, seed: u32) -> u32 {
    let mixed = x
        .wrapping_mul(374_761_393)
        .wrapping_add(y.wrapping_mul(668_265_263))
        .wrapping_add(seed.wrapping_mul(2_246_822_519));
    (mixed ^ (mixed >> 13)).wrapping_mul(1_274_126_177) >> 16 & 255
}

/// The picture of a row, checked by its sum.
fn picture(row: &Value) -> RgbImage {
    let weights: Vec<u32> = row["weights"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap() as u32).collect();
    let seed = number(row, "seed");
    let level = |x: u32, y: u32, channel: u32| {
        let levels =
            (0..).zip(&weights).map(|(level, weight)| weight * noise(x >> level, y >> level, seed * 3 + channel));
        (levels.sum::<u32>() / weights.iter().sum::<u32>()) as u8
    };
    let is_grey = row["grey"] == true;
    let pixel = |x, y| Rgb([0, 1, 2].map(|channel| level(x, y, if is_grey { 0 } else { channel })));
    let picture = RgbImage::from_fn(number(row, "width"), number(row, "height"), pixel);
    assert_eq!(picture.as_raw().iter().map(|it| u64::from(*it)).sum::<u64>(), row["sum"].as_u64().unwrap());
    picture
}

/// Fails where a feature is more than 2 in 1,000 away, of its size or of 1: shapes are found to a step of 0.001.
fn assert_close(ours: &Features, theirs: &Value, what: &str) {
    let theirs = theirs.as_array().unwrap();
    assert_eq!(theirs.len(), ours.len());
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let theirs = theirs.as_f64().unwrap();
        assert!(
            (ours - theirs).abs() <= 2e-3 * theirs.abs().max(1.0),
            "{what}, feature {}: {ours}, not {theirs}",
            at + 1
        );
    }
}

#[test]
fn blocks_have_the_features_that_pyiqa_finds() {
    let mut blocks = 0;
    for row in reference() {
        let (ours, theirs) = (niqe_features(&picture(&row)), row["niqe_features"].as_array().unwrap());
        assert_eq!(ours.len(), theirs.len());
        for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            assert_close(ours, theirs, &format!("picture {}, block {at}", row["seed"]));
            blocks += 1;
        }
    }
    assert_eq!(blocks, 20);
}

#[test]
fn pictures_have_the_features_that_pyiqa_and_opencv_find() {
    for row in reference() {
        for (variant, key) in [(Variant::Release, "brisque_features"), (Variant::OpenCv, "opencv_features")] {
            let ours = brisque_features(&picture(&row), variant).unwrap();
            assert_close(&ours, &row[key], &format!("picture {}, {key}", row["seed"]));
        }
    }
}

/// Fails where a score is more than 1 in 1,000 away.
fn assert_score(ours: f64, row: &Value, key: &str) {
    let theirs = row[key].as_f64().unwrap();
    assert!((ours - theirs).abs() <= 1e-3 * theirs, "picture {}, {key}: {ours}, not {theirs}", row["seed"]);
}

#[test]
fn niqe_is_what_pyiqa_finds_with_the_release_s_parameters() {
    let Some(folder) = parameters() else { return };
    let niqe = Niqe::read(&read_file(&folder.join("niqe_modelparameters.mat")).unwrap()).unwrap();
    for row in reference().iter().filter(|row| row.get("niqe").is_some()) {
        assert_score(niqe.score(&picture(row)).unwrap(), row, "niqe");
    }
}

#[test]
fn brisque_is_what_pyiqa_and_opencv_find_with_their_parameters() {
    let Some(folder) = parameters() else { return };
    let file = |name: &str| read_file(&folder.join(name)).unwrap();
    let release = Brisque::read(&file("brisque_allmodel.libsvm"), &file("brisque_allrange")).unwrap();
    let opencv = Brisque::read(&file("brisque_model_live.opencv.yml"), &file("brisque_range_live.opencv.yml")).unwrap();
    for row in reference() {
        assert_score(release.score(&picture(&row)).unwrap(), &row, "brisque");
        // OpenCV cuts its scores to 0..100.
        if row["opencv"] != 100.0 {
            assert_score(opencv.score(&picture(&row)).unwrap(), &row, "opencv");
        }
    }
}
