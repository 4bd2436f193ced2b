//! Softmax of attention scores over two sets of keys at once: a prompt shared by all lanes, then a lane's own.

use candle_core::{Result, Tensor};

use super::exp::exp;
use super::norm::{largest, sum};
use super::{Floats, tensor, widest};

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

/// Probabilities `[B, T·rep, P + S]`: softmax of `scale ·` (`shared` scores beside `own` scores).
///
/// `own` is `[B, T·rep, S]` and `shared`, if there is a prompt, has `P` scores for each of its rows in the same
/// order. A shared key is seen by all. What the mask hides gets exactly 0.
pub fn softmax(shared: Option<&Tensor>, own: &Tensor, mask: Mask, rep: usize, scale: f32) -> Result<Tensor> {
    let (batches, rows, keys) = own.dims3()?;
    let prompt = shared.map_or(0, |shared| shared.elem_count() / (batches * rows));
    let shared = shared.map(Floats::of).transpose()?;
    let own = Floats::of(own)?;
    let width = prompt + keys;
    let mut out = vec![0.0; batches * rows * width];
    for (n, out) in out.chunks_exact_mut(width).enumerate() {
        let seen = prompt + seen(mask, n % rows / rep, keys);
        if let Some(shared) = &shared {
            out[..prompt].copy_from_slice(&shared[n * prompt..][..prompt]);
        }
        out[prompt..seen].copy_from_slice(&own[n * keys..][..seen - prompt]);
        let out = &mut out[..seen];
        let inverse = 1.0 / weights(out, scale);
        for value in out.iter_mut() {
            *value *= inverse;
        }
    }
    tensor(out, (batches, rows, width))
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

/// The gradient of the scores that entered [`softmax`]: `ds = scale · p · (dp − Σ p·dp)`, `[B, T·rep, P + S]`.
pub fn softmax_backward(probabilities: &Tensor, shared: Option<&Tensor>, own: &Tensor, scale: f32) -> Result<Tensor> {
    let (batches, rows, width) = probabilities.dims3()?;
    let keys = own.dim(2)?;
    let prompt = width - keys;
    let (p, own) = (Floats::of(probabilities)?, Floats::of(own)?);
    let shared = shared.map(Floats::of).transpose()?;
    let mut out = vec![0.0; batches * rows * width];
    for (n, (out, p)) in out.chunks_exact_mut(width).zip(p.chunks_exact(width)).enumerate() {
        if let Some(shared) = &shared {
            out[..prompt].copy_from_slice(&shared[n * prompt..][..prompt]);
        }
        out[prompt..].copy_from_slice(&own[n * keys..][..keys]);
        let mean = sum(width, |i| p[i] * out[i]);
        for (out, p) in out.iter_mut().zip(p) {
            *out = scale * p * (*out - mean);
        }
    }
    tensor(out, (batches, rows, width))
}

/// How many of a lane's `keys` its row `row` sees: the first ones.
pub(crate) fn seen(mask: Mask, row: usize, keys: usize) -> usize {
    match mask {
        Mask::Full => keys,
        Mask::Causal { first } => keys.min(first + row + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_key_gets_exactly_nothing() {
        let own = tensor(vec![0.0; 2 * 4 * 3], (2, 4, 3)).unwrap();
        let p = softmax(None, &own, Mask::Causal { first: 0 }, 2, 1.0).unwrap();
        let p = Floats::of(&p).unwrap();
        assert_eq!(p[..3], [1.0, 0.0, 0.0]);
        assert_eq!(p[3..6], [1.0, 0.0, 0.0]);
        assert_eq!(p[6..9], [0.5, 0.5, 0.0]);
    }

    #[test]
    fn shared_and_own_keys_share_one_sum() {
        let own = tensor(vec![1.0, 2.0], (1, 1, 2)).unwrap();
        let shared = tensor(vec![0.0, 3.0, -1.0], (1, 1, 3)).unwrap();
        let p = softmax(Some(&shared), &own, Mask::Full, 1, 0.5).unwrap();
        let exact = [0.0_f64, 3.0, -1.0, 1.0, 2.0].map(|s| (0.5 * s).exp());
        let total: f64 = exact.iter().sum();
        for (p, e) in Floats::of(&p).unwrap().iter().zip(exact) {
            assert!((f64::from(*p) - e / total).abs() < 1e-7);
        }
    }
}
