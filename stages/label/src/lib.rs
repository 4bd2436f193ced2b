//! Turns votes into pseudo-labels by majority, Eq. 1: one row a pair, in the order of the pairs' first votes. Or, as the paper's
//! ablation, ratings into pseudo-scores: one row a picture.
//!
//! Only valid votes count. A pair without enough of them is listed without a label; it is not a tie.

mod chances;
mod control;
mod estimate;
mod majority;
mod mean_score;
mod report;
mod tally;
mod triangles;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::ValueEnum;
use evoq_schemas::{Control, Image, Label, LabelMethod, Score, Vote};
use evoq_stage::{Input, Job, Kind, Output, Stage, bad_input};
use serde::Serialize;

use crate::chances::{Order, chances, mean};
use crate::control::shuffle;
use crate::majority::{Open, exact_preference, open, preference};
use crate::mean_score::Ratings;
use crate::report::{Flaws, Printed, report};
use crate::tally::{Fault, PairVotes};

/// How pseudo-labels are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The majority of a pair's votes (P), or the side that exact probabilities lean to: table `labels`. Needs --votes.
    Majority,
    /// The mean of a picture's sampled ratings as its pseudo-MOS (P, the ablation `EvoEstimate`): table `targets`. Needs
    /// --scores.
    MeanScore,
}

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
    /// How pseudo-labels are made
    #[arg(long, value_enum, default_value = "majority")]
    pub method: Method,
    /// Fewest valid votes for a label, or valid ratings for a pseudo-MOS; what has fewer is listed without one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub quorum: u32,
    /// Where votes are exact: K of the sampled votes whose outcomes are worked out from them, at most 1024 (P)
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub samples: u16,
    /// Where votes are exact: which picture those sampled votes show first (P permutes)
    #[arg(long, value_enum, default_value = "per-vote")]
    pub order: Order,
    /// `shuffled` permutes the labels over the labelled pairs: a control
    #[arg(long, value_enum, default_value = "none")]
    pub control: Shuffling,
    /// Seed of the shuffled control
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

impl Stage for Args {
    const NAME: &'static str = "label";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "Turns votes into pseudo-labels by majority (Eq. 1), one row a pair, and reports on the votes; \
        or ratings into pseudo-scores, one row a picture";
    const INPUTS: &'static [Input] = &[
        Input {
            name: "votes",
            kind: Kind::Table("votes"),
            required: false,
            help: "The votes to count, for --method majority",
        },
        Input {
            name: "scores",
            kind: Kind::Table("scores"),
            required: false,
            help: "The sampled ratings to average, for --method mean-score",
        },
        Input {
            name: "images",
            kind: Kind::Table("images"),
            required: false,
            help: "The votes' variants, for the report by distortion type and severity; labels do not depend on it",
        },
    ];
    const OUTPUTS: &'static [Output] = &[
        Output { name: "labels", kind: Kind::Table("labels") },
        Output { name: "label_report", kind: Kind::Table("label_report") },
        Output { name: "targets", kind: Kind::Table("targets") },
    ];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        match self.method {
            Method::Majority => self.labels(job),
            Method::MeanScore => self.targets(job),
        }
    }
}

impl Args {
    /// From votes to `labels` and `label_report`.
    fn labels(&self, job: &mut Job) -> anyhow::Result<()> {
        needs(job, "majority", "votes", "scores")?;
        let (mut parts, mut reasons) = (Vec::new(), BTreeMap::new());
        for artifact in job.artifacts("votes") {
            for part in artifact.parts::<Vote>()? {
                job.check()?;
                let votes = part.rows(&["reply"])?;
                parts.push(tally::count(&votes)?);
                tally::add_reasons(&mut reasons, &votes);
            }
        }
        let pairs = tally::rows(&tally::add(parts)?)?.map_err(|fault| bad_input(said(&fault)))?;
        if pairs.is_empty() {
            return Err(bad_input("--votes: the table has no rows; there is nothing to count"));
        }
        let labels: Result<Vec<Label>, String> = pairs.iter().map(|pair| self.label(pair)).collect();
        let mut labels = labels.map_err(bad_input)?;
        let rows = report(&pairs, &labels, &reasons, &flaws(job)?);
        for line in Printed(&rows).to_string().lines() {
            tracing::info!("{line}");
        }
        if labels.iter().all(|label| label.preference.is_none()) {
            tracing::warn!(
                "no pair has {} valid votes or more: there is nothing to learn from these labels",
                self.quorum
            );
        }
        if labels.iter().any(|label| label.votes_absent > 0) {
            tracing::info!(
                "votes were stopped early: the labels are those of all votes; agreement, split halves and alpha are of the votes \
                 cast"
            );
        }
        if self.control == Shuffling::Shuffled {
            shuffle(&mut labels, self.seed);
        }
        job.write_all(labels)?;
        job.write_all(rows)
    }

    /// The row of a pair; refused where votes that are missing could have made it another.
    fn label(&self, pair: &PairVotes) -> Result<Label, String> {
        let [votes_a, votes_b] = pair.sides();
        let (valid, absent) = (pair.valid(), pair.absent());
        let whole = || format!("--votes: pair `{}` has {} of {} votes", pair.pair_id, pair.cast, pair.asked);
        match open(votes_a, votes_b, absent, self.quorum) {
            None => {}
            Some(Open::Majority) => {
                return Err(format!(
                    "{}, {votes_a} for one side and {votes_b} for the other, and the missing ones could change its label; give all of the \
                     votes",
                    whole()
                ));
            }
            Some(Open::Quorum) => {
                return Err(format!(
                    "{}, {valid} of them valid, and whether all would have reached --quorum {} is not known: they were cast for a smaller \
                     one; ask for a quorum of {valid} or less, or vote with --quorum {}",
                    whole(),
                    self.quorum,
                    self.quorum
                ));
            }
        }
        let share = |votes: u32| (valid > 0).then(|| f64::from(votes) / f64::from(valid));
        let chances = pair.exact.map(|exact| chances(exact, self.samples, self.order, self.quorum));
        let exact = pair.exact.map(|[ab, ba]| mean(ab, ba));
        let (method, preference) = match exact {
            Some([a, b]) if pair.cast == 0 => (LabelMethod::Exact, exact_preference(a, b)),
            _ => (LabelMethod::Majority, preference(votes_a, votes_b, self.quorum)),
        };
        Ok(Label {
            pair_id: pair.pair_id.clone(),
            image_a: pair.image_a.clone(),
            image_b: pair.image_b.clone(),
            preference,
            votes_a,
            votes_b,
            votes_invalid: pair.invalid,
            votes_absent: absent,
            agreement: share(votes_a.max(votes_b)),
            first_rate: share(pair.first()),
            probability_a: exact.filter(|[a, b]| a + b > 0.0).map(|[a, b]| a / (a + b)),
            chance_a: chances.map(|it| it.a),
            chance_tie: chances.map(|it| it.tie),
            chance_b: chances.map(|it| it.b),
            method,
            control: match self.control {
                Shuffling::None => Control::None,
                Shuffling::Shuffled => Control::Shuffled,
            },
        })
    }

    /// From ratings to `targets`.
    fn targets(&self, job: &mut Job) -> anyhow::Result<()> {
        needs(job, "mean-score", "scores", "votes")?;
        if self.control == Shuffling::Shuffled {
            return Err(bad_input("--control shuffled is for the labels of pairs; --method mean-score makes none"));
        }
        let mut ratings = Ratings::default();
        for artifact in job.artifacts("scores") {
            for part in artifact.parts::<Score>()? {
                job.check()?;
                ratings.add(&part.rows(&[])?).map_err(|[one, other]| {
                    bad_input(format!("--scores: ratings of two policies, {one} and {other}; give those of one"))
                })?;
            }
        }
        let targets = ratings.targets(self.quorum);
        if targets.is_empty() {
            return Err(bad_input("--scores: no sampled rating; rate with `evoq score --samples 32`"));
        }
        let scored = targets.iter().filter(|it| it.pseudo_mos.is_some()).count();
        let (valid, invalid) = targets.iter().fold((0, 0), |sum, it| (sum.0 + it.valid, sum.1 + it.invalid));
        tracing::info!(
            "{scored} of {} pictures have a pseudo-MOS; {valid} ratings are valid, {invalid} are not",
            targets.len()
        );
        job.write_all(targets)
    }
}

/// Checks that the input which `method` reads was given, and the `other` was not.
fn needs(job: &Job, method: &str, input: &str, other: &str) -> anyhow::Result<()> {
    if !job.has(input) {
        return Err(bad_input(format!("--{input} was not given; --method {method} reads it")));
    }
    if job.has(other) {
        return Err(bad_input(format!("--{other} was given; --method {method} does not read it: leave it out")));
    }
    Ok(())
}

/// The distortion types and severities of the variants in `--images`.
fn flaws(job: &Job) -> anyhow::Result<Flaws> {
    let rows: Vec<Image> = job.rows_without("images", &["image"])?;
    Ok(rows.into_iter().filter_map(|row| Some((row.image_id, (row.distortion?, row.severity?)))).collect())
}

fn said(fault: &Fault) -> String {
    match fault {
        Fault::TwoPairs(pair) => {
            format!("--votes: pair `{pair}` has votes on two different pairs of pictures; give each pair its own id")
        }
        Fault::NoVote0(pair) => {
            format!(
                "--votes: pair `{pair}` has votes and no vote 0, which says how many there should be; give all of them"
            )
        }
        Fault::OneOrder(pair) => {
            format!("--votes: pair `{pair}` has exact probabilities in one order only; give both")
        }
    }
}

/// Runs the stage on this process's arguments.
pub fn main() -> ExitCode {
    evoq_stage::main::<Args>()
}
