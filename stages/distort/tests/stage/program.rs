//! The program under test, and tables for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use evoq_artifacts::{Draft, Header, Location};
use evoq_pictures::{encode_png, is_grey};
use evoq_schemas::{Image, Picture, Table};
use image::{Rgb, RgbImage};

pub(crate) fn distort(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evoq-distort"));
    command.args(arguments);
    command
}

pub(crate) fn done(arguments: &[&str]) {
    let output = distort(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs what must be refused as bad input, and gives the one line that says why.
pub(crate) fn refused(arguments: &[&str]) -> String {
    let output = distort(arguments);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stderr).unwrap()
}

pub(crate) fn texture(seed: u32) -> RgbImage {
    RgbImage::from_fn(60, 48, |x, y| {
        let level = |by: u32| ((x * by + y * (by + 3) + x * y + seed * 17) % 256) as u8;
        Rgb([level(3), level(5), level(11)])
    })
}

/// A table of `count` originals, the fourth one grey.
pub(crate) fn originals(folder: &Path, count: u32) -> String {
    let pictures = (0..count).map(|seed| {
        let mut picture = texture(seed);
        if seed == 3 {
            picture.pixels_mut().for_each(|it| it.0 = [it.0[0]; 3]);
        }
        picture
    });
    table(folder, &pictures.collect::<Vec<_>>())
}

/// A table of originals with these pixels, named `0.png` and so on.
pub(crate) fn table(folder: &Path, pictures: &[RgbImage]) -> String {
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
    for (number, picture) in pictures.iter().enumerate() {
        let name = format!("{number}.png");
        let bytes = encode_png(picture);
        let row = Image {
            image_id: format!("set/{name}").into(),
            dataset: "set".to_owned(),
            name: name.clone(),
            width: picture.width(),
            height: picture.height(),
            format: "png".to_owned(),
            digest: blake3::hash(&bytes).to_hex().to_string(),
            image: Some(Picture { bytes: Some(bytes), path: Some(name) }),
            split: None,
            grey: is_grey(picture),
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
