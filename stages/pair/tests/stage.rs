//! The binary `evoq-pair`, run as the workflow and people run it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use evoq_artifacts::{Artifact, Draft, Header, Location};
use evoq_schemas::{Design, Image, Pair, Table};

fn pair(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evoq-pair")).args(arguments).output().unwrap()
}

fn done(arguments: &[&str]) -> String {
    let output = pair(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// Runs what must be refused as bad input, and gives the one line that says why.
fn refused(arguments: &[&str]) -> String {
    let output = pair(arguments);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}");
    line
}

/// A table of ten originals, or of five variants of each: severities 0, 0, 1, 2 and 3.
fn images(folder: &Path, variants: bool) -> String {
    let name = if variants { "variants" } else { "photos" };
    let header = Header {
        stage: "ingest".to_owned(),
        stage_version: 1,
        fingerprint: name.to_owned(),
        parameters: serde_json::Map::new(),
        inputs: BTreeMap::new(),
    };
    let uri = folder.join(name).display().to_string();
    let mut draft = Draft::new(&Location::open(&uri).unwrap(), header);
    let mut writer = draft.table::<Image>();
    for original in 0..10 {
        let reference = format!("set/{original}.png");
        let row = Image {
            image_id: reference.as_str().into(),
            dataset: "set".to_owned(),
            name: format!("{original}.png"),
            image: None,
            width: 64,
            height: 64,
            format: "png".to_owned(),
            digest: original.to_string(),
            split: None,
            grey: false,
            reference_id: None,
            distortion: None,
            severity: None,
            distortion_seed: None,
            short_side: None,
            crop: None,
        };
        if !variants {
            writer.push(row).unwrap();
            continue;
        }
        for (kind, severity) in [("pixelate", 0), ("blur_lens", 0), ("blur_lens", 1), ("blur_lens", 2), ("pixelate", 3)]
        {
            let image_id = format!("{reference}#{kind}-{severity}");
            let variant = Image {
                digest: image_id.clone(),
                image_id: image_id.into(),
                reference_id: Some(reference.as_str().into()),
                distortion: Some(kind.to_owned()),
                severity: Some(severity),
                distortion_seed: Some(1),
                ..row.clone()
            };
            writer.push(variant).unwrap();
        }
    }
    draft.add(Image::NAME, writer.finish().unwrap());
    draft.commit().unwrap();
    uri
}

fn pairs(uri: &str) -> Vec<Pair> {
    Artifact::open(uri).unwrap().rows().unwrap()
}

#[test]
fn originals_and_variants_read_as_one_are_paired_at_random() {
    let folder = tempfile::tempdir().unwrap();
    let (photos, variants) = (images(folder.path(), false), images(folder.path(), true));
    let out = folder.path().join("pairs").display().to_string();
    let said = done(&["--images", &photos, "--images", &variants, "--count", "1760", "--out", &out]);
    // 60 pictures make 1770 pairs; the two clean variants of each of ten are equal.
    assert!(said.contains("10 pairs of equal pixels are left out"), "{said}");
    let pairs = pairs(&out);
    assert_eq!(pairs.len(), 1760);
    assert!(pairs.iter().all(|pair| pair.design == Design::Random));
    assert_eq!(pairs.iter().filter(|pair| pair.reference_id.is_some()).count(), 90);
}

#[test]
fn balanced_pairs_are_reported_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let photos = images(folder.path(), false);
    let out = folder.path().join("pairs").display().to_string();
    let flags = ["--images", &photos, "--design", "balanced", "--count", "13", "--triangles", "3", "--out", &out];
    let said = done(&flags);
    let lines = [
        "pictures: 10",
        "pairs: 13",
        "orphans (pictures in no pair): 0",
        "degrees (pairs a picture is in): 2 to 3",
        "components: 1, the largest of 10 pictures",
        "triangles (three pictures with all three pairs): 3",
    ];
    for line in lines {
        assert!(said.lines().any(|it| it.trim() == format!("INFO {line}")), "{line}: {said}");
    }
    let pairs = pairs(&out);
    assert!(pairs.len() == 13 && pairs.iter().all(|pair| pair.design == Design::Balanced));
}

#[test]
fn balanced_pairs_that_connect_too_little_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let photos = images(folder.path(), false);
    let with = |count: &str| {
        let out = folder.path().join(count).display().to_string();
        done(&["--images", &photos, "--design", "balanced", "--count", count, "--out", &out])
    };
    let note = "8 pairs are too few to connect 10 pictures; 9 would";
    assert!(with("8").contains(note));
    assert!(!with("9").contains("too few"));
}

#[test]
fn triangles_are_planted_by_the_balanced_design_alone() {
    let folder = tempfile::tempdir().unwrap();
    let photos = images(folder.path(), false);
    let line = refused(&["--images", &photos, "--count", "20", "--triangles", "2", "--out", "nowhere"]);
    assert!(line.contains("--triangles 2") && line.contains("--design balanced"), "{line}");
}

#[test]
fn within_references_only_variants_of_one_picture_meet() {
    let folder = tempfile::tempdir().unwrap();
    let (photos, variants) = (images(folder.path(), false), images(folder.path(), true));
    let out = folder.path().join("pairs").display().to_string();
    let flags = ["--design", "within-reference", "--count", "90", "--out", &out];
    done(&[&["--images", &photos, "--images", &variants], &flags[..]].concat());
    for pair in pairs(&out) {
        let reference = pair.reference_id.unwrap();
        assert!(pair.image_a.as_str().starts_with(&format!("{reference}#")));
        assert!(pair.image_b.as_str().starts_with(&format!("{reference}#")));
    }
}

#[test]
fn the_seed_decides_the_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let photos = images(folder.path(), false);
    let with = |seed: &str, name: &str| {
        let out = folder.path().join(name).display().to_string();
        done(&["--images", &photos, "--count", "20", "--seed", seed, "--out", &out]);
        Artifact::open(&out).unwrap().manifest
    };
    assert_eq!(with("1", "a"), with("1", "b"));
    assert_ne!(with("1", "c").tables, with("2", "d").tables);
}

#[test]
fn more_pairs_than_there_are_is_one_line_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let photos = images(folder.path(), false);
    let out = folder.path().join("pairs").display().to_string();
    let line = refused(&["--images", &photos, "--out", &out]);
    assert!(line.contains("20000") && line.contains("45") && line.lines().count() == 1, "{line}");
    assert!(Artifact::open(&out).is_err());
}

#[test]
fn a_design_that_is_not_known_is_refused_by_name() {
    let line = refused(&["--images", "nowhere", "--design", "at-most-twice", "--out", "nowhere-either"]);
    assert!(line.contains("at-most-twice") && line.contains("within-reference"), "{line}");
}

#[test]
fn the_description_lists_the_designs_and_the_defaults() {
    let output = pair(&["--describe", "--count", "7"]);
    let described: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let parameter =
        |name: &str| described["parameters"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap().clone();
    assert_eq!(parameter("design")["choices"], serde_json::json!(["random", "within-reference", "balanced"]));
    assert_eq!(parameter("design")["value"], "random");
    assert_eq!(parameter("count")["value"], 7);
}
