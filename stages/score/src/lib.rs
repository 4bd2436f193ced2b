//! Asks a policy to rate pictures, for evaluation: one greedy reply a picture, and `--samples` sampled ones beside it.
//!
//! A reply without a rating is invalid, with a reason; it is counted and never filled in.

use std::process::ExitCode;

use candle_core::Device;
use evoq_pictures::Pictures;
use evoq_policy::sample::{Asked, Completion, Draw, Request, Sampling};
use evoq_policy::{Features, Policy, Prompt, Question, Reasoning, Task, parse_score};
use evoq_schemas::draws::key;
use evoq_schemas::{Decoding, ImageId, Score, ScoreMethod};
use evoq_stage::range::{count, positive};
use evoq_stage::{Input, Job, Kind, Output, Stage, UnitEnd, bad_input};
use rayon::prelude::*;
use serde::Serialize;

/// Pictures of a unit.
const UNIT: usize = 256;

/// Pictures that are asked about in one call: the replies are decoded side by side.
const SIDE_BY_SIDE: usize = 32;

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
}

impl Stage for Args {
    const NAME: &'static str = "score";
    const VERSION: u32 = 2;
    const ABOUT: &'static str =
        "Asks a policy to rate pictures on 1..5: one greedy reply each, and --samples sampled ones";
    const DIVIDES: bool = true;
    const INPUTS: &'static [Input] = &[
        Input {
            name: "images",
            kind: Kind::Table("images"),
            required: true,
            help: "The pictures to rate: all variants where there are any, else all pictures",
        },
        Input { name: "policy", kind: Kind::Policy, required: true, help: "The policy to ask" },
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
        let input = job.policy("policy")?;
        let policy =
            Policy::load(&input.folder, &Device::Cpu).map_err(|error| bad_input(format!("--policy: {error}")))?;
        let question = Question::new(Task::Score, self.reasoning);
        let rater = Rater { args: self, policy: &policy, digest: input.digest, question };
        let units = job.units("pictures", ids.len(), UNIT, |unit, rows, progress| {
            let (mut valid, mut replies) = (0u64, 0u64);
            for ids in ids[rows].chunks(SIDE_BY_SIDE) {
                for score in rater.rate(&pictures, ids)? {
                    replies += 1;
                    valid += u64::from(score.score.is_some());
                    unit.push(score)?;
                }
                progress.add(ids.len() as u64);
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
}

/// What stays the same from picture to picture.
struct Rater<'a> {
    args: &'a Args,
    policy: &'a Policy,
    digest: String,
    question: Question,
}

impl Rater<'_> {
    /// The replies about each picture: the greedy one, then the sampled ones.
    fn rate(&self, pictures: &Pictures, ids: &[ImageId]) -> anyhow::Result<Vec<Score>> {
        let looked = ids.par_iter().map(|id| {
            let pixels = self.policy.processor.pixels(&pictures.load(id)?)?;
            Ok((self.policy.prompt(&self.question, &[pixels.grid])?, self.policy.look(&pixels)?))
        });
        let looked: Vec<(Prompt, Features)> = looked.collect::<anyhow::Result<_>>()?;
        let request = |(id, (prompt, features))| Request {
            asked: Asked { prompt, features: vec![features] },
            draws: std::iter::once(Draw::Greedy).chain((0..self.args.samples).map(|k| self.draw(id, k))).collect(),
        };
        let requests: Vec<Request> =
            ids.iter().zip(looked.iter().map(|(prompt, seen)| (prompt, seen))).map(request).collect();
        let sampling =
            Sampling { temperature: self.args.temperature, max_tokens: self.args.max_tokens, ..Sampling::default() };
        let mut scores = Vec::with_capacity(ids.len() * (1 + usize::from(self.args.samples)));
        for (id, replies) in ids.iter().zip(self.policy.sample(&requests, &sampling)?) {
            let decodings = std::iter::once((Decoding::Greedy, 0)).chain((0..).map(|k| (Decoding::Sampled, k)));
            scores.extend(replies.into_iter().zip(decodings).map(|(reply, (how, k))| self.score(id, how, k, reply)));
        }
        Ok(scores)
    }

    /// The draws of sampled reply `k` about a picture, keyed by what they are for.
    fn draw(&self, id: &ImageId, k: u16) -> Draw {
        Draw::Key(key(self.args.seed, "score", &[id.as_str(), &k.to_string()]))
    }

    fn score(&self, id: &ImageId, decoding: Decoding, sample: u16, reply: Completion) -> Score {
        let parsed = parse_score(&reply.text);
        Score {
            image_id: id.clone(),
            policy: self.digest.clone(),
            sample,
            decoding,
            score: parsed.ok(),
            invalid_reason: parsed.err().map(|reason| reason.as_str().to_owned()),
            tokens: reply.ids.len() as u32,
            reply: reply.text,
            method: ScoreMethod::Policy,
        }
    }
}

/// Runs the stage on this process's arguments.
pub fn main() -> ExitCode {
    evoq_stage::main::<Args>()
}
