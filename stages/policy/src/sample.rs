//! Sampling: one prefill a prompt, then all completions of it decoded together, one token a lane and step.
//!
//! Each lane draws from its own key, one uniform number a token, so a completion depends on its key, the prompt and the
//! number of lanes (matrix kernels block by it, in the last bits), not on threads or on what else is sampled. Lanes that
//! have ended keep their place until all have: the shapes, and so the bits, of the others stay as they are.

use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::error::{Error, Result};
use crate::model::{Model, Pack, Sequence};
use crate::ops::Floats;
use crate::ops::logits::{ban, log_normaliser};
use crate::policy::{Features, Policy};
use crate::prompt::Prompt;
use crate::text::Cache;

/// How tokens are drawn. Every field is obeyed; nothing is taken from the checkpoint's generation configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; above 0. For the most likely token use [`Policy::greedy`].
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
}

impl Default for Sampling {
    /// The model's own distribution, and at most 512 new tokens.
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, top_k: None, repetition_penalty: 1.0, max_tokens: 512 }
    }
}

impl Sampling {
    fn check(&self) -> Result<()> {
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
        } else {
            return Ok(());
        };
        Err(Error::Batch { problem })
    }
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
    /// Log-probability of each token under the model's own distribution: banned tokens have none of it, and
    /// temperature, top-p, top-k and repetition penalty play no part.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

impl Policy {
    /// One completion for each key, all of one prompt.
    ///
    /// # Errors
    /// A parameter out of its range; features that do not fit the prompt; a prompt that with the new tokens is longer
    /// than the model's positions reach.
    pub fn sample(
        &self,
        prompt: &Prompt,
        features: &[&Features],
        keys: &[[u8; 32]],
        sampling: &Sampling,
    ) -> Result<Vec<Completion>> {
        sampling.check()?;
        let mut lanes: Vec<ChaCha8Rng> = keys.iter().map(|key| ChaCha8Rng::from_seed(*key)).collect();
        let mut candidates = Vec::new();
        self.decode(prompt, features, keys.len(), sampling.max_tokens, |lane, logits, ids| {
            penalise(logits, prompt.ids.iter().chain(ids), sampling.repetition_penalty as f32);
            draw(logits, sampling, uniform(&mut lanes[lane]), &mut candidates)
        })
    }

    /// The completion that takes the most likely token at each step; the lower id of equals.
    ///
    /// # Errors
    /// As [`Policy::sample`].
    pub fn greedy(&self, prompt: &Prompt, features: &[&Features], max_tokens: usize) -> Result<Completion> {
        Sampling { max_tokens, ..Sampling::default() }.check()?;
        let mut completions = self.decode(prompt, features, 1, max_tokens, |_, logits, _| most_likely(logits))?;
        Ok(completions.pop().expect("one lane was decoded"))
    }

    /// Decodes `lanes` completions; `choose` gets a lane, its logits with banned ones at −∞, and its tokens so far.
    fn decode(
        &self,
        prompt: &Prompt,
        features: &[&Features],
        lanes: usize,
        max_tokens: usize,
        mut choose: impl FnMut(usize, &mut [f32], &[u32]) -> u32,
    ) -> Result<Vec<Completion>> {
        let (model, limit) = (self.model(), self.config.text.max_position_embeddings);
        let tokens = prompt.ids.len() + max_tokens;
        if tokens > limit {
            return Err(Error::TooLong { tokens, limit });
        }
        let (first, mut cache, next) = prefill(model, prompt, features, lanes, max_tokens - 1)?;
        let mut done: Vec<Lane> = vec![Lane::default(); lanes];
        let mut logits = first;
        for step in 0..max_tokens {
            let values = Floats::of(&logits)?;
            let width = values.len() / logits.dim(0)?;
            let mut rows = values.chunks_exact(width).cycle();
            for (lane, state) in done.iter_mut().enumerate() {
                // After the prefill one row of logits serves all lanes.
                let row = rows.next().expect("a cycle over at least one row");
                if state.finish.is_none() {
                    state.take(row, &model.banned, &self.config.eos, |row, ids| choose(lane, row, ids));
                }
            }
            if step + 1 == max_tokens || done.iter().all(|lane| lane.finish.is_some()) {
                break;
            }
            let last: Vec<u32> = done.iter().map(|lane| *lane.ids.last().expect("a token was just drawn")).collect();
            let rows = model.text.decode(model.text.embed(&last)?, &mut cache, next + step as u32)?;
            drop(values);
            (logits, _) = model.text.logits(rows)?;
        }
        done.into_iter().map(|lane| lane.complete(self)).collect()
    }
}

/// The logits after the prompt `[1, V]`, a cache for its lanes, and the position of the first new token.
fn prefill(
    model: &Model,
    prompt: &Prompt,
    features: &[&Features],
    lanes: usize,
    capacity: usize,
) -> Result<(Tensor, Cache, u32)> {
    for (features, grid) in features.iter().zip(&prompt.grids) {
        if features.grid != *grid {
            return Err(Error::Batch {
                problem: format!("a picture of grid {:?} was given where the prompt has {grid:?}", features.grid),
            });
        }
    }
    let features = features.iter().map(|features| &features.tensor).collect();
    let sequence = Sequence { prompt, features, completions: &[] };
    let pack = Pack::new(&model.config, &model.text, &model.banned, &[sequence])?;
    let (rows, state) = model.text.forward(pack.embed(&model.text)?, &pack.plan)?;
    let (logits, _) = model.text.logits(pack.predicting_rows(&rows)?)?;
    Ok((logits, Cache::new(state.into_cache(0), lanes, capacity)?, pack.next[0]))
}

#[derive(Debug, Clone, Default)]
struct Lane {
    ids: Vec<u32>,
    logprobs: Vec<f32>,
    finish: Option<Finish>,
}

impl Lane {
    /// Takes the next token from a row of logits.
    fn take(&mut self, row: &[f32], banned: &[u32], eos: &[u32], choose: impl FnOnce(&mut [f32], &[u32]) -> u32) {
        let mut row = row.to_vec();
        ban(&mut row, banned);
        let normaliser = log_normaliser(&row);
        let own = row.clone();
        let id = choose(&mut row, &self.ids);
        self.ids.push(id);
        self.logprobs.push(own[id as usize] - normaliser);
        if eos.contains(&id) {
            self.finish = Some(Finish::Stop);
        }
    }

    fn complete(self, policy: &Policy) -> Result<Completion> {
        Ok(Completion {
            text: policy.tokenizer.decode(&self.ids)?,
            ids: self.ids,
            logprobs: self.logprobs,
            finish: self.finish.unwrap_or(Finish::Length),
        })
    }
}

/// A number in [0, 1) of 53 random bits.
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

fn penalise<'a>(logits: &mut [f32], seen: impl Iterator<Item = &'a u32>, penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let mut seen: Vec<u32> = seen.copied().collect();
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        let logit = &mut logits[id as usize];
        *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
    }
}

fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// Draws by the inverse of the distribution function, tokens in the order of their ids: `u` in [0, 1).
///
/// `candidates` is scratch space: id and weight of the tokens that may be drawn.
fn draw(logits: &[f32], sampling: &Sampling, u: f64, candidates: &mut Vec<(u32, f32)>) -> u32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let temperature = sampling.temperature as f32;
    candidates.clear();
    let weights = logits.iter().map(|logit| libm::expf((logit - largest) / temperature));
    candidates.extend((0..).zip(weights).filter(|(_, weight)| *weight > 0.0));
    keep_likely(sampling, candidates);
    let total: f64 = candidates.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let mut reached = 0.0;
    for (id, weight) in candidates.iter() {
        reached += f64::from(*weight);
        if reached > u * total {
            return *id;
        }
    }
    candidates.last().expect("the most likely token has weight 1").0
}

/// Applies top-k, then top-p, to what is left, and puts the rest back in the order of ids.
fn keep_likely(sampling: &Sampling, candidates: &mut Vec<(u32, f32)>) {
    if sampling.top_k.is_none() && sampling.top_p >= 1.0 {
        return;
    }
    candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    candidates.truncate(sampling.top_k.unwrap_or(usize::MAX));
    if sampling.top_p < 1.0 {
        let total: f64 = candidates.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let mut reached = 0.0;
        let needed = candidates.iter().take_while(|(_, weight)| {
            let more = reached < sampling.top_p * total;
            reached += f64::from(*weight);
            more
        });
        let needed = needed.count();
        candidates.truncate(needed);
    }
    candidates.sort_unstable_by_key(|candidate| candidate.0);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::Device;
    use rayon::prelude::*;

    use super::*;
    use crate::train::Group;

    const LOGITS: [f32; 4] = [0.0, 1.0, f32::NEG_INFINITY, 2.0];

    fn share(sampling: &Sampling, id: u32) -> f64 {
        let mut candidates = Vec::new();
        let hits = (0..10_000).filter(|i| draw(&LOGITS, sampling, f64::from(*i) / 1e4, &mut candidates) == id).count();
        hits as f64 / 1e4
    }

    #[test]
    fn tokens_are_drawn_by_their_probabilities() {
        let weights = [1.0, 1_f64.exp(), 0.0, 2_f64.exp()];
        let total: f64 = weights.iter().sum();
        for (id, weight) in weights.iter().enumerate() {
            assert!((share(&Sampling::default(), id as u32) - weight / total).abs() < 2e-4);
        }
    }

    #[test]
    fn temperature_divides_the_logits() {
        let cold = Sampling { temperature: 0.5, ..Sampling::default() };
        let weights = [1.0, 2_f64.exp(), 0.0, 4_f64.exp()];
        let total: f64 = weights.iter().sum();
        assert!((share(&cold, 3) - weights[3] / total).abs() < 2e-4);
    }

    #[test]
    fn top_k_and_top_p_keep_the_most_likely() {
        let two = Sampling { top_k: Some(2), ..Sampling::default() };
        assert_eq!(share(&two, 0), 0.0);
        assert!(share(&two, 1) > 0.2);
        // The best token has .665 of the mass, so .6 needs it alone and .7 one more.
        let narrow = Sampling { top_p: 0.6, ..Sampling::default() };
        assert_eq!(share(&narrow, 3), 1.0);
        let wider = Sampling { top_p: 0.7, ..Sampling::default() };
        assert_eq!(share(&wider, 0), 0.0);
        assert!(share(&wider, 1) > 0.2);
    }

    #[test]
    fn the_penalty_makes_seen_tokens_less_likely() {
        let mut logits = [2.0, -2.0, 3.0];
        penalise(&mut logits, [0, 1, 1].iter(), 2.0);
        assert_eq!(logits, [1.0, -4.0, 3.0]);
    }

    fn policy() -> Policy {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/policy/checkpoint");
        Policy::load(&folder, &Device::Cpu).unwrap()
    }

    fn ask(policy: &Policy, keys: &[[u8; 32]]) -> Vec<Completion> {
        let prompt = Prompt { ids: (40..60).collect(), grids: Vec::new() };
        let sampling = Sampling { max_tokens: 12, ..Sampling::default() };
        policy.sample(&prompt, &[], keys, &sampling).unwrap()
    }

    #[test]
    fn a_lane_depends_on_its_key_alone() {
        let policy = policy();
        let keys: Vec<[u8; 32]> = (0..5).map(|n| [n; 32]).collect();
        let forward = ask(&policy, &keys);
        let mut backward = ask(&policy, &keys.iter().rev().copied().collect::<Vec<_>>());
        backward.reverse();
        assert_eq!(forward, backward);
        assert!(forward.windows(2).any(|two| two[0].ids != two[1].ids));
    }

    #[test]
    fn what_is_sampled_in_parallel_is_what_is_sampled_alone() {
        let policy = policy();
        let keys: Vec<Vec<[u8; 32]>> = (0..6).map(|n| vec![[n; 32], [n + 50; 32]]).collect();
        let alone: Vec<Vec<Completion>> = keys.iter().map(|keys| ask(&policy, keys)).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let together: Vec<Vec<Completion>> = pool.install(|| keys.par_iter().map(|keys| ask(&policy, keys)).collect());
        assert_eq!(alone, together);
    }

    #[test]
    fn log_probabilities_are_those_of_the_training_pass() {
        let policy = policy();
        let sampled = ask(&policy, &[[3; 32], [4; 32], [5; 32]]);
        let prompt = Prompt { ids: (40..60).collect(), grids: Vec::new() };
        let completions = sampled.iter().map(|completion| completion.ids.clone()).collect();
        let group = Group { prompt, pictures: Vec::new(), completions };
        let scored = policy.logprobs(&[], &[group]).unwrap();
        for (sampled, scored) in sampled.iter().zip(&scored[0]) {
            assert_eq!(sampled.logprobs.len(), scored.len());
            for (sampled, scored) in sampled.logprobs.iter().zip(scored) {
                assert!((sampled - scored).abs() < 1e-4, "{sampled} while sampling, {scored} in training");
            }
        }
    }

    #[test]
    fn banned_tokens_are_never_drawn() {
        let policy = policy();
        let keys: Vec<[u8; 32]> = (0..64).map(|n| [n; 32]).collect();
        let banned = &policy.model().banned;
        assert!(!banned.is_empty());
        assert!(ask(&policy, &keys).iter().flat_map(|completion| &completion.ids).all(|id| !banned.contains(id)));
    }

    #[test]
    fn a_prompt_too_long_for_the_positions_is_refused() {
        let policy = policy();
        let limit = policy.config.text.max_position_embeddings;
        let prompt = Prompt { ids: vec![40; 8], grids: Vec::new() };
        assert!(matches!(policy.greedy(&prompt, &[], limit), Err(Error::TooLong { .. })));
    }

    #[test]
    fn a_parameter_out_of_range_is_an_error() {
        for wrong in [
            Sampling { temperature: 0.0, ..Sampling::default() },
            Sampling { top_p: 1.5, ..Sampling::default() },
            Sampling { top_k: Some(0), ..Sampling::default() },
            Sampling { repetition_penalty: -1.0, ..Sampling::default() },
            Sampling { max_tokens: 0, ..Sampling::default() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
