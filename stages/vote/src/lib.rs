//! Asks a policy to compare pairs of pictures, K times each: one row a vote, the reply kept as it was.
//!
//! A reply that names no side is an invalid vote with a reason; it is counted and never filled in. Where replies come from is
//! known to [`builtin`] alone; the rest of the stage sees asks and replies.

mod arrange;
mod ballot;
mod builtin;
mod order;
mod replies;
mod rounds;
mod server;
mod tally;

use std::cell::RefCell;
use std::process::ExitCode;

use clap::builder::ArgPredicate;
use evoq_openai::{Engine, Flags, Server};
use evoq_pictures::Pictures;
use evoq_policy::sample::Sampling;
use evoq_policy::{Answerer, Error, Gallery, Place, Question, Reasoning, Task};
use evoq_schemas::{Pair, Vote};
use evoq_stage::range::{count, positive, share};
use evoq_stage::{Input, Job, Kind, Output, Progress, Stage, UnitEnd, bad_input};
use serde::Serialize;

use crate::arrange::arrange;
use crate::ballot::Ballot;
use crate::builtin::Builtin;
use crate::order::Order;
use crate::replies::Source;
use crate::rounds::EarlyStop;
use crate::server::{Served, places};
use crate::tally::Tally;

/// Pairs of a unit: the features of their pictures are kept for as long.
const UNIT: usize = 256;

/// Most bytes of features that are kept from unit to unit.
const FEATURE_BYTES: usize = 1 << 30;

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
    /// Whether votes are cast that cannot change a pair's label any more (O)
    #[arg(long, value_enum, default_value = "off")]
    pub early_stop: EarlyStop,
    /// With --early-stop lossless: the largest --quorum that `evoq label` may be given, so that no pair is left before its label
    /// stands for it and for every smaller one (O)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub quorum: u16,
    /// No samples: the exact probabilities of the answers 0 and 1 as a reply's first token, in both orders. The prompt has no
    /// reasoning suffix then (O)
    #[arg(long, conflicts_with_all = ["samples", "order", "early_stop", "quorum", "max_tokens"])]
    pub exact: bool,
    /// Fail when fewer than this share of the votes is valid (O)
    #[arg(long, default_value_t = 0.5, value_parser = share::<f64>)]
    pub min_valid_rate: f64,
    /// Whether the prompt ends in the reasoning suffix (P)
    #[arg(long, value_enum, default_value = "on", default_value_if("exact", ArgPredicate::Equals("true".into()), "off"))]
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
    /// Where the built-in policy runs: the CPU in f32, or CUDA in bf16 (O)
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: Place,
    /// Most bytes of keys and values that replies take at a time; it decides which are decoded side by side (O)
    #[arg(long, default_value_t = Sampling::default().cache_bytes, value_parser = count)]
    pub cache_bytes: usize,
    /// What replies.
    #[command(flatten)]
    #[serde(flatten)]
    pub engine: Flags,
}

impl Stage for Args {
    const NAME: &'static str = "vote";
    const VERSION: u32 = 3;
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
        Input { name: "policy", kind: Kind::Policy, required: false, help: "The policy to ask, where no server is" },
    ];
    const OUTPUTS: &'static [Output] = &[Output { name: "votes", kind: Kind::Table("votes") }];

    fn run(&self, job: &mut Job) -> anyhow::Result<()> {
        if self.exact && self.reasoning == Reasoning::On {
            return Err(bad_input(
                "--exact with --reasoning on: the answer is the first token only where nothing is thought before; leave out \
                 one of them",
            ));
        }
        let pairs: Vec<Pair> = job.rows("pairs")?;
        if pairs.is_empty() {
            return Err(bad_input("--pairs: the table has no rows; there is nothing to ask about"));
        }
        let pictures = Pictures::open(job.artifacts("images"))?;
        let question = Question::new(Task::Compare, self.reasoning);
        match self.engine.engine {
            Engine::Policy => self.ask_policy(job, &pairs, &pictures, question),
            Engine::Openai => self.ask_server(job, &pairs, &pictures, question),
        }
    }
}

impl Args {
    fn ask_policy(&self, job: &mut Job, pairs: &[Pair], pictures: &Pictures, question: Question) -> anyhow::Result<()> {
        self.engine.check_unused()?;
        let input = job.policy("policy")?;
        let policy = tracing::debug_span!("load").in_scope(|| Answerer::load(&input.folder, self.device));
        let policy = policy.map_err(|error| {
            let flag = if matches!(error, Error::NoDevice { .. }) { "device" } else { "policy" };
            bad_input(format!("--{flag}: {error}"))
        })?;
        let voter = Builtin {
            policy: &policy,
            digest: input.digest,
            question,
            sampling: self.sampling(),
            seed: self.seed,
            prompts: RefCell::default(),
        };
        let ballot = self.ballot(voter.source());
        let mut seen = Gallery::new(FEATURE_BYTES);
        self.vote(job, pairs, |pairs, progress| {
            let looked = voter.look(pictures, &mut seen, pairs)?;
            if self.exact {
                let votes = ballot.exact(pairs, |asks| voter.probabilities(&looked, asks))?;
                progress.add(pairs.len() as u64);
                Ok(votes)
            } else {
                ballot.cast(pairs, |asks| voter.replies(&looked, asks), |pairs| progress.add(pairs as u64))
            }
        })
    }

    fn ask_server(&self, job: &mut Job, pairs: &[Pair], pictures: &Pictures, question: Question) -> anyhow::Result<()> {
        if job.has("policy") {
            return Err(bad_input("--policy with --engine openai: the server has a policy of its own; leave out one"));
        }
        if self.exact {
            return Err(bad_input("--exact with --engine openai: a server gives samples; leave out one"));
        }
        let server = Server::connect(&self.engine, 2)?;
        let voter = Served {
            server: &server,
            question,
            sampling: evoq_openai::Sampling {
                temperature: self.temperature,
                top_p: self.top_p,
                top_k: self.top_k,
                max_tokens: self.max_tokens,
            },
            samples: self.samples,
            order: self.order,
            seed: self.seed,
            places: places(pairs),
        };
        let ballot = self.ballot(voter.source());
        self.vote(job, pairs, |pairs, progress| {
            ballot.cast(pairs, |asks| voter.replies(pictures, asks), |pairs| progress.add(pairs as u64))
        })
    }

    fn ballot(&self, source: Source) -> Ballot {
        Ballot {
            samples: self.samples,
            order: self.order,
            early_stop: self.early_stop,
            quorum: self.quorum,
            seed: self.seed,
            source,
        }
    }

    /// Writes the votes on all pairs, which `cast` gives for those of a unit.
    fn vote(
        &self,
        job: &mut Job,
        pairs: &[Pair],
        mut cast: impl FnMut(&[&Pair], &Progress) -> anyhow::Result<Vec<Vec<Vote>>>,
    ) -> anyhow::Result<()> {
        let order = arrange(pairs, UNIT);
        let units = job.units("pairs", pairs.len(), UNIT, |unit, rows, progress| {
            let pairs: Vec<&Pair> = order[rows].iter().map(|position| &pairs[*position]).collect();
            let mut tally = Tally::default();
            for votes in cast(&pairs, progress)? {
                tally.count(&votes);
                votes.into_iter().try_for_each(|vote| unit.push(vote))?;
            }
            unit.note(tally);
            Ok(UnitEnd::Done)
        })?;
        let Some(units) = units else { return Ok(()) };
        self.judge(&units.notes()?.into_iter().sum(), pairs.len())?;
        job.close_units::<Vote>(&units)
    }

    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            max_tokens: self.max_tokens,
            cache_bytes: self.cache_bytes,
            ..Sampling::default()
        }
    }

    /// Says what the votes are like; refuses them where too few are valid.
    fn judge(&self, tally: &Tally, pairs: usize) -> anyhow::Result<()> {
        tracing::info!("{tally}");
        if tally.identical_pairs() * 2 > pairs {
            tracing::warn!(
                "{} of {pairs} pairs got identical replies in either order: the policy hardly varies; check --temperature",
                tally.identical_pairs()
            );
        }
        if tally.valid_rate() < self.min_valid_rate {
            anyhow::bail!(
                "{tally}: fewer valid votes than --min-valid-rate {} asks for; see what the policy says instead, whether \
                 --max-tokens cuts it short, and whether it knows the prompt",
                self.min_valid_rate
            );
        }
        Ok(())
    }
}

fn top_p(text: &str) -> Result<f64, String> {
    share(text).ok().filter(|it| *it > 0.0).ok_or_else(|| "expected a number over 0 and up to 1".to_owned())
}

/// Runs the stage on this process's arguments.
pub fn main() -> ExitCode {
    evoq_stage::main::<Args>()
}
