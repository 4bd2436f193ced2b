//! Thirty sizes of pictures and a thousand random strings against the reference; see `tests/fixtures/policy_many.py`.

use candle_core::Tensor;
use evoq_policy::model::{Model, Pack};
use evoq_policy::ops::linear::Kernel;
use evoq_policy::policy::{Features, Policy};
use evoq_policy::{Asked, Question, Reasoning, Task, Tokenizer};
use image::{Rgb, RgbImage};
use serde::Deserialize;

use crate::fixture::{arrays, deviation, flat, furthest, json, path, policy};

/// Bound on features and logits, in their standard deviations.
const VALUES: f64 = 1e-4;

#[derive(Deserialize)]
struct Many {
    sizes: Vec<(u32, u32, usize, usize, String)>,
    refused: Vec<(u32, u32)>,
    prompts: Vec<Prompted>,
    strings: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Prompted {
    name: String,
    task: String,
    pictures: Vec<usize>,
    tokens: usize,
    last: Vec<u32>,
}

fn many() -> Many {
    json("policy/many.json")
}

/// The script's picture, by the same whole numbers.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([0, 1, 2].map(|c| (3 * x + 5 * y * (c + 1) + ((x >> 4) ^ (y >> 3)) * 17 + ((x * y) >> 6)) as u8))
    })
}

fn digest(content: &[u8]) -> String {
    blake3::hash(content).to_hex()[..16].to_owned()
}

#[test]
fn pictures_of_thirty_sizes_are_resized_as_by_pillow_to_the_last_bit() {
    let processor = policy().processor;
    let sizes = many().sizes;
    assert_eq!(sizes.len(), 30);
    for (width, height, rows, columns, samples) in sizes {
        let picture = picture(width, height);
        let resized = processor.resize(&picture).unwrap();
        let size = (resized.height() as usize, resized.width() as usize);
        assert_eq!(size, (14 * rows, 14 * columns), "{width}x{height}");
        assert_eq!(digest(resized.as_raw()), samples, "{width}x{height}");
    }
}

#[test]
fn pictures_over_an_aspect_of_200_are_refused() {
    let processor = policy().processor;
    for (width, height) in many().refused {
        let message = processor.pixels(&picture(width, height)).unwrap_err().to_string();
        assert!(message.contains(&format!("{width}x{height}")) && message.contains("200 at most"), "{message}");
    }
}

/// What the model makes of pictures of every size.
fn looks(policy: &Policy) -> Vec<Features> {
    let look = |(width, height, ..): &(u32, u32, usize, usize, String)| {
        policy.look(&policy.processor.pixels(&picture(*width, *height)).unwrap()).unwrap()
    };
    many().sizes.iter().map(look).collect()
}

#[test]
fn features_of_thirty_sizes_are_the_references() {
    let (policy, values) = (policy(), arrays("policy/many.safetensors"));
    let mut worst: f64 = 0.0;
    for (index, features) in looks(&policy).into_iter().enumerate() {
        let tokens = features.tensor.dim(0).unwrap() as u32;
        let rows = Tensor::new(&[0, tokens / 2, tokens - 1], features.tensor.device()).unwrap();
        let theirs = flat(&values[&format!("features.{index}")]);
        let off = furthest(&flat(&features.tensor.index_select(&rows, 0).unwrap()), &theirs) / deviation(&theirs);
        assert!(off <= VALUES, "picture {index}: {off:.1e}");
        worst = worst.max(off);
    }
    println!("features of thirty sizes within {worst:.1e} of their standard deviation");
}

#[test]
fn logits_after_one_and_two_pictures_of_any_size_are_the_references() {
    let (policy, values) = (policy(), arrays("policy/many.safetensors"));
    let looks = looks(&policy);
    let model = Model::new(&policy.config, &policy.weights, Vec::new()).unwrap();
    let mut worst: f64 = 0.0;
    for case in many().prompts {
        let task = if case.task == "score" { Task::Score } else { Task::Compare };
        let features: Vec<&Features> = case.pictures.iter().map(|&index| &looks[index]).collect();
        let grids: Vec<_> = features.iter().map(|features| features.grid).collect();
        let prompt = policy.prompt(&Question::new(task, Reasoning::Off), &grids).unwrap();
        assert_eq!(prompt.ids.len(), case.tokens, "{}", case.name);
        assert_eq!(prompt.ids[case.tokens - 8..], case.last, "{}", case.name);
        let asked = Asked { prompt: &prompt, features };
        let pack = Pack::new(&policy.config, &model.text, &[], &[asked.sequence(&[]).unwrap()]).unwrap();
        let (rows, _) = model.text.pass(pack.embed(&model.text).unwrap(), &pack.plan).unwrap();
        let (ours, _) = model.text.logits(pack.predicting_rows(&rows).unwrap(), Kernel::General).unwrap();
        let theirs = flat(&values[&format!("logits.{}", case.name)]);
        let off = furthest(&flat(&ours), &theirs) / deviation(&theirs);
        assert!(off <= VALUES, "{}: {off:.1e}", case.name);
        worst = worst.max(off);
    }
    println!("logits after pictures of thirty sizes within {worst:.1e} of their standard deviation");
}

#[test]
fn a_thousand_random_strings_have_the_references_ids() {
    let tokenizer = Tokenizer::load(&path("policy/checkpoint")).unwrap();
    let strings = many().strings;
    assert_eq!(strings.len(), 1000);
    for (text, ids) in strings {
        let ours: Vec<u8> = tokenizer.encode(&text).unwrap().iter().flat_map(|id| id.to_le_bytes()).collect();
        assert_eq!(digest(&ours), ids, "{text:?}");
    }
}
