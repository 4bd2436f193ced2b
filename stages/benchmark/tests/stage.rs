//! The binary `evoq-benchmark`, run as the workflow and people run it.

use std::path::Path;

use evoq_artifacts::{list_files, read_file};
use evoq_schemas::{
    Coefficient, Correlation, Decoding, Difference, Grouping, Image, ImageId, Prediction, Rating, Score, ScoreMethod,
};
use evoq_test_support::{Folder, Program, original, rows, variant};

const TYPES: [&str; 3] = ["blur_lens", "noise_poisson", "pixelate"];

const BENCHMARK: Program = Program(env!("CARGO_BIN_EXE_evoq-benchmark"));

fn rating(image: &Image, quality: f64) -> Rating {
    let image_id = image.image_id.clone();
    Rating { image_id, mos: quality * 20.0, mos_std: None, scale: "mos".to_owned(), quality, raters: None }
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
    let first = original("set", "0.png");
    let all = TYPES.iter().flat_map(|name| (0..=5).map(|severity| variant(&first, name, severity)));
    [first.clone()].into_iter().chain(all).collect()
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
fn a_full_disk_and_a_second_run_make_no_other_correlations_and_no_half_report() {
    let folder = Folder::new();
    let images = variants();
    let scores = folder.table("scores", &scores(&images));
    let images = folder.table("images", &images);
    BENCHMARK
        .stays_whole(&["--scores", &scores, "--images", &images, "--truth", "severity", "--resamples", "100"], &folder);
    let to = folder.at("report");
    let fault = BENCHMARK.starved(&["report", &folder.at("whole"), "--to", &to]);
    assert!(fault.contains(&to), "{fault}");
    // What is there of it is whole, and is written again.
    BENCHMARK.done(&["report", &folder.at("whole"), "--to", &to]);
    assert!(list_files(Path::new(&to)).unwrap().contains(&"report.md".to_owned()));
}

#[test]
fn severity_is_a_truth_over_all_variants_within_types_and_in_subsets() {
    let folder = Folder::new();
    let images = variants();
    let scores = folder.table("scores", &scores(&images));
    let images = folder.table("images", &images);
    let flags = ["--scores", &scores, "--images", &images, "--truth", "severity"];
    let subsets = ["--subset", "flat=pixelate", "--subset", "other=blur_lens,noise_poisson"];
    let rows: Vec<Correlation> = BENCHMARK.rows(&[&flags[..], &subsets].concat(), &folder.at("out"));
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
    let folder = Folder::new();
    let images: Vec<Image> = (0..5).map(|i| original("set", &format!("{i}.png"))).collect();
    let scores: Vec<Score> = images
        .iter()
        .zip([1.5, 2.0, 4.0, 3.0, 5.0])
        .map(|(image, value)| score(&image.image_id, Decoding::Greedy, 0, Some(value)))
        .collect();
    let ratings: Vec<Rating> = images.iter().zip([1.0, 2.0, 3.0, 4.0]).map(|(image, it)| rating(image, it)).collect();
    let (scores, images) = (folder.table("scores", &scores), folder.table("images", &images));
    let ratings = folder.table("ratings", &ratings);
    let flags = ["--scores", &scores, "--images", &images, "--ratings", &ratings];
    let rows: Vec<Correlation> = BENCHMARK.rows(&flags, &folder.at("out"));
    // One swap among four: Spearman 1 − 6·2 / (4·15), Kendall (5 − 1) / 6.
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].n, rows[0].grouping), (4, Grouping::All));
    near(rows[0].srcc, 0.8);
    near(rows[0].krcc, 4.0 / 6.0);
}

/// Two sets of 200 and 100 rated pictures. The policy `good` follows the ratings with some noise, `twin` with as much of another,
/// `bad` with far more.
fn rated(folder: &Folder) -> Vec<String> {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let (mut images, mut ratings, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for (set, count) in [("koniq10k", 200), ("csiq", 100)] {
        for i in 0..count {
            let row = original(set, &format!("{i}.png"));
            let quality = 1.0 + 4.0 * uniform();
            ratings.push(rating(&row, quality));
            for (policy, noise) in [("good", 1.0), ("twin", 1.0), ("bad", 8.0)] {
                let value = (quality + noise * (uniform() - 0.5)).clamp(1.0, 5.0);
                let reply = score(&row.image_id, Decoding::Greedy, 0, Some(value));
                scores.push(Score { policy: policy.to_owned(), ..reply });
            }
            images.push(row);
        }
    }
    let scores = folder.table("scores", &scores);
    let (images, ratings) = (folder.table("images", &images), folder.table("ratings", &ratings));
    ["--scores", &scores, "--images", &images, "--ratings", &ratings].map(str::to_owned).to_vec()
}

#[test]
fn every_coefficient_has_an_interval_and_the_sets_a_weighted_mean() {
    let folder = Folder::new();
    let flags = rated(&folder);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let run = |name: &str, more: &[&str]| -> Vec<Correlation> {
        BENCHMARK.rows(&[&flags[..], more].concat(), &folder.at(name))
    };
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
    let folder = Folder::new();
    let flags = rated(&folder);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let out = folder.at("out");
    let with_baseline = [&flags[..], &["--baseline", "good", "--resamples", "500"]].concat();
    let coefficients: Vec<Correlation> = BENCHMARK.rows(&with_baseline, &out);
    let differences: Vec<Difference> = rows(&out);
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
        coefficients.iter().find(|it| it.policy == policy && it.dataset == set).unwrap().srcc.unwrap()
    };
    near(srcc("bad", "csiq").difference, value("bad", "csiq") - value("good", "csiq"));
    let gain = |set: &str| value("bad", set) / value("good", set) - 1.0;
    near(srcc("bad", "csiq").gain, gain("csiq"));
    near(srcc("bad", "weighted-mean").gain, (200.0 * gain("koniq10k") + 100.0 * gain("csiq")) / 300.0);
    near(srcc("bad", "weighted-mean").gain_of_averages, gain("weighted-mean"));
    let line = BENCHMARK.refused_at(&[&flags[..], &["--baseline", "x"]].concat(), &folder.at("refused"));
    assert!(line.contains("good, twin, bad"), "{line}");
}

#[test]
fn every_coefficient_can_be_traced_to_its_points() {
    let folder = Folder::new();
    let images = variants();
    let (scores, images) = (folder.table("scores", &scores(&images)), folder.table("images", &images));
    let flags = ["--scores", &scores, "--images", &images, "--truth", "severity", "--resamples", "0"];
    let points: Vec<Prediction> = BENCHMARK.rows(&flags, &folder.at("out"));
    assert_eq!(points.len(), 2 * 18);
    let greedy: Vec<&Prediction> = points.iter().filter(|it| it.decoding == Decoding::Greedy).collect();
    assert_eq!((greedy[0].image_id.as_str(), greedy[0].score, greedy[0].valid), ("set/0.png#blur_lens-0", None, 0));
    let squares = greedy.iter().filter_map(|it| Some((it.score? - it.quality).powi(2)));
    let rmse = (squares.sum::<f64>() / 17.0).sqrt();
    let all = |it: &&Correlation| it.decoding == Decoding::Greedy && it.grouping == Grouping::All;
    near(rows::<Correlation>(&folder.at("out")).iter().find(all).unwrap().rmse, rmse);
}

#[test]
fn a_report_has_a_plot_for_each_policy_and_set_and_the_same_bytes_again() {
    let folder = Folder::new();
    let flags = rated(&folder);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    BENCHMARK.done(&[&flags[..], &["--resamples", "200", "--out", &folder.at("out")]].concat());
    let report = |to: &str| {
        BENCHMARK.done(&["report", &folder.at("out"), "--to", &folder.at(to)]);
        let place = folder.path().join(to);
        let files = list_files(&place).unwrap();
        files.into_iter().map(|name| (read_file(&place.join(&name)).unwrap(), name)).collect::<Vec<_>>()
    };
    let files = report("a");
    assert_eq!(files, report("b"));
    let names: Vec<&str> = files.iter().map(|it| it.1.as_str()).collect();
    assert_eq!(names[0], "001-koniq10k-good-greedy.svg");
    assert_eq!(names[6..], ["report.md"]);
    let page = String::from_utf8(files[6].0.clone()).unwrap();
    for told in
        ["| koniq10k ", "| weighted-mean ", "not distinguishable", "(of the means)", "](006-csiq-bad-greedy.svg)"]
    {
        assert!(page.contains(told), "{told}: {page}");
    }
}

#[test]
fn a_report_of_what_is_no_benchmark_is_refused() {
    let folder = Folder::new();
    let images = folder.table("images", &variants());
    let line = BENCHMARK.refused(&["report", &images, "--to", &folder.at("report")]);
    assert!(line.contains("correlations"), "{line}");
}

#[test]
fn inputs_that_do_not_fit_together_are_refused_by_name() {
    let folder = Folder::new();
    let images = variants();
    let all = scores(&images);
    let scores = folder.table("scores", &all);
    let few = folder.table("few", &images[..5]);
    let originals = folder.table("originals", &[original("set", "0.png")]);
    let images = folder.table("images", &images);
    let of_original = folder.table("o", &[score(&"set/0.png".into(), Decoding::Greedy, 0, Some(3.0))]);
    let severity = ["--truth", "severity", "--scores"];
    for (flags, named) in [
        (&["--scores", &scores, "--images", &images][..], "--ratings"),
        (&[&severity[..], &[&scores, "--images", &few]].concat(), "blur_lens-4"),
        (&[&severity[..], &[&of_original, "--images", &originals]].concat(), "severity"),
        (&[&severity[..], &[&scores, "--scores", &scores, "--images", &images]].concat(), "each table once"),
        (&[&severity[..], &[&scores, "--images", &images, "--subset", "x=blur_lense"]].concat(), "blur_lens"),
    ] {
        let line = BENCHMARK.refused_at(flags, &folder.at("refused"));
        assert!(line.contains(named), "{line}");
    }
}
