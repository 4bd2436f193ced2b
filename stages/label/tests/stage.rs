//! The binary `evoq-label`, run as the workflow and people run it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use evoq_artifacts::{Artifact, Draft, Header, Location};
use evoq_schemas::{Control, Finish, ImageId, Label, Outcome, PairId, Presented, Table, Vote};

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
        presented: Presented::ALL[k % 2],
        outcome,
        invalid_reason: (outcome == Outcome::Invalid).then(|| "no_answer".to_owned()),
        reply: "\\boxed{0}".to_owned(),
        answer_logprob: None,
        tokens: 3,
        finish: Finish::Stop,
        prompt: "p".to_owned(),
        policy: "d".to_owned(),
        seed: 1,
    };
    outcomes.enumerate().map(vote).collect()
}

fn table(folder: &Path, name: &str, rows: &[Vote]) -> String {
    let header = Header {
        stage: "vote".to_owned(),
        stage_version: 1,
        fingerprint: name.to_owned(),
        parameters: serde_json::Map::new(),
        inputs: BTreeMap::new(),
    };
    let uri = folder.join(name).display().to_string();
    let mut draft = Draft::new(&Location::open(&uri).unwrap(), header);
    let mut writer = draft.table::<Vote>();
    for row in rows {
        writer.push(row.clone()).unwrap();
    }
    draft.add(Vote::NAME, writer.finish().unwrap());
    draft.commit().unwrap();
    uri
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
fn an_empty_table_of_votes_is_bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let uri = table(folder.path(), "votes", &[]);
    let out = folder.path().join("labels").display().to_string();
    let output = label(&["--votes", &uri, "--out", &out]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--votes"));
    assert!(Artifact::open(&out).is_err());
}
