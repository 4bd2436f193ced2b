//! The binary `evoq-benchmark`, run as the workflow and people run it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use evoq_artifacts::{Artifact, Draft, Header, Location};
use evoq_schemas::{
    Coefficient, Correlation, Decoding, Difference, Grouping, Image, ImageId, Rating, Score, ScoreMethod, Table,
};

const TYPES: [&str; 3] = ["blur_lens", "noise_poisson", "pixelate"];

fn benchmark(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evoq-benchmark")).args(arguments).output().unwrap()
}

fn correlations(out: &Path, flags: &[&str]) -> Vec<Correlation> {
    let out = out.display().to_string();
    let output = benchmark(&[flags, &["--out", &out]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Artifact::open(&out).unwrap().rows().unwrap()
}

/// Runs what must be refused as bad input, and gives the one line that says why.
fn refused(folder: &Path, flags: &[&str]) -> String {
    let out = folder.join("refused").display().to_string();
    let output = benchmark(&[flags, &["--out", &out]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(Artifact::open(&out).is_err());
    String::from_utf8(output.stderr).unwrap()
}

fn table<T: Table>(folder: &Path, name: &str, rows: &[T]) -> String {
    let header = Header {
        stage: "test".to_owned(),
        stage_version: 1,
        fingerprint: name.to_owned(),
        parameters: serde_json::Map::new(),
        inputs: BTreeMap::new(),
    };
    let uri = folder.join(name).display().to_string();
    let mut draft = Draft::new(&Location::open(&uri).unwrap(), header);
    let mut writer = draft.table::<T>();
    for row in rows {
        writer.push(row.clone()).unwrap();
    }
    draft.add(T::NAME, writer.finish().unwrap());
    draft.commit().unwrap();
    uri
}

fn image(id: &str, variant: Option<(&str, u8)>) -> Image {
    Image {
        image_id: id.into(),
        dataset: "set".to_owned(),
        name: id.to_owned(),
        image: None,
        width: 112,
        height: 112,
        format: "recipe".to_owned(),
        digest: String::new(),
        split: None,
        grey: false,
        reference_id: variant.map(|_| ImageId::from("set/0.png")),
        distortion: variant.map(|it| it.0.to_owned()),
        severity: variant.map(|it| it.1),
        distortion_seed: variant.map(|_| 1),
        short_side: None,
        crop: variant.map(|_| true),
    }
}

fn score(id: &ImageId, decoding: Decoding, sample: u16, score: Option<f64>) -> Score {
    Score {
        image_id: id.clone(),
        policy: "digest".to_owned(),
        sample,
        decoding,
        score,
        invalid_reason: score.is_none().then(|| "no_answer".to_owned()),
        reply: String::new(),
        tokens: 1,
        method: ScoreMethod::Policy,
    }
}

/// An original and each type at severities 0 to 5.
fn variants() -> Vec<Image> {
    let mut rows = vec![image("set/0.png", None)];
    for name in TYPES {
        rows.extend((0..=5).map(|severity| image(&format!("set/0.png#{name}-{severity}"), Some((name, severity)))));
    }
    rows
}

/// Greedy replies that fall with severity but are all 3 for pixelate, and two sampled ones whose mean falls with it throughout.
/// The first picture's greedy reply and one of its sampled ones are invalid.
fn scores(images: &[Image]) -> Vec<Score> {
    let mut rows = Vec::new();
    for (position, row) in images.iter().enumerate() {
        let Some(severity) = row.severity else { continue };
        let quality = 4.5 - f64::from(severity) / 2.0;
        let greedy = if row.distortion.as_deref() == Some("pixelate") { 3.0 } else { quality };
        let valid = |score: f64| (position != 1).then_some(score);
        rows.push(score(&row.image_id, Decoding::Greedy, 0, valid(greedy)));
        rows.push(score(
            &row.image_id,
            Decoding::Sampled,
            0,
            Some(if position == 1 { quality } else { quality + 0.25 }),
        ));
        rows.push(score(&row.image_id, Decoding::Sampled, 1, valid(quality - 0.25)));
    }
    rows
}

fn near(found: Option<f64>, expected: f64) {
    let found = found.unwrap();
    assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
}

#[test]
fn severity_is_a_truth_over_all_variants_within_types_and_in_subsets() {
    let folder = tempfile::tempdir().unwrap();
    let images = variants();
    let scores = table(folder.path(), "scores", &scores(&images));
    let images = table(folder.path(), "images", &images);
    let flags = ["--scores", &scores, "--images", &images, "--truth", "severity"];
    let subsets = ["--subset", "flat=pixelate", "--subset", "other=blur_lens,noise_poisson"];
    let rows = correlations(&folder.path().join("out"), &[&flags[..], &subsets].concat());
    assert_eq!(rows.len(), 2 * 3 * 2);
    let row = |decoding: Decoding, subset: &str, grouping: Grouping| {
        let found = rows.iter().find(|it| it.decoding == decoding && it.subset == subset && it.grouping == grouping);
        found.unwrap().clone()
    };

    let sampled = row(Decoding::Sampled, "all", Grouping::All);
    near(sampled.srcc, 1.0);
    near(sampled.plcc, 1.0);
    near(sampled.krcc, 1.0);
    // The score of severity s is 4.5 − s / 2, the truth 6 − s: they differ by 1.5 − s / 2.
    near(sampled.rmse, f64::sqrt([1.5f64, 1.0, 0.5, 0.0, -0.5, -1.0].iter().map(|it| it * it).sum::<f64>() / 6.0));
    assert_eq!((sampled.samples, sampled.n, sampled.n_invalid), (2, 18, 0));
    assert_eq!((sampled.replies_valid, sampled.replies), (35, 36));

    let greedy = row(Decoding::Greedy, "all", Grouping::WithinDistortion);
    near(greedy.srcc, 2.0 / 3.0);
    assert_eq!((greedy.samples, greedy.n, greedy.n_invalid), (1, 17, 1));
    assert_eq!(row(Decoding::Greedy, "flat", Grouping::All).srcc, None);
    near(row(Decoding::Greedy, "other", Grouping::All).srcc, 1.0);
    assert_eq!(row(Decoding::Greedy, "other", Grouping::All).n, 11);
}

#[test]
fn human_scores_are_a_truth_and_pictures_without_one_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let images: Vec<Image> = (0..5).map(|i| image(&format!("set/{i}.png"), None)).collect();
    let scores: Vec<Score> = images
        .iter()
        .zip([1.5, 2.0, 4.0, 3.0, 5.0])
        .map(|(image, value)| score(&image.image_id, Decoding::Greedy, 0, Some(value)))
        .collect();
    let rating = |(image, quality): (&Image, f64)| Rating {
        image_id: image.image_id.clone(),
        mos: quality * 20.0,
        mos_std: None,
        scale: "mos".to_owned(),
        quality,
        raters: None,
    };
    let ratings: Vec<Rating> = images.iter().zip([1.0, 2.0, 3.0, 4.0]).map(rating).collect();
    let (scores, images) = (table(folder.path(), "scores", &scores), table(folder.path(), "images", &images));
    let ratings = table(folder.path(), "ratings", &ratings);
    let rows =
        correlations(&folder.path().join("out"), &["--scores", &scores, "--images", &images, "--ratings", &ratings]);
    // One swap among four: Spearman 1 − 6·2 / (4·15), Kendall (5 − 1) / 6.
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].n, rows[0].grouping), (4, Grouping::All));
    near(rows[0].srcc, 0.8);
    near(rows[0].krcc, 4.0 / 6.0);
}

/// Two sets of 200 and 100 rated pictures. The policy `good` follows the ratings with some noise, `twin` with as much of another,
/// `bad` with far more.
fn rated(folder: &Path) -> Vec<String> {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let (mut images, mut ratings, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for (set, count) in [("koniq10k", 200), ("csiq", 100)] {
        for i in 0..count {
            let mut row = image(&format!("{set}/{i}.png"), None);
            set.clone_into(&mut row.dataset);
            let quality = 1.0 + 4.0 * uniform();
            ratings.push(Rating {
                image_id: row.image_id.clone(),
                mos: quality,
                mos_std: None,
                scale: "mos".to_owned(),
                quality,
                raters: None,
            });
            for (policy, noise) in [("good", 1.0), ("twin", 1.0), ("bad", 8.0)] {
                let value = (quality + noise * (uniform() - 0.5)).clamp(1.0, 5.0);
                let reply = score(&row.image_id, Decoding::Greedy, 0, Some(value));
                scores.push(Score { policy: policy.to_owned(), ..reply });
            }
            images.push(row);
        }
    }
    let scores = table(folder, "scores", &scores);
    let (images, ratings) = (table(folder, "images", &images), table(folder, "ratings", &ratings));
    ["--scores", &scores, "--images", &images, "--ratings", &ratings].map(str::to_owned).to_vec()
}

#[test]
fn every_coefficient_has_an_interval_and_the_sets_a_weighted_mean() {
    let folder = tempfile::tempdir().unwrap();
    let flags = rated(folder.path());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let run = |name: &str, more: &[&str]| correlations(&folder.path().join(name), &[&flags[..], more].concat());
    let rows = run("out", &["--resamples", "500"]);
    assert_eq!(rows.len(), 3 * 3);
    for row in &rows {
        for (low, value, high) in [
            (row.plcc_low, row.plcc, row.plcc_high),
            (row.srcc_low, row.srcc, row.srcc_high),
            (row.krcc_low, row.krcc, row.krcc_high),
            (row.rmse_low, row.rmse, row.rmse_high),
        ] {
            let (low, value, high) = (low.unwrap(), value.unwrap(), high.unwrap());
            assert!(low < value && value < high && high - low < 0.5, "{low} {value} {high}");
        }
        let is_mean = row.dataset == "weighted-mean";
        assert_eq!((row.plcc_fit4.is_some(), row.sign), (!is_mean, (!is_mean).then_some(1)), "{row:?}");
    }
    let srcc = |rows: &[Correlation], set: &str| {
        rows.iter().find(|it| it.dataset == set && it.policy == "good").unwrap().srcc.unwrap()
    };
    let mean = (200.0 * srcc(&rows, "koniq10k") + 100.0 * srcc(&rows, "csiq")) / 300.0;
    near(Some(srcc(&rows, "weighted-mean")), mean);
    let paper = run("paper", &["--resamples", "0", "--weights", "paper"]);
    let mean = (2010.0 * srcc(&paper, "koniq10k") + 866.0 * srcc(&paper, "csiq")) / 2876.0;
    near(Some(srcc(&paper, "weighted-mean")), mean);
    assert_eq!(paper[0].srcc_low, None);
}

#[test]
fn policies_are_told_apart_only_where_the_interval_of_their_difference_leaves_out_0() {
    let folder = tempfile::tempdir().unwrap();
    let flags = rated(folder.path());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let out = folder.path().join("out");
    let rows = correlations(&out, &[&flags[..], &["--baseline", "good", "--resamples", "500"]].concat());
    let differences: Vec<Difference> = Artifact::open(&out.display().to_string()).unwrap().rows().unwrap();
    // Two policies, two sets and their mean, four coefficients.
    assert_eq!(differences.len(), 2 * 3 * 4);
    let srcc = |policy: &str, set: &str| {
        let is_it = |it: &&Difference| it.policy == policy && it.dataset == set && it.coefficient == Coefficient::Srcc;
        differences.iter().find(is_it).unwrap().clone()
    };
    for set in ["koniq10k", "csiq", "weighted-mean"] {
        assert_eq!(srcc("bad", set).distinguishable, Some(true), "{set}");
        assert!(srcc("bad", set).high.unwrap() < 0.0);
        assert_eq!(srcc("twin", set).distinguishable, Some(false), "{set}");
    }
    let value = |policy: &str, set: &str| {
        rows.iter().find(|it| it.policy == policy && it.dataset == set).unwrap().srcc.unwrap()
    };
    near(srcc("bad", "csiq").difference, value("bad", "csiq") - value("good", "csiq"));
    let gain = |set: &str| value("bad", set) / value("good", set) - 1.0;
    near(srcc("bad", "csiq").gain, gain("csiq"));
    near(srcc("bad", "weighted-mean").gain, (200.0 * gain("koniq10k") + 100.0 * gain("csiq")) / 300.0);
    near(srcc("bad", "weighted-mean").gain_of_averages, gain("weighted-mean"));
    assert!(refused(folder.path(), &[&flags[..], &["--baseline", "x"]].concat()).contains("good, twin, bad"));
}

#[test]
fn inputs_that_do_not_fit_together_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let images = variants();
    let all = scores(&images);
    let scores = table(folder.path(), "scores", &all);
    let few = table(folder.path(), "few", &images[..5]);
    let originals = table(folder.path(), "originals", &[image("set/0.png", None)]);
    let images = table(folder.path(), "images", &images);
    let of_original = table(folder.path(), "o", &[score(&"set/0.png".into(), Decoding::Greedy, 0, Some(3.0))]);
    let severity = ["--truth", "severity", "--scores"];
    for (flags, named) in [
        (&["--scores", &scores, "--images", &images][..], "--ratings"),
        (&[&severity[..], &[&scores, "--images", &few]].concat(), "blur_lens-4"),
        (&[&severity[..], &[&of_original, "--images", &originals]].concat(), "severity"),
        (&[&severity[..], &[&scores, "--scores", &scores, "--images", &images]].concat(), "each table once"),
        (&[&severity[..], &[&scores, "--images", &images, "--subset", "x=blur_lense"]].concat(), "blur_lens"),
    ] {
        let line = refused(folder.path(), flags);
        assert!(line.contains(named), "{line}");
    }
}
