//! Replies of an OpenAI-compatible server.

use std::ops::Range;

use evoq_openai::{Draws, Question, Sampling, Server, ask, first_seed};
use evoq_pictures::Pictures;
use evoq_schemas::{ImageId, Score};

use crate::{Args, decodings, score};

/// A server, with what it is asked and how it replies.
pub struct Served<'a> {
    /// The stage's flags.
    pub args: &'a Args,
    /// The server.
    pub server: &'a Server,
    /// What it is asked.
    pub question: evoq_policy::Question,
}

impl Served<'_> {
    /// The replies about the pictures at the positions `rows` of all that are rated: the greedy one, then the sampled ones.
    pub fn rate(&self, pictures: &Pictures, ids: &[ImageId], rows: Range<usize>) -> anyhow::Result<Vec<Score>> {
        let count = usize::from(self.args.samples);
        let mut questions = Vec::with_capacity(2 * rows.len());
        for (id, position) in ids[rows.clone()].iter().zip(rows.clone()) {
            let first = first_seed(self.args.seed, "score", position, count);
            let sampled = (count > 0).then_some(Draws::Seeded { first, count });
            for draws in std::iter::once(Draws::Greedy).chain(sampled) {
                questions.push(Question { text: &self.question.text, pictures: vec![id], draws });
            }
        }
        let sampling =
            Sampling { temperature: self.args.temperature, top_p: 1.0, top_k: None, max_tokens: self.args.max_tokens };
        let policy = self.server.policy();
        let mut samples = ask(self.server, pictures, &questions, &sampling)?.into_iter().flatten();
        let mut scores = Vec::with_capacity(rows.len() * (1 + count));
        for id in &ids[rows] {
            scores.extend(samples.by_ref().take(1 + count).zip(decodings()).map(|(sample, decoding)| {
                let reply = sample.map(|reply| (reply.text, reply.tokens)).map_err(evoq_openai::Lost::as_str);
                score(id, &policy, decoding, reply)
            }));
        }
        Ok(scores)
    }
}
