//! The binary `evoq-vote`, run as the workflow and people run it.

#[path = "stage/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use evoq_artifacts::{Artifact, list_files, read_file, write_file};
use evoq_policy::{Question, Reasoning, Task};
use evoq_schemas::{Design, Image, ImageId, Outcome, Pair, PairId, Presented, Vote};
use evoq_test_support::{Folder, Program, stored, table, texture};
use image::{Rgb, RgbImage};

/// A policy of random weights: its replies are noise, and so nearly all invalid.
fn policy() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/policy/checkpoint");
    path.canonicalize().unwrap().display().to_string()
}

fn vote(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evoq-vote")).args(arguments).output().unwrap()
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
    let sampled: &[&str] = if more.contains(&"--exact") { &[] } else { &["--samples", "6", "--max-tokens", tokens] };
    vote(&[&inputs[..], sampled, more].concat())
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
        assert_eq!(row.invalid_reason.is_some(), row.outcome == Some(Outcome::Invalid));
        assert_eq!((row.samples, row.min_pixels.is_some(), row.max_pixels.is_some()), (Some(6), true, true));
        assert!((1..=6).contains(&row.tokens));
    }
    let replies = |presented| rows.iter().filter(move |it| it.presented == presented).map(|it| it.reply.as_deref());
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
fn a_full_disk_and_a_second_run_make_no_other_votes() {
    let folder = Folder::new();
    let [images, pairs] = inputs(folder.path());
    let policy = policy();
    let inputs = ["--images", &images, "--pairs", &pairs, "--policy", &policy];
    let flags = ["--samples", "6", "--max-tokens", "6", "--min-valid-rate", "0"];
    Program(env!("CARGO_BIN_EXE_evoq-vote")).stays_whole(&[inputs, flags].concat(), &folder);
}

/// Forty-six pictures, and all 1,035 pairs of them: more than four units.
fn many(folder: &Path) -> [String; 2] {
    let images: Vec<Image> = (0..46).map(|seed| picture(seed, None)).collect();
    let pairs = (0..46).flat_map(|a| (0..a).map(move |b| (a, b))).map(|(a, b)| {
        let mut ids = [images[a].image_id.clone(), images[b].image_id.clone()];
        ids.sort();
        let [image_a, image_b] = ids;
        Pair { pair_id: PairId::of(&image_a, &image_b), image_a, image_b, design: Design::Random, reference_id: None }
    });
    let pairs: Vec<Pair> = pairs.collect();
    [table(folder, "images", &images), table(folder, "pairs", &pairs)]
}

/// Asks once about each of many pairs, for one token.
fn ask_once([images, pairs]: &[String; 2], out: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evoq-vote"));
    command.args(["--images", images, "--pairs", pairs, "--policy", &policy(), "--out", out]);
    command.args(["--samples", "1", "--max-tokens", "1", "--min-valid-rate", "0"]).args(more);
    command
}

#[test]
fn four_shards_in_any_order_and_a_killed_run_begun_anew_make_the_artifact_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = many(folder.path());
    let place = |name: &str| folder.path().join(name).display().to_string();
    let done = |out: &str, more: &[&str]| {
        let output = ask_once(&inputs, out, more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    done(&place("one"), &["--threads", "1"]);
    let one = Artifact::open(&place("one")).unwrap().manifest;
    assert_eq!(one.tables["votes"].rows, 1035);

    for (i, shard) in ["2/4", "0/4", "3/4", "1/4"].iter().enumerate() {
        assert!(Artifact::open(&place("shards")).is_err(), "committed after {i} of 4 shards");
        done(&place("shards"), &["--shard", shard, "--threads", "2"]);
    }
    assert!(!Path::new(&place("shards")).join("receipts").exists());
    assert_eq!(Artifact::open(&place("shards")).unwrap().manifest, one);

    let killed = place("killed");
    let mut child = ask_once(&inputs, &killed, &[]).spawn().unwrap();
    while std::fs::read_dir(Path::new(&killed).join("receipts")).map_or(0, Iterator::count) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Artifact::open(&killed).is_err());
    done(&killed, &[]);
    assert_eq!(Artifact::open(&killed).unwrap().manifest, one);
}

/// A policy that compares, and mostly answers as it should.
fn tiny_policy() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workflows/tiny-policy");
    path.canonicalize().unwrap().display().to_string()
}

/// Six pictures of the tiny policy's size, each noisier than the one before, and all fifteen pairs of them.
fn noisy(folder: &Path) -> [String; 2] {
    let picture = |level: u32| {
        let noise = |x: u32, y: u32| (x.wrapping_mul(7919) ^ y.wrapping_mul(104_729)).wrapping_mul(2_654_435_761) >> 26;
        let pixels = RgbImage::from_fn(112, 112, |x, y| {
            let tone = |by: u32| (60 + (x * by + y) / 6 % 80 + noise(x, y) * level / 3) as u8;
            Rgb([tone(2), tone(3), tone(5)])
        });
        stored(&format!("{level}.png"), &pixels)
    };
    let images: Vec<Image> = (0..6).map(picture).collect();
    let pairs = (0..6).flat_map(|b| (0..b).map(move |a| (a, b))).map(|(a, b)| Pair {
        pair_id: PairId::of(&images[a].image_id, &images[b].image_id),
        image_a: images[a].image_id.clone(),
        image_b: images[b].image_id.clone(),
        design: Design::Random,
        reference_id: None,
    });
    let pairs: Vec<Pair> = pairs.collect();
    [table(folder, "images", &images), table(folder, "pairs", &pairs)]
}

#[test]
fn the_tiny_policys_stopped_votes_are_the_first_of_all_votes_and_its_labels_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let [images, pairs] = noisy(folder.path());
    let cast = |early_stop: &str, threads: &str| {
        let out = folder.path().join(format!("{early_stop}-{threads}")).display().to_string();
        let inputs = ["--images", &images, "--pairs", &pairs, "--policy", &tiny_policy(), "--out", &out];
        let flags = ["--max-tokens", "14", "--early-stop", early_stop, "--threads", threads];
        votes(&out, &vote(&[&inputs[..], &flags].concat()))
    };
    let (all, stopped) = (cast("off", "2"), cast("lossless", "1"));
    assert_eq!(stopped, cast("lossless", "2"));
    assert_eq!(all.len(), 15 * 32);
    let of = |votes: &[Vote]| {
        let mut by_pair: BTreeMap<String, Vec<Vote>> = BTreeMap::new();
        for vote in votes {
            by_pair.entry(vote.pair_id.to_string()).or_default().push(vote.clone());
        }
        by_pair
    };
    let label = |votes: &[Vote]| {
        let count = |side| votes.iter().filter(|vote| vote.outcome == Some(side)).count();
        count(Outcome::A).cmp(&count(Outcome::B))
    };
    let stopped_by_pair = of(&stopped);
    for (pair, all) in of(&all) {
        let stopped = &stopped_by_pair[&pair];
        assert_eq!(label(stopped), label(&all));
        let said = |votes: &[Vote]| votes.iter().map(|it| (it.vote, it.outcome, it.reply.clone())).collect::<Vec<_>>();
        assert_eq!(said(stopped), said(&all[..stopped.len()]));
    }
    assert!(stopped.len() < 14 * 32, "{} votes of {}", stopped.len(), all.len());
    let valid = all.iter().filter(|vote| vote.invalid_reason.is_none()).count();
    assert!(2 * valid > all.len() && all.iter().any(|vote| vote.answer_logprob.is_some_and(|it| it <= 0.0)));
}

#[test]
fn exact_voting_gives_both_orders_probabilities_that_samples_agree_with() {
    let folder = tempfile::tempdir().unwrap();
    let [images, pairs] = inputs(folder.path());
    let run = |name: &str, flags: &[&str]| {
        let out = folder.path().join(name).display().to_string();
        let inputs =
            ["--images", &images, "--pairs", &pairs, "--policy", &policy(), "--min-valid-rate", "0", "--out", &out];
        votes(&out, &vote(&[&inputs[..], flags].concat()))
    };
    let exact = run("exact", &["--exact"]);
    let known: Vec<_> = exact.iter().map(|it| (it.image_a.as_str(), it.vote, it.presented)).collect();
    let (ab, ba) = (Presented::Ab, Presented::Ba);
    assert_eq!(known, [("set/1.png", 0, ab), ("set/1.png", 1, ba), ("set/0.png", 0, ab), ("set/0.png", 1, ba)]);
    assert!(exact.iter().all(|it| it.outcome.is_none() && it.reply.is_none() && it.samples.is_none()));
    let prompt = |reasoning| Question::new(Task::Compare, reasoning).hash();
    assert!(exact.iter().all(|it| it.prompt == prompt(Reasoning::Off)));
    let default = run("default", &["--samples", "1", "--max-tokens", "1"]);
    assert!(default.iter().all(|it| it.prompt == prompt(Reasoning::On)));

    // One token a reply: what is valid of it is the first token, `0` or `1`. A hot temperature brings both up.
    let flags = ["--temperature", "20"];
    let exact = run("hot", &[&flags[..], &["--exact"]].concat());
    let drawn = [&flags[..], &["--samples", "4000", "--max-tokens", "1", "--order", "balanced", "--reasoning", "off"]];
    let sampled = run("sampled", &drawn.concat());
    for row in &exact {
        let alike = |it: &&Vote| it.pair_id == row.pair_id && it.presented == row.presented;
        for (side, p) in [(Outcome::A, row.probability_a.unwrap()), (Outcome::B, row.probability_b.unwrap())] {
            assert!(p > 0.0005, "{p} is too rare to be seen");
            let count = sampled.iter().filter(alike).filter(|it| it.outcome == Some(side)).count() as f64;
            let sigma = (2000.0 * p * (1.0 - p)).sqrt();
            assert!((count - 2000.0 * p).abs() < 4.0 * sigma, "{count} of 2000 where {p} is expected");
        }
    }
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
    assert!(text.contains("2 of 2 pairs got identical replies"), "{text}");
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
        ([images.clone(), pairs.clone()], &["--exact", "--reasoning", "on"], "--exact with --reasoning on"),
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
