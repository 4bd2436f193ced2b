//! NIQE and BRISQUE from a folder of files to their correlations, beside what is computed directly.

use std::path::Path;

use evoq_artifacts::{Artifact, list_files, read_file, write_file};
use evoq_naturalness::{Brisque, Niqe, sharp_blocks};
use evoq_pictures::{Pictures, decode, encode_png};
use evoq_schemas::{Correlation, Grouping, Score, ScoreMethod};
use evoq_test_support::{Folder, rows};
use image::{Rgb, RgbImage};

use crate::programs::{ends_with, program};

/// A picture with detail of several sizes.
fn picture(seed: u32) -> RgbImage {
    let noise = |x: u32, y: u32| {
        let mixed = x
            .wrapping_mul(374_761_393)
            .wrapping_add(y.wrapping_mul(668_265_263))
            .wrapping_add(seed.wrapping_mul(2_246_822_519));
        (mixed ^ (mixed >> 13)).wrapping_mul(1_274_126_177) >> 24
    };
    RgbImage::from_fn(208, 208, |x, y| {
        let sum = 2 * noise(x, y) + 3 * noise(x / 2, y / 2) + 5 * noise(x / 8, y / 8);
        Rgb([0, 10, 25].map(|by| (sum / 10).saturating_add(by).min(255) as u8))
    })
}

/// Runs `evoq-STAGE` to a good end at `out`.
fn make(stage: &str, out: &str, flags: &[&str]) {
    ends_with(program(&format!("evoq-{stage}")).args(flags).args(["--out", out]), 0);
}

/// Average ranks, from 1.
fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |value: f64| values.iter().filter(|it| **it < value).count();
    let same = |value: f64| values.iter().filter(|it| **it == value).count();
    values.iter().map(|value| below(*value) as f64 + f64::midpoint(same(*value) as f64, 1.0)).collect()
}

/// Pearson's correlation.
fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (centre_x, centre_y) = (mean(x), mean(y));
    let sum = |of: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(x, y)| of(x - centre_x, y - centre_y)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

/// Scores the variants with `flags`, checks each score against `direct`, and the correlations with the severity against those of
/// the scores with their sign changed. Gives SRCC.
fn follows(folder: &Folder, name: &str, flags: &[&str], direct: impl Fn(&RgbImage) -> f64) -> f64 {
    let [photos, variants] = ["photos", "variants"].map(|name| folder.at(name));
    let (scored, judged) = (folder.at(&format!("{name}-scores")), folder.at(&format!("{name}-table")));
    let images = ["--images", &photos, "--images", &variants];
    make("score", &scored, &[&images[..], flags].concat());
    let against = ["--images", &variants, "--scores", &scored, "--truth", "severity", "--resamples", "0"];
    make("benchmark", &judged, &against);

    let pictures = Pictures::open(&[&photos, &variants].map(|uri| Artifact::open(uri).unwrap())).unwrap();
    let scores: Vec<Score> = rows(&scored);
    assert_eq!(scores.len(), 24);
    let (mut turned, mut truth) = (Vec::new(), Vec::new());
    for row in &scores {
        let score = row.score.unwrap();
        assert_eq!(score, direct(&pictures.load(&row.image_id).unwrap()), "{name} of {}", row.image_id);
        assert!(row.method.is_lower_better() && row.method != ScoreMethod::ImportedLowerBetter);
        // As `benchmark` takes them: without the last bits, so that pictures that differ by rounding tie.
        turned.push(-(score * 1e9).round() / 1e9);
        truth.push(6.0 - f64::from(pictures.row(&row.image_id).unwrap().severity.unwrap()));
    }
    let correlations: Vec<Correlation> = rows(&judged);
    let all = correlations.iter().find(|it| it.grouping == Grouping::All && it.subset == "all").unwrap();
    assert_eq!((all.n, all.n_invalid), (24, 0));
    let (plcc, srcc) = (pearson(&turned, &truth), pearson(&ranks(&turned), &ranks(&truth)));
    for (found, expected) in [(all.plcc, plcc), (all.srcc, srcc)] {
        assert!((found.unwrap() - expected).abs() < 1e-12, "{name}: {found:?}, not {expected}");
    }
    srcc
}

#[test]
fn measures_of_files_reach_the_correlations_as_they_are_computed_and_with_their_sign_changed() {
    let folder = Folder::new();
    let source = folder.at("source");
    for seed in 0..6 {
        write_file(&Path::new(&source).join(format!("{seed}.png")), &encode_png(&picture(seed))).unwrap();
    }
    let [photos, variants] = ["photos", "variants"].map(|name| folder.at(name));
    make("ingest", &photos, &["--source", &source]);
    let flaws = [
        "--types",
        "blur_gaussian,blur_lens,blur_motion,pixelate",
        "--variants",
        "4",
        "--severities",
        "1-5",
        "--seed",
        "1",
    ];
    make("distort", &variants, &[&["--images", &photos][..], &flaws].concat());

    // Sharp pictures are those that were ingested.
    let read = |name: &String| decode(&read_file(&Path::new(&source).join(name)).unwrap()).unwrap().picture;
    let blocks: Vec<_> =
        list_files(Path::new(&source)).unwrap().iter().flat_map(|it| sharp_blocks(&read(it))).collect();
    let niqe = Niqe::fit(&blocks).unwrap();
    let direct = |picture: &RgbImage| niqe.score(picture).unwrap();
    let fitted = follows(&folder, "niqe", &["--method", "niqe", "--fit", &source], direct);
    assert!(fitted > 0.3, "blur takes pictures away from sharp ones: {fitted}");
    let parameters = folder.at("niqe.mat");
    write_file(Path::new(&parameters), &niqe.to_file()).unwrap();
    let read = follows(&folder, "read", &["--method", "niqe", "--params", &parameters], direct);
    assert_eq!(read, fitted);

    // A machine of two vectors: one that smooth pictures are near, one that they are far from.
    let head = "svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nnr_class 2\ntotal_sv 2\nrho -20\nSV\n";
    let model = format!("{head}40 1:1 2:-1 19:1 20:-1 \n-40 1:-0.5 2:0.5 \n");
    let range = (1..=36).fold("x\n-1 1\n".to_owned(), |text, at| text + &format!("{at} -1 3\n"));
    let files = [("model", &model), ("range", &range)].map(|(name, text)| {
        write_file(Path::new(&folder.at(name)), text.as_bytes()).unwrap();
        folder.at(name)
    });
    let brisque = Brisque::read(model.as_bytes(), range.as_bytes()).unwrap();
    let flags = ["--method", "brisque", "--params", &files.join(",")];
    follows(&folder, "brisque", &flags, |picture| brisque.score(picture).unwrap());
}
