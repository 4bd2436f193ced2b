//! The binary `evoq-demonstrate`, run as the workflow runs it.

use evoq_schemas::{Demonstration, DemonstrationPrompt, Image};
use evoq_test_support::{Folder, Program, original, variant};

const DEMONSTRATE: Program = Program(env!("CARGO_BIN_EXE_evoq-demonstrate"));

/// A grid of recipes: 14 originals, two types, all severities.
fn grid(folder: &Folder) -> String {
    let of = |reference: u32| {
        let reference = original("set", &reference.to_string());
        ["blur_gaussian", "pixelate"].map(|name| [0, 1, 2, 3, 4, 5].map(|severity| variant(&reference, name, severity)))
    };
    folder.table("grid", &(0..14).flat_map(of).flatten().collect::<Vec<Image>>())
}

fn written(flags: &[&str], out: &str) -> Vec<Demonstration> {
    DEMONSTRATE.rows(flags, out)
}

#[test]
fn steps_are_written_in_order_and_alike_for_one_seed() {
    let folder = Folder::new();
    let images = grid(&folder);
    let flags = ["--images", &images, "--steps", "30"];
    let first = written(&flags, &folder.at("1"));
    assert_eq!(first.len(), 30 * 44);
    assert!(first.windows(2).all(|two| two[0].demonstration_id < two[1].demonstration_id));
    assert_eq!(first.iter().filter(|row| row.prompt == DemonstrationPrompt::Score).count(), 60);
    assert_eq!(first, written(&flags, &folder.at("2")));
    assert_ne!(first, written(&[&flags[..], &["--seed", "2"]].concat(), &folder.at("3")));
}

#[test]
fn variants_that_are_too_few_are_bad_input() {
    let folder = Folder::new();
    let images = grid(&folder);
    for (flags, named) in [(["--pictures", "15"], "14 originals"), (["--uniform", "1.5"], "0 to 1")] {
        let line = DEMONSTRATE.refused(&[&["--images", &images, "--out", &folder.at("out")][..], &flags].concat());
        assert!(line.contains(named), "{line}");
    }
}
