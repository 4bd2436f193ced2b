//! The binary `evoq-score`, run as the workflow and people run it.

#[path = "stage/handcrafted.rs"]
mod handcrafted;
#[path = "stage/server.rs"]
mod server;

use std::path::Path;
use std::process::{Command, Output};

use evoq_artifacts::Artifact;
use evoq_schemas::{Decoding, Image, ImageId, Score};
use evoq_test_support::{Folder, Program, stored, table, texture};

/// A policy of random weights: its replies are noise, and so nearly all invalid.
fn policy() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/policy/checkpoint");
    path.canonicalize().unwrap().display().to_string()
}

fn score(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evoq-score")).args(arguments).output().unwrap()
}

fn picture(seed: u32, reference: Option<&str>) -> Image {
    Image {
        reference_id: reference.map(ImageId::from),
        distortion: reference.map(|_| "pixelate".to_owned()),
        severity: reference.map(|_| 3),
        distortion_seed: reference.map(|_| 1),
        ..stored(&format!("{seed}.png"), &texture(56, 56, seed))
    }
}

fn scores(images: &str, out: &str, more: &[&str]) -> Vec<Score> {
    let fixed = ["--images", images, "--policy", &policy(), "--out", out, "--max-tokens", "6"];
    let output = score(&[&fixed[..], more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Artifact::open(out).unwrap().rows().unwrap()
}

#[test]
fn each_picture_gets_a_greedy_reply_and_the_sampled_ones_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let images = table(folder.path(), "images", &[picture(1, None), picture(0, None)]);
    let out = |name: &str| folder.path().join(name).display().to_string();
    let greedy = scores(&images, &out("greedy"), &[]);
    assert_eq!(greedy.len(), 2);
    let both = scores(&images, &out("both"), &["--samples", "3"]);
    let order: Vec<_> = both.iter().map(|it| (it.image_id.as_str(), it.decoding, it.sample)).collect();
    let (g, s) = (Decoding::Greedy, Decoding::Sampled);
    let expected =
        ["set/1.png", "set/0.png"].into_iter().flat_map(|id| [(id, g, 0), (id, s, 0), (id, s, 1), (id, s, 2)]);
    assert_eq!(order, expected.collect::<Vec<_>>());
    let replies = |rows: &[Score]| -> Vec<String> {
        rows.iter().filter(|it| it.decoding == g).map(|it| it.reply.clone()).collect()
    };
    assert_eq!(replies(&greedy), replies(&both));
    assert!(both.iter().all(|it| it.score.is_some() != it.invalid_reason.is_some()));
}

#[test]
fn the_seed_decides_every_byte_and_the_number_of_threads_none() {
    let folder = tempfile::tempdir().unwrap();
    let images = table(folder.path(), "images", &[picture(0, None), picture(1, None), picture(2, None)]);
    let run = |name: &str, seed: &str, threads: &str| {
        let out = folder.path().join(name).display().to_string();
        let rows = scores(&images, &out, &["--samples", "2", "--seed", seed, "--threads", threads]);
        (Artifact::open(&out).unwrap().manifest.tables, rows)
    };
    let one = run("one", "1", "1");
    assert_eq!(one, run("two", "1", "2"));
    let sampled = |rows: &[Score]| {
        rows.iter().filter(|it| it.decoding == Decoding::Sampled).map(|it| it.reply.clone()).collect::<Vec<_>>()
    };
    assert_ne!(sampled(&one.1), sampled(&run("other", "2", "2").1));
}

#[test]
fn a_full_disk_and_a_second_run_make_no_other_scores() {
    let folder = Folder::new();
    let images = folder.table("images", &[picture(0, None), picture(1, None)]);
    let arguments = ["--images", &images, "--policy", &policy(), "--samples", "2", "--max-tokens", "6"];
    Program(env!("CARGO_BIN_EXE_evoq-score")).stays_whole(&arguments, &folder);
}

#[test]
fn where_there_are_variants_their_references_are_not_rated() {
    let folder = tempfile::tempdir().unwrap();
    let images = table(folder.path(), "images", &[picture(0, None), picture(1, Some("set/0.png"))]);
    let out = folder.path().join("scores").display().to_string();
    let rated: Vec<_> = scores(&images, &out, &[]).into_iter().map(|it| it.image_id).collect();
    assert_eq!(rated, [ImageId::from("set/1.png")]);
}

#[test]
fn an_empty_table_of_pictures_is_bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let images = table::<Image>(folder.path(), "images", &[]);
    let out = folder.path().join("scores").display().to_string();
    let output = score(&["--images", &images, "--policy", &policy(), "--out", &out]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--images"));
}
