//! Batches of `tests/fixtures/policy_gradients.py`, and their loss and gradients as the trainer takes them.

use candle_core::{Device, Tensor};
use evoq_grpo::loss::{Constants, Known, Objective, loss};
use evoq_policy::train::{Gradients, Group};
use evoq_policy::{Pixels, Policy};
use serde::Deserialize;

use crate::fixture::{Case, arrays, flat, json, pictures_and_groups};

/// What a loss is taken of.
#[derive(Deserialize)]
pub struct Batch {
    /// The case and the objective.
    pub name: String,
    objective: String,
    prompts: Vec<String>,
    pub advantages: Vec<Vec<f32>>,
    completions: Vec<Vec<Vec<u32>>>,
    beta: f64,
    epsilon: f64,
    /// The reference's value of the loss.
    pub loss: f64,
}

impl Batch {
    /// Every batch of the fixtures.
    pub fn all() -> Vec<Self> {
        json("policy/objectives.json")
    }

    /// The batch of this name.
    pub fn named(name: &str) -> Self {
        Self::all().into_iter().find(|batch| batch.name == name).unwrap()
    }

    /// Its pictures, and its prompts with their completions.
    pub fn pictures_and_groups(&self) -> (Vec<Pixels>, Vec<Group>) {
        let cases = self.prompts.iter().zip(&self.completions);
        let cases = cases.map(|(name, completions)| Case { completions: completions.clone(), ..Case::named(name) });
        pictures_and_groups(&cases.collect::<Vec<_>>())
    }

    /// The constants of its loss.
    pub fn constants(&self) -> Constants {
        Constants { epsilon: self.epsilon, beta: self.beta }
    }

    /// The form of its loss.
    pub fn objective(&self) -> Objective {
        match self.objective.as_str() {
            "token" => Objective::Token,
            "sequence" => Objective::Sequence,
            other => panic!("no objective {other}"),
        }
    }

    /// Log-probabilities of the reference policy, by group, completion and token.
    pub fn reference(&self) -> Vec<Vec<Vec<f32>>> {
        let stored = flat(&arrays("policy/objectives.safetensors")[&format!("{}.reference", self.name)]);
        let mut stored = stored.into_iter();
        let mut take = |completion: &Vec<u32>| stored.by_ref().take(completion.len()).collect();
        self.completions.iter().map(|group| group.iter().map(&mut take).collect()).collect()
    }

    /// Our gradients of its loss.
    pub fn gradients(&self, policy: &Policy) -> Gradients {
        let (pictures, groups) = self.pictures_and_groups();
        gradients(policy, &pictures, &groups, self.objective(), self.constants(), &self.reference(), &self.advantages)
    }
}

/// Gradients of the mean of the groups' losses.
pub fn gradients(
    policy: &Policy,
    pictures: &[Pixels],
    groups: &[Group],
    objective: Objective,
    constants: Constants,
    reference: &[Vec<Vec<f32>>],
    advantages: &[Vec<f32>],
) -> Gradients {
    let of_group = |group: usize, logprobs: &Tensor, mask: &Tensor| {
        let (completions, tokens) = logprobs.dims2()?;
        let padded = reference[group].iter().flat_map(|row| row.iter().copied().chain([0.0; 64]).take(tokens));
        let reference = Tensor::from_vec(padded.collect(), (completions, tokens), &Device::Cpu)?;
        let advantages = Tensor::new(advantages[group].as_slice(), &Device::Cpu)?.unsqueeze(1)?;
        let known = Known { old: &logprobs.detach(), reference: &reference, mask, advantages: &advantages };
        loss(objective, logprobs, &known, constants)? / groups.len() as f64
    };
    policy.gradients(pictures, groups, &of_group, None).unwrap()
}
