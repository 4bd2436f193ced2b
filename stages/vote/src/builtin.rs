//! Replies of the built-in policy: the features of a unit's pictures, samples, and exact first-token probabilities.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use evoq_pictures::Pictures;
use evoq_policy::sample::{Asked, Completion, Draw, Request, Sampling};
use evoq_policy::{
    Answerer, Features, Gallery, Grid, PictureKey, Pixels, Prompt, Question, answer_tokens, parse_comparison,
};
use evoq_schemas::draws::key;
use evoq_schemas::{Finish, ImageId, Pair, Presented};
use evoq_stage::bad_input;

use crate::replies::{Ask, Replied, Reply, Source};

/// The built-in policy, with what it is asked and how it replies.
pub struct Builtin<'a> {
    /// The policy.
    pub policy: &'a Answerer,
    /// Its digest.
    pub digest: String,
    /// What it is asked.
    pub question: Question,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// The seed of the draws.
    pub seed: u64,
    /// The prompts that were asked. Pictures of equal sizes have one, and a set's pictures often have.
    pub prompts: RefCell<HashMap<[Grid; 2], Rc<Prompt>>>,
}

/// What some pictures look like to the policy.
pub type Looked = HashMap<ImageId, Features>;

impl Builtin<'_> {
    /// What its votes state about it.
    pub fn source(&self) -> Source {
        let processor = self.policy.processor();
        Source {
            prompt: self.question.hash(),
            policy: self.digest.clone(),
            pixels: Some([processor.min_pixels as u64, processor.max_pixels as u64]),
        }
    }

    /// The features of the pictures of `pairs`, each looked at once; those in `seen` not again.
    pub fn look(&self, pictures: &Pictures, seen: &mut Gallery, pairs: &[&Pair]) -> anyhow::Result<Looked> {
        let mut ids: Vec<&ImageId> = pairs.iter().flat_map(|pair| [&pair.image_a, &pair.image_b]).collect();
        ids.sort();
        ids.dedup();
        // An id names one picture of all that are open; digests are only what the table's maker says.
        let keyed: Vec<(PictureKey, &ImageId)> =
            ids.iter().map(|id| (PictureKey::of_parts(&[id.as_str().as_bytes()]), *id)).collect();
        let policy = self.policy;
        let prepare = |id: &&ImageId| {
            let picture = pictures.load(id)?;
            anyhow::Ok(tracing::debug_span!("look").in_scope(|| policy.pixels(&picture))?)
        };
        let look = |pixels: &[Pixels]| tracing::debug_span!("look").in_scope(|| policy.look_all(pixels));
        let features = seen.look(&keyed, prepare, look)?;
        Ok(ids.into_iter().cloned().zip(features).collect())
    }

    /// The replies to each of `asks`, in the order of their votes.
    pub fn replies(&self, looked: &Looked, asks: &[Ask]) -> anyhow::Result<Vec<Vec<Replied>>> {
        let shown = self.shown(looked, asks)?;
        let requests = asks.iter().zip(&shown).map(|(ask, (prompt, features))| Request {
            asked: Asked { prompt, features: features.to_vec() },
            draws: ask.ks.iter().map(|k| self.draw(ask, *k)).collect(),
        });
        let requests: Vec<Request> = requests.collect();
        let sampled = tracing::debug_span!("sample").in_scope(|| self.policy.sample(&requests, &self.sampling));
        let completions = sampled?;
        completions.into_iter().map(|group| group.into_iter().map(|it| self.reply(it).map(Ok)).collect()).collect()
    }

    /// The probabilities of the answers `0` and `1` as the first token of a reply to each of `asks`.
    pub fn probabilities(&self, looked: &Looked, asks: &[Ask]) -> anyhow::Result<Vec<[f64; 2]>> {
        let tokens = [self.answer("0")?, self.answer("1")?];
        let shown = self.shown(looked, asks)?;
        let asked = shown.iter().map(|(prompt, features)| Asked { prompt, features: features.to_vec() });
        let asked: Vec<Asked> = asked.collect();
        let found = self.policy.first_token_probabilities(&asked, &self.sampling, &tokens)?;
        Ok(found.into_iter().map(|it| [it[0], it[1]]).collect())
    }

    /// The token that is the answer `index`.
    fn answer(&self, index: &str) -> anyhow::Result<u32> {
        match self.policy.tokenizer().encode(index)?.as_slice() {
            [id] => Ok(*id),
            ids => Err(bad_input(format!(
                "--policy: its tokenizer writes the answer `{index}` as {} tokens; --exact needs one: sample votes instead",
                ids.len()
            ))),
        }
    }

    /// The prompt of each of `asks` with its pictures' features, in the order shown.
    fn shown<'a>(&self, looked: &'a Looked, asks: &[Ask]) -> anyhow::Result<Vec<(Rc<Prompt>, [&'a Features; 2])>> {
        let mut prompts = self.prompts.borrow_mut();
        let shown = asks.iter().map(|ask| {
            let ids = match ask.presented {
                Presented::Ab => [&ask.pair.image_a, &ask.pair.image_b],
                Presented::Ba => [&ask.pair.image_b, &ask.pair.image_a],
            };
            let features = ids.map(|id| &looked[id]);
            let grids = features.map(|it| it.grid);
            if let Some(known) = prompts.get(&grids) {
                return Ok((known.clone(), features));
            }
            let prompt = Rc::new(self.policy.prompt(&self.question, &grids)?);
            prompts.insert(grids, prompt.clone());
            Ok((prompt, features))
        });
        shown.collect()
    }

    /// The draws of vote `k` of a pair, keyed by what they are for.
    fn draw(&self, ask: &Ask, k: u16) -> Draw {
        Draw::Key(key(self.seed, "vote", &[ask.pair.pair_id.as_str(), ask.presented.as_str(), &k.to_string()]))
    }

    fn reply(&self, completion: Completion) -> anyhow::Result<Reply> {
        let answer = match parse_comparison(&completion.text) {
            Ok(_) => answer_tokens(self.policy.tokenizer(), &completion.ids, &completion.text)?,
            Err(_) => None,
        };
        Ok(Reply {
            answer_logprob: answer.map(|range| completion.logprobs[range].iter().sum()),
            tokens: completion.ids.len() as u32,
            finish: match completion.finish {
                evoq_policy::Finish::Stop => Finish::Stop,
                evoq_policy::Finish::Length => Finish::Length,
            },
            text: completion.text,
        })
    }
}
