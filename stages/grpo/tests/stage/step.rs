//! What an update does under its flags: what is learnt from, what moves, what is told.

use std::collections::BTreeSet;

use evoq_artifacts::read_file;
use evoq_policy::Place;
use evoq_schemas::{Rollout, Update};
use evoq_test_support::rows;
use safetensors::SafeTensors;

use crate::work::{GRPO, Work, repository};

fn updates(work: &Work, name: &str) -> Vec<Update> {
    rows(&work.folder.at(name))
}

/// The tensors of the policy at the place `name` that are not what they were.
fn moved(work: &Work, name: &str) -> BTreeSet<String> {
    let before = read_file(&repository("workflows/tiny-policy").join("model.safetensors")).unwrap();
    let after = read_file(&work.place(name).join("policy/model.safetensors")).unwrap();
    let (before, after) = (SafeTensors::deserialize(&before).unwrap(), SafeTensors::deserialize(&after).unwrap());
    let differs = |name: &&str| before.tensor(name).unwrap().data() != after.tensor(name).unwrap().data();
    assert_eq!(before.names().len(), after.names().len());
    before.names().into_iter().filter(differs).map(str::to_owned).collect()
}

#[test]
fn votes_are_checked_every_so_many_updates_and_after_the_last() {
    let work = Work::new();
    work.run("out", &["--check-every", "5", "--check-pairs", "3"]);
    let checked = |it: &Update| it.vote_valid_rate.is_some().then_some(it.update_index);
    assert_eq!(updates(&work, "out").iter().filter_map(checked).collect::<Vec<_>>(), [4, 9, 11]);
    assert!(updates(&work, "out").iter().filter_map(|it| it.vote_entropy).all(|it| (0.0..=1.0).contains(&it)));
    work.run("unchecked", &[]);
    assert!(updates(&work, "unchecked").iter().all(|it| it.vote_valid_rate.is_none() && it.vote_entropy.is_none()));
    // Looking changes nothing.
    assert_eq!(rows::<Rollout>(&work.folder.at("out")), rows::<Rollout>(&work.folder.at("unchecked")));
}

#[test]
fn what_is_frozen_stays_as_it_was() {
    let work = Work::new();
    let is_vision = |name: &String| name.starts_with("visual.");
    for part in ["text", "vision", "merger", "lora"] {
        work.run(part, &["--trainable", part]);
        let moved = moved(&work, part);
        assert!(!moved.is_empty(), "{part}");
        match part {
            "text" => assert!(!moved.iter().any(is_vision)),
            "vision" => assert!(moved.iter().all(is_vision)),
            "merger" => assert!(moved.iter().all(|name| name.starts_with("visual.merger."))),
            _ => assert!(
                moved.iter().all(|name| name.contains("_proj.weight") && name.contains("model.layers.")),
                "{moved:?}"
            ),
        }
    }
}

#[test]
fn a_policy_of_low_rank_matrices_that_was_killed_ends_with_the_same_bytes() {
    let work = Work::new();
    let flags = ["--trainable", "lora", "--lora-rank", "4"];
    work.run("one", &flags);
    let mut child = work.start("out", &flags);
    crate::work::wait_until(&mut child, || work.checkpoints("out").contains(&4));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(work.run("out", &flags).contains("goes on from step"));
    assert_eq!(work.bytes("out"), work.bytes("one"));
}

#[test]
fn micro_batches_give_the_same_gradient() {
    let work = Work::new();
    for (name, count) in [("by one", "1"), ("together", "8")] {
        work.run(name, &["--micro-batch", count]);
    }
    let [one, together] = ["by one", "together"].map(|name| updates(&work, name).remove(0));
    assert!((one.loss - together.loss).abs() < 1e-5, "{} {}", one.loss, together.loss);
    assert!((one.gradient_norm / together.gradient_norm - 1.0).abs() < 1e-4);
}

#[test]
fn a_second_pass_over_a_batch_clips_and_moves_the_policy_further() {
    let work = Work::new();
    work.run("once", &[]);
    work.run("twice", &["--iterations", "2", "--epsilon", "0.01"]);
    let (once, twice) = (updates(&work, "once"), updates(&work, "twice"));
    assert!(once.iter().all(|it| it.clip_share == Some(0.0)));
    assert!(twice[0].clip_share > Some(0.0), "{:?}", twice[0].clip_share);
    assert_eq!((once[0].loss, once[0].gradient_norm), (twice[0].loss, twice[0].gradient_norm));
    assert_ne!(once[1].loss, twice[1].loss);
}

#[test]
fn both_forms_of_the_objective_begin_with_the_same_ratings_and_part() {
    let work = Work::new();
    for form in ["token", "sequence"] {
        work.run(form, &["--objective", form]);
    }
    let [token, sequence] = ["token", "sequence"].map(|form| rows::<Rollout>(&work.folder.at(form)));
    let first = |rows: &[Rollout]| rows.iter().filter(|it| it.update_index == 0).cloned().collect::<Vec<_>>();
    assert_eq!(first(&token), first(&sequence));
    assert_ne!(updates(&work, "token")[0].gradient_norm, updates(&work, "sequence")[0].gradient_norm);
}

#[test]
fn two_epochs_are_twice_the_updates() {
    let work = Work::new();
    work.run("out", &["--epochs", "2"]);
    assert_eq!(updates(&work, "out").len(), 24);
}

#[test]
fn inputs_that_the_reward_does_not_learn_from_are_refused() {
    let work = Work::new();
    let (targets, nothing) = (work.targets(), work.folder.table::<evoq_schemas::Label>("nolabels", &[]));
    let refused = |flags: &[&str]| {
        let policy = repository("workflows/tiny-policy").display().to_string();
        let fixed = ["--images", &work.images, "--policy", &policy];
        GRPO.refused_at(&[&fixed[..], flags].concat(), &work.folder.at("refused"))
    };
    for (flags, said) in [
        (&[][..], "--labels was not given; --reward preference learns from it"),
        (
            &["--reward", "absolute", "--labels", &work.labels],
            "--targets was not given; --reward absolute learns from it",
        ),
        (&["--labels", &work.labels, "--targets", &targets], "--targets is not read with --reward preference"),
        (&["--labels", &work.labels, "--quorum", "99"], "24 have fewer than 99 valid votes"),
        (&["--labels", &nothing], "nothing is left to learn from"),
        (&["--labels", &work.labels, "--format-weight", "1", "--reasoning", "off"], "leave out one of them"),
        (&["--labels", &work.labels, "--objective", "word"], "token, sequence"),
    ] {
        let line = refused(flags);
        assert!(line.contains(said), "{flags:?}: {line}");
    }
}

#[test]
fn a_device_that_cannot_be_had_is_refused_in_one_line() {
    // A program that was built for one has nothing to refuse on a machine that has it.
    if Place::Cuda.open().is_ok() {
        return;
    }
    let work = Work::new();
    let policy = repository("workflows/tiny-policy").display().to_string();
    let flags = ["--images", &work.images, "--labels", &work.labels, "--policy", &policy, "--device", "cuda"];
    let line = GRPO.refused_at(&flags, &work.folder.at("refused"));
    assert!(line.contains("--device: no CUDA device: ") && line.trim().lines().count() == 1, "{line}");
}

#[test]
fn an_estimate_needs_a_shape_alone_and_grows_with_what_is_trained() {
    let printed = |flags: &[&str]| {
        let output = GRPO.run(&[&["--estimate", "3b", "--device", "cuda"], flags].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (all, lora) = (printed(&[]), printed(&["--trainable", "lora"]));
    assert!(all.contains("AdamW") || all.contains("moment"), "{all}");
    assert!(all.contains("at most") && all != lora);
    let tiny = repository("workflows/tiny-policy").display().to_string();
    assert!(GRPO.run(&["--estimate", &tiny, "--width", "112", "--height", "112"]).status.success());
}

#[test]
fn a_shape_that_is_not_there_is_refused_by_name() {
    let line = GRPO.refused(&["--estimate", "8b"]);
    assert!(line.contains("--estimate 8b: ") && line.trim().lines().count() == 1, "{line}");
    assert!(GRPO.refused(&["--estimate", "7b", "--width", "0"]).contains("--width"));
}
