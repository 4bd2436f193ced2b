//! `apply` and `sheet`: from file to file.

use std::path::Path;

use evoq_artifacts::{read_file, write_file};
use evoq_distortions::Distortion;
use evoq_pictures::{decode, distorted, encode_png};
use evoq_test_support::Folder;
use image::RgbImage;

use crate::program::{DISTORT, texture};

fn pixels(path: &str) -> RgbImage {
    decode(&read_file(Path::new(path)).unwrap()).unwrap().picture
}

#[test]
fn a_picture_is_distorted_by_hand_and_draws_follow_the_seed() {
    let folder = Folder::new();
    let path = |name: &str| folder.at(name);
    write_file(Path::new(&path("in.png")), &encode_png(&texture(1))).unwrap();
    let apply = |flags: &[&str], out: &str| {
        DISTORT.done(&[&["apply"], flags, &[&path("in.png"), &path(out)]].concat());
        pixels(&path(out))
    };
    let noise = ["--type", "noise_impulse", "--severity", "5"];
    let first = apply(&noise, "a.png");
    assert_eq!(first, distorted(&texture(1), Distortion::NoiseImpulse, 5, (1, ""), None).unwrap());
    assert_eq!(first, apply(&noise, "b.png"));
    assert_ne!(first, apply(&[&noise[..], &["--seed", "2"]].concat(), "c.png"));
    let motion = ["--type", "blur_motion", "--severity", "5", "--angle"];
    assert_ne!(apply(&[&motion[..], &["-45"]].concat(), "d.png"), apply(&[&motion[..], &["45"]].concat(), "e.png"));
    assert_eq!(apply(&["--type", "pixelate", "--severity", "0"], "f.png"), texture(1));
}

#[test]
fn a_sheet_holds_the_picture_and_every_one_of_its_types() {
    let folder = Folder::new();
    let path = |name: &str| folder.at(name);
    write_file(Path::new(&path("in.png")), &encode_png(&texture(1))).unwrap();
    DISTORT.done(&["sheet", "--severity", "4", "--seed", "7", &path("in.png"), &path("sheet.png")]);
    let sheet = pixels(&path("sheet.png"));
    let (width, height) = texture(1).dimensions();
    let is_on_it = |picture: &RgbImage| {
        let first: Vec<_> = picture.rows().next().unwrap().collect();
        (0..=sheet.height() - height).any(|y| {
            let row: Vec<_> = (0..sheet.width()).map(|x| sheet.get_pixel(x, y)).collect();
            (0..=sheet.width() - width).filter(|x| row[*x as usize..].starts_with(&first)).any(|x| {
                let found = image::imageops::crop_imm(&sheet, x, y, width, height);
                found.to_image() == *picture
            })
        })
    };
    assert!(is_on_it(&texture(1)));
    for it in Distortion::ALL {
        assert!(is_on_it(&distorted(&texture(1), it, 4, (7, ""), None).unwrap()), "{it}");
    }
    assert!(!is_on_it(&texture(2)));
}

#[test]
fn by_hand_bad_input_is_one_line_that_names_the_file() {
    let folder = Folder::new();
    let path = |name: &str| folder.at(name);
    let png = encode_png(&texture(1));
    write_file(Path::new(&path("in.png")), &png).unwrap();
    write_file(Path::new(&path("cut.png")), &png[..png.len() / 2]).unwrap();
    write_file(Path::new(&path("small.png")), &encode_png(&RgbImage::new(60, 31))).unwrap();
    let lens = ["apply", "--type", "blur_lens", "--severity", "2"];
    let sheet = ["sheet", "--severity", "2"];
    for (command, flags, named) in [
        (&lens[..], &[path("cut.png"), path("out.png")][..], "cut.png"),
        (&lens, &[path("missing.png"), path("out.png")], "missing.png"),
        (&lens, &[path("in.png"), path("out.jpg")], "out.jpg"),
        (&lens, &["--angle".to_owned(), "3".to_owned(), path("in.png"), path("out.png")], "blur_lens"),
        (&sheet, &[path("cut.png"), path("out.png")], "cut.png"),
        (&sheet, &[path("in.png"), path("out.jpg")], "out.jpg"),
        (&sheet, &[path("small.png"), path("out.png")], "small.png"),
    ] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let line = DISTORT.refused(&[command, &flags].concat());
        assert!(line.contains(named) && line.lines().count() == 1, "{line}");
    }
}
