//! Rows of `images`: originals, variants as recipes, and stored pixels; and labels of two of them.

use evoq_pictures::{encode_png, is_grey};
use evoq_schemas::{Control, Image, Label, LabelMethod, PairId, Picture};
use image::{Rgb, RgbImage};

/// The original `DATASET/NAME` of 112 x 112 pixels, which are not there.
pub fn original(dataset: &str, name: &str) -> Image {
    Image {
        image_id: format!("{dataset}/{name}").into(),
        dataset: dataset.to_owned(),
        name: name.to_owned(),
        image: None,
        width: 112,
        height: 112,
        format: "png".to_owned(),
        digest: format!("{dataset}/{name}"),
        split: None,
        grey: false,
        reference_id: None,
        distortion: None,
        severity: None,
        distortion_seed: None,
        short_side: None,
        crop: None,
    }
}

/// The variant `ID#DISTORTION-SEVERITY` of an original, as a recipe.
pub fn variant(of: &Image, distortion: &str, severity: u8) -> Image {
    let image_id = format!("{}#{distortion}-{severity}", of.image_id);
    Image {
        digest: image_id.clone(),
        image_id: image_id.into(),
        image: None,
        format: "recipe".to_owned(),
        reference_id: Some(of.image_id.clone()),
        distortion: Some(distortion.to_owned()),
        severity: Some(severity),
        distortion_seed: Some(1),
        ..of.clone()
    }
}

/// The original `set/NAME` with `pixels`, as a PNG file.
pub fn stored(name: &str, pixels: &RgbImage) -> Image {
    let bytes = encode_png(pixels);
    Image {
        width: pixels.width(),
        height: pixels.height(),
        digest: blake3::hash(&bytes).to_hex().to_string(),
        grey: is_grey(pixels),
        image: Some(Picture { bytes: Some(bytes), path: Some(name.to_owned()) }),
        ..original("set", name)
    }
}

/// A picture of this size in which every pixel differs from its neighbours, another one for each seed.
pub fn texture(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let level = |by: u32| ((x * by + y * (by + 3) + x * y + seed * 17) % 256) as u8;
        Rgb([level(3), level(5), level(11)])
    })
}

/// The label of a pair whose `better` picture got all of 8 votes.
pub fn label(better: &Image, worse: &Image) -> Label {
    Label {
        pair_id: PairId::of(&better.image_id, &worse.image_id),
        image_a: better.image_id.clone(),
        image_b: worse.image_id.clone(),
        preference: Some(1.0),
        votes_a: 8,
        votes_b: 0,
        votes_invalid: 0,
        votes_absent: 0,
        agreement: Some(1.0),
        first_rate: Some(0.5),
        probability_a: None,
        chance_a: None,
        chance_b: None,
        chance_tie: None,
        method: LabelMethod::Majority,
        control: Control::None,
    }
}
