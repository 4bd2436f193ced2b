//! Warm-starts a policy: teaches it the form of its replies from demonstrations, or its vision tower what flaws look like.
//!
//! Two objectives. `reply` learns the demonstrations' replies, a step's examples at a time; `probe` trains the vision tower
//! alone, through a throw-away linear probe that names distortion and severity. With `--init` the weights are made and the
//! tokenizer is trained on the demonstrations' text first.

mod examples;
mod probe;
mod start;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use evoq_pictures::Pictures;
use evoq_policy::optimizer::{AdamW, Hyper, Schedule};
use evoq_policy::{Pixels, Policy, Reasoning};
use evoq_schemas::{Demonstration, ImageId, Update};
use evoq_stage::range::{at_least_0, count, positive};
use evoq_stage::{Input, Job, Kind, Output, Stage, bad_input};
use rayon::prelude::*;
use serde::Serialize;

use crate::examples::{Step, probe_steps, reply_steps};
use crate::probe::{FlawProbe, Flaws};

/// What is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// The demonstrations' replies.
    Reply,
    /// Distortion and severity, by the vision tower alone.
    Probe,
}

/// How the learning rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// It stays.
    Constant,
    /// In a straight line to 0.
    Linear,
    /// Half a cosine to 0, after the warm-up.
    Cosine,
}

/// The flags of `evoq-sft`.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Args {
    /// Make the weights from this shape (YAML: sizes of text and vision, pixels, merges) and train the tokenizer on the
    /// demonstrations' text; instead of --policy
    #[arg(long, value_name = "SHAPE.yaml")]
    pub init: Option<PathBuf>,
    /// What is learnt
    #[arg(long, value_enum, default_value = "reply")]
    pub objective: Objective,
    /// Weight of the throw-away probe's loss beside the replies'; 0 for none
    #[arg(long, default_value_t = 0.0, value_parser = at_least_0::<f64>)]
    pub probe: f64,
    /// Weight of the answer's tokens (inside the last box) in the loss of a reply, where the others weigh 1
    #[arg(long, default_value_t = 1.0, value_parser = positive::<f32>)]
    pub answer_weight: f32,
    /// Optimizer steps of the probe objective; with replies the demonstrations' own steps count
    #[arg(long, default_value_t = 400, value_parser = count)]
    pub steps: usize,
    /// Pictures a step of the probe objective
    #[arg(long, default_value_t = 64, value_parser = count)]
    pub pictures: usize,
    /// Peak learning rate
    #[arg(long, default_value_t = 1.5e-3, value_parser = at_least_0::<f64>)]
    pub learning_rate: f64,
    /// How the learning rate changes
    #[arg(long, value_enum, default_value = "cosine")]
    pub decay: Decay,
    /// Steps over which the learning rate rises (cosine)
    #[arg(long, default_value_t = 30)]
    pub warmup: usize,
    /// AdamW's beta2
    #[arg(long, default_value_t = 0.98, value_parser = below_1)]
    pub beta2: f64,
    /// AdamW's decoupled weight decay
    #[arg(long, default_value_t = 0.01, value_parser = at_least_0::<f64>)]
    pub weight_decay: f64,
    /// Largest norm of the gradient
    #[arg(long, default_value_t = 1.0, value_parser = positive::<f64>)]
    pub clip: f64,
    /// Whether the prompts end in the reasoning suffix
    #[arg(long, value_enum, default_value = "on")]
    pub reasoning: Reasoning,
    /// Seed of the weights and of the choice of pictures
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Stage for Args {
    const NAME: &'static str = "sft";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Warm-starts a policy from demonstrations: the form of its replies (--objective reply), or its \
                                 vision tower alone (--objective probe)";
    const INPUTS: &'static [Input] = &[
        Input {
            name: "demonstrations",
            kind: Kind::Table("demonstrations"),
            required: true,
            help: "The examples, in the order of learning; those in a row whose ids agree up to the first `-` make one step",
        },
        Input {
            name: "images",
            kind: Kind::Table("images"),
            required: true,
            help: "Their pictures, with the references of recipes; the probe takes distortion and severity from here",
        },
        Input {
            name: "policy",
            kind: Kind::Policy,
            required: false,
            help: "The policy to go on from; instead of --init",
        },
    ];
    const OUTPUTS: &'static [Output] =
        &[Output { name: "policy", kind: Kind::Policy }, Output { name: "updates", kind: Kind::Table("updates") }];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        let demonstrations: Vec<Demonstration> = job.rows("demonstrations")?;
        let pictures = Pictures::open(job.artifacts("images"))?;
        let policy = start::policy(self, job, &demonstrations)?;
        let flaws = Flaws::new(pictures.rows());
        let steps = match self.objective {
            Objective::Probe => probe_steps(&flaws, self.steps, self.pictures, self.seed)?,
            Objective::Reply => reply_steps(&policy, &demonstrations)?,
        };
        let updates = self.learn(job, &policy, &pictures, &flaws, &steps)?;
        job.write_all(updates)?;
        let folder = job.scratch_folder()?;
        policy.save(folder.path())?;
        job.put_policy(folder.path())
    }
}

impl Args {
    fn learn(
        &self,
        job: &Job,
        policy: &Policy,
        pictures: &Pictures,
        flaws: &Flaws,
        steps: &[Step],
    ) -> anyhow::Result<Vec<Update>> {
        let probe_weight = if self.objective == Objective::Probe { 1.0 } else { self.probe };
        if probe_weight > 0.0 && flaws.pictures().is_empty() {
            return Err(bad_input("--images: no picture has a known distortion; the probe has nothing to learn from"));
        }
        let heads = (probe_weight > 0.0)
            .then(|| FlawProbe::new(flaws, policy.config.text.hidden_size, self.seed))
            .transpose()?;
        let vars = policy.weights.iter().map(|(name, var)| (name.to_owned(), var.clone()));
        let vars = vars.chain(heads.iter().flat_map(FlawProbe::vars));
        let hyper =
            Hyper { beta2: self.beta2, weight_decay: self.weight_decay, clip: Some(self.clip), ..Hyper::default() };
        let mut optimizer = AdamW::new(vars, hyper)?;
        let schedule = match self.decay {
            Decay::Constant => Schedule::Constant,
            Decay::Linear => Schedule::Linear,
            Decay::Cosine => Schedule::Cosine { warmup: self.warmup },
        };
        let progress = job.progress("steps", steps.len() as u64);
        let mut updates = Vec::with_capacity(steps.len());
        for (index, step) in steps.iter().enumerate() {
            job.check()?;
            let pixels = pixels(policy, pictures, &step.pictures)?;
            let groups = step.groups(policy, &pixels, self.reasoning)?;
            let weights = step.token_weights(policy, self.answer_weight)?;
            let probe = heads.as_ref().map(|heads| heads.with(&step.pictures, probe_weight));
            let loss = |group: usize, logprobs: &candle_core::Tensor, _: &candle_core::Tensor| {
                (logprobs * &weights[group])?.sum_all()?.neg()
            };
            let probe = probe.as_ref().map(|probe| probe as &dyn evoq_policy::train::Probe);
            let gradients = policy.gradients(&pixels, &groups, &loss, probe)?;
            let learning_rate = schedule.learning_rate(self.learning_rate, index, steps.len());
            let taken = optimizer.step(&gradients.by_name, learning_rate)?;
            let reply_loss: f64 = gradients.losses.iter().map(|loss| f64::from(*loss)).sum();
            let probe_loss = f64::from(gradients.probe_loss);
            updates.push(Update {
                update_index: index as u32,
                loss: reply_loss + probe_loss,
                policy_loss: None,
                kl: None,
                probe_loss: heads.is_some().then_some(probe_loss),
                reward_mean: None,
                reward_std: None,
                invalid_rate: None,
                zero_spread_groups: None,
                skipped_groups: None,
                gradient_norm: taken.gradient_norm,
                clipped: taken.clipped,
                learning_rate,
                groups: groups.len().max(if groups.is_empty() { pixels.len() } else { 0 }) as u32,
                completions: groups.len() as u32,
                tokens: groups.iter().flat_map(|group| &group.completions).map(|it| it.len() as u64).sum(),
            });
            if index % 25 == 0 || index + 1 == steps.len() {
                tracing::info!(
                    "step {index}: loss {reply_loss:.4}, probe {probe_loss:.4}, norm {:.3}",
                    taken.gradient_norm
                );
            }
            progress.add(1);
        }
        Ok(updates)
    }
}

fn below_1(text: &str) -> Result<f64, String> {
    at_least_0(text).ok().filter(|it| *it < 1.0).ok_or_else(|| "expected a number from 0 to under 1".to_owned())
}

/// The pictures `ids` as the policy sees them, in order.
fn pixels(policy: &Policy, pictures: &Pictures, ids: &[ImageId]) -> anyhow::Result<Vec<Pixels>> {
    ids.par_iter().map(|id| Ok(policy.processor.pixels(&pictures.load(id)?)?)).collect()
}

/// Runs the stage on this process's arguments.
pub fn main() -> ExitCode {
    evoq_stage::main::<Args>()
}
