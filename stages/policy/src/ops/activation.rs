//! Gated `SiLU` and exact GELU, each with the biases that precede it.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::exp::exp;
use super::{Floats, piece, tensor, widest};

/// `silu(gate + bias) · (up + bias)` of rows that lie one after the other; biases are one row.
pub(crate) fn swiglu(gate: &[f32], up: &[f32], biases: &Biases) -> Vec<f32> {
    let width = biases.gate.len();
    let (mut out, piece) = (vec![0.0; gate.len()], piece(gate.len(), width));
    let pieces = out.par_chunks_mut(piece).zip(gate.par_chunks(piece)).zip(up.par_chunks(piece));
    pieces.for_each(|((out, gate), up)| {
        widest(|| {
            // Slices of a known length: the loop below then needs no bounds checks and runs several elements at once.
            let (gate_bias, up_bias) = (&biases.gate[..width], &biases.up[..width]);
            let each = gate.chunks_exact(width).zip(up.chunks_exact(width)).zip(out.chunks_exact_mut(width));
            for ((gate, up), out) in each {
                for i in 0..width {
                    let g = gate[i] + gate_bias[i];
                    out[i] = g / (1.0 + exp(-g)) * (up[i] + up_bias[i]);
                }
            }
        });
    });
    out
}

/// Puts the gradients of [`swiglu`]'s `gate` and `up` in their places, given that of its result.
pub(crate) fn swiglu_backward(gate: &mut [f32], up: &mut [f32], biases: &Biases, dy: &[f32]) {
    let width = biases.gate.len();
    let piece = piece(gate.len(), width);
    let pieces = gate.par_chunks_mut(piece).zip(up.par_chunks_mut(piece)).zip(dy.par_chunks(piece));
    pieces.for_each(|((gate, up), dy)| {
        widest(|| {
            let (gate_bias, up_bias) = (&biases.gate[..width], &biases.up[..width]);
            let each = gate.chunks_exact_mut(width).zip(up.chunks_exact_mut(width)).zip(dy.chunks_exact(width));
            for ((gate, up), dy) in each {
                for i in 0..width {
                    let g = gate[i] + gate_bias[i];
                    let sigmoid = 1.0 / (1.0 + exp(-g));
                    gate[i] = dy[i] * (up[i] + up_bias[i]) * sigmoid * (1.0 + g * (1.0 - sigmoid));
                    up[i] = dy[i] * g * sigmoid;
                }
            }
        });
    });
}

/// The biases that precede [`swiglu`], zeros where a layer has none.
pub(crate) struct Biases {
    gate: Vec<f32>,
    up: Vec<f32>,
}

impl Biases {
    /// Of rows of `width`.
    pub fn new(gate: Option<&Tensor>, up: Option<&Tensor>, width: usize) -> Result<Self> {
        let values = |bias: Option<&Tensor>| {
            bias.map_or_else(|| Ok(vec![0.0; width]), |bias| Ok::<_, candle_core::Error>(Floats::of(bias)?.to_vec()))
        };
        Ok(Self { gate: values(gate)?, up: values(up)? })
    }
}

/// Exact GELU, `x·Φ(x)`, elementwise.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    let out = Floats::of(x)?.iter().map(|&x| x * normal_cdf(x)).collect();
    tensor(out, x.shape())
}

/// The gradient of [`gelu`]: `dy · (Φ(x) + x·φ(x))`.
pub fn gelu_backward(x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    let out = Floats::of(x)?
        .iter()
        .zip(&*Floats::of(dy)?)
        .map(|(&x, dy)| dy * (normal_cdf(x) + x * DENSITY_AT_ZERO * exp(-0.5 * x * x)))
        .collect();
    tensor(out, x.shape())
}

/// Φ, the standard normal distribution function.
fn normal_cdf(x: f32) -> f32 {
    0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{close_to_differences, waves, weighted};

    #[test]
    fn swiglus_gradient_is_that_of_finite_differences() {
        let (gate, up, dy) = (waves(&[2, 5], 0.3), waves(&[2, 5], 2.0), waves(&[2, 5], 1.1));
        let biases = Biases::new(Some(&waves(&[5], 0.8)), Some(&waves(&[5], 1.9)), 5).unwrap();
        let values = |x: &Tensor| Floats::of(x).unwrap().to_vec();
        let value = |gate: &Tensor, up: &Tensor| {
            weighted(&tensor(swiglu(&values(gate), &values(up), &biases), gate.shape()).unwrap(), &dy)
        };
        let (mut dgate, mut dup) = (values(&gate), values(&up));
        swiglu_backward(&mut dgate, &mut dup, &biases, &values(&dy));
        close_to_differences(&gate, &tensor(dgate, gate.shape()).unwrap(), |gate| value(gate, &up));
        close_to_differences(&up, &tensor(dup, up.shape()).unwrap(), |up| value(&gate, up));
    }

    #[test]
    fn gelus_gradient_is_that_of_finite_differences() {
        let (x, dy) = (waves(&[3, 7], 0.3), waves(&[3, 7], 2.0));
        let dx = gelu_backward(&x, &dy).unwrap();
        close_to_differences(&x, &dx, |x| weighted(&gelu(x).unwrap(), &dy));
    }
}
