//! What the device engine learns is what the first engine learns.

use std::collections::BTreeMap;

use super::*;
use crate::optimizer::{AdamW, Hyper};
use crate::train::{Gradients, Group, Trainable};

/// Bound on ‖ours − theirs‖ / ‖theirs‖ of each tensor's gradient, in `f32`.
const GRADIENTS: f64 = 1e-4;

fn to_train(config: Config, dtype: DType) -> DevicePolicy {
    let first = policy();
    let tensors = Tensors::load(&folder(), &config, &Device::Cpu, dtype).unwrap();
    DevicePolicy::to_train(config, tensors, first.tokenizer, first.template, first.processor).unwrap()
}

/// Pictures, and groups of one, many and ragged completions; the second shares a picture with the first, the last has
/// nothing to attend to but its prompt.
fn batch(policy: &Policy) -> (Vec<Pixels>, Vec<Group>) {
    let pictures = GRIDS.map(|(height, width)| picture(policy, height, width)).to_vec();
    let completions = |lengths: &[u32]| -> Vec<Vec<u32>> {
        (0_u32..).zip(lengths).map(|(n, length)| (0..*length).map(|t| 30 + (7 * t + 11 * n) % 90).collect()).collect()
    };
    let group = |n: u32, of: &[usize], lengths: &[u32]| {
        let grids: Vec<Grid> = of.iter().map(|picture| pictures[*picture].grid).collect();
        Group { prompt: prompt(policy, &grids, n), pictures: of.to_vec(), completions: completions(lengths) }
    };
    let groups = vec![
        group(0, &[0, 1], &[3, 1, 6, 2]),
        group(1, &[1], &[9]),
        group(2, &[3], &(0..32).map(|n| 2 + n % 7).collect::<Vec<_>>()),
        group(3, &[2], &[1, 1, 1]),
    ];
    (pictures, groups)
}

/// A different weight for every token, so that no two errors cancel.
fn loss(group: usize, logprobs: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
    let weights = (0..logprobs.elem_count()).map(|i| ((i + 3 * group) as f32).sin()).collect::<Vec<f32>>();
    ((logprobs * Tensor::from_vec(weights, logprobs.shape(), &Device::Cpu)?)? * mask)?.sum_all()
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// ‖ours − theirs‖ / ‖theirs‖, by name; the same names are there.
fn relative(ours: &Gradients, theirs: &Gradients) -> BTreeMap<String, f64> {
    assert_eq!(ours.by_name.keys().collect::<Vec<_>>(), theirs.by_name.keys().collect::<Vec<_>>());
    let off = |(name, theirs): (&String, &Tensor)| {
        let ours = &ours.by_name[name];
        assert_eq!((ours.dims(), ours.dtype()), (theirs.dims(), DType::F32), "{name}");
        let (ours, theirs) = (flat(ours), flat(theirs));
        let off = norm(ours.iter().zip(&theirs).map(|(a, b)| a - b)) / norm(theirs.into_iter());
        (name.clone(), off)
    };
    theirs.by_name.iter().map(off).collect()
}

fn worst(off: &BTreeMap<String, f64>) -> (&str, f64) {
    off.iter().map(|(name, off)| (name.as_str(), *off)).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

#[test]
fn every_tensors_gradient_is_the_first_engines() {
    let (first, device) = (policy(), to_train(policy().config, DType::F32));
    let (pictures, groups) = batch(&first);
    let theirs = first.gradients(&pictures, &groups, &loss, None).unwrap();
    let ours = device.gradients(&pictures, &groups, &loss).unwrap();
    for (ours, theirs) in ours.losses.iter().zip(&theirs.losses) {
        assert!((ours - theirs).abs() <= 1e-4 * theirs.abs().max(1.0), "losses {ours} and {theirs}");
    }
    let off = relative(&ours, &theirs);
    println!("worst of {} tensors: {:?}", off.len(), worst(&off));
    assert_eq!(off.len(), first.weights.iter().count());
    assert!(worst(&off).1 <= GRADIENTS, "{:?}", worst(&off));
}

#[test]
fn a_tied_head_adds_to_the_gradient_of_the_embeddings() {
    let mut config = policy().config;
    config.tie_word_embeddings = true;
    let weights = Weights::load(&folder(), &config, &Device::Cpu).unwrap();
    let parts = policy();
    let first = Policy::new(config.clone(), weights, parts.tokenizer, parts.template, parts.processor).unwrap();
    let (pictures, groups) = batch(&first);
    let theirs = first.gradients(&pictures, &groups, &loss, None).unwrap();
    let off = relative(&to_train(config, DType::F32).gradients(&pictures, &groups, &loss).unwrap(), &theirs);
    assert!(worst(&off).1 <= GRADIENTS, "{:?}", worst(&off));
    assert!(!off.contains_key("lm_head.weight"));
}

#[test]
fn what_is_made_in_runs_has_the_gradients_of_what_is_made_at_once() {
    let first = policy();
    let mut device = to_train(first.config.clone(), DType::F32);
    let (pictures, groups) = batch(&first);
    let whole = device.gradients(&pictures, &groups, &loss).unwrap();
    // A lane or two at a time, and seven rows of logits.
    device.bounds = Bounds { scores: 8000, logits: 7 * first.config.text.vocab_size };
    let off = relative(&device.gradients(&pictures, &groups, &loss).unwrap(), &whole);
    assert!(worst(&off).1 <= 1e-5, "{:?}", worst(&off));
}

#[test]
fn three_steps_of_training_are_the_first_engines() {
    let (first, device) = (policy(), to_train(policy().config, DType::F32));
    let (pictures, groups) = batch(&first);
    // The gradient of a key's bias is rounding and nothing else; with an epsilon above it, its sign does not count.
    let hyper = Hyper { eps: 1e-4, ..Hyper::default() };
    let variables = |weights: &Weights| {
        let all = weights.iter().map(|(name, var)| (name.to_owned(), var.clone()));
        AdamW::new(all.collect::<Vec<_>>().into_iter(), hyper).unwrap()
    };
    let weights = device.variables().unwrap();
    let [mut of_first, mut of_device] = [variables(&first.weights), variables(weights)];
    for _ in 0..3 {
        let theirs = first.gradients(&pictures, &groups, &loss, None).unwrap();
        let ours = device.gradients(&pictures, &groups, &loss).unwrap();
        let [theirs, ours] =
            [of_first.step(&theirs.by_name, 1e-3), of_device.step(&ours.by_name, 1e-3)].map(Result::unwrap);
        assert!((ours.gradient_norm / theirs.gradient_norm - 1.0).abs() < 1e-4);
    }
    let start = policy();
    for (name, theirs) in first.weights.iter() {
        let (theirs, ours) = (flat(theirs), flat(weights.get(name).unwrap()));
        assert_ne!(theirs, flat(start.weights.get(name).unwrap()), "{name} was not trained");
        let off = theirs.iter().zip(&ours).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off <= 1e-5, "{name}: {off:.1e}");
    }
    // What it answers follows from the new weights: the two are nearer by far than either is to the start.
    let policies = [first.logprobs(&pictures, &groups), device.logprobs(&pictures, &groups)];
    let [theirs, ours] = policies.map(|logprobs| logprobs.unwrap().concat().concat());
    let before = start.logprobs(&pictures, &groups).unwrap().concat().concat();
    let apart = |one: &[f32], other: &[f32]| norm(one.iter().zip(other).map(|(a, b)| a - b));
    assert!(apart(&ours, &theirs) < 1e-3 * apart(&before, &theirs), "{} apart", apart(&ours, &theirs));
}

#[test]
fn in_bf16_gradients_differ_by_that_formats_rounding() {
    let (first, device) = (policy(), to_train(policy().config, DType::BF16));
    let (mut pictures, groups) = batch(&first);
    for pixels in &mut pictures {
        let area = first.config.vision.patch_size.pow(2);
        let smooth =
            |(at, value): (usize, &mut f32)| *value = ((at / (2 * area) * area + at % area) as f32 * 0.01).sin();
        pixels.patches.iter_mut().enumerate().for_each(smooth);
    }
    // An advantage for each completion, as in training.
    let loss = |group: usize, logprobs: &Tensor, mask: &Tensor| {
        let count = logprobs.dim(0)?;
        let advantages = (0..count).map(|k| ((7 * k + group) as f32).sin()).collect::<Vec<_>>();
        let means = ((logprobs * mask)?.sum(1)? / mask.sum(1)?)?;
        (means * Tensor::from_vec(advantages, count, &Device::Cpu)?)?.mean(0)
    };
    let theirs = first.gradients(&pictures, &groups, &loss, None).unwrap();
    let off = relative(&device.gradients(&pictures, &groups, &loss).unwrap(), &theirs);
    let mean = off.values().sum::<f64>() / off.len() as f64;
    println!("bf16: gradients off by {mean:.3} in the mean, worst {:?}", worst(&off));
    assert!(mean > 1e-3 && mean < 0.15, "{mean}");
}

#[test]
fn the_reference_stays_as_it_was_when_the_policy_learns() {
    let device = to_train(policy().config, DType::F32);
    let (pictures, groups) = batch(&policy());
    let before = device.logprobs(&pictures, &groups).unwrap();
    let reference = device.frozen().unwrap();
    for (_, var) in device.variables().unwrap().iter() {
        var.set(&(var.as_tensor() * 0.9).unwrap()).unwrap();
    }
    assert_ne!(device.logprobs(&pictures, &groups).unwrap(), before);
    for (a, b) in reference.logprobs(&pictures, &groups).unwrap().concat().concat().iter().zip(before.concat().concat())
    {
        assert!((a - b).abs() <= 1e-5, "{a} and {b}");
    }
}

#[test]
fn a_policy_that_was_loaded_to_answer_does_not_learn() {
    let (pictures, groups) = batch(&policy());
    let refused = device_policy().gradients(&pictures, &groups, &loss).unwrap_err().to_string();
    assert!(refused.contains("load it to train"), "{refused}");
    assert!(Learner::try_from(device_policy()).is_err());
}

#[test]
fn a_saved_policy_is_the_one_that_was_trained_in_its_number_format() {
    let saved = tempfile::tempdir().unwrap();
    for (dtype, said) in [(DType::F32, "float32"), (DType::BF16, "bfloat16")] {
        let device = to_train(policy().config, dtype);
        for (_, var) in device.variables().unwrap().iter() {
            var.set(&(var.as_tensor() * 0.9).unwrap()).unwrap();
        }
        device.save(saved.path()).unwrap();
        let again = Policy::load(saved.path(), &Device::Cpu).unwrap();
        for (name, var) in device.variables().unwrap().iter() {
            assert_eq!(flat(again.weights.get(name).unwrap()), flat(var), "{name}");
        }
        let config = std::fs::read_to_string(saved.path().join("config.json")).unwrap();
        assert!(config.contains(&format!("\"torch_dtype\": \"{said}\"")), "{config}");
    }
}

/// Each kind of training, on both engines.
#[test]
fn what_is_trained_gets_the_first_engines_gradients_and_nothing_else_does() {
    let first = Learner::from(policy());
    let device = Learner::try_from(to_train(policy().config, DType::F32)).unwrap();
    let (pictures, groups) = batch(&policy());
    let lora = Trainable::Lora { rank: 3, alpha: 6.0 };
    for (trainable, some) in [
        (Trainable::All, "visual.patch_embed.proj.weight"),
        (Trainable::Text, "model.embed_tokens.weight"),
        (Trainable::Vision, "visual.blocks.0.norm1.weight"),
        (Trainable::Merger, "visual.merger.ln_q.weight"),
        (lora, "model.layers.1.mlp.up_proj.lora_A.weight"),
    ] {
        let learnt = first.learnt(trainable, 5).unwrap();
        // B is 0 at first, and A would get no gradient.
        for (name, var) in first.variables(&learnt) {
            if name.contains("lora_B") {
                var.set(&Tensor::ones(var.shape(), DType::F32, &Device::Cpu).unwrap()).unwrap();
            }
        }
        let found = [&first, &device].map(|learner| {
            let mut sum = learner.begin(&learnt);
            // Two micro-batches.
            learner.accumulate(&mut sum, &pictures, &groups[..2], &loss).unwrap();
            learner.accumulate(&mut sum, &pictures, &groups[2..], &loss).unwrap();
            sum.finish().unwrap()
        });
        let off = relative(&found[1], &found[0]);
        assert!(worst(&off).1 <= GRADIENTS, "{trainable:?}: {:?}", worst(&off));
        let names: Vec<String> = device.variables(&learnt).into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().all(|name| off.contains_key(name)) && names.len() == off.len(), "{trainable:?}");
        assert!(off.contains_key(some), "{trainable:?}");
    }
}

#[test]
fn merged_adapters_are_the_first_engines() {
    let first = Learner::from(policy());
    let device = Learner::try_from(to_train(policy().config, DType::F32)).unwrap();
    let learnt = first.learnt(Trainable::Lora { rank: 2, alpha: 2.0 }, 5).unwrap();
    for (_, var) in first.variables(&learnt) {
        var.set(&Tensor::ones(var.shape(), DType::F32, &Device::Cpu).unwrap()).unwrap();
    }
    let base = device.frozen().unwrap();
    for learner in [&first, &device] {
        // Twice is as once: it starts from the base.
        learner.merge(&learnt, &base).unwrap();
        learner.merge(&learnt, &base).unwrap();
    }
    let start = policy();
    for (name, theirs) in first.weights().iter() {
        let (theirs, ours) = (flat(theirs), flat(device.weights().get(name).unwrap()));
        assert!(theirs.iter().zip(&ours).all(|(a, b)| (a - b).abs() <= 1e-5), "{name}");
        let moved = theirs != flat(start.weights.get(name).unwrap());
        assert_eq!(moved, name.ends_with("_proj.weight") && name.starts_with("model."), "{name}");
    }
}
