//! Scores that no policy gives: measures, and files of other tools.

use std::collections::BTreeMap;

use evoq_artifacts::write_file;
use evoq_schemas::ScoreMethod;
use image::{Rgb, RgbImage};

use super::*;

/// A picture with detail: noise, the stronger the larger `swing`.
fn noise(name: &str, side: u32, swing: u32) -> Image {
    let mut state = swing;
    let pixels = RgbImage::from_fn(side, side, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Rgb([(100 + (state >> 16) % swing) as u8; 3])
    });
    stored(name, &pixels)
}

/// Two folders: one of sharp pictures, and one with a table of pictures to score.
fn material(folder: &Path) -> (String, String) {
    let sharp = folder.join("sharp");
    for (at, swing) in [90, 70, 50].into_iter().enumerate() {
        let bytes = noise("", 480, swing).image.and_then(|it| it.bytes).unwrap();
        write_file(&sharp.join(format!("{at}.png")), &bytes).unwrap();
    }
    write_file(&sharp.join("notes.txt"), b"not a picture").unwrap();
    let rows = [noise("a.png", 200, 60), noise("small.png", 56, 60), noise("b.png", 300, 20)];
    (sharp.display().to_string(), table(folder, "images", &rows))
}

/// The rows of a run that succeeds, and the parts that hold them.
fn rows(folder: &Path, name: &str, arguments: &[&str]) -> (Vec<Score>, BTreeMap<String, evoq_artifacts::TableParts>) {
    let out = folder.join(name).display().to_string();
    let output = score(&[arguments, &["--out", &out]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let artifact = Artifact::open(&out).unwrap();
    (artifact.rows().unwrap(), artifact.manifest.tables)
}

/// What is said of a run that is refused as bad input.
fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let out = folder.join("refused").display().to_string();
    let output = score(&[arguments, &["--out", &out]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

#[test]
fn parameters_that_are_fitted_and_written_score_as_those_that_are_fitted_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (sharp, images) = material(folder.path());
    let file = folder.path().join("niqe.mat").display().to_string();
    let fit = score(&["--method", "niqe", "--fit", &sharp, "--out", &file]);
    assert!(fit.status.success(), "{}", String::from_utf8_lossy(&fit.stderr));
    let said = String::from_utf8_lossy(&fit.stdout).into_owned();
    assert!(said.ends_with("sharp blocks of 3 pictures\n"), "{said}");
    let at_once =
        rows(folder.path(), "one", &["--images", &images, "--method", "niqe", "--fit", &sharp, "--threads", "1"]);
    let again =
        rows(folder.path(), "two", &["--images", &images, "--method", "niqe", "--params", &file, "--threads", "2"]);
    assert_eq!(at_once, again);
}

#[test]
fn a_picture_that_cannot_be_measured_has_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (sharp, images) = material(folder.path());
    let (scores, _) = rows(folder.path(), "scores", &["--images", &images, "--method", "niqe", "--fit", &sharp]);
    let reasons: Vec<_> = scores.iter().map(|it| (it.image_id.as_str(), it.invalid_reason.as_deref())).collect();
    assert_eq!(reasons, [("set/a.png", None), ("set/small.png", Some("too_small")), ("set/b.png", None)]);
    assert!(scores.iter().all(|it| it.method == ScoreMethod::Niqe && it.policy == scores[0].policy));
    // Like those of the fit, and unlike them.
    assert!(scores[0].score.unwrap() < scores[2].score.unwrap());
}

#[test]
fn brisque_s_files_are_told_apart_by_what_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let (_, images) = material(folder.path());
    let path = |name: &str| folder.path().join(name);
    let model = "svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nnr_class 2\ntotal_sv 1\nrho -20\nSV\n3 1:0.5 \n";
    let range = (1..=36).fold("x\n-1 1\n".to_owned(), |text, at| text + &format!("{at} 0 2\n"));
    write_file(&path("model"), model.as_bytes()).unwrap();
    write_file(&path("range"), range.as_bytes()).unwrap();
    let files = format!("{},{}", path("model").display(), path("range").display());
    let brisque = ["--images", &images, "--method", "brisque", "--params"];
    let (scores, _) = rows(folder.path(), "scores", &[&brisque[..], &[&files]].concat());
    assert!(
        scores
            .iter()
            .all(|it| it.method == ScoreMethod::Brisque && it.score.is_some_and(|it| (20.0..23.0).contains(&it)))
    );
    let said = refusal(folder.path(), &[&brisque[..], &[&path("model").display().to_string()]].concat());
    assert!(said.contains("1 files for BRISQUE; expected two"), "{said}");
    let swapped = format!("{},{}", path("range").display(), path("model").display());
    let said = refusal(folder.path(), &[&brisque[..], &[&swapped]].concat());
    assert!(said.contains("range has `x` in line 1; expected a LIBSVM model"), "{said}");
}

#[test]
fn imported_scores_stand_as_they_were_given_and_those_missing_are_not_filled_in() {
    let folder = tempfile::tempdir().unwrap();
    let (_, images) = material(folder.path());
    let file = folder.path().join("scores.csv");
    write_file(&file, b"name,score\nb.png,41.50\na.png,-3\n").unwrap();
    let file = file.display().to_string();
    let import = ["--images", &images, "--import", &file];
    let (scores, _) = rows(folder.path(), "scores", &import);
    let found: Vec<_> = scores.iter().map(|it| (it.score, it.reply.as_str(), it.invalid_reason.as_deref())).collect();
    assert_eq!(found, [(Some(-3.0), "-3", None), (None, "", Some("not_in_file")), (Some(41.5), "41.50", None)]);
    assert!(scores.iter().all(|it| it.method == ScoreMethod::Imported));
    let (scores, _) = rows(folder.path(), "lower", &[&import[..], &["--lower-better"]].concat());
    assert!(scores.iter().all(|it| it.method == ScoreMethod::ImportedLowerBetter));
}

#[test]
fn a_file_with_rows_that_cannot_be_used_is_refused_with_each_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let (_, images) = material(folder.path());
    let file = folder.path().join("scores.csv");
    write_file(&file, b"name,score\na.png,good\nc.png,1\n").unwrap();
    let said = refusal(folder.path(), &["--images", &images, "--import", &file.display().to_string()]);
    assert!(said.contains("line 2: `good` is no finite number"), "{said}");
    assert!(said.contains("line 3: no picture `c.png`"), "{said}");
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (sharp, images) = material(folder.path());
    for (flags, expected) in [
        (&["--method", "niqe", "--fit", &sharp, "--policy", &policy()][..], "asks nobody"),
        (&["--policy", &policy(), "--params", &sharp], "--method niqe or --method brisque"),
        (&["--method", "brisque", "--fit", &sharp], "only NIQE's parameters"),
        (&["--method", "niqe"], "0 files for NIQE"),
    ] {
        let said = refusal(folder.path(), &[&["--images", &images], flags].concat());
        assert!(said.contains(expected), "{said}");
    }
}
