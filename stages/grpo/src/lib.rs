//! Trains a policy by GRPO on pseudo-labels: Eq. 2 to 6 of EvoQuality.
//!
//! An update takes labelled pairs, draws K ratings of each of their pictures from the current policy, rewards each rating by
//! how well it agrees with the labels (Eq. 2, 3), compares it with the others of its picture (Eq. 4), and takes one step.
//! `rewards` recomputes Eq. 2 to 4 from the stored ratings under other constants.
//!
//! Departures from the paper, each with its reason in `docs/paper.md`: the partners of a picture are those of its pairs
//! within the update; the loss is a mean over tokens, then over completions, unless `--objective sequence` is given; the
//! reference policy is the one at the start.

pub mod advantage;
mod args;
mod batch;
mod check;
mod earn;
mod estimate;
mod form;
mod intake;
pub mod loss;
mod reward;
mod rewards;
mod rows;
mod train;
mod update;

use std::ffi::OsString;
use std::process::ExitCode;

use evoq_stage::{Input, Job, Kind, Output, Stage};

pub use crate::args::Args;
use crate::rewards::Rewards;

impl Stage for Args {
    const NAME: &'static str = "grpo";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "Trains a policy by GRPO on pseudo-labels (Eq. 2 to 6): the new policy, its rollouts and updates.\n\
        Defaults: P the paper, V VisualQuality-R1's code, T TRL, H Hugging Face's trainer, O our own.\n\
        What other constants would have earned: evoq-grpo rewards --help. Memory, without running: evoq-grpo --estimate 7b";
    const INPUTS: &'static [Input] = &[
        Input { name: "labels", kind: Kind::Table("labels"), required: false, help: "The pseudo-labels of pairs" },
        Input {
            name: "targets",
            kind: Kind::Table("targets"),
            required: false,
            help: "The pseudo-scores of pictures, in place of labels: for --reward absolute",
        },
        Input {
            name: "images",
            kind: Kind::Table("images"),
            required: true,
            help: "The pictures of labels or targets, with the references of recipes",
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
        train::train(self, job)
    }
}

/// Runs the stage, or the one that this process's first argument names.
pub fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|it| it == "rewards") {
        // The name that usage texts begin with.
        arguments.splice(..2, ["evoq-grpo rewards".into()]);
        return evoq_stage::main_from::<Rewards>(arguments);
    }
    let is_estimate = |it: &OsString| it.to_str().is_some_and(|it| it == "--estimate" || it.starts_with("--estimate="));
    if arguments.iter().any(is_estimate) {
        return evoq_stage::by_hand(Args::NAME, || estimate::text(&arguments));
    }
    evoq_stage::main_from::<Args>(arguments)
}
