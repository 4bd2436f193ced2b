//! Files of every kind, made and decoded elsewhere (`fixtures/make.py`), and what damage does to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evoq_artifacts::read_file;
use evoq_pictures::{Decoded, decode};
use proptest::prelude::*;
use serde_json::Value;

/// What a file is expected to give.
enum Expected {
    /// Width, height, samples, and by how much each may differ.
    Pixels(u64, u64, Vec<u8>, u8),
    /// Reason and words of the refusal.
    Refusal(String, String),
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn file(name: &str) -> Vec<u8> {
    read_file(&fixtures().join("files").join(name)).unwrap()
}

fn expected() -> BTreeMap<String, Expected> {
    let text = read_file(&fixtures().join("expected.json")).unwrap();
    let all: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(&text).unwrap();
    let read = |it: &BTreeMap<String, Value>| {
        let text = |key: &str| it[key].as_str().unwrap().to_owned();
        if it.contains_key("reason") {
            return Expected::Refusal(text("reason"), text("says"));
        }
        let number = |key: &str| it[key].as_u64().unwrap();
        let digits = text("pixels");
        let samples = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
        Expected::Pixels(number("width"), number("height"), samples.collect(), number("within") as u8)
    };
    all.iter().map(|(name, it)| (name.clone(), read(it))).collect()
}

/// The files that are read.
fn good() -> Vec<(String, Vec<u8>)> {
    let names = expected().into_iter().filter(|(_, it)| matches!(it, Expected::Pixels(..)));
    names.map(|(name, _)| (name.clone(), file(&name))).collect()
}

#[test]
fn files_of_every_kind_give_the_pixels_that_another_decoder_gives() {
    for (name, it) in expected() {
        let Expected::Pixels(width, height, samples, within) = it else { continue };
        let decoded = decode(&file(&name)).unwrap_or_else(|error| panic!("{name} {error}"));
        let (found_width, found_height) = decoded.picture.dimensions();
        assert_eq!((u64::from(found_width), u64::from(found_height)), (width, height), "{name}");
        let worst = decoded.picture.as_raw().iter().zip(&samples).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(within), "{name}: differs by {worst:?}, expected at most {within}");
    }
}

#[test]
fn the_kinds_that_are_not_read_are_refused_by_name() {
    let mut refused = 0;
    for (name, it) in expected() {
        let Expected::Refusal(reason, says) = it else { continue };
        let error = decode(&file(&name)).expect_err(&name);
        assert!(error.reason() == reason && error.to_string().contains(&says), "{name}: {}: {error}", error.reason());
        refused += 1;
    }
    assert!(refused >= 30, "{refused}");
}

#[test]
fn formats_and_grey_are_told() {
    for (name, format, grey) in [
        ("grey.jpg", "jpeg", true),
        ("420.jpg", "jpeg", false),
        ("grey-4-adam7.png", "png", true),
        ("palette-4.png", "png", false),
        ("lossy.webp", "webp", false),
        ("white-is-zero.tif", "tiff", true),
        ("grey.bmp", "bmp", true),
    ] {
        let decoded = decode(&file(name)).unwrap();
        assert_eq!((decoded.format, decoded.grey), (format, grey), "{name}");
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused_unless_all_of_the_picture_is_there() {
    for (name, bytes) in good() {
        let whole = decode(&bytes).unwrap();
        let other = |end: &usize| decode(&bytes[..*end]).is_ok_and(|it| it != whole);
        let found: Vec<usize> = (0..bytes.len()).filter(other).collect();
        assert!(found.is_empty(), "{name}: {found:?}");
        assert!(decode(&bytes[..bytes.len() / 2]).is_err(), "{name}");
    }
}

#[test]
fn a_bit_that_is_flipped_anywhere_in_a_png_file_is_seen() {
    for name in ["rgb.png", "grey-1-adam7.png", "palette-4-clear.png", "turned-late.png"] {
        let bytes = file(name);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(decode(&flipped).is_err(), "{name}: bit {bit} of byte {at}");
            }
        }
    }
}

/// Whether a picture is one: it has the samples that its size says, and not more of them than are read.
fn is_sound(decoded: &Decoded) -> bool {
    let (width, height) = decoded.picture.dimensions();
    let pixels = width as usize * height as usize;
    pixels > 0 && pixels <= 1 << 26 && decoded.picture.as_raw().len() == 3 * pixels
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_are_refused_or_are_pictures(
        file in prop::sample::select(good()),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..6),
        end in prop::option::of(any::<prop::sample::Index>()),
        foreign in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let (name, mut bytes) = file;
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        for (at, byte) in foreign {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(decoded) = decode(&bytes) {
            prop_assert!(is_sound(&decoded), "{name}");
        }
    }
}
