//! The loss of a group on tensors, for the policy's backward pass: Eq. 5 and 6 in the `token` form.
//!
//! Shapes: `K` completions of at most `T` tokens.

use candle_core::{Result, Tensor};

/// The loss's constants.
#[derive(Debug, Clone, Copy)]
pub struct Constants {
    /// ε: how far the ratio may leave 1 before it is clipped.
    pub epsilon: f64,
    /// β: weight of the divergence from the reference policy.
    pub beta: f64,
}

/// The loss of one picture's completions, a scalar: minus the mean over completions of the mean over tokens of
/// `min(ρ·a, clip(ρ, 1±ε)·a) − β·k3`, times `scale`.
///
/// `logprobs` and `reference`, `[K, T]`, are the tokens' log-probabilities under the policy and the reference policy, `mask`
/// `[K, T]` has 1 at real tokens, `advantages` `[K, 1]` are Eq. 4's. One inner iteration is done with each batch, so that the
/// policy that drew the completions is the policy now: ρ is 1 in value and carries the gradient.
pub fn token_loss(
    logprobs: &Tensor,
    reference: &Tensor,
    mask: &Tensor,
    advantages: &Tensor,
    constants: Constants,
    scale: f64,
) -> Result<Tensor> {
    let ratio = (logprobs - logprobs.detach())?.exp()?;
    let clipped = ratio.clamp(1.0 - constants.epsilon, 1.0 + constants.epsilon)?;
    let gain = ratio.broadcast_mul(advantages)?.minimum(&clipped.broadcast_mul(advantages)?)?;
    let behind = (reference - logprobs)?;
    let k3 = ((behind.exp()? - behind)? - 1.0)?;
    let objective = ((gain - (k3 * constants.beta)?)? * mask)?;
    let lengths = mask.sum_keepdim(1)?;
    objective.sum_keepdim(1)?.broadcast_div(&lengths)?.mean_all()? * -scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// At ρ = 1 the derivative by a token's log-probability is `−(a + β·(exp(ref − logp) − 1)) / (T_k·K)`.
    #[test]
    fn the_gradient_is_the_one_worked_out_by_hand() {
        let device = Device::Cpu;
        let logprobs = Var::new(&[[-1.0f32, -2.0], [-0.5, 0.0]], &device).unwrap();
        let reference = Tensor::new(&[[-1.5f32, -1.0], [-0.5, 0.0]], &device).unwrap();
        let mask = Tensor::new(&[[1.0f32, 1.0], [1.0, 0.0]], &device).unwrap();
        let advantages = Tensor::new(&[[0.8f32], [-0.6]], &device).unwrap();
        let constants = Constants { epsilon: 0.2, beta: 0.05 };
        let loss = token_loss(logprobs.as_tensor(), &reference, &mask, &advantages, constants, 1.0).unwrap();
        let gradients = loss.backward().unwrap();
        let got = gradients.get(&logprobs).unwrap().to_vec2::<f32>().unwrap();
        let by_hand = |a: f64, behind: f64, tokens: f64| -(a + 0.05 * (libm::exp(behind) - 1.0)) / (tokens * 2.0);
        let expected = [[by_hand(0.8, -0.5, 2.0), by_hand(0.8, 1.0, 2.0)], [by_hand(-0.6, 0.0, 1.0), 0.0]];
        for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
            assert!((f64::from(*got) - expected).abs() < 1e-6, "{got} {expected}");
        }
    }
}
