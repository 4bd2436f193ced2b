//! Replies of the built-in policy.

use evoq_pictures::Pictures;
use evoq_policy::sample::{Asked, Draw, Request, Sampling};
use evoq_policy::{Answerer, Gallery, PictureKey, Prompt, Question};
use evoq_schemas::draws::key;
use evoq_schemas::{ImageId, Score};

use crate::{Args, decodings, score};

/// Pictures that are asked about in one call: the replies are decoded side by side.
pub const SIDE_BY_SIDE: usize = 32;

/// The built-in policy, with what it is asked and how it replies.
pub struct Builtin<'a> {
    /// The stage's flags.
    pub args: &'a Args,
    /// The policy.
    pub policy: &'a Answerer,
    /// Its digest.
    pub digest: String,
    /// What it is asked.
    pub question: Question,
}

impl Builtin<'_> {
    /// The replies about each picture: the greedy one, then the sampled ones.
    pub fn rate(&self, pictures: &Pictures, ids: &[ImageId]) -> anyhow::Result<Vec<Score>> {
        let keyed: Vec<(PictureKey, &ImageId)> =
            ids.iter().map(|id| (PictureKey::of_parts(&[id.as_str().as_bytes()]), id)).collect();
        let policy = self.policy;
        let prepare = |id: &&ImageId| anyhow::Ok(policy.pixels(&pictures.load(id)?)?);
        // Each picture is asked about once: nothing is kept.
        let looked = Gallery::new(0).look(&keyed, prepare, |pixels| policy.look_all(pixels))?;
        let prompts = looked.iter().map(|features| policy.prompt(&self.question, &[features.grid]));
        let prompts: Vec<Prompt> = prompts.collect::<Result<_, _>>()?;
        let request = |(id, (prompt, features))| Request {
            asked: Asked { prompt, features: vec![features] },
            draws: std::iter::once(Draw::Greedy).chain((0..self.args.samples).map(|k| self.draw(id, k))).collect(),
        };
        let requests: Vec<Request> = ids.iter().zip(prompts.iter().zip(&looked)).map(request).collect();
        let sampling =
            Sampling { temperature: self.args.temperature, max_tokens: self.args.max_tokens, ..Sampling::default() };
        let mut scores = Vec::with_capacity(ids.len() * (1 + usize::from(self.args.samples)));
        for (id, replies) in ids.iter().zip(self.policy.sample(&requests, &sampling)?) {
            scores.extend(
                replies.into_iter().zip(decodings()).map(|(reply, decoding)| {
                    score(id, &self.digest, decoding, Ok((reply.text, reply.ids.len() as u32)))
                }),
            );
        }
        Ok(scores)
    }

    /// The draws of sampled reply `k` about a picture, keyed by what they are for.
    fn draw(&self, id: &ImageId, k: u16) -> Draw {
        Draw::Key(key(self.args.seed, "score", &[id.as_str(), &k.to_string()]))
    }
}
