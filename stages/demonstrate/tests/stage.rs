//! The binary `evoq-demonstrate`, run as the workflow runs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use evoq_artifacts::{Artifact, Draft, Header, Location};
use evoq_schemas::{Demonstration, DemonstrationPrompt, Image, Table};

fn demonstrate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evoq-demonstrate")).args(arguments).output().unwrap()
}

fn rows(arguments: &[&str], out: &str) -> Vec<Demonstration> {
    let output = demonstrate(&[arguments, &["--out", out]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Artifact::open(out).unwrap().rows().unwrap()
}

/// A grid of recipes: 14 originals, two types, all severities.
fn grid(folder: &Path) -> String {
    let header = Header {
        stage: "distort".to_owned(),
        stage_version: 1,
        fingerprint: "f".to_owned(),
        parameters: serde_json::Map::new(),
        inputs: BTreeMap::new(),
    };
    let uri = folder.join("grid").display().to_string();
    let mut draft = Draft::new(&Location::open(&uri).unwrap(), header);
    let mut writer = draft.table::<Image>();
    for reference in 0..14 {
        for distortion in ["blur_gaussian", "pixelate"] {
            for severity in 0..=5 {
                let row = Image {
                    image_id: format!("set/{reference}#{distortion}-{severity}").into(),
                    dataset: "set".to_owned(),
                    name: reference.to_string(),
                    image: None,
                    width: 112,
                    height: 112,
                    format: "recipe".to_owned(),
                    digest: "d".to_owned(),
                    split: None,
                    grey: false,
                    reference_id: Some(format!("set/{reference}").into()),
                    distortion: Some(distortion.to_owned()),
                    severity: Some(severity),
                    distortion_seed: Some(1),
                    short_side: None,
                    crop: None,
                };
                writer.push(row).unwrap();
            }
        }
    }
    draft.add(Image::NAME, writer.finish().unwrap());
    draft.commit().unwrap();
    uri
}

#[test]
fn steps_are_written_in_order_and_alike_for_one_seed() {
    let folder = tempfile::tempdir().unwrap();
    let images = grid(folder.path());
    let out = |name: &str| folder.path().join(name).display().to_string();
    let flags = ["--images", &images, "--steps", "30"];
    let first = rows(&flags, &out("1"));
    assert_eq!(first.len(), 30 * 44);
    assert!(first.windows(2).all(|two| two[0].demonstration_id < two[1].demonstration_id));
    assert_eq!(first.iter().filter(|row| row.prompt == DemonstrationPrompt::Score).count(), 60);
    assert_eq!(first, rows(&flags, &out("2")));
    assert_ne!(first, rows(&[&flags[..], &["--seed", "2"]].concat(), &out("3")));
}

#[test]
fn variants_that_are_too_few_are_bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let images = grid(folder.path());
    let out = folder.path().join("out").display().to_string();
    for (flags, named) in [(["--pictures", "15"], "14 originals"), (["--uniform", "1.5"], "0 to 1")] {
        let output = demonstrate(&[&["--images", &images, "--out", &out][..], &flags].concat());
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(line.contains(named), "{line}");
    }
}
