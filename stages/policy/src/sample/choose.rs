//! Choosing a token from logits: which tokens may be drawn, how likely each is, and the draw.
//!
//! A token is drawn by the largest sampling key, `logit / temperature + noise`: with standard Gumbel noise that is a
//! draw from the softmax. Each lane, step and token has noise of its own, made from the lane's key by counting. So
//! logits that differ in their last bits give the same token, unless two keys are as close as those bits.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::{Draw, Sampling};
use crate::error::{Error, Result};
use crate::ops::exp::{exp, ln};
use crate::ops::logits::log_normaliser;
use crate::ops::norm::largest;
use crate::ops::widest;

/// A drawn token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Choice {
    pub id: u32,
    /// Under the model's own distribution.
    pub logprob: f32,
    /// By how much its key leads the next one; infinite where there is no other.
    pub lead: f32,
}

/// Draws token `step` of a lane from its logits, those of banned ids at −∞. `seen` are the ids that the repetition
/// penalty is for, each once.
pub(crate) fn choose(logits: &[f32], seen: &[u32], sampling: &Sampling, draw: Draw, step: usize) -> Result<Choice> {
    let normaliser = widest(|| log_normaliser(logits));
    if !normaliser.is_finite() {
        return Err(Error::Batch {
            problem: "the model's logits are not finite; its weights, or a picture's features, are broken".to_owned(),
        });
    }
    let mut keys = logits.to_vec();
    restrict(&mut keys, seen, sampling);
    if let Draw::Key(key) = draw {
        keep_likely(&mut keys, sampling);
        add_noise(&mut keys, sampling.temperature as f32, key, step);
    }
    let (id, lead) = leader(&keys);
    Ok(Choice { id, logprob: logits[id as usize] - normaliser, lead })
}

/// The probability of every token under what `sampling` makes of the logits.
pub(crate) fn probabilities(logits: &[f32], seen: &[u32], sampling: &Sampling) -> Vec<f64> {
    let mut kept = logits.to_vec();
    restrict(&mut kept, seen, sampling);
    keep_likely(&mut kept, sampling);
    let top = f64::from(largest(&kept));
    let weights = kept.iter().map(|logit| libm::exp((f64::from(*logit) - top) / sampling.temperature));
    let weights: Vec<f64> = weights.collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// Applies the repetition penalty and the banned tokens of `sampling`.
fn restrict(logits: &mut [f32], seen: &[u32], sampling: &Sampling) {
    let penalty = sampling.repetition_penalty as f32;
    for &id in seen {
        let logit = &mut logits[id as usize];
        *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
    }
    for &id in &sampling.banned {
        logits[id as usize] = f32::NEG_INFINITY;
    }
}

/// Sets to −∞ what top-k, and then top-p of what is left, do not keep. Of equals the lower ids are kept.
fn keep_likely(logits: &mut [f32], sampling: &Sampling) {
    let Sampling { top_k, top_p, .. } = *sampling;
    if top_k.is_none_or(|k| k >= logits.len()) && top_p >= 1.0 {
        return;
    }
    let (largest, temperature) = (largest(logits), sampling.temperature as f32);
    let weigh = |logit: f32| exp((logit - largest) / temperature);
    let mut candidates: Vec<(u32, f32)> = (0..).zip(logits.iter().map(|logit| weigh(*logit))).collect();
    let likelier = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if let Some(k) = top_k.filter(|&k| k < candidates.len()) {
        candidates.select_nth_unstable_by(k, likelier);
        candidates.truncate(k);
    }
    if top_p < 1.0 {
        let total: f64 = candidates.iter().map(|(_, weight)| f64::from(*weight)).sum();
        // All tokens below this weight together do not reach what top-p leaves out, so it keeps none of them.
        let least = (1.0 - top_p) * total / candidates.len() as f64;
        candidates.retain(|(_, weight)| f64::from(*weight) >= least);
        candidates.sort_unstable_by(likelier);
        let mut reached = 0.0;
        let needed = candidates.iter().take_while(|(_, weight)| {
            let more = reached < top_p * total;
            reached += f64::from(*weight);
            more
        });
        let needed = needed.count();
        candidates.truncate(needed);
    }
    candidates.sort_unstable_by_key(|candidate| candidate.0);
    let mut kept = candidates.iter().map(|candidate| candidate.0).peekable();
    for (id, logit) in (0..).zip(logits) {
        if kept.next_if_eq(&id).is_none() {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// Makes sampling keys of logits, with the noise of token `step` of the lane of `key`: word `id` of the stream
/// `step` is token `id`'s.
pub(crate) fn add_noise(logits: &mut [f32], temperature: f32, key: [u8; 32], step: usize) {
    let mut stream = ChaCha8Rng::from_seed(key);
    stream.set_stream(step as u64);
    let words: Vec<u32> = logits.iter().map(|_| stream.next_u32()).collect();
    widest(|| {
        for (logit, word) in logits.iter_mut().zip(words) {
            *logit = *logit / temperature + gumbel(word);
        }
    });
}

/// Standard Gumbel noise, `−ln(−ln(1 − v))` with `v` in (0, 1) from the upper 31 bits of `word`.
#[inline]
fn gumbel(word: u32) -> f32 {
    const STEP: f32 = 1.0 / (1_u32 << 31) as f32;
    const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;
    let v = (((word >> 1) as i32 as f32 + 0.5) * STEP).min(BELOW_ONE);
    // Near 0, where 1 − v would lose v's digits, the series of −ln(1 − v).
    let series = v * (1.0 + v * (0.5 + v * (1.0 / 3.0 + v * (0.25 + v * 0.2))));
    let exponential = if v < 1.0 / 32.0 { series } else { -ln(1.0 - v) };
    -ln(exponential)
}

/// Id and lead of the largest key; the lower id of equals.
fn leader(keys: &[f32]) -> (u32, f32) {
    let best = widest(|| largest(keys));
    let id = keys.iter().position(|key| *key == best).unwrap_or(0);
    let others = widest(|| largest(&keys[..id]).max(largest(&keys[id + 1..])));
    (id as u32, best - others)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 1.0, f32::NEG_INFINITY, 2.0, 1.0];

    /// How often each token is drawn, of 20,000 draws.
    fn shares(sampling: &Sampling, seen: &[u32]) -> Vec<f64> {
        let mut shares = vec![0.0; LOGITS.len()];
        for step in 0..20_000 {
            shares[choose(&LOGITS, seen, sampling, Draw::Key([7; 32]), step).unwrap().id as usize] += 1.0 / 20_000.0;
        }
        shares
    }

    /// Whether all shares are within three standard deviations of the probabilities.
    fn assert_drawn_by(sampling: &Sampling, seen: &[u32], weights: [f64; 5]) {
        let exact = probabilities(&LOGITS, seen, sampling);
        let total: f64 = weights.iter().sum();
        for ((share, weight), exact) in shares(sampling, seen).iter().zip(weights).zip(exact) {
            let probability = weight / total;
            assert!((exact - probability).abs() < 1e-6, "{exact} is said, {probability} is meant");
            let deviation = (probability * (1.0 - probability) / 20_000.0).sqrt();
            assert!((share - probability).abs() <= 3.0 * deviation + 1e-9, "{share} of {probability}");
        }
    }

    #[test]
    fn tokens_are_drawn_by_their_probabilities() {
        let e = 1_f64.exp();
        assert_drawn_by(&Sampling::default(), &[], [1.0, e, 0.0, e * e, e]);
    }

    #[test]
    fn temperature_divides_the_logits() {
        let cold = Sampling { temperature: 0.5, ..Sampling::default() };
        let e = 2_f64.exp();
        assert_drawn_by(&cold, &[], [1.0, e, 0.0, e * e, e]);
    }

    #[test]
    fn top_k_keeps_the_most_likely_and_of_equals_the_lower_ids() {
        let two = Sampling { top_k: Some(2), ..Sampling::default() };
        assert_drawn_by(&two, &[], [0.0, 1.0, 0.0, 1_f64.exp(), 0.0]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it() {
        // The probabilities are .072, .197, 0, .534 and .197.
        for (top_p, weights) in [
            (0.5, [0.0, 0.0, 0.0, 1.0, 0.0]),
            (0.55, [0.0, 1.0, 0.0, 1_f64.exp(), 0.0]),
            (0.75, [0.0, 1.0, 0.0, 1_f64.exp(), 1.0]),
            (0.95, [1.0, 1_f64.exp(), 0.0, 2_f64.exp(), 1_f64.exp()]),
        ] {
            assert_drawn_by(&Sampling { top_p, ..Sampling::default() }, &[], weights);
        }
    }

    #[test]
    fn top_p_counts_in_what_top_k_leaves() {
        // Of the two that top-k keeps, the better one has .731.
        let both = Sampling { top_k: Some(2), top_p: 0.7, ..Sampling::default() };
        assert_drawn_by(&both, &[], [0.0, 0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn the_penalty_makes_seen_tokens_less_likely() {
        let penalty = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        let e = 1_f64.exp();
        assert_drawn_by(&penalty, &[0, 3], [1.0, e, 0.0, e, e]);
        let mut logits = [2.0, -2.0, 3.0];
        restrict(&mut logits, &[0, 1], &penalty);
        assert_eq!(logits, [1.0, -4.0, 3.0]);
    }

    #[test]
    fn banned_tokens_are_not_drawn_and_the_rest_keep_their_shares() {
        let banned = Sampling { banned: vec![3], ..Sampling::default() };
        let e = 1_f64.exp();
        assert_drawn_by(&banned, &[], [1.0, e, 0.0, 0.0, e]);
    }

    #[test]
    fn the_log_probability_is_the_models_own() {
        let shaped = Sampling { temperature: 0.1, top_k: Some(1), repetition_penalty: 3.0, ..Sampling::default() };
        let choice = choose(&LOGITS, &[3], &shaped, Draw::Greedy, 0).unwrap();
        let total: f64 = LOGITS.iter().map(|logit| f64::from(*logit).exp()).sum();
        assert_eq!(choice.id, 1);
        assert!((f64::from(choice.logprob) - (1.0 - total.ln())).abs() < 1e-6);
        assert_eq!(choice.lead, 0.0);
    }

    #[test]
    fn noise_is_standard_gumbel_and_each_lane_step_and_token_has_its_own() {
        let mut all = Vec::new();
        for lane in 0..4 {
            for step in 0..4 {
                let mut noise = vec![0.0; 10_000];
                add_noise(&mut noise, 1.0, [lane; 32], step);
                all.extend(noise);
            }
        }
        let count = all.len() as f64;
        let mean = all.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
        let variance = all.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
        // Euler's constant and π²/6, within three standard deviations.
        assert!((mean - 0.577_216).abs() < 3.0 * (1.644_934 / count).sqrt(), "{mean}");
        assert!((variance - 1.644_934).abs() < 3.0 * (4.4 * 1.644_934_f64.powi(2) / count).sqrt(), "{variance}");
        all.sort_unstable_by(f32::total_cmp);
        let repeated = all.windows(2).filter(|pair| pair[0] == pair[1]).count();
        // 160,000 draws of 31 bits, seen through f32: some meet by chance.
        assert!(repeated < 16_000, "{repeated}");
    }

    #[test]
    fn the_rarest_noise_is_finite() {
        for word in [0, 1, 2, u32::MAX - 1, u32::MAX] {
            assert!(gumbel(word).is_finite(), "{word}: {}", gumbel(word));
        }
        // −ln of half a step of v, and −ln(−ln) of the smallest 1 − v.
        assert!((gumbel(0) - 32.0 * 2_f32.ln()).abs() < 1e-4);
        assert!((gumbel(u32::MAX) + (24.0 * 2_f32.ln()).ln()).abs() < 1e-4);
    }

    #[test]
    fn logits_that_are_not_numbers_are_refused() {
        let message = choose(&[0.0, f32::NAN], &[], &Sampling::default(), Draw::Greedy, 0).unwrap_err().to_string();
        assert!(message.contains("not finite"), "{message}");
    }
}
