//! A whole step against TRL's trainer: fixed completions and rewards in, advantages, loss and gradients out.

use candle_core::Tensor;
use evoq_grpo::advantage::advantages;
use evoq_grpo::loss::{Constants, Objective};
use evoq_policy::optimizer::{AdamW, Hyper};
use evoq_policy::train::Group;
use evoq_policy::{Pixels, Policy};
use serde::Deserialize;

use crate::batch::gradients;
use crate::fixture::{Case, arrays, flat, furthest, json, pictures_and_groups, policy};
use crate::sketch::{SIGNS, bits, distance};

/// The step that `tests/fixtures/grpo_trl.py` takes.
#[derive(Deserialize)]
struct Step {
    groups: Vec<Rewarded>,
    beta: f64,
    epsilon: f64,
    loss: f64,
    gradient_norm: f64,
    kl: f64,
}

/// A prompt with the rewards of its completions.
#[derive(Deserialize)]
struct Rewarded {
    prompt: String,
    rewards: Vec<f64>,
}

impl Step {
    fn pictures_and_groups(&self) -> (Vec<Pixels>, Vec<Group>) {
        pictures_and_groups(&self.groups.iter().map(|group| Case::named(&group.prompt)).collect::<Vec<_>>())
    }

    fn advantages(&self) -> Vec<Vec<f32>> {
        let of = |group: &Rewarded| advantages(&group.rewards, 1, 1e-4).into_iter().map(|it| it as f32).collect();
        self.groups.iter().map(of).collect()
    }
}

/// A copy of the policy with each weight multiplied by 1 + 1/32 or 1 − 1/32: the reference policy of the step.
fn moved(policy: &Policy) -> Policy {
    let moved = policy.frozen().unwrap();
    for (_, var) in moved.weights.iter() {
        let sign = |index: usize| if bits(index) & 1 == 1 { -1.0 } else { 1.0 };
        let values = flat(var).into_iter().enumerate().map(|(index, value)| value * (1.0 + sign(index) / 32.0));
        var.set(&Tensor::from_vec(values.collect(), var.shape(), var.device()).unwrap()).unwrap();
    }
    moved
}

/// All tokens' log-probabilities in one row.
fn all(logprobs: &[Vec<Vec<f32>>]) -> Vec<f32> {
    logprobs.iter().flatten().flatten().copied().collect()
}

#[test]
fn log_probabilities_of_policy_and_reference_are_trls() {
    let (step, file): (Step, _) = (json("grpo/step.json"), arrays("grpo/step.safetensors"));
    let (pictures, groups) = step.pictures_and_groups();
    let of = |policy: &Policy| all(&policy.logprobs(&pictures, &groups).unwrap());
    let (now, reference) = (of(&policy()), of(&moved(&policy())));
    let off = [furthest(&now, &flat(&file["logprobs"])), furthest(&reference, &flat(&file["reference"]))];
    let ahead = now.iter().zip(&reference).map(|(now, reference)| f64::from(reference - now));
    let kl = ahead.map(|it| libm::exp(it) - it - 1.0).sum::<f64>() / now.len() as f64;
    println!("log-probs off TRL's by {:.1e}, the reference's by {:.1e}; kl {kl:.6}", off[0], off[1]);
    assert!(off[0] <= 1e-4 && off[1] <= 1e-4);
    assert!((kl - step.kl).abs() <= 1e-5);
}

#[test]
fn advantages_are_trls() {
    let (step, file): (Step, _) = (json("grpo/step.json"), arrays("grpo/step.safetensors"));
    let ours: Vec<f32> = step.advantages().into_iter().flatten().collect();
    assert!(furthest(&ours, &flat(&file["advantages"])) <= 1e-6);
}

#[test]
fn loss_and_gradients_of_a_whole_step_are_trls() {
    let (step, file): (Step, _) = (json("grpo/step.json"), arrays("grpo/step.safetensors"));
    let policy = policy();
    let (pictures, groups) = step.pictures_and_groups();
    let reference = moved(&policy).logprobs(&pictures, &groups).unwrap();
    let constants = Constants { epsilon: step.epsilon, beta: step.beta };
    let ours = gradients(&policy, &pictures, &groups, Objective::Token, constants, &reference, &step.advantages());
    let loss: f64 = ours.losses.iter().map(|&loss| f64::from(loss)).sum();
    assert!((loss - step.loss).abs() <= 1e-5, "{loss} is not {}", step.loss);
    let (sketches, norms) = (flat(&file["sketch"]), flat(&file["norm"]));
    assert_eq!(norms.len(), policy.weights.iter().count());
    let mut worst = (0.0, "");
    for (((name, _), theirs), norm) in policy.weights.iter().zip(sketches.chunks(SIGNS)).zip(norms) {
        let off = distance(&flat(&ours.by_name[name]), theirs) / f64::from(norm);
        // Half the bar of 1e-4: `sketch.rs` says why.
        assert!(off <= 5e-5, "{name}: {off:.1e}");
        if off > worst.0 {
            worst = (off, name);
        }
    }
    println!("loss off TRL's by {:.1e}, gradients by {:.1e} at most, {}", (loss - step.loss).abs(), worst.0, worst.1);
    let vars = policy.weights.iter().map(|(name, var)| (name.to_owned(), var.clone()));
    let taken = AdamW::new(vars, Hyper::default()).unwrap().step(&ours.by_name, 1e-3).unwrap();
    assert!(taken.clipped && (taken.gradient_norm / step.gradient_norm - 1.0).abs() <= 1e-5);
}
