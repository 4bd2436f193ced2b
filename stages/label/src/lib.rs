//! Turns votes into pseudo-labels by majority, Eq. 1: one row a pair, in the order of the pairs' first votes.
//!
//! Only valid votes count. A pair without enough of them is listed without a label; it is not a tie.

mod control;
mod majority;
mod tally;

use std::fmt;
use std::process::ExitCode;

use clap::ValueEnum;
use evoq_schemas::{Control, Label, LabelMethod, Vote};
use evoq_stage::{Input, Job, Kind, Output, Stage, bad_input};
use serde::Serialize;

use crate::control::shuffle;
use crate::majority::preference;
use crate::tally::PairVotes;

/// What is done to the labels after the vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shuffling {
    /// Nothing.
    None,
    /// p* is permuted over the labelled pairs: the control, which must teach nothing.
    Shuffled,
}

/// The flags of `evoq-label`.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Args {
    /// Fewest valid votes for a label; a pair with fewer is listed without one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub quorum: u32,
    /// `shuffled` permutes the labels over the labelled pairs: a control
    #[arg(long, value_enum, default_value = "none")]
    pub control: Shuffling,
    /// Seed of the shuffled control
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

impl Stage for Args {
    const NAME: &'static str = "label";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Turns votes into pseudo-labels by majority (Eq. 1); one row a pair";
    const INPUTS: &'static [Input] =
        &[Input { name: "votes", kind: Kind::Table("votes"), required: true, help: "The votes to count" }];
    const OUTPUTS: &'static [Output] = &[Output { name: "labels", kind: Kind::Table("labels") }];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        let mut parts = Vec::new();
        for artifact in job.artifacts("votes") {
            for part in artifact.parts::<Vote>()? {
                job.check()?;
                parts.push(tally::count(&part.rows(&[])?)?);
            }
        }
        let pairs = tally::rows(&tally::add(parts)?)?.map_err(|pair| {
            bad_input(format!(
                "--votes: pair `{pair}` has votes on two different pairs of pictures; give each pair its own id"
            ))
        })?;
        if pairs.is_empty() {
            return Err(bad_input("--votes: the table has no rows; there is nothing to count"));
        }
        let mut labels: Vec<Label> = pairs.into_iter().map(|pair| self.label(pair)).collect();
        if self.control == Shuffling::Shuffled {
            shuffle(&mut labels, self.seed);
        }
        let summary = Summary::of(&labels);
        tracing::info!("{summary}");
        if summary.labelled == 0 {
            tracing::warn!(
                "no pair has {} valid votes or more: there is nothing to learn from these labels",
                self.quorum
            );
        }
        job.write_all(labels)
    }
}

impl Args {
    /// The row of a pair.
    fn label(&self, pair: PairVotes) -> Label {
        let valid = pair.votes_a + pair.votes_b;
        let share = |votes: u32| (valid > 0).then(|| f64::from(votes) / f64::from(valid));
        Label {
            preference: preference(pair.votes_a, pair.votes_b, self.quorum),
            agreement: share(pair.votes_a.max(pair.votes_b)),
            first_rate: share(pair.votes_first),
            pair_id: pair.pair_id,
            image_a: pair.image_a,
            image_b: pair.image_b,
            votes_a: pair.votes_a,
            votes_b: pair.votes_b,
            votes_invalid: pair.votes_invalid,
            method: LabelMethod::Majority,
            control: match self.control {
                Shuffling::None => Control::None,
                Shuffling::Shuffled => Control::Shuffled,
            },
        }
    }
}

/// What the labels look like as a whole, for people.
struct Summary {
    pairs: usize,
    labelled: usize,
    ties: usize,
    agreement: f64,
}

impl Summary {
    fn of(labels: &[Label]) -> Self {
        let preferences = || labels.iter().filter_map(|label| label.preference);
        let agreements: Vec<f64> = labels.iter().filter_map(|label| label.agreement).collect();
        Self {
            pairs: labels.len(),
            labelled: preferences().count(),
            ties: preferences().filter(|it| *it == 0.5).count(),
            agreement: agreements.iter().sum::<f64>() / agreements.len().max(1) as f64,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pairs, labelled, ties, agreement } = self;
        let without = pairs - labelled;
        write!(
            f,
            "{labelled} of {pairs} pairs have a label, {ties} of them a tie, {without} are without quorum; on average {:.1} % of \
             a pair's valid votes agree",
            100.0 * agreement
        )
    }
}

/// Runs the stage on this process's arguments.
pub fn main() -> ExitCode {
    evoq_stage::main::<Args>()
}
