//! Sampling: one prefill a prompt, then the completions of many prompts decoded together, one token a lane and step.
//!
//! What a lane says depends on its prompt and its own key; in the last bits also on the lanes beside it, for matrix
//! kernels block by shape. Which lanes those are follows from the requests' order and the sampling options alone, never
//! from threads or time, so the same call gives the same bytes. Any other order, split or company moves log-probabilities
//! by rounding only, and a token where two sampling keys are that close ([`Completion::leads`] says where).

mod choose;
pub(crate) mod said;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashSet;
use std::ops::Range;

use rayon::prelude::*;

pub(crate) use choose::{Choice, add_noise, probabilities};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::Sequence;
use crate::ops::product::DIVIDED;
use crate::policy::{Features, Policy};
use crate::prompt::Prompt;
use stream::Stream;

/// How tokens are drawn. Every field is obeyed; nothing is taken from the checkpoint's generation configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; above 0. For the most likely token use [`Draw::Greedy`].
    pub temperature: f64,
    /// Keep the fewest most likely tokens whose probabilities reach this sum; in (0, 1], 1 keeps all.
    pub top_p: f64,
    /// Keep this many most likely tokens; none keeps all.
    pub top_k: Option<usize>,
    /// Divides positive and multiplies negative logits of tokens that stand in the prompt or were drawn; above 0,
    /// 1 changes nothing.
    pub repetition_penalty: f64,
    /// Longest completion, end token included; at least 1.
    pub max_tokens: usize,
    /// Tokens that end a completion, beside the checkpoint's own.
    pub stop: Vec<u32>,
    /// Tokens that are not drawn, beside those that the model never says. Unlike those they keep their probability.
    pub banned: Vec<u32>,
    /// Most bytes of cached keys and values at a time. It decides which lanes are decoded together, and so counts among
    /// what the last bits follow from.
    pub cache_bytes: usize,
}

impl Default for Sampling {
    /// The model's own distribution, at most 512 new tokens, and 4 GiB of keys and values.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: None,
            repetition_penalty: 1.0,
            max_tokens: 512,
            stop: Vec::new(),
            banned: Vec::new(),
            cache_bytes: 4 << 30,
        }
    }
}

impl Sampling {
    /// The ids that the repetition penalty is for at a completion's start, each once and in rising order.
    pub(crate) fn seen(&self, prompt: &Prompt) -> Vec<u32> {
        if self.repetition_penalty == 1.0 {
            return Vec::new();
        }
        let mut seen = prompt.ids.clone();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    /// Refuses what is out of range; `never` are the ids that the model never says.
    pub(crate) fn check(&self, config: &Config, never: &[u32]) -> Result<()> {
        let vocabulary = config.text.vocab_size;
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let problem = if !positive(self.temperature) {
            format!("temperature {} is not above 0; decode greedily instead", self.temperature)
        } else if !(positive(self.top_p) && self.top_p <= 1.0) {
            format!("top_p {} is not in (0, 1]", self.top_p)
        } else if self.top_k == Some(0) {
            "top_k 0 keeps no token; leave it out to keep all".to_owned()
        } else if !positive(self.repetition_penalty) {
            format!("repetition penalty {} is not above 0; 1 changes nothing", self.repetition_penalty)
        } else if self.max_tokens == 0 {
            "at most 0 new tokens leave no room for a completion".to_owned()
        } else if let Some(id) = self.stop.iter().chain(&self.banned).find(|id| **id as usize >= vocabulary) {
            format!("stop or banned token {id} is outside the vocabulary of {vocabulary}")
        } else if self.banned.iter().chain(never).collect::<HashSet<_>>().len() >= vocabulary {
            "every token is banned; nothing is left to draw".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Batch { problem })
    }
}

/// How one completion takes its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// The most likely one at each step, the lower id of equals. Temperature, top-k and top-p play no part.
    Greedy,
    /// By chance, from noise made of this key.
    Key([u8; 32]),
}

/// A prompt with its pictures.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The prompt.
    pub prompt: &'a Prompt,
    /// What its pictures look like, in order.
    pub features: Vec<&'a Features>,
}

/// Completions that are wanted of one prompt.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The prompt, which is read once for all of them.
    pub asked: Asked<'a>,
    /// One completion each; at least one.
    pub draws: Vec<Draw>,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It drew an end token.
    Stop,
    /// It reached the longest length.
    Length,
}

/// One completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Its text, without special tokens.
    pub text: String,
    /// Its tokens, the end token included.
    pub ids: Vec<u32>,
    /// Log-probability of each token under the model's own distribution: what the model never says has none of it, and
    /// the sampling options play no part.
    pub logprobs: Vec<f32>,
    /// By how much each token's sampling key led the next best. Below about 1e-5, another company may draw the other.
    pub leads: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// Lanes that are decoded at a time, at most: products of more rows are no faster a row.
pub(crate) const LANES: usize = 128;

/// Streams of a small model, at most, and the lanes that each gets at least.
const STREAMS: (usize, usize) = (16, 32);

impl Policy {
    /// The completions of each request, in the order of its draws.
    ///
    /// Each prompt is read once and its keys and values are kept once for all its lanes. Lanes that end leave, and
    /// those of later requests enter as room allows.
    ///
    /// # Errors
    /// An option out of its range; a request without draws; features that do not fit its prompt; a prompt that with the
    /// new tokens is longer than the model's positions reach, or whose keys and values exceed the allowed bytes.
    pub fn sample(&self, requests: &[Request], sampling: &Sampling) -> Result<Vec<Vec<Completion>>> {
        sampling.check(&self.config, &self.model().banned)?;
        for request in requests {
            self.check(request, sampling)?;
        }
        let streams = self.streams(requests);
        let cache_bytes = sampling.cache_bytes / streams.len().max(1);
        let done =
            streams.into_par_iter().map(|range| Stream::new(self, &requests[range], sampling, cache_bytes).run());
        Ok(done.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// The completion that takes the most likely token at each step.
    ///
    /// # Errors
    /// As [`Policy::sample`].
    pub fn greedy(&self, prompt: &Prompt, features: &[&Features], max_tokens: usize) -> Result<Completion> {
        let asked = Asked { prompt, features: features.to_vec() };
        let request = Request { asked, draws: vec![Draw::Greedy] };
        let completions = self.sample(&[request], &Sampling { max_tokens, ..Sampling::default() })?;
        Ok(completions.into_iter().flatten().next().expect("one completion was asked for"))
    }

    fn check(&self, request: &Request, sampling: &Sampling) -> Result<()> {
        request.asked.check()?;
        if request.draws.is_empty() {
            return Err(Error::Batch { problem: "a request asks for 0 completions; ask for 1 or more".to_owned() });
        }
        let (tokens, limit) =
            (request.asked.prompt.ids.len() + sampling.max_tokens, self.config.text.max_position_embeddings);
        if tokens > limit {
            return Err(Error::TooLong { tokens, limit });
        }
        Ok(())
    }

    /// Cuts requests into runs that are decoded side by side. Where products are large enough to be divided among
    /// threads there is one; a small model's products are not, so its requests are, by position alone.
    fn streams(&self, requests: &[Request]) -> Vec<Range<usize>> {
        let text = &self.config.text;
        let lanes: usize = requests.iter().map(|request| request.draws.len()).sum();
        let count = match LANES * text.hidden_size * text.intermediate_size {
            work if work < DIVIDED => (lanes / STREAMS.1).clamp(1, STREAMS.0),
            _ => 1,
        };
        let (mut streams, mut start, mut before) = (Vec::new(), 0, 0);
        for (index, request) in requests.iter().enumerate() {
            before += request.draws.len();
            if before * count >= lanes * (streams.len() + 1) {
                streams.push(start..index + 1);
                start = index + 1;
            }
        }
        streams
    }
}

impl Asked<'_> {
    /// The prompt with completions, to be packed.
    pub fn sequence<'a>(&'a self, completions: &'a [Vec<u32>]) -> Result<Sequence<'a>> {
        self.check()?;
        let features = self.features.iter().map(|features| &features.tensor).collect();
        Ok(Sequence { prompt: self.prompt, features, completions })
    }

    /// Refuses features of other sizes than the prompt has places for.
    fn check(&self) -> Result<()> {
        if self.features.len() != self.prompt.grids.len() {
            return Err(Error::PictureCount { expected: self.prompt.grids.len(), found: self.features.len() });
        }
        for (features, grid) in self.features.iter().zip(&self.prompt.grids) {
            if features.grid != *grid {
                return Err(Error::Batch {
                    problem: format!("a picture of grid {:?} was given where the prompt has {grid:?}", features.grid),
                });
            }
        }
        Ok(())
    }
}
