//! Tokens, prompts and pixels against the reference.

use evoq_policy::{Grid, Processor, Tokenizer};
use serde::Deserialize;

use crate::fixture::{Case, arrays, furthest, json, path, pixels, policy};

/// A string, its ids and what these decode to.
#[derive(Deserialize)]
struct Tokens {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

#[test]
fn strings_have_the_references_ids() {
    let tokenizer = Tokenizer::load(&path("policy/checkpoint")).unwrap();
    for case in json::<Vec<Tokens>>("policy/tokens.json") {
        assert_eq!(tokenizer.encode(&case.text).unwrap(), case.ids, "{:?}", case.text);
    }
}

#[test]
fn ids_decode_to_the_references_text() {
    let tokenizer = Tokenizer::load(&path("policy/checkpoint")).unwrap();
    for case in json::<Vec<Tokens>>("policy/tokens.json") {
        assert_eq!(tokenizer.decode(&case.ids).unwrap(), case.decoded, "{:?}", case.text);
    }
}

#[test]
fn prompts_have_the_references_ids() {
    let policy = policy();
    for case in Case::all() {
        assert_eq!(case.question().text, case.text);
        let prompt = policy.prompt(&case.question(), &case.grids()).unwrap();
        assert_eq!(prompt.ids, case.ids, "{}", case.name);
    }
}

#[test]
fn vision_tokens_and_rows_without_a_token_are_banned() {
    let policy = policy();
    let mut banned = policy.tokenizer.banned(&policy.config);
    banned.sort_unstable();
    let mut expected: Vec<u32> = ["vision_start", "vision_end", "vision_pad", "image_pad", "video_pad"]
        .iter()
        .map(|name| policy.tokenizer.id(&format!("<|{name}|>")).unwrap())
        .collect();
    expected.extend(policy.tokenizer.len() as u32..policy.config.text.vocab_size as u32);
    expected.sort_unstable();
    assert_eq!(banned, expected);
}

#[test]
fn pictures_get_the_references_sizes() {
    let mut processor = Processor::load(&path("policy/checkpoint")).unwrap();
    for [height, width, min_pixels, max_pixels, rows, columns] in json::<Vec<[usize; 6]>>("policy/sizes.json") {
        (processor.min_pixels, processor.max_pixels) = (min_pixels, max_pixels);
        let grid = processor.grid(width as u32, height as u32).unwrap();
        let expected = Grid { height: rows / processor.patch_size, width: columns / processor.patch_size };
        assert_eq!(grid, expected, "{width}x{height} within {min_pixels} to {max_pixels}");
    }
}

#[test]
fn pixels_of_a_picture_are_the_references() {
    let processor = Processor::load(&path("policy/checkpoint")).unwrap();
    let values = arrays("policy/values.safetensors");
    let mut worst: f64 = 0.0;
    for case in Case::all() {
        for (name, grid) in case.pictures.iter().zip(case.grids()) {
            let picture = image::open(path(&format!("policy/pictures/{name}.png"))).unwrap().to_rgb8();
            let ours = processor.pixels(&picture).unwrap();
            assert_eq!(ours.grid, grid, "{name}");
            worst = worst.max(furthest(&ours.patches, &pixels(&values, name, grid).patches));
        }
    }
    // One level of 255 is 0.0142 or more after normalisation: this is equality but for the rounding of f32.
    println!("pixel values within {worst:.1e}, {:.5} levels", worst * 255.0 * 0.276);
    assert!(worst <= 1e-5);
}

#[test]
fn a_picture_is_resized_as_by_pillow_to_the_last_bit() {
    let processor = Processor::load(&path("policy/checkpoint")).unwrap();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let picture = image::open(path(&format!("policy/pictures/{name}.png"))).unwrap().to_rgb8();
        let resized = image::open(path(&format!("policy/resized/{name}.png"))).unwrap().to_rgb8();
        let (ours, theirs) = (processor.pixels(&picture).unwrap(), processor.pixels(&resized).unwrap());
        assert_eq!(ours.grid, theirs.grid, "{name}");
        assert!(ours.patches == theirs.patches, "{name}");
    }
}
