//! Variants as recipes and as stored pixels.

use evoq_artifacts::Artifact;
use evoq_distortions::Distortion;
use evoq_pictures::Pictures;
use evoq_schemas::Image;
use image::{Rgb, RgbImage};

use crate::program::{distort, done, originals, refused, table, texture};

fn open(uris: &[&str]) -> Pictures {
    let artifacts: Vec<_> = uris.iter().map(|uri| Artifact::open(uri).unwrap()).collect();
    Pictures::open(&artifacts).unwrap()
}

fn rows(uri: &str) -> Vec<Image> {
    Artifact::open(uri).unwrap().rows().unwrap()
}

#[test]
fn recipes_and_stored_variants_are_the_same_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let photos = originals(folder.path(), 4);
    let out = |name: &str| folder.path().join(name).display().to_string();
    let flags = ["--images", &photos, "--grid", "--severities", "0-5", "--short-side", "40", "--crop", "--out"];
    done(&[&flags[..], &[&out("recipes")]].concat());
    let recipes = open(&[&photos, &out("recipes")]);
    let changing = Distortion::ALL.iter().filter(|it| it.changes_grey()).count();
    for form in ["png", "webp"] {
        done(&[&flags[..], &[&out(form), "--as", form]].concat());
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
    let folder = tempfile::tempdir().unwrap();
    let photos = originals(folder.path(), 4);
    let out = |name: &str| folder.path().join(name).display().to_string();
    done(&["--images", &photos, "--severities", "0-5", "--out", &out("recipes")]);
    for form in ["png", "webp"] {
        let (stored, rendered) = (out(form), out(&format!("rendered-{form}")));
        done(&["--images", &photos, "--severities", "0-5", "--as", form, "--out", &stored]);
        done(&["render", "--images", &photos, "--images", &out("recipes"), "--as", form, "--out", &rendered]);
        assert_eq!(rows(&rendered), rows(&stored));
        assert_eq!(rows(&rendered).len(), 40);
    }
}

#[test]
fn what_cannot_be_rendered_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let photos = originals(folder.path(), 4);
    let out = |name: &str| folder.path().join(name).display().to_string();
    let line = refused(&["render", "--images", &photos, "--out", &out("rendered")]);
    assert!(line.contains("none of the 4 pictures is a recipe"), "{line}");
    done(&["--images", &photos, "--out", &out("recipes")]);
    let line = refused(&["render", "--images", &out("recipes"), "--out", &out("rendered")]);
    assert!(line.contains("no picture `set/0.png`"), "{line}");
    assert!(Artifact::open(&out("rendered")).is_err());
}

#[test]
fn variants_that_equal_their_reference_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let flat = RgbImage::from_pixel(60, 48, Rgb([90, 20, 200]));
    let photos = table(folder.path(), &[texture(1), flat]);
    let said = |severities: &str| {
        let out = folder.path().join(severities).display().to_string();
        let flags = ["--types", "pixelate", "--severities", severities, "--grid", "--as", "png", "--out", &out];
        String::from_utf8(distort(&[&["--images", &photos], &flags[..]].concat()).stderr).unwrap()
    };
    // Blocks of one colour are nothing new to the flat picture; severity 0 is meant to equal the reference.
    assert!(said("0-5").contains("5 of 12 variants equal their reference"));
    assert!(!said("0").contains("equal their reference"));
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let folder = tempfile::tempdir().unwrap();
    let photos = originals(folder.path(), 4);
    let manifest = |threads: &str| {
        let out = folder.path().join(threads).display().to_string();
        done(&["--images", &photos, "--variants", "5", "--as", "png", "--threads", threads, "--out", &out]);
        Artifact::open(&out).unwrap().manifest
    };
    assert_eq!(manifest("1"), manifest("2"));
}

#[test]
fn the_seed_decides_the_variants() {
    let folder = tempfile::tempdir().unwrap();
    let photos = originals(folder.path(), 4);
    let ids = |seed: &str| {
        let out = folder.path().join(seed).display().to_string();
        done(&["--images", &photos, "--seed", seed, "--out", &out]);
        let rows = rows(&out);
        assert_eq!(rows.len(), 40);
        rows.into_iter().map(|row| row.image_id).collect::<Vec<_>>()
    };
    assert_ne!(ids("1"), ids("2"));
}

#[test]
fn variants_cannot_be_distorted_again() {
    let folder = tempfile::tempdir().unwrap();
    let photos = originals(folder.path(), 4);
    let out = |name: &str| folder.path().join(name).display().to_string();
    done(&["--images", &photos, "--out", &out("variants")]);
    let line = refused(&["--images", &out("variants"), "--out", &out("again")]);
    assert!(line.contains("is a variant"), "{line}");
    assert!(Artifact::open(&out("again")).is_err());
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
        let line = refused(&[&out[..], flags].concat());
        assert!(line.contains(named), "{line}");
    }
}
