//! Asks a policy to compare pairs of pictures, K times each: one row a vote, the reply kept as it was.
//!
//! A reply that names no side is an invalid vote with a reason; it is counted and never filled in.

mod order;
mod tally;

use std::collections::HashMap;
use std::process::ExitCode;

use candle_core::Device;
use evoq_pictures::Pictures;
use evoq_policy::answer::answer_tokens;
use evoq_policy::policy::Features;
use evoq_policy::sample::{Asked, Completion, Draw, Finish, Request, Sampling};
use evoq_policy::{Policy, Prompt, Question, Reasoning, Side, Task, parse_comparison};
use evoq_schemas::draws::key;
use evoq_schemas::{ImageId, Outcome, Pair, Presented, Vote};
use evoq_stage::range::{count, positive, share};
use evoq_stage::{Input, Job, Kind, Output, Stage, UnitEnd, bad_input};
use rayon::prelude::*;
use serde::Serialize;

use crate::order::Order;
use crate::tally::Tally;

/// Pairs of a unit: the features of their pictures are kept for as long.
const UNIT: usize = 256;

/// Pairs that are asked about in one call: their votes are decoded side by side.
const SIDE_BY_SIDE: usize = 16;

/// The flags of `evoq-vote`. Defaults: P the paper, O our own.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Args {
    /// K: votes a pair (P)
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub samples: u16,
    /// Which picture is shown first (P permutes)
    #[arg(long, value_enum, default_value = "per-vote")]
    pub order: Order,
    /// Fail when fewer than this share of the votes is valid (O)
    #[arg(long, default_value_t = 0.5, value_parser = share::<f64>)]
    pub min_valid_rate: f64,
    /// Whether the prompt ends in the reasoning suffix (P)
    #[arg(long, value_enum, default_value = "on")]
    pub reasoning: Reasoning,
    /// Temperature of the replies (O)
    #[arg(long, default_value_t = 1.0, value_parser = positive::<f64>)]
    pub temperature: f64,
    /// Keep the fewest most likely tokens whose probabilities reach this sum; 1 keeps all (O)
    #[arg(long, default_value_t = 1.0, value_parser = top_p)]
    pub top_p: f64,
    /// Keep this many most likely tokens [default: all] (O)
    #[arg(long, value_parser = count)]
    pub top_k: Option<usize>,
    /// Longest reply in tokens (O)
    #[arg(long, default_value_t = 512, value_parser = count)]
    pub max_tokens: usize,
    /// Seed of the order and of the replies
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Stage for Args {
    const NAME: &'static str = "vote";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Asks a policy which picture of each pair is better, K times; one row a vote";
    const DIVIDES: bool = true;
    const INPUTS: &'static [Input] = &[
        Input { name: "pairs", kind: Kind::Table("pairs"), required: true, help: "The pairs to ask about" },
        Input {
            name: "images",
            kind: Kind::Table("images"),
            required: true,
            help: "Their pictures, with the references of recipes",
        },
        Input { name: "policy", kind: Kind::Policy, required: true, help: "The policy to ask" },
    ];
    const OUTPUTS: &'static [Output] = &[Output { name: "votes", kind: Kind::Table("votes") }];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        let pairs: Vec<Pair> = job.rows("pairs")?;
        if pairs.is_empty() {
            return Err(bad_input("--pairs: the table has no rows; there is nothing to ask about"));
        }
        let pictures = Pictures::open(job.artifacts("images"))?;
        let input = job.policy("policy")?;
        let policy =
            Policy::load(&input.folder, &Device::Cpu).map_err(|error| bad_input(format!("--policy: {error}")))?;
        let voter = Voter {
            args: self,
            policy: &policy,
            digest: input.digest,
            question: Question::new(Task::Compare, self.reasoning),
            sampling: Sampling {
                temperature: self.temperature,
                top_p: self.top_p,
                top_k: self.top_k,
                max_tokens: self.max_tokens,
                ..Sampling::default()
            },
        };
        let units = job.units("pairs", pairs.len(), UNIT, |unit, rows, progress| {
            let pairs = &pairs[rows];
            let features = voter.look(&pictures, pairs)?;
            let mut tally = Tally::default();
            for pairs in pairs.chunks(SIDE_BY_SIDE) {
                for votes in voter.ask(pairs, &features)? {
                    tally.count(&votes);
                    for vote in votes {
                        unit.push(vote)?;
                    }
                }
                progress.add(pairs.len() as u64);
            }
            unit.note(tally);
            Ok(UnitEnd::Done)
        })?;
        let Some(units) = units else { return Ok(()) };
        let tally: Tally = units.notes()?.into_iter().sum();
        tracing::info!("{tally}");
        if tally.identical_pairs() * 2 > pairs.len() {
            tracing::warn!(
                "{} of {} pairs got {} identical replies: the policy hardly varies; check --temperature",
                tally.identical_pairs(),
                pairs.len(),
                self.samples
            );
        }
        if tally.valid_rate() < self.min_valid_rate {
            anyhow::bail!("{tally}: fewer valid votes than --min-valid-rate {} asks for", self.min_valid_rate);
        }
        job.close_units::<Vote>(&units)
    }
}

fn top_p(text: &str) -> Result<f64, String> {
    share(text).ok().filter(|it| *it > 0.0).ok_or_else(|| "expected a number over 0 and up to 1".to_owned())
}

/// A pair in one of its two orders.
struct Ordered<'a> {
    /// Index of the pair.
    pair: usize,
    presented: Presented,
    shown: [&'a Features; 2],
    prompt: Prompt,
    /// The votes that see this order.
    ks: Vec<u16>,
}

/// What stays the same from pair to pair.
struct Voter<'a> {
    args: &'a Args,
    policy: &'a Policy,
    digest: String,
    question: Question,
    sampling: Sampling,
}

impl Voter<'_> {
    /// The features of the pictures of `pairs`, each looked at once.
    fn look(&self, pictures: &Pictures, pairs: &[Pair]) -> anyhow::Result<HashMap<ImageId, Features>> {
        let mut ids: Vec<&ImageId> = pairs.iter().flat_map(|pair| [&pair.image_a, &pair.image_b]).collect();
        ids.sort();
        ids.dedup();
        let looked = ids.par_iter().map(|id| {
            let pixels = self.policy.processor.pixels(&pictures.load(id)?)?;
            Ok(((*id).clone(), self.policy.look(&pixels)?))
        });
        looked.collect()
    }

    /// The K votes of each pair, in the order of k.
    fn ask(&self, pairs: &[Pair], features: &HashMap<ImageId, Features>) -> anyhow::Result<Vec<Vec<Vote>>> {
        let mut asked = Vec::with_capacity(2 * pairs.len());
        for (index, pair) in pairs.iter().enumerate() {
            for presented in [Presented::Ab, Presented::Ba] {
                asked.extend(self.ordered(index, pair, presented, features)?);
            }
        }
        let requests = asked.iter().map(|it| Request {
            asked: Asked { prompt: &it.prompt, features: it.shown.to_vec() },
            draws: it.ks.iter().map(|k| self.draw(&pairs[it.pair], it.presented, *k)).collect(),
        });
        let replies = self.policy.sample(&requests.collect::<Vec<_>>(), &self.sampling)?;
        let mut votes: Vec<Vec<Vote>> =
            pairs.iter().map(|_| Vec::with_capacity(usize::from(self.args.samples))).collect();
        for (it, replies) in asked.iter().zip(replies) {
            for (k, reply) in it.ks.iter().zip(replies) {
                votes[it.pair].push(self.vote(&pairs[it.pair], *k, it.presented, reply)?);
            }
        }
        for votes in &mut votes {
            votes.sort_by_key(|vote| vote.vote);
        }
        Ok(votes)
    }

    /// A pair in one order, with the votes that see it so; none where no vote does.
    fn ordered<'a>(
        &self,
        index: usize,
        pair: &Pair,
        presented: Presented,
        features: &'a HashMap<ImageId, Features>,
    ) -> anyhow::Result<Option<Ordered<'a>>> {
        let ks = (0..self.args.samples)
            .filter(|k| self.args.order.presented(self.args.seed, &pair.pair_id, *k) == presented);
        let ks: Vec<u16> = ks.collect();
        if ks.is_empty() {
            return Ok(None);
        }
        let shown = match presented {
            Presented::Ab => [&features[&pair.image_a], &features[&pair.image_b]],
            Presented::Ba => [&features[&pair.image_b], &features[&pair.image_a]],
        };
        let prompt = self.policy.prompt(&self.question, &[shown[0].grid, shown[1].grid])?;
        Ok(Some(Ordered { pair: index, presented, shown, prompt, ks }))
    }

    /// The draws of vote `k` of a pair, keyed by what they are for.
    fn draw(&self, pair: &Pair, presented: Presented, k: u16) -> Draw {
        Draw::Key(key(self.args.seed, "vote", &[pair.pair_id.as_str(), presented.as_str(), &k.to_string()]))
    }

    /// The row of a reply: parsed, and turned back to the pair's own order.
    fn vote(&self, pair: &Pair, k: u16, presented: Presented, reply: Completion) -> anyhow::Result<Vote> {
        let parsed = parse_comparison(&reply.text);
        let outcome = match (parsed, presented) {
            (Ok(Side::First), Presented::Ab) | (Ok(Side::Second), Presented::Ba) => Outcome::A,
            (Ok(_), _) => Outcome::B,
            (Err(_), _) => Outcome::Invalid,
        };
        let answer = if parsed.is_ok() { answer_tokens(&self.policy.tokenizer, &reply.ids)? } else { None };
        Ok(Vote {
            pair_id: pair.pair_id.clone(),
            image_a: pair.image_a.clone(),
            image_b: pair.image_b.clone(),
            vote: k,
            presented,
            outcome,
            invalid_reason: parsed.err().map(|reason| reason.as_str().to_owned()),
            answer_logprob: answer.map(|range| reply.logprobs[range].iter().sum()),
            tokens: reply.ids.len() as u32,
            finish: match reply.finish {
                Finish::Stop => evoq_schemas::Finish::Stop,
                Finish::Length => evoq_schemas::Finish::Length,
            },
            reply: reply.text,
            prompt: self.question.hash(),
            policy: self.digest.clone(),
            seed: self.args.seed,
        })
    }
}

/// Runs the stage on this process's arguments.
pub fn main() -> ExitCode {
    evoq_stage::main::<Args>()
}
