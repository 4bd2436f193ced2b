//! Training that cannot go on: it says so in one line, and the last good checkpoint stays as it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use evoq_artifacts::{Artifact, content_digest, list_files, read_file, write_file};
use evoq_test_support::Folder;
use safetensors::SafeTensors;

use crate::work::{GRPO, Work, fault, repository};

/// The digests of the checkpoints' files at the place `name`.
fn checkpoint_bytes(work: &Work, name: &str) -> BTreeMap<String, String> {
    let scratch = work.place(name).join("scratch");
    let names = list_files(&scratch).unwrap_or_default().into_iter().filter(|name| name.contains("/checkpoints/"));
    names
        .map(|name| (content_digest(&scratch.join(&name)).unwrap(), name))
        .map(|(digest, name)| (name, digest))
        .collect()
}

#[test]
fn a_disk_that_takes_no_more_ends_it_with_a_line_and_the_last_checkpoint_stays() {
    let work = Work::new();
    work.killed_at_four("out", &[]);
    let (before, last) = (checkpoint_bytes(&work, "out"), *work.checkpoints("out").last().unwrap());
    // No file may grow past 4 MiB: rows fit, the tensors of the next checkpoint do not.
    let arguments = work.arguments("out", &[]);
    let limited = "trap '' XFSZ; ulimit -f 8192; exec \"$@\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", limited, "sh", GRPO.0]).args(&arguments).stdout(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line = fault(&said);
    let next = last + 2;
    assert!(line.contains(&format!("checkpoints/{next:08}-")) && line.contains("writing failed: "), "{line}");
    assert!(line.contains("File too large"), "{line}");
    for (name, digest) in &before {
        assert_eq!(checkpoint_bytes(&work, "out").get(name), Some(digest), "{name}");
    }
    assert!(Artifact::open(&work.folder.at("out")).is_err());
    // Once there is room it goes on, and ends as if nothing had been.
    let said = work.run("out", &[]);
    assert!(said.contains(&format!("goes on from step {last} of")), "{said}");
    work.run("one", &[]);
    assert_eq!(work.bytes("out"), work.bytes("one"));
}

#[test]
fn a_store_that_cannot_be_written_ends_it_with_a_line_before_anything_is_trained() {
    let work = Work::new();
    write_file(&work.place("file"), b"in the way").unwrap();
    let (code, said) = work.ends("file/out", &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(fault(&said).contains("file/out"), "{said}");
    assert_eq!(read_file(&work.place("file")).unwrap(), b"in the way");
}

#[test]
fn a_store_that_can_no_longer_be_written_ends_it_with_a_line_and_the_last_checkpoint_stays() {
    let work = Work::new();
    work.killed_at_four("out", &[]);
    let last = *work.checkpoints("out").last().unwrap();
    let before = checkpoint_bytes(&work, "out");
    // Where a file should be replaced there is a folder.
    let scratch = std::fs::read_dir(work.place("out/scratch")).unwrap().next().unwrap().unwrap().path();
    let live = scratch.join("live.json");
    std::fs::remove_file(&live).unwrap();
    std::fs::create_dir_all(live.join("in the way")).unwrap();
    let (code, said) = work.ends("out", &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(fault(&said).contains("live.json: writing failed: "), "{said}");
    assert_eq!(checkpoint_bytes(&work, "out"), before);
    std::fs::remove_dir_all(&live).unwrap();
    let said = work.run("out", &[]);
    assert!(said.contains(&format!("goes on from step {last} of")), "{said}");
}

/// The tiny policy with `change` made to the numbers of one tensor.
fn changed_policy(folder: &Path, tensor: &str, change: impl Fn(&mut [f32])) {
    let tiny = repository("workflows/tiny-policy");
    for name in list_files(&tiny).unwrap() {
        let mut bytes = read_file(&tiny.join(&name)).unwrap();
        if name == "model.safetensors" {
            let view = SafeTensors::deserialize(&bytes).unwrap();
            let data = view.tensor(tensor).unwrap().data();
            let start = data.as_ptr() as usize - bytes.as_ptr() as usize;
            let range = start..start + data.len();
            let numbers = bytes[range.clone()].chunks_exact(4).map(|it| f32::from_le_bytes(it.try_into().unwrap()));
            let mut numbers: Vec<f32> = numbers.collect();
            change(&mut numbers);
            let changed: Vec<u8> = numbers.iter().flat_map(|it| it.to_le_bytes()).collect();
            bytes[range].copy_from_slice(&changed);
        }
        write_file(&folder.join(name), &bytes).unwrap();
    }
}

#[test]
fn a_policy_with_an_infinite_weight_ends_it_with_a_line() {
    let folder = Folder::new();
    changed_policy(folder.path(), "model.norm.weight", |numbers| numbers[0] = f32::INFINITY);
    let work = Work::with(folder.path());
    let (code, said) = work.ends("out", &["--min-valid-rate", "0"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(fault(&said).contains("model.safetensors: tensor `model.norm.weight` holds inf"), "{said}");
    assert!(Artifact::open(&work.folder.at("out")).is_err());
}

#[test]
fn a_learning_rate_that_breaks_the_policy_ends_it_with_a_line_that_names_the_last_checkpoint() {
    let work = Work::new();
    let flags = ["--learning-rate", "1e30", "--checkpoint-every", "1", "--min-valid-rate", "0"];
    let (code, said) = work.ends("out", &flags);
    assert_eq!(code, Some(1), "{said}");
    let line = fault(&said);
    assert!(line.contains("update 1 failed; the last checkpoint, of 1 steps, stays in "), "{line}");
    assert_eq!(work.checkpoints("out"), [1]);
    assert!(Artifact::open(&work.folder.at("out")).is_err());
    // Begun again it finds the same: nothing is made of what went before.
    let before = checkpoint_bytes(&work, "out");
    assert_eq!(fault(&work.ends("out", &flags).1), line);
    assert_eq!(checkpoint_bytes(&work, "out"), before);
}

#[test]
fn votes_that_are_no_longer_valid_end_it_at_their_check_and_the_last_checkpoint_stays() {
    let folder = Folder::new();
    // It says 7 where it would say 0: every second vote names no picture, and the ratings, from 1 to 5, are what they were.
    let [zero, seven, width] = [15, 22, 128];
    changed_policy(folder.path(), "model.embed_tokens.weight", |numbers| {
        (0..width).for_each(|i| numbers.swap(zero * width + i, seven * width + i));
    });
    let work = Work::with(folder.path());
    let flags = ["--check-every", "3", "--check-pairs", "4", "--checkpoint-every", "1"];
    let (code, said) = work.ends("out", &[&flags[..], &["--min-valid-rate", "0.7"]].concat());
    assert_eq!(code, Some(1), "{said}");
    let line = fault(&said);
    assert!(line.contains("update 2 failed; the last checkpoint, of 2 steps, stays in "), "{line}");
    assert!(line.contains(" of 32 votes are valid, fewer than --min-valid-rate 0.7 asks for"), "{line}");
    assert_eq!(work.checkpoints("out"), [1, 2]);
    assert!(Artifact::open(&work.folder.at("out")).is_err());
    let said = work.run("out", &flags);
    assert!(said.contains("goes on from step 2 of"), "{said}");
    work.run("one", &flags);
    assert_eq!(work.bytes("out"), work.bytes("one"));
}

#[test]
fn votes_that_tell_no_pictures_apart_end_it_at_their_check_and_the_last_checkpoint_stays() {
    let work = Work::new();
    let flags = ["--check-every", "3", "--check-pairs", "4", "--checkpoint-every", "1"];
    let (code, said) = work.ends("out", &[&flags[..], &["--max-vote-entropy", "0"]].concat());
    assert_eq!(code, Some(1), "{said}");
    let line = fault(&said);
    assert!(line.contains("update 2 failed; the last checkpoint, of 2 steps, stays in "), "{line}");
    assert!(line.contains(" bits of entropy a pair, more than --max-vote-entropy 0 allows"), "{line}");
    let said = work.run("out", &flags);
    assert!(said.contains("goes on from step 2 of"), "{said}");
    work.run("one", &flags);
    assert_eq!(work.bytes("out"), work.bytes("one"));
}

#[test]
fn a_policy_whose_ratings_are_no_longer_valid_ends_it_and_the_last_checkpoint_stays() {
    let work = Work::new();
    work.killed_at_four("out", &[]);
    let last = *work.checkpoints("out").last().unwrap();
    let (code, said) = work.ends("out", &["--min-valid-rate", "1"]);
    assert_eq!(code, Some(1), "{said}");
    let line = fault(&said);
    assert!(line.contains("failed; the last checkpoint, of ") && line.contains("ratings are valid"), "{line}");
    assert!(*work.checkpoints("out").last().unwrap() >= last);
    work.run("out", &[]);
    work.run("one", &[]);
    assert_eq!(work.bytes("out"), work.bytes("one"));
}
