//! Replies of an OpenAI-compatible server.

use std::collections::HashMap;

use evoq_openai::{Draws, Lost, Sample, Sampling, Server, ask, first_seed};
use evoq_pictures::Pictures;
use evoq_policy::answer::answer_bytes;
use evoq_policy::{Question, parse_comparison};
use evoq_schemas::{Pair, PairId, Presented};

use crate::order::Order;
use crate::replies::{Ask, Replied, Reply, Source};

/// A server, with what it is asked and how it replies.
pub struct Served<'a> {
    /// The server.
    pub server: &'a Server,
    /// What it is asked.
    pub question: Question,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// K: votes a pair.
    pub samples: u16,
    /// Which picture is shown first.
    pub order: Order,
    /// The seed of the draws.
    pub seed: u64,
    /// Where each pair stands in the table: a pair's seeds are its own by its place.
    pub places: HashMap<&'a PairId, usize>,
}

/// The place of each pair in the table.
pub fn places(pairs: &[Pair]) -> HashMap<&PairId, usize> {
    pairs.iter().enumerate().map(|(place, pair)| (&pair.pair_id, place)).collect()
}

impl Served<'_> {
    /// What its votes state about it.
    pub fn source(&self) -> Source {
        Source { prompt: self.question.hash(), policy: self.server.policy(), pixels: None }
    }

    /// The replies to each of `asks`, in the order of their votes.
    pub fn replies(&self, pictures: &Pictures, asks: &[Ask]) -> anyhow::Result<Vec<Vec<Replied>>> {
        let questions = asks.iter().map(|it| {
            let shown = match it.presented {
                Presented::Ab => vec![&it.pair.image_a, &it.pair.image_b],
                Presented::Ba => vec![&it.pair.image_b, &it.pair.image_a],
            };
            evoq_openai::Question { text: &self.question.text, pictures: shown, draws: self.draws(it) }
        });
        let questions: Vec<_> = questions.collect();
        let samples = ask(self.server, pictures, &questions, &self.sampling)?;
        Ok(samples.into_iter().map(|of_ask| of_ask.into_iter().map(replied).collect()).collect())
    }

    /// The seeds of a pair's votes in one order are consecutive, so that a server can be asked for several at once; those of
    /// the other order follow K later.
    fn draws(&self, ask: &Ask) -> Draws {
        let place = 2 * self.places[&ask.pair.pair_id] + usize::from(ask.presented == Presented::Ba);
        let in_order = |k: &u16| self.order.presented(self.seed, &ask.pair.pair_id, *k) == ask.presented;
        let before = (0..ask.ks.first().copied().unwrap_or(0)).filter(in_order).count();
        let first = first_seed(self.seed, "vote", place, usize::from(self.samples)) + before as u64;
        Draws::Seeded { first, count: ask.ks.len() }
    }
}

/// A sample as the ballot takes it.
fn replied(sample: Sample) -> Replied {
    let reply = sample.map_err(Lost::as_str)?;
    let answer = if parse_comparison(&reply.text).is_ok() { answer_bytes(&reply.text) } else { None };
    Ok(Reply {
        answer_logprob: answer.and_then(|bytes| reply.logprob(bytes)),
        tokens: reply.tokens,
        finish: reply.finish,
        text: reply.text,
    })
}
