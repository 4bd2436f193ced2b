//! Log-probabilities of chosen tokens, straight from logits `[M, V]`, without a second tensor of that size.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::exp::exp;
use super::norm::sum;
use super::{Floats, overwrite, piece, widest};

/// A token whose log-probability is wanted, and the row of logits that predicts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Row of the logits.
    pub row: usize,
    /// Token id.
    pub id: u32,
}

/// Log-softmax over all tokens but the banned ones, at the picks. Also gives each row's log-normaliser, which
/// [`log_probabilities_backward`] takes. A pick of a banned token gets −∞.
pub fn log_probabilities(logits: &Tensor, banned: &[u32], picks: &[Pick]) -> Result<(Vec<f32>, Vec<f32>)> {
    let (rows, vocabulary) = logits.dims2()?;
    let logits = Floats::of(logits)?;
    let (mut normalisers, piece) = (vec![0.0; rows], piece(logits.len(), vocabulary));
    let pieces = normalisers.par_chunks_mut((piece / vocabulary).max(1)).zip(logits.par_chunks(piece));
    pieces.for_each(|(normalisers, logits)| {
        let mut row = vec![0.0; vocabulary];
        for (normaliser, logits) in normalisers.iter_mut().zip(logits.chunks_exact(vocabulary)) {
            row.copy_from_slice(logits);
            ban(&mut row, banned);
            *normaliser = log_normaliser(&row);
        }
    });
    let picked = picks
        .iter()
        .map(|&Pick { row, id }| match banned.binary_search(&id) {
            Ok(_) => f32::NEG_INFINITY,
            Err(_) => logits[row * vocabulary + id as usize] - normalisers[row],
        })
        .collect();
    Ok((picked, normalisers))
}

/// Puts the gradient of the logits in their place, given that of each pick's log-probability: `Σ g·(onehot − softmax)`
/// over a row's picks. No other tensor of that size is made.
pub fn log_probabilities_backward(
    logits: &Tensor,
    normalisers: &[f32],
    banned: &[u32],
    picks: &[Pick],
    gradients: &[f32],
) -> Result<()> {
    let (rows, vocabulary) = logits.dims2()?;
    let mut totals = vec![0.0; rows];
    for (pick, gradient) in picks.iter().zip(gradients) {
        totals[pick.row] += gradient;
    }
    let piece = piece(logits.elem_count(), vocabulary);
    let of_piece = (piece / vocabulary).max(1);
    overwrite(logits, |logits| {
        let factors = normalisers.par_chunks(of_piece).zip(totals.par_chunks(of_piece));
        logits.par_chunks_mut(piece).zip(factors).for_each(|(logits, (normalisers, totals))| {
            widest(|| {
                for ((logits, normaliser), total) in logits.chunks_exact_mut(vocabulary).zip(normalisers).zip(totals) {
                    for logit in logits.iter_mut() {
                        *logit = -total * exp(*logit - normaliser);
                    }
                    for &id in banned {
                        logits[id as usize] = 0.0;
                    }
                }
            });
        });
        for (pick, gradient) in picks.iter().zip(gradients) {
            logits[pick.row * vocabulary + pick.id as usize] += gradient;
        }
    })
}

/// Sets the banned tokens' logits to −∞. `banned` is in rising order and within the vocabulary.
pub fn ban(logits: &mut [f32], banned: &[u32]) {
    for &id in banned {
        logits[id as usize] = f32::NEG_INFINITY;
    }
}

/// `ln Σ exp(logit)`; logits of −∞ add nothing.
pub fn log_normaliser(logits: &[f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    largest + libm::logf(widest(|| sum(logits.len(), |i| exp(logits[i] - largest))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tensor;

    fn logits() -> Tensor {
        tensor((0..14).map(|i| (i as f32 * 1.7).sin() * 3.0).collect(), (2, 7)).unwrap()
    }

    #[test]
    fn probabilities_of_what_is_not_banned_sum_to_one() {
        let picks: Vec<Pick> = (0..7).map(|id| Pick { row: 1, id }).collect();
        let (picked, _) = log_probabilities(&logits(), &[2, 5], &picks).unwrap();
        let total: f32 = picked.iter().map(|l| l.exp()).sum();
        assert!((total - 1.0).abs() < 1e-6);
        assert_eq!((picked[2], picked[5]), (f32::NEG_INFINITY, f32::NEG_INFINITY));
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let picks = [Pick { row: 0, id: 3 }, Pick { row: 1, id: 0 }, Pick { row: 0, id: 6 }];
        let (banned, weights) = ([1], [0.7, -1.3, 0.4]);
        let value = |logits: &Tensor| -> f32 {
            let (picked, _) = log_probabilities(logits, &banned, &picks).unwrap();
            picked.iter().zip(weights).map(|(l, w)| l * w).sum()
        };
        let (_, normalisers) = log_probabilities(&logits(), &banned, &picks).unwrap();
        let exact = logits();
        log_probabilities_backward(&exact, &normalisers, &banned, &picks, &weights).unwrap();
        super::super::check::close_to_differences(&logits(), &exact, value);
    }
}
