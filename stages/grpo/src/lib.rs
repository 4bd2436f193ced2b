//! Trains a policy by GRPO on pseudo-labels: Eq. 2 to 6 of EvoQuality, in the `token` form.
//!
//! An update takes labelled pairs, draws K ratings of each of their pictures from the current policy, rewards each rating by
//! how well it agrees with the labels (Eq. 2, 3), compares it with the others of its picture (Eq. 4), and takes one step.
//!
//! Departures from the paper, each with its reason in `docs/paper.md`: the partners of a picture are those of its pairs
//! within the update; the loss is a mean over tokens, then over completions; the reference policy is the one at the start.

mod advantage;
mod batch;
mod loss;
mod reward;
mod update;

use std::process::ExitCode;

use candle_core::Device;
use evoq_pictures::Pictures;
use evoq_policy::optimizer::{AdamW, Hyper, Schedule};
use evoq_policy::sample::Sampling;
use evoq_policy::{Policy, Question, Reasoning, Task};
use evoq_schemas::{Label, Rollout, Update};
use evoq_stage::range::{at_least_0, count, positive};
use evoq_stage::{Input, Job, Kind, Output, Stage, bad_input};
use serde::Serialize;

use crate::batch::batches;
use crate::update::Trainer;

/// The flags of `evoq-grpo`. Defaults: P the paper, V VisualQuality-R1's code, T TRL, H Hugging Face's trainer, O our own.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Args {
    /// K: completions of each picture (P)
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(2..))]
    pub samples: u16,
    /// Labelled pairs an update (P: 4 a device on 8 devices)
    #[arg(long, default_value_t = 32, value_parser = count)]
    pub pairs_per_update: usize,
    /// Peak learning rate, falling in a straight line to 0 (P; for 7B: a policy of a million weights needs about 3e-4)
    #[arg(long, default_value_t = 3e-7, value_parser = at_least_0::<f64>)]
    pub learning_rate: f64,
    /// AdamW's decoupled weight decay (H)
    #[arg(long, default_value_t = 0.0, value_parser = at_least_0::<f64>)]
    pub weight_decay: f64,
    /// Largest norm of the gradient (H)
    #[arg(long, default_value_t = 1.0, value_parser = positive::<f64>)]
    pub clip: f64,
    /// β: weight of the divergence from the reference policy (P)
    #[arg(long, default_value_t = 0.05, value_parser = at_least_0::<f64>)]
    pub beta: f64,
    /// ε: how far the ratio may leave 1 (T)
    #[arg(long, default_value_t = 0.2, value_parser = positive::<f64>)]
    pub epsilon: f64,
    /// γ: added to the variance in Eq. 2 (V)
    #[arg(long, default_value_t = 1e-6, value_parser = positive::<f64>)]
    pub gamma: f64,
    /// Added inside each root of Eq. 3 (P: 0; V: 1e-6)
    #[arg(long, default_value_t = 0.0, value_parser = at_least_0::<f64>)]
    pub root_epsilon: f64,
    /// Whether the prompt ends in the reasoning suffix (P)
    #[arg(long, value_enum, default_value = "on")]
    pub reasoning: Reasoning,
    /// Temperature of the completions (O)
    #[arg(long, default_value_t = 1.0, value_parser = positive::<f64>)]
    pub temperature: f64,
    /// Longest completion in tokens (O)
    #[arg(long, default_value_t = 512, value_parser = count)]
    pub max_tokens: usize,
    /// Seed of the order of pairs and of the completions
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Stage for Args {
    const NAME: &'static str = "grpo";
    const VERSION: u32 = 2;
    const ABOUT: &'static str =
        "Trains a policy by GRPO on pseudo-labels (Eq. 2 to 6): the new policy, its rollouts and updates";
    const INPUTS: &'static [Input] = &[
        Input { name: "labels", kind: Kind::Table("labels"), required: true, help: "The pseudo-labels" },
        Input {
            name: "images",
            kind: Kind::Table("images"),
            required: true,
            help: "The labels' pictures, with the references of recipes",
        },
        Input {
            name: "policy",
            kind: Kind::Policy,
            required: true,
            help: "The policy to train; also the reference policy",
        },
    ];
    const OUTPUTS: &'static [Output] = &[
        Output { name: "policy", kind: Kind::Policy },
        Output { name: "rollouts", kind: Kind::Table("rollouts") },
        Output { name: "updates", kind: Kind::Table("updates") },
    ];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        let labels: Vec<Label> = job.rows("labels")?;
        let pictures = Pictures::open(job.artifacts("images"))?;
        let batches = batches(&labels, self.pairs_per_update, self.seed);
        if batches.is_empty() {
            return Err(bad_input(format!(
                "--labels: none of the {} pairs has a label; nothing to learn from",
                labels.len()
            )));
        }
        let policy = Policy::load(&job.policy("policy")?.folder, &Device::Cpu)
            .map_err(|error| bad_input(format!("--policy: {error}")))?;
        let sampling = Sampling { temperature: self.temperature, max_tokens: self.max_tokens, ..Sampling::default() };
        let trainer = Trainer {
            args: self,
            reference: policy.frozen()?,
            policy: &policy,
            pictures: &pictures,
            question: Question::new(Task::Score, self.reasoning),
            sampling,
        };
        let hyper = Hyper { weight_decay: self.weight_decay, clip: Some(self.clip), ..Hyper::default() };
        let vars = policy.weights.iter().map(|(name, var)| (name.to_owned(), var.clone()));
        let mut optimizer = AdamW::new(vars, hyper)?;
        let mut rollouts = job.write::<Rollout>();
        let mut updates: Vec<Update> = Vec::with_capacity(batches.len());
        let progress = job.progress("updates", batches.len() as u64);
        for (index, batch) in batches.iter().enumerate() {
            job.check()?;
            let learning_rate = Schedule::Linear.learning_rate(self.learning_rate, index, batches.len());
            let (rows, update) = trainer.update(&mut optimizer, index as u32, batch, learning_rate)?;
            for row in rows {
                rollouts.push(row)?;
            }
            if index % 10 == 0 || index + 1 == batches.len() {
                tracing::info!(
                    "update {index}: reward {:.4} (spread {:.4}), kl {:.4}, invalid {:.3}, norm {:.3}",
                    update.reward_mean.unwrap_or(f64::NAN),
                    update.reward_std.unwrap_or(f64::NAN),
                    update.kl.unwrap_or(f64::NAN),
                    update.invalid_rate.unwrap_or(f64::NAN),
                    update.gradient_norm,
                );
            }
            updates.push(update);
            progress.add(1);
        }
        job.close(rollouts)?;
        job.write_all(updates)?;
        let folder = job.scratch_folder()?;
        policy.save(folder.path())?;
        job.put_policy(folder.path())
    }
}

/// Runs the stage on this process's arguments.
pub fn main() -> ExitCode {
    evoq_stage::main::<Args>()
}
