//! Warm-starts a policy: teaches it the form of its replies from demonstrations, or its vision tower what flaws look like.
//!
//! Two objectives. `reply` learns the demonstrations' replies, a step's examples at a time; `probe` trains the vision tower
//! alone, through a throw-away linear probe that names distortion and severity. With `--init` the weights are made and the
//! tokenizer is trained on the demonstrations' text first.

mod examples;
mod probe;
mod start;
mod train;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use evoq_pictures::Pictures;
use evoq_policy::Reasoning;
use evoq_schemas::Demonstration;
use evoq_stage::range::{at_least_0, count, positive};
use evoq_stage::{Input, Job, Keeping, Kind, Output, Stage, bad_input};
use serde::Serialize;

use crate::examples::{probe_steps, reply_steps};
use crate::probe::Flaws;
use crate::train::{Material, train};

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
    /// What training leaves while it runs.
    #[command(flatten)]
    #[serde(skip)]
    pub keeping: Keeping,
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
        train(self, job, &Material { policy: &policy, pictures: &pictures, flaws: &flaws, steps: &steps })?;
        let folder = job.scratch_folder()?;
        policy.save(folder.path())?;
        job.put_policy(folder.path())
    }
}

fn below_1(text: &str) -> Result<f64, String> {
    at_least_0(text).ok().filter(|it| *it < 1.0).ok_or_else(|| "expected a number from 0 to under 1".to_owned())
}

/// Runs the stage on this process's arguments.
pub fn main() -> ExitCode {
    evoq_stage::main::<Args>()
}
