//! Probabilities that need no sampling: of given first tokens, and of given completions.

use candle_core::{D, Tensor};

use super::DevicePolicy;
use super::attention::SCORES;
use super::choose::Chooser;
use crate::error::{Error, Result};
use crate::sample::{Asked, Sampling};

/// Logits of completions that are made at a time, at most.
pub(crate) const LOGITS: usize = 1 << 27;

impl DevicePolicy {
    /// The probability that a completion drawn under `sampling` begins with each of `tokens`, for each prompt.
    ///
    /// # Errors
    /// A token outside the vocabulary; as [`DevicePolicy::sample`].
    pub fn first_token_probabilities(
        &self,
        asked: &[Asked],
        sampling: &Sampling,
        tokens: &[u32],
    ) -> Result<Vec<Vec<f64>>> {
        sampling.check(&self.config, &self.banned)?;
        self.check_ids(tokens)?;
        let _turn = self.turn();
        let chooser = self.chooser(sampling)?;
        let of_prompt = |asked: &Asked| {
            self.check(asked, sampling.max_tokens)?;
            let (_, logits) = self.read(asked, &chooser)?;
            chooser.probabilities(&logits, &sampling.seen(asked.prompt), tokens)
        };
        asked.iter().map(of_prompt).collect()
    }

    /// Log-probabilities of given completions of each prompt under the model's own distribution: by prompt, completion
    /// and token.
    ///
    /// # Errors
    /// As [`crate::Policy::completion_logprobs`].
    pub fn completion_logprobs(&self, asked: &[Asked], completions: &[&[Vec<u32>]]) -> Result<Vec<Vec<Vec<f32>>>> {
        if asked.len() != completions.len() {
            let problem = format!("{} prompts came with completions of {}", asked.len(), completions.len());
            return Err(Error::Batch { problem });
        }
        let _turn = self.turn();
        let sampling = Sampling::default();
        let chooser = self.chooser(&sampling)?;
        let of_prompt = |(asked, completions): (&Asked, &&[Vec<u32>])| self.score(asked, completions, &chooser);
        asked.iter().zip(completions).map(of_prompt).collect()
    }

    fn score(&self, asked: &Asked, completions: &[Vec<u32>], chooser: &Chooser) -> Result<Vec<Vec<f32>>> {
        let longest = self.check_completions(asked, completions)?;
        let (cache, first) = self.read(asked, chooser)?;
        let firsts: Vec<u32> = completions.iter().map(|ids| ids[0]).collect();
        let firsts = log_probabilities(&first.repeat((firsts.len(), 1))?, firsts)?;
        let mut scored: Vec<Vec<f32>> = firsts.into_iter().map(|logprob| vec![logprob]).collect();
        if longest == 1 {
            return Ok(scored);
        }
        let (tokens, length) = (asked.prompt.ids.len(), longest - 1);
        let rotary = self.text.rotary((tokens + longest) as u32)?;
        let heads = self.config.text.num_attention_heads;
        let lanes =
            (SCORES / (heads * length * (tokens + length))).min(LOGITS / (self.config.text.vocab_size * length)).max(1);
        for (completions, scored) in completions.chunks(lanes).zip(scored.chunks_mut(lanes)) {
            // The last token of a completion predicts nothing, and what fills up a shorter one is seen by nobody.
            let padded = |shift: usize| {
                let ids = move |ids: &Vec<u32>| {
                    let ids = ids[shift..].iter().copied().chain(std::iter::repeat(0)).take(length);
                    ids.collect::<Vec<u32>>()
                };
                completions.iter().flat_map(ids).collect::<Vec<u32>>()
            };
            let rows = self.text.read_lanes(&padded(0), length, &cache, &rotary)?;
            let logprobs = log_probabilities(&chooser.ban(&self.text.logits(&rows)?)?, padded(1))?;
            for ((ids, scored), logprobs) in completions.iter().zip(scored).zip(logprobs.chunks_exact(length)) {
                scored.extend_from_slice(&logprobs[..ids.len() - 1]);
            }
        }
        Ok(scored)
    }

    /// Refuses what has no log-probabilities; gives the longest completion's tokens.
    pub(super) fn check_completions(&self, asked: &Asked, completions: &[Vec<u32>]) -> Result<usize> {
        let longest = completions.iter().map(Vec::len).max().unwrap_or(0);
        self.check(asked, longest)?;
        let problem = |problem: String| Err(Error::Batch { problem });
        if completions.is_empty() {
            return problem("a prompt has no completions".to_owned());
        }
        if completions.iter().any(Vec::is_empty) {
            return problem("a completion has no tokens; it ends with the end token at least".to_owned());
        }
        for ids in completions {
            self.check_ids(ids)?;
        }
        if let Some(id) = completions.iter().flatten().find(|id| self.banned.binary_search(id).is_ok()) {
            return problem(format!("a completion holds token {id}, which is never sampled and has probability 0"));
        }
        Ok(longest)
    }

    /// Refuses a prompt that does not fit its features or, with `new` tokens more, the model's positions.
    pub(super) fn check(&self, asked: &Asked, new: usize) -> Result<()> {
        asked.sequence(&[])?;
        if asked.prompt.ids.is_empty() {
            return Err(Error::Batch { problem: "a prompt has no tokens".to_owned() });
        }
        self.check_ids(&asked.prompt.ids)?;
        let (tokens, limit) = (asked.prompt.ids.len() + new, self.config.text.max_position_embeddings);
        if tokens > limit { Err(Error::TooLong { tokens, limit }) } else { Ok(()) }
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocabulary = self.config.text.vocab_size;
        match ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(Error::Batch { problem: format!("token {id} is outside the vocabulary of {vocabulary}") }),
            None => Ok(()),
        }
    }
}

/// Log-probability of one id of each row of logits `[R, V]`.
fn log_probabilities(logits: &Tensor, ids: Vec<u32>) -> Result<Vec<f32>> {
    let rows = ids.len();
    let ids = Tensor::from_vec(ids, (rows, 1), logits.device())?;
    let picked = logits.gather(&ids, 1)?.squeeze(1)?;
    Ok((picked - logits.log_sum_exp(D::Minus1)?)?.to_vec1()?)
}
