//! Demonstrations as steps of training: which examples are learnt together, and what weighs how much.

use candle_core::{Device, Tensor};
use evoq_policy::answer::answer_tokens;
use evoq_policy::train::Group;
use evoq_policy::{Pixels, Policy, Question, Reasoning, Task};
use evoq_schemas::draws::key;
use evoq_schemas::{Demonstration, DemonstrationPrompt, ImageId};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;

use crate::bad_input;
use crate::probe::Flaws;

/// An example of a step.
#[derive(Debug, Clone)]
pub(crate) struct Example {
    task: Task,
    /// Indices into the step's pictures, in the order shown.
    pictures: Vec<usize>,
    /// The reply's tokens, the end of turn included.
    reply: Vec<u32>,
    /// Its weight in the step's loss.
    weight: f32,
}

/// What one optimizer step learns from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    /// The pictures it shows, each once.
    pub(crate) pictures: Vec<ImageId>,
    examples: Vec<Example>,
}

impl Step {
    /// The examples as groups of one completion each.
    pub(crate) fn groups(
        &self,
        policy: &Policy,
        pixels: &[Pixels],
        reasoning: Reasoning,
    ) -> evoq_policy::Result<Vec<Group>> {
        let group = |example: &Example| {
            let grids: Vec<_> = example.pictures.iter().map(|it| pixels[*it].grid).collect();
            Ok(Group {
                prompt: policy.prompt(&Question::new(example.task, reasoning), &grids)?,
                pictures: example.pictures.clone(),
                completions: vec![example.reply.clone()],
            })
        };
        self.examples.iter().map(group).collect()
    }

    /// For each example, the weights `[1, T]` of its tokens' log-probabilities: an example's weights sum to its share of the
    /// step, and within it the answer's tokens weigh `answer_weight` times the others.
    pub(crate) fn token_weights(&self, policy: &Policy, answer_weight: f32) -> evoq_policy::Result<Vec<Tensor>> {
        let all: f32 = self.examples.iter().map(|it| it.weight).sum();
        let weights = |example: &Example| {
            let mut weights = vec![1.0; example.reply.len()];
            let text = policy.tokenizer.decode(&example.reply)?;
            if let Some(range) = answer_tokens(&policy.tokenizer, &example.reply, &text)? {
                weights[range].fill(answer_weight);
            }
            let scale = example.weight / all / weights.iter().sum::<f32>();
            for weight in &mut weights {
                *weight *= scale;
            }
            Ok(Tensor::from_vec(weights, (1, example.reply.len()), &Device::Cpu)?)
        };
        self.examples.iter().map(weights).collect()
    }
}

/// The steps of the `reply` objective: demonstrations whose ids agree up to the dash are learnt together.
pub(crate) fn reply_steps(policy: &Policy, rows: &[Demonstration]) -> anyhow::Result<Vec<Step>> {
    let end = policy
        .config
        .eos
        .first()
        .copied()
        .ok_or_else(|| bad_input("--policy: its configuration names no end-of-turn token (eos_token_id)"))?;
    let mut steps: Vec<(&str, Step)> = Vec::new();
    for row in rows {
        let name = row.demonstration_id.split('-').next().unwrap_or_default();
        if steps.last().is_none_or(|(last, _)| *last != name) {
            steps.push((name, Step::default()));
        }
        let Some((_, step)) = steps.last_mut() else { continue };
        let mut pictures = Vec::with_capacity(row.image_ids.len());
        for id in &row.image_ids {
            let known = step.pictures.iter().position(|it| it == id);
            pictures.push(known.unwrap_or_else(|| {
                step.pictures.push(id.clone());
                step.pictures.len() - 1
            }));
        }
        let mut reply = policy.tokenizer.encode(&row.reply)?;
        reply.push(end);
        let task = match row.prompt {
            DemonstrationPrompt::Compare => Task::Compare,
            DemonstrationPrompt::Score => Task::Score,
        };
        if row.weight <= 0.0 {
            let message = format!(
                "--demonstrations: `{}` has the weight {}; expected a number over 0, or the row left out",
                row.demonstration_id, row.weight
            );
            return Err(bad_input(message));
        }
        step.examples.push(Example { task, pictures, reply, weight: row.weight });
    }
    if steps.is_empty() {
        return Err(bad_input("--demonstrations: the table has no rows; there is nothing to learn from"));
    }
    Ok(steps.into_iter().map(|(_, step)| step).collect())
}

/// The steps of the `probe` objective: pictures with a known flaw, drawn anew for each step.
pub(crate) fn probe_steps(flaws: &Flaws, steps: usize, pictures: usize, seed: u64) -> anyhow::Result<Vec<Step>> {
    let known = flaws.pictures();
    if known.len() < pictures {
        return Err(bad_input(format!(
            "--images: {} pictures have a known distortion; --pictures asks for {pictures} a step",
            known.len()
        )));
    }
    let step = |index: usize| {
        let mut draws = ChaCha8Rng::from_seed(key(seed, "probe pictures", &[&index.to_string()]));
        let chosen = sample(&mut draws, known.len(), pictures);
        Step { pictures: chosen.iter().map(|it| known[it].clone()).collect(), examples: Vec::new() }
    };
    Ok((0..steps).map(step).collect())
}
