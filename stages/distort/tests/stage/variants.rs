//! Variants as recipes and as stored pixels.

use evoq_artifacts::Artifact;
use evoq_distortions::Distortion;
use evoq_pictures::Pictures;
use evoq_schemas::Image;
use evoq_test_support::Folder;
use image::{Rgb, RgbImage};

use crate::program::{DISTORT, originals, photos, texture};

fn open(uris: &[&str]) -> Pictures {
    let artifacts: Vec<_> = uris.iter().map(|uri| Artifact::open(uri).unwrap()).collect();
    Pictures::open(&artifacts).unwrap()
}

fn rows(uri: &str) -> Vec<Image> {
    evoq_test_support::rows(uri)
}

#[test]
fn recipes_and_stored_variants_are_the_same_pixels() {
    let folder = Folder::new();
    let photos = originals(&folder, 4);
    let out = |name: &str| folder.at(name);
    let flags = ["--images", &photos, "--grid", "--severities", "0-5", "--short-side", "40", "--crop", "--out"];
    DISTORT.done(&[&flags[..], &[&out("recipes")]].concat());
    let recipes = open(&[&photos, &out("recipes")]);
    let changing = Distortion::ALL.iter().filter(|it| it.changes_grey()).count();
    for form in ["png", "webp"] {
        DISTORT.done(&[&flags[..], &[&out(form), "--as", form]].concat());
        let stored = open(&[&out(form)]);
        // Three coloured pictures and a grey one.
        assert_eq!(stored.rows().len(), (3 * Distortion::ALL.len() + changing) * 6);
        assert_eq!(recipes.rows().len(), 4 + stored.rows().len());
        for row in stored.rows() {
            assert_eq!(row.format, form);
            let pixels = stored.load(&row.image_id).unwrap();
            assert_eq!(pixels.dimensions(), (row.width, row.height));
            assert_eq!(pixels, recipes.load(&row.image_id).unwrap(), "{}", row.image_id);
        }
    }
}

#[test]
fn recipes_that_are_rendered_later_are_the_rows_that_would_have_been_stored_at_once() {
    let folder = Folder::new();
    let photos = originals(&folder, 4);
    let out = |name: &str| folder.at(name);
    DISTORT.done(&["--images", &photos, "--severities", "0-5", "--out", &out("recipes")]);
    for form in ["png", "webp"] {
        let (stored, rendered) = (out(form), out(&format!("rendered-{form}")));
        DISTORT.done(&["--images", &photos, "--severities", "0-5", "--as", form, "--out", &stored]);
        DISTORT.done(&["render", "--images", &photos, "--images", &out("recipes"), "--as", form, "--out", &rendered]);
        assert_eq!(rows(&rendered), rows(&stored));
        assert_eq!(rows(&rendered).len(), 40);
    }
}

#[test]
fn what_cannot_be_rendered_is_said() {
    let folder = Folder::new();
    let photos = originals(&folder, 4);
    let out = |name: &str| folder.at(name);
    let line = DISTORT.refused(&["render", "--images", &photos, "--out", &out("rendered")]);
    assert!(line.contains("none of the 4 pictures is a recipe"), "{line}");
    DISTORT.done(&["--images", &photos, "--out", &out("recipes")]);
    let line = DISTORT.refused_at(&["render", "--images", &out("recipes")], &out("rendered"));
    assert!(line.contains("no picture `set/0.png`"), "{line}");
}

#[test]
fn variants_that_equal_their_reference_are_counted() {
    let folder = Folder::new();
    let flat = RgbImage::from_pixel(60, 48, Rgb([90, 20, 200]));
    let photos = photos(&folder, &[texture(1), flat]);
    let said = |severities: &str| {
        let out = folder.at(severities);
        let flags = ["--types", "pixelate", "--severities", severities, "--grid", "--as", "png", "--out", &out];
        DISTORT.done(&[&["--images", &photos], &flags[..]].concat())
    };
    // Blocks of one colour are nothing new to the flat picture; severity 0 is meant to equal the reference.
    assert!(said("0-5").contains("5 of 12 variants equal their reference"));
    assert!(!said("0").contains("equal their reference"));
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let folder = Folder::new();
    let photos = originals(&folder, 4);
    let manifest = |threads: &str| {
        let out = folder.at(threads);
        DISTORT.done(&["--images", &photos, "--variants", "5", "--as", "png", "--threads", threads, "--out", &out]);
        Artifact::open(&out).unwrap().manifest
    };
    assert_eq!(manifest("1"), manifest("2"));
}

#[test]
fn the_seed_decides_the_variants() {
    let folder = Folder::new();
    let photos = originals(&folder, 4);
    let ids = |seed: &str| {
        let out = folder.at(seed);
        DISTORT.done(&["--images", &photos, "--seed", seed, "--out", &out]);
        let rows = rows(&out);
        assert_eq!(rows.len(), 40);
        rows.into_iter().map(|row| row.image_id).collect::<Vec<_>>()
    };
    assert_ne!(ids("1"), ids("2"));
}

#[test]
fn variants_cannot_be_distorted_again() {
    let folder = Folder::new();
    let photos = originals(&folder, 4);
    let out = |name: &str| folder.at(name);
    DISTORT.done(&["--images", &photos, "--out", &out("variants")]);
    let line = DISTORT.refused_at(&["--images", &out("variants")], &out("again"));
    assert!(line.contains("is a variant"), "{line}");
}

#[test]
fn flags_that_make_no_sense_are_refused_by_name() {
    let out = ["--images", "nowhere", "--out", "nowhere-either"];
    for (flags, named) in [
        (&["--types", "blur_lense"][..], "blur_lense"),
        (&["--severities", "2-7"], "2-7"),
        (&["--crop"], "--short-side"),
        (&["--grid", "--variants", "3"], "--variants"),
        (&["--grid", "--draw", "group"], "--draw"),
    ] {
        let line = DISTORT.refused(&[&out[..], flags].concat());
        assert!(line.contains(named), "{line}");
    }
}
