//! The binary `evoq-pair`, run as the workflow and people run it.

use evoq_artifacts::Artifact;
use evoq_schemas::{Design, Image, Pair};
use evoq_test_support::{Folder, Program, original, rows, variant};

const PAIR: Program = Program(env!("CARGO_BIN_EXE_evoq-pair"));

/// A table of ten originals.
fn photos(folder: &Folder) -> String {
    let photos: Vec<Image> = (0..10).map(|number| original("set", &format!("{number}.png"))).collect();
    folder.table("photos", &photos)
}

/// A table of five variants of each of the ten: severities 0, 0, 1, 2 and 3.
fn variants(folder: &Folder) -> String {
    let kinds = [("pixelate", 0), ("blur_lens", 0), ("blur_lens", 1), ("blur_lens", 2), ("pixelate", 3)];
    let of =
        |number: u32| kinds.map(|(kind, severity)| variant(&original("set", &format!("{number}.png")), kind, severity));
    folder.table("variants", &(0..10).flat_map(of).collect::<Vec<Image>>())
}

#[test]
fn originals_and_variants_read_as_one_are_paired_at_random() {
    let folder = Folder::new();
    let (photos, variants) = (photos(&folder), variants(&folder));
    let out = folder.at("pairs");
    let said = PAIR.done(&["--images", &photos, "--images", &variants, "--count", "1760", "--out", &out]);
    // 60 pictures make 1770 pairs; the two clean variants of each of ten are equal.
    assert!(said.contains("10 pairs of equal pixels are left out"), "{said}");
    let pairs: Vec<Pair> = rows(&out);
    assert_eq!(pairs.len(), 1760);
    assert!(pairs.iter().all(|pair| pair.design == Design::Random));
    assert_eq!(pairs.iter().filter(|pair| pair.reference_id.is_some()).count(), 90);
}

#[test]
fn balanced_pairs_are_reported_line_by_line() {
    let folder = Folder::new();
    let photos = photos(&folder);
    let out = folder.at("pairs");
    let flags = ["--images", &photos, "--design", "balanced", "--count", "13", "--triangles", "3", "--out", &out];
    let said = PAIR.done(&flags);
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
    let pairs: Vec<Pair> = rows(&out);
    assert!(pairs.len() == 13 && pairs.iter().all(|pair| pair.design == Design::Balanced));
}

#[test]
fn balanced_pairs_that_connect_too_little_say_so() {
    let folder = Folder::new();
    let photos = photos(&folder);
    let with = |count: &str| {
        let out = folder.at(count);
        PAIR.done(&["--images", &photos, "--design", "balanced", "--count", count, "--out", &out])
    };
    let note = "8 pairs are too few to connect 10 pictures; 9 would";
    assert!(with("8").contains(note));
    assert!(!with("9").contains("too few"));
}

#[test]
fn triangles_are_planted_by_the_balanced_design_alone() {
    let folder = Folder::new();
    let photos = photos(&folder);
    let line = PAIR.refused(&["--images", &photos, "--count", "20", "--triangles", "2", "--out", "nowhere"]);
    assert!(line.contains("--triangles 2") && line.contains("--design balanced"), "{line}");
}

#[test]
fn within_references_only_variants_of_one_picture_meet() {
    let folder = Folder::new();
    let (photos, variants) = (photos(&folder), variants(&folder));
    let out = folder.at("pairs");
    let flags = ["--design", "within-reference", "--count", "90", "--out", &out];
    PAIR.done(&[&["--images", &photos, "--images", &variants], &flags[..]].concat());
    for pair in rows::<Pair>(&out) {
        let reference = pair.reference_id.unwrap();
        assert!(pair.image_a.as_str().starts_with(&format!("{reference}#")));
        assert!(pair.image_b.as_str().starts_with(&format!("{reference}#")));
    }
}

#[test]
fn the_seed_decides_the_pairs() {
    let folder = Folder::new();
    let photos = photos(&folder);
    let with = |seed: &str, name: &str| {
        let out = folder.at(name);
        PAIR.done(&["--images", &photos, "--count", "20", "--seed", seed, "--out", &out]);
        Artifact::open(&out).unwrap().manifest
    };
    assert_eq!(with("1", "a"), with("1", "b"));
    assert_ne!(with("1", "c").tables, with("2", "d").tables);
}

#[test]
fn more_pairs_than_there_are_is_one_line_with_both_numbers() {
    let folder = Folder::new();
    let photos = photos(&folder);
    let line = PAIR.refused_at(&["--images", &photos], &folder.at("pairs"));
    assert!(line.contains("20000") && line.contains("45") && line.lines().count() == 1, "{line}");
}

#[test]
fn a_design_that_is_not_known_is_refused_by_name() {
    let line = PAIR.refused(&["--images", "nowhere", "--design", "at-most-twice", "--out", "nowhere-either"]);
    assert!(line.contains("at-most-twice") && line.contains("within-reference"), "{line}");
}

#[test]
fn the_description_lists_the_designs_and_the_defaults() {
    let output = PAIR.run(&["--describe", "--count", "7"]);
    let described: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let parameter =
        |name: &str| described["parameters"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap().clone();
    assert_eq!(parameter("design")["choices"], serde_json::json!(["random", "within-reference", "balanced"]));
    assert_eq!(parameter("design")["value"], "random");
    assert_eq!(parameter("count")["value"], 7);
}
