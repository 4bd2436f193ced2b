//! Choosing tokens on the device: what the first engine's `sample/choose.rs` does to one row of logits, done to those of
//! all lanes at once. Only ids, log-probabilities and leads come back.
//!
//! Top-k and top-p need no sorted vocabulary: the least logit that is kept is found by halving an interval, as is the
//! highest id that is kept of those with that logit.

use candle_core::{D, DType, Device, Tensor};

use super::attention::mask;
use super::noise::sampling_keys;
use crate::error::{Error, Result};
use crate::sample::{Choice, Draw, Sampling};

/// Halvings of an interval of logits: what is left is finer than `f32`'s own steps at its ends.
const HALVINGS: usize = 40;

/// A lane that draws: how, which step of its own it is at, and the ids that the repetition penalty is for.
pub(super) struct Drawing<'a> {
    pub draw: Draw,
    pub step: usize,
    pub seen: &'a [u32],
}

/// Draws for one sampling.
pub(super) struct Chooser<'a> {
    sampling: &'a Sampling,
    device: Device,
    /// `[1, V]`: −∞ for what the model never says, else 0.
    never: Tensor,
    /// The same for what the sampling bans.
    banned: Option<Tensor>,
    /// `[1, V]`: 0, 1, 2 …; exact in `f32`.
    ids: Tensor,
}

impl<'a> Chooser<'a> {
    /// `never` are the ids that the model never says.
    pub fn new(sampling: &'a Sampling, vocabulary: usize, never: &[u32], device: &Device) -> Result<Self> {
        let masked = |ids: &[u32]| -> Result<Tensor> {
            let mut row = vec![0.0; vocabulary];
            for id in ids {
                row[*id as usize] = f32::NEG_INFINITY;
            }
            Ok(Tensor::from_vec(row, (1, vocabulary), device)?)
        };
        let banned = if sampling.banned.is_empty() { None } else { Some(masked(&sampling.banned)?) };
        let ids = Tensor::arange(0, vocabulary as u32, device)?.to_dtype(DType::F32)?.reshape((1, vocabulary))?;
        Ok(Self { sampling, device: device.clone(), never: masked(never)?, banned, ids })
    }

    /// Logits with −∞ where the model never says the token.
    pub fn ban(&self, logits: &Tensor) -> Result<Tensor> {
        Ok(logits.broadcast_add(&self.never)?)
    }

    /// Draws a token for each row of `logits [N, V]`, which went through [`Self::ban`].
    pub fn choose(&self, logits: &Tensor, lanes: &[Drawing]) -> Result<Vec<Choice>> {
        let keys = self.restrict(logits, lanes)?;
        let keys = self.keep_likely(&keys, lanes)?;
        let draws = lanes.iter().map(|lane| (lane.draw, lane.step)).collect();
        let keys = sampling_keys(&keys.contiguous()?, draws, self.sampling.temperature as f32)?;
        let best = keys.max_keepdim(D::Minus1)?;
        let beyond = Tensor::new(f32::INFINITY, &self.device)?.broadcast_as(keys.shape())?;
        let ids = self.ids.broadcast_as(keys.shape())?;
        // The lowest id of equals.
        let chosen = keys.broadcast_eq(&best)?.where_cond(&ids, &beyond)?.min_keepdim(D::Minus1)?;
        let others = ids.broadcast_eq(&chosen)?.where_cond(&beyond.neg()?, &keys)?;
        let lead = (&best - others.max_keepdim(D::Minus1)?)?;
        let normaliser = logits.log_sum_exp(D::Minus1)?.unsqueeze(1)?;
        // A row without a best key has no id either.
        let within = chosen.minimum((self.ids.dim(1)? - 1) as f64)?.to_dtype(DType::U32)?;
        let logprob = (logits.gather(&within, 1)? - &normaliser)?;
        let rows = Tensor::cat(&[chosen, logprob, lead, normaliser], 1)?.to_vec2::<f32>()?;
        let choice = |row: Vec<f32>| match row[..] {
            [id, logprob, lead, normaliser] if normaliser.is_finite() && id.is_finite() => {
                Ok(Choice { id: id as u32, logprob, lead })
            }
            _ => Err(Error::Batch {
                problem: "the model's logits are not finite; its weights, or a picture's features, are broken"
                    .to_owned(),
            }),
        };
        rows.into_iter().map(choice).collect()
    }

    /// The probability of each of `tokens` under what the sampling makes of one prompt's logits `[1, V]`.
    pub fn probabilities(&self, logits: &Tensor, seen: &[u32], tokens: &[u32]) -> Result<Vec<f64>> {
        // Any draw by chance: its noise is never made.
        let lanes = [Drawing { draw: Draw::Key([0; 32]), step: 0, seen }];
        let kept = self.keep_likely(&self.restrict(logits, &lanes)?, &lanes)?;
        let probabilities = softmax(&(kept / self.sampling.temperature)?)?;
        let picked = probabilities.index_select(&Tensor::new(tokens, &self.device)?, 1)?;
        Ok(picked.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
    }

    /// Applies the repetition penalty and the banned tokens of the sampling.
    fn restrict(&self, logits: &Tensor, lanes: &[Drawing]) -> Result<Tensor> {
        let penalty = self.sampling.repetition_penalty;
        let longest = lanes.iter().map(|lane| lane.seen.len()).max().unwrap_or(0);
        let mut restricted = logits.clone();
        if penalty != 1.0 && longest > 0 {
            // Filled up with each lane's last id: to write the same a second time changes nothing.
            let padded = lanes.iter().flat_map(|lane| {
                let last = lane.seen.last().copied().unwrap_or(0);
                lane.seen.iter().copied().chain(std::iter::repeat_n(last, longest - lane.seen.len()))
            });
            let seen = Tensor::from_vec(padded.collect::<Vec<u32>>(), (lanes.len(), longest), &self.device)?;
            let found = logits.gather(&seen, 1)?;
            let negative = found.lt(&found.zeros_like()?)?;
            let changed = negative.where_cond(&(&found * penalty)?, &(&found / penalty)?)?;
            restricted = restricted.scatter(&seen, &changed, 1)?;
        }
        match &self.banned {
            Some(banned) => Ok(restricted.broadcast_add(banned)?),
            None => Ok(restricted),
        }
    }

    /// Sets to −∞ what top-k, and then top-p of what is left, do not keep; of equals the lower ids are kept. Greedy
    /// lanes keep all.
    fn keep_likely(&self, logits: &Tensor, lanes: &[Drawing]) -> Result<Tensor> {
        let Sampling { top_k, top_p, temperature, .. } = *self.sampling;
        let (count, vocabulary) = logits.dims2()?;
        let mut kept = logits.clone();
        if let Some(k) = top_k.filter(|k| *k < vocabulary) {
            let each = Tensor::ones((count, vocabulary), DType::F32, &self.device)?;
            kept = self.keep_fewest(&kept, &each, &Tensor::full(k as f32, (count, 1), &self.device)?)?;
        }
        if top_p < 1.0 {
            let weights = softmax(&(&kept / temperature)?)?;
            let needed = (weights.sum_keepdim(D::Minus1)? * top_p)?;
            kept = self.keep_fewest(&kept, &weights, &needed)?;
        }
        let greedy: Vec<u8> = lanes.iter().map(|lane| u8::from(lane.draw == Draw::Greedy)).collect();
        if greedy.contains(&1) {
            let greedy = Tensor::from_vec(greedy, (count, 1), &self.device)?.broadcast_as(logits.shape())?;
            kept = greedy.where_cond(logits, &kept)?;
        }
        Ok(kept)
    }

    /// Keeps of each row the fewest largest logits whose weights reach `needed [N, 1]`, of equals the lower ids.
    fn keep_fewest(&self, logits: &Tensor, weights: &Tensor, needed: &Tensor) -> Result<Tensor> {
        let nothing = weights.zeros_like()?;
        let weight_of =
            |kept: &Tensor| -> Result<Tensor> { Ok(kept.where_cond(weights, &nothing)?.sum_keepdim(D::Minus1)?) };
        let largest = logits.max_keepdim(D::Minus1)?;
        let finite = logits.broadcast_gt(&Tensor::new(f32::NEG_INFINITY, &self.device)?)?;
        let least = finite.where_cond(logits, &largest.broadcast_as(logits.shape())?)?.min_keepdim(D::Minus1)?;
        // Logits from `low` on reach what is needed (or are all there are); those from `high` on do not.
        let (low, high) = halve(HALVINGS, least, (largest + 1.0)?, |middle| {
            Ok(weight_of(&logits.broadcast_ge(middle)?)?.ge(needed)?)
        })?;
        let certain = logits.broadcast_ge(&high)?;
        let missing = (needed - weight_of(&certain)?)?;
        let equal = (logits.broadcast_ge(&low)? - &certain)?;
        // The ids below `end` do, of the equals; those below `start` do not.
        let bits = usize::BITS - self.ids.dim(1)?.leading_zeros();
        let (start, end) = (needed.zeros_like()?, (needed.zeros_like()? + self.ids.dim(1)? as f64)?);
        let below = |end: &Tensor| -> Result<Tensor> {
            Ok((&equal * self.ids.broadcast_lt(end)?.broadcast_as(equal.shape())?)?)
        };
        let (end, _) =
            halve(bits as usize + 1, end, start, |middle| Ok(weight_of(&below(&middle.ceil()?)?)?.ge(&missing)?))?;
        Ok((logits + mask(&(certain + below(&end.ceil()?)?)?)?)?)
    }
}

/// Probabilities of each row. The library's own kernel has 32 threads a row, which is few for a vocabulary.
fn softmax(logits: &Tensor) -> Result<Tensor> {
    let normaliser = logits.log_sum_exp(D::Minus1)?.unsqueeze(1)?;
    Ok(logits.broadcast_sub(&normaliser)?.exp()?)
}

/// Halves intervals `[N, 1]` between values that reach (and do so still where `reaches` is 1) and values that do not.
fn halve(
    times: usize,
    mut reaching: Tensor,
    mut short: Tensor,
    reaches: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<(Tensor, Tensor)> {
    for _ in 0..times {
        let middle = ((&reaching + &short)? / 2.0)?;
        let yes = reaches(&middle)?;
        reaching = yes.where_cond(&middle, &reaching)?;
        short = yes.where_cond(&short, &middle)?;
    }
    Ok((reaching, short))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::probabilities;

    /// With equals, and one that is never said.
    const LOGITS: [f32; 8] = [0.0, 1.0, f32::NEG_INFINITY, 2.0, 1.0, 1.0, -3.0, 2.0];

    fn assert_as_on_the_cpu(sampling: &Sampling, seen: &[u32]) {
        let chooser = Chooser::new(sampling, LOGITS.len(), &[2], &Device::Cpu).unwrap();
        let logits = Tensor::new(&[LOGITS], &Device::Cpu).unwrap();
        let found = chooser.probabilities(&logits, seen, &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        for (found, expected) in found.iter().zip(probabilities(&LOGITS, seen, sampling)) {
            assert!((found - expected).abs() < 1e-6, "{sampling:?}: {found}, expected {expected}");
        }
    }

    #[test]
    fn top_k_keeps_of_equals_the_lower_ids() {
        for k in 1..9 {
            assert_as_on_the_cpu(&Sampling { top_k: Some(k), ..Sampling::default() }, &[]);
        }
    }

    #[test]
    fn top_p_keeps_of_equals_the_lower_ids() {
        for hundredths in [1, 20, 33, 36, 40, 60, 72, 80, 85, 95, 99] {
            let top_p = f64::from(hundredths) / 100.0;
            assert_as_on_the_cpu(&Sampling { top_p, temperature: 0.9, ..Sampling::default() }, &[]);
            assert_as_on_the_cpu(&Sampling { top_p, top_k: Some(5), ..Sampling::default() }, &[]);
        }
    }

    #[test]
    fn the_penalty_and_the_banned_tokens_come_first() {
        let sampling = Sampling { repetition_penalty: 2.5, banned: vec![3], top_k: Some(3), ..Sampling::default() };
        assert_as_on_the_cpu(&sampling, &[1, 6, 7]);
    }

    #[test]
    fn of_equal_keys_the_lower_id_is_chosen_and_leads_by_nothing() {
        let sampling = Sampling::default();
        let chooser = Chooser::new(&sampling, LOGITS.len(), &[2], &Device::Cpu).unwrap();
        let logits = Tensor::new(&[LOGITS], &Device::Cpu).unwrap();
        let lanes = [Drawing { draw: Draw::Greedy, step: 0, seen: &[] }];
        let choice = chooser.choose(&logits, &lanes).unwrap()[0];
        assert_eq!((choice.id, choice.lead), (3, 0.0));
    }

    #[test]
    fn logits_that_are_not_numbers_are_refused() {
        let sampling = Sampling::default();
        let chooser = Chooser::new(&sampling, 2, &[], &Device::Cpu).unwrap();
        for broken in [[0.0, f32::NAN], [f32::NEG_INFINITY; 2], [f32::INFINITY, 0.0]] {
            let lanes = [Drawing { draw: Draw::Key([1; 32]), step: 0, seen: &[] }];
            let message = chooser.choose(&Tensor::new(&[broken], &Device::Cpu).unwrap(), &lanes).unwrap_err();
            assert!(message.to_string().contains("not finite"), "{message}");
        }
    }
}
