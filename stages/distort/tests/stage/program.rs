//! The program under test, and originals for it.

use evoq_schemas::Image;
use evoq_test_support::{Folder, Program, stored};
use image::RgbImage;

pub(crate) const DISTORT: Program = Program(env!("CARGO_BIN_EXE_evoq-distort"));

pub(crate) fn texture(seed: u32) -> RgbImage {
    evoq_test_support::texture(60, 48, seed)
}

/// A table of `count` originals, the fourth one grey.
pub(crate) fn originals(folder: &Folder, count: u32) -> String {
    let pictures = (0..count).map(|seed| {
        let mut picture = texture(seed);
        if seed == 3 {
            picture.pixels_mut().for_each(|it| it.0 = [it.0[0]; 3]);
        }
        picture
    });
    photos(folder, &pictures.collect::<Vec<_>>())
}

/// A table of originals with these pixels, named `0.png` and so on.
pub(crate) fn photos(folder: &Folder, pictures: &[RgbImage]) -> String {
    let row = |(number, picture): (usize, &RgbImage)| stored(&format!("{number}.png"), picture);
    folder.table("photos", &pictures.iter().enumerate().map(row).collect::<Vec<Image>>())
}
