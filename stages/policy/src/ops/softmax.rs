//! Softmax of rows of attention scores, and which scores there are.

use super::exp::exp;
use super::norm::{largest, sum};
use super::widest;

/// Which of its own lane's keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// All of them.
    Full,
    /// Row `t` of a lane sees the keys `0 ..= first + t`.
    Causal {
        /// Keys of the lane that stand before its first query.
        first: usize,
    },
}

/// Replaces scores by `exp(scale · (score − largest))` and gives their sum.
pub(crate) fn weights(scores: &mut [f32], scale: f32) -> f32 {
    widest(|| {
        let largest = largest(scores);
        for score in scores.iter_mut() {
            *score = exp((*score - largest) * scale);
        }
        sum(scores.len(), |i| scores[i])
    })
}

/// The gradient of scores, in the place of `dp`, that of their probabilities `p`: `scale · p · (dp − Σ p·dp)`.
pub(crate) fn backward(p: &[f32], dp: &mut [f32], scale: f32) {
    let width = p.len();
    let dp = &mut dp[..width];
    let mean = sum(width, |i| p[i] * dp[i]);
    for (dp, p) in dp.iter_mut().zip(p) {
        *dp = scale * p * (*dp - mean);
    }
}

/// How many of a lane's `keys` its row `row` sees: the first ones.
pub(crate) fn seen(mask: Mask, row: usize, keys: usize) -> usize {
    match mask {
        Mask::Full => keys,
        Mask::Causal { first } => keys.min(first + row + 1),
    }
}
