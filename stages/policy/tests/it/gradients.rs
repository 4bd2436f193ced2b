//! Gradients of the GRPO loss against autograd's.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor};
use evoq_policy::policy::Policy;
use evoq_policy::train::Gradients;
use serde::Deserialize;

use crate::fixture::{Case, arrays, copy_of_checkpoint, flat, json, norm, pictures_and_groups, policy, relative};
use crate::sketch::{distance, sketch};

/// Bound on ‖ours − theirs‖ / ‖theirs‖ of a tensor's gradient. Autograd's f32 is up to 3e-5 away from its own f64.
const GRADIENTS: f64 = 1e-4;

/// What the reference's loss was taken of.
#[derive(Deserialize)]
struct Batch {
    prompts: Vec<String>,
    advantages: Vec<Vec<f32>>,
    beta: f64,
    epsilon: f64,
    loss: f64,
    tied_loss: f64,
}

impl Batch {
    /// Eq. 5 and 6 of the paper per token, with the frozen policy's log-probs under `kind`, and their gradient.
    fn gradients(&self, policy: &Policy, kind: &str) -> Gradients {
        let (pictures, groups) =
            pictures_and_groups(&self.prompts.iter().map(|name| Case::named(name)).collect::<Vec<_>>());
        let file = arrays("policy/gradients.safetensors");
        let loss = |group: usize, now: &Tensor, mask: &Tensor| {
            let advantage = Tensor::new(self.advantages[group].as_slice(), &Device::Cpu)?.unsqueeze(1)?;
            let ratio = (now - now.detach())?.exp()?;
            let free = ratio.broadcast_mul(&advantage)?;
            let clipped = ratio.clamp(1.0 - self.epsilon, 1.0 + self.epsilon)?.broadcast_mul(&advantage)?;
            let ahead = (reference(&file, kind, group, now.dims2()?)? - now)?;
            let k3 = ((ahead.exp()? - &ahead)? - 1.0)?;
            let gain = ((free.minimum(&clipped)? - (k3 * self.beta)?)? * mask)?;
            let per_completion = (gain.sum(1)? / mask.sum(1)?)?;
            per_completion.mean(0)? / -(self.prompts.len() as f64)
        };
        policy.gradients(&pictures, &groups, &loss, None).unwrap()
    }
}

/// The frozen policy's log-probs of a group, padded with zeros to [K, T].
fn reference(
    file: &HashMap<String, Tensor>,
    kind: &str,
    group: usize,
    (completions, tokens): (usize, usize),
) -> candle_core::Result<Tensor> {
    let mut padded = vec![0f32; completions * tokens];
    for k in 0..completions {
        let row = flat(&file[&format!("{kind}.{group}.{k}")]);
        padded[k * tokens..][..row.len()].copy_from_slice(&row);
    }
    Tensor::from_vec(padded, (completions, tokens), &Device::Cpu)
}

/// The checkpoint with its output matrix tied to the embeddings.
fn tied_policy() -> Policy {
    let folder = copy_of_checkpoint("tied-gradients");
    crate::parity::tie(&folder);
    Policy::load(&folder, &Device::Cpu).unwrap()
}

#[test]
fn every_gradient_of_the_grpo_loss_is_autograds() {
    let batch: Batch = json("policy/gradients.json");
    let expected = arrays("policy/gradients.safetensors");
    let ours = batch.gradients(&policy(), "reference");
    let loss: f64 = ours.losses.iter().map(|&l| f64::from(l)).sum();
    let mut off: BTreeMap<&str, f64> = BTreeMap::new();
    for (name, theirs) in expected.iter().filter(|(name, _)| name.contains("weight") || name.contains("bias")) {
        off.insert(name, relative(&ours.by_name[name], theirs));
    }
    let mut worst: Vec<_> = off.iter().collect();
    worst.sort_by(|a, b| b.1.total_cmp(a.1));
    println!("loss within {:.1e}", (loss - batch.loss).abs());
    println!("gradients of {} tensors, relative; worst {} {:.1e}", worst.len(), worst[0].0, worst[0].1);
    assert!((loss - batch.loss).abs() <= 1e-5);
    assert_eq!(off.len(), policy().weights.iter().count());
    for (name, off) in worst {
        assert!(*off <= GRADIENTS, "{name}: {off:.1e}");
    }
}

#[test]
fn a_sketch_tells_how_far_two_gradients_are_apart() {
    let expected = arrays("policy/gradients.safetensors");
    let ours = json::<Batch>("policy/gradients.json").gradients(&policy(), "reference");
    let (mut least, mut most) = (f64::INFINITY, 0_f64);
    for (name, ours) in &ours.by_name {
        let theirs: Vec<f32> = sketch(&flat(&expected[name])).iter().map(|&sum| sum as f32).collect();
        let told = distance(&flat(ours), &theirs) / norm(flat(&expected[name]).into_iter());
        let share = told / relative(ours, &expected[name]);
        (least, most) = (least.min(share), most.max(share));
    }
    println!("distances by sketches are {least:.2} to {most:.2} of the true ones");
    assert!(least > 0.5 && most < 1.5);
}

#[test]
fn every_trainable_tensor_gets_a_gradient() {
    let policy = policy();
    let ours = json::<Batch>("policy/gradients.json").gradients(&policy, "reference");
    for (name, var) in policy.weights.iter() {
        let gradient = &ours.by_name[name];
        assert_eq!(gradient.dims(), var.dims(), "{name}");
        assert!(norm(flat(gradient).into_iter()) > 1e-6, "{name}");
    }
}

#[test]
fn tied_embeddings_get_the_gradients_of_both_their_uses() {
    let batch: Batch = json("policy/gradients.json");
    let ours = batch.gradients(&tied_policy(), "tied_reference");
    let loss: f64 = ours.losses.iter().map(|&l| f64::from(l)).sum();
    let off = relative(&ours.by_name["model.embed_tokens.weight"], &arrays("policy/gradients.safetensors")["tied"]);
    println!("tied: loss off by {:.1e}, gradient of the embeddings {off:.1e}", (loss - batch.tied_loss).abs());
    assert!((loss - batch.tied_loss).abs() <= 1e-5 && off <= GRADIENTS);
    assert!(!ours.by_name.contains_key("lm_head.weight"));
}
