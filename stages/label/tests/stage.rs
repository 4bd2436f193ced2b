//! The binary `evoq-label`, run as the workflow and people run it.

use std::path::Path;
use std::process::{Command, Output};

use evoq_artifacts::Artifact;
use evoq_schemas::{
    Control, Decoding, Finish, Image, ImageId, Label, LabelFigure, LabelMethod, LabelReport, Outcome, PairId,
    Presented, Score, ScoreMethod, Target, Vote,
};
use evoq_test_support::{Folder, Program, table};

fn label(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evoq-label")).args(arguments).output().unwrap()
}

fn labelled(out: &Path, flags: &[&str]) -> Vec<Label> {
    let out = out.display().to_string();
    let output = label(&[flags, &["--out", &out]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Artifact::open(&out).unwrap().rows().unwrap()
}

/// The votes of pair `pair`: for a, for b, invalid; shown in turns, a first.
fn votes(pair: usize, counts: [usize; 3]) -> Vec<Vote> {
    let (a, b) = (ImageId::from(format!("set/{pair:03}-a.png")), ImageId::from(format!("set/{pair:03}-b.png")));
    let outcomes = Outcome::ALL.iter().zip(counts).flat_map(|(outcome, count)| vec![*outcome; count]);
    let vote = |(k, outcome): (usize, Outcome)| Vote {
        pair_id: PairId::of(&a, &b),
        image_a: a.clone(),
        image_b: b.clone(),
        vote: k as u16,
        samples: Some(counts.iter().sum::<usize>() as u16),
        presented: Presented::ALL[k % 2],
        outcome: Some(outcome),
        invalid_reason: (outcome == Outcome::Invalid).then(|| "no_answer".to_owned()),
        reply: Some("\\boxed{0}".to_owned()),
        answer_logprob: None,
        tokens: 3,
        finish: Some(Finish::Stop),
        probability_a: None,
        probability_b: None,
        prompt: "p".to_owned(),
        policy: "d".to_owned(),
        min_pixels: None,
        max_pixels: None,
        seed: 1,
    };
    outcomes.enumerate().map(vote).collect()
}

/// The same where `samples` votes were asked for, so that those that are missing were not cast.
fn stopped(pair: usize, counts: [usize; 3], samples: u16) -> Vec<Vote> {
    votes(pair, counts).into_iter().map(|vote| Vote { samples: Some(samples), ..vote }).collect()
}

/// What is exactly known of a pair: the probabilities of an answer for a and for b, in either order.
fn exact(pair: usize, ab: [f64; 2], ba: [f64; 2]) -> Vec<Vote> {
    let row = |(vote, [a, b]): (Vote, [f64; 2])| Vote {
        samples: None,
        outcome: None,
        reply: None,
        finish: None,
        probability_a: Some(a),
        probability_b: Some(b),
        ..vote
    };
    votes(pair, [2, 0, 0]).into_iter().zip([ab, ba]).map(row).collect()
}

#[test]
fn the_majority_is_the_label_and_a_pair_without_quorum_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [votes(3, [5, 2, 1]), votes(1, [2, 2, 0]), votes(2, [0, 0, 4]), votes(0, [0, 1, 3])].concat();
    let uri = table(folder.path(), "votes", &rows);
    let labels = labelled(&folder.path().join("labels"), &["--votes", &uri, "--quorum", "2"]);
    let preferences: Vec<Option<f64>> = labels.iter().map(|it| it.preference).collect();
    assert_eq!(preferences, [Some(1.0), Some(0.5), None, None]);
    assert_eq!((labels[0].votes_a, labels[0].votes_b, labels[0].votes_invalid), (5, 2, 1));
    assert_eq!(labels[0].agreement, Some(5.0 / 7.0));
    // a is shown first at even k: 3 of its 5 votes, and 1 of the 2 for b, at k = 5.
    assert_eq!(labels[0].first_rate, Some(4.0 / 7.0));
    assert_eq!((labels[2].agreement, labels[2].first_rate), (None, None));
}

#[test]
fn labels_of_stopped_pairs_are_those_of_all_votes_and_say_how_many_are_absent() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [stopped(0, [17, 0, 0], 32), stopped(1, [3, 14, 6], 32), votes(2, [16, 16, 0])].concat();
    let uri = table(folder.path(), "votes", &rows);
    let labels = labelled(&folder.path().join("labels"), &["--votes", &uri]);
    let known: Vec<_> = labels.iter().map(|it| (it.preference, it.votes_absent)).collect();
    assert_eq!(known, [(Some(1.0), 15), (Some(0.0), 9), (Some(0.5), 0)]);
}

#[test]
fn votes_that_could_still_change_the_label_are_missing_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let late = votes(0, [4, 1, 0]).split_off(1);
    for (name, rows, quorum, said) in [
        ("lead", stopped(0, [16, 0, 0], 32), "1", "has 16 of 32 votes, 16 for one side and 0 for the other"),
        ("quorum", stopped(0, [11, 1, 12], 32), "15", "ask for a quorum of 12 or less, or vote with --quorum 15"),
        ("first", late, "1", "has votes and no vote 0"),
        ("order", exact(0, [0.5, 0.1], [0.5, 0.1]).split_off(1), "1", "in one order only"),
    ] {
        let uri = table(folder.path(), name, &rows);
        let out = folder.path().join(format!("{name}-labels")).display().to_string();
        let output = label(&["--votes", &uri, "--quorum", quorum, "--out", &out]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(said) && text.contains(late_pair().as_str()), "{text}");
    }
}

fn late_pair() -> PairId {
    votes(0, [1, 0, 0])[0].pair_id.clone()
}

#[test]
fn exact_probabilities_make_labels_alone_and_stand_beside_votes() {
    let folder = tempfile::tempdir().unwrap();
    let probabilities =
        [exact(0, [0.6, 0.2], [0.2, 0.4]), exact(1, [0.1, 0.3], [0.3, 0.1]), exact(2, [0.0; 2], [0.0; 2])];
    let uri = table(folder.path(), "exact", &probabilities.concat());
    let alone = labelled(&folder.path().join("alone"), &["--votes", &uri]);
    let known: Vec<_> = alone.iter().map(|it| (it.preference, it.method, it.agreement)).collect();
    let exact = LabelMethod::Exact;
    assert_eq!(known, [(Some(1.0), exact, None), (Some(0.5), exact, None), (None, exact, None)]);
    assert!((alone[0].probability_a.unwrap() - 0.8 / 1.4).abs() < 1e-12 && alone[2].probability_a.is_none());
    // Pair 1 leans to neither side: two votes in either order are for one side, for the other, and else a tie or lost.
    let two = labelled(&folder.path().join("two"), &["--votes", &uri, "--samples", "2", "--order", "balanced"]);
    let chances = |label: &Label| [label.chance_a, label.chance_tie, label.chance_b].map(|it| it.unwrap());
    for (found, expected) in
        chances(&two[1]).iter().zip([0.1 * 0.9 + 0.6 * 0.3, 0.1 * 0.1 + 0.3 * 0.3, 0.3 * 0.7 + 0.6 * 0.1])
    {
        assert!((found - expected).abs() < 1e-12, "{:?}", two[1]);
    }
    assert_eq!(chances(&two[2]), [0.0; 3]);
    assert!(chances(&alone[0])[0] > chances(&alone[0])[2]);
    let sampled = table(folder.path(), "sampled", &votes(0, [1, 4, 0]));
    let both = labelled(&folder.path().join("both"), &["--votes", &sampled, "--votes", &uri]);
    assert_eq!((both[0].preference, both[0].method), (Some(0.0), LabelMethod::Majority));
    assert_eq!(both[0].probability_a, alone[0].probability_a);
}

/// A variant of some severity.
fn variant(id: &str, severity: u8) -> Image {
    Image {
        image_id: id.into(),
        dataset: "set".to_owned(),
        name: id.to_owned(),
        image: None,
        width: 1,
        height: 1,
        format: "recipe".to_owned(),
        digest: String::new(),
        split: None,
        grey: false,
        reference_id: Some("set/r.png".into()),
        distortion: Some("blur_lens".to_owned()),
        severity: Some(severity),
        distortion_seed: Some(1),
        short_side: None,
        crop: None,
    }
}

#[test]
fn the_report_is_printed_and_written_and_knows_severities_that_labels_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let uri = table(folder.path(), "votes", &[votes(0, [5, 2, 1]), votes(1, [2, 6, 0])].concat());
    let pictures = ["000-a", "000-b", "001-a", "001-b"].map(|name| format!("set/{name}.png"));
    let rows: Vec<Image> = pictures.iter().zip([1, 4, 2, 4]).map(|(id, severity)| variant(id, severity)).collect();
    let images = table(folder.path(), "images", &rows);
    let plain = labelled(&folder.path().join("plain"), &["--votes", &uri]);
    let out = folder.path().join("known").display().to_string();
    let output = label(&["--votes", &uri, "--images", &images, "--out", &out]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    for line in ["invalid votes, no_answer", "Krippendorff's alpha", "labels for the lower severity, gap 3"] {
        assert!(text.contains(line), "{text}");
    }
    let artifact = Artifact::open(&out).unwrap();
    assert_eq!(artifact.rows::<Label>().unwrap(), plain);
    let report: Vec<LabelReport> = artifact.rows().unwrap();
    let follows = |subset: &str| {
        let row = report.iter().find(|it| it.figure == LabelFigure::FollowsSeverity && it.subset == subset);
        row.map(|it| (it.n, it.value))
    };
    assert_eq!(follows("all"), Some((2, Some(0.5))));
    assert_eq!((follows("gap 3"), follows("gap 2")), (Some((1, Some(1.0))), Some((1, Some(0.0)))));
}

#[test]
fn the_mean_of_sampled_ratings_is_a_pictures_target() {
    let folder = tempfile::tempdir().unwrap();
    let rating = |image: &str, sample: u16, score: Option<f64>| Score {
        image_id: image.into(),
        policy: "d".to_owned(),
        sample,
        decoding: Decoding::Sampled,
        score,
        invalid_reason: score.is_none().then(|| "no_answer".to_owned()),
        reply: String::new(),
        tokens: 3,
        method: ScoreMethod::Policy,
    };
    let rows = [rating("x", 0, Some(2.0)), rating("x", 1, Some(2.5)), rating("y", 0, None)];
    let uri = table(folder.path(), "scores", &rows);
    let out = folder.path().join("targets").display().to_string();
    let output = label(&["--method", "mean-score", "--scores", &uri, "--out", &out]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let targets: Vec<Target> = Artifact::open(&out).unwrap().rows().unwrap();
    let known: Vec<_> = targets.iter().map(|it| (it.image_id.as_str(), it.pseudo_mos, it.invalid)).collect();
    assert_eq!(known, [("x", Some(2.25), 0), ("y", None, 1)]);
    let (votes, refused) =
        (table(folder.path(), "votes", &votes(0, [1, 0, 0])), folder.path().join("no").display().to_string());
    for (flags, said) in [
        (vec!["--method", "mean-score", "--votes", &votes], "--scores was not given"),
        (vec!["--scores", &uri], "--votes was not given"),
        (vec!["--scores", &uri, "--votes", &votes], "--scores was given"),
        (vec!["--method", "mean-score", "--scores", &uri, "--control", "shuffled"], "--control shuffled"),
    ] {
        let output = label(&[flags, vec!["--out", &refused]].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn several_tables_of_votes_count_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<Vote> = (0..40).flat_map(|pair| votes(pair, [pair % 5, pair % 3, pair % 2])).collect();
    let (one, two) = all.split_at(97);
    let whole = table(folder.path(), "whole", &all);
    let (one, two) = (table(folder.path(), "one", one), table(folder.path(), "two", two));
    let together = labelled(&folder.path().join("a"), &["--votes", &whole]);
    assert_eq!(together, labelled(&folder.path().join("b"), &["--votes", &one, "--votes", &two]));
}

#[test]
fn shuffled_labels_are_the_same_ones_at_other_pairs_by_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<Vote> = (0..60).flat_map(|pair| votes(pair, [pair % 4, (pair + 1) % 3, 1])).collect();
    let uri = table(folder.path(), "votes", &rows);
    let make = |name: &str, flags: &[&str]| labelled(&folder.path().join(name), &[&["--votes", &uri], flags].concat());
    let shuffled = ["--control", "shuffled", "--seed"];
    let plain = make("plain", &[]);
    let first = make("first", &[&shuffled[..], &["1"]].concat());
    let again = make("again", &[&shuffled[..], &["1"]].concat());
    let other = make("other", &[&shuffled[..], &["2"]].concat());

    let preferences = |labels: &[Label]| labels.iter().map(|it| it.preference).collect::<Vec<_>>();
    let sorted = |labels: &[Label]| {
        let mut all = preferences(labels);
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        all
    };
    assert_eq!(first, again);
    assert_ne!(preferences(&first), preferences(&plain));
    assert_ne!(preferences(&first), preferences(&other));
    assert_eq!(sorted(&first), sorted(&plain));
    for (shuffled, plain) in first.iter().zip(&plain) {
        assert_eq!(shuffled.control, Control::Shuffled);
        assert_eq!((shuffled.votes_a, shuffled.votes_b), (plain.votes_a, plain.votes_b));
        assert_eq!(shuffled.preference.is_some(), plain.preference.is_some());
    }
}

#[test]
fn a_full_disk_and_a_second_run_make_no_other_labels() {
    let folder = Folder::new();
    let rows: Vec<Vote> = (0..60).flat_map(|pair| votes(pair, [pair % 4, (pair + 1) % 3, 1])).collect();
    let uri = folder.table("votes", &rows);
    Program(env!("CARGO_BIN_EXE_evoq-label")).stays_whole(&["--votes", &uri], &folder);
}

#[test]
fn a_reader_of_its_words_that_has_gone_away_is_no_fault() {
    let folder = Folder::new();
    let uri = folder.table("votes", &votes(0, [3, 1, 0]));
    let out = folder.at("labels");
    Program(env!("CARGO_BIN_EXE_evoq-label")).unheard(&["--votes", &uri, "--out", &out]);
    assert_eq!(Artifact::open(&out).unwrap().rows::<Label>().unwrap().len(), 1);
}

#[test]
fn an_empty_table_of_votes_is_bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let uri = table::<Vote>(folder.path(), "votes", &[]);
    let out = folder.path().join("labels").display().to_string();
    let output = label(&["--votes", &uri, "--out", &out]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--votes"));
    assert!(Artifact::open(&out).is_err());
}
