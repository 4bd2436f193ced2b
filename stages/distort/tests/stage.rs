//! The binary `evoq-distort`, run as the workflow and people run it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use evoq_artifacts::{Artifact, Draft, Header, Location, read_file, write_file};
use evoq_pictures::{Pictures, decode, distorted, encode_png};
use evoq_schemas::{Image, Picture, Table};
use image::{Rgb, RgbImage};

fn distort(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evoq-distort")).args(arguments).output().unwrap()
}

fn done(arguments: &[&str]) {
    let output = distort(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs what must be refused as bad input, and gives the one line that says why.
fn refused(arguments: &[&str]) -> String {
    let output = distort(arguments);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stderr).unwrap()
}

fn texture(seed: u32) -> RgbImage {
    RgbImage::from_fn(60, 48, |x, y| {
        let level = |by: u32| ((x * by + y * (by + 3) + x * y + seed * 17) % 256) as u8;
        Rgb([level(3), level(5), level(11)])
    })
}

/// A table of four originals, the last one grey.
fn originals(folder: &Path) -> String {
    let header = Header {
        stage: "ingest".to_owned(),
        stage_version: 1,
        fingerprint: "f".to_owned(),
        parameters: serde_json::Map::new(),
        inputs: BTreeMap::new(),
    };
    let uri = folder.join("photos").display().to_string();
    let mut draft = Draft::new(&Location::open(&uri).unwrap(), header);
    let mut writer = draft.table::<Image>();
    for seed in 0..4 {
        let mut pixels = texture(seed);
        if seed == 3 {
            pixels.pixels_mut().for_each(|it| it.0 = [it.0[0]; 3]);
        }
        let bytes = encode_png(&pixels);
        let row = Image {
            image_id: format!("set/{seed}.png").into(),
            dataset: "set".to_owned(),
            name: format!("{seed}.png"),
            width: 60,
            height: 48,
            format: "png".to_owned(),
            digest: blake3::hash(&bytes).to_hex().to_string(),
            image: Some(Picture { bytes: Some(bytes), path: Some(format!("{seed}.png")) }),
            split: None,
            grey: seed == 3,
            reference_id: None,
            distortion: None,
            severity: None,
            distortion_seed: None,
            short_side: None,
            crop: None,
        };
        writer.push(row).unwrap();
    }
    draft.add(Image::NAME, writer.finish().unwrap());
    draft.commit().unwrap();
    uri
}

#[test]
fn recipes_and_stored_variants_are_the_same_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let photos = originals(folder.path());
    let out = |name: &str| folder.path().join(name).display().to_string();
    let flags = ["--images", &photos, "--grid", "--severities", "0-5", "--short-side", "40", "--crop", "--out"];
    done(&[&flags[..], &[&out("recipes")]].concat());
    done(&[&flags[..], &[&out("stored"), "--as", "png"]].concat());

    let open = |uris: &[&str]| {
        let artifacts: Vec<_> = uris.iter().map(|uri| Artifact::open(uri).unwrap()).collect();
        Pictures::open(&artifacts).unwrap()
    };
    let recipes = open(&[&photos, &out("recipes")]);
    let stored = open(&[&out("stored")]);
    // Three coloured pictures with twenty types, the grey one with nineteen.
    assert_eq!(stored.rows().len(), (3 * 20 + 19) * 6);
    assert_eq!(recipes.rows().len(), 4 + stored.rows().len());
    for row in stored.rows() {
        let pixels = stored.load(&row.image_id).unwrap();
        assert_eq!(pixels.dimensions(), (row.width, row.height));
        assert_eq!(pixels, recipes.load(&row.image_id).unwrap(), "{}", row.image_id);
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let folder = tempfile::tempdir().unwrap();
    let photos = originals(folder.path());
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
    let photos = originals(folder.path());
    let ids = |seed: &str| {
        let out = folder.path().join(seed).display().to_string();
        done(&["--images", &photos, "--seed", seed, "--out", &out]);
        let rows: Vec<Image> = Artifact::open(&out).unwrap().rows().unwrap();
        assert_eq!(rows.len(), 40);
        rows.into_iter().map(|row| row.image_id).collect::<Vec<_>>()
    };
    assert_ne!(ids("1"), ids("2"));
}

#[test]
fn variants_cannot_be_distorted_again() {
    let folder = tempfile::tempdir().unwrap();
    let photos = originals(folder.path());
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
    ] {
        let line = refused(&[&out[..], flags].concat());
        assert!(line.contains(named), "{line}");
    }
}

#[test]
fn a_picture_is_distorted_by_hand_and_draws_follow_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    write_file(Path::new(&path("in.png")), &encode_png(&texture(1))).unwrap();
    let apply = |flags: &[&str], out: &str| {
        done(&[&["apply"], flags, &[&path("in.png"), &path(out)]].concat());
        decode(&read_file(Path::new(&path(out))).unwrap()).unwrap().picture
    };
    let noise = ["--type", "noise_impulse", "--severity", "5"];
    let first = apply(&noise, "a.png");
    assert_eq!(first, distorted(&texture(1), evoq_distortions::Distortion::NoiseImpulse, 5, (1, ""), None).unwrap());
    assert_eq!(first, apply(&noise, "b.png"));
    assert_ne!(first, apply(&[&noise[..], &["--seed", "2"]].concat(), "c.png"));
    let motion = ["--type", "blur_motion", "--severity", "5", "--angle"];
    assert_ne!(apply(&[&motion[..], &["-45"]].concat(), "d.png"), apply(&[&motion[..], &["45"]].concat(), "e.png"));
    assert_eq!(apply(&["--type", "pixelate", "--severity", "0"], "f.png"), texture(1));
}

#[test]
fn by_hand_bad_input_is_one_line_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let png = encode_png(&texture(1));
    write_file(Path::new(&path("in.png")), &png).unwrap();
    write_file(Path::new(&path("cut.png")), &png[..png.len() / 2]).unwrap();
    let lens = ["apply", "--type", "blur_lens", "--severity", "2"];
    for (flags, named) in [
        (&[path("cut.png"), path("out.png")][..], "cut.png"),
        (&[path("missing.png"), path("out.png")], "missing.png"),
        (&[path("in.png"), path("out.jpg")], "out.jpg"),
        (&["--angle".to_owned(), "3".to_owned(), path("in.png"), path("out.png")], "blur_lens"),
    ] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let line = refused(&[&lens[..], &flags].concat());
        assert!(line.contains(named) && line.lines().count() == 1, "{line}");
    }
}
