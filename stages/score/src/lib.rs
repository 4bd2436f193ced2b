//! Asks a policy to rate pictures, for evaluation: one greedy reply a picture, and `--samples` sampled ones beside it.
//!
//! A reply without a rating is invalid, with a reason; it is counted and never filled in. Beside policies, the measures NIQE and
//! BRISQUE score pictures, and the scores of other tools can be imported.

mod builtin;
mod fit;
mod handcrafted;
mod import;
#[cfg(test)]
mod mutations;
mod server;

use std::ffi::OsString;
use std::ops::Range;
use std::process::ExitCode;

use evoq_openai::{Engine, Flags, Server};
use evoq_pictures::Pictures;
use evoq_policy::{Answerer, Error, InvalidReply, Place, Question, Reasoning, Task, parse_score};
use evoq_schemas::{Decoding, ImageId, Score, ScoreMethod};
use evoq_stage::range::{count, positive};
use evoq_stage::{Input, Job, Kind, Output, Stage, UnitEnd, bad_input};
use serde::Serialize;

use crate::builtin::{Builtin, SIDE_BY_SIDE};
use crate::server::Served;

/// Pictures of a unit.
const UNIT: usize = 256;

/// The flags of `evoq-score`. Defaults: P the paper, O our own.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Args {
    /// Sampled replies a picture, beside the greedy one; their mean has far fewer ties
    #[arg(long, default_value_t = 0)]
    pub samples: u16,
    /// Whether the prompt ends in the reasoning suffix (P)
    #[arg(long, value_enum, default_value = "on")]
    pub reasoning: Reasoning,
    /// Temperature of the sampled replies (O)
    #[arg(long, default_value_t = 1.0, value_parser = positive::<f64>)]
    pub temperature: f64,
    /// Longest reply in tokens (O)
    #[arg(long, default_value_t = 512, value_parser = count)]
    pub max_tokens: usize,
    /// Seed of the sampled replies
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the built-in policy runs: the CPU in f32, or CUDA in bf16 (O)
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: Place,
    /// What replies.
    #[command(flatten)]
    #[serde(flatten)]
    pub engine: Flags,
    /// What scores in place of a policy.
    #[command(flatten)]
    #[serde(flatten)]
    pub handcrafted: handcrafted::Flags,
}

impl Stage for Args {
    const NAME: &'static str = "score";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Asks a policy to rate pictures on 1..5: one greedy reply each, and --samples sampled ones.\n\
        Or scores them by NIQE or BRISQUE (--method), or takes the scores of another tool (--import)";
    const DIVIDES: bool = true;
    const INPUTS: &'static [Input] = &[
        Input {
            name: "images",
            kind: Kind::Table("images"),
            required: true,
            help: "The pictures to rate: all variants where there are any, else all pictures",
        },
        Input {
            name: "policy",
            kind: Kind::Policy,
            required: false,
            help: "The policy to ask, where no server or measure is",
        },
    ];
    const OUTPUTS: &'static [Output] = &[Output { name: "scores", kind: Kind::Table("scores") }];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        let pictures = Pictures::open(job.artifacts("images"))?;
        // Recipes need their references beside them, which are then there to be looked up, not to be rated.
        let has_variants = pictures.rows().iter().any(|row| row.reference_id.is_some());
        let rated = pictures.rows().iter().filter(|row| row.reference_id.is_some() == has_variants);
        let ids: Vec<ImageId> = rated.map(|row| row.image_id.clone()).collect();
        if ids.is_empty() {
            return Err(bad_input("--images: the table has no rows; there is nothing to rate"));
        }
        self.handcrafted.check(job.has("policy") || self.engine.engine == Engine::Openai)?;
        if let Some(file) = &self.handcrafted.import {
            return import::run(file, self.handcrafted.lower_better, job, &pictures, &ids);
        }
        if !self.handcrafted.asks_policy() {
            return handcrafted::run(&self.handcrafted, job, &pictures, &ids);
        }
        let question = Question::new(Task::Score, self.reasoning);
        match self.engine.engine {
            Engine::Policy => {
                self.engine.check_unused()?;
                let input = job.policy("policy")?;
                let policy = Answerer::load(&input.folder, self.device).map_err(|error| {
                    let flag = if matches!(error, Error::NoDevice { .. }) { "device" } else { "policy" };
                    bad_input(format!("--{flag}: {error}"))
                })?;
                let rater = Builtin { args: self, policy: &policy, digest: input.digest, question };
                rate(job, ids.len(), SIDE_BY_SIDE, |rows| rater.rate(&pictures, &ids[rows]))
            }
            Engine::Openai => {
                if job.has("policy") {
                    return Err(bad_input(
                        "--policy with --engine openai: the server has a policy of its own; leave out one",
                    ));
                }
                let server = Server::connect(&self.engine, 1)?;
                let rater = Served { args: self, server: &server, question };
                // Few requests are waited for at the end of a call, measured by all that are made in it.
                rate(job, ids.len(), 4 * self.engine.concurrency, |rows| rater.rate(&pictures, &ids, rows))
            }
        }
    }
}

/// Writes the scores of `pictures` pictures, which `rate` gives for those at some positions, up to `side_by_side` at a time.
fn rate(
    job: &mut Job,
    pictures: usize,
    side_by_side: usize,
    rate: impl Fn(Range<usize>) -> anyhow::Result<Vec<Score>>,
) -> anyhow::Result<()> {
    let units = job.units("pictures", pictures, UNIT, |unit, rows, progress| {
        let (mut valid, mut replies) = (0u64, 0u64);
        for start in rows.clone().step_by(side_by_side) {
            let part = start..rows.end.min(start + side_by_side);
            let done = part.len() as u64;
            for score in rate(part)? {
                replies += 1;
                valid += u64::from(score.score.is_some());
                unit.push(score)?;
            }
            progress.add(done);
        }
        unit.note((valid, replies));
        Ok(UnitEnd::Done)
    })?;
    let Some(units) = units else { return Ok(()) };
    let counts: Vec<(u64, u64)> = units.notes()?;
    let (valid, replies) = counts.iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    tracing::info!("{valid} of {replies} replies are valid");
    job.close_units::<Score>(&units)
}

/// How a picture's replies are decoded, and which each is among those: one greedy, then sampled ones.
fn decodings() -> impl Iterator<Item = (Decoding, u16)> {
    std::iter::once((Decoding::Greedy, 0)).chain((0..).map(|k| (Decoding::Sampled, k)))
}

/// The row of a reply, which is its text and how many tokens it has, or of one that was lost, and why.
fn score(
    id: &ImageId,
    policy: &str,
    (decoding, sample): (Decoding, u16),
    reply: Result<(String, u32), &'static str>,
) -> Score {
    let parsed = match &reply {
        Ok((text, _)) => parse_score(text).map_err(InvalidReply::as_str),
        Err(lost) => Err(*lost),
    };
    let (text, tokens) = reply.unwrap_or_default();
    Score {
        image_id: id.clone(),
        policy: policy.to_owned(),
        sample,
        decoding,
        score: parsed.ok(),
        invalid_reason: parsed.err().map(str::to_owned),
        tokens,
        reply: text,
        method: ScoreMethod::Policy,
    }
}

/// Runs the stage, or with `--fit` and no pictures fits NIQE's parameters, on this process's arguments.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if fit::is_asked_for(&arguments) {
        evoq_stage::by_hand(Args::NAME, || fit::by_hand(&arguments))
    } else {
        evoq_stage::main_from::<Args>(arguments)
    }
}
