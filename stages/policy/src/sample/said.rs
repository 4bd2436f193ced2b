//! A completion in the making: what a lane has said, whichever engine decodes it.

use super::choose::Choice;
use super::{Completion, Draw, Finish, Sampling};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// What one lane of a request has said so far.
#[derive(Debug)]
pub(crate) struct Said {
    /// Which of the request's draws it is.
    pub index: usize,
    /// How it takes its tokens.
    pub draw: Draw,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// The ids that the repetition penalty is for, in rising order.
    pub seen: Vec<u32>,
    /// Why it ended, once it has.
    pub finish: Option<Finish>,
    logprobs: Vec<f32>,
    leads: Vec<f32>,
}

impl Said {
    /// Nothing yet; `seen` are the prompt's ids that the repetition penalty is for.
    pub fn new(index: usize, draw: Draw, seen: Vec<u32>) -> Self {
        Self { index, draw, ids: Vec::new(), seen, finish: None, logprobs: Vec::new(), leads: Vec::new() }
    }

    /// Says one more token.
    pub fn take(&mut self, Choice { id, logprob, lead }: Choice, sampling: &Sampling, eos: &[u32]) {
        self.ids.push(id);
        self.logprobs.push(logprob);
        self.leads.push(lead);
        if sampling.repetition_penalty != 1.0
            && let Err(at) = self.seen.binary_search(&id)
        {
            self.seen.insert(at, id);
        }
        if eos.contains(&id) || sampling.stop.contains(&id) {
            self.finish = Some(Finish::Stop);
        } else if self.ids.len() == sampling.max_tokens {
            self.finish = Some(Finish::Length);
        }
    }

    /// The completion, of a lane that has ended.
    pub fn complete(self, tokenizer: &Tokenizer) -> Result<Completion> {
        Ok(Completion {
            text: tokenizer.decode(&self.ids)?,
            ids: self.ids,
            logprobs: self.logprobs,
            leads: self.leads,
            finish: self.finish.unwrap_or(Finish::Length),
        })
    }
}

/// The error where not even one lane of a prompt of `prompt` tokens has room: it takes `bytes` of keys and values, `room`
/// are allowed.
pub(crate) fn no_room(prompt: usize, sampling: &Sampling, bytes: usize, room: usize) -> Error {
    let new = sampling.max_tokens;
    Error::Batch {
        problem: format!(
            "keys and values of a prompt of {prompt} tokens and of {new} new ones take {bytes} bytes, {room} are allowed; \
             allow more, or use smaller pictures or fewer new tokens"
        ),
    }
}
