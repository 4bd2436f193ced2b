//! The loss of a group on tensors, for the policy's backward pass: Eq. 5 and 6 in both forms.
//!
//! Shapes: `K` completions of at most `T` tokens.

use candle_core::{DType, Result, Tensor};
use clap::ValueEnum;
use serde::Serialize;

/// What a ratio and a divergence are taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Of each token; the mean over a completion's tokens, then over completions (V, T)
    Token,
    /// Of whole completions, as the paper prints Eq. 5 and 6; the mean over completions
    Sequence,
}

/// The loss's constants.
#[derive(Debug, Clone, Copy)]
pub struct Constants {
    /// ε: how far the ratio may leave 1 before it is clipped.
    pub epsilon: f64,
    /// β: weight of the divergence from the reference policy.
    pub beta: f64,
}

/// What is known of a picture's completions beside their log-probabilities now.
#[derive(Debug)]
pub struct Known<'a> {
    /// `[K, T]`: the tokens' log-probabilities under the policy that the batch was drawn from, and 0 beyond a completion's end.
    pub old: &'a Tensor,
    /// `[K, T]`: the same under the reference policy.
    pub reference: &'a Tensor,
    /// `[K, T]`: 1 at tokens, 0 beyond a completion's end.
    pub mask: &'a Tensor,
    /// `[K, 1]`: Eq. 4.
    pub advantages: &'a Tensor,
}

/// The loss of one picture's completions, a scalar: minus the mean over completions of
/// `min(ρ·a, clip(ρ, 1±ε)·a) − β·k3`, with `ρ = π/π_old` and `k3 = π_ref/π − ln(π_ref/π) − 1`.
///
/// In the form of [`Objective::Token`], π is a token's probability and the term is the mean over the completion's tokens; in that
/// of [`Objective::Sequence`], π is the whole completion's. `logprobs`, `[K, T]`, are the policy's now: where they are those of
/// `old`, ρ is 1 in value and carries the gradient.
pub fn loss(objective: Objective, logprobs: &Tensor, known: &Known, constants: Constants) -> Result<Tensor> {
    let Terms { ratio, behind, weights } = terms(logprobs, known, objective)?;
    let clipped = ratio.clamp(1.0 - constants.epsilon, 1.0 + constants.epsilon)?;
    let gain = ratio.broadcast_mul(known.advantages)?.minimum(&clipped.broadcast_mul(known.advantages)?)?;
    let k3 = ((behind.exp()? - behind)? - 1.0)?;
    let gained = ((gain - (k3 * constants.beta)?)? * &weights)?;
    gained.sum_keepdim(1)?.broadcast_div(&weights.sum_keepdim(1)?)?.mean_all()?.neg()
}

/// How many ratios Eq. 5 clips, so that they carry no gradient of the gain, and of how many.
pub fn clipped(objective: Objective, logprobs: &Tensor, known: &Known, constants: Constants) -> Result<(u64, u64)> {
    let Terms { ratio, weights, .. } = terms(logprobs, known, objective)?;
    let bound = ratio.clamp(1.0 - constants.epsilon, 1.0 + constants.epsilon)?;
    let less = bound.broadcast_mul(known.advantages)?.lt(&ratio.broadcast_mul(known.advantages)?)?;
    let count = |of: &Tensor| Ok::<_, candle_core::Error>(of.sum_all()?.to_scalar::<f32>()? as u64);
    Ok((count(&(less.to_dtype(DType::F32)? * &weights)?)?, count(&weights)?))
}

/// What Eq. 5 and 6 are about, token by token or completion by completion: `[K, T]` or `[K, 1]`.
struct Terms {
    /// ρ.
    ratio: Tensor,
    /// `ln(π_ref/π)`.
    behind: Tensor,
    /// 1 where there is a term.
    weights: Tensor,
}

fn terms(logprobs: &Tensor, known: &Known, objective: Objective) -> Result<Terms> {
    let (ahead, behind) = ((logprobs - known.old)?, (known.reference - logprobs)?);
    Ok(match objective {
        Objective::Token => Terms { ratio: ahead.exp()?, behind, weights: known.mask.clone() },
        Objective::Sequence => {
            let whole = |of: Tensor| (of * known.mask)?.sum_keepdim(1);
            let behind = whole(behind)?;
            Terms { ratio: whole(ahead)?.exp()?, weights: behind.ones_like()?, behind }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    const NOW: [[f32; 2]; 2] = [[-1.0, -2.0], [-0.5, 0.0]];

    /// The loss, and its gradient by `NOW`, of two completions of two tokens and of one.
    fn descent(objective: Objective, old: [[f32; 2]; 2]) -> (f64, Vec<f64>, (u64, u64)) {
        let device = Device::Cpu;
        let logprobs = Var::new(&NOW, &device).unwrap();
        let known = Known {
            old: &Tensor::new(&old, &device).unwrap(),
            reference: &Tensor::new(&[[-1.5f32, -1.0], [-0.5, 0.0]], &device).unwrap(),
            mask: &Tensor::new(&[[1.0f32, 1.0], [1.0, 0.0]], &device).unwrap(),
            advantages: &Tensor::new(&[[0.8f32], [-0.6]], &device).unwrap(),
        };
        let constants = Constants { epsilon: 0.2, beta: 0.05 };
        let value = loss(objective, logprobs.as_tensor(), &known, constants).unwrap();
        let gradients = value.backward().unwrap();
        let gradient = gradients.get(&logprobs).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let clipped = clipped(objective, logprobs.as_tensor(), &known, constants).unwrap();
        (f64::from(value.to_scalar::<f32>().unwrap()), gradient.into_iter().map(f64::from).collect(), clipped)
    }

    #[track_caller]
    fn close(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
    }

    fn k3(behind: f64) -> f64 {
        libm::exp(behind) - behind - 1.0
    }

    /// At ρ = 1 the derivative by a token's log-probability is `−(a + β·(exp(ref − logp) − 1)) / (T_k·K)`.
    #[test]
    fn the_gradient_by_tokens_is_the_one_worked_out_by_hand() {
        let (loss, gradient, clipped) = descent(Objective::Token, NOW);
        let by_hand = |a: f64, behind: f64, tokens: f64| -(a + 0.05 * (libm::exp(behind) - 1.0)) / (tokens * 2.0);
        close(&gradient, &[by_hand(0.8, -0.5, 2.0), by_hand(0.8, 1.0, 2.0), by_hand(-0.6, 0.0, 1.0), 0.0]);
        close(&[loss], &[-((0.8 - 0.05 * f64::midpoint(k3(-0.5), k3(1.0))) - 0.6) / 2.0]);
        assert_eq!(clipped, (0, 3));
    }

    /// At ρ = 1 every token of a completion has the derivative `−(a + β·(exp(Σ(ref − logp)) − 1)) / K`.
    #[test]
    fn the_gradient_by_whole_completions_is_the_one_worked_out_by_hand() {
        let (loss, gradient, clipped) = descent(Objective::Sequence, NOW);
        let by_hand = |a: f64, behind: f64| -(a + 0.05 * (libm::exp(behind) - 1.0)) / 2.0;
        close(&gradient, &[by_hand(0.8, 0.5), by_hand(0.8, 0.5), by_hand(-0.6, 0.0), 0.0]);
        close(&[loss], &[-((0.8 - 0.05 * k3(0.5)) - 0.6) / 2.0]);
        assert_eq!(clipped, (0, 2));
    }

    /// A ratio beyond 1 + ε of a good completion, and one under 1 − ε of a bad one, carry the divergence's gradient alone; one
    /// under 1 − ε of a good completion is not clipped.
    #[test]
    fn a_clipped_token_carries_the_gradient_of_the_divergence_alone() {
        let (_, gradient, clipped) = descent(Objective::Token, [[-2.0, -1.5], [-0.1, 0.0]]);
        let k3_part = |behind: f64, tokens: f64| -0.05 * (libm::exp(behind) - 1.0) / (tokens * 2.0);
        let free = -0.8 * libm::exp(-0.5) / 4.0;
        close(&gradient, &[k3_part(-0.5, 2.0), k3_part(1.0, 2.0) + free, k3_part(0.0, 1.0), 0.0]);
        assert_eq!(clipped, (2, 3));
    }

    #[test]
    fn a_completion_is_clipped_as_a_whole_by_the_sum_of_its_tokens() {
        let (_, gradient, clipped) = descent(Objective::Sequence, [[-2.0, -1.5], [-0.5, 0.0]]);
        // ρ of the first is exp(0.5), beyond 1.2.
        let k3_part = -0.05 * (libm::exp(0.5) - 1.0) / 2.0;
        close(&gradient, &[k3_part, k3_part, 0.6 / 2.0, 0.0]);
        assert_eq!(clipped, (1, 2));
    }
}
