//! The binary `evoq-vote`, run as the workflow and people run it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use evoq_artifacts::{Artifact, Draft, Header, Location, list_files, read_file, write_file};
use evoq_pictures::encode_png;
use evoq_schemas::{Design, Image, ImageId, Outcome, Pair, PairId, Picture, Presented, Table, Vote};
use image::{Rgb, RgbImage};

/// A policy of random weights: its replies are noise, and so nearly all invalid.
fn policy() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/policy/checkpoint");
    path.canonicalize().unwrap().display().to_string()
}

fn vote(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evoq-vote")).args(arguments).output().unwrap()
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

fn picture(seed: u32, reference: Option<&str>) -> Image {
    let pixels = RgbImage::from_fn(56, 56, |x, y| {
        let level = |by: u32| ((x * by + y * (by + 3) + x * y + seed * 17) % 256) as u8;
        Rgb([level(3), level(5), level(11)])
    });
    Image {
        image_id: format!("set/{seed}.png").into(),
        dataset: "set".to_owned(),
        name: format!("{seed}.png"),
        image: Some(Picture { bytes: Some(encode_png(&pixels)), path: None }),
        width: 56,
        height: 56,
        format: "png".to_owned(),
        digest: String::new(),
        split: None,
        grey: false,
        reference_id: reference.map(ImageId::from),
        distortion: reference.map(|_| "pixelate".to_owned()),
        severity: reference.map(|_| 3),
        distortion_seed: reference.map(|_| 1),
        short_side: None,
        crop: None,
    }
}

/// Three pictures, and two pairs of them in this order: 1 with 2, then 0 with 1.
fn inputs(folder: &Path) -> [String; 2] {
    let images: Vec<Image> = (0..3).map(|seed| picture(seed, None)).collect();
    let pair = |a: usize, b: usize| Pair {
        pair_id: PairId::of(&images[a].image_id, &images[b].image_id),
        image_a: images[a].image_id.clone(),
        image_b: images[b].image_id.clone(),
        design: Design::Random,
        reference_id: None,
    };
    [table(folder, "images", &images), table(folder, "pairs", &[pair(1, 2), pair(0, 1)])]
}

/// Asks six times about each pair, for replies of at most `tokens` tokens.
fn ask([images, pairs]: &[String; 2], out: &str, tokens: &str, more: &[&str]) -> Output {
    let inputs = ["--images", images, "--pairs", pairs, "--policy", &policy(), "--out", out];
    vote(&[&inputs[..], &["--samples", "6", "--max-tokens", tokens], more].concat())
}

fn votes(out: &str, output: &Output) -> Vec<Vote> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Artifact::open(out).unwrap().rows().unwrap()
}

#[test]
fn votes_stand_in_the_order_of_pairs_then_k_and_balanced_shows_each_picture_first_half_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = inputs(folder.path());
    let out = folder.path().join("votes").display().to_string();
    let rows = votes(&out, &ask(&inputs, &out, "6", &["--order", "balanced", "--min-valid-rate", "0"]));
    let order: Vec<_> = rows.iter().map(|it| (it.image_a.as_str(), it.vote)).collect();
    let expected = ["set/1.png", "set/0.png"].into_iter().flat_map(|a| (0..6).map(move |k| (a, k)));
    assert_eq!(order, expected.collect::<Vec<_>>());
    for row in &rows {
        assert_eq!(row.presented, if row.vote % 2 == 0 { Presented::Ab } else { Presented::Ba });
        assert_eq!(row.invalid_reason.is_some(), row.outcome == Outcome::Invalid);
        assert!((1..=6).contains(&row.tokens));
    }
    let replies = |presented| rows.iter().filter(move |it| it.presented == presented).map(|it| it.reply.as_str());
    assert!(replies(Presented::Ab).ne(replies(Presented::Ba)));
}

#[test]
fn the_seed_decides_every_byte_and_the_number_of_threads_none() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = inputs(folder.path());
    let run = |name: &str, seed: &str, threads: &str| {
        let out = folder.path().join(name).display().to_string();
        let more = ["--min-valid-rate", "0", "--seed", seed, "--threads", threads];
        let rows = votes(&out, &ask(&inputs, &out, "6", &more));
        (Artifact::open(&out).unwrap().manifest.tables, rows)
    };
    let one = run("one", "1", "1");
    assert_eq!(one, run("two", "1", "2"));
    let replies = |rows: &[Vote]| rows.iter().map(|it| it.reply.clone()).collect::<Vec<_>>();
    assert_ne!(replies(&one.1), replies(&run("other", "2", "2").1));
}

#[test]
fn two_shards_in_either_order_make_the_artifact_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    // Three hundred pairs are two units.
    let images: Vec<Image> = (0..25).map(|seed| picture(seed, None)).collect();
    let pairs = (0..25).flat_map(|a| (0..a).map(move |b| (a, b))).map(|(a, b)| {
        let mut ids = [images[a].image_id.clone(), images[b].image_id.clone()];
        ids.sort();
        let [image_a, image_b] = ids;
        Pair { pair_id: PairId::of(&image_a, &image_b), image_a, image_b, design: Design::Random, reference_id: None }
    });
    let pairs: Vec<Pair> = pairs.collect();
    let inputs = [table(folder.path(), "images", &images), table(folder.path(), "pairs", &pairs)];
    let run = |name: &str, shards: &[&str]| {
        let out = folder.path().join(name).display().to_string();
        for (i, shard) in shards.iter().enumerate() {
            assert!(Artifact::open(&out).is_err(), "committed after {i} of {} shards", shards.len());
            let more = ["--min-valid-rate", "0", "--shard", shard, "--samples", "1"];
            let output = vote(
                &[
                    &["--images", &inputs[0], "--pairs", &inputs[1], "--policy", &policy(), "--out", &out][..],
                    &["--max-tokens", "1"],
                    &more,
                ]
                .concat(),
            );
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert!(!Path::new(&out).join("receipts").exists());
        Artifact::open(&out).unwrap().manifest
    };
    let one = run("one", &["0/1"]);
    assert_eq!(one.tables["votes"].rows, 300);
    assert_eq!(run("first", &["0/2", "1/2"]), one);
    assert_eq!(run("second", &["1/2", "0/2"]), one);
}

#[test]
fn too_few_valid_votes_fail_the_step_with_the_reasons_counted() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = inputs(folder.path());
    let out = folder.path().join("votes").display().to_string();
    let output = ask(&inputs, &out, "6", &["--min-valid-rate", "1"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().last().unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(line.contains("of 12 votes") && line.contains("no_answer") && line.contains("--min-valid-rate"), "{line}");
    assert!(Artifact::open(&out).is_err());
}

#[test]
fn a_policy_that_replies_the_same_throughout_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = inputs(folder.path());
    let out = folder.path().join("votes").display().to_string();
    let output = ask(&inputs, &out, "1", &["--min-valid-rate", "0", "--top-k", "1"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("2 of 2 pairs got 6 identical replies"), "{text}");
}

#[test]
fn bad_input_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let [images, pairs] = inputs(folder.path());
    let few = table(folder.path(), "few", &[picture(0, None), picture(1, None)]);
    let none = table::<Pair>(folder.path(), "none", &[]);
    let out = folder.path().join("votes").display().to_string();
    for (inputs, more, named) in [
        ([few, pairs.clone()], &[][..], "set/2.png"),
        ([images.clone(), none], &[], "--pairs"),
        ([images.clone(), images.clone()], &[], "--pairs: "),
        ([images.clone(), pairs.clone()], &["--min-valid-rate", "1.5"], "--min-valid-rate"),
        ([images, pairs], &["--temperature", "NaN"], "--temperature"),
    ] {
        let output = ask(&inputs, &out, "6", more);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(named), "{text}");
        assert!(Artifact::open(&out).is_err());
    }
}

#[test]
fn a_policy_that_lacks_a_tensor_is_bad_input_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let [images, pairs] = inputs(folder.path());
    let broken = folder.path().join("policy");
    std::fs::create_dir(&broken).unwrap();
    for name in list_files(Path::new(&policy())).unwrap() {
        let mut bytes = read_file(&Path::new(&policy()).join(&name)).unwrap();
        if name == "config.json" {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains("\"num_hidden_layers\": 2"));
            bytes = text.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3").into_bytes();
        }
        write_file(&broken.join(&name), &bytes).unwrap();
    }
    let (policy, out) = (broken.display().to_string(), folder.path().join("votes").display().to_string());
    let output = vote(&["--images", &images, "--pairs", &pairs, "--policy", &policy, "--out", &out]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("model.layers.2.") && text.lines().count() == 1, "{text}");
}
