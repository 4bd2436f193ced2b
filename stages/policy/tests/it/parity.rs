//! Values of the model against the reference, on the reference's pixel values: positions, vision features, logits,
//! log-probs and greedy tokens. Each test prints its worst figure.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use evoq_policy::model::{Model, Pack, Sequence};
use evoq_policy::ops::linear::Kernel;
use evoq_policy::policy::{Features, Policy};
use evoq_policy::positions::Positions;
use evoq_policy::sample::Finish;
use evoq_policy::train::Group;
use evoq_policy::{Error, Pixels, Prompt};

use crate::fixture::{Case, arrays, copy_of_checkpoint, deviation, flat, furthest, policy};

/// Bound on vision features and logits, in their standard deviations.
const VALUES: f64 = 1e-4;

/// Makes the output matrix of a checkpoint folder its embeddings.
pub fn tie(folder: &Path) {
    let config = folder.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let tied = text.replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
    assert_ne!(tied, text);
    fs::write(config, tied).unwrap();
    let file = folder.join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    tensors.remove("lm_head.weight").unwrap();
    candle_core::safetensors::save(&tensors, file).unwrap();
}

fn prompt(case: &Case) -> Prompt {
    Prompt { ids: case.ids.clone(), grids: case.grids() }
}

fn look(policy: &Policy, pictures: &[Pixels]) -> Vec<Features> {
    pictures.iter().map(|pixels| policy.look(pixels).unwrap()).collect()
}

/// Worst difference of a policy's logits to rows of the reference's, in standard deviations.
fn logits_off(policy: &Policy, case: &Case, values: &HashMap<String, Tensor>, kind: &str, rows: &[u32]) -> f64 {
    let features = look(policy, &case.pixels(values));
    let features = features.iter().map(|features| &features.tensor).collect();
    let sequence = Sequence { prompt: &prompt(case), features, completions: &[] };
    let model = Model::new(&policy.config, &policy.weights, Vec::new()).unwrap();
    let pack = Pack::new(&policy.config, &model.text, &[], &[sequence]).unwrap();
    let (hidden, _) = model.text.forward(pack.embed(&model.text).unwrap(), &pack.plan).unwrap();
    let hidden = hidden.index_select(&Tensor::new(rows, &Device::Cpu).unwrap(), 0).unwrap();
    let (ours, _) = model.text.logits(hidden, Kernel::General).unwrap();
    let theirs = flat(&values[&format!("{kind}.{}", case.name)]);
    furthest(&flat(&ours), &theirs) / deviation(&theirs)
}

#[test]
fn positions_are_the_references() {
    let policy = policy();
    let (image, merge) = (policy.config.image_token_id, policy.config.vision.spatial_merge_size);
    for case in Case::all() {
        let ours = Positions::of(&case.ids, image, &case.grids(), merge).unwrap();
        for (row, theirs) in case.positions.iter().enumerate() {
            let ours: Vec<i64> = ours.tokens.iter().map(|position| i64::from(position[row])).collect();
            assert_eq!(&ours, theirs, "{}, row {row}", case.name);
        }
        assert_eq!(ours.delta(), case.delta, "{}", case.name);
    }
}

#[test]
fn vision_features_are_the_references() {
    let (policy, values) = (policy(), arrays("policy/values.safetensors"));
    let mut worst: f64 = 0.0;
    for case in Case::all() {
        for (name, features) in case.pictures.iter().zip(look(&policy, &case.pixels(&values))) {
            let theirs = flat(&values[&format!("features.{name}")]);
            let off = furthest(&flat(&features.tensor), &theirs) / deviation(&theirs);
            assert!(off <= VALUES, "{name}: {off:.1e}");
            worst = worst.max(off);
        }
    }
    println!("vision features within {worst:.1e} of their standard deviation");
}

#[test]
fn logits_are_the_references() {
    let (policy, values) = (policy(), arrays("policy/values.safetensors"));
    let mut worst: f64 = 0.0;
    for case in Case::all() {
        let off = logits_off(&policy, &case, &values, "logits", &case.rows);
        assert!(off <= VALUES, "{}: {off:.1e}", case.name);
        worst = worst.max(off);
    }
    println!("logits within {worst:.1e} of their standard deviation");
}

#[test]
fn logits_of_tied_embeddings_are_the_references() {
    let folder = copy_of_checkpoint("tied-logits");
    tie(&folder);
    let (policy, values) = (Policy::load(&folder, &Device::Cpu).unwrap(), arrays("policy/values.safetensors"));
    for case in ["one_small", "two_even"].map(Case::named) {
        let off = logits_off(&policy, &case, &values, "tied_logits", &case.rows[case.rows.len() - 4..]);
        println!("tied logits of {} within {off:.1e}", case.name);
        assert!(off <= VALUES);
    }
}

#[test]
fn log_probs_of_completions_are_the_references() {
    let (policy, values) = (policy(), arrays("policy/values.safetensors"));
    let mut worst: f64 = 0.0;
    for case in Case::all() {
        let pictures = case.pixels(&values);
        let group = Group {
            prompt: prompt(&case),
            pictures: (0..pictures.len()).collect(),
            completions: case.completions.clone(),
        };
        let ours = policy.logprobs(&pictures, &[group]).unwrap();
        for (k, ours) in ours[0].iter().enumerate() {
            let off = furthest(ours, &flat(&values[&format!("logprobs.{}.{k}", case.name)]));
            assert!(off <= 1e-4, "{}, completion {k}: {off:.1e}", case.name);
            worst = worst.max(off);
        }
    }
    println!("log-probs of completions within {worst:.1e}");
}

#[test]
fn greedy_tokens_are_the_references() {
    let (policy, values) = (policy(), arrays("policy/values.safetensors"));
    for case in Case::all() {
        let features = look(&policy, &case.pixels(&values));
        let ours = policy.greedy(&prompt(&case), &features.iter().collect::<Vec<_>>(), 64).unwrap();
        assert_eq!(ours.ids, case.greedy, "{}", case.name);
        let finish = if case.greedy.len() < 64 { Finish::Stop } else { Finish::Length };
        assert_eq!(ours.finish, finish, "{}", case.name);
    }
}

#[test]
fn greedy_log_probs_are_those_of_a_full_pass() {
    let (policy, values) = (policy(), arrays("policy/values.safetensors"));
    let mut worst: f64 = 0.0;
    for case in Case::all() {
        let pictures = case.pixels(&values);
        let features = look(&policy, &pictures);
        let ours = policy.greedy(&prompt(&case), &features.iter().collect::<Vec<_>>(), 64).unwrap();
        let group =
            Group { prompt: prompt(&case), pictures: (0..pictures.len()).collect(), completions: vec![ours.ids] };
        let full = policy.logprobs(&pictures, &[group]).unwrap();
        worst = worst.max(furthest(&ours.logprobs, &full[0][0]));
    }
    println!("log-probs while sampling within {worst:.1e} of the full pass");
    assert!(worst <= 1e-4);
}

#[test]
fn a_prompt_with_too_few_pictures_is_refused() {
    let (policy, values) = (policy(), arrays("policy/values.safetensors"));
    let case = Case::named("two_even");
    let features = look(&policy, &case.pixels(&values)[..1]);
    assert!(matches!(
        policy.greedy(&prompt(&case), &[&features[0]], 4),
        Err(Error::PictureCount { expected: 2, found: 1 })
    ));
}
